/* Threads that all live at the same time, each of which calls every function; without memory for
 * their counters the program goes on. */
#include "target.h"
#include <pthread.h>

#define EACH(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9)
#define ALL(f) EACH(f##0) EACH(f##1) EACH(f##2) EACH(f##3)
#define DEFINE(a, n) T long t_f##a##n(long x) { return x + n; }
#define DEFINE0(n) DEFINE(0, n)
#define DEFINE1(n) DEFINE(1, n)
#define DEFINE2(n) DEFINE(2, n)
#define DEFINE3(n) DEFINE(3, n)
ALL(DEFINE)
#define CALL0(n) s = t_f0##n(s);
#define CALL1(n) s = t_f1##n(s);
#define CALL2(n) s = t_f2##n(s);
#define CALL3(n) s = t_f3##n(s);

static pthread_barrier_t together;
static void *thread(void *sum)
{
    long s = 0;
    ALL(CALL)
    pthread_barrier_wait(&together);
    return (void *)s;
}

int main(int argc, char **argv)
{
    long n = argc > 1 ? atol(argv[1]) : 1000;
    pthread_t *all = calloc((size_t)n, sizeof *all);
    pthread_attr_t small;
    pthread_barrier_init(&together, NULL, (unsigned)n);
    pthread_attr_init(&small);
    CHECK(!pthread_attr_setstacksize(&small, 64 << 10));
    for (long i = 0; i < n; i++)
        CHECK(!pthread_create(&all[i], &small, thread, NULL));
    for (long i = 0; i < n; i++) {
        void *s;
        CHECK(!pthread_join(all[i], &s) && (long)s == 4 * 45);
    }
    printf("fine: %ld threads\n", n);
    return 0;
}
