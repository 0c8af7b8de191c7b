/* Functions of one to four bytes, padded behind and packed against each other. */
#include "target.h"

#define PAD "\n .p2align 4,0x90"
ASM_FUNCTION(t_three, "mov %edi, %eax\n ret" PAD);
ASM_FUNCTION(t_four, "mov %rdi, %rax\n ret" PAD);
ASM_FUNCTION(t_three_int3, "xor %eax, %eax\n ret\n .fill 13,1,0xcc");
ASM_FUNCTION(t_packed1, "ret");
ASM_FUNCTION(t_packed2, "nop\n ret");
ASM_FUNCTION(t_packed3, "mov %edi, %eax\n ret");
ASM_FUNCTION(t_packed4, "mov %rdi, %rax\n ret");
ASM_FUNCTION(t_packed_jump, "jmp t_packed4");
ASM_FUNCTION(t_packed_push, "push %rdi\n pop %rax\n ret");
ASM_FUNCTION(t_packed_carry, "sbb %eax, %eax\n ret");
ASM_FUNCTION(t_packed_last, "mov %edi, %eax\n ret");
__asm__(".globl data_behind\ndata_behind: .long 0x12345678\n");

#define L(name) extern long name(long)
extern const int data_behind;
extern int t_three(int), t_three_int3(void), t_packed3(int), t_packed_last(int);
extern void t_packed1(void), t_packed2(void);
L(t_four); L(t_packed4); L(t_packed_jump); L(t_packed_push);

int main(void)
{
    for (int i = 0; i < 500; i++) {
        int carry;
        CHECK(t_three(i) == i);
        CHECK(t_four(-i) == -i);
        CHECK(t_three_int3() == 0);
        t_packed1();
        t_packed2();
        CHECK(t_packed3(i) == i);
        CHECK(t_packed4(i) == i);
        CHECK(t_packed_jump(i) == i);
        CHECK(t_packed_push(i) == i);
        __asm__ volatile("cmp $250, %1\n call t_packed_carry"
                         : "=&a"(carry)
                         : "r"(i)
                         : "cc", "memory");
        CHECK(carry == (i < 250 ? -1 : 0));
        CHECK(t_packed_last(i) == i);
    }
    CHECK(data_behind == 0x12345678);
    puts("right");
    calls("t_three", 500);
    calls("t_four", 500);
    calls("t_three_int3", 500);
    calls("t_packed1", 500);
    calls("t_packed2", 500);
    calls("t_packed3", 500);
    calls("t_packed4", 1000);
    calls("t_packed_jump", 500);
    calls("t_packed_push", 500);
    calls("t_packed_carry", 500);
    calls("t_packed_last", 500);
    return 0;
}
