// state [no-clone]: calculates in vector registers and sleeps by turns, until standard input ends;
// then says whether every result was the same, and blocked signals, signal stack and what is done
// at SIGTRAP are as they were.
#include "filter.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef double four __attribute__((vector_size(32)));

__attribute__((noinline, target("avx2,fma"))) static double wide(void) {
    four a[12];
    for (int i = 0; i < 12; i++)
        a[i] = (four){i + .5, i + .5, i + .5, i + .5};
    for (long n = 0; n < 5000; n++)
        for (int i = 0; i < 12; i++)
            a[i] = a[i] * .999 + i;
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += a[i][0] + 2 * a[i][1] + 3 * a[i][2] + 4 * a[i][3];
    return sum;
}

__attribute__((noinline)) static double narrow(void) {
    double sum = 0;
    for (long n = 0; n < 50000; n++)
        sum = sum * .999 + n;
    return sum;
}

int main(int count, char **arguments) {
    if (count > 1 && arguments[1][0] == 'n')
        filter(SYS_clone, SECCOMP_RET_ERRNO | EPERM);
    double (*calculate)(void) = __builtin_cpu_supports("avx2") ? wide : narrow;
    stack_t given = {malloc(65536), 0, 65536}, found;
    sigset_t blocked, now;
    struct sigaction action;
    sigaltstack(&given, 0);
    signal(SIGTRAP, SIG_IGN);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGTRAP);
    sigprocmask(SIG_BLOCK, &blocked, 0);
    double first = calculate();
    long bad = 0, rounds = 0;
    for (;; rounds++) {
        struct pollfd end = {0, POLLIN, 0};
        char byte;
        bad += calculate() != first;
        // Half of the time in the calculation, half of it asleep.
        if (rounds % 16 == 0 && poll(&end, 1, 1) > 0 && read(0, &byte, 1) <= 0)
            break;
    }
    sigaltstack(0, &found);
    sigprocmask(SIG_BLOCK, 0, &now);
    sigaction(SIGTRAP, 0, &action);
    int same = 1;
    for (int n = 1; n < 65; n++)
        same &= sigismember(&now, n) == sigismember(&blocked, n);
    printf("%ld wrong, signals %s, stack %s, trap %s\n", bad, same ? "same" : "changed",
           found.ss_sp == given.ss_sp && found.ss_size == given.ss_size ? "same" : "changed",
           action.sa_handler == SIG_IGN ? "ignored" : "changed");
    return bad || !same;
}
