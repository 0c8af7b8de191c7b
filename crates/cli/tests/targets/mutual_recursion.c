/* Functions that call one another recursively, without tail calls. */
#include "target.h"

static unsigned long evens, odds, fibs, ackermanns;
T int t_odd(int n);
T int t_even(int n)
{
    evens++;
    int r = n == 0 ? 1 : t_odd(n - 1);
    __asm__ volatile("" : "+r"(r));
    return r;
}
T int t_odd(int n)
{
    odds++;
    int r = n == 0 ? 0 : t_even(n - 1);
    __asm__ volatile("" : "+r"(r));
    return r;
}
T long t_fib(int n)
{
    fibs++;
    if (n < 2)
        return n;
    long a = t_fib(n - 1);
    return a + t_fib(n - 2);
}
T int t_ackermann(int m, int n)
{
    ackermanns++;
    int r;
    if (m == 0)
        r = n + 1;
    else if (n == 0)
        r = t_ackermann(m - 1, 1);
    else
        r = t_ackermann(m - 1, t_ackermann(m, n - 1));
    __asm__ volatile("" : "+r"(r));
    return r;
}

int main(void)
{
    CHECK(t_even(1001) == 0 && t_odd(1001) == 1);
    CHECK(t_fib(22) == 17711);
    CHECK(t_ackermann(2, 60) == 123);
    puts("right");
    calls("t_even", evens);
    calls("t_odd", odds);
    calls("t_fib", fibs);
    calls("t_ackermann", ackermanns);
    return 0;
}
