/* backtrace() and the unwinder inside probed frames name the same functions, in the same order. */
#include "target.h"
#include <dlfcn.h>
#include <execinfo.h>
#include <unwind.h>

static char text[4096];

/* Frames of this program only: what lies in other objects is nobody's business here. */
static void append(void *pc)
{
    Dl_info info;
    char line[64];
    static const char *self;
    if (!self) {
        CHECK(dladdr((void *)append, &info));
        self = strdup(info.dli_fname);
    }
    if (!dladdr((char *)pc - 1, &info) || !info.dli_sname || strcmp(info.dli_fname, self) ||
        info.dli_sname[0] == '_')
        return;
    snprintf(line, sizeof line, " %s", info.dli_sname);
    strncat(text, line, sizeof text - strlen(text) - 1);
}

T void t_by_backtrace(void)
{
    void *frames[64];
    int n = backtrace(frames, 64);
    for (int i = 0; i < n; i++)
        append(frames[i]);
    strcat(text, "\n");
}

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *unused)
{
    int before = 0;
    uintptr_t pc = _Unwind_GetIPInfo(context, &before);
    (void)unused;
    append((char *)pc + before);
    return _URC_NO_REASON;
}

T void t_by_unwinder(void)
{
    _Unwind_Backtrace(step, NULL);
    strcat(text, "\n");
}

T void t_level(int n, void (*end)(void))
{
    if (n == 0)
        end();
    else
        t_level(n - 1, end);
    __asm__ volatile("");
}
T void t_tail(void (*end)(void)) { end(); }
T int t_compare(const void *a, const void *b)
{
    static int once;
    if (!once++)
        t_tail(t_by_backtrace);
    return *(const int *)a - *(const int *)b;
}

int main(void)
{
    int numbers[] = {3, 1, 2};
    for (int i = 0; i < 3; i++) {
        text[0] = 0;
        t_level(5, t_by_backtrace);
        t_level(7, t_by_unwinder);
        fputs(text, stdout);
    }
    text[0] = 0;
    qsort(numbers, 3, sizeof *numbers, t_compare);
    fputs(text, stdout);
    calls("t_level", 3 * (6 + 8));
    calls("t_by_backtrace", 4);
    calls("t_by_unwinder", 3);
    calls("t_tail", 1);
    return 0;
}
