/*
 * aggregate/by_key.c
 *		The value that has the least or the greatest key: first(), last(), min_by(), max_by().
 *
 * first(value, key) and min_by(value, key) are one and the same, under two names that
 * people look for; so are last() and max_by().  A row whose key is null is not looked at;
 * a null value is a value.  Of rows with equal keys the least value is first and the
 * greatest is last, nulls behind all others, so the result does not depend on the order in
 * which rows come.
 *
 * With a third argument n they give up to n values, as an array in the order of the keys,
 * beginning with the best.
 */
#include "millrace.h"

#include "aggregate/call.h"
#include "aggregate/collection_call.h"
#include "utils/array.h"
#include "utils/memutils.h"

#define MOST	10000

PG_FUNCTION_INFO_V1(mr_first_transition);
PG_FUNCTION_INFO_V1(mr_last_transition);
PG_FUNCTION_INFO_V1(mr_first_n_transition);
PG_FUNCTION_INFO_V1(mr_last_n_transition);
PG_FUNCTION_INFO_V1(mr_by_key_final);
PG_FUNCTION_INFO_V1(mr_by_key_n_final);

/* (internal, value, key): the columns are key and value */
static const int columns[] = {2, 1};

static Datum
transition(FunctionCallInfo fcinfo, MrCollectionKind kind, int n)
{
	MrCollection *collection = mr_collection_begin(fcinfo, kind, n, 2, columns);

	if (mr_collection_limit(collection) != n)
		mr_call_changed("number of values");
	if (!PG_ARGISNULL(2))
		mr_collection_add_arguments(collection, fcinfo, columns);
	PG_RETURN_POINTER(collection);
}

Datum
mr_first_transition(PG_FUNCTION_ARGS)
{
	return transition(fcinfo, MR_COLLECT_LEAST, 1);
}

Datum
mr_last_transition(PG_FUNCTION_ARGS)
{
	return transition(fcinfo, MR_COLLECT_GREATEST, 1);
}

Datum
mr_first_n_transition(PG_FUNCTION_ARGS)
{
	return transition(fcinfo, MR_COLLECT_LEAST, mr_call_integer(fcinfo, 3, "number of values", 1, MOST));
}

Datum
mr_last_n_transition(PG_FUNCTION_ARGS)
{
	return transition(fcinfo, MR_COLLECT_GREATEST, mr_call_integer(fcinfo, 3, "number of values", 1, MOST));
}

/* the state of a final function; its values are of the first argument's type */
static MrCollection *
final_argument(FunctionCallInfo fcinfo)
{
	MrCollection *collection = mr_call_state(fcinfo, 0);

	(void) mr_call_context(fcinfo);
	if (collection == NULL)
		return NULL;
	if (mr_collection_limit(collection) == 0)
		mr_bad_state("it is of another kind");
	mr_collection_check_column(collection, 1, mr_argument_type(fcinfo, 1));
	return collection;
}

/* (internal, arguments that only tell types): the value, null when there is none */
Datum
mr_by_key_final(PG_FUNCTION_ARGS)
{
	MrCollection *collection = final_argument(fcinfo);
	Datum		values[MR_ROW_COLUMNS];
	bool		isnull[MR_ROW_COLUMNS];

	if (collection == NULL || mr_collection_finish(collection, true, PG_GET_COLLATION()) == 0)
		PG_RETURN_NULL();
	mr_collection_get(collection, 0, values, isnull);
	if (isnull[1])
		PG_RETURN_NULL();
	PG_RETURN_DATUM(values[1]);
}

/* the same: an array, null when there is no row */
Datum
mr_by_key_n_final(PG_FUNCTION_ARGS)
{
	MrCollection *collection = final_argument(fcinfo);
	ArrayBuildState *result = NULL;
	int64		n;

	if (collection == NULL ||
		(n = mr_collection_finish(collection, true, PG_GET_COLLATION())) == 0)
		PG_RETURN_NULL();
	for (int64 i = 0; i < n; i++)
	{
		Datum		values[MR_ROW_COLUMNS];
		bool		isnull[MR_ROW_COLUMNS];

		mr_collection_get(collection, i, values, isnull);
		result = accumArrayResult(result, values[1], isnull[1],
								  mr_collection_column(collection, 1)->entry->type_id, CurrentMemoryContext);
	}
	return makeArrayResult(result, CurrentMemoryContext);
}
