// Threads that add to a cell for each processor in a long restartable sequence, until standard
// input ends. None of what they did may be missing.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/rseq.h>
#include <unistd.h>

enum { THREADS = 4, CELLS = 256 };
static volatile int stop;
static struct {
    uint64_t count;
    char apart[120];
} cells[CELLS];
static uint64_t did[THREADS];

static void *run(void *argument) {
    uint64_t n = 0, area = __rseq_offset;
    while (!stop) {
        __asm__ volatile(".pushsection .data; .balign 32\n"
                         "1: .long 0, 0; .quad 3f, 4f - 3f, 6f\n"
                         ".popsection; jmp 2f\n"
                         ".long 0x53053053\n"
                         "6:\n" // aborted: again
                         "2: lea 1b(%%rip), %%rax; mov %%rax, %%fs:8(%[area])\n"
                         "3: mov %%fs:4(%[area]), %%eax; shl $7, %%rax; add %[cells], %%rax\n"
                         "mov (%%rax), %%rdx; mov $300, %%ecx\n"
                         "5: dec %%ecx; jnz 5b\n"
                         "inc %%rdx; mov %%rdx, (%%rax)\n"
                         "4:\n"
                         :
                         : [area] "r"(area), [cells] "r"(cells)
                         : "rax", "rcx", "rdx", "memory", "cc");
        n++;
    }
    did[(long)argument] = n;
    return 0;
}

int main(void) {
    if (__rseq_size == 0) {
        printf("no sequences\n");
        return 77;
    }
    pthread_t threads[THREADS];
    for (long n = 0; n < THREADS; n++)
        pthread_create(&threads[n], 0, run, (void *)n);
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    stop = 1;
    uint64_t all = 0, there = 0;
    for (int n = 0; n < THREADS; n++) {
        pthread_join(threads[n], 0);
        all += did[n];
    }
    for (int n = 0; n < CELLS; n++)
        there += cells[n].count;
    printf("%ld lost\n", (long)(all - there));
    return all != there;
}
