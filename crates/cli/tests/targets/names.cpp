// Names as people write them: namespaces, overloads, templates, methods, operators, anonymous
// namespaces, a local static function.
#include "target.h"
namespace app {
struct Box {
    long value;
    T explicit Box(long v) : value(v) {}
    T long work(long n) const { return value + n; }
    T long work(long a, long b) const { return value + a * b; }
    T Box operator+(const Box &other) const { return Box(value + other.value); }
    T ~Box();
};
Box::~Box() { __asm__ volatile(""); }
template <typename X> T X twice(X x) { return x + x; }
namespace {
T long hidden(long n) { return n - 1; }
}
}
static T long local_one(long n) { return n + 1; }

int main()
{
    long sum = 0;
    for (long i = 0; i < 100; i++) {
        app::Box a(i), b(2);
        app::Box c = a + b;
        sum += c.work(1) + c.work(2, 3) + app::twice(i) + (long)app::twice(0.5) + app::hidden(i) +
               local_one(i);
    }
    printf("sum %ld\n", sum);
}
