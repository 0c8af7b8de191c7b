/* makecontext/swapcontext: coroutines whose probed frames interleave, are left hanging, and whose
 * stacks go away. */
#include "target.h"
#include <sys/mman.h>
#include <ucontext.h>

#define COROUTINES 8
#define ROUNDS 200
#define STACK (256 << 10)
static ucontext_t scheduler, coroutine[COROUTINES];
static int alive[COROUTINES];
static long sum;
static unsigned long yields, works, bodies, nests;

T void t_yield(int me)
{
    yields++;
    CHECK(!swapcontext(&coroutine[me], &scheduler));
}
T long t_work(int me, long n)
{
    works++;
    t_yield(me);
    return me * 100 + n;
}
T long t_nest(int me, int depth)
{
    nests++;
    long r = depth ? t_nest(me, depth - 1) : t_work(me, depth);
    if (depth % 3 == 0)
        t_yield(me);
    return r + depth;
}
T void t_body(int me)
{
    bodies++;
    for (int i = 0; i < ROUNDS; i++) {
        sum += t_work(me, i);
        sum += t_nest(me, (me + i) % 7);
    }
    alive[me] = 0;
}

static void start(ucontext_t *context, void (*body)(int), int me)
{
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(stack != MAP_FAILED);
    CHECK(!getcontext(context));
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = STACK;
    context->uc_link = &scheduler;
    makecontext(context, (void (*)(void))body, 1, me);
}

int main(void)
{
    unsigned long resumed = 0;
    for (int i = 0; i < COROUTINES; i++) {
        start(&coroutine[i], t_body, i);
        alive[i] = 1;
    }
    /* One is abandoned in the middle of nested frames, with its stack unmapped. */
    for (int i = 0; i < 40; i++)
        CHECK(!swapcontext(&scheduler, &coroutine[0]));
    CHECK(!munmap(coroutine[0].uc_stack.ss_sp, STACK));
    alive[0] = 0;
    /* Another is abandoned and its stack is reused at once. */
    for (int i = 0; i < 25; i++)
        CHECK(!swapcontext(&scheduler, &coroutine[1]));
    memset(coroutine[1].uc_stack.ss_sp, 0xee, STACK);
    start(&coroutine[1], t_body, 1);
    for (int any = 1; any;) {
        any = 0;
        for (int i = 0; i < COROUTINES; i++)
            if (alive[i]) {
                any = 1;
                resumed++;
                CHECK(!swapcontext(&scheduler, &coroutine[i]));
            }
    }
    printf("sum %ld after %lu switches\n", sum, resumed);
    calls("t_yield", yields);
    calls("t_work", works);
    calls("t_nest", nests);
    calls("t_body", bodies);
    return 0;
}
