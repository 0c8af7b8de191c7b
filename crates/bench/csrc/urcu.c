/* The reader's loop over one flavour of liburcu, in C because its fast paths are inline functions
 * of its headers. Compiled once per flavour. */
#define _LGPL_SOURCE
#include <stdint.h>

#if defined(TRAPLINE_MEMB)
#include <urcu/urcu-memb.h>
#define URCU(name) urcu_memb_##name
#define EXPORT(name) trapline_urcu_memb_##name
#elif defined(TRAPLINE_QSBR)
#include <urcu/urcu-qsbr.h>
#define URCU(name) urcu_qsbr_##name
#define EXPORT(name) trapline_urcu_qsbr_##name
#else
#include <urcu/urcu-bp.h>
#define URCU(name) urcu_bp_##name
#define EXPORT(name) trapline_urcu_bp_##name
#endif

void EXPORT(register)(void)
{
	URCU(register_thread)();
}

void EXPORT(unregister)(void)
{
	URCU(unregister_thread)();
}

/* `loops` sections, each with one read of what `*source` points to. With qsbr a section costs
 * nothing and the announcement that it is over is what counts. */
uint64_t EXPORT(read)(uint64_t *const *source, uint64_t loops)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < loops; i++) {
		URCU(read_lock)();
		sum += *(volatile uint64_t *)rcu_dereference(*(uint64_t **)source);
		URCU(read_unlock)();
#if defined(TRAPLINE_QSBR)
		URCU(quiescent_state)();
#endif
	}
	return sum;
}
