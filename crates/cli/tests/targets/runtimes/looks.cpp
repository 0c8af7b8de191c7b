// A program that looks at its own stack in all usual ways, and can be looked at.
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

static _Unwind_Reason_Code count(struct _Unwind_Context *context, void *number)
{
    ++*(int *)number;
    return _URC_NO_REASON;
}

static volatile sig_atomic_t deepest, seen;

static void handler(int)
{
    int number = 0;
    _Unwind_Backtrace(count, &number);
    if (number > deepest)
        deepest = number;
    seen++;
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
    printf("frames %d\n", (int)deepest);
    free(memory);
}
