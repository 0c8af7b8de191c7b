/* The program's own view of signals: dispositions and masks are what it set, for SIGTRAP and
 * SIGILL, too; probed functions, by trap as by detour, run under full masks and in handlers that
 * block everything. */
#include "target.h"
#include <pthread.h>
#include <signal.h>

/* Only a trap fits. */
ASM_FUNCTION(t_short, "mov %edi, %eax\n ret\n nop; ret\n .p2align 4,0x90");
extern int t_short(int);
static unsigned long shorts, longs;
T int t_long(int n)
{
    longs++;
    return n + 1;
}

static volatile int traps, ills;
static int use(int n)
{
    shorts++;
    return t_short(n) + t_long(n) - 1;
}
static void on_trap(int signal) { traps += signal == SIGTRAP && use(4) == 8; }
static void on_ill(int signal, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    ills +=
        signal == SIGILL && info->si_addr == (void *)u->uc_mcontext.gregs[REG_RIP] && use(2) == 4;
    u->uc_mcontext.gregs[REG_RIP] += 2;
}

static const char *disposition(int signal)
{
    struct sigaction old;
    CHECK(!sigaction(signal, NULL, &old));
    if (old.sa_flags & SA_SIGINFO)
        return "siginfo handler";
    return old.sa_handler == SIG_DFL   ? "default"
           : old.sa_handler == SIG_IGN ? "ignored"
                                       : "handler";
}

static void show(const char *when)
{
    sigset_t mask;
    CHECK(!pthread_sigmask(SIG_SETMASK, NULL, &mask));
    printf("%s: trap %s, ill %s, segv %s; blocked:", when, disposition(SIGTRAP),
           disposition(SIGILL), disposition(SIGSEGV));
    for (int i = 1; i < 65; i++)
        if (sigismember(&mask, i) == 1)
            printf(" %d", i);
    puts("");
    fflush(stdout);
}

static void *thread(void *unused)
{
    (void)unused;
    show("thread");
    for (int i = 0; i < 100; i++)
        CHECK(use(i) == 2 * i);
    return NULL;
}

int main(void)
{
    show("start");
    CHECK(use(1) == 2);
    /* A handler of its own for SIGTRAP: raised, and by an int3 of the program's own. */
    struct sigaction action = {.sa_handler = on_trap, .sa_flags = SA_RESTART}, old;
    sigfillset(&action.sa_mask);
    CHECK(!sigaction(SIGTRAP, &action, NULL));
    CHECK(!sigaction(SIGTRAP, NULL, &old));
    CHECK(old.sa_handler == on_trap && old.sa_flags & SA_RESTART &&
          sigismember(&old.sa_mask, SIGUSR1) == 1);
    for (int i = 0; i < 50; i++) {
        raise(SIGTRAP);
        __asm__ volatile("int3");
        CHECK(use(i) == 2 * i);
    }
    printf("traps %d\n", traps);
    /* And for SIGILL, stepping over ud2. */
    struct sigaction ill = {.sa_sigaction = on_ill, .sa_flags = SA_SIGINFO | SA_NODEFER};
    CHECK(!sigaction(SIGILL, &ill, NULL));
    for (int i = 0; i < 50; i++)
        __asm__ volatile("ud2");
    printf("ills %d\n", ills);
    show("handlers");
    /* signal() and its answer. */
    CHECK(signal(SIGTRAP, SIG_IGN) == on_trap);
    CHECK(signal(SIGTRAP, on_trap) == SIG_IGN);
    CHECK(signal(SIGTRAP, SIG_IGN) == on_trap);
    raise(SIGTRAP);
    CHECK(use(3) == 6);
    show("ignored");
    /* Everything blocked. */
    sigset_t all, before, pending;
    sigfillset(&all);
    CHECK(!sigprocmask(SIG_BLOCK, &all, &before));
    show("blocked");
    for (int i = 0; i < 100; i++)
        CHECK(use(i) == 2 * i);
    CHECK(signal(SIGTRAP, on_trap) == SIG_IGN);
    raise(SIGTRAP);
    raise(SIGUSR1);
    CHECK(use(5) == 10);
    CHECK(!sigpending(&pending));
    printf("pending: trap %d usr1 %d\n", sigismember(&pending, SIGTRAP),
           sigismember(&pending, SIGUSR1));
    pthread_t id;
    CHECK(!pthread_create(&id, NULL, thread, NULL) && !pthread_join(id, NULL));
    int got = 0;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    CHECK(!sigwait(&one, &got) && got == SIGUSR1);
    CHECK(!sigprocmask(SIG_SETMASK, &before, NULL));
    printf("traps %d\n", traps);
    show("end");
    /* Each of the 101 traps and 50 ills used both once. */
    calls("t_short", shorts);
    calls("t_long", longs);
    return 0;
}
