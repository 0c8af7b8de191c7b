/* Functions that look at, keep or copy their caller's frame, taken as targets themselves: setjmp
 * and its kin, getcontext, swapcontext, vfork, dlopen, dlsym. They are called as often as the last
 * lines say and must work as ever. */
#include "target.h"
#include <dlfcn.h>
#include <setjmp.h>
#include <sys/wait.h>
#include <ucontext.h>

static jmp_buf buffer;
static sigjmp_buf signal_buffer;
static ucontext_t here;

T int t_twice(void)
{
    volatile int times = 0;
    int r = _setjmp(buffer);
    times++;
    if (r < 3)
        longjmp(buffer, r + 1);
    return times;
}
T int t_signal(void)
{
    volatile int times = 0;
    if (sigsetjmp(signal_buffer, 1) < 2) {
        times++;
        siglongjmp(signal_buffer, times);
    }
    return times;
}
T int t_context(void)
{
    volatile int times = 0;
    CHECK(!getcontext(&here));
    if (times++ < 4)
        setcontext(&here);
    return times;
}
T int t_vfork(void)
{
    int status;
    pid_t child = vfork();
    if (child == 0)
        _exit(7);
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    return WEXITSTATUS(status);
}
T int t_symbols(void)
{
    void *self = dlopen(NULL, RTLD_NOW);
    CHECK(self);
    int found =
        dlsym(self, "getpid") == dlsym(RTLD_DEFAULT, "getpid") && dlsym(RTLD_NEXT, "getpid");
    CHECK(!dlclose(self));
    return found;
}

int main(void)
{
    int sum = 0;
    for (int i = 0; i < 50; i++)
        sum += t_twice() * 10000 + t_signal() * 1000 + t_context() * 100 + t_vfork() * 10 +
               t_symbols();
    printf("sum %d\n", sum);
    calls("t_twice", 50);
    calls("t_signal", 50);
    calls("t_context", 50);
    calls("t_vfork", 50);
    calls("t_symbols", 50);
    return 0;
}
