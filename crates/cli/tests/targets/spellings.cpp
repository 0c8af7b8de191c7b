// Names with every sign in them that means something in a spec.
#include <cstdio>
#include <map>
#include <sstream>
#include <string>
#include <vector>
#define T __attribute__((noinline, noipa, used))
#define TAG [[gnu::abi_tag("cxx11")]]

namespace {
T int helper(int n) { return n + 1; }
struct Hidden {
    T int operator()(int n) { return n * 2; }
};
}
namespace app {
struct V {
    int value;
    T V(int v) : value(v) {}
    T ~V() { value = 0; }
    T int operator()(int n) { return value + n; }
    T int operator[](int n) { return value * n; }
    T V operator+(const V &o) const { return V(value + o.value); }
    T V &operator++() { value++; return *this; }
    T V operator++(int) { V old(value); value++; return old; }
    T bool operator<(const V &o) const { return value < o.value; }
    T bool operator>(const V &o) const { return value > o.value; }
    T V operator<<(int n) const { return V(value << n); }
    T V operator>>(int n) const { return V(value >> n); }
    T V *operator->() { return this; }
    T V operator,(int n) const { return V(n); }
    T int operator*() const { return value; }
    T bool operator!() const { return !value; }
    T V operator/(int n) const { return V(value / n); }
    T V operator~() const { return V(~value); }
    T operator bool() const { return value; }
    T explicit operator std::string() const { return "v"; }
    T static void *operator new(size_t n) { return ::operator new(n); }
    T static void operator delete(void *p) { ::operator delete(p); }
    T int overloaded(int n) const { return n; }
    T int overloaded(int n, int m, ...) const { return n + m; }
    TAG T int tagged(int n) { return n; }
};
template <typename A, typename B> struct Pair {
    T int both(A a, B b) { return (int)(a + b); }
    template <typename C> T int three(A a, B b, C c) { return (int)(a + b + c); }
};
template <int (*F)(int), int N> T int apply(int n) { return F(n) + N; }
template <typename... A> T int count(A...) { return sizeof...(A); }
TAG T std::string tagged_string(const std::string &s, std::map<std::string, std::vector<int>> m) {
    return s + std::to_string(m.size());
}
enum class E { one };
template <E e, char c, bool b> T int constants() { return (int)e + c + b; }
namespace inner { namespace {
T int deep(int n) { return n; }
}}
}
T long double operator""_x(long double n) { return n * 2; }
T int operator""_text(const char *s, size_t n) { return s[0] + (int)n; }
static int plus(int n) { return n + 1; }

int main(int argc, char **)
{
    app::V a(argc), b(2);
    auto lambda = [&](int n) T {
        auto inner = [n](char c) T { return n + c; };
        return inner('x') + a.value;
    };
    struct Local { T int method(int n) { return n; } } local;
    int sum = helper(argc) + Hidden()(1) + a(1) + a[2] + *(a + b) + *++a + *a++ + (a < b) +
              (a > b) + *(a << 1) + *(a >> 1);
    sum += a->value + *(a, 3) + !a + *(a / 2) + *~a + (a ? 1 : 2) + (int)((std::string)a).size() +
           a.overloaded(1) + a.overloaded(1, 2);
    sum += a.tagged(1) + app::Pair<int, std::size_t>().both(1, 2) +
           app::Pair<char, float>().three<long long>('a', 2, 3);
    sum += app::apply<plus, 3>(1) + app::count(1, 'c', 2.0) +
           (int)app::tagged_string("s", {}).size() + lambda(1) + local.method(1);
    sum += app::constants<app::E::one, ':', true>() + app::inner::deep(2) + (int)(3.0_x) + "t"_text;
    delete new app::V(3);
    std::ostringstream out;
    out << sum;
    printf("sum %s\n", out.str().c_str());
}
