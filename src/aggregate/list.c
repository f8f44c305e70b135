/*
 * aggregate/list.c
 *		Values put together: array_agg(), string_agg().
 *
 * The server's own have no combine function before PostgreSQL 16, and cannot be combined
 * with an order; these can, in all versions.  Their last argument is what the values are
 * ordered by: ascending, nulls at the end, and of rows that are equal by that the lesser value
 * first.  Without it the order is that in which rows and states happened to be put together.
 */
#include "millrace.h"

#include "aggregate/call.h"
#include "aggregate/collection_call.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(mr_array_transition);
PG_FUNCTION_INFO_V1(mr_array_ordered_transition);
PG_FUNCTION_INFO_V1(mr_array_final);
PG_FUNCTION_INFO_V1(mr_string_transition);
PG_FUNCTION_INFO_V1(mr_string_ordered_transition);
PG_FUNCTION_INFO_V1(mr_string_final);

/* (internal, value) */
Datum
mr_array_transition(PG_FUNCTION_ARGS)
{
	static const int columns[] = {1};
	MrCollection *collection = mr_collection_begin(fcinfo, MR_COLLECT_ALL, 0, 1, columns);

	mr_collection_add_arguments(collection, fcinfo, columns);
	PG_RETURN_POINTER(collection);
}

/* (internal, value, order_by) */
Datum
mr_array_ordered_transition(PG_FUNCTION_ARGS)
{
	static const int columns[] = {2, 1};
	MrCollection *collection = mr_collection_begin(fcinfo, MR_COLLECT_ALL, 0, 2, columns);

	if (PG_ARGISNULL(0))
		mr_value_check_ordered(mr_collection_column(collection, 0));
	mr_collection_add_arguments(collection, fcinfo, columns);
	PG_RETURN_POINTER(collection);
}

/* null when there were no rows; the value is the last column, and before it is the order */
Datum
mr_array_final(PG_FUNCTION_ARGS)
{
	MrCollection *collection = mr_collection_argument(fcinfo, MR_COLLECT_ALL);
	ArrayBuildState *result = NULL;
	int			column;
	int64		n;

	(void) mr_call_context(fcinfo);
	if (collection == NULL)
		PG_RETURN_NULL();
	column = mr_collection_ncolumns(collection) - 1;
	mr_collection_check_column(collection, column, mr_argument_type(fcinfo, 1));
	n = mr_collection_finish(collection, column > 0, PG_GET_COLLATION());
	if (n == 0)
		PG_RETURN_NULL();
	for (int64 i = 0; i < n; i++)
	{
		Datum		values[MR_ROW_COLUMNS];
		bool		isnull[MR_ROW_COLUMNS];

		mr_collection_get(collection, i, values, isnull);
		result = accumArrayResult(result, values[column], isnull[column],
								  mr_collection_column(collection, column)->entry->type_id,
								  CurrentMemoryContext);
	}
	return makeArrayResult(result, CurrentMemoryContext);
}

/* (internal, value, delimiter), both text or both bytea; null values are passed over */
Datum
mr_string_transition(PG_FUNCTION_ARGS)
{
	static const int columns[] = {1, 2};
	MrCollection *collection = mr_collection_begin(fcinfo, MR_COLLECT_ALL, 0, 2, columns);

	if (!PG_ARGISNULL(1))
		mr_collection_add_arguments(collection, fcinfo, columns);
	PG_RETURN_POINTER(collection);
}

/* (internal, value, delimiter, order_by) */
Datum
mr_string_ordered_transition(PG_FUNCTION_ARGS)
{
	static const int columns[] = {3, 1, 2};
	MrCollection *collection = mr_collection_begin(fcinfo, MR_COLLECT_ALL, 0, 3, columns);

	if (PG_ARGISNULL(0))
		mr_value_check_ordered(mr_collection_column(collection, 0));
	if (!PG_ARGISNULL(1))
		mr_collection_add_arguments(collection, fcinfo, columns);
	PG_RETURN_POINTER(collection);
}

/* text or bytea, of which both are made in the same way */
static void
check_strings(const MrCollection *collection, int column)
{
	mr_collection_check_column(collection, column,
							   column >= 0 && mr_collection_column(collection, column)->entry->type_id == BYTEAOID ? BYTEAOID : TEXTOID);
}

static void
append_value(StringInfo result, Datum value)
{
	appendBinaryStringInfo(result, VARDATA_ANY(DatumGetPointer(value)),
						   VARSIZE_ANY_EXHDR(DatumGetPointer(value)));
}

/* each value but the first with its own delimiter before it; null when there is none */
Datum
mr_string_final(PG_FUNCTION_ARGS)
{
	MrCollection *collection = mr_collection_argument(fcinfo, MR_COLLECT_ALL);
	StringInfoData result;
	int			delimiter;
	int64		n;

	(void) mr_call_context(fcinfo);
	if (collection == NULL)
		PG_RETURN_NULL();
	delimiter = mr_collection_ncolumns(collection) - 1;
	check_strings(collection, delimiter - 1);
	check_strings(collection, delimiter);
	n = mr_collection_finish(collection, delimiter > 1, PG_GET_COLLATION());
	if (n == 0)
		PG_RETURN_NULL();
	initStringInfo(&result);
	for (int64 i = 0; i < n; i++)
	{
		Datum		values[MR_ROW_COLUMNS];
		bool		isnull[MR_ROW_COLUMNS];

		mr_collection_get(collection, i, values, isnull);
		if (i > 0 && !isnull[delimiter])
			append_value(&result, values[delimiter]);
		append_value(&result, values[delimiter - 1]);
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(result.data, result.len));
}
