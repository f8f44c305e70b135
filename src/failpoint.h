/*
 * failpoint.h
 *		Places where a test can make the process fail.
 *
 * Compiled in by "make FAILPOINTS=1" only; otherwise they are nothing at all.
 */
#ifndef MR_FAILPOINT_H
#define MR_FAILPOINT_H

#include "millrace.h"

#ifdef MR_FAILPOINTS

/*
 * A name is "area-place"; t/lib/MillraceFailpoint.pm knows how to get to each area.  Names are
 * collected by the linker, so that a test can ask for all of them.
 */
#define MR_FAILPOINT(name) \
	do { \
		static const char *const failpoint_ \
			__attribute__((section("mr_failpoints"), used)) = name; \
		mr_failpoint(failpoint_); \
	} while (0)

extern void mr_failpoint(const char *name);

/* in shmem_request_hook and shmem_startup_hook */
extern void mr_failpoint_request(void);
extern void mr_failpoint_startup(void);

#else

#define MR_FAILPOINT(name)	((void) 0)
#define mr_failpoint_request()	((void) 0)
#define mr_failpoint_startup()	((void) 0)

#endif

#endif							/* MR_FAILPOINT_H */
