/* Ways to end, with calls made before: an exit code, a signal, exec of another program, a closed
 * pipe. */
#include "target.h"
#include <signal.h>
#include <sys/resource.h>

T long t_work(long n) { return n + 1; }
T void t_end(const char *how, int number)
{
    if (!strcmp(how, "exit"))
        exit(number);
    if (!strcmp(how, "_exit"))
        _exit(number);
    if (!strcmp(how, "signal"))
        kill(getpid(), number);
    if (!strcmp(how, "abort"))
        abort();
    if (!strcmp(how, "fault"))
        *(volatile int *)8 = 1;
    if (!strcmp(how, "exec"))
        execl("/bin/sh", "sh", "-c", "exit 33", (char *)NULL);
    if (!strcmp(how, "pipe")) {
        int ends[2];
        CHECK(!pipe(ends) && !close(ends[0]));
        CHECK(write(ends[1], "x", 1) == 1);
    }
}
int main(int argc, char **argv)
{
    CHECK(argc == 3);
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    for (int i = 0; i < 1000; i++)
        t_work(i);
    calls("t_work", 1000);
    calls("t_end", 1);
    fflush(stdout);
    t_end(argv[1], atoi(argv[2]));
    return 97;
}
