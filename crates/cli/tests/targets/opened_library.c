/* A library that needs nothing. Built twice with different work (-DFACTOR), with t_opened_work at
 * different addresses. */
#include "target.h"

#if FACTOR == 3
T long t_opened_three(long n) { return n * n * n + 3; }
T long t_opened_more(long n) { return t_opened_three(n) * 7 + n; }
#endif
T long t_opened_helper(long n) { return n * FACTOR; }
T long t_opened_work(long n) { return t_opened_helper(n) + 1; }
