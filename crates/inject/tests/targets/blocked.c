// Threads that wait in one kind of system call each, again and again, and start a thread each time,
// until standard input ends. Says which of them ever got something else than they should.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MS = 60 };
static const struct timespec TIME = {0, MS * 1000000};
static volatile int stop;
static char folder[] = "/tmp/trapline-inject-XXXXXX";
static int wakes[2], listener, queue, word;
static struct sockaddr_un address = {AF_UNIX, ""};

static int timer(void) {
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec when = {{0, 0}, TIME};
    timerfd_settime(fd, 0, &when, 0);
    return fd;
}

static int closing(int result, int fd) {
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

// 0: the time was over.
static int over(int result, int error) { return result < 0 && errno == error ? 0 : result - 2; }

static int epoll_ready(void) {
    int e = epoll_create1(0), t = timer();
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(e, EPOLL_CTL_ADD, t, &event);
    return closing(closing(epoll_wait(e, &event, 1, -1) - 1, e), t);
}
static int epoll_time(void) {
    struct epoll_event event;
    int e = epoll_create1(0);
    return closing(epoll_wait(e, &event, 1, MS), e);
}
static int epoll_mask(void) {
    struct epoll_event event;
    sigset_t all;
    sigfillset(&all);
    int e = epoll_create1(0);
    return closing(epoll_pwait(e, &event, 1, MS, &all), e);
}
static int nano(void) { return nanosleep(&TIME, 0); }
static int clock_nano(void) { return clock_nanosleep(CLOCK_MONOTONIC, 0, &TIME, 0); }
static int poll_time(void) { return poll(0, 0, MS); }
static int poll_mask(void) {
    sigset_t all;
    sigfillset(&all);
    struct timespec time = TIME;
    return ppoll(0, 0, &time, &all);
}
static int select_time(void) {
    struct timeval time = {0, MS * 1000};
    return select(0, 0, 0, 0, &time);
}
static int futex_time(void) {
    int own = 0;
    return over(syscall(SYS_futex, &own, FUTEX_WAIT_PRIVATE, 0, &TIME, 0, 0), ETIMEDOUT);
}
static int futex_wake(void) {
    int seen = __atomic_load_n(&word, __ATOMIC_RELAXED);
    int result = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, 0, 0, 0);
    return result != 0 && errno != EAGAIN;
}
static int read_timer(void) {
    int t = timer();
    long count;
    return closing(read(t, &count, 8) != 8, t);
}
static int read_pipe(void) {
    char byte;
    return read(wakes[0], &byte, 1) != 1;
}
static int accept_one(void) {
    int fd = accept(listener, 0, 0);
    return fd < 0 ? 1 : closing(0, fd);
}
static int receive_time(void) {
    int pair[2];
    char byte;
    struct timeval time = {0, MS * 1000};
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    return closing(closing(over(recv(pair[0], &byte, 1, 0), EAGAIN), pair[0]), pair[1]);
}
static int signal_time(void) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR2);
    return over(sigtimedwait(&one, 0, &TIME), EAGAIN);
}
static int semaphore_time(void) {
    int id = semget(IPC_PRIVATE, 1, 0600);
    struct sembuf down = {0, -1, 0};
    int result = semtimedop(id, &down, 1, &TIME), error = errno;
    semctl(id, 0, IPC_RMID);
    errno = error;
    return over(result, EAGAIN);
}
static int message(void) {
    struct {
        long kind;
        char text[8];
    } found;
    return msgrcv(queue, &found, 8, 0, 0) != 1;
}
static int wait_child(void) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        nanosleep(&TIME, 0);
        _exit(0);
    }
    return waitpid(child, &status, 0) != child;
}
static int file_lock(void) {
    char name[128];
    snprintf(name, sizeof name, "%s/lock", folder);
    int a = open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600), b = open(name, O_RDWR | O_CLOEXEC);
    flock(a, LOCK_EX);
    pid_t child = fork();
    if (child == 0) {
        nanosleep(&TIME, 0);
        flock(a, LOCK_UN);
        _exit(0);
    }
    close(a);
    int result = flock(b, LOCK_EX), error = errno;
    while (waitpid(child, 0, 0) < 0 && errno == EINTR)
        ;
    errno = error;
    return closing(result, b);
}
static int inotify_one(void) {
    char events[512];
    int i = inotify_init();
    inotify_add_watch(i, folder, IN_CREATE);
    return closing(read(i, events, sizeof events) <= 0, i);
}
static int vfork_child(void) {
    pid_t child = vfork();
    if (child == 0) {
        syscall(SYS_nanosleep, &TIME, 0);
        _exit(0);
    }
    return waitpid(child, 0, 0) != child;
}

