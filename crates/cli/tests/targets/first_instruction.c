/* Functions by their first instruction: what has to be relocated or emulated. */
#include "target.h"

long cell = 40;
double number = 2.5;
#define PAD "\n .p2align 4,0x90"

ASM_FUNCTION(t_rip_load, "mov cell(%rip), %rax\n add $2, %rax\n ret" PAD);
ASM_FUNCTION(t_rip_lea, "lea cell(%rip), %rax\n mov (%rax), %rax\n ret" PAD);
ASM_FUNCTION(t_rip_compare, "cmpq $40, cell(%rip)\n sete %al\n movzbl %al, %eax\n ret" PAD);
ASM_FUNCTION(t_rip_store, "mov %rdi, cell(%rip)\n ret" PAD);
ASM_FUNCTION(t_rip_add, "addq $1, cell(%rip)\n ret" PAD);
ASM_FUNCTION(t_rip_sse, "movsd number(%rip), %xmm1\n mulsd %xmm1, %xmm0\n ret" PAD);
ASM_FUNCTION(t_rip_got, "mov cell@GOTPCREL(%rip), %rax\n mov (%rax), %rax\n ret" PAD);
ASM_FUNCTION(t_rip_jump, "jmp *pointer(%rip)" PAD);
ASM_FUNCTION(t_rip_call, "sub $8, %rsp\n .cfi_adjust_cfa_offset 8\n call *pointer(%rip)\n add $8, "
                         "%rsp\n .cfi_adjust_cfa_offset -8\n ret" PAD);
ASM_FUNCTION(t_rip_call_first, "call *ret_pointer(%rip)\n inc %eax\n ret" PAD);
ASM_FUNCTION(t_jmp8, "jmp 1f\n ud2\n 1: lea 1(%rdi), %rax\n ret" PAD);
ASM_FUNCTION(t_jmp32, ".byte 0xe9; .long 1f - . - 4\n ud2\n 1: lea 2(%rdi), %rax\n ret" PAD);
ASM_FUNCTION(t_jmp_tail, "jmp t_jmp8" PAD);
ASM_FUNCTION(t_jmp_indirect, "jmp *%rdi" PAD);
ASM_FUNCTION(t_call, "call offset_of_caller\n sub $5, %rax\n ret" PAD);
ASM_FUNCTION(t_call_next,
             "call 1f\n 1: pop %rax\n lea t_call_next(%rip), %rdx\n sub %rdx, %rax\n ret" PAD);
ASM_FUNCTION(t_call_indirect, "call *%rdi\n add $1, %rax\n ret" PAD);
ASM_FUNCTION(t_jz, "jz 1f\n mov $1, %eax\n ret\n 1: mov $2, %eax\n ret" PAD);
ASM_FUNCTION(t_jc32,
             ".byte 0x0f,0x82; .long 1f - . - 4\n mov $1, %eax\n ret\n 1: mov $2, %eax\n ret" PAD);
ASM_FUNCTION(t_jrcxz, "jrcxz 1f\n mov $1, %eax\n ret\n 1: mov $2, %eax\n ret" PAD);
ASM_FUNCTION(t_loop, "loop 1f\n mov $1, %eax\n ret\n 1: mov $2, %eax\n ret" PAD);
ASM_FUNCTION(t_endbr64, "endbr64\n lea 3(%rdi), %rax\n ret" PAD);
ASM_FUNCTION(t_endbr64_short, "endbr64\n ret");
ASM_FUNCTION(t_after_short, "mov %rdi, %rax\n ret" PAD);
ASM_FUNCTION(t_nop5, ".byte 0x0f,0x1f,0x44,0x00,0x00\n lea 4(%rdi), %rax\n ret" PAD);
ASM_FUNCTION(t_nop, "nop\n nop\n nop\n nop\n nop\n lea 5(%rdi), %rax\n ret" PAD);
ASM_FUNCTION(t_push, "push %rbp\n .cfi_adjust_cfa_offset 8\n mov %rsp, %rbp\n lea 6(%rdi), %rax\n "
                     "pop %rbp\n .cfi_adjust_cfa_offset -8\n ret" PAD);
ASM_FUNCTION(t_push_rsp, "push %rsp\n .cfi_adjust_cfa_offset 8\n pop %rax\n .cfi_adjust_cfa_offset "
                         "-8\n sub %rsp, %rax\n ret" PAD);
