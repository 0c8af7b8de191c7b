/* Opens a library made of many_functions.c and calls its function N as often as N modulo 7.
 * Argument: the library. */
#include "target.h"
#include <dlfcn.h>

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    void *library = dlopen(argv[1], RTLD_NOW);
    CHECK(library);
    unsigned long (*call)(unsigned long, unsigned long) =
        (unsigned long (*)(unsigned long, unsigned long))dlsym(library, "many_call");
    CHECK(call);
    for (unsigned long number = 0; number < 40000; number++)
        for (unsigned long n = 0; n < number % 7; n++)
            CHECK(call(number, n) == 3 * n + number);
    puts("fine");
}
