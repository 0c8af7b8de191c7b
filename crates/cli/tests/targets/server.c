/* A server that detaches itself by forking twice, with a child of its own; both name themselves.
 * It goes on until its socket's other end closes, which the test holds as standard input. */
#include "target.h"
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

T long t_serve(long n) { return n + 1; }

static void serve(const char *name, int ready)
{
    char c;
    CHECK(!prctl(PR_SET_NAME, name));
    t_serve(1);
    CHECK(write(ready, "r", 1) == 1);
    close(ready);
    CHECK(read(0, &c, 1) == 0);
    _exit(0);
}

int main(void)
{
    char c[2];
    int ready[2];
    CHECK(!pipe(ready));
    pid_t first = fork();
    if (first == 0) {
        CHECK(setsid() > 0);
        if (fork() > 0)
            _exit(0);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1), dup2(null, 2);
        serve(fork() ? "listener" : "worker", ready[1]);
    }
    CHECK(waitpid(first, NULL, 0) == first);
    for (int i = 0; i < 2; i++)
        CHECK(read(ready[0], c + i, 1) == 1);
    puts("detached");
    return 0;
}