ASM_FUNCTION(
    t_push_imm,
    "push $0x1234567\n .cfi_adjust_cfa_offset 8\n pop %rax\n .cfi_adjust_cfa_offset -8\n ret" PAD);
ASM_FUNCTION(t_ret, "ret" PAD);
ASM_FUNCTION(t_ret_only, "ret");
ASM_FUNCTION(t_ret_n, "ret $16" PAD);
ASM_FUNCTION(t_rep_ret, "rep; ret" PAD);
ASM_FUNCTION(t_pop, "pop %rdx\n .cfi_adjust_cfa_offset -8\n push %rdx\n .cfi_adjust_cfa_offset 8\n "
                    "lea 7(%rdi), %rax\n ret" PAD);
ASM_FUNCTION(t_pushfq, "pushfq\n .cfi_adjust_cfa_offset 8\n pop %rax\n .cfi_adjust_cfa_offset -8\n "
                       "and $0x8d5, %rax\n ret" PAD);
ASM_FUNCTION(t_leave, "sub $24, %rsp\n .cfi_adjust_cfa_offset 24\n mov %rdi, (%rsp)\n mov (%rsp), "
                      "%rax\n add $24, %rsp\n .cfi_adjust_cfa_offset -24\n ret" PAD);
ASM_FUNCTION(t_return_address, "mov (%rsp), %rax\n mov 8(%rsp), %rax\n ret" PAD);
ASM_FUNCTION(t_long_nop, ".byte 0x66,0x2e,0x0f,0x1f,0x84,0,0,0,0,0\n lea 8(%rdi), %rax\n ret" PAD);
ASM_FUNCTION(t_movabs, "movabs $0x1122334455667788, %rax\n ret" PAD);
ASM_FUNCTION(t_rdtsc, "rdtsc\n xor %eax, %eax\n ret" PAD);
ASM_FUNCTION(t_string, "rep stosb\n mov %rdi, %rax\n ret" PAD);
ASM_FUNCTION(t_lock, "lock; incq (%rdi)\n ret" PAD);
ASM_FUNCTION(t_fs_load, "mov %fs:0, %rax\n ret" PAD);

/* How far behind the start of `t_call` its call returns: 5, wherever the call was relocated to. */
__asm__(".text\noffset_of_caller: mov (%rsp), %rax\n lea t_call(%rip), %rdx\n sub %rdx, %rax\n add "
        "$5, %rax\n ret\n .p2align 4");

static long forty_two(void) { return 42; }
long (*pointer)(void) = forty_two;
__asm__(
    ".text\nset_five: mov $5, %eax\n ret\n.data\n.p2align 3\nret_pointer: .quad set_five\n.text");

#define L(name) extern long name(long)
extern long t_rip_load(void), t_rip_lea(void), t_rip_compare(void), t_rip_got(void),
    t_rip_jump(void), t_rip_call(void), t_rip_call_first(void);
extern void t_rip_store(long), t_rip_add(void), t_lock(long *);
extern double t_rip_sse(double);
L(t_jmp8);
L(t_jmp32);
L(t_jmp_tail);
L(t_endbr64);
L(t_nop5);
L(t_nop);
L(t_push);
L(t_pop);
L(t_leave);
L(t_long_nop);
L(t_after_short);
extern long t_jmp_indirect(long (*)(void)), t_call(void), t_call_next(void),
    t_call_indirect(long (*)(void));
extern void t_endbr64_short(void), t_ret(void), t_ret_only(void), t_rep_ret(void);
extern long t_push_rsp(void), t_push_imm(void), t_movabs(void), t_rdtsc(void), t_fs_load(void),
    t_return_address(long, long, long, long, long, long, long);
extern char *t_string(char *, long, long, long);

/* Calls FUNCTION with the given flags (and rcx), returns rax. */
static long with_flags(void *function, long flags, long rcx)
{
    long out;
    __asm__ volatile("push %2\n popfq\n call *%3"
                     : "=a"(out), "+c"(rcx)
                     : "r"(flags | 2), "r"(function)
                     : "cc", "rdx", "memory");
    return out;
}

static long ret_n(void)
{
    long before, after;
    __asm__ volatile("mov %%rsp, %0\n sub $16, %%rsp\n call t_ret_n\n mov %%rsp, %1\n mov %0, %%rsp"
                     : "=&r"(before), "=&r"(after)
                     :
                     : "memory", "cc");
    return after - before;
}

extern void t_jz(void), t_jc32(void), t_jrcxz(void), t_loop(void), t_pushfq(void);

