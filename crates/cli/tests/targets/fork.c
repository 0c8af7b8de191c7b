/* fork in the middle of nested probed frames: both processes return through all of them, and both
 * are counted. */
#include "target.h"
#include <pthread.h>
#include <sys/wait.h>

#define FORKS 100
static int child;
T long t_work(long n) { return n + 1; }
T pid_t t_fork_below(int depth)
{
    if (depth)
        return t_fork_below(depth - 1) + (pid_t)t_work(0) - 1;
    return fork();
}
T int t_both(int i)
{
    pid_t pid = t_fork_below(6);
    CHECK(pid >= 0);
    child = pid == 0;
    for (int k = 0; k < 10; k++)
        t_work(k);
    if (!child) {
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == (i & 0x3f));
    }
    return i;
}

/* A grandchild of a thread other than the main one. */
T void *t_thread(void *number)
{
    int status;
    (void)number;
    pid_t pid = fork();
    if (pid == 0) {
        pid_t grandchild = fork();
        t_work(1);
        if (grandchild == 0)
            _exit((int)t_work(4));
        CHECK(waitpid(grandchild, &status, 0) == grandchild);
        _exit(WEXITSTATUS(status) + (int)t_work(1));
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WEXITSTATUS(status) == 7);
    return NULL;
}

int main(void)
{
    for (int i = 0; i < FORKS; i++) {
        int r = t_both(i);
        if (child)
            _exit(r & 0x3f);
    }
    for (int i = 0; i < 20; i++) {
        pthread_t id;
        CHECK(!pthread_create(&id, NULL, t_thread, NULL) && !pthread_join(id, NULL));
    }
    puts("right");
    calls("t_both", FORKS);
    calls("t_fork_below", 7 * FORKS);
    calls("t_work", FORKS * 2 * (6 + 10) + 20 * 4);
    calls("t_thread", 20);
    return 0;
}
