// Coroutines of C++20: their bodies are entered and left on whatever stack resumes them.
#include <coroutine>
#include <vector>
// Behind the others: it defines T.
#include "../target.h"

static unsigned long steps, uses;

struct Numbers {
    struct promise_type {
        long value = 0;
        Numbers get_return_object()
        {
            return {std::coroutine_handle<promise_type>::from_promise(*this)};
        }
        std::suspend_always initial_suspend() { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        std::suspend_always yield_value(long v)
        {
            value = v;
            return {};
        }
        void return_void() {}
        void unhandled_exception() { abort(); }
    };
    std::coroutine_handle<promise_type> handle;
};

T long t_step(long n)
{
    steps++;
    return n * 3 + 1;
}

Numbers numbers(long from, long count)
{
    for (long i = 0; i < count; i++)
        co_yield t_step(from + i);
}

T long t_use(std::vector<Numbers> &all)
{
    uses++;
    long sum = 0;
    for (auto &one : all)
        if (!one.handle.done()) {
            one.handle.resume();
            sum += one.handle.promise().value;
        }
    return sum;
}

int main()
{
    std::vector<Numbers> all;
    for (long i = 0; i < 50; i++)
        all.push_back(numbers(i * 10, 100 + i));
    long sum = 0;
    for (int i = 0; i < 200; i++)
        sum += t_use(all);
    for (auto &one : all)
        one.handle.destroy();
    printf("sum %ld\n", sum);
    calls("t_step", steps);
    calls("t_use", uses);
}
