/* Ways to start another program: vfork + exec, posix_spawn, system, popen, exec with its own, an
 * empty and a changed environment, fexecve, exec from a thread. The started program is this one
 * again: it is counted, too, and finds exactly the environment that it was given. */
#include "target.h"
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
static char self[4096];

T long t_work(long n) { return n + 1; }
T int t_child(int n)
{
    for (int i = 0; i < n; i++)
        t_work(i);
    return n + 10;
}
static int variables(char **environment)
{
    int n = 0;
    while (environment && environment[n])
        n++;
    return n;
}
static char *count_of(char **environment)
{
    static char text[16];
    snprintf(text, sizeof text, "%d", variables(environment));
    return text;
}
static int finish(pid_t pid)
{
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}
T int t_vfork(char **environment)
{
    char *arguments[] = {self, "3", count_of(environment), NULL};
    pid_t pid = vfork();
    if (pid == 0) {
        t_work(0);
        execve(self, arguments, environment);
        _exit(98);
    }
    return finish(pid);
}
T int t_fork(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        execl(self, self, "4", (char *)NULL);
        _exit(98);
    }
    return finish(pid);
}
T int t_fexecve(void)
{
    char *arguments[] = {self, "5", count_of(environ), NULL};
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(self, O_RDONLY | O_CLOEXEC);
        fexecve(fd, arguments, environ);
        _exit(98);
    }
    return finish(pid);
}
T int t_spawn(char **environment)
{
    char *arguments[] = {self, "6", count_of(environment), NULL};
    pid_t pid;
    CHECK(!posix_spawn(&pid, self, NULL, NULL, arguments, environment));
    return finish(pid);
}
T int t_system(void)
{
    char command[5000];
    snprintf(command, sizeof command, "'%s' 7", self);
    int status = system(command);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}
T int t_popen(void)
{
    char command[5000], line[80];
    snprintf(command, sizeof command, "'%s' 8 -1; env | grep -c 'trapline\\|TRAPLINE'", self);
    FILE *pipe = popen(command, "r");
    CHECK(pipe);
    while (fgets(line, sizeof line, pipe))
        printf("from the shell: %s", line);
    return WEXITSTATUS(pclose(pipe));
}
/* An exec that fails leaves the program as it was. */
T int t_failing(void)
{
    errno = 0;
    execl("/nonexistent/program", "program", (char *)NULL);
    int first = errno;
    char *arguments[] = {"program", NULL}, *environment[] = {NULL};
    execve("/", arguments, environment);
    return first == ENOENT && errno == EACCES && !getenv("LD_PRELOAD");
}
static void *exec_from_thread(void *unused)
{
    (void)unused;
    execl(self, self, "9", (char *)NULL);
    _exit(98);
}
T int t_thread(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t id;
        pthread_create(&id, NULL, exec_from_thread, NULL);
        for (;;)
            pause();
    }
    return finish(pid);
}

int main(int argc, char **argv)
{
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(n > 0);
    if (argc > 1) {
        if (argc > 2 && atoi(argv[2]) >= 0)
            CHECK(variables(environ) == atoi(argv[2]));
        else if (argc > 2)
            printf("speaks %d\n", atoi(argv[1]));
        return t_child(atoi(argv[1]));
    }
    char *empty[] = {NULL}, *changed[] = {"PATH=/usr/bin:/bin", "COLOUR=green", NULL};
    int sum = 0;
    for (int i = 0; i < 3; i++) {
        sum += t_vfork(environ) + t_vfork(changed) + t_vfork(empty);
        sum += t_fork() + t_fexecve();
        sum += t_spawn(environ) + t_spawn(changed) + t_spawn(empty);
        sum += t_system() + t_popen() + t_thread();
        CHECK(t_failing());
    }
    printf("sum %d\n", sum);
    fflush(stdout);
    /* Each round: 3 x 3 and 3 in vfork itself, 4, 5, 3 x 6, 7, 8, 9. The shell's pipeline decides
     * popen's status. */
    calls("t_work", 3 * (9 + 3 + 4 + 5 + 18 + 7 + 8 + 9));
    calls("t_child", 3 * 11);
    calls("t_vfork", 9);
    calls("t_fork", 3);
    calls("t_fexecve", 3);
    calls("t_spawn", 9);
    calls("t_system", 3);
    calls("t_popen", 3);
    calls("t_failing", 3);
    calls("t_thread", 3);
    return 0;
}
