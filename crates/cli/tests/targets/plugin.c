/* A library that is opened and closed again and again. Built twice with different work at the same
 * addresses (-DFACTOR). */
#include "target.h"

extern void plugin_event(int what, long value);
static long state;
T long t_plugin_helper(long n) { return n * FACTOR; }
T long t_plugin_work(long n)
{
    state += n;
    return t_plugin_helper(n) + 1;
}
#if FACTOR == 3
/* The same bytes, at an address where the other plugin has something else. */
T long t_plugin_three(long n) { return t_plugin_helper(n) - 1; }
#endif
__attribute__((constructor)) T void t_plugin_constructor(void) {
    plugin_event(1, t_plugin_helper(2));
}
__attribute__((destructor)) T void t_plugin_destructor(void) {
    plugin_event(2, t_plugin_helper(state));
}
