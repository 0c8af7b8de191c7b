/* Threads that end within probed frames: pthread_exit, pthread_cancel (deferred and asynchronous),
 * with clean-up handlers and destructors of thread-specific data that call probed functions; and
 * the program ends while threads are inside calls. */
#include "target.h"
#include <pthread.h>
#include <sched.h>

static long cleaned, destroyed;
static pthread_key_t key;
static unsigned long works;

T void t_work(void) { __atomic_add_fetch(&works, 1, __ATOMIC_SEQ_CST); }
T void t_cleanup(void *unused)
{
    (void)unused;
    t_work();
    __atomic_add_fetch(&cleaned, 1, __ATOMIC_SEQ_CST);
}
T void t_destructor(void *value)
{
    t_work();
    __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST);
    /* A few more rounds: destructors run again while values are set, after other libraries'
     * destructors. */
    if ((long)value < 4)
        pthread_setspecific(key, (void *)((long)value + 1));
}
T void t_exit_below(int depth)
{
    pthread_cleanup_push(t_cleanup, NULL);
    if (depth == 0)
        pthread_exit((void *)7);
    t_exit_below(depth - 1);
    pthread_cleanup_pop(0);
}
T void t_wait_below(int depth)
{
    pthread_cleanup_push(t_cleanup, NULL);
    if (depth == 0)
        for (;;)
            pause();
    t_wait_below(depth - 1);
    pthread_cleanup_pop(0);
}
T void t_spin_below(int depth)
{
    pthread_cleanup_push(t_cleanup, NULL);
    if (depth == 0) {
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
        for (;;)
            __asm__ volatile("pause");
    }
    t_spin_below(depth - 1);
    pthread_cleanup_pop(0);
}
T void *t_exits(void *unused)
{
    (void)unused;
    pthread_setspecific(key, (void *)1);
    t_exit_below(3);
    return NULL;
}
T void *t_waits(void *started)
{
    pthread_setspecific(key, (void *)1);
    __atomic_store_n((int *)started, 1, __ATOMIC_SEQ_CST);
    t_wait_below(3);
    return NULL;
}
T void *t_spins(void *started)
{
    pthread_setspecific(key, (void *)1);
    __atomic_store_n((int *)started, 1, __ATOMIC_SEQ_CST);
    t_spin_below(3);
    return NULL;
}
T void *t_stays(void *started)
{
    __atomic_store_n((int *)started, 1, __ATOMIC_SEQ_CST);
    for (;;)
        pause();
}

static pthread_t cancelled(void *(*body)(void *))
{
    pthread_t id;
    int started = 0;
    void *result;
    CHECK(!pthread_create(&id, NULL, body, &started));
    while (!__atomic_load_n(&started, __ATOMIC_SEQ_CST))
        sched_yield();
    CHECK(!pthread_cancel(id) && !pthread_join(id, &result) && result == PTHREAD_CANCELED);
    return id;
}

#define N 200
int main(void)
{
    CHECK(!pthread_key_create(&key, t_destructor));
    for (int i = 0; i < N; i++) {
        pthread_t id;
        void *result;
        CHECK(!pthread_create(&id, NULL, t_exits, NULL) && !pthread_join(id, &result) &&
              result == (void *)7);
        cancelled(t_waits);
        (void)cancelled;
    }
    for (int i = 0; i < 20; i++)
        cancelled(t_spins);
    int started[3] = {0};
    for (int i = 0; i < 3; i++) {
        pthread_t id;
        CHECK(!pthread_create(&id, NULL, t_stays, &started[i]));
        while (!__atomic_load_n(&started[i], __ATOMIC_SEQ_CST))
            sched_yield();
    }
    printf("destroyed %ld\n", destroyed);
    calls("t_exits", N);
    calls("t_waits", N);
    calls("t_spins", 20);
    calls("t_stays", 3);
    calls("t_exit_below", 4 * N);
    calls("t_destructor", 4 * (2 * N + 20));
    calls("t_cleanup", cleaned);
    calls("t_work", works);
    return 0;
}
