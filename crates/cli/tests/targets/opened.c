/* Libraries under names that say little about which file they are.
 * Arguments: what to do; two libraries, made of opened_library.c with FACTOR 2 and 3; a directory
 * to write to. */
#include "target.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

static unsigned long works, threes;
T long t_host(long n) { return n + 1; }

static void copy(const char *from, int to)
{
    char block[1 << 16];
    int in = open(from, O_RDONLY);
    CHECK(in >= 0);
    for (ssize_t n; (n = read(in, block, sizeof block)) > 0;)
        CHECK(write(to, block, (size_t)n) == n);
    close(in);
}

static void copy_to(const char *from, const char *name)
{
    int to = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    CHECK(to >= 0);
    copy(from, to);
    close(to);
}

static void use(void *library, long factor)
{
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        _exit(98);
    }
    long (*work)(long) = (long (*)(long))dlsym(library, "t_opened_work");
    CHECK(work);
    for (long n = 0; n < 100; n++)
        CHECK(work(n) == n * factor + 1);
    works += 100;
    long (*more)(long) = (long (*)(long))dlsym(library, "t_opened_more");
    CHECK(!more == (factor == 2));
    if (more) {
        CHECK(more(2) == 79);
        threes++;
    }
}

static void *open_now(const char *name) { return dlopen(name, RTLD_NOW); }

static int finish(void)
{
    calls("t_host", 1);
    calls("t_opened_work", works);
    calls("t_opened_helper", works);
    calls("t_opened_three", threes);
    calls("t_opened_more", threes);
    return 0;
}

/* The rest of a program whose first thread has ended: /proc/self says little then. */
static void *go_on(void *libraries)
{
    char stat[512] = "";
    while (!strstr(stat, ") Z ")) {
        usleep(1000);
        int file = open("/proc/self/stat", O_RDONLY);
        CHECK(file >= 0 && read(file, stat, sizeof stat - 1) > 0);
        close(file);
    }
    use(open_now(((char **)libraries)[0]), 2);
    use(open_now(((char **)libraries)[1]), 3);
    exit(finish());
}

int main(int argc, char **argv)
{
    CHECK(argc == 5);
    const char *what = argv[1], *two = argv[2], *three = argv[3], *directory = argv[4];
    char name[64];
    CHECK(!chdir(directory) && t_host(1) == 2);
    if (!strcmp(what, "relative")) {
        copy_to(two, "libopened.so");
        CHECK(!mkdir("below", 0755) || errno == EEXIST);
        copy_to(three, "below/libopened.so");
        use(open_now("./libopened.so"), 2);
        /* The same name, and another library. */
        CHECK(!chdir("below"));
        use(open_now("./../below/libopened.so"), 3);
        CHECK(!chdir("/"));
        use(open_now(two), 2);
    } else if (!strcmp(what, "memory") || !strcmp(what, "unlinked")) {
        int memory = memfd_create("libopened.so", 0), named = -1;
        if (!strcmp(what, "unlinked")) {
            copy_to(two, "gone.so");
            memory = open("gone.so", O_RDWR);
            CHECK(!unlink("gone.so"));
            /* Another file has its name before it is opened. */
            copy_to(three, "gone.so");
        } else {
            copy(two, memory);
        }
        snprintf(name, sizeof name, "/proc/self/fd/%d", memory);
        use(open_now(name), 2);
        named = open(three, O_RDONLY);
        snprintf(name, sizeof name, "/proc/self/fd/%d", named);
        use(open_now(name), 3);
        close(memory);
        close(named);
    } else if (!strcmp(what, "replaced")) {
        char path[4096];
        snprintf(path, sizeof path, "%s/replaced.so", directory);
        copy_to(two, path);
        void *first = open_now(path);
        use(first, 2);
        copy_to(three, "new.so");
        CHECK(!rename("new.so", path));
        /* Under another name: the loader goes by names first. */
        snprintf(path, sizeof path, "%s/./replaced.so", directory);
        void *second = open_now(path);
        use(second, 3);
        use(first, 2);
        /* The list changes once more: the first one is still what it was. */
        use(open_now(three), 3);
        use(first, 2);
    } else if (!strcmp(what, "rewritten")) {
        char path[4096];
        snprintf(path, sizeof path, "%s/rewritten.so", directory);
        for (int round = 0; round < 6; round++) {
            copy_to(round % 2 ? three : two, path);
            void *library = open_now(path);
            use(library, round % 2 ? 3 : 2);
            CHECK(!dlclose(library));
        }
    } else if (!strcmp(what, "namespaces")) {
        void *own = dlmopen(LM_ID_NEWLM, three, RTLD_NOW);
        use(own, 3);
        use(dlmopen(LM_ID_NEWLM, two, RTLD_NOW), 2);
        use(open_now(two), 2);
        CHECK(!dlclose(own));
        use(dlmopen(LM_ID_NEWLM, three, RTLD_NOW), 3);
    } else if (!strcmp(what, "leaderless")) {
        pthread_t thread;
        CHECK(!pthread_create(&thread, NULL, go_on, argv + 2));
        pthread_exit(NULL);
    } else {
        CHECK(!"known");
    }
    return finish();
}
