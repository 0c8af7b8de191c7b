/* A program in which threads start and end all the time: churn THREADS [leave]. Each of so many
 * threads calls t_work and starts one that calls it, too, again and again until standard input
 * ends; then it says how often that was, and ends with 7. If it is to leave, its first thread ends
 * at once. */
#include "target.h"
#include <pthread.h>

enum { MOST = 64, TIMES = 200 };
static volatile int stop;
static unsigned long total;
static int count;
static pthread_t threads[MOST];

T unsigned long t_work(unsigned long n) { return n * 3 + 1; }

static void *once(void *of)
{
    for (unsigned long i = 0; i < TIMES; i++)
        CHECK(t_work(i) == i * 3 + 1);
    __atomic_add_fetch(&total, TIMES, __ATOMIC_RELAXED);
    return of;
}

static void *keep(void *of)
{
    while (!stop) {
        pthread_t other;
        once(of);
        if (!pthread_create(&other, NULL, once, of))
            pthread_join(other, NULL);
        usleep(500);
    }
    return of;
}

static void *until_the_end(void *of)
{
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    stop = 1;
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    printf("%lu\n", total);
    fflush(stdout);
    _exit(7);
    return of;
}

int main(int argc, char **argv)
{
    CHECK(argc >= 2);
    count = atoi(argv[1]);
    CHECK(count > 0 && count <= MOST);
    for (int i = 0; i < count; i++)
        CHECK(!pthread_create(&threads[i], NULL, keep, NULL));
    if (argc > 2) {
        pthread_t last;
        CHECK(!pthread_create(&last, NULL, until_the_end, NULL));
        pthread_exit(NULL);
    }
    until_the_end(NULL);
}
