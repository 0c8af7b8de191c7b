/* A branch back to byte 0 of the function is a loop, not a call (the kernel's uprobe counts 500 for
 * 100). */
#include "target.h"

/* The branch lies in the five bytes that a detour displaces. */
ASM_FUNCTION(t_tight, "dec %edi\n jnz t_tight\n mov $7, %eax\n ret\n .p2align 4,0x90");
/* The branch lies behind them. */
ASM_FUNCTION(t_wide, "lea 3(%rsi), %rsi\n add $1, %rdx\n nop\n nop\n nop\n dec %edi\n jnz t_wide\n "
                     "lea (%rsi,%rdx), %rax\n ret\n .p2align 4,0x90");
/* The flags of one round are alive in the next: adc at byte 0 takes the carry of the add before the
 * branch. */
ASM_FUNCTION(t_carry, "adc $0, %rax\n .byte 0x66,0x90\n dec %edi\n jz 1f\n add %rsi, %rsi\n jmp "
                      "t_carry\n 1: ret\n .p2align 4,0x90");
/* A nested loop, with a call between: the inner call's frame is not the outer's. */
ASM_FUNCTION(t_nested, "push %rbx\n mov %edi, %ebx\n mov $3, %edi\n call t_tight\n mov %ebx, "
                       "%edi\n pop %rbx\n dec %edi\n jnz t_nested\n ret\n .p2align 4,0x90");

extern int t_tight(int), t_nested(int);
extern long t_wide(int, long, long);

static long carry(int n, long seed)
{
    long out;
    __asm__ volatile("xor %%eax, %%eax\n clc\n call t_carry"
                     : "=a"(out), "+D"(n), "+S"(seed)
                     :
                     : "cc", "rcx", "rdx", "memory");
    return out;
}

int main(void)
{
    long sum = 0;
    for (int i = 0; i < 100; i++) {
        sum += t_tight(5);
        sum += t_wide(5, i, 1);
        sum += carry(60, -1L - i);
        sum += t_nested(4);
    }
    printf("sum %ld\n", sum);
    calls("t_tight", 100 + 400);
    calls("t_wide", 100);
    calls("t_carry", 100);
    calls("t_nested", 100);
    return 0;
}
