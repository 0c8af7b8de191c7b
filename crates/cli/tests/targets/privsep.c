/* As root: a daemon in the way of sshd. Its worker gives up its rights and then does what it can to
 * all that it has inherited; its parent opens a library after that and goes on. Whatever the worker
 * wrote: the parent's code is as it was, but for probes at entries of the library's functions.
 * Arguments: what the worker does (tables, scribble or ask); a library, made of opened_library.c
 * with FACTOR 3; another file that looks like it. */
#include "target.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <grp.h>
#include <link.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <dirent.h>

#define PAGE 4096ul
/* The build-id of the library, and of the file that looks like it. */
#define BUILD_ID "\1\2\3\4\5\6\7\10"
/* Bytes of a function that its probe may take. */
#define WINDOW 16

struct mapping { uint64_t start, end, offset; char access[5], name[256]; };

static size_t mappings(struct mapping *all, size_t room)
{
    char line[600];
    size_t n = 0;
    FILE *file = fopen("/proc/self/maps", "re");
    CHECK(file);
    while (n < room && fgets(line, sizeof line, file)) {
        struct mapping *m = &all[n];
        m->name[0] = 0;
        if (sscanf(line, "%lx-%lx %4s %lx %*s %*s %255[^\n]", &m->start, &m->end, m->access,
                   &m->offset, m->name) >= 4)
            n++;
    }
    CHECK(n < room && !fclose(file));
    return n;
}

/* Where code is not what its file says. */
static size_t changed(uint64_t *places, size_t room)
{
    static struct mapping all[1000];
    static unsigned char file[8 << 20];
    size_t n = 0;
    for (size_t i = 0, len = mappings(all, 1000); i < len; i++) {
        const struct mapping *m = &all[i];
        int fd = m->name[0] == '/' && !strstr(m->name, "trapline") ? open(m->name, O_RDONLY) : -1;
        if (fd < 0 || strcmp(m->access, "r-xp"))
            continue;
        size_t size = m->end - m->start;
        CHECK(size <= sizeof file);
        ssize_t got = pread(fd, file, size, (off_t)m->offset);
        CHECK(got > 0 && !close(fd));
        for (ssize_t at = 0; at < got; at++)
            if (file[at] != ((const unsigned char *)m->start)[at]) {
                CHECK(n < room);
                places[n++] = m->start + (uint64_t)at;
            }
    }
    return n;
}

/* Tables of functions, if a page that can be written is their first: see crates/wire/src/layout.rs.
 * Every function moves on by a few bytes, into the middle of an instruction. */
static bool move_functions(char *header, size_t bytes)
{
    uint64_t *words = (uint64_t *)header;
    if (memcmp(header, "TRAPLINE", 8))
        return false;
    size_t first = PAGE + (64 << 10) + words[2] * 1024;
    for (size_t at = first, n = words[33]; n-- && at + 64 <= bytes; at += 64) {
        *(uint64_t *)(header + at) += 3;
        *(uint32_t *)(header + at + 8) -= 3;
    }
    return true;
}

/* Tries to write to the tables: by every way to memory that this process has. */
static void tables(void)
{
    static struct mapping all[1000];
    bool written = false;
    int tries = 0;
    int mem = open("/proc/self/mem", O_RDWR);
    for (size_t i = 0, len = mappings(all, 1000); i < len; i++) {
        struct mapping *m = &all[i];
        if (m->access[3] != 's')
            continue;
        tries++;
        char *at = (char *)m->start, path[100];
        size_t bytes = m->end - m->start;
        if (m->access[1] != 'w') {
            written |= !mprotect(at, bytes, PROT_READ | PROT_WRITE) && move_functions(at, bytes);
            char *again = mremap(at, 0, bytes, MREMAP_MAYMOVE);
            if (again != MAP_FAILED && !mprotect(again, bytes, PROT_READ | PROT_WRITE))
                written |= move_functions(again, bytes);
            written |= pwrite(mem, "x", 1, (off_t)m->start + 8) == 1;
        }
        snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", m->start, m->end);
        int fd = open(path, O_RDWR);
        written |= fd >= 0 && strstr(m->name, "tables") && pwrite(fd, "x", 1, 8) == 1;
        /* The same file's beginning, where a later part of it is mapped. What is there may be a
         * copy of the tables: then the parent does not care. */
        at = m->access[1] == 'w' ? mremap(at, 0, PAGE, MREMAP_MAYMOVE) : MAP_FAILED;
        if (at == MAP_FAILED || syscall(SYS_remap_file_pages, at, PAGE, 0, 0, 0) ||
            memcmp(at, "TRAPLINE", 8))
            continue;
        uint64_t *words = (uint64_t *)at;
        bytes = PAGE + (64 << 10) + words[2] * 1024 + (words[33] + 1) * 64;
        at = mremap(at, 0, bytes, MREMAP_MAYMOVE);
        if (at != MAP_FAILED)
            move_functions(at, bytes);
    }
    DIR *files = opendir("/proc/self/fd");
    CHECK(files);
    for (struct dirent *entry; (entry = readdir(files));) {
        char name[300];
        ssize_t len = readlinkat(dirfd(files), entry->d_name, name, sizeof name - 1);
        name[len > 0 ? len : 0] = 0;
        written |= strstr(name, "trapline") && pwrite(atoi(entry->d_name), "x", 1, 8) == 1;
    }
    CHECK(!written);
    dprintf(2, "tried %d\n", tries);
}

