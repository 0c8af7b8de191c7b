/* Many processes one after the other, as a server forks them; some are killed in the middle of what
 * they do. */
#include "target.h"
#include <signal.h>
#include <sys/wait.h>

T long t_work(long n) { return n * 2; }
T long t_done(long n) { return n; }

int main(int argc, char **argv)
{
    long processes = argc > 1 ? atol(argv[1]) : 1000;
    for (long i = 0; i < processes; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            for (int k = 0; k < 3; k++)
                CHECK(t_work(k) == 2 * k);
            if (i % 4 == 0)
                raise(SIGKILL);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(t_done(i) == i);
    }
    printf("%ld processes\n", processes);
    calls("t_work", 3 * processes);
    calls("t_done", processes);
    return 0;
}
