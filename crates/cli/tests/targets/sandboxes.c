/* Programs that allow themselves no system calls but those that the next part of them makes; any
 * other kills. The argument says what they do then: each way is tried bare first. */
#include "target.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CODE 21

T long t_before(long n) { return n + 1; }
T long t_after(long n) { return n + 2; }

/* Everything in this list, which ends with -1, and the ends of processes. */
static void allow(const int *numbers)
{
    struct sock_filter filter[160];
    unsigned short n = 0;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                               offsetof(struct seccomp_data, nr));
    static const int always[] = { SYS_write, SYS_exit_group, -1 };
    for (const int *list = always; list; list = list == always ? numbers : NULL)
        for (int i = 0; list[i] >= 0; i++) {
            filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                       (unsigned)list[i], 0, 1);
            filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog program = { n, filter };
    CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    /* For all threads. */
    CHECK(!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program));
}

static const int none[] = { -1 };

static void work(void)
{
    for (long i = 0; i < 100; i++)
        CHECK(t_before(i) == i + 1 && t_after(i) == i + 2);
}

static void sandboxed_work(void)
{
    allow(none);
    work();
}

static void *exits(void *unused)
{
    (void)unused;
    sandboxed_work();
    exit(CODE);
}

/* What glibc 2.31 to 2.41 needs for threads that are there already: to end them and to wait. */
#define THREAD_ENDS                                                                                \
    SYS_rt_sigprocmask, SYS_madvise, SYS_munmap, SYS_futex, SYS_exit, SYS_rseq, SYS_set_robust_list
#define THREAD_STARTS THREAD_ENDS, SYS_mmap, SYS_mprotect, SYS_clone, SYS_clone3

static pthread_barrier_t ready;

/* Waits for the sandbox, in which it then works for the first time. */
static void *waits(void *leave)
{
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&ready);
    work();
    if (leave)
        pthread_exit(NULL);
    return NULL;
}

static void *leaves(void *unused)
{
    (void)unused;
    pthread_exit(NULL);
}

/* The first thread, and the first that leaves so, open files. */
static void first_thread(void)
{
    pthread_t first;
    CHECK(!pthread_create(&first, NULL, leaves, NULL) && !pthread_join(first, NULL));
}

static void threads(void *leave)
{
    static const int numbers[] = { THREAD_ENDS, -1 };
    pthread_t all[3];
    first_thread();
    CHECK(!pthread_barrier_init(&ready, NULL, 4));
    for (int i = 0; i < 3; i++)
        CHECK(!pthread_create(&all[i], NULL, waits, leave));
    pthread_barrier_wait(&ready);
    allow(numbers);
    pthread_barrier_wait(&ready);
    for (int i = 0; i < 3; i++)
        CHECK(!pthread_join(all[i], NULL));
}

static void *works(void *unused)
{
    work();
    return unused;
}

static void new_threads(void)
{
    static const int numbers[] = { THREAD_STARTS, -1 };
    first_thread();
    allow(numbers);
    for (int i = 0; i < 20; i++) {
        pthread_t one, two;
        CHECK(!pthread_create(&one, NULL, works, NULL) && !pthread_create(&two, NULL, works, NULL));
        CHECK(!pthread_join(one, NULL) && !pthread_join(two, NULL));
    }
}

static volatile sig_atomic_t handled;
static sigjmp_buf back;

static void handler(int signal)
{
    work();
    handled++;
    if (signal == SIGUSR2)
        siglongjmp(back, 0);
}

static void signals(void)
{
    static const int numbers[] = { SYS_kill, SYS_rt_sigreturn, SYS_rt_sigaction, -1 };
    int self = getpid();
    CHECK(signal(SIGUSR1, handler) == SIG_DFL);
    allow(numbers);
    CHECK(!syscall(SYS_kill, self, SIGUSR1) && handled == 1);
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_NODEFER };
    CHECK(!sigaction(SIGUSR2, &action, NULL));
    if (!sigsetjmp(back, 0))
        syscall(SYS_kill, self, SIGUSR2);
    CHECK(handled == 2);
    work();
}

T long t_deep(long n) { return n == 0 ? 0 : t_deep(n - 1) + 1; }

static void deep(void)
{
    allow(none);
    CHECK(t_deep(5000) == 5000);
    work();
}

