/*
 * elapsed.h
 *		How long something has taken, by a clock that nobody sets back.
 */
#ifndef MR_ELAPSED_H
#define MR_ELAPSED_H

#include "datatype/timestamp.h"
#include "portability/instr_time.h"

/* ms since then, with fractions */
static inline double
mr_ms_since(instr_time began)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, began);
	return INSTR_TIME_GET_MILLISEC(now);
}

/*
 * A time in microseconds by that clock, to be compared with others that any process of this server has
 * had from here; the server's functions for the difference of timestamps can be used with it.
 */
static inline TimestampTz
mr_steady_time(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (TimestampTz) INSTR_TIME_GET_MICROSEC(now);
}

#endif							/* MR_ELAPSED_H */
