/* Threads and a child that name themselves, call, and stay until the input ends. */
#include "target.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static pthread_barrier_t called;

T long t_work(long n) { return n + 1; }

static void work(const char *name, int times)
{
    CHECK(!prctl(PR_SET_NAME, name));
    for (int i = 0; i < times; i++)
        t_work(i);
}
static void *reader(void *unused)
{
    work("reader", 10);
    pthread_barrier_wait(&called);
    for (;;)
        pause();
    return unused;
}
static void *writer(void *unused)
{
    work("writer", 20);
    pthread_barrier_wait(&called);
    for (;;)
        pause();
    return unused;
}
int main(void)
{
    char c;
    int ready[2], input[2];
    pthread_t threads[2];
    CHECK(!pipe(ready) && !pipe(input));
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        close(input[1]);
        work("child", 40);
        CHECK(write(ready[1], "c", 1) == 1);
        _exit((int)read(input[0], &c, 1));
    }
    work("parent", 5);
    CHECK(!pthread_barrier_init(&called, NULL, 3));
    CHECK(!pthread_create(&threads[0], NULL, reader, NULL) &&
          !pthread_create(&threads[1], NULL, writer, NULL));
    pthread_barrier_wait(&called);
    CHECK(read(ready[0], &c, 1) == 1);
    puts("named");
    fflush(stdout);
    CHECK(read(0, &c, 1) == 0);
    close(input[1]);
    CHECK(waitpid(child, NULL, 0) == child);
    return 0;
}
