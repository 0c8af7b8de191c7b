/* A daemon by double fork: the program that was started ends, the daemon goes on in a session of
 * its own. It has done its work before the first process ends, and says in a file that it lives on.
 */
#include "target.h"
#include <fcntl.h>
#include <sys/wait.h>

T long t_work(long n) { return n + 1; }
T void t_daemon(int ready, int release, const char *path)
{
    long sum = 0;
    for (int i = 0; i < 1000; i++)
        sum += t_work(i);
    CHECK(sum == 500500);
    CHECK(write(ready, "r", 1) == 1);
    close(ready);
    /* The end of the first process closes the other end of this pipe. */
    char c;
    CHECK(read(release, &c, 1) == 0);
    usleep(50000);
    for (int i = 0; i < 1000; i++)
        sum += t_work(i);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && dprintf(fd, "daemon finished: %ld\n", sum) > 0);
    _exit(0);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    int ready[2], release[2];
    CHECK(!pipe(ready) && !pipe(release));
    pid_t first = fork();
    if (first == 0) {
        CHECK(setsid() > 0);
        if (fork() > 0)
            _exit(0);
        close(release[1]);
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0), dup2(null, 1), dup2(null, 2);
        t_daemon(ready[1], release[0], argv[1]);
    }
    char c;
    close(ready[1]);
    CHECK(waitpid(first, NULL, 0) == first && read(ready[0], &c, 1) == 1);
    for (int i = 0; i < 10; i++)
        t_work(i);
    puts("daemon started");
    return 0;
}
