// C++ exceptions through probed frames: destructors run, nested and rethrown, kept in an
// exception_ptr, carried across threads.
#include "target.h"
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

static thread_local long destroyed;
static std::atomic<unsigned long> throwers, middles, catchers, rethrowers, nesteds, deeps;

struct Guard {
    std::string text = "a string that does not fit into the small buffer";
    ~Guard() { destroyed += (long)text.size(); }
};

extern "C" {
T int t_thrower(int n)
{
    throwers++;
    Guard guard;
    if (n % 3 == 0)
        throw std::runtime_error("runtime " + std::to_string(n));
    if (n % 3 == 1)
        throw n;
    return n;
}
T int t_middle(int n)
{
    middles++;
    Guard guard;
    int r = t_thrower(n);
    return r + 1;
}
T int t_deep(int n, int depth)
{
    deeps++;
    Guard guard;
    if (depth == 0)
        return t_middle(n) + 1;
    return t_deep(n, depth - 1) + 1;
}
T int t_rethrower(int n)
{
    rethrowers++;
    try {
        return t_deep(n, n % 5);
    } catch (...) {
        Guard guard;
        throw;
    }
}
T int t_nested(int n)
{
    nesteds++;
    try {
        return t_rethrower(n);
    } catch (const std::exception &e) {
        try {
            std::throw_with_nested(std::logic_error("outer"));
        } catch (const std::exception &outer) {
            try {
                std::rethrow_if_nested(outer);
            } catch (const std::runtime_error &inner) {
                return -(int)std::string(inner.what()).size();
            }
        }
    }
    return 0;
}
T int t_catcher(int n)
{
    catchers++;
    try {
        return t_nested(n);
    } catch (int value) {
        return -1000 - value;
    }
}
}

static long work(int rounds)
{
    long sum = 0;
    for (int i = 0; i < rounds; i++)
        sum += t_catcher(i);
    return sum;
}

// Thrown in one thread, kept, thrown again in another.
extern "C" T std::exception_ptr *t_keep(int n)
{
    try {
        t_middle(n);
    } catch (...) {
        return new std::exception_ptr(std::current_exception());
    }
    return nullptr;
}
extern "C" T void t_again(std::exception_ptr *kept)
{
    std::exception_ptr own = *kept;
    delete kept;
    std::rethrow_exception(own);
}

int main()
{
    long sum = work(3000);
    printf("sum %ld destroyed %ld\n", sum, destroyed);

    std::vector<std::thread> threads;
    long sums[4], gone[4];
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&, i] { sums[i] = work(1500 + i); gone[i] = destroyed; });
    for (auto &thread : threads)
        thread.join();
    for (int i = 0; i < 4; i++)
        printf("thread %d: %ld %ld\n", i, sums[i], gone[i]);

    int caught = 0;
    for (int i = 0; i < 99; i += 3) {
        std::exception_ptr *kept = nullptr;
        std::thread([&] { kept = t_keep(i); }).join();
        try {
            t_again(kept);
        } catch (const std::runtime_error &e) {
            caught += std::string(e.what()) == "runtime " + std::to_string(i);
        }
    }
    auto future = std::async(std::launch::async, [] { return t_middle(4); });
    try {
        future.get();
    } catch (int n) {
        caught += n;
    }
    printf("caught %d\n", caught);
    calls("t_thrower", throwers);
    calls("t_middle", middles);
    calls("t_deep", deeps);
    calls("t_rethrower", rethrowers);
    calls("t_nested", nesteds);
    calls("t_catcher", catchers);
    calls("t_keep", 33);
    calls("t_again", 33);
}
