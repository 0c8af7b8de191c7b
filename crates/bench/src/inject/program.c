// FILE THREADS: a program to be entered. FUNCTIONS says which functions there are (X), from 0 on.
//
// The first thread watches: while the word `watch` of the file is odd, it reads the clock all the
// time and notes how long it could not, at real-time priority if it may have that. The second
// calls all functions in turn, with pauses; the others wait.
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define X(n) __attribute__((noipa)) long traced_##n(long x) { return x * 13 + n; }
FUNCTIONS
#undef X
#define X(n) traced_##n,
static long (*const all[])(long) = { FUNCTIONS };

// Shorter gaps are the clock's own, and interrupts.
enum { NOISE_NS = 20000 };

static volatile struct {
    uint64_t ready, watch, seen, longest, sum, calls;
} *shared;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void *work(void *unused) {
    for (long x = 1;;)
        for (size_t n = 0; n < sizeof all / sizeof *all; n++) {
            x = all[n](x);
            if (++shared->calls % 64 == 0)
                usleep(100);
        }
    return unused;
}

static void *sleeper(void *unused) {
    for (;;)
        pause();
    return unused;
}

static void watch(uint64_t turn) {
    uint64_t longest = 0, sum = 0, last = now();
    shared->seen = turn;
    while (shared->watch == turn) {
        uint64_t next = now(), gap = next - last;
        last = next;
        if (gap > longest)
            longest = gap;
        if (gap > NOISE_NS)
            sum += gap;
    }
    shared->longest = longest;
    shared->sum = sum;
    shared->seen = turn + 1;
}

int main(int count, char **arguments) {
    int file = open(arguments[1], O_RDWR);
    shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (count != 3 || shared == MAP_FAILED)
        return 2;
    pthread_t thread;
    for (long n = 1; n < atol(arguments[2]); n++)
        if (pthread_create(&thread, 0, n == 1 ? work : sleeper, 0))
            return 3;
    struct sched_param highest = { 1 };
    int real_time = !pthread_setschedparam(pthread_self(), SCHED_FIFO, &highest);
    shared->ready = 1 + real_time;
    for (;;) {
        uint64_t turn = shared->watch;
        if (turn % 2)
            watch(turn);
        usleep(200);
    }
}
