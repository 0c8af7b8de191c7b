/* Arguments and results of every class: registers, stack, vectors, x87, complex, structs by value
 * and by memory, variadic doubles. */
#include "target.h"
#include <complex.h>
#include <immintrin.h>
#include <stdarg.h>

typedef struct { long a, b; } Pair;
typedef struct { double a; long b; } Mixed;
typedef struct { long a[6]; } Big;
typedef struct { char c[3]; } Tiny;

T long t_ten(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j) {
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j;
}
T double t_doubles(double a, double b, double c, double d, double e, double f, double g, double h,
                   double i, double j) {
    return a - b + c - d + e - f + g - h + i - j;
}
T float t_float(float a, int b) { return a * b; }
T long double t_long_double(long double a) { return a * 2; }
T _Complex double t_complex(_Complex double z) { return z * z; }
T _Complex long double t_complex_long(_Complex long double z) { return z * z; }
T Pair t_pair(Pair p) { return (Pair){p.b, p.a}; }
T Mixed t_mixed(Mixed m) { return (Mixed){m.a * 2, m.b * 3}; }
T Big t_big(Big b, int k) { for (int i = 0; i < 6; i++) b.a[i] *= k; return b; }
T Tiny t_tiny(Tiny t) { t.c[2] = t.c[0]; return t; }
T __int128 t_int128(__int128 a, __int128 b) { return a * b; }
T __m128d t_xmm(__m128d a, __m128d b) { return _mm_add_pd(a, b); }
T __attribute__((target("avx"))) __m256d t_ymm(__m256d a, __m256d b) { return _mm256_mul_pd(a, b); }
T __attribute__((target("avx512f"))) __m512d t_zmm(__m512d a, __m512d b) {
    return _mm512_sub_pd(a, b);
}

T double t_variadic(int n, ...)
{
    va_list list;
    double sum = 0;
    va_start(list, n);
    for (int i = 0; i < n; i++)
        sum += i % 2 ? va_arg(list, double) : va_arg(list, int);
    va_end(list);
    return sum;
}

T int t_format(char *out, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = vsprintf(out, format, list);
    va_end(list);
    return n;
}

static __attribute__((target("avx"))) int ymm(void)
{
    double out[4];
    _mm256_storeu_pd(out, t_ymm(_mm256_set_pd(1, 2, 3, 4), _mm256_set1_pd(3)));
    return out[0] == 12 && out[3] == 3;
}

static __attribute__((target("avx512f"))) int zmm(void)
{
    double out[8];
    _mm512_storeu_pd(out, t_zmm(_mm512_set_pd(1, 2, 3, 4, 5, 6, 7, 8), _mm512_set1_pd(1)));
    return out[0] == 7 && out[7] == 0;
}

#define N 100
int main(void)
{
    unsigned long avx = 0, wide = 0;
    char text[80];
    for (int i = 0; i < N; i++) {
        CHECK(t_ten(1, 2, 3, 4, 5, 6, 7, 8, 9, 10) == 385);
        CHECK(t_doubles(10, 9, 8, 7, 6, 5, 4, 3, 2, 1) == 5);
        CHECK(t_float(1.5f, 4) == 6.0f);
        CHECK(t_long_double(1.25L) == 2.5L);
        CHECK(t_complex(1 + 2 * I) == -3 + 4 * I);
        CHECK(t_complex_long(1 + 2 * I) == -3 + 4 * I);
        Pair p = t_pair((Pair){1, 2});
        CHECK(p.a == 2 && p.b == 1);
        Mixed m = t_mixed((Mixed){1.5, 2});
        CHECK(m.a == 3 && m.b == 6);
        Big b = t_big((Big){{1, 2, 3, 4, 5, 6}}, i);
        CHECK(b.a[5] == 6 * i);
        Tiny t = t_tiny((Tiny){{7, 8, 9}});
        CHECK(t.c[2] == 7);
        CHECK(t_int128((__int128)1 << 70, 3) == (__int128)3 << 70);
        double two[2];
        _mm_storeu_pd(two, t_xmm(_mm_set_pd(1, 2), _mm_set_pd(3, 4)));
        CHECK(two[0] == 6 && two[1] == 4);
        CHECK(t_variadic(9, 1, 2.5, 3, 4.5, 5, 6.5, 7, 8.5, 9) == 47);
        CHECK(t_format(text, "%d %.3f %s %Lg %.2f", i, 1.5, "x", 2.5L, 3.25) > 10);
        if (__builtin_cpu_supports("avx")) {
            CHECK(ymm());
            avx = N;
        }
        if (__builtin_cpu_supports("avx512f")) {
            CHECK(zmm());
            wide = N;
        }
    }
    puts(text);
    const char *all[] = {"t_ten",          "t_doubles", "t_float",    "t_long_double", "t_complex",
                         "t_complex_long", "t_pair",    "t_mixed",    "t_big",         "t_tiny",
                         "t_int128",       "t_xmm",     "t_variadic", "t_format"};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        calls(all[i], N);
    calls("t_ymm", avx);
    calls("t_zmm", wide);
    return 0;
}
