// odd STATE: gets into it, says "ready", and works until standard input ends.
#define _GNU_SOURCE
#include "filter.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void ready(void) {
    if (write(1, "ready\n", 6) != 6)
        exit(2);
}

static void work(void) {
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
}

static void *survivor(void *argument) {
    pthread_join(*(pthread_t *)argument, 0);
    ready();
    work();
    exit(7);
}

// Lives for a millisecond, and is followed by another one.
static void *relay(void *argument) {
    struct pollfd input = {0, POLLIN, 0};
    pthread_t next;
    if (poll(&input, 1, 1) > 0)
        exit(7);
    if (pthread_create(&next, 0, relay, argument))
        exit(3);
    pthread_detach(next);
    return argument;
}

static void *sleeper(void *argument) {
    for (;;)
        sleep(1000);
    return argument;
}

int main(int count, char **arguments) {
    const char *state = count > 1 ? arguments[1] : "";
    const unsigned refuse = SECCOMP_RET_ERRNO | EPERM;
    if (!strcmp(state, "mdwe") && prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0))
        return 77;
    if (!strcmp(state, "no-dump"))
        prctl(PR_SET_DUMPABLE, 0);
    if (!strcmp(state, "no-clone"))
        filter(SYS_clone, refuse);
    if (!strcmp(state, "no-memfd"))
        filter(SYS_memfd_create, refuse);
    if (!strcmp(state, "trap-memfd"))
        filter(SYS_memfd_create, SECCOMP_RET_TRAP);
    if (!strcmp(state, "kills-later")) {
        // As soon as there is input, for all threads. getpid() is what is asked for in tests.
        pthread_t other;
        pthread_create(&other, 0, sleeper, 0);
        ready();
        char byte;
        if (read(0, &byte, 1) != 1)
            return 2;
        filter(SYS_getpid, SECCOMP_RET_KILL_PROCESS);
        ready();
        work();
        return 7;
    }
    if (!strcmp(state, "strict")) {
        ready();
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
        work();
        syscall(SYS_exit, 7);
    }
    if (!strcmp(state, "zombie-leader")) {
        static pthread_t leader, other;
        leader = pthread_self();
        pthread_create(&other, 0, survivor, &leader);
        pthread_exit(0);
    }
    if (!strcmp(state, "relay")) {
        pthread_t first;
        char byte;
        ready();
        if (read(0, &byte, 1) != 1 || pthread_create(&first, 0, relay, 0))
            return 2;
        pthread_exit(0);
    }
    if (!strncmp(state, "vfork", 5)) {
        pthread_t other;
        if (!strcmp(state, "vfork-beside"))
            pthread_create(&other, 0, sleeper, 0);
        ready();
        if (vfork() == 0) {
            work();
            _exit(0);
        }
        wait(0);
        return 7;
    }
    ready();
    work();
    return 7;
}
