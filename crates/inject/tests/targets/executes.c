// executes HOW PROGRAM ARGUMENT...: says its thread's number, and executes the program when a byte
// comes; by its first thread, or by another one. If that fails, it says so and ends with 3.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *execute(void *argument) {
    char **command = argument, byte;
    printf("%ld\n", syscall(SYS_gettid));
    fflush(stdout);
    if (read(0, &byte, 1) != 1)
        return 0;
    execv(command[0], command);
    printf("failed\n");
    fflush(stdout);
    return 0;
}

int main(int count, char **arguments) {
    if (count < 3)
        return 2;
    if (!strcmp(arguments[1], "other")) {
        pthread_t other;
        pthread_create(&other, 0, execute, arguments + 2);
        pthread_join(other, 0);
    } else {
        execute(arguments + 2);
    }
    return 3;
}
