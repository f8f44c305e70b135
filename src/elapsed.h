/*
 * elapsed.h
 *		How long something has taken, by a clock that nobody sets back.
 */
#ifndef MR_ELAPSED_H
#define MR_ELAPSED_H

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

#endif							/* MR_ELAPSED_H */
