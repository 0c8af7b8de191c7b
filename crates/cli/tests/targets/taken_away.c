/* A program that takes away a page of its own code, in which a function is probed: nobody may read
 * there any more. Its argument says how; it ends by `exit`, where probes are looked at. */
#include "target.h"
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

__asm__(".text\n .p2align 12\n .globl t_gone\n .type t_gone, @function\nt_gone:\n"
        " .cfi_startproc\n nop\n nop\n nop\n nop\n nop\n lea 1(%rdi), %rax\n ret\n .cfi_endproc\n"
        " .size t_gone, . - t_gone\n .p2align 12\n");
extern long t_gone(long);
T long t_left_alone(long n) { return n + 1; }

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    const char *how = argv[1];
    CHECK(t_gone(1) + t_left_alone(1) == 4);
    void *page = (void *)t_gone;
    if (!strcmp(how, "munmap"))
        CHECK(munmap(page, 4096) == 0);
    if (!strcmp(how, "mmap"))
        CHECK(mmap(page, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page);
    if (!strcmp(how, "mremap"))
        CHECK(mremap(page, 4096, 8192, MREMAP_MAYMOVE) != MAP_FAILED);
    if (!strcmp(how, "mremap to")) {
        void *other = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(other != MAP_FAILED);
        CHECK(mremap(other, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, page) == page);
    }
    if (!strcmp(how, "munmap by number"))
        CHECK(syscall(SYS_munmap, page, 4096L) == 0);
    if (!strcmp(how, "mmap by number"))
        CHECK(syscall(SYS_mmap, page, 4096L, (long)PROT_NONE,
                      (long)(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED), -1L, 0L) == (long)page);
    if (!strcmp(how, "mremap by number"))
        CHECK(syscall(SYS_mremap, page, 4096L, 8192L, (long)MREMAP_MAYMOVE, 0L) != -1);
    if (!strcmp(how, "mprotect by number"))
        CHECK(syscall(SYS_mprotect, page, 4096L, (long)PROT_NONE) == 0);
    if (!strcmp(how, "mprotect"))
        CHECK(mprotect(page, 4096, PROT_NONE) == 0);
    if (!strcmp(how, "mprotect and back")) {
        CHECK(mprotect(page, 4096, PROT_NONE) == 0);
        CHECK(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
        CHECK(t_gone(1) == 2);
    }
    CHECK(t_left_alone(2) == 3);
    calls("t_gone", 1 + !strcmp(how, "mprotect and back"));
    calls("t_left_alone", 2);
    exit(0);
}
