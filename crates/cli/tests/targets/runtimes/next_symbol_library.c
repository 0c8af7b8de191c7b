/* A wrapper library: the real function is found by a helper whose last act is the look-up. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

__attribute__((noinline)) void *find_next(const char *name) { return dlsym(RTLD_NEXT, name); }

static int depth;

int toupper(int c)
{
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))find_next("toupper");
    if (real == toupper || ++depth > 3)
        return -1000;
    int r = real(c) + 1000;
    depth--;
    return r;
}
