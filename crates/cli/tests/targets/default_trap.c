/* A SIGTRAP or SIGILL that nobody handles kills the program as it always did. */
#include "target.h"
#include <signal.h>
T int t_work(int n) { return n + 1; }
ASM_FUNCTION(t_short, "mov %edi, %eax\n ret\n nop; ret\n .p2align 4,0x90");
extern int t_short(int);
int main(int argc, char **argv)
{
    CHECK(argc == 2);
    CHECK(t_work(1) == 2 && t_short(4) == 4);
    calls("t_work", 1);
    calls("t_short", 1);
    fflush(stdout);
    if (!strcmp(argv[1], "raise"))
        raise(SIGTRAP);
    else if (!strcmp(argv[1], "int3"))
        __asm__ volatile("int3");
    else if (!strcmp(argv[1], "ud2"))
        __asm__ volatile("ud2");
    else if (!strcmp(argv[1], "blocked")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        __asm__ volatile("int3");
    }
    return 0;
}
