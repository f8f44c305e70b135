/*
 * format/scalar.h
 *		Direct ways from text to the Datum of a common type, without input functions.
 */
#ifndef MR_SCALAR_H
#define MR_SCALAR_H

#include "format/format.h"

typedef enum MrOutcome
{
	MR_CONVERTED,
	MR_REJECTED,				/* *reject says why, without naming the column */
	MR_ASK_SERVER				/* only the type's input function can tell */
} MrOutcome;

/*
 * Same result as the type's input function; allocates in CurrentMemoryContext.  str is in
 * the database's encoding, without zero bytes, not terminated.  Does not throw.
 */
typedef MrOutcome (*MrScalarConvert) (const char *str, size_t len, int32 typmod,
									  Datum *value, MrReject *reject);

/*
 * NULL when there is no direct way.  *may_throw: could the input function that is asked
 * in rare cases throw?
 */
extern MrScalarConvert mr_scalar_find(Oid type, bool *may_throw);

#endif							/* MR_SCALAR_H */
