// Calls before main and after it: constructors, static objects, thread_local destructors, atexit,
// on_exit, destructors.
#include "target.h"
#include <thread>

static unsigned long early_calls, late_calls;
extern "C" {
T long t_early(long n) { early_calls++; return n + 1; }
T long t_late(long n) { late_calls++; return n + 1; }
T long t_thread(long n) { return n + 1; }
static void at_exit() { t_late(1); }
static void on_exit_handler(int, void *) { t_late(2); }
__attribute__((constructor)) T void t_constructor() { for (int i = 0; i < 5; i++) t_early(i); }
__attribute__((destructor)) T void t_destructor()
{
    for (int i = 0; i < 5; i++) t_late(i);
    // atexit and on_exit 1 each, the static object 3, this one 5.
    dprintf(1, "late %lu\n", late_calls);
}
}
struct Static {
    Static() { t_early(9); }
    ~Static() { for (int i = 0; i < 3; i++) t_late(i); }
} object;
struct Local {
    long value = 1;
    ~Local() { t_thread(value); }
};
thread_local Local local;

int main()
{
    atexit(at_exit);
    on_exit(on_exit_handler, nullptr);
    for (int i = 0; i < 50; i++)
        std::thread([] { local.value++; }).join();
    local.value++;
    printf("early %lu\n", early_calls);
    calls("t_early", 6);
    calls("t_constructor", 1);
    calls("t_thread", 51);
    calls("t_late", 1 + 1 + 3 + 5);
    calls("t_destructor", 1);
}