static void forks(void)
{
    static const int numbers[] = { SYS_clone, SYS_clone3, SYS_fork, SYS_vfork, SYS_wait4,
                                   SYS_set_robust_list, SYS_rseq, SYS_gettid, -1 };
    allow(numbers);
    int child = fork(), status;
    work();
    if (child == 0)
        _exit(CODE);
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == CODE);
}

/* What a program of glibc's needs to begin. */
static void execs(char **argv)
{
    static const int numbers[] = { SYS_execve, SYS_brk, SYS_arch_prctl, SYS_mmap, SYS_mprotect,
        SYS_munmap, SYS_access, SYS_openat, SYS_read, SYS_pread64, SYS_fstat, SYS_newfstatat,
        SYS_close, SYS_set_tid_address, SYS_set_robust_list, SYS_rseq, SYS_prlimit64, SYS_getrandom,
        SYS_futex, -1 };
    allow(numbers);
    work();
    argv[1] = (char *)"executed";
    execv("/proc/self/exe", argv);
    _exit(97);
}

static void opens(void)
{
    static const int numbers[] = { SYS_mmap, SYS_mprotect, SYS_munmap, SYS_openat, SYS_read,
        SYS_pread64, SYS_fstat, SYS_newfstatat, SYS_close, SYS_brk, -1 };
    allow(numbers);
    void *library = dlopen("libresolv.so.2", RTLD_NOW);
    CHECK(library && dlsym(library, "ns_initparse"));
    work();
    CHECK(!dlclose(library));
    work();
}

static int in_destructor;
__attribute__((destructor)) static void destructor(void)
{
    if (in_destructor)
        sandboxed_work();
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    const char *how = argv[1];
    if (!strcmp(how, "executed"))
        return CODE;
    CHECK(t_before(1) == 2);
    static const struct {
        const char *how;
        unsigned long times;
    } works[] = { { "threads", 3 }, { "pthread_exit", 3 }, { "signals", 3 }, { "new threads", 40 },
                  { "fork", 2 }, { "dlopen", 2 } };
    unsigned long times = 1;
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        if (!strcmp(how, works[i].how))
            times = works[i].times;
    calls("t_before", 1 + 100 * times);
    calls("t_after", 100 * times);
    if (!strcmp(how, "deep"))
        calls("t_deep", 5001);
    fflush(stdout);
    if (!strcmp(how, "threads"))
        threads(NULL);
    else if (!strcmp(how, "pthread_exit"))
        threads(&ready);
    else if (!strcmp(how, "new threads"))
        new_threads();
    else if (!strcmp(how, "signals"))
        signals();
    else if (!strcmp(how, "deep"))
        deep();
    else if (!strcmp(how, "fork"))
        forks();
    else if (!strcmp(how, "exec"))
        execs(argv);
    else if (!strcmp(how, "dlopen"))
        opens();
    else
        goto ends;
    exit(CODE);
ends:
    if (!strcmp(how, "thread exits")) {
        pthread_t thread;
        CHECK(!pthread_create(&thread, NULL, exits, NULL));
        for (;;)
            pause();
    }
    if (!strcmp(how, "atexit")) {
        CHECK(!atexit(sandboxed_work));
        return CODE;
    }
    if (!strcmp(how, "at_quick_exit")) {
        CHECK(!at_quick_exit(sandboxed_work));
        quick_exit(CODE);
    }
    if (!strcmp(how, "destructor")) {
        in_destructor = 1;
        return CODE;
    }
    uintptr_t page = (uintptr_t)t_before & ~4095ul;
    if (!strcmp(how, "writable"))
        CHECK(!mprotect((void *)page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC));
    if (!strcmp(how, "own code")) {
        static const int numbers[] = { SYS_mprotect, -1 };
        allow(numbers);
        work();
        CHECK(!mprotect((void *)page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC));
        CHECK(!mprotect((void *)page, 8192, PROT_READ | PROT_EXEC));
        exit(CODE);
    }
    sandboxed_work();
    if (!strcmp(how, "exit"))
        exit(CODE);
    if (!strcmp(how, "_exit") || !strcmp(how, "writable"))
        _exit(CODE);
    if (!strcmp(how, "quick_exit"))
        quick_exit(CODE);
    if (!strcmp(how, "return"))
        return CODE;
    _exit(98);
}
