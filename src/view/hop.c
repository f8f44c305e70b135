/*
 * view/hop.c
 *		hop(): the overlapping windows that a time lies in.
 *
 * Windows begin every so often, counted from 2001-01-01 00:00 (of a timestamp with time
 * zone: UTC), a Monday, and are of one size.  The support function tells the planner how many
 * rows a call gives, which is the same for nearly all times.
 */
#include "millrace.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/supportnodes.h"
#include "utils/timestamp.h"

#define HOP_ORIGIN		(366 * USECS_PER_DAY)

/* what is left to return of one call */
typedef struct Hops
{
	Timestamp	next;
	Timestamp	last;
	int64		every;
} Hops;

PG_FUNCTION_INFO_V1(mr_hop);
PG_FUNCTION_INFO_V1(mr_hop_support);

/* microseconds of an interval, a day 24 hours; ERROR where that is not certain */
static int64
length_of(const Interval *interval, const char *name)
{
	int64		result;

	if (interval->month != 0)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("hop() does not support intervals of months or years"),
				errhint("Months are not equally long; give \"%s\" in days or less.", name));
	if (pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &result) ||
		pg_add_s64_overflow(result, interval->time, &result) || result <= 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" of hop() must be greater than zero", name));
	return result;
}

static Hops *
begin_hops(FunctionCallInfo fcinfo, FuncCallContext *context)
{
	Hops	   *hops = MemoryContextAlloc(context->multi_call_memory_ctx, sizeof(Hops));
	Timestamp	time = PG_GETARG_TIMESTAMP(0);
	int64		size = length_of(PG_GETARG_INTERVAL_P(2), "size");
	int64		rest;
	int64		oldest;

	hops->every = length_of(PG_GETARG_INTERVAL_P(1), "every");
	hops->next = 0;
	hops->last = -1;
	if (TIMESTAMP_NOT_FINITE(time))
		return hops;			/* no window, or all of them */
	if (pg_sub_s64_overflow(time, size, &oldest) || pg_sub_s64_overflow(time, hops->every, &rest) ||
		oldest < MIN_TIMESTAMP || rest < MIN_TIMESTAMP)
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("timestamp out of range"));

	/*
	 * the last one begins at the time or before, the first one less than size
	 * before
	 */
	rest = (time - HOP_ORIGIN) % hops->every;
	hops->last = time - (rest < 0 ? rest + hops->every : rest);
	rest = (oldest - HOP_ORIGIN) % hops->every;
	hops->next = oldest - (rest < 0 ? rest + hops->every : rest) + hops->every;
	return hops;
}

/* hop(time timestamp or timestamptz, every, size): beginnings of windows, the first one first */
Datum
mr_hop(PG_FUNCTION_ARGS)
{
	FuncCallContext *context;
	Hops	   *hops;
	Timestamp	result;

	if (SRF_IS_FIRSTCALL())
	{
		context = SRF_FIRSTCALL_INIT();
		context->user_fctx = begin_hops(fcinfo, context);
	}
	context = SRF_PERCALL_SETUP();
	hops = context->user_fctx;
	if (hops->next > hops->last)
		SRF_RETURN_DONE(context);
	result = hops->next;
	if (pg_add_s64_overflow(result, hops->every, &hops->next))
		hops->last = PG_INT64_MIN;	/* no time is so late */
	SRF_RETURN_NEXT(context, TimestampGetDatum(result));
}

/* an argument as an interval, if the planner knows it */
static const Interval *
known_interval(const List *args, int n)
{
	Node	   *arg = list_nth(args, n);

	if (!IsA(arg, Const) || ((Const *) arg)->constisnull || ((Const *) arg)->consttype != INTERVALOID)
		return NULL;
	return DatumGetIntervalP(((Const *) arg)->constvalue);
}

static double
rough_length(const Interval *interval)
{
	return interval->time + (interval->day + interval->month * 30.0) * (double) USECS_PER_DAY;
}

/* hop_support(internal): how many rows a call gives */
Datum
mr_hop_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);
	SupportRequestRows *rows = (SupportRequestRows *) request;
	const Interval *every;
	const Interval *size;

	if (!IsA(request, SupportRequestRows) || !is_funcclause(rows->node))
		PG_RETURN_POINTER(NULL);
	every = known_interval(((FuncExpr *) rows->node)->args, 1);
	size = known_interval(((FuncExpr *) rows->node)->args, 2);
	if (every == NULL || size == NULL || rough_length(every) <= 0 || rough_length(size) <= 0)
		PG_RETURN_POINTER(NULL);
	rows->rows = Max(rough_length(size) / rough_length(every), 1);
	PG_RETURN_POINTER(request);
}
