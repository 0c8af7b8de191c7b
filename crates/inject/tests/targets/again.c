// again TIMES: starts threads and executes itself anew while they run, so often; then ends with 7.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile unsigned long sum;

static void *run(void *argument) {
    for (;;)
        sum++;
    return argument;
}

int main(int count, char **arguments) {
    pthread_t thread;
    long times = count > 1 ? atol(arguments[1]) : 0;
    char text[32];
    if (times <= 0)
        return 7;
    for (int n = 0; n < 6; n++)
        pthread_create(&thread, 0, run, 0);
    usleep(1000);
    snprintf(text, sizeof text, "%ld", times - 1);
    execl("/proc/self/exe", arguments[0], text, (char *)0);
    return 1;
}