#define KIND(name) {#name, name, 0, 0, 0}
static struct kind {
    const char *name;
    int (*call)(void);
    long rounds, bad;
    int error;
} kinds[] = {
    KIND(epoll_ready),  KIND(epoll_time),   KIND(epoll_mask),  KIND(nano),
    KIND(clock_nano),   KIND(poll_time),    KIND(poll_mask),   KIND(select_time),
    KIND(futex_time),   KIND(futex_wake),   KIND(read_timer),  KIND(read_pipe),
    KIND(accept_one),   KIND(receive_time), KIND(signal_time), KIND(semaphore_time),
    KIND(message),      KIND(wait_child),   KIND(file_lock),   KIND(inotify_one),
    KIND(vfork_child),
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void *nothing(void *argument) { return argument; }

static void *run(void *argument) {
    struct kind *kind = argument;
    do {
        pthread_t other;
        if (pthread_create(&other, 0, nothing, 0) || pthread_join(other, 0))
            kind->bad++;
        errno = 0;
        if (kind->call()) {
            kind->bad++;
            kind->error = errno;
        }
        __atomic_add_fetch(&kind->rounds, 1, __ATOMIC_RELEASE);
    } while (!stop);
    return 0;
}

// Wakes those that wait without a limit.
static void wake(void) {
    char name[128];
    struct {
        long kind;
        char text[8];
    } note = {1, "a"};
    snprintf(name, sizeof name, "%s/new", folder);
    close(open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    unlink(name);
    if (write(wakes[1], "x", 1) != 1)
        abort();
    msgsnd(queue, &note, 1, IPC_NOWAIT);
    __atomic_add_fetch(&word, 1, __ATOMIC_RELAXED);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    connect(s, (void *)&address, sizeof address);
    close(s);
}

static void *wakes_others(void *argument) {
    while (!*(volatile int *)argument) {
        usleep(MS * 1000);
        wake();
    }
    return 0;
}

int main(void) {
    pthread_t threads[KINDS], waker;
    int ended = 0;
    sigset_t one;
    if (!mkdtemp(folder) || pipe(wakes))
        return 2;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 64))
        return 2;
    queue = msgget(IPC_PRIVATE, 0600);
    sigemptyset(&one);
    sigaddset(&one, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &one, 0);
    for (int n = 0; n < KINDS; n++)
        pthread_create(&threads[n], 0, run, &kinds[n]);
    pthread_create(&waker, 0, wakes_others, &ended);
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    stop = 1;
    for (int n = 0; n < KINDS; n++)
        pthread_join(threads[n], 0);
    *(volatile int *)&ended = 1;
    pthread_join(waker, 0);
    int bad = 0;
    for (int n = 0; n < KINDS; n++)
        if (kinds[n].bad || !kinds[n].rounds) {
            printf("%s: %ld of %ld rounds bad, last %s\n", kinds[n].name, kinds[n].bad,
                   kinds[n].rounds, strerror(kinds[n].error));
            bad = 1;
        }
    msgctl(queue, IPC_RMID, 0);
    unlink(address.sun_path);
    char name[128];
    snprintf(name, sizeof name, "%s/lock", folder);
    unlink(name);
    rmdir(folder);
    printf("%d kinds\n", KINDS);
    return bad;
}
