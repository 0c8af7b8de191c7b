/* A program with functions of its own in the place of the C library's, which are ready when the
 * first of its own initialisers has run: as runtimes for sandboxes and for replaying have. */
#include "target.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>

static struct {
    void *(*mmap)(void *, size_t, int, int, int, off_t);
    ssize_t (*read)(int, void *, size_t);
    int (*open)(const char *, int, ...);
} *real;
static long mapped, was_read, opened;

static void set_up(int count, char **arguments, char **environment) {
    static __typeof__(*real) found;
    (void)count, (void)arguments, (void)environment;
    found.mmap = dlsym(RTLD_NEXT, "mmap");
    found.read = dlsym(RTLD_NEXT, "read");
    found.open = dlsym(RTLD_NEXT, "open");
    real = &found;
}
__attribute__((section(".preinit_array"), used))
static void (*const first)(int, char **, char **) = set_up;

void *mmap(void *at, size_t bytes, int rights, int flags, int file, off_t offset) {
    mapped++;
    return real->mmap(at, bytes, rights, flags, file, offset);
}

ssize_t read(int file, void *to, size_t bytes) {
    was_read++;
    return real->read(file, to, bytes);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    opened++;
    return real->open(path, flags, mode);
}

T long t_f(long x) {
    __asm__ volatile("" : "+r"(x)::"memory");
    return x * 3 + 1;
}

int main(void) {
    long sum = 0;
    char byte;
    for (int i = 0; i < 10; i++) sum += t_f(i);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    int file = open("/dev/null", O_RDONLY);
    CHECK(file >= 0 && read(file, &byte, 1) == 0);
    printf("%ld: mmap %ld read %ld open %ld\n", sum, mapped, was_read, opened);
    calls("t_f", 10);
    return 0;
}
