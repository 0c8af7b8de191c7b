/* A program that writes over its own functions, as it was built to: what a probe has put there is
 * gone. Its argument says when and how, and how it ends. */
#include "target.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

ASM_FUNCTION(t_patched, ".p2align 4\n nop\n nop\n nop\n nop\n nop\n lea 1(%rdi), %rax\n ret");
ASM_FUNCTION(t_other, "lea 100(%rdi), %rax\n ret\n nop\n nop");
extern long t_patched(long), t_other(long);
T long t_left_alone(long n) { return n + 1; }

static void patch(int stay_writable)
{
    unsigned char *place = (unsigned char *)t_patched, jump[5] = { 0xe9 };
    int32_t distance = (int32_t)((char *)t_other - (char *)place - 5);
    memcpy(jump + 1, &distance, 4);
    void *page = (void *)((uintptr_t)place & ~4095ul);
    CHECK(mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    memcpy(place, jump, 5);
    CHECK(stay_writable || mprotect(page, 8192, PROT_READ | PROT_EXEC) == 0);
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    int is = !strcmp(how, "early");
    long sum = 0;
    if (is)
        patch(0);
    for (int i = 0; i < 10; i++)
        sum += (is ? 0 : t_patched(i)) + t_left_alone(i);
    if (!strcmp(how, "child")) {
        /* The parent's own code stays as it is. */
        if (fork() == 0) {
            patch(1);
            _exit((int)t_patched(0) - 100);
        }
        int status;
        CHECK(wait(&status) > 0 && status == 0);
        return (int)t_patched(0) - 1;
    }
    if (!is)
        patch(!strncmp(how, "writable", 8));
    for (int i = 0; i < 10; i++)
        sum += t_patched(i);
    printf("sum %ld\n", sum);
    calls("t_patched", is ? 0 : 10);
    calls("t_other", 10);
    calls("t_left_alone", 10);
    fflush(stdout);
    if (!strcmp(how, "wait")) {
        char c;
        CHECK(read(0, &c, 1) == 0);
    }
    if (!strcmp(how, "_exit") || !strcmp(how, "writable, _exit"))
        _exit(0);
    if (!strcmp(how, "quick_exit") || !strcmp(how, "writable, quick_exit"))
        quick_exit(0);
    if (!strcmp(how, "kill"))
        raise(SIGKILL);
    if (!strcmp(how, "abort"))
        abort();
    return 0;
}
