/* Functions that run before main: a constructor, and the resolver of an indirect function. */
#include "target.h"
#include <pthread.h>

static volatile unsigned long done;

T void t_early(void) {
    for (int i = 0; i < 3; i++) done++;
}

__attribute__((constructor)) static void constructor(void) {
    for (int i = 0; i < 100; i++) t_early();
}

#ifdef INDIRECT
T static int implementation(void) { return 7; }

T int (*t_resolver(void))(void) {
    done += 0;
    return implementation;
}
int indirect(void) __attribute__((ifunc("t_resolver")));
#endif

static void *run(void *unused) {
    (void)unused;
    for (int i = 0; i < 1000; i++) t_early();
    return NULL;
}

int main(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, run, NULL) == 0);
    for (int i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
#ifdef INDIRECT
    CHECK(indirect() == 7);
    calls("t_resolver", 1);
#endif
    calls("t_early", 4100);
    return 5;
}
