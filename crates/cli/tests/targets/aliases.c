/* One function under three names, and a local function whose name another file's function has, too.
 */
#include "target.h"
T long t_first_name(long n) { return n + 1; }
extern long t_second_name(long) __attribute__((alias("t_first_name")));
extern long t_third_name(long) __attribute__((weak, alias("t_first_name")));
static __attribute__((noinline, noclone)) long t_local(long n) { return n + 2; }
int main(void)
{
    long sum = 0;
    for (int i = 0; i < 100; i++)
        sum += t_first_name(i) + t_second_name(i) + t_third_name(i) + t_local(i);
    printf("sum of %ld\n", sum);
    return 0;
}
