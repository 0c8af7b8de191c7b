/* Threads and a child that call first and name themselves later, and how they end: one after the
 * other in one place, by returning, by pthread_exit, by being cancelled; one that waits for ever,
 * and a child. Then the process ends in one of several ways. */
#include "target.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>

T long t_work(long n) { return n + 1; }

static int ready[2];

static void work(const char *name, int times)
{
    for (int i = 0; i < times; i++)
        t_work(i);
    CHECK(!prctl(PR_SET_NAME, name));
}
static void *returner(void *unused)
{
    work("returner", 10);
    return unused;
}
static void *leaver(void *unused)
{
    work("leaver", 20);
    pthread_exit(unused);
}
static void *waiter(void *name)
{
    work(name, !strcmp(name, "waiter") ? 30 : 40);
    CHECK(write(ready[1], "r", 1) == 1);
    for (;;)
        pause();
    return NULL;
}

int main(int argc, char **argv)
{
    char c;
    pthread_t thread;
    CHECK(argc == 2 && !pipe(ready));
    for (int i = 0; i < 2; i++)
        CHECK(!pthread_create(&thread, NULL, i ? leaver : returner, NULL) &&
              !pthread_join(thread, NULL));
    for (int i = 0; i < 2; i++)
        CHECK(!pthread_create(&thread, NULL, waiter, i ? "waiter" : "cancelled") &&
              read(ready[0], &c, 1) == 1 &&
              (i || (!pthread_cancel(thread) && !pthread_join(thread, NULL))));
    /* Somebody else names it. */
    CHECK(!pthread_setname_np(thread, "waits"));
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        work("child", 50);
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child);
    work("chief", 5);
    puts("named");
    fflush(stdout);
    if (!strcmp(argv[1], "quick_exit"))
        quick_exit(0);
    if (!strcmp(argv[1], "_exit"))
        _exit(0);
    if (!strcmp(argv[1], "exit"))
        exit(0);
    return 0;
}
