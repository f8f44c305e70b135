/*
 * aggregate/set.c
 *		Distinct values: set_agg() gives them, count_distinct() says how many there are.
 *
 * Both are exact, and what they cost is the set itself, in the group's state: memory while it
 * is worked on, its bytes in the table for as long as the group is there.  Every merge of a
 * batch into the group reads and writes the whole state.  approx_count_distinct() is for
 * those who cannot afford that.
 *
 * Equal is what the type says (1.0 and 1.00 are); which one of equal values is shown does
 * not depend on the order in which they come.
 */
#include "millrace.h"

#include "aggregate/call.h"
#include "aggregate/collection_call.h"
#include "utils/array.h"

PG_FUNCTION_INFO_V1(mr_distinct_transition);
PG_FUNCTION_INFO_V1(mr_count_distinct_final);
PG_FUNCTION_INFO_V1(mr_set_final);

/* (internal, value) */
Datum
mr_distinct_transition(PG_FUNCTION_ARGS)
{
	static const int columns[] = {1};
	MrCollection *collection = mr_collection_begin(fcinfo, MR_COLLECT_DISTINCT, 0, 1, columns);

	if (PG_ARGISNULL(1))
		mr_collection_add_null(collection);
	else
		mr_collection_add_arguments(collection, fcinfo, columns);
	PG_RETURN_POINTER(collection);
}

/* nulls do not count, as in count(DISTINCT value) */
Datum
mr_count_distinct_final(PG_FUNCTION_ARGS)
{
	MrCollection *collection = mr_collection_argument(fcinfo, MR_COLLECT_DISTINCT);

	(void) mr_call_context(fcinfo);
	if (collection == NULL)
		PG_RETURN_INT64(0);
	PG_RETURN_INT64(mr_collection_finish(collection, false, PG_GET_COLLATION()));
}

/* in order, a null at the end, as array_agg(DISTINCT value); null when there were no rows */
Datum
mr_set_final(PG_FUNCTION_ARGS)
{
	MrCollection *collection = mr_collection_argument(fcinfo, MR_COLLECT_DISTINCT);
	ArrayBuildState *result;
	int64		n;
	Oid			type;

	(void) mr_call_context(fcinfo);
	if (collection == NULL)
		PG_RETURN_NULL();
	type = mr_argument_type(fcinfo, 1);
	mr_collection_check_column(collection, 0, type);
	n = mr_collection_finish(collection, true, PG_GET_COLLATION());
	result = initArrayResult(type, CurrentMemoryContext, false);
	for (int64 i = 0; i < n; i++)
	{
		Datum		value;
		bool		isnull;

		mr_collection_get(collection, i, &value, &isnull);
		result = accumArrayResult(result, value, isnull, type, CurrentMemoryContext);
	}
	if (mr_collection_has_null(collection))
		result = accumArrayResult(result, (Datum) 0, true, type, CurrentMemoryContext);
	return makeArrayResult(result, CurrentMemoryContext);
}
