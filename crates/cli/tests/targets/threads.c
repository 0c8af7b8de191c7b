/* Eight threads with exact counts, each calling as often as its number says; short functions by
 * trap, too. */
#include "target.h"
#include <pthread.h>

#define THREADS 8
ASM_FUNCTION(t_short, "mov %edi, %eax\n ret\n nop; ret\n .p2align 4,0x90");
extern int t_short(int);
T long t_leaf(long n) { return n + 1; }
T long t_outer(long n)
{
    long r = t_leaf(n);
    return r + t_leaf(r);
}
static pthread_barrier_t barrier;
static long sums[THREADS];

T void *t_thread(void *number)
{
    long me = (long)number;
    pthread_barrier_wait(&barrier);
    for (long i = 0; i < 20000 * (me + 1); i++) {
        sums[me] += t_outer(i);
        if (i % 20 == 0)
            sums[me] += t_short(3);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    CHECK(!pthread_barrier_init(&barrier, NULL, THREADS));
    for (long i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&threads[i], NULL, t_thread, (void *)i));
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_join(threads[i], NULL));
    for (int i = 0; i < THREADS; i++)
        printf("thread %d: %ld\n", i, sums[i]);
    calls("t_outer", 20000 * 36);
    calls("t_leaf", 40000 * 36);
    calls("t_short", 1000 * 36);
    calls("t_thread", THREADS);
    return 0;
}
