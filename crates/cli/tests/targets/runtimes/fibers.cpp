// Fibers of boost.context: N of them suspended D calls deep, each resumed many times, and times
// that belong to the right stack. Some go on in another thread.
#include <boost/context/fiber.hpp>
#include <thread>
#include <vector>
// Behind the others: it defines T.
#include "../target.h"

namespace ctx = boost::context;
static unsigned long leaves, deeps, outers, inners, aparts;

T void t_leaf() { leaves++; }

T void t_deep(ctx::fiber &f, int n, int rounds)
{
    deeps++;
    if (n == 0) {
        for (int k = 0; k < rounds; k++) {
            t_leaf();
            f = std::move(f).resume();
        }
    } else {
        t_deep(f, n - 1, rounds);
    }
    asm volatile("");
}

T void t_inner(ctx::fiber &f)
{
    inners++;
    f = std::move(f).resume();
    asm volatile("");
}

T void t_outer(ctx::fiber &f)
{
    outers++;
    t_inner(f);
    asm volatile("");
}

// Goes on in another thread than it began in. There is room for a jump where it returns.
T void t_apart(ctx::fiber &f)
{
    aparts++;
    f = std::move(f).resume();
    asm volatile(".byte 0x0f, 0x1f, 0x44, 0, 0");
}

int main(int argc, char **argv)
{
    int n = argc > 1 ? atoi(argv[1]) : 200, depth = argc > 2 ? atoi(argv[2]) : 50;
    std::vector<ctx::fiber> fibers;
    for (int i = 0; i < n; i++)
        fibers.emplace_back(std::allocator_arg, ctx::fixedsize_stack(65536),
                            [depth](ctx::fiber &&m) {
                                t_deep(m, depth, 20);
                                return std::move(m);
                            });
    for (bool any = true; any;) {
        any = false;
        for (auto &f : fibers)
            if (f) {
                f = std::move(f).resume();
                any = true;
            }
    }
    std::vector<ctx::fiber> suspended;
    for (int i = 0; i < 10; i++)
        suspended.emplace_back([](ctx::fiber &&m) {
            t_outer(m);
            return std::move(m);
        });
    for (auto &f : suspended)
        f = std::move(f).resume();
    usleep(100000);
    for (auto &f : suspended)
        f = std::move(f).resume();
    std::vector<ctx::fiber> moved;
    for (int i = 0; i < 10; i++)
        moved.emplace_back([](ctx::fiber &&m) {
            t_apart(m);
            return std::move(m);
        });
    std::thread([&] {
        for (auto &f : moved)
            f = std::move(f).resume();
    }).join();
    for (auto &f : moved)
        f = std::move(f).resume();
    calls("t_leaf", leaves);
    calls("t_deep", deeps);
    calls("t_outer", outers);
    calls("t_inner", inners);
    calls("t_apart", aparts);
}
