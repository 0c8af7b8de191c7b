/* Threads that may make no system call but those of a list: whoever makes another one is killed,
 * and the process with it. First what is to be done, one line each:
 *   a     a thread calls t_work and waits; with the next line it may only end: t_work 1000 times
 *   b N   N threads, at the same time, may make those of the list: t_work 1000 times each
 *   c     the process itself may only make those that this program needs from here on (it begins
 *         threads, too), and those of the list
 * Each line is answered by "LETTER N", with the number of calls of t_work. At the end of its input
 * it ends with 7.
 * The list: the numbers that are its arguments. */
#include "target.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

T unsigned long t_work(unsigned long n) { return n * 3 + 1; }

static int list[32], listed;
/* From linux/filter.h and linux/seccomp.h, which musl's compiler does not find. */
struct filter {
    uint16_t code;
    uint8_t yes, no;
    uint32_t k;
};
struct program {
    uint16_t length;
    struct filter *code;
};
enum { LOAD_NUMBER = 0x20, IF_EQUAL = 0x15, RETURN = 0x06 };
#define ALLOWED 0x7fff0000u
#define KILL_PROCESS 0x80000000u
enum { SECCOMP_FILTER = 2 };

/* Threads of glibc and musl begin and end with these. */
static const int own[] = { SYS_read, SYS_write, SYS_clone, SYS_clone3, SYS_mmap, SYS_mprotect,
    SYS_munmap, SYS_madvise, SYS_set_robust_list, SYS_rseq, SYS_futex, SYS_rt_sigprocmask,
    SYS_gettid, SYS_prctl, SYS_nanosleep, SYS_clock_nanosleep, SYS_rt_sigaction,
    SYS_getrandom, SYS_brk };
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

/* For the calling thread, and those that it begins. */
static void allow(const int *numbers, int count, int with_own)
{
    struct filter code[128] = { { LOAD_NUMBER } };
    int n = 1;
    int ends[] = { SYS_exit, SYS_exit_group };
    const struct {
        const int *numbers;
        int count;
    } all[] = { { numbers, count }, { own, with_own ? sizeof own / sizeof *own : 0 }, { ends, 2 } };
    for (int of = 0; of < 3; of++)
        for (int i = 0; i < all[of].count; i++) {
            code[n++] = (struct filter) { IF_EQUAL, 0, 1, all[of].numbers[i] };
            code[n++] = (struct filter) { RETURN, 0, 0, ALLOWED };
        }
    code[n++] = (struct filter) { RETURN, 0, 0, KILL_PROCESS };
    struct program program = { n, code };
    CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_FILTER, &program));
}

static unsigned long work(void)
{
    unsigned long x = 1;
    for (int i = 0; i < 1000; i++)
        x = t_work(x);
    return x;
}

static unsigned long done;

/* Ends without what the C library would do. */
static void end(void)
{
    __atomic_fetch_add(&done, 1, __ATOMIC_RELEASE);
    for (;;)
        syscall(SYS_exit, 0);
}

static void *warm(void *unused)
{
    t_work(1);
    /* Until the main thread has read the next line. */
    pthread_mutex_lock(&turn);
    allow(list, 0, 0);
    work();
    end();
    return unused;
}

static unsigned long here, wanted;

static void *cold(void *unused)
{
    allow(list, listed, 0);
    work();
    /* None has the place of one that has ended. */
    __atomic_fetch_add(&here, 1, __ATOMIC_RELAXED);
    while (__atomic_load_n(&here, __ATOMIC_RELAXED) < wanted)
        ;
    end();
    return unused;
}

static void await(unsigned long threads)
{
    while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) < threads)
        usleep(1000);
    done = 0;
}

static void line(char *text, int size)
{
    int n = 0;
    while (n < size - 1 && read(0, text + n, 1) == 1 && text[n] != '\n')
        n++;
    text[n] = 0;
}

static void answer(char letter, unsigned long n)
{
    char text[32];
    int length = snprintf(text, sizeof text, "%c %lu\n", letter, n);
    CHECK(write(1, text, length) == length);
}

int main(int argc, char **argv)
{
    char text[32];
    pthread_t thread;
    while (listed < argc - 1) {
        list[listed] = atoi(argv[listed + 1]);
        listed++;
    }
    while (line(text, sizeof text), text[0]) {
        char letter = text[0];
        unsigned long n = atoi(text + 1), own = 0;
        switch (letter) {
        case 'a':
            pthread_mutex_lock(&turn);
            CHECK(!pthread_create(&thread, NULL, warm, NULL));
            answer(letter, 0);
            line(text, sizeof text);
            pthread_mutex_unlock(&turn);
            await(1);
            /* The thread has ended with it. */
            pthread_mutex_init(&turn, NULL);
            own = 1001;
            break;
        case 'b':
            here = 0;
            wanted = n;
            for (unsigned long i = 0; i < n; i++)
                CHECK(!pthread_create(&thread, NULL, cold, NULL));
            await(n);
            own = 1000 * n;
            break;
        case 'c':
            allow(list, listed, 1);
            break;
        }
        answer(letter, own);
    }
    _exit(7);
}
