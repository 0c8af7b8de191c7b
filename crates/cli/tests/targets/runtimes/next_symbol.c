/* Asks a library for a function that the library takes from the next object. */
#include <stdio.h>
int toupper(int);
__attribute__((noinline)) int work(int c) { return toupper(c); }
int main(void)
{
    long s = 0;
    for (int i = 0; i < 5; i++)
        s += work('a' + i);
    printf("%ld\n", s);
    return s != 5335;
}
