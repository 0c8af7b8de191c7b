/* A live red zone: 128 bytes below rsp that leaf code owns, at probes inside a leaf and in a leaf
 * that branches back to its start. */
#include "target.h"

#define FILL                                                                                       \
    "mov %rdi, -8(%rsp)\n mov %rsi, -16(%rsp)\n mov %rdi, -64(%rsp)\n mov %rsi, -120(%rsp)\n mov " \
    "%rdi, -128(%rsp)\n"
#define TAKE                                                                                       \
    "mov -8(%rsp), %rax\n add -16(%rsp), %rax\n add -64(%rsp), %rax\n add -120(%rsp), %rax\n add " \
    "-128(%rsp), %rax\n"
/* 25 bytes of stores, then the place of the probe (t_leaf+25), then the loads. */
ASM_FUNCTION(t_leaf, FILL "t_leaf_middle: nopl 0(%rax,%rax)\n" TAKE "ret\n .p2align 4,0x90");
/* The same with a place that only a breakpoint can take. */
ASM_FUNCTION(t_short_leaf,
             FILL "1: nop\n nop\n jrcxz 2f\n 2:" TAKE "ret\n jmp 1b\n .p2align 4,0x90");
/* Branches back to byte 0 with the red zone alive: the first round fills, the last one reads. */
ASM_FUNCTION(t_looping_leaf, "lea -1(%rdx), %rdx\n nop\n test %rdx, %rdx\n jz 1f\n" FILL
                             "jmp t_looping_leaf\n 1:" TAKE "ret\n .p2align 4,0x90");

extern const char t_leaf_middle[];
extern long t_leaf(long, long), t_short_leaf(long, long), t_looping_leaf(long, long, long);

T long t_compiled(const long *v)
{
    volatile long a[12];
    for (int i = 0; i < 12; i++)
        a[i] = v[i] * 3;
    long sum = 0;
    for (int i = 0; i < 12; i++)
        sum += a[i];
    return sum;
}

int main(void)
{
    long values[12];
    CHECK(t_leaf_middle == (const char *)t_leaf + 25);
    for (long i = 0; i < 1000; i++) {
        CHECK(t_leaf(i, 1000) == 3 * i + 2000);
        CHECK(t_short_leaf(i, 1000) == 3 * i + 2000);
        CHECK(t_looping_leaf(i, 1000, 5) == 3 * i + 2000);
        for (long k = 0; k < 12; k++)
            values[k] = i + k;
        CHECK(t_compiled(values) == 36 * i + 198);
    }
    puts("right");
    calls("t_leaf", 1000);
    calls("t_short_leaf", 1000);
    calls("t_looping_leaf", 1000);
    calls("t_compiled", 1000);
    return 0;
}
