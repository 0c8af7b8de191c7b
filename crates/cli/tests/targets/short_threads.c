/* 10,000 threads that live for a few calls, up to sixteen at a time, joined and detached, some on
 * the smallest stacks there are. */
#include "target.h"
#include <pthread.h>
#include <semaphore.h>

static long done;
static sem_t room;
T long t_work(long n) { return n * 2; }
T void *t_thread(void *number)
{
    long n = (long)number;
    long r = t_work(n) + t_work(n + 1);
    CHECK(r == 4 * n + 2);
    __atomic_add_fetch(&done, 1, __ATOMIC_SEQ_CST);
    sem_post(&room);
    return NULL;
}

int main(void)
{
    pthread_attr_t small, detached;
    pthread_attr_init(&small);
    CHECK(!pthread_attr_setstacksize(&small, 16384));
    pthread_attr_init(&detached);
    pthread_attr_setstacksize(&detached, 64 << 10);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    CHECK(!sem_init(&room, 0, 16));
    for (long i = 0; i < 10000; i++) {
        pthread_t id;
        sem_wait(&room);
        if (i % 2)
            while (pthread_create(&id, &detached, t_thread, (void *)i) == EAGAIN)
                usleep(1000);
        else {
            while (pthread_create(&id, &small, t_thread, (void *)i) == EAGAIN)
                usleep(1000);
            CHECK(!pthread_join(id, NULL));
        }
    }
    while (__atomic_load_n(&done, __ATOMIC_SEQ_CST) != 10000)
        usleep(1000);
    printf("done %ld\n", done);
    calls("t_thread", 10000);
    calls("t_work", 20000);
    return 0;
}
