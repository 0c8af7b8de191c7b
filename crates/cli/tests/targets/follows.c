/* A program that opens libraries and executes programs when it is told to, while THREADS threads
 * come and go to and from sleep. Arguments: LIBRARY [THREADS]. Each line of standard input is
 * answered by "LETTER N", with the program's own count of what is named here:
 *   o     opens the library, calls t_plugin_work 10 times and closes it: those calls
 *   k     the same, and keeps it open
 *   v N   this program in a child of vfork, which calls t_work N times: those
 *   p N   by posix_spawn, from a thread that is not the first
 *   t N   in a fork child, executed by a thread that is not the first
 *   e N   N times a program that is not there, in the one or other way: how many failed
 *   x N   this process executes the program itself, which goes on with the same input and has
 *         called t_work N times by then
 * At the end of its input it says "end" and ends with 7. */
#define _GNU_SOURCE
#include "target.h"
#include <dlfcn.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
static char self[4096];
static char *library;
static long events[3];
void plugin_event(int what, long value) { events[what] += value; }

T unsigned long t_work(unsigned long n) { return n * 3 + 1; }

static void *turns(void *of)
{
    for (;;)
        usleep(500);
    return of;
}

static int finish(pid_t pid)
{
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static unsigned long work(unsigned long n)
{
    unsigned long x = 1;
    for (unsigned long i = 0; i < n; i++)
        x = t_work(x);
    return x;
}

static unsigned long open_library(int keep)
{
    void *plugin = dlopen(library, RTLD_NOW);
    if (!plugin) {
        fprintf(stderr, "%s\n", dlerror());
        _exit(98);
    }
    long (*call)(long) = (long (*)(long))dlsym(plugin, "t_plugin_work");
    for (long n = 0; n < 10; n++)
        CHECK(call(n) == 2 * n + 1);
    if (!keep)
        CHECK(!dlclose(plugin));
    return 10;
}

static char *child_arguments[] = { self, "child", NULL, NULL };

static void *spawn(void *of)
{
    pid_t pid;
    CHECK(!posix_spawn(&pid, self, NULL, NULL, child_arguments, environ));
    *(int *)of = finish(pid);
    return NULL;
}

static void *execute(void *of)
{
    execv(self, child_arguments);
    _exit(98);
    return of;
}

static int in_thread(void *(*f)(void *))
{
    pthread_t thread;
    int status = -1;
    CHECK(!pthread_create(&thread, NULL, f, &status) && !pthread_join(thread, NULL));
    return status;
}

static unsigned long fail(unsigned long n)
{
    unsigned long failed = 0;
    char *arguments[] = { "program", NULL };
    for (unsigned long i = 0; i < n; i++) {
        const char *paths[] = { "/nowhere/at/all", "/", "/etc/passwd", (char *)8 };
        failed += execv(paths[i % 4], arguments) == -1;
    }
    return failed;
}

static unsigned long act(char letter, unsigned long n, char *text)
{
    child_arguments[2] = text;
    switch (letter) {
    case 'o': return open_library(0);
    case 'k': return open_library(1);
    case 'e': return fail(n);
    case 'p': CHECK(in_thread(spawn) == 3); return n;
    case 'v': {
        pid_t pid = vfork();
        if (pid == 0) {
            execve(self, child_arguments, environ);
            _exit(98);
        }
        CHECK(finish(pid) == 3);
        return n;
    }
    case 't': {
        pid_t pid = fork();
        if (pid == 0)
            in_thread(execute);
        CHECK(finish(pid) == 3);
        return n;
    }
    }
    CHECK(!"known");
    return 0;
}

static int read_byte(void)
{
    char byte;
    return read(0, &byte, 1) == 1 ? byte : -1;
}

int main(int argc, char **argv)
{
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(length > 0);
    if (argc > 2 && !strcmp(argv[1], "child")) {
        work(strtoul(argv[2], NULL, 10));
        return 3;
    }
    library = argv[1];
    for (int i = 0; argc > 2 && i < atoi(argv[2]); i++) {
        pthread_t thread;
        CHECK(!pthread_create(&thread, NULL, turns, NULL));
    }
    if (argc > 3) {
        unsigned long n = strtoul(argv[3], NULL, 10);
        work(n);
        dprintf(1, "x %lu\n", n);
    }
    /* By bytes: what is not read yet is for the program that this one executes. */
    char line[64];
    int used = 0, byte;
    while ((byte = read_byte()) >= 0) {
        if (byte != '\n') {
            line[used++] = (char)byte;
            continue;
        }
        line[used] = 0;
        used = 0;
        char *text = strlen(line) > 2 ? line + 2 : "0";
        if (line[0] == 'x') {
            char *again[] = { self, library, argc > 2 ? argv[2] : "0", text, NULL };
            execv(self, again);
            _exit(98);
        }
        dprintf(1, "%c %lu\n", line[0], act(line[0], strtoul(text, NULL, 10), text));
    }
    dprintf(1, "end\n");
    return 7;
}
