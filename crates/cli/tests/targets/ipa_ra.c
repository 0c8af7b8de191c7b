/* Local functions at -O2: the compiler knows which registers the callee leaves alone (-fipa-ra) and
 * keeps values in the others, though the calling convention calls them dead. */
#include "target.h"

static __attribute__((noinline, noclone)) long t_keeps_most(long a) { return a * 3; }
static __attribute__((noinline, noclone)) double t_keeps_vectors(double a) { return a + 1; }
static __attribute__((noinline, noclone)) void t_only_store(long *p) { *p += 1; }
static long box;
static __attribute__((noinline, noclone)) void t_nothing(void) {
    __asm__ volatile("" : : : "memory");
}

#define N 5000
int main(int argc, char **argv)
{
    long a = argc, b = argc + 1, c = argc + 2, d = argc + 3, e = argc + 4, sum = 0;
    double x = argc, y = argc * 2.0, z = argc * 3.0;
    (void)argv;
    for (long i = 0; i < N; i++) {
        a += t_keeps_most(i) + b;
        t_only_store(&box);
        b ^= a + c;
        x += t_keeps_vectors(y) * z;
        t_nothing();
        y = y + 0.5 - z * 0.001;
        c = (c << 1 | (unsigned long)c >> 63) + d;
        d = d * 5 + e;
        t_nothing();
        e += t_keeps_most(d ^ i);
        sum += a ^ b ^ c ^ d ^ e;
        z += t_keeps_vectors(x) * 1e-9;
    }
    printf("%lx %.6g %.6g %.6g %ld\n", sum, x, y, z, box);
    calls("t_keeps_most", 2 * N);
    calls("t_keeps_vectors", 2 * N);
    calls("t_only_store", N);
    calls("t_nothing", 2 * N);
    return 0;
}
