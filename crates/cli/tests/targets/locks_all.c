/* Keeps all its memory resident, and says if that is more than its own and 64 MiB. */
#include "target.h"
#include <pthread.h>
#include <sys/mman.h>

T long t_work(long n) { return n + 1; }
T void *t_thread(void *n) { return (void *)t_work((long)n); }

static long locked_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *f = fopen("/proc/self/status", "r");
    CHECK(f);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmLck: %ld", &kib) == 1)
            break;
    fclose(f);
    return kib;
}

int main(void)
{
    CHECK(!mlockall(MCL_CURRENT | MCL_FUTURE));
    for (long i = 0; i < 10; i++) {
        pthread_t id;
        pthread_attr_t small;
        void *r;
        pthread_attr_init(&small);
        pthread_attr_setstacksize(&small, 1 << 18);
        CHECK(!pthread_create(&id, &small, t_thread, (void *)i) && !pthread_join(id, &r) &&
              (long)r == i + 1);
    }
    long kib = locked_kib();
    CHECK(kib > 0 && kib < 64 << 10);
    puts("locked");
    calls("t_thread", 10);
    calls("t_work", 10);
    return 0;
}
