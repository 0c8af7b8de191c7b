/* As root: into an empty root directory, then to an unprivileged user; threads and children
 * afterwards are counted as ever. Argument: the empty directory. */
#include "target.h"
#include <grp.h>
#include <pthread.h>
#include <sys/wait.h>

T long t_work(long n) { return n + 1; }
T void *t_thread(void *unused)
{
    (void)unused;
    t_work(1);
    return NULL;
}
int main(int argc, char **argv)
{
    CHECK(argc == 2);
    t_work(0);
    CHECK(!chroot(argv[1]) && !chdir("/"));
    CHECK(!setgroups(0, NULL) && !setgid(65534) && !setuid(65534));
    CHECK(access("/proc", F_OK) && errno == ENOENT);
    for (int i = 0; i < 50; i++) {
        pthread_t id;
        CHECK(!pthread_create(&id, NULL, t_thread, NULL) && !pthread_join(id, NULL));
        pid_t child = fork();
        if (child == 0)
            _exit((int)t_work(3));
        int status;
        CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 4);
    }
    printf("right, as %d\n", getuid());
    calls("t_work", 101);
    calls("t_thread", 50);
    return 0;
}
