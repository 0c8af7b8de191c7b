/* A library that is loaded in the place of another one: the same code at the same addresses, but
 * frames of another size (ROOM). */
#include "target.h"

extern void t_leaf(int n);

/* A room that is written, so that it is there. */
#define ROOMY                                                                                      \
    volatile char room[ROOM];                                                                      \
    room[0] = room[ROOM - 1] = 1

__attribute__((constructor)) static void loaded(void) {
    ROOMY;
    t_leaf(1);
    room[1] = 2;
}

__attribute__((destructor)) static void unloaded(void) {
    ROOMY;
    t_leaf(2);
    room[1] = 2;
}

T int plugin_inner(int n) {
    ROOMY;
    t_leaf(n);
    return room[0] + n;
}

T int plugin(int n) {
    ROOMY;
    int got = plugin_inner(n);
    return room[0] + got;
}
