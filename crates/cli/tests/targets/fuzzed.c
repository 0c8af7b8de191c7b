/* A little of everything that makes an agent look into the segment: threads that begin and end,
 * libraries that come and go, forks, programs that are executed, calls in between. Nothing of it
 * may go wrong, whatever somebody writes there.
 * Arguments: a library, made of opened_library.c with FACTOR 2; rounds. */
#include "target.h"
#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>

T long t_leaf(long n) { return n + 1; }
T long t_middle(long n) { return t_leaf(n) + t_leaf(n + 1); }
T long t_deep(long n) { return n > 0 ? t_deep(n - 1) + 1 : t_middle(0); }

static void *work(void *unused)
{
    (void)unused;
    for (long n = 0; n < 50; n++)
        CHECK(t_middle(n) == 2 * n + 3 && t_deep(n % 20) == n % 20 + 3);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return (int)t_middle(20);
    CHECK(argc == 3);
    for (int round = 0, rounds = atoi(argv[2]); round < rounds; round++) {
        pthread_t ids[3];
        for (int i = 0; i < 3; i++)
            CHECK(!pthread_create(&ids[i], NULL, work, NULL));
        void *library = dlopen(argv[1], RTLD_NOW);
        CHECK(library);
        long (*helped)(long) = (long (*)(long))dlsym(library, "t_opened_work");
        CHECK(helped && helped(round) == 2 * round + 1);
        work(NULL);
        CHECK(!dlclose(library));
        pid_t child = fork();
        CHECK(child >= 0);
        if (!child) {
            work(NULL);
            if (round % 4)
                _exit(7);
            execl("/proc/self/exe", "again", "x", (char *)NULL);
            _exit(8);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == (round % 4 ? 7 : 43));
        for (int i = 0; i < 3; i++)
            CHECK(!pthread_join(ids[i], NULL));
    }
    puts("right");
    return 0;
}
