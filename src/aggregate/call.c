/*
 * aggregate/call.c
 *		What the support functions of aggregates have in common.
 *
 * They are called by Agg and WindowAgg nodes, and by ingest and readers of continuous
 * views with an AggState that has nothing but a memory context; that is all they ask for.
 */
#include "millrace.h"

#include "aggregate/call.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

MemoryContext
mr_call_context(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("function %s() can only be called as a part of an aggregate",
					   get_func_name(fcinfo->flinfo->fn_oid)));
	return context;
}

static void
check_not_null(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("%s must not be null", name));
}

int
mr_call_integer(FunctionCallInfo fcinfo, int arg, const char *name, int low, int high)
{
	int			value;

	check_not_null(fcinfo, arg, name);
	value = PG_GETARG_INT32(arg);
	if (value < low || value > high)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s must be between %d and %d", name, low, high));
	return value;
}

double
mr_call_fraction(FunctionCallInfo fcinfo, int arg, const char *name, bool with_ends)
{
	double		value;

	check_not_null(fcinfo, arg, name);
	value = PG_GETARG_FLOAT8(arg);
	if (!(value >= 0 && value <= 1) || (!with_ends && (value == 0 || value == 1)))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s must be between 0 and 1", name),
				with_ends ? 0 : errdetail("Neither 0 nor 1 is possible."));
	return value;
}

void
mr_call_changed(const char *name)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("%s must be the same for all rows of a group", name));
}

void
mr_call_check_memory(Size memory, int64 nrows, const char *instead)
{
	Size		limit = Min((Size) mr_state_memory * 1024, MaxAllocSize);

	if (memory > limit)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("state of an aggregate exceeds the maximum of %zu kB", limit / 1024),
				nrows < 0 ? 0 : errdetail("One group has collected %lld rows.", (long long) nrows),
				errhint("%s, or raise \"%s\".", instead, "millrace.state_memory"));
}
