// What uftrace traces: the probe benchmark's functions, called N times by each of T threads; prints
// ns of CPU time per call.
//   uftrace_target FUNCTION CALLS THREADS
// `compiled` is a C function for -mfentry; the others are the same instructions as in the
// benchmark, for dynamic patching (-P).
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FUNCTION(name, ...)                                                                        \
    long name(long);                                                                               \
    __asm__(".text\n.p2align 12, 0xcc\n.globl " #name "\n.type " #name ",@function\n" #name        \
            ":\n" __VA_ARGS__ ".size " #name ", .-" #name "\n.p2align 12, 0xcc\n")

// uftrace looks for a five-byte nop to tell how a whole program can be patched: that function gets
// a program of its own.
#ifdef NOP5
FUNCTION(f_nop5, ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00\nlea 7(%rdi), %rax\nret\n");
#else
FUNCTION(f_nop, "nop\nlea 7(%rdi), %rax\nret\n");
FUNCTION(f_push, "push %rbp\nmov %rsp, %rbp\nlea 7(%rdi), %rax\npop %rbp\nret\n");
FUNCTION(f_ret, "ret\n");
FUNCTION(f_ordinary, "mov %rdi, %rax\nshl $2, %rax\nlea 7(%rax,%rdi), %rax\nret\n");
#endif

__attribute__((noinline, noclone)) long compiled(long x)
{
	__asm__ volatile("" : "+r"(x));
	return x * 5 + 7;
}

#define UNTRACED __attribute__((no_instrument_function))

static long calls;
static long (*function)(long);

UNTRACED static double cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

UNTRACED static void *work(void *result)
{
	// The first call lets the tracer set up its state for the thread.
	function(0);
	double start = cpu_ns();
	for (long i = 1; i < calls; i++)
		function(i);
	*(double *)result = cpu_ns() - start;
	return NULL;
}

UNTRACED int main(int argc, char **argv)
{
	static const struct { const char *name; long (*function)(long); } table[] = {
#ifdef NOP5
		{ "nop5", f_nop5 },
#else
		{ "nop", f_nop }, { "push", f_push }, { "ret", f_ret }, { "ordinary", f_ordinary },
#endif
		{ "compiled", compiled },
	};
	enum { MOST = 64 };
	if (argc != 4)
		return 2;
	for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
		if (!strcmp(table[i].name, argv[1]))
			function = table[i].function;
	calls = atol(argv[2]);
	int threads = atoi(argv[3]);
	if (!function || calls < 2 || threads < 1 || threads > MOST)
		return 2;
	double ns[MOST], sum = 0;
	pthread_t thread[MOST];
	for (int i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, work, &ns[i]))
			return 1;
	for (int i = 0; i < threads; i++) {
		pthread_join(thread[i], NULL);
		sum += ns[i];
	}
	printf("%.4f\n", sum / threads / (calls - 1));
	return 0;
}
