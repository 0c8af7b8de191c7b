/* A state machine of mutual tail calls, a million transitions on one return address. Each state
 * counts itself. */
#include "target.h"

unsigned long count[4];
#define STATE(n, next, odd)                                                                        \
    ASM_FUNCTION(t_state##n,                                                                       \
                 "incq count+8*" #n "(%rip)\n dec %rdi\n js 1f\n test $1, %dil\n jnz t_state" #odd \
                 "\n jmp t_state" #next "\n 1: lea " #n "(%rsi), %rax\n ret\n .p2align 4,0x90")
STATE(0, 1, 2);
STATE(1, 2, 3);
STATE(2, 3, 0);
STATE(3, 0, 1);
extern long t_state0(long, long);
T long t_start(long n) { return t_state0(n, 10) + 1; }

int main(void)
{
    long end = t_start(1000000);
    end += t_start(63) + t_start(64) + t_start(65);
    printf("end %ld, states %lu %lu %lu %lu\n", end, count[0], count[1], count[2], count[3]);
    calls("t_start", 4);
    calls("t_state0", count[0]);
    calls("t_state1", count[1]);
    calls("t_state2", count[2]);
    calls("t_state3", count[3]);
    return 0;
}
