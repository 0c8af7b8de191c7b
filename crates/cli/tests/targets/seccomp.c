/* After start-up the program allows itself next to nothing (read, write, exit, return from a signal handler; anything else kills it) and goes
 * on calling functions, some for the first time, by detour and by trap. */
#include "target.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

T long t_before(long n) { return n + 1; }
T long t_first_after(long n) { return n + 2; }
T long t_deep(long n)
{
    if (n == 0)
        return 0;
    return t_deep(n - 1) + 1;
}
ASM_FUNCTION(t_short, "mov %edi, %eax\n ret\n nop; ret\n .p2align 4,0x90");
extern int t_short(int);

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    CHECK(t_before(1) == 2);
    puts("right");
    calls("t_before", 1001);
    calls("t_first_after", 1000);
    calls("t_deep", 1001 + 50001);
    calls("t_short", 1000);
    fflush(stdout);
    if (!strcmp(argv[1], "strict"))
        CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    else {
#define ALLOW(name) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
        struct sock_filter filter[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            ALLOW(read), ALLOW(write), ALLOW(exit), ALLOW(exit_group), ALLOW(rt_sigreturn),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        };
        struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
        CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
    }
    for (int i = 0; i < 1000; i++)
        if (t_before(i) != i + 1 || t_first_after(i) != i + 2 || t_short(i) != i)
            syscall(SYS_exit, 9);
    if (t_deep(1000) != 1000 || t_deep(50000) != 50000)
        syscall(SYS_exit, 9);
    syscall(SYS_exit, 21);
}