#define N 200
int main(void)
{
    char bytes[16];
    for (long i = 0; i < N; i++) {
        cell = 40;
        CHECK(t_rip_load() == 42);
        CHECK(t_rip_lea() == 40);
        CHECK(t_rip_compare() == 1);
        t_rip_store(i);
        CHECK(cell == i);
        CHECK(t_rip_compare() == (i == 40));
        t_rip_add();
        CHECK(cell == i + 1);
        CHECK(t_rip_got() == i + 1);
        CHECK(t_rip_sse(3.0) == 7.5);
        CHECK(t_rip_jump() == 42);
        CHECK(t_rip_call() == 42);
        CHECK(t_rip_call_first() == 6);
        CHECK(t_jmp8(i) == i + 1);
        CHECK(t_jmp32(i) == i + 2);
        CHECK(t_jmp_tail(i) == i + 1);
        CHECK(t_jmp_indirect(forty_two) == 42);
        CHECK(t_call() == 5);
        CHECK(t_call_next() == 5);
        CHECK(t_call_indirect(forty_two) == 43);
        CHECK(with_flags(t_jz, 0x40, 0) == 2);
        CHECK(with_flags(t_jz, 0x91, 0) == 1);
        CHECK(with_flags(t_jc32, 1, 0) == 2);
        CHECK(with_flags(t_jc32, 0x8d4, 0) == 1);
        CHECK(with_flags(t_jrcxz, 0, 0) == 2);
        CHECK(with_flags(t_jrcxz, 0, 1) == 1);
        CHECK(with_flags(t_loop, 0, 1) == 1);
        CHECK(with_flags(t_loop, 0, 2) == 2);
        for (long bit = 0; bit < 12; bit++) {
            long flag = 1L << bit & 0x8d5;
            CHECK(with_flags(t_pushfq, flag, 0) == flag);
        }
        CHECK(t_endbr64(i) == i + 3);
        t_endbr64_short();
        CHECK(t_after_short(i) == i);
        CHECK(t_nop5(i) == i + 4);
        CHECK(t_nop(i) == i + 5);
        CHECK(t_push(i) == i + 6);
        CHECK(t_push_rsp() == 0);
        CHECK(t_push_imm() == 0x1234567);
        t_ret();
        t_ret_only();
        t_rep_ret();
        CHECK(ret_n() == 0);
        CHECK(t_pop(i) == i + 7);
        CHECK(t_leave(i) == i);
        CHECK(t_return_address(1, 2, 3, 4, 5, 6, 700 + i) == 700 + i);
        CHECK(t_long_nop(i) == i + 8);
        CHECK(t_movabs() == 0x1122334455667788);
        CHECK(t_rdtsc() == 0);
        long out;
        char *end = bytes;
        long count = 16;
        __asm__ volatile("call t_string"
                         : "=a"(out), "+D"(end), "+c"(count)
                         : "a"(i)
                         : "memory", "cc");
        CHECK(end == bytes + 16 && bytes[15] == (char)i);
        t_lock(&cell);
        CHECK(cell == i + 2);
        long self = t_fs_load();
        CHECK(self != 0);
    }
    puts("right");
    const char *once[] = {
        "t_rip_load",       "t_rip_lea",        "t_rip_store",     "t_rip_add",
        "t_rip_sse",        "t_rip_got",        "t_rip_jump",      "t_rip_call",
        "t_rip_call_first", "t_jmp32",          "t_jmp_tail",      "t_jmp_indirect",
        "t_call",           "t_call_next",      "t_call_indirect", "t_endbr64",
        "t_endbr64_short",  "t_after_short",    "t_nop5",          "t_nop",
        "t_push",           "t_push_rsp",       "t_push_imm",      "t_ret",
        "t_ret_only",       "t_ret_n",          "t_rep_ret",       "t_pop",
        "t_leave",          "t_return_address", "t_long_nop",      "t_movabs",
        "t_rdtsc",          "t_string",         "t_lock",          "t_fs_load"};
    const char *twice[] = {"t_rip_compare", "t_jmp8", "t_jz", "t_jc32", "t_jrcxz", "t_loop"};
    for (unsigned i = 0; i < sizeof once / sizeof *once; i++)
        calls(once[i], N);
    for (unsigned i = 0; i < sizeof twice / sizeof *twice; i++)
        calls(twice[i], 2 * N);
    calls("t_pushfq", 12 * N);
    return 0;
}
