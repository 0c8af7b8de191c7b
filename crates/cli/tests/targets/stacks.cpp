// One function, t_leaf, called from wherever code can be called from. Every way of calling it
// leaves a stack of its own shape; the test compares each frame of each with what gdb sees. Nothing
// here depends on time or on addresses.
#include "target.h"

#include <alloca.h>
#include <algorithm>
#include <csetjmp>
#include <csignal>
#include <functional>
#include <link.h>
#include <memory>
#include <mutex>
#include <numeric>
#include <pthread.h>
#include <stdexcept>
#include <thread>
#include <ucontext.h>
#include <vector>

static unsigned long leaves;

extern "C" T void t_leaf(int n) { __atomic_add_fetch(&leaves, n >= 0, __ATOMIC_RELAXED); }

// A call that is not the last thing a function does, so that it has a frame.
#define STAY __asm__ volatile("" ::: "memory")

// Recursion: of one function, and of two in turns.
T int recurse(int n) {
    if (n == 0) {
        t_leaf(1);
        return 0;
    }
    int below = recurse(n - 1);
    STAY;
    return below + 1;
}

T int odd(int n);
T int even(int n) {
    t_leaf(n);
    int below = n == 0 ? 1 : odd(n - 1);
    STAY;
    return below + 1;
}
T int odd(int n) {
    int below = n == 0 ? 0 : even(n - 1);
    STAY;
    return below + 1;
}

// Virtual calls, with multiple inheritance: thunks, too.
struct Shape {
    virtual ~Shape() { t_leaf(2); STAY; }
    T virtual int area(int n) { t_leaf(n); STAY; return n; }
};
struct Named {
    virtual ~Named() { t_leaf(3); STAY; }
    T virtual int name(int n) { t_leaf(n); STAY; return -n; }
};
struct Square : Shape, Named {
    T int area(int n) override { int inner = Shape::area(n); STAY; return inner * n; }
    T int name(int n) override { int inner = Named::name(n); STAY; return inner - 1; }
};

T int virtuals(Shape *shape, Named *named) {
    int sum = shape->area(3);
    sum += named->name(4);
    STAY;
    return sum;
}

// Templates.
template <typename Number, int DEPTH> struct Nest {
    T static Number go(Number n) {
        Number below = Nest<Number, DEPTH - 1>::go(n + 1);
        STAY;
        return below + DEPTH;
    }
};
template <typename Number> struct Nest<Number, 0> {
    T static Number go(Number n) { t_leaf(5); STAY; return n; }
};

// Lambdas.
T int through_function(const std::function<int(int)> &f, int n) {
    int got = f(n);
    STAY;
    return got;
}

T int lambdas() {
    int sum = 0;
    std::function<int(int)> inner = [&sum](int n) { t_leaf(n); STAY; return sum += n; };
    std::function<int(int)> outer = [&inner](int n) {
        int got = through_function(inner, n + 1);
        STAY;
        return got;
    };
    for (int n = 0; n < 3; n++) through_function(outer, n);
    std::vector<int> numbers(20);
    std::iota(numbers.begin(), numbers.end(), 0);
    std::sort(numbers.begin(), numbers.end(), [](int a, int b) {
        t_leaf(6);
        STAY;
        return (a * 7 % 20) < (b * 7 % 20);
    });
    return sum + numbers[3];
}

// Callbacks of libc.
T int compare(const void *a, const void *b) {
    t_leaf(7);
    STAY;
    return *static_cast<const int *>(a) - *static_cast<const int *>(b);
}
T int each_object(dl_phdr_info *, size_t, void *first) {
    t_leaf(8);
    STAY;
    // Once: how many objects there are is not the program's own business.
    return 1;
}
static void once() { t_leaf(9); STAY; }

T int callbacks() {
    int numbers[] = {5, 3, 9, 1, 7, 2, 8};
    qsort(numbers, 7, sizeof(int), compare);
    int key = 8;
    CHECK(bsearch(&key, numbers, 7, sizeof(int), compare) != nullptr);
    dl_iterate_phdr(each_object, nullptr);
    static pthread_once_t control = PTHREAD_ONCE_INIT;
    pthread_once(&control, once);
    STAY;
    return numbers[0];
}

// Frames of odd sizes: alloca, an over-aligned local, both.
T int sized(int n) {
    char *room = static_cast<char *>(alloca(n));
    memset(room, n, n);
    STAY;
    t_leaf(n);
    STAY;
    return room[n - 1];
}
T int aligned(int n) {
    alignas(128) char room[128];
    CHECK(reinterpret_cast<uintptr_t>(room) % 128 == 0);
    memset(room, n, sizeof room);
    STAY;
    t_leaf(n);
    int got = n > 10 ? sized(n) : n;
    STAY;
    return room[n] + got;
}
T int aligned_and_sized(int n) {
    alignas(64) volatile char fixed[64] = {};
    char *room = static_cast<char *>(alloca(n));
    memset(room, n, n);
    CHECK(reinterpret_cast<uintptr_t>(fixed) % 64 == 0);
    STAY;
    int got = aligned(n);
    STAY;
    return got + room[0] + fixed[1];
}
T int many_arguments(int a, int b, int c, int d, int e, int f, int g, int h, int i) {
    t_leaf(a + i);
    STAY;
    return a + b + c + d + e + f + g + h + i;
}

