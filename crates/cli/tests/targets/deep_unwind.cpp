// Exceptions and longjmp out of very deep recursion, again and again: more frames are dropped than
// there are return probes.
#include "target.h"
#include <csetjmp>
#include <pthread.h>

static unsigned long levels, jumps;
static long destroyed;
static jmp_buf out;
struct Guard {
    ~Guard() { destroyed++; }
};
extern "C" {
T long t_throw_below(long n)
{
    levels++;
    Guard guard;
    if (n == 0)
        throw 5;
    return t_throw_below(n - 1) + 1;
}
T long t_jump_below(long n)
{
    jumps++;
    if (n == 0)
        longjmp(out, 1);
    return t_jump_below(n - 1) + 1;
}
T void *t_run(void *)
{
    for (int i = 0; i < 5; i++)
        try {
            t_throw_below(20000);
        } catch (int five) {
            CHECK(five == 5);
        }
    for (volatile int i = 0; i < 10; i = i + 1)
        if (!setjmp(out))
            t_jump_below(100000);
    return nullptr;
}
}
int main()
{
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(!pthread_attr_init(&attributes) && !pthread_attr_setstacksize(&attributes, 64 << 20));
    CHECK(!pthread_create(&thread, &attributes, t_run, nullptr) && !pthread_join(thread, nullptr));
    printf("destroyed %ld\n", destroyed);
    calls("t_throw_below", levels);
    calls("t_jump_below", jumps);
    calls("t_run", 1);
}
