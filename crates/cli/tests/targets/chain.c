/* A program that runs, to be attached to: known chains of calls end in t_leaf. Each line of its
 * standard input is answered by one, "LETTER N".
 *   w N   t_outer is called N times: three times t_leaf each, once by t_first, twice by t_second
 *   c N   the same in a fork child, which ends
 *   b     N is how many frames backtrace(3) sees in t_leaf, called by t_first (0: there is none)
 * At the end of its input it ends with 7. */
#include "target.h"
#ifdef __GLIBC__
#include <execinfo.h>
#endif
#include <sys/wait.h>

static int looks, frames;
static volatile unsigned long sum;

T void t_leaf(unsigned long n)
{
    sum += n;
#ifdef __GLIBC__
    void *addresses[64];
    if (looks)
        frames = backtrace(addresses, 64);
    looks = 0;
#endif
}

T unsigned long t_first(unsigned long n)
{
    t_leaf(n);
    return n + 1;
}

T unsigned long t_second(unsigned long n)
{
    t_leaf(n);
    t_leaf(n + 1);
    return n + 2;
}

T unsigned long t_outer(unsigned long n)
{
    return t_first(n) + t_second(n);
}

int main(void)
{
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        unsigned long n = strtoul(line + 1, NULL, 10), did = n;
        int child = line[0] == 'c' ? fork() : 0;
        CHECK(child >= 0);
        if (line[0] == 'b') {
            looks = 1;
            t_outer(1);
            did = (unsigned long)frames;
        } else if (child == 0) {
            for (unsigned long i = 0; i < n; i++)
                t_outer(i);
            if (line[0] == 'c')
                _exit(0);
        } else {
            int status;
            CHECK(waitpid(child, &status, 0) == child && status == 0);
        }
        printf("%c %lu\n", line[0], did);
        fflush(stdout);
    }
    puts("end");
    fflush(stdout);
    return 7;
}
