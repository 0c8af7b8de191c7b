/* Libraries opened and closed 200 times, two of them in turn at the same address; constructors and
 * destructors are counted, too. Arguments: the paths of the two plugins. */
#include "target.h"
#include <dlfcn.h>

static unsigned long events[3];
static long values;
void plugin_event(int what, long value)
{
    events[what]++;
    values += value;
}
T long t_host(long n) { return n + 1; }

#define CYCLES 200
int main(int argc, char **argv)
{
    CHECK(argc == 3);
    long sum = 0;
    unsigned long works = 0, reused = 0, three = 0;
    void *last = NULL;
    for (int i = 0; i < CYCLES; i++) {
        void *plugin = dlopen(argv[1 + i % 2], i % 3 ? RTLD_NOW : RTLD_LAZY);
        if (!plugin) {
            fprintf(stderr, "%s\n", dlerror());
            return 98;
        }
        long (*work)(long) = (long (*)(long))dlsym(plugin, "t_plugin_work");
        CHECK(work);
        reused += (void *)work == last;
        last = (void *)work;
        long factor = i % 2 ? 3 : 2;
        for (int k = 0; k < 1 + i % 7; k++) {
            CHECK(work(k) == k * factor + 1);
            works++;
            sum += t_host(k);
        }
        long (*extra)(long) = (long (*)(long))dlsym(plugin, "t_plugin_three");
        CHECK(!extra == (factor == 2));
        if (extra) {
            CHECK(extra(5) == 14);
            three++;
        }
        /* A second handle keeps it open. */
        void *again = dlopen(argv[1 + i % 2], RTLD_NOW | RTLD_NOLOAD);
        CHECK(again == plugin && !dlclose(again));
        CHECK(work(1) == factor + 1);
        works++;
        CHECK(!dlclose(plugin));
        CHECK(!dlopen(argv[1 + i % 2], RTLD_NOW | RTLD_NOLOAD));
    }
    fprintf(stderr, reused ? "an address was reused\n" : "no address was reused\n");
    printf("sum %ld values %ld events %lu %lu\n", sum, values, events[1], events[2]);
    calls("t_host", (unsigned long)sum ? works - CYCLES : 0);
    calls("t_plugin_work", works);
    calls("t_plugin_constructor", CYCLES);
    calls("t_plugin_destructor", CYCLES);
    calls("t_plugin_three", three);
    calls("t_plugin_helper", works + 2 * CYCLES + three);
    return 0;
}
