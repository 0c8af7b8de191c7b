/* Waits in nested probed frames for somebody to look at it, until its input ends. */
#include "target.h"

T int t_wait(void)
{
    char c;
    printf("process %d\n", getpid());
    fflush(stdout);
    return (int)read(0, &c, 1);
}
T int t_level(int n)
{
    int r = n ? t_level(n - 1) : t_wait();
    return r + 1;
}
T int t_through_pointer(int (*f)(int)) { return f(3) + 1; }
int main(void)
{
    int r = t_through_pointer(t_level);
    calls("t_level", 4);
    calls("t_through_pointer", 1);
    calls("t_wait", 1);
    return r;
}
