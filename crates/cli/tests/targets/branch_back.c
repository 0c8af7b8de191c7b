/* Functions that branch back to byte 0, in all the places that a branch can have, and call another
 * that looks at their return addresses: those of `entry:` probes are the program's own. */
#include "target.h"

extern char begin_of_callers[], end_of_callers[];
static int seen;

/* Called by each round of the functions under test, with the address of their return address. */
T void see(void **place)
{
    CHECK((char *)*place > begin_of_callers && (char *)*place < end_of_callers);
    seen++;
}

#define SEE(above) " push %rdi\n lea " above "(%rsp), %rdi\n call see\n pop %rdi\n"

/* Nothing is behind the branch: the instruction before it is displaced, too. */
ASM_FUNCTION(
    t_tail, "test %edi, %edi\n jle 1f\n" SEE("8") " ret\n 1: neg %edi\n add $1, %edi\n jmp t_tail");
/* Nothing is behind it, and the branch itself is branched to. */
ASM_FUNCTION(t_alone,
             "sub $1, %edi\n jl 2f\n cmp $2, %edi\n ja 1f\n" SEE("8") " 2: ret\n 1: jmp t_alone");
/* Conditional, with code behind. */
ASM_FUNCTION(t_middle,
             "push %rbx\n mov %edi, %ebx\n" SEE("16") " mov %ebx, %edi\n pop %rbx\n dec %edi\n jg "
                                                      "t_middle\n lea 7(%rdi), %eax\n cltq\n ret");
/* Too far for a short branch. */
ASM_FUNCTION(t_far,
             "push %rbx\n mov %edi, %ebx\n" SEE(
                 "16") " mov %ebx, %edi\n pop %rbx\n .skip 150, 0x90\n dec %edi\n jg t_far\n ret");
/* The branch stands where another function jumps to. */
ASM_FUNCTION(t_landing,
             "test %edi, %edi\n jle 1f\n dec %edi\n" SEE(
                 "8") " jmp t_landing_part\n 1: ret\n add $1, %edi\n landing: jmp t_landing");
ASM_FUNCTION(t_landing_part, "nop\n nop\n nop\n nop\n nop\n jmp landing");
/* Back to an endbr64, and behind it; one branch stands among the first bytes. */
ASM_FUNCTION(t_pad, "endbr64\n dec %edi\n js 2f\n 1:" SEE(
                        "8") " cmp $3, %edi\n jg t_pad\n dec %edi\n jg t_pad+4\n 2: ret");
ASM_FUNCTION(t_pad_first, "endbr64\n dec %edi\n jg t_pad_first\n" SEE("8") " ret");
/* By the counter. */
ASM_FUNCTION(t_counter, "mov %rcx, %rdi\n push %rcx\n lea 8(%rsp), %rdi\n push %rdi\n call see\n "
                        "pop %rdi\n pop %rcx\n loop t_counter\n nop\n nop\n nop\n ret");
/* The flags of one round are looked at in the next. */
ASM_FUNCTION(
    t_flags,
    "adc $0, %esi\n nop\n nop\n push %rsi\n" SEE(
        "16") " pop %rsi\n dec %edi\n jz 1f\n stc\n jmp t_flags\n 1: mov %esi, %eax\n ret");
/* Two branches side by side. */
ASM_FUNCTION(t_pair, "dec %edi\n js 1f\n" SEE("8") " cmp $5, %edi\n ja t_pair\n jb t_pair\n nop\n "
                                                   "nop\n nop\n nop\n nop\n jmp t_pair\n 1: ret");

/* The callers, in one place. */
__asm__(".text\n.globl begin_of_callers\nbegin_of_callers: nop\n"
        ".globl call\n.type call,@function\ncall:\n.cfi_startproc\n push %rbx\n "
        ".cfi_adjust_cfa_offset 8\n"
        " mov %rdi, %rax\n mov %esi, %edi\n mov %esi, %ecx\n xor %esi, %esi\n xor %edx, %edx\n "
        "call *%rax\n pop %rbx\n .cfi_adjust_cfa_offset -8\n ret\n.cfi_endproc\n.size call,.-call\n"
        ".globl end_of_callers\nend_of_callers: nop\n");
extern int call(void *function, int argument);
extern char t_tail[], t_alone[], t_middle[], t_far[], t_landing[], t_pad[], t_pad_first[],
    t_counter[], t_flags[], t_pair[];

static int rounds(void *function, int argument)
{
    seen = 0;
    int result = 0;
    for (int i = 0; i < 50; i++)
        result = call(function, argument);
    printf("%d rounds, last result %d\n", seen, function == (void *)t_flags ? result : 0);
    return seen;
}

int main(void)
{
    rounds(t_tail, 3);
    rounds(t_tail, -4);
    rounds(t_alone, 8);
    rounds(t_middle, 6);
    rounds(t_far, 6);
    rounds(t_landing, 5);
    rounds(t_pad, 7);
    rounds(t_pad_first, 4);
    rounds(t_counter, 6);
    rounds(t_flags, 4);
    rounds(t_pair, 9);
    calls("t_tail", 100);
    calls("t_alone", 50);
    calls("t_middle", 50);
    calls("t_far", 50);
    calls("t_landing", 50);
    calls("t_pad", 50);
    calls("t_pad_first", 50);
    calls("t_counter", 50);
    calls("t_flags", 50);
    calls("t_pair", 50);
    return 0;
}
