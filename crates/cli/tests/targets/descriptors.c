/* File descriptors are the program's own: the ones it starts with, the numbers it gets, and closing
 * all of them, as daemons do. */
#include "target.h"
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

T long t_work(long n) { return n + 1; }
T void *t_thread(void *unused)
{
    (void)unused;
    t_work(1);
    return NULL;
}
static void list(const char *when)
{
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory);
    int self = dirfd(directory), open[1024] = {0};
    for (struct dirent *e; (e = readdir(directory));)
        if (e->d_name[0] != '.' && atoi(e->d_name) < 1024)
            open[atoi(e->d_name)] = 1;
    printf("%s:", when);
    for (int i = 0; i < 1024; i++)
        if (open[i] && i != self)
            printf(" %d", i);
    printf("\n");
    closedir(directory);
}

int main(void)
{
    list("start");
    t_work(1);
    int fd = open("/dev/null", O_RDONLY);
    printf("first descriptor %d\n", fd);
    CHECK(!close(fd));
    struct rlimit limit;
    CHECK(!getrlimit(RLIMIT_NOFILE, &limit));
    for (int i = 3; i < 4096; i++)
        close(i);
    close_range(3, ~0u, 0);
    list("closed");
    for (int i = 0; i < 100; i++) {
        CHECK(t_work(i) == i + 1);
        CHECK(open("/dev/null", O_RDONLY) == 3 + i);
    }
    closefrom(3);
    limit.rlim_cur = 3;
    CHECK(!setrlimit(RLIMIT_NOFILE, &limit));
    for (int i = 0; i < 20; i++) {
        pthread_t id;
        CHECK(!pthread_create(&id, NULL, t_thread, NULL) && !pthread_join(id, NULL));
        fflush(stdout);
        pid_t child = fork();
        if (child == 0)
            _exit((int)t_work(3));
        int status;
        CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 4);
    }
    puts("right");
    calls("t_work", 1 + 100 + 20 + 20);
    calls("t_thread", 20);
    return 0;
}
