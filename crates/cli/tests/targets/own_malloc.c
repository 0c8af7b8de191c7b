/* The program brings its own malloc, and its functions are probed: the agent must not call them.
 * How often they run is the same bare and probed, and malloc, free and their kin in the report are
 * exactly that. */
#include "target.h"
#include <pthread.h>

static unsigned long mallocs, frees, callocs, reallocs;
static char arena[64 << 20] __attribute__((aligned(16)));
static size_t used;
static void *take(size_t size)
{
    size_t need = (size + 31) & ~15ul;
    size_t at = __atomic_fetch_add(&used, need, __ATOMIC_SEQ_CST);
    CHECK(at + need <= sizeof arena);
    *(size_t *)(arena + at) = size;
    return arena + at + 16;
}
#define COUNT(what) __atomic_add_fetch(&what, 1, __ATOMIC_SEQ_CST)
T void *malloc(size_t size) { COUNT(mallocs); return take(size); }
T void free(void *p) { (void)p; COUNT(frees); }
T void *calloc(size_t n, size_t size) { COUNT(callocs); return take(n * size); }
T void *realloc(void *p, size_t size)
{
    COUNT(reallocs);
    void *out = take(size);
    if (p) {
        size_t old = *(size_t *)((char *)p - 16);
        memcpy(out, p, old < size ? old : size);
    }
    return out;
}
T void *aligned_alloc(size_t alignment, size_t size) {
    (void)alignment;
    COUNT(mallocs);
    return take(size);
}

static void *thread(void *unused)
{
    for (int i = 0; i < 1000; i++)
        free(malloc(10));
    return unused;
}
/* What the dynamic loader took before any constructor ran is not counted: nothing was armed yet. */
static unsigned long early[4];
__attribute__((constructor)) static void begin(void)
{
    early[0] = mallocs, early[1] = frees, early[2] = callocs, early[3] = reallocs;
}
int main(void)
{
    /* The stream allocates its buffer now, not between taking the counts and printing them. */
    puts("start");
    char *p = NULL;
    for (int i = 0; i < 1000; i++) {
        p = realloc(p, (size_t)i + 1);
        p[i] = 'x';
        free(strdup("text"));
        free(calloc(3, 5));
    }
    /* All at once, on small stacks: when glibc uses a stack again, or gives it back, it calls free
     * once for each object with thread-local variables, and the agent is one. */
    pthread_t ids[10];
    pthread_attr_t small;
    CHECK(!pthread_attr_init(&small) && !pthread_attr_setstacksize(&small, 256 << 10));
    for (int i = 0; i < 10; i++)
        CHECK(!pthread_create(&ids[i], &small, thread, NULL));
    for (int i = 0; i < 10; i++)
        CHECK(!pthread_join(ids[i], NULL));
    unsigned long m = mallocs - early[0], f = frees - early[1], c = callocs - early[2],
                  r = reallocs - early[3];
    calls("malloc", m);
    calls("free", f);
    calls("calloc", c);
    calls("realloc", r);
    fflush(stdout);
    _exit(p[999] == 'x' ? 0 : 1);
}
