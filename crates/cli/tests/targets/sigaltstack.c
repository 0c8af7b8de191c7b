/* A handler on an alternate stack calls probed functions while probed frames are open on the main
 * stack, and another handler interrupts it there. Stack addresses of the two are in no order. */
#include "target.h"
#include <signal.h>
#include <sys/mman.h>

static unsigned long handled, inners, outers, works;
T long t_work(long n)
{
    works++;
    return n < 2 ? n : t_work(n - 1) + t_work(n - 2);
}
T void t_inner_handler(int signal)
{
    (void)signal;
    handled++;
    CHECK(t_work(5) == 5);
}
T void t_outer_handler(int signal)
{
    (void)signal;
    handled++;
    CHECK(t_work(4) == 3);
    raise(SIGUSR2);
    CHECK(t_work(3) == 2);
}
T long t_inner(int n)
{
    inners++;
    raise(SIGUSR1);
    return t_work(n % 6);
}
T long t_outer(int n)
{
    outers++;
    return t_inner(n) + t_work(2);
}

int main(void)
{
    long sum = 0;
    for (int where = 0; where < 2; where++) {
        /* Once from a low address, once from a high one. */
        static char low[1 << 16];
        char *stack =
            where ? mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                  : low;
        stack_t alternate = {.ss_sp = stack, .ss_size = 1 << 16};
        struct sigaction action = {.sa_handler = t_outer_handler, .sa_flags = SA_ONSTACK};
        CHECK(!sigaltstack(&alternate, NULL));
        CHECK(!sigaction(SIGUSR1, &action, NULL));
        action.sa_handler = t_inner_handler;
        action.sa_flags = where ? SA_ONSTACK : 0;
        CHECK(!sigaction(SIGUSR2, &action, NULL));
        for (int i = 0; i < 1000; i++)
            sum += t_outer(i);
    }
    printf("sum %ld handled %lu\n", sum, handled);
    calls("t_inner", inners);
    calls("t_outer", outers);
    calls("t_work", works);
    calls("t_inner_handler", 2000);
    calls("t_outer_handler", 2000);
    return 0;
}
