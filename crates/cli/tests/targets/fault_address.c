/* A handler of SIGSEGV that looks at the instruction pointer and the registers: a fault in a
 * relocated instruction is one at its original place. It repairs a register and retries, or skips
 * to the next instruction, which may lie in the displaced bytes. */
#include "target.h"
#include <signal.h>
#include <setjmp.h>

/* The first instruction faults (3 bytes), the next ones would be in the window. */
ASM_FUNCTION(t_first, "mov (%rdi), %rax\n add $1, %rax\n ret\n .p2align 4,0x90");
/* The second faults. */
ASM_FUNCTION(t_second, "xor %eax, %eax\n mov (%rdi), %al\n add $2, %rax\n ret\n .p2align 4,0x90");
/* Behind the window. */
ASM_FUNCTION(t_behind, "mov $0, %eax\n mov (%rdi), %rax\n add $3, %rax\n ret\n .p2align 4,0x90");
/* By trap: a short function. */
ASM_FUNCTION(t_short, "mov (%rdi), %al\n ret\n nop\n ret\n .p2align 4,0x90");
ASM_FUNCTION(t_divide, "cqto\n idiv %rsi\n ret\n .p2align 4,0x90");
ASM_FUNCTION(t_illegal, "ud2\n nop\n nop\n nop\n mov $6, %eax\n ret\n .p2align 4,0x90");
extern long t_first(const long *), t_second(const long *), t_behind(const long *), t_illegal(void);
extern char t_short(const long *);
extern long t_divide(long, long);

static long good = 40;
static long offset, mode;
static uintptr_t base;
static sigjmp_buf out;

static void handler(int signal, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)info;
    offset = (long)(regs[REG_RIP] - base);
    if (signal == SIGSEGV && mode == 0)
        regs[REG_RDI] = (greg_t)&good;
    else if (signal == SIGFPE && mode == 0)
        regs[REG_RSI] = 5;
    else if (mode == 1)
        regs[REG_RIP] += signal == SIGSEGV && base == (uintptr_t)t_short    ? 2
                         : signal == SIGSEGV && base == (uintptr_t)t_second ? 2
                         : signal == SIGSEGV || signal == SIGFPE            ? 3
                                                                            : 2;
    else
        siglongjmp(out, 1);
}

#define TRY(name, expression)                                                                      \
    do {                                                                                           \
        base = (uintptr_t)name;                                                                    \
        offset = -1;                                                                               \
        volatile long result = -7;                                                                 \
        if (!sigsetjmp(out, 1))                                                                    \
            result = (long)(expression);                                                           \
        if (i == 0)                                                                                \
            printf("%s mode %ld: fault at +%ld, result %ld\n", #name, mode, offset,                \
                   mode == 1 ? result & 0xff : result);                                            \
    } while (0)

int main(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    const long *bad = (const long *)0x10;
    __asm__("" : "+r"(bad));
    for (mode = 0; mode < 3; mode++)
        for (int i = 0; i < 50; i++) {
            __asm__ volatile("mov $17, %%eax" : : : "rax");
            TRY(t_first, mode == 1 ? (t_first(bad), 0) : t_first(bad));
            TRY(t_second, t_second(bad));
            TRY(t_behind, t_behind(bad));
            TRY(t_short, mode == 1 ? (t_short(bad), 0) : t_short(bad));
            TRY(t_divide, mode == 1 ? (t_divide(100, 0), 0) : t_divide(100, 0));
            if (mode)
                TRY(t_illegal, t_illegal());
        }
    const char *all[] = {"t_first", "t_second", "t_behind", "t_short", "t_divide"};
    for (int i = 0; i < 5; i++)
        calls(all[i], 150);
    calls("t_illegal", 100);
    return 0;
}
