/* After start-up the program allows itself next to nothing and goes on calling functions, some for
 * the first time, by detour and by trap. "strict": read, write, exit and return from a signal
 * handler, by the kernel's own strict mode. "filter": also the mask of blocked signals, which every
 * C library needs; then the calls nest deeper than ever before. "sandbox": not that mask, but
 * mprotect and prctl, which the program uses. Anything else kills. */
#include "target.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
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
    int sandbox = !strcmp(argv[1], "sandbox");
    long deep = strcmp(argv[1], "filter") ? 20 : 50000;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    puts("right");
    calls("t_before", 1001);
    calls("t_first_after", 1000);
    calls("t_deep", 21 + (unsigned long)deep + 1);
    calls("t_short", 1000);
    fflush(stdout);
    if (!strcmp(argv[1], "strict"))
        CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    else {
#define ALLOW(name)                                                                                \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1),                                         \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
        struct sock_filter filter[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            ALLOW(read),
            ALLOW(write),
            ALLOW(exit),
            ALLOW(exit_group),
            ALLOW(rt_sigreturn),
            ALLOW(mprotect),
            ALLOW(prctl),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigprocmask, 0, 1),
            BPF_STMT(BPF_RET | BPF_K,
                     sandbox ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ALLOW),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        };
        struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
        CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
              !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
    }
    for (int i = 0; i < 1000; i++)
        if (t_before(i) != i + 1 || t_first_after(i) != i + 2 || t_short(i) != i)
            syscall(SYS_exit, 9);
    if (t_deep(20) != 20 || t_deep(deep) != deep)
        syscall(SYS_exit, 9);
    if (sandbox && (mprotect(page, 4096, PROT_READ | PROT_EXEC) || prctl(PR_SET_NAME, "boxed")))
        syscall(SYS_exit, 9);
    /* As programs do it, where that may be. */
    if (strcmp(argv[1], "strict"))
        _exit(21);
    syscall(SYS_exit, 21);
}
