/* All vector registers (xmm, ymm or zmm and the masks, as the processor has them), the x87 stack
 * and the control words, at the entry of a function and after its return. */
#include "target.h"

typedef struct {
    uint8_t zmm[32][64];
    uint64_t k[8];
    uint32_t mxcsr;
    uint16_t x87;
    uint16_t pad;
    long double st[2];
} __attribute__((aligned(64))) State;
State before, seen, leave, after;

#define ALL16(op, reg, size)                                                                       \
    op(reg, size, 0) op(reg, size, 1) op(reg, size, 2) op(reg, size, 3) op(reg, size, 4)           \
        op(reg, size, 5) op(reg, size, 6) op(reg, size, 7) op(reg, size, 8) op(reg, size, 9)       \
            op(reg, size, 10) op(reg, size, 11) op(reg, size, 12) op(reg, size, 13)                \
                op(reg, size, 14) op(reg, size, 15)
#define ALL32(op, reg, size)                                                                       \
    ALL16(op, reg, size)                                                                           \
    op(reg, size, 16) op(reg, size, 17) op(reg, size, 18) op(reg, size, 19) op(reg, size, 20)      \
        op(reg, size, 21) op(reg, size, 22) op(reg, size, 23) op(reg, size, 24) op(reg, size, 25)  \
            op(reg, size, 26) op(reg, size, 27) op(reg, size, 28) op(reg, size, 29)                \
                op(reg, size, 30) op(reg, size, 31)
#define L_XMM(reg, size, n) "movups WHERE+64*" #n "(%rip), %xmm" #n "\n"
#define S_XMM(reg, size, n) "movups %xmm" #n ", WHERE+64*" #n "(%rip)\n"
#define L_YMM(reg, size, n) "vmovups WHERE+64*" #n "(%rip), %ymm" #n "\n"
#define S_YMM(reg, size, n) "vmovups %ymm" #n ", WHERE+64*" #n "(%rip)\n"
#define L_ZMM(reg, size, n) "vmovups WHERE+64*" #n "(%rip), %zmm" #n "\n"
#define S_ZMM(reg, size, n) "vmovups %zmm" #n ", WHERE+64*" #n "(%rip)\n"
#define L_K(n) "kmovw WHERE+2048+8*" #n "(%rip), %k" #n "\n"
#define S_K(n) "kmovw %k" #n ", WHERE+2048+8*" #n "(%rip)\n"
#define ALLK(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7)
#define LOADS_SSE ALL16(L_XMM, , )
#define STORES_SSE ALL16(S_XMM, , )
#define LOADS_AVX ALL16(L_YMM, , )
#define STORES_AVX ALL16(S_YMM, , )
#define LOADS_512 ALL32(L_ZMM, , ) ALLK(L_K)
#define STORES_512 ALL32(S_ZMM, , ) ALLK(S_K)
/* In the function the x87 stack holds st[0] and st[1] of the caller; it leaves two others. */
#define LOADS_X87                                                                                  \
    "ldmxcsr WHERE+2112(%rip)\n fldcw WHERE+2116(%rip)\n fldt WHERE+2144(%rip)\n fldt "            \
    "WHERE+2128(%rip)\n"
#define STORES_X87                                                                                 \
    "stmxcsr WHERE+2112(%rip)\n fnstcw WHERE+2116(%rip)\n fstpt WHERE+2128(%rip)\n fstpt "         \
    "WHERE+2144(%rip)\n"

/* WHERE is an assembler macro parameter: the text is assembled once per place. */
#define MACRO(name, text) __asm__(".macro " name " where\n .set WHERE, \\where\n" text ".endm\n")
MACRO("load_sse", LOADS_X87 LOADS_SSE);
MACRO("store_sse", STORES_X87 STORES_SSE);
MACRO("load_avx", LOADS_X87 LOADS_AVX);
MACRO("store_avx", STORES_X87 STORES_AVX);
MACRO("load_512", LOADS_X87 LOADS_512);
MACRO("store_512", STORES_X87 STORES_512);

