/*
 * aggregate/call.h
 *		What the support functions of aggregates have in common.
 */
#ifndef MR_AGGREGATE_CALL_H
#define MR_AGGREGATE_CALL_H

#include "millrace.h"

#include "fmgr.h"

/* where the state of an aggregation lives; ERROR when a function is not called in one */
extern MemoryContext mr_call_context(FunctionCallInfo fcinfo);

/* a state, NULL: none yet */
static inline void *
mr_call_state(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : PG_GETARG_POINTER(arg);
}

/* an argument that must be the same for all rows of a group, and not null */
extern int	mr_call_integer(FunctionCallInfo fcinfo, int arg, const char *name, int low, int high);
extern double mr_call_fraction(FunctionCallInfo fcinfo, int arg, const char *name, bool with_ends);

/*
 * ERROR 54000 when a state takes more than millrace.state_memory.  nrows: that it has
 * collected, or -1; instead: what can be done about it, as the beginning of a sentence
 */
extern void mr_call_check_memory(Size memory, int64 nrows, const char *instead);

/* ERROR: such an argument has changed */
extern void mr_call_changed(const char *name) pg_attribute_noreturn();

#endif							/* MR_AGGREGATE_CALL_H */
