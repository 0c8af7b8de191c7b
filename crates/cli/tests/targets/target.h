/* What every target shares. A target checks its own results, prints deterministic text, and ends with lines
 *   calls NAME N     NAME ran exactly N times
 *   sum PREFIX N     all functions whose names begin with PREFIX together ran exactly N times
 *   armed NAME       NAME is hooked by a detour or a breakpoint (no count is claimed)
 * which the harness compares with the report. Functions under test are called t_SOMETHING. */
#ifndef TARGET_H
#define TARGET_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A function that stays one function with its own name, and whose calls all stay: nothing is concluded from its body (that it is pure, say). */
#define T __attribute__((noipa, used))

/* Says what went wrong and ends with a status that no target expects. */
#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            dprintf(2, "%s:%d: failed: %s (errno %d)\n", __FILE__, __LINE__, #x, errno);           \
            _exit(99);                                                                             \
        }                                                                                          \
    } while (0)

static inline void calls(const char *name, unsigned long n) { printf("calls %s %lu\n", name, n); }

/* Assembly function NAME with exact bytes: no alignment in front unless the text asks for it. */
#define ASM_FUNCTION(name, text)                                                                   \
    __asm__(".text\n.globl " #name "\n.type " #name ",@function\n" #name ":\n.cfi_startproc\n" text \
            "\n.cfi_endproc\n.size " #name ", .-" #name "\n")
#endif
