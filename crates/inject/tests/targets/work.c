// work THREADS CALLS [wait]: each thread calls work() so often. CALLS of -: until standard input
// ends. Checks every result, says how many there were, and ends with 7; if it is to wait, when its
// input ends.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Of known bytes: two instructions of three and four bytes may be replaced.
long work(long x);
__asm__(".text; .balign 16; .globl work; .type work, @function;"
        "work: mov %rdi, %rax; imul $3, %rax, %rax; ret; .size work, .-work");

static volatile int stop;
static long calls = -1;
static unsigned long done[64];

static void *run(void *argument) {
    long me = (long)argument;
    for (long n = 0; calls < 0 ? !stop : n < calls; n++) {
        if (work(n) != 3 * n) {
            printf("wrong\n");
            exit(1);
        }
        done[me]++;
    }
    return 0;
}

static void await_end(void) {
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
}

int main(int count, char **arguments) {
    long threads = count > 1 ? atol(arguments[1]) : 1;
    if (count > 2 && strcmp(arguments[2], "-"))
        calls = atol(arguments[2]);
    pthread_t ids[64];
    for (long n = 1; n < threads; n++)
        pthread_create(&ids[n], 0, run, (void *)n);
    if (calls < 0) {
        await_end();
        stop = 1;
    } else {
        run(0);
    }
    unsigned long sum = 0;
    for (long n = 1; n < threads; n++)
        pthread_join(ids[n], 0);
    for (long n = 0; n < threads; n++)
        sum += done[n];
    printf("%lu calls\n", sum);
    fflush(stdout);
    if (count > 3)
        await_end();
    return 7;
}
