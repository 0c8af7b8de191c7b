/* A function that is only inlined, and one that is inlined and called. */
#include "target.h"

static inline __attribute__((always_inline)) long only_inlined(long n)
{
    __asm__ volatile("" : "+r"(n));
    return n * 3;
}

/* Where its address is needed, it is a function of its own. */
static inline __attribute__((always_inline)) long t_both(long n)
{
    __asm__ volatile("nop" : "+r"(n));
    return n * 5;
}
long (*volatile pointer)(long) = t_both;

T long t_twice(long n) { return only_inlined(n) + only_inlined(n + 1); }
T long t_here(long n) { return t_both(n) - t_both(n - 1); }
T long t_there(long n) { return t_both(n) - pointer(n) + pointer(n + 1); }
T long t_once(long n) { return only_inlined(n) - 1; }

int main()
{
    printf("%ld\n", t_twice(1) + t_once(2) + t_here(3) + t_there(4));
}
