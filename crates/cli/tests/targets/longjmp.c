/* longjmp out of nested probed frames, 20,000 times, and siglongjmp; the frames never return. */
#include "target.h"
#include <setjmp.h>

static jmp_buf out;
static sigjmp_buf signal_out;
static volatile unsigned long throws, deeps, completes;

T long t_throw(long n)
{
    throws++;
    longjmp(out, (int)n);
}
T long t_deep(long n, long levels)
{
    deeps++;
    if (levels == 0)
        return t_throw(n) + 1;
    return t_deep(n, levels - 1) + levels;
}
T long t_catch(long n)
{
    volatile long kept = n * 3;
    int r = setjmp(out);
    if (r == 0)
        t_deep(n + 1, n % 10);
    return r + kept;
}
T long t_completes(long n)
{
    completes++;
    return n + 1;
}
T void t_signal_throw(void) { siglongjmp(signal_out, 5); }
T int t_signal_catch(void)
{
    int r = sigsetjmp(signal_out, 1);
    if (r == 0)
        t_signal_throw();
    return r;
}
/* The same buffer again and again from one frame that stays. */
T long t_loop(long rounds)
{
    volatile long i = 0, sum = 0;
    int r = setjmp(out);
    sum += r;
    if (i++ < rounds)
        t_deep(i, 3);
    return sum;
}

int main(void)
{
    long sum = 0;
    for (long i = 0; i < 20000; i++) {
        CHECK(t_catch(i) == 4 * i + 1);
        sum += t_completes(i);
        if (i % 100 == 0)
            CHECK(t_signal_catch() == 5);
    }
    CHECK(t_loop(5000) == 5000L * 5001 / 2);
    printf("sum %ld\n", sum);
    calls("t_throw", throws);
    calls("t_deep", deeps);
    calls("t_catch", 20000);
    calls("t_completes", completes);
    calls("t_signal_throw", 200);
    calls("t_signal_catch", 200);
    calls("t_loop", 1);
    return 0;
}