#define VARIANT(kind)                                                                              \
    ASM_FUNCTION(t_##kind, "nopl 0(%rax,%rax)\n store_" #kind " seen\n load_" #kind                \
                           " leave\n ret\n .p2align 4,0x90");                                      \
    ASM_FUNCTION(t_trap_##kind, "nop\n 1: nop\n jrcxz 2f\n 2: store_" #kind " seen\n load_" #kind  \
                                " leave\n ret\n jmp 1b\n .p2align 4,0x90");                        \
    __asm__(".text\n call_" #kind ": load_" #kind " before\n call t_" #kind "\n store_" #kind      \
            " after\n ret\n"                                                                       \
            "call_trap_" #kind ": load_" #kind " before\n call t_trap_" #kind "\n store_" #kind    \
            " after\n ret\n");                                                                     \
    extern void call_##kind(void), call_trap_##kind(void)
VARIANT(sse);
VARIANT(avx);
VARIANT(512);

static uint64_t state = 88172645463325252u;
static void fill(State *s, int width, int registers, int masks)
{
    uint8_t *bytes = (uint8_t *)s;
    memset(s, 0, sizeof *s);
    for (int r = 0; r < registers; r++)
        for (int i = 0; i < width; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            bytes[64 * r + i] = state >> 56;
        }
    for (int i = 0; masks && i < 8; i++)
        s->k[i] = (state >> i) & 0xffff;
    s->mxcsr = 0x1f80 | (uint32_t)(state >> 40 & 0x6000);
    s->x87 = 0x37f | (uint16_t)(state >> 30 & 0xc00);
    s->st[0] = (long double)(state >> 7) / 3;
    s->st[1] = -(long double)(state >> 3) / 7;
}

static void run(const char *name, void (*call)(void), int width, int registers, int masks)
{
    for (int i = 0; i < 300; i++) {
        uint32_t mxcsr;
        uint16_t x87;
        fill(&before, width, registers, masks);
        fill(&leave, width, registers, masks);
        memset(&seen, 0, sizeof seen);
        memset(&after, 0, sizeof after);
        __asm__ volatile("stmxcsr %0\n fnstcw %1" : "=m"(mxcsr), "=m"(x87));
        /* Everything that the call touches is saved by nobody else here. */
        __asm__ volatile("sub $128, %%rsp\n call *%0\n add $128, %%rsp"
                         :
                         : "r"(call)
                         : "memory", "cc", "rcx", "rax", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
                           "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                           "xmm13", "xmm14", "xmm15");
        if (width > 16)
            __asm__ volatile("vzeroupper");
        __asm__ volatile("ldmxcsr %0\n fldcw %1" : : "m"(mxcsr), "m"(x87));
        if (memcmp(&before, &seen, sizeof seen) || memcmp(&leave, &after, sizeof after)) {
            dprintf(2, "%s: a register changed in round %d\n", name, i);
            _exit(99);
        }
    }
    (void)name;
}

int main(void)
{
    unsigned long avx = 0, wide = 0;
    run("sse", call_sse, 16, 16, 0);
    run("trap sse", call_trap_sse, 16, 16, 0);
    if (__builtin_cpu_supports("avx")) {
        run("avx", call_avx, 32, 16, 0);
        run("trap avx", call_trap_avx, 32, 16, 0);
        avx = 300;
    }
    if (__builtin_cpu_supports("avx512f")) {
        run("avx512", call_512, 64, 32, 1);
        run("trap avx512", call_trap_512, 64, 32, 1);
        wide = 300;
    }
    puts("right");
    calls("t_sse", 300);
    calls("t_trap_sse", 300);
    calls("t_avx", avx);
    calls("t_trap_avx", avx);
    calls("t_512", wide);
    calls("t_trap_512", wide);
    return 0;
}
