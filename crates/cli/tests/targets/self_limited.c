/* Limits its own memory, and then needs a part of it, in threads and in a child. */
#include "target.h"
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define LIMIT (1UL << 30)
T long t_work(long n) { return n + 1; }
T void *t_thread(void *n) { return (void *)t_work((long)n); }

/* Bytes that can still be had, in steps of 16 MiB. */
static unsigned long room(void)
{
    unsigned long n = 0;
    void *got[64];
    while (n < 64 && (got[n] = malloc(16 << 20)))
        n++;
    for (unsigned long i = 0; i < n; i++)
        free(got[i]);
    return n << 24;
}

int main(void)
{
    struct rlimit limit = {LIMIT, LIMIT};
    CHECK(!setrlimit(RLIMIT_AS, &limit));
    CHECK(room() >= LIMIT - (96UL << 20));
    for (long i = 0; i < 10; i++) {
        pthread_t id;
        void *r;
        CHECK(!pthread_create(&id, NULL, t_thread, (void *)i) && !pthread_join(id, &r) &&
              (long)r == i + 1);
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit((int)t_work(4));
    int status;
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);
    puts("there is room");
    calls("t_thread", 10);
    calls("t_work", 11);
    return 0;
}
