/* `_Fork`, which runs no handlers, and execve in the child, and changes of dispositions there,
 * while other threads create threads and change dispositions: no child waits for a lock that
 * another thread of its parent held. */
#include "target.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#define FORKS 120

static volatile int stop;
T void *t_nothing(void *argument) { return argument; }

static void *creates(void *argument)
{
    while (!stop) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, t_nothing, NULL) == 0)
            pthread_join(thread, NULL);
    }
    return argument;
}

static void *disposes(void *argument)
{
    while (!stop) {
        signal(SIGUSR1, SIG_IGN);
        signal(SIGUSR1, SIG_DFL);
    }
    return argument;
}

T void t_parent(void) { }

int main(void)
{
    pthread_t threads[4];
    char *arguments[] = { "true", NULL }, *environment[] = { "A=1", NULL };
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(threads + i, NULL, i < 3 ? creates : disposes, NULL) == 0);
    for (int i = 0; i < FORKS; i++) {
        pid_t child = _Fork();
        if (child == 0) {
            signal(SIGUSR1, SIG_IGN);
            execve("/bin/true", arguments, environment);
            _exit(9);
        }
        int status;
        CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
        t_parent();
    }
    stop = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    printf("%d children have ended\n", FORKS);
    calls("t_parent", FORKS);
    return 0;
}
