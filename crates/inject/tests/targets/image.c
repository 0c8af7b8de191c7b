// A freestanding image: functions to be called, a counter, and room for a stub that counts.
typedef unsigned long word;

volatile word image_hits;
volatile word image_calls;

static word add(word a, word b) { return a + b; }
static word multiply(word a, word b) { return a * b; }
// Addresses in data: relocations by where the image lies.
word (*volatile image_functions[])(word, word) = {add, multiply};

word image_calculate(word which, word a, word b) {
    image_calls++;
    return image_functions[which](a, b);
}

// System calls of its own, and every vector register changed.
word image_busy(word n) {
    word sum = 0;
    for (word i = 0; i < n; i++) {
        word result;
        __asm__ volatile("syscall" : "=a"(result) : "a"(39) : "rcx", "r11", "memory"); // getpid
        sum += result;
    }
    __asm__ volatile(
        "pcmpeqd %%xmm0, %%xmm0; pcmpeqd %%xmm1, %%xmm1; pcmpeqd %%xmm2, %%xmm2;"
        "pcmpeqd %%xmm3, %%xmm3; pcmpeqd %%xmm4, %%xmm4; pcmpeqd %%xmm5, %%xmm5;"
        "pcmpeqd %%xmm6, %%xmm6; pcmpeqd %%xmm7, %%xmm7; pcmpeqd %%xmm8, %%xmm8;"
        "pcmpeqd %%xmm9, %%xmm9; pcmpeqd %%xmm10, %%xmm10; pcmpeqd %%xmm11, %%xmm11;" ::
            : "memory");
    return sum;
}

word image_fault(word *at) {
    *(volatile word *)at = 1;
    return 0;
}

word image_endless(void) {
    for (;;)
        image_calls++;
}

// Code that is written from outside before anything leads to it.
__asm__(".text; .balign 16; .globl image_stub; .type image_stub, @function;"
        "image_stub: .skip 64, 0xcc; .size image_stub, 64");
