/* A child of vfork changes its dispositions and masks, as programs do before they execute another:
 * nothing changes for the parent. Nor does it where the child is made by posix_spawn or clone. */
#include "target.h"
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

static volatile sig_atomic_t got, in_child;
T void t_handler(int s) { got++; }
T void t_other(int s) { in_child++; }
extern char **environ;

static void expect(int signal, void (*handler)(int), int flags)
{
    struct sigaction now;
    CHECK(sigaction(signal, NULL, &now) == 0);
    CHECK(now.sa_handler == handler && (now.sa_flags & SA_RESTART) == flags);
}

/* What shells, Python and debuggers do in the child. */
T void t_child(int how)
{
    expect(SIGUSR1, t_handler, SA_RESTART);
    sigset_t none;
    sigemptyset(&none);
    if (how == 0)
        signal(SIGUSR1, SIG_DFL);
    else if (how == 1)
        signal(SIGUSR1, SIG_IGN);
    else {
        struct sigaction other = { .sa_handler = t_other };
        sigaction(SIGUSR1, &other, NULL);
        expect(SIGUSR1, t_other, 0);
        raise(SIGUSR1);
    }
    if (how < 2)
        expect(SIGUSR1, how == 0 ? SIG_DFL : SIG_IGN, how == 0 ? SA_RESTART : SA_RESTART);
    signal(SIGTRAP, SIG_DFL);
    signal(SIGUSR2, SIG_IGN);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execl("/bin/true", "true", NULL);
    _exit(98);
}

static int on_clone_stack(void *how)
{
    t_child((long)how);
    return 0;
}

static void ends(pid_t child)
{
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

int main(void)
{
    static char stack[64 << 10];
    struct sigaction mine = { .sa_handler = t_handler, .sa_flags = SA_RESTART };
    sigset_t traps, now;
    CHECK(sigaction(SIGUSR1, &mine, NULL) == 0 && signal(SIGUSR2, SIG_DFL) != SIG_ERR);
    sigemptyset(&traps);
    sigaddset(&traps, SIGTRAP);
    CHECK(sigprocmask(SIG_BLOCK, &traps, NULL) == 0);
    int rounds = 0;
    for (int how = 0; how < 3; how++) {
        for (int way = 0; way < 3; way++) {
            pid_t child;
            if (way == 0) {
                volatile int kept = how;
                child = vfork();
                if (child == 0)
                    t_child(kept);
            } else if (way == 1) {
                child = clone(on_clone_stack, stack + sizeof stack,
                              CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)(long)how);
            } else {
                posix_spawnattr_t attributes;
                sigset_t all;
                char *arguments[] = { "true", NULL };
                sigfillset(&all);
                posix_spawnattr_init(&attributes);
                posix_spawnattr_setflags(&attributes,
                                         POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
                posix_spawnattr_setsigdefault(&attributes, &all);
                posix_spawnattr_setsigmask(&attributes, &traps);
                CHECK(posix_spawn(&child, "/bin/true", NULL, &attributes, arguments, environ) == 0);
            }
            ends(child);
            expect(SIGUSR1, t_handler, SA_RESTART);
            expect(SIGUSR2, SIG_DFL, SA_RESTART);
            CHECK(sigprocmask(SIG_BLOCK, NULL, &now) == 0 && sigismember(&now, SIGTRAP));
            raise(SIGUSR1);
            CHECK(got == ++rounds);
        }
        CHECK(in_child == (how == 2 ? 2 : 0));
    }
    /* A fork child has dispositions and a table of its own. */
    pid_t child = fork();
    if (child == 0) {
        signal(SIGUSR1, SIG_DFL);
        expect(SIGUSR1, SIG_DFL, SA_RESTART);
        _exit(0);
    }
    ends(child);
    expect(SIGUSR1, t_handler, SA_RESTART);
    printf("handled %d times, %d in children\n", (int)got, (int)in_child);
    calls("t_handler", rounds);
    calls("t_other", 2);
    calls("t_child", 6);
    return 0;
}
