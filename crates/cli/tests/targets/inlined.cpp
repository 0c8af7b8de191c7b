// Methods, templates and functions that only this file has (static, or of an anonymous namespace),
// all only inlined. Each has an instruction of its own wherever it is.
#include "target.h"
#define INLINED inline __attribute__((always_inline))
#define HERE(value) __asm__ volatile("nop" : "+r"(value))
namespace app {
struct Box {
    long value;
    INLINED Box(long n) : value(n) { HERE(value); }
    INLINED long open(long n) const { HERE(n); return value + n; }
    INLINED long open() const { long n = value; HERE(n); return n; }
};
template <typename X> INLINED X doubled(X x) { HERE(x); return x + x; }
static INLINED long fixed(long n) { HERE(n); return n; }
extern "C" INLINED long for_c(long n) { HERE(n); return n; }
namespace {
INLINED long hidden(long n) { HERE(n); return n; }
template <typename X> INLINED X doubly_hidden(X x) { HERE(x); return x; }
struct Secret {
    struct Inner;
    INLINED static long get(long n) { HERE(n); return n; }
};
struct Secret::Inner {
    INLINED static long deep(long n) { HERE(n); return n; }
};
T long t_hidden(long n) { return fixed(n) + 1; }
}
}

T long t_all(long n)
{
    app::Box box{n};
    long sum = box.open(1) + box.open() + app::doubled(n) + app::hidden(n) + app::hidden(n + 1);
    sum += app::fixed(n) + app::for_c(n) + app::doubly_hidden(n);
    return sum + app::Secret::get(n) + app::Secret::Inner::deep(n) + app::t_hidden(n);
}

int main()
{
    printf("%ld\n", t_all(1));
}
