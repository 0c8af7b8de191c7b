/* A library with 40,000 functions, t_many_0 to t_many_39999, each three instructions. The assembler
 * makes them: a compiler would take a minute. */
__asm__(
    ".altmacro\n"
    ".macro function number\n"
    "  .text\n"
    "  .globl t_many_\\number\n"
    "  .type t_many_\\number, @function\n"
    "t_many_\\number:\n"
    "  leaq (%rdi, %rdi, 2), %rax\n"
    "  addq $\\number, %rax\n"
    "  ret\n"
    "  .size t_many_\\number, . - t_many_\\number\n"
    "  .section .data.rel.local, \"aw\"\n"
    "  .quad t_many_\\number\n"
    ".endm\n"
    ".section .data.rel.local, \"aw\"\n"
    ".balign 8\n"
    "many_table:\n"
    ".set number, 0\n"
    ".rept 40000\n"
    "  function %number\n"
    "  .set number, number + 1\n"
    ".endr\n"
    ".noaltmacro\n"
    ".text\n");

typedef unsigned long function(unsigned long);
extern function *many_table[] __attribute__((visibility("hidden")));

unsigned long many_call(unsigned long number, unsigned long argument)
{
    return many_table[number](argument);
}
