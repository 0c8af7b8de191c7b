/* Loads the libraries that are named in its arguments, in turns, uses them and unloads them. */
#include "target.h"
#include <dlfcn.h>

static unsigned long leaves;

T void t_leaf(int n) { leaves += n > 0; }

T long use(const char *path) {
    void *library = dlopen(path, RTLD_NOW);
    CHECK(library != NULL);
    int (*plugin)(int) = (int (*)(int))dlsym(library, "plugin");
    CHECK(plugin != NULL);
    for (int n = 1; n < 4; n++) CHECK(plugin(n) == n + 2);
    CHECK(dlclose(library) == 0);
    return (long)plugin;
}

int main(int argc, char **argv) {
    int same = 0;
    long before = 0;
    for (int round = 0; round < 6; round++) {
        for (int library = 1; library < argc; library++) {
            long now = use(argv[library]);
            same += now == before;
            before = now;
        }
    }
    /* Without this the test tests nothing. (The first time, something else may be loaded along with
     * it.) */
    CHECK(same > 3);
    return 0;
}
