/* A branch into byte 2 (and 3, and 4) of what a detour would displace. */
#include "target.h"

ASM_FUNCTION(t_byte2,
             "xor %eax, %eax\n 1: add $2, %eax\n dec %edi\n jnz 1b\n ret\n .p2align 4,0x90");
ASM_FUNCTION(t_byte3,
             "mov %rsi, %rax\n 1: lea 3(%rax), %rax\n dec %edi\n jnz 1b\n ret\n .p2align 4,0x90");
ASM_FUNCTION(t_byte4,
             "lea 4(%rsi), %rax\n 1: inc %rax\n dec %edi\n jnz 1b\n ret\n .p2align 4,0x90");
ASM_FUNCTION(t_byte1, "push %rbx\n 1: pop %rbx\n mov %edi, %eax\n dec %edi\n push %rbx\n jnz 1b\n "
                      "pop %rbx\n ret\n .p2align 4,0x90");
/* Another function jumps into this one's window. */
ASM_FUNCTION(t_shared,
             "xor %eax, %eax\n .globl inside\n inside: add $9, %eax\n ret\n .p2align 4,0x90");
ASM_FUNCTION(t_jumps_into, "mov $100, %eax\n jmp inside\n .p2align 4,0x90");
/* A jump table whose entry is byte 2. */
ASM_FUNCTION(
    t_table,
    "xor %eax, %eax\n t_table_2: add $5, %eax\n dec %edi\n jz 1f\n lea t_table_targets(%rip), "
    "%rdx\n movslq (%rdx), %rcx\n add %rdx, %rcx\n jmp *%rcx\n 1: ret\n .p2align 4,0x90\n .section "
    ".rodata\n .p2align 2\n t_table_targets: .long t_table_2 - t_table_targets\n .text");

extern int t_byte1(int), t_byte2(int), t_shared(void), t_jumps_into(void), t_table(int);
extern long t_byte3(int, long), t_byte4(int, long);

int main(void)
{
    long sum = 0;
    for (int i = 1; i <= 1000; i++) {
        CHECK(t_byte1(4) == 1);
        sum += t_byte2(i) + t_byte3(i, 7) + t_byte4(i, 8);
        CHECK(t_shared() == 9);
        CHECK(t_jumps_into() == 109);
        CHECK(t_table(i) == 5 * i);
    }
    printf("sum %ld\n", sum);
    calls("t_byte1", 1000);
    calls("t_byte2", 1000);
    calls("t_byte3", 1000);
    calls("t_byte4", 1000);
    calls("t_shared", 1000);
    calls("t_jumps_into", 1000);
    calls("t_table", 1000);
    return 0;
}
