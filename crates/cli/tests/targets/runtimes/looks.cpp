// A program that looks at its own stack in all usual ways, and can be looked at.
#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <unwind.h>
// Behind the others: it defines T.
#include "../target.h"

enum How { SELF, THROWN, HANDLER, WRONG, WAIT };

static void show()
{
    void *frames[64];
    int n = backtrace(frames, 64);
    char **names = backtrace_symbols(frames, n);
    // Up to main, whose callers are the C library's.
    for (int i = 0; i < n; i++) {
        char *name = strchr(names[i], '('), *end = name ? strpbrk(name, "+)") : nullptr;
        if (end)
            printf("%.*s\n", (int)(end - name - 1), name + 1);
    }
    free(names);
}

// The program's own frames, as a handler sees them. (What stands between it and them is the
// kernel's, and that of whoever handles signals in front of it.)
static _Unwind_Reason_Code own(struct _Unwind_Context *context, void *)
{
    Dl_info its;
    void *function = _Unwind_FindEnclosingFunction((void *)_Unwind_GetIP(context));
    if (function && dladdr(function, &its) && its.dli_sname && !strncmp(its.dli_sname, "t_", 2))
        puts(its.dli_sname);
    return _URC_NO_REASON;
}

static void handler(int)
{
    puts("in a handler:");
    _Unwind_Backtrace(own, nullptr);
}

extern "C" {
T int t_bottom(How how, char *memory)
{
    volatile long work = 0;
    switch (how) {
    case SELF:
        show();
        break;
    case THROWN:
        throw 42;
    case HANDLER:
        raise(SIGUSR1);
        break;
    case WRONG:
        free(memory);
        return memory[1];
    case WAIT:
        pause();
    }
    return 1;
}

T int t_third(How how, char *memory) { return t_bottom(how, memory) + 1; }
T int t_second(How how, char *memory) { return t_third(how, memory) + 1; }
T int t_first(How how, char *memory)
{
    try {
        return t_second(how, memory) + 1;
    } catch (int n) {
        return n;
    }
}
}

int main(int argc, char **argv)
{
    char *memory = (char *)malloc(16);
    if (argc > 1)
        return t_first(strcmp(argv[1], "wait") ? WRONG : WAIT, memory) == 0;
    signal(SIGUSR1, handler);
    CHECK(t_first(SELF, memory) == 4);
    CHECK(t_first(THROWN, memory) == 42);
    CHECK(t_first(HANDLER, memory) == 4);
    free(memory);
}
