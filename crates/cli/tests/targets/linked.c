/* Uses a library that is linked at build time: its constructor runs before main, its destructor
 * after. */
#include "target.h"

static long events[3];
extern long t_plugin_work(long);
void plugin_event(int what, long value)
{
    events[what] += value;
    if (what == 2)
        dprintf(1, "destructor %ld\n", value);
}
int main(void)
{
    long sum = 0;
    for (int i = 0; i < 1000; i++)
        sum += t_plugin_work(i);
    printf("sum %ld constructor %ld\n", sum, events[1]);
    calls("t_plugin_work", 1000);
    calls("t_plugin_constructor", 1);
    calls("t_plugin_destructor", 1);
    calls("t_plugin_helper", 1002);
    return 0;
}
