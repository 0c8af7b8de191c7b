/* Tasks that share one piece of stack: the frames of one that waits are copied away, and back to
 * the same place before it goes on, as greenlet does it and interpreters with continuations. What
 * they compute is right whatever the order. */
#include "../target.h"

enum { TASKS = 20, ROUNDS = 50, ROOM = 1 << 15 };

struct task {
    char *frames;
    size_t bytes;
    void *sp;
    long sum;
    int started, done;
};

static struct task tasks[TASKS], *running;
static void *scheduler;
static char shared[ROOM] __attribute__((aligned(64)));
static unsigned long waits, works;
#define TOP (shared + ROOM - 64)

/* from keeps where this side goes on; then on at to, or by a call of begin on the shared piece. */
void change(void **from, void *to, void (*begin)(void), void *fresh);
__asm__(".text\n.globl change\n.type change,@function\nchange:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\ntest %rsi, %rsi\njz 1f\nmov %rsi, %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
        "1: mov %rcx, %rsp\ncall *%rdx\nud2\n.size change, .-change\n");

/* There is room for a jump where they return. */
#define ROOM_TO_RETURN __asm__ volatile(".byte 0x0f, 0x1f, 0x44, 0, 0" ::: "memory")

T void t_wait(void)
{
    waits++;
    change(&running->sp, scheduler, 0, 0);
    ROOM_TO_RETURN;
}

T long t_work(long n, int depth)
{
    works++;
    long sum = n;
    if (depth > 0)
        sum += t_work(n + 1, depth - 1);
    else
        t_wait();
    ROOM_TO_RETURN;
    return sum;
}

static void task(void)
{
    for (int i = 0; i < ROUNDS; i++)
        running->sum += t_work(i, (int)(running - tasks) % 5);
    running->done = 1;
    change(&running->sp, scheduler, 0, 0);
}

int main(void)
{
    for (int live = TASKS; live > 0;) {
        live = 0;
        for (int i = 0; i < TASKS; i++) {
            running = &tasks[i];
            if (running->done)
                continue;
            live++;
            if (running->started)
                memcpy(TOP - running->bytes, running->frames, running->bytes);
            void *to = running->started ? running->sp : 0;
            running->started = 1;
            change(&scheduler, to, task, TOP);
            running->bytes = (size_t)(TOP - (char *)running->sp);
            running->frames = realloc(running->frames, running->bytes);
            CHECK(running->frames);
            memcpy(running->frames, running->sp, running->bytes);
        }
    }
    for (int i = 0; i < TASKS; i++) {
        long want = 0;
        for (int round = 0; round < ROUNDS; round++)
            for (int depth = 0; depth <= i % 5; depth++)
                want += round + depth;
        CHECK(tasks[i].sum == want);
    }
    calls("t_wait", waits);
    calls("t_work", works);
}
