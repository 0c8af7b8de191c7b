/* A timer fires every 200 us into threads that call probed functions, and its handler calls them,
 * too: each instruction of the entry and return paths is interrupted sooner or later. How often the
 * handler runs is the machine's affair; that every call is counted is not: the program keeps its
 * own counts. The numbers differ from run to run, so the harness compares the counts, not the
 * output. */
#include "target.h"
#include <pthread.h>
#include <signal.h>
#include <time.h>

#define THREADS 3
#define ROUNDS 500000
static unsigned long mains, leaves[THREADS], fired;
static _Thread_local unsigned long own_leaves, own_fired;

T long t_leaf(long n)
{
    own_leaves++;
    return n + 1;
}
T long t_nest(long n, int depth)
{
    if (depth)
        return t_nest(n, depth - 1) + 1;
    return t_leaf(n);
}
/* Too short for a detour: a trap is interrupted as well. */
ASM_FUNCTION(t_short, "mov %edi, %eax\n ret\n nop; ret\n .p2align 4,0x90");
extern int t_short(int);

T void t_handler(int signal)
{
    (void)signal;
    int saved = errno;
    own_fired++;
    CHECK(t_nest(5, 3) == 9);
    CHECK(t_leaf(1) == 2);
    CHECK(t_short(3) == 3);
    errno = saved;
}

static void *run(void *number)
{
    long me = (long)number;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
    event._sigev_un._tid = gettid();
    timer_t timer;
    struct itimerspec period = {{0, 200000}, {0, 200000}};
    CHECK(!timer_create(CLOCK_MONOTONIC, &event, &timer));
    CHECK(!timer_settime(timer, 0, &period, NULL));
    for (long i = 0; i < ROUNDS; i++) {
        CHECK(t_nest(i, 2) == i + 3);
        CHECK(t_leaf(i) == i + 1);
        if (i % 64 == 0)
            CHECK(t_short((int)i) == (int)i);
    }
    CHECK(!timer_delete(timer));
    leaves[me] = own_leaves;
    __atomic_add_fetch(&fired, own_fired, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&mains, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(void)
{
    struct sigaction action = {.sa_handler = t_handler, .sa_flags = SA_RESTART};
    pthread_t threads[THREADS];
    unsigned long total = 0;
    CHECK(!sigaction(SIGRTMIN, &action, NULL));
    for (long i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&threads[i], NULL, run, (void *)i));
    for (int i = 0; i < THREADS; i++) {
        CHECK(!pthread_join(threads[i], NULL));
        total += leaves[i];
    }
    CHECK(mains == THREADS && fired > 0);
    CHECK(total == 2ul * THREADS * ROUNDS + 2 * fired);
    calls("t_handler", fired);
    calls("t_leaf", total);
    calls("t_nest", 3ul * THREADS * ROUNDS + 4 * fired);
    calls("t_short", (unsigned long)THREADS * ((ROUNDS + 63) / 64) + fired);
    return 0;
}
