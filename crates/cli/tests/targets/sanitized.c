/* Nothing that a sanitizer would complain of. */
#include "target.h"
#include <pthread.h>

T int t_use(int n) {
    int all[4] = {n, n + 1, n + 2, n + 3};
    for (int i = 1; i < 4; i++) all[0] += all[i];
    return all[0];
}

static void *run(void *unused) {
    long sum = 0;
    for (int i = 0; i < 1000; i++) {
        char *text = malloc(16);
        CHECK(text != NULL);
        text[15] = (char)i;
        sum += t_use(text[15]);
        free(text);
    }
    return (void *)sum;
}

int main(void) {
    pthread_t threads[4];
    long all = 0;
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, run, NULL) == 0);
    for (int i = 0; i < 4; i++) {
        void *sum;
        CHECK(pthread_join(threads[i], &sum) == 0);
        all += (long)sum;
    }
    printf("%ld\n", all);
    calls("t_use", 4000);
    return 0;
}
