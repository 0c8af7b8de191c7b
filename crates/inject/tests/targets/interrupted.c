// interrupted THREADS: each thread calls work(), whose second instruction faults, and waits in the
// signal's handler: on its own stack, on a signal stack, deep down, or in a second handler that has
// interrupted the first. Says "waiting" when all do. A byte on standard input: the handlers return,
// every result is checked, and all begin anew. Its end: the same, and then it ends with 7.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Of known bytes: two instructions of three and four bytes may be replaced.
long work(long x, const long *factor);
__asm__(".text; .balign 16; .globl work; .type work, @function;"
        "work: mov %rdi, %rax; imul (%rsi), %rax; ret; .size work, .-work");

enum { SIGNAL_STACK = 64 << 10, DEEP = 512 << 10, PAGE = 4096 };

static int begins[2], returns[2], results[2];
static volatile int over;
static __thread long *factor;
static __thread long mode;
static __thread void *signal_stack;

static void use_signal_stack(void) {
    stack_t stack = {.ss_sp = signal_stack, .ss_size = SIGNAL_STACK};
    if (sigaltstack(&stack, 0))
        abort();
}

// Says this byte, and waits for one.
static void say(char byte, int answers) {
    if (write(results[1], &byte, 1) != 1 || read(answers, &byte, 1) != 1)
        abort();
}

static void wait_here(void) { say('w', returns[0]); }

static void inner(int number) { wait_here(); }

static __attribute__((noinline)) void deep(void) {
    volatile char room[DEEP];
    memset((char *)room, 0x5a, sizeof room);
    wait_here();
    if (room[DEEP / 2] != 0x5a)
        abort();
}

static void outer(int number, siginfo_t *info, void *context) {
    if (info->si_addr != factor)
        _exit(3);
    if (mode == 2) {
        deep();
    } else if (mode == 3) {
        use_signal_stack();
        raise(SIGUSR1);
    } else {
        wait_here();
    }
    mprotect(factor, PAGE, PROT_READ);
}

static void *run(void *argument) {
    long me = (long)argument;
    mode = me % 4;
    signal_stack = malloc(SIGNAL_STACK);
    if (mode == 1)
        use_signal_stack();
    factor = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *factor = 3;
    for (long n = me; !over; n += 7) {
        mprotect(factor, PAGE, PROT_NONE);
        say(work(n, factor) == 3 * n ? 'r' : '!', begins[0]);
    }
    return 0;
}

static void to_all(long threads, int answers) {
    for (long n = 0; n < threads; n++)
        if (write(answers, "", 1) != 1)
            abort();
}

// Waits until all threads have said this.
static void all_say(long threads, char wanted) {
    for (long said = 0; said < threads; said++) {
        char byte;
        if (read(results[0], &byte, 1) != 1 || byte != wanted) {
            printf("wrong\n");
            exit(1);
        }
    }
}

int main(int count, char **arguments) {
    long threads = atol(arguments[1]);
    pthread_t ids[64];
    pthread_attr_t attributes;
    if (pipe(begins) || pipe(returns) || pipe(results))
        abort();
    struct sigaction faults = {.sa_sigaction = outer, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction nested = {.sa_handler = inner, .sa_flags = SA_ONSTACK};
    sigaction(SIGSEGV, &faults, 0);
    sigaction(SIGUSR1, &nested, 0);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 4 << 20);
    for (long n = 0; n < threads; n++)
        pthread_create(&ids[n], &attributes, run, (void *)n);
    long round = 0;
    do {
        all_say(threads, 'w');
        printf("waiting\n");
        fflush(stdout);
        char byte;
        over = read(0, &byte, 1) != 1;
        round++;
        to_all(threads, returns[1]);
        all_say(threads, 'r');
        to_all(threads, begins[1]);
    } while (!over);
    for (long n = 0; n < threads; n++)
        pthread_join(ids[n], 0);
    printf("%ld calls\n", round * threads);
    return 7;
}
