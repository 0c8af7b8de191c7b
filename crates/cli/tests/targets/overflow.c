/* Recursion without end: the stack overflows, a handler on another stack says so. The depth at
 * which it happens is the same bare and probed but for what signal frames took; it is more than
 * there are return probes. */
#include "target.h"
#include <signal.h>
#include <sys/resource.h>

static volatile long depth;
static void handler(int signal)
{
    dprintf(1, "overflow: signal %d, deep enough: %d\n", signal, depth > 100000);
    _exit(5);
}
T long t_forever(long n)
{
    depth++;
    long r = t_forever(n + 1);
    __asm__ volatile("" : "+r"(r));
    return r + 1;
}
int main(void)
{
    static char other[1 << 16];
    stack_t alternate = {.ss_sp = other, .ss_size = sizeof other};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    CHECK(!sigaltstack(&alternate, NULL) && !sigaction(SIGSEGV, &action, NULL));
    return (int)t_forever(0);
}
