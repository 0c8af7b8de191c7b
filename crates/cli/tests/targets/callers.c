/* t_leaf from known places: the tests know every stack and its count. */
#include "target.h"
#include <signal.h>

T long t_leaf(long n) {
    return n + 1;
}

T long t_one(long n) { return t_leaf(n) * 2; }
T long t_two(long n) { return t_leaf(n) + t_leaf(n + 1); }
T long t_deep(int depth) { return depth == 0 ? t_leaf(0) : t_deep(depth - 1) + 1; }

/* 2^bits stacks: which of two calls goes down at each level. */
T long t_tree(int bits) {
    if (bits == 0)
        return t_leaf(0);
    long left = t_tree(bits - 1);
    return left + t_tree(bits - 1) + 1;
}

int main(int argc, char **argv) {
    long sum = 0;
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "tree")) {
        for (int round = 0; round < 3; round++)
            sum += t_tree(atoi(argv[2]));
    } else if (!strcmp(what, "forever") || !strcmp(what, "die")) {
        for (long n = 0;; n++) {
            sum += t_one(n);
            if (n == 100000) {
                write(1, "running\n", 8);
                if (!strcmp(what, "die"))
                    raise(SIGKILL);
            }
        }
    } else {
        for (int i = 0; i < 10; i++)
            sum += t_one(i);
        for (int i = 0; i < 7; i++)
            sum += t_two(i);
        for (int i = 0; i < 3; i++)
            sum += t_deep(20);
    }
    printf("sum %ld\n", sum);
    return 0;
}