/* Changes whatever is there in what can be written. */
static void scribble(void)
{
    static struct mapping all[1000];
    size_t changes = 0;
    for (size_t i = 0, len = mappings(all, 1000); i < len; i++) {
        if (strcmp(all[i].access, "rw-s") || !strstr(all[i].name, "segment"))
            continue;
        volatile uint64_t *words = (uint64_t *)all[i].start;
        size_t n = (all[i].end - all[i].start) / 8;
        /* What lies further behind are holes, mostly. */
        for (size_t at = 0; at < n && at < (4 << 20) / 8; at++)
            if (words[at]) {
                words[at] += 3;
                changes++;
            }
    }
    dprintf(2, "changed %zu\n", changes);
}

/* Asks about the library, which nobody has opened yet, and names the file that looks like it: see
 * crates/wire/src/request.rs. */
static void ask(const char *library, const char *forged)
{
    static struct mapping all[1000];
    struct stat its;
    CHECK(!stat(library, &its));
    /* The requests are in the first part of the counters, behind so much. */
    size_t requests = (16 << 10) + 4096 * 256, bytes = 1024 + 64;
    const struct mapping *first = NULL;
    for (size_t i = 0, len = mappings(all, 1000); i < len; i++)
        if (!strcmp(all[i].access, "rw-s") && strstr(all[i].name, "segment") &&
            (!first || all[i].offset < first->offset))
            first = &all[i];
    if (!first)
        return;
    CHECK(first->end - first->start >= requests + 64 * bytes);
    char *last = (char *)first->start + requests + 63 * bytes;
    volatile uint32_t *state = (volatile uint32_t *)(last + 1024);
    CHECK(*state == 0);
    memset(last, 0, 1024);
    *(uint64_t *)last = its.st_dev;
    *(uint64_t *)(last + 8) = its.st_ino;
    *(uint32_t *)(last + 32) = sizeof BUILD_ID - 1;
    memcpy(last + 40, BUILD_ID, sizeof BUILD_ID - 1);
    *(uint64_t *)(last + 80) =
        (uint64_t)its.st_ctim.tv_sec * 1000000000 + (uint64_t)its.st_ctim.tv_nsec;
    snprintf(last + 128, 896, "%s", forged);
    state[1] = (uint32_t)getpid();
    __atomic_store_n(state, 2, __ATOMIC_RELEASE);
    /* The server looks ten times a second; the parent waits for us. */
    for (int i = 0; i < 60000 && __atomic_load_n(state, __ATOMIC_ACQUIRE) != 3; i++)
        usleep(1000);
    CHECK(*state == 3);
    dprintf(2, "asked\n");
}

T long t_parent(long n) { return n + 1; }

int main(int argc, char **argv)
{
    static uint64_t before[10000], after[10000];
    CHECK(argc == 4);
    CHECK(t_parent(1) == 2);
    /* What the tables have of the library is there when the worker comes, or not yet. */
    if (strcmp(argv[1], "ask")) {
        void *library = dlopen(argv[2], RTLD_NOW);
        CHECK(library && !dlclose(library));
    }
    size_t known = changed(before, 10000);
    pid_t worker = fork();
    CHECK(worker >= 0);
    if (!worker) {
        CHECK(!setgroups(0, NULL) && !setgid(65534) && !setuid(65534) && setuid(0));
        if (!strcmp(argv[1], "tables"))
            tables();
        else if (!strcmp(argv[1], "scribble"))
            scribble();
        else
            ask(argv[2], argv[3]);
        _exit(5);
    }
    int status;
    CHECK(waitpid(worker, &status, 0) == worker && WIFEXITED(status) && WEXITSTATUS(status) == 5);
    void *library = dlopen(argv[2], RTLD_NOW);
    CHECK(library);
    const char *names[] = {"t_opened_three", "t_opened_more", "t_opened_helper", "t_opened_work"};
    long (*entries[4])(long);
    for (int i = 0; i < 4; i++)
        CHECK(entries[i] = (long (*)(long))dlsym(library, names[i]));
    for (long n = 0; n < 100; n++) {
        CHECK(entries[0](n) == n * n * n + 3 && entries[1](n) == (n * n * n + 3) * 7 + n);
        CHECK(entries[2](n) == 3 * n && entries[3](n) == 3 * n + 1 && t_parent(n) == n + 1);
    }
    size_t found = changed(after, 10000), same = 0;
    for (size_t i = 0; i < found; i++) {
        bool old = false, entry = false;
        for (size_t j = 0; j < known; j++)
            old |= before[j] == after[i];
        same += old;
        for (int f = 0; f < 4; f++) {
            uint64_t start = (uint64_t)entries[f], at = after[i];
            bool probed = *(unsigned char *)start == 0xe9 || *(unsigned char *)start == 0xcc;
            /* Where it is entered, and where it returns. */
            Dl_info its;
            const ElfW(Sym) *symbol = NULL;
            CHECK(dladdr1((void *)start, &its, (void **)&symbol, RTLD_DL_SYMENT) && symbol);
            uint64_t end = start + symbol->st_size;
            entry |= at >= start && at < (end < start + WINDOW ? start + WINDOW : end) && probed;
        }
        CHECK(old || entry);
    }
    CHECK(same == known);
    puts("right");
    calls("t_parent", 101);
    for (int i = 0; i < 4; i++)
        calls(names[i], i == 0 || i == 2 ? 200 : 100);
    return 0;
}
