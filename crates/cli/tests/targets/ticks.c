/* Runs until it is killed. With "rest" it makes 123,456 calls, says so and rests; otherwise it
 * calls as fast as it can in three threads and keeps the number of finished calls in the file named
 * by the argument, which outlives it. */
#include "target.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

T long t_tick(long n) { return n + 1; }
T void *t_run(void *counter)
{
    volatile uint64_t *finished = counter;
    for (long i = 0;; i++) {
        t_tick(i);
        *finished += 1;
    }
    return NULL;
}
int main(int argc, char **argv)
{
    CHECK(argc == 2);
    if (!strcmp(argv[1], "rest")) {
        for (int i = 0; i < 123456; i++)
            t_tick(i);
        puts("resting");
        fflush(stdout);
        for (;;)
            pause();
    }
    int fd = open(argv[1], O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && !ftruncate(fd, 4096));
    uint64_t *counters = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(counters != MAP_FAILED);
    pthread_t id;
    for (int i = 0; i < 2; i++)
        CHECK(!pthread_create(&id, NULL, t_run, &counters[8 * i]));
    puts("running");
    fflush(stdout);
    t_run(&counters[16]);
}
