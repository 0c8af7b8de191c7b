/* Tail calls: direct, through a pointer, with stack arguments; a self tail call by a jump to byte 0
 * is a loop. */
#include "target.h"

static unsigned long ends;
T long t_end(long a, long b)
{
    ends++;
    return a * 2 + b;
}
T long t_middle(long a, long b) { return t_end(a + 1, b); }
T long t_first(long a, long b) { return t_middle(a, b + 1); }
T long t_indirect(long a, long b, long (*f)(long, long)) { return f(b, a); }
T long t_stack(long a, long b, long c, long d, long e, long f, long g, long h) {
    return a + b + c + d + e + f + 2 * g + 3 * h;
}
T long t_to_stack(long a, long b, long c, long d, long e, long f, long g, long h) {
    return t_stack(b, a, d, c, f, e, h, g);
}
T long t_normal(long a)
{
    long x = t_first(a, 1);
    return x + t_indirect(a, 2, t_first);
}
/* The jump is the machine's: with and without an instruction in front of it. */
ASM_FUNCTION(t_self, "lea 1(%rsi), %rsi\n dec %rdi\n jz 1f\n nopl 0(%rax)\n jmp t_self\n 1: mov "
                     "%rsi, %rax\n ret\n .p2align 4,0x90");
ASM_FUNCTION(t_forward, "jmp t_end\n .p2align 4,0x90");
ASM_FUNCTION(t_forward_conditional, "test %rdi, %rdi\n jz t_end\n jmp t_middle\n .p2align 4,0x90");
/* Enters t_self by a tail call and comes back to itself by one: A, B, A on one return address. */
ASM_FUNCTION(t_ping, "dec %rdi\n js 1f\n jmp t_pong\n 1: mov %rsi, %rax\n ret\n .p2align 4,0x90");
ASM_FUNCTION(t_pong, "inc %rsi\n nopl 0(%rax)\n jmp t_ping\n .p2align 4,0x90");
extern long t_self(long, long), t_forward(long, long), t_forward_conditional(long, long),
    t_ping(long, long);

#define N 1000
int main(void)
{
    long sum = 0;
    for (long i = 0; i < N; i++) {
        CHECK(t_normal(i) == 2 * (i + 1) + 2 + 2 * (2 + 1) + i + 1);
        CHECK(t_to_stack(1, 2, 3, 4, 5, 6, i, 8) == 21 + 16 + 3 * i);
        CHECK(t_self(10, i) == i + 10);
        CHECK(t_forward(i, 3) == 2 * i + 3);
        sum += t_forward_conditional(i % 2, i);
        CHECK(t_ping(3, i) == i + 3);
    }
    printf("sum %ld\n", sum);
    CHECK(ends == 4 * N);
    calls("t_end", ends);
    calls("t_middle", 2 * N + N / 2);
    calls("t_first", 2 * N);
    calls("t_indirect", N);
    calls("t_stack", N);
    calls("t_to_stack", N);
    calls("t_normal", N);
    calls("t_self", N);
    calls("t_forward", N);
    calls("t_forward_conditional", N);
    calls("t_ping", 4 * N);
    calls("t_pong", 3 * N);
    return 0;
}
