/* A program that runs, to be attached to: THREADS threads do what standard input says, and nothing
 * in between. Each line is answered by one, "LETTER N": how often t_work ran for it, by the
 * program's own count.
 *   w N   all threads call t_work N times each, in the threads that there are
 *   f N   the same in new threads, which end
 *   c N   a fork child calls it N times, and stays until the end
 *   l     the first thread ends; another one goes on in its place
 *   r     they call it all the time, from here on; s   until here
 * At the end of its input it says "end" and ends with 7. */
#include "target.h"
#include <pthread.h>

enum { MOST = 64 };
static struct slot {
    pthread_t thread;
    unsigned long wanted, done;
} slots[MOST];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static volatile int free_running;
static int threads;

T unsigned long t_work(unsigned long n) { return n * 3 + 1; }

static void *keep(void *of)
{
    struct slot *slot = of;
    unsigned long x = 1;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!slot->wanted && !free_running)
            pthread_cond_wait(&changed, &lock);
        unsigned long n = free_running ? 500 : slot->wanted;
        pthread_mutex_unlock(&lock);
        for (unsigned long i = 0; i < n; i++)
            x = t_work(x);
        if (free_running)
            usleep(200);
        pthread_mutex_lock(&lock);
        slot->done += n;
        slot->wanted = 0;
        pthread_cond_broadcast(&changed);
    }
    return (void *)x;
}

static void *once(void *of)
{
    unsigned long x = 1;
    for (unsigned long i = 0; i < *(unsigned long *)of; i++)
        x = t_work(x);
    return (void *)x;
}

static unsigned long sum(void)
{
    unsigned long all = 0;
    for (int i = 0; i < threads; i++) {
        all += slots[i].done;
        slots[i].done = 0;
    }
    return all;
}

static unsigned long work(unsigned long n)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < threads; i++)
        slots[i].wanted = n;
    pthread_cond_broadcast(&changed);
    for (int i = 0; i < threads; i++)
        while (slots[i].wanted)
            pthread_cond_wait(&changed, &lock);
    unsigned long all = sum();
    pthread_mutex_unlock(&lock);
    return all;
}

T unsigned long in_new_threads(unsigned long n)
{
    pthread_t fresh[MOST];
    for (int i = 0; i < threads; i++)
        CHECK(!pthread_create(&fresh[i], NULL, once, &n));
    for (int i = 0; i < threads; i++)
        pthread_join(fresh[i], NULL);
    return n * (unsigned long)threads;
}

static unsigned long in_a_child(unsigned long n)
{
    int done[2];
    CHECK(!pipe(done));
    int child = fork();
    CHECK(child >= 0);
    if (!child) {
        once(&n);
        CHECK(write(done[1], "", 1) == 1);
        /* As long as its parent is there. */
        for (int parent = getppid(); getppid() == parent;)
            usleep(10000);
        _exit(0);
    }
    char byte;
    CHECK(read(done[0], &byte, 1) == 1);
    close(done[0]);
    close(done[1]);
    return n;
}

static void run(int on)
{
    pthread_mutex_lock(&lock);
    if (on)
        sum();
    free_running = on;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void *obey(void *first)
{
    if (first)
        pthread_join(*(pthread_t *)first, NULL);
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        unsigned long n = strtoul(line + 1, NULL, 10), did = 0;
        switch (line[0]) {
        case 'w': did = work(n); break;
        case 'f': did = in_new_threads(n); break;
        case 'c': did = in_a_child(n); break;
        case 'l': {
            static pthread_t self, next;
            self = pthread_self();
            printf("l 0\n");
            fflush(stdout);
            CHECK(!pthread_create(&next, NULL, obey, &self));
            pthread_exit(NULL);
        }
        case 'r': run(1); break;
        case 's':
            run(0);
            /* Those that are in the middle of it come to an end. */
            usleep(50000);
            pthread_mutex_lock(&lock);
            did = sum();
            pthread_mutex_unlock(&lock);
            break;
        default: CHECK(0);
        }
        printf("%c %lu\n", line[0], did);
        fflush(stdout);
    }
    puts("end");
    fflush(stdout);
    _exit(7);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    threads = atoi(argv[1]);
    CHECK(threads > 0 && threads <= MOST);
    for (int i = 0; i < threads; i++)
        CHECK(!pthread_create(&slots[i].thread, NULL, keep, &slots[i]));
    obey(NULL);
}
