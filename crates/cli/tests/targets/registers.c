/* Every general register and every arithmetic flag, at the entry of a function and after its
 * return: what went in is what the function sees, and what it leaves is what the caller sees,
 * whatever the calling convention calls dead. */
#include "target.h"

/* Fifteen registers (all but rsp) and the flags: what to load before the call, what the function
 * saw, what it is to leave, what the caller saw. The symbols are read from assembly. */
uint64_t before[16], seen[16], leave[16], after[16], spare;

#define EACH(op, array)                                                                            \
    op(rax, array, 0) op(rbx, array, 8) op(rcx, array, 16) op(rdx, array, 24) op(rsi, array, 32)   \
        op(rdi, array, 40) op(rbp, array, 48) op(r8, array, 56) op(r9, array, 64)                  \
            op(r10, array, 72) op(r11, array, 80) op(r12, array, 88) op(r13, array, 96)            \
                op(r14, array, 104) op(r15, array, 112)
#define LOAD(reg, array, offset) "mov " #array "+" #offset "(%rip), %" #reg "\n"
#define STORE(reg, array, offset) "mov %" #reg ", " #array "+" #offset "(%rip)\n"
#define BODY                                                                                       \
    EACH(STORE, seen)                                                                              \
    "pushfq\n popq seen+120(%rip)\n" EACH(                                                         \
        LOAD, leave) "pushq leave+120(%rip)\n popfq\n ret\n .p2align 4,0x90"

ASM_FUNCTION(t_detour, "nopl 0(%rax,%rax)\n" BODY);
ASM_FUNCTION(t_store_first, BODY);
/* A window with a branch target: a breakpoint. */
ASM_FUNCTION(t_trap, "nop\n 1: nop\n jrcxz 2f\n 2:" BODY "\n jmp 1b");
/* Loops to its start. */
ASM_FUNCTION(t_loops, "lea 0(%rax), %rax\n nop\n nop\n jmp 1f\n jmp t_loops\n 1:" BODY);

#define CALLER(name)                                                                               \
    __asm__(                                                                                       \
        ".text\n call_" #name                                                                      \
        ":\n push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"              \
        "pushfq\n" EACH(LOAD, before) "pushq before+120(%rip)\n popfq\n call " #name "\n" EACH(    \
            STORE, after) "pushfq\n popq after+120(%rip)\n popfq\n pop %r15\n pop %r14\n pop "     \
                          "%r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");                        \
    extern void call_##name(void)
CALLER(t_detour);
CALLER(t_store_first);
CALLER(t_trap);
CALLER(t_loops);

static uint64_t state = 88172645463325252u;
static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void round_of(void (*call)(void), const char *name)
{
    for (int i = 0; i < 16; i++) {
        before[i] = next();
        leave[i] = next();
    }
    /* Carry, parity, adjust, zero, sign, overflow; and direction, which nobody should set and
     * everybody should keep. */
    before[15] = (next() & 0xcd5) | 0x202;
    leave[15] = (next() & 0xcd5) | 0x202;
    call();
    for (int i = 0; i < 16; i++) {
        if (seen[i] != before[i] || after[i] != leave[i]) {
            dprintf(2, "%s: register %d: before %#lx seen %#lx, left %#lx after %#lx\n", name, i,
                    before[i], seen[i], leave[i], after[i]);
            _exit(99);
        }
    }
}

int main(void)
{
    for (int i = 0; i < 2000; i++) {
        round_of(call_t_detour, "detour");
        round_of(call_t_store_first, "store first");
        round_of(call_t_trap, "trap");
        round_of(call_t_loops, "loops");
    }
    puts("right");
    calls("t_detour", 2000);
    calls("t_store_first", 2000);
    calls("t_trap", 2000);
    calls("t_loops", 2000);
    return 0;
}
