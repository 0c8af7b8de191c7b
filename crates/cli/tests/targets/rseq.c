/* A restartable sequence: a breakpoint inside one makes the program restart it for ever, so such
 * places are left alone, and the program goes on. t_increment's whole body after its first
 * instructions is the critical section; t_inside starts inside one. */
#include "target.h"
#include <sys/rseq.h>

uint64_t counters[4096];
#define SECTION(number, start, commit, abort)                                                      \
    ".pushsection __rseq_cs, \"aw\"\n .balign 32\n cs_" #number ": .long 0, 0\n .quad " start      \
    ", " commit " - " start ", " abort "\n .popsection\n"
#define SIGNATURE ".long 0x53053053\n"

/* rdi: the thread's rseq area; counts on the current processor, by hand-made sequence. */
ASM_FUNCTION(t_increment,
             "0: lea cs_1(%rip), %rax\n mov %rax, 8(%rdi)\n"
             "t_inside:\n mov 4(%rdi), %eax\n lea counters(%rip), %rdx\n incq (%rdx,%rax,8)\n"
             "t_committed: ret\n .byte 0x0f, 0xb9, 0x3d\n" SIGNATURE
             "t_aborted: jmp 0b\n .p2align 4,0x90\n" SECTION(1, "t_inside", "t_committed",
                                                             "t_aborted"));
__asm__(".globl t_inside\n.type t_inside,@function\n.size t_inside, t_committed - t_inside");
extern void t_increment(void *);

int main(void)
{
    if (!__rseq_size) {
        puts("sum 200000");
        return 0;
    }
    void *area = (char *)__builtin_thread_pointer() + __rseq_offset;
    for (int i = 0; i < 200000; i++)
        t_increment(area);
    uint64_t sum = 0;
    for (int i = 0; i < 4096; i++)
        sum += counters[i];
    printf("sum %lu\n", sum);
    return 0;
}