// Exceptions: the leaf runs in constructors, in destructors on the way, in handlers, and behind a
// rethrow.
struct Trouble : std::runtime_error {
    T Trouble(const char *text) : std::runtime_error(text) { t_leaf(10); STAY; }
};
struct Guard {
    T ~Guard() { t_leaf(11); STAY; }
};
T int thrower(int n) {
    Guard guard;
    STAY;
    if (n == 0) throw Trouble("deep");
    int below = thrower(n - 1);
    STAY;
    return below + 1;
}
T int rethrower(int n) {
    try {
        return thrower(n);
    } catch (const std::exception &) {
        t_leaf(12);
        throw;
    }
}
T int catcher(int n) {
    try {
        return rethrower(n) + 1;
    } catch (const Trouble &trouble) {
        t_leaf(13);
        recurse(2);
    }
    t_leaf(14);
    STAY;
    return 7;
}

// setjmp and longjmp over frames.
static jmp_buf back;
T void jumper(int n) {
    t_leaf(15);
    if (n == 0) longjmp(back, 1);
    jumper(n - 1);
    STAY;
}
T int jumps() {
    volatile int rounds = 0;
    while (rounds < 3) {
        if (setjmp(back) == 0) jumper(rounds);
        t_leaf(16);
        rounds = rounds + 1;
    }
    STAY;
    return rounds;
}

// Signals: sent by the thread itself, and faults at exact places in functions with frames that
// change on the way.
#define FAULTY(name, text) extern "C" void name(void); ASM_FUNCTION(name, text)
FAULTY(fault_first, "ud2\n ret");
FAULTY(fault_behind_push,
       "push %rbx\n .cfi_adjust_cfa_offset 8\n ud2\n pop %rbx\n .cfi_adjust_cfa_offset -8\n ret");
FAULTY(fault_behind_pop,
       "push %rbx\n .cfi_adjust_cfa_offset 8\n pop %rbx\n .cfi_adjust_cfa_offset -8\n ud2\n ret");
FAULTY(fault_in_frame, "push %rbp\n .cfi_def_cfa_offset 16\n .cfi_offset 6, -16\n mov %rsp, %rbp\n "
                       ".cfi_def_cfa_register 6\n sub $48, %rsp\n ud2\n leave\n "
                       ".cfi_def_cfa 7, 8\n ret");

T void handler(int signal, siginfo_t *, void *context) {
    t_leaf(17);
    if (signal == SIGILL) static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_RIP] += 2;
    // A signal in a handler.
    if (signal == SIGUSR1) raise(SIGUSR2);
    recurse(1);
    STAY;
}

T void faults() {
    fault_first();
    fault_behind_push();
    fault_behind_pop();
    fault_in_frame();
    STAY;
}

T int signals(int flags) {
    struct sigaction action = {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    for (int signal : {SIGUSR1, SIGUSR2, SIGILL}) CHECK(sigaction(signal, &action, nullptr) == 0);
    raise(SIGUSR1);
    CHECK(kill(getpid(), SIGUSR2) == 0);
    faults();
    STAY;
    return 0;
}

T int on_other_stack() {
    static char room[1 << 16];
    stack_t stack = {};
    stack.ss_sp = room;
    stack.ss_size = sizeof room;
    CHECK(sigaltstack(&stack, nullptr) == 0);
    int got = signals(SA_ONSTACK);
    stack.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&stack, nullptr) == 0);
    return got;
}

// Tail calls: the caller leaves no frame.
T void tail_inner(int n) { t_leaf(n); }
T void tail_outer(int n) { return tail_inner(n + 1); }
T int tails() {
    tail_outer(18);
    tail_inner(19);
    STAY;
    return 0;
}

// A stack of its own.
static ucontext_t here, there;
T void coroutine() {
    t_leaf(20);
    recurse(3);
    CHECK(swapcontext(&there, &here) == 0);
    t_leaf(21);
    STAY;
}
T int contexts() {
    static char room[1 << 16];
    CHECK(getcontext(&there) == 0);
    there.uc_stack.ss_sp = room;
    there.uc_stack.ss_size = sizeof room;
    there.uc_link = &here;
    makecontext(&there, coroutine, 0);
    CHECK(swapcontext(&here, &there) == 0);
    t_leaf(22);
    CHECK(swapcontext(&here, &there) == 0);
    STAY;
    return 0;
}

// Threads, and their ends.
struct AtEnd {
    int n = 0;
    T ~AtEnd() { t_leaf(n); STAY; }
};
static thread_local AtEnd at_end;

T int all() {
    int sum = recurse(4) + even(5);
    auto both = std::make_unique<Square>();
    sum += virtuals(both.get(), both.get());
    both.reset();
    sum += Nest<int, 3>::go(1) + static_cast<int>(Nest<double, 2>::go(1.5));
    sum += lambdas() + callbacks();
    sum +=
        sized(17) + aligned(5) + aligned_and_sized(40) + many_arguments(1, 2, 3, 4, 5, 6, 7, 8, 9);
    for (int n = 0; n < 4; n++) sum += catcher(n);
    sum += tails();
    STAY;
    return sum;
}

T void *plain_thread(void *) {
    at_end.n = 23;
    all();
    STAY;
    return nullptr;
}

T int threads() {
    pthread_t thread;
    CHECK(pthread_create(&thread, nullptr, plain_thread, nullptr) == 0);
    std::thread other([] { all(); STAY; });
    CHECK(pthread_join(thread, nullptr) == 0);
    other.join();
    STAY;
    return 0;
}

// Before and behind main.
__attribute__((constructor)) static void before() { t_leaf(24); STAY; }
static void behind() { t_leaf(25); STAY; }
static struct Global {
    Global() { t_leaf(26); STAY; }
    ~Global() { t_leaf(27); STAY; }
} global;

int main() {
    atexit(behind);
    int sum = 0;
    // Again and again: what is remembered of a stack must not be taken for another one.
    for (int round = 0; round < 3; round++) {
        sum += all();
        sum += signals(0);
        sum += on_other_stack();
        sum += jumps();
        sum += contexts();
        sum += threads();
    }
    printf("sum %d\n", sum);
    return 0;
}
