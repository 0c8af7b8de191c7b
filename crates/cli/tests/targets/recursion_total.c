/* Times of functions that call themselves, directly, by each other, out of frames that were left,
 * on several threads: the outermost call's time is the function's. Each is called once from
 * outside, and per thread. */
#include "target.h"
#include <pthread.h>
#include <setjmp.h>
#include <unistd.h>

T void t_wait(void) { usleep(20000); }
T long t_down(long n)
{
    if (n == 0)
        t_wait();
    return n == 0 ? 0 : t_down(n - 1) + 1;
}
T long t_odd(long n);
T long t_even(long n)
{
    if (n == 0)
        t_wait();
    return n == 0 ? 1 : t_odd(n - 1);
}
T long t_odd(long n) { return n == 0 ? 0 : t_even(n - 1); }
/* fib: a tree of calls. */
T long t_fib(long n) { return n < 2 ? n : t_fib(n - 1) + t_fib(n - 2); }

static __thread jmp_buf place;
/* Leaves itself at the bottom, goes on above, and calls itself again from there. */
T long t_left(long n)
{
    if (n == 0)
        longjmp(place, 1);
    if (n == 5 && setjmp(place) != 0)
        return t_left(-3);
    if (n == -1)
        t_wait();
    return n == -1 ? 7 : t_left(n < 0 ? n + 1 : n - 1);
}

T void t_all(void)
{
    CHECK(t_down(49) == 49 && t_even(20) == 1 && t_fib(12) == 144 && t_left(5) == 7);
}

static void *thread(void *argument)
{
    t_all();
    return argument;
}

int main(int argc, char **argv)
{
    pthread_t threads[3];
    int count = argc > 1 ? 3 : 0;
    for (int i = 0; i < count; i++)
        CHECK(!pthread_create(threads + i, NULL, thread, NULL));
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    if (count == 0)
        t_all();
    puts("done");
    calls("t_all", count ? 3 : 1);
    calls("t_down", count ? 150 : 50);
    return 0;
}
