/* A sampling profiler inside the program: a timer interrupts it every 200 us, the handler unwinds
 * from where it was. Every sample has to lie in a mapped object and to reach the thread's first
 * function, wherever in a probe it fell. */
#include "target.h"
#include <dlfcn.h>
#include <signal.h>
#include <sys/time.h>
#include <unwind.h>

#define ROUNDS 4000000l

static unsigned long samples, strange, broken, crossed;
static volatile int inside;
static struct { int depth, mains, nests; } walk;
T int t_main(void);

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *unused)
{
    (void)unused;
    /* An interrupted function may be at its first instruction; a caller is behind its call. */
    int interrupted = 0;
    _Unwind_Ptr ip = _Unwind_GetIPInfo(context, &interrupted);
    void *function = _Unwind_FindEnclosingFunction((void *)(interrupted ? ip : ip - 1));
    walk.mains += function == (void *)t_main;
    return ++walk.depth > 100 ? _URC_END_OF_STACK : _URC_NO_REASON;
}
static void handler(int signal, siginfo_t *info, void *context)
{
    Dl_info object;
    (void)signal, (void)info;
    void *ip = (void *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    samples++;
    strange += !dladdr(ip, &object);
    walk.depth = walk.mains = 0;
    _Unwind_Backtrace(step, NULL);
    /* The timer runs a little before the call and behind it. */
    broken += inside && walk.mains != 1;
    crossed += walk.depth > 3;
}
T long t_leaf(long n) { return n ^ 5; }
ASM_FUNCTION(t_short, "mov %edi, %eax\n ret\n nop; ret\n .p2align 4,0x90");
extern int t_short(int);
T long t_nest(long n, int depth)
{
    long r = depth ? t_nest(n, depth - 1) : t_leaf(n);
    return r + 1;
}
T int t_main(void)
{
    long sum = 0;
    inside = 1;
    for (long i = 0; i < ROUNDS; i++) {
        sum += t_nest(i, 3) + t_leaf(i);
        if (i % 256 == 0)
            sum += t_short(1);
    }
    inside = 0;
    return sum == 3;
}
int main(void)
{
    /* Everything that the handler needs is loaded before. */
    _Unwind_Backtrace(step, NULL);
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct itimerval period = {{0, 200}, {0, 200}};
    CHECK(!sigaction(SIGALRM, &action, NULL) && !setitimer(ITIMER_REAL, &period, NULL));
    t_main();
    struct itimerval off = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &off, NULL);
    CHECK(samples > 0);
    printf("samples outside of any object %lu, that do not reach the first function %lu\n", strange,
           broken);
    calls("t_nest", 4 * ROUNDS);
    calls("t_leaf", 2 * ROUNDS);
    calls("t_short", (ROUNDS + 255) / 256);
    calls("t_main", 1);
    return 0;
}
