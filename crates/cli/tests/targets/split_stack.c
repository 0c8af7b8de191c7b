/* Functions with stacks in pieces (-fsplit-stack): each call of t_deep needs a new one, on which
 * __morestack calls it again. */
#include "target.h"

T long t_leaf(long n) { return n ^ 5; }
T long t_deep(long n)
{
    /* Larger than what is left of a piece. */
    volatile char room[256 << 10];
    room[n] = 1;
    return (n ? t_deep(n - 1) : t_leaf(n)) + room[n];
}
T long t_shallow(long n) { return t_leaf(n) + 1; }
int main(void)
{
    long sum = 0;
    for (long n = 0; n < 5; n++)
        sum += t_deep(n) + t_shallow(n);
    printf("%ld\n", sum);
    return 0;
}
