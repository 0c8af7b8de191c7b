/* Recursion as deep as the argument says: every level is counted and returns. */
#include "target.h"
#include <pthread.h>

T long t_down(long n, long *deepest)
{
    if (n == 0) {
        *deepest += 1;
        return 0;
    }
    return t_down(n - 1, deepest) + 1;
}

static long depth;

static void *run(void *out)
{
    long deepest = 0;
    for (int i = 0; i < 3; i++)
        CHECK(t_down(depth, &deepest) == depth);
    *(long *)out = deepest;
    return NULL;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    depth = atol(argv[1]);
    /* On a stack of its own, so that the limit of the main stack does not matter. */
    pthread_attr_t attributes;
    pthread_t thread;
    long deepest;
    CHECK(!pthread_attr_init(&attributes) && !pthread_attr_setstacksize(&attributes, 64 << 20));
    CHECK(!pthread_create(&thread, &attributes, run, &deepest) && !pthread_join(thread, NULL));
    printf("reached the bottom %ld times\n", deepest);
    calls("t_down", 3 * (depth + 1));
    return 0;
}
