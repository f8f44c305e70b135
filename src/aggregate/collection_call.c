/*
 * aggregate/collection_call.c
 *		Aggregates whose state is a collection: the functions that they share.
 *
 * The state is internal.  What is collected is the transition function's business, and what
 * becomes of it the final function's; combining, writing and reading are the same for all.
 */
#include "millrace.h"

#include "aggregate/call.h"
#include "aggregate/collection_call.h"

PG_FUNCTION_INFO_V1(mr_collection_combine);
PG_FUNCTION_INFO_V1(mr_collection_write);
PG_FUNCTION_INFO_V1(mr_collection_read);

MrCollection *
mr_collection_argument(FunctionCallInfo fcinfo, MrCollectionKind kind)
{
	MrCollection *collection = mr_call_state(fcinfo, 0);

	if (collection != NULL)
		mr_collection_check(collection, kind);
	return collection;
}

void
mr_collection_check_column(const MrCollection *collection, int column, Oid type)
{
	if (column < 0 || column >= mr_collection_ncolumns(collection) ||
		mr_collection_column(collection, column)->entry->type_id != type)
		mr_bad_state("it holds values of another type");
}

MrCollection *
mr_collection_begin(FunctionCallInfo fcinfo, MrCollectionKind kind, int limit,
					int ncolumns, const int *columns)
{
	MemoryContext context = mr_call_context(fcinfo);
	MrCollection *collection = mr_collection_argument(fcinfo, kind);
	const MrRowType *row = fcinfo->flinfo->fn_extra;

	if (collection != NULL)
		return collection;
	if (row == NULL)
	{
		Oid			types[MR_ROW_COLUMNS];

		for (int i = 0; i < ncolumns; i++)
			types[i] = mr_argument_type(fcinfo, columns[i]);
		row = mr_row_type(fcinfo->flinfo, ncolumns, types);
	}
	return mr_collection_create(kind, row, PG_GET_COLLATION(), limit, context);
}

void
mr_collection_add_arguments(MrCollection *collection, FunctionCallInfo fcinfo, const int *columns)
{
	Datum		values[MR_ROW_COLUMNS];
	bool		isnull[MR_ROW_COLUMNS];

	for (int i = 0; i < mr_collection_ncolumns(collection); i++)
	{
		values[i] = PG_GETARG_DATUM(columns[i]);
		isnull[i] = PG_ARGISNULL(columns[i]);
	}
	mr_collection_add(collection, values, isnull);
}

/* collection_combine(internal, internal) */
Datum
mr_collection_combine(PG_FUNCTION_ARGS)
{
	MemoryContext context = mr_call_context(fcinfo);
	MrCollection *into = mr_call_state(fcinfo, 0);

	if (!PG_ARGISNULL(1))
		into = mr_collection_merge(into, (MrCollection *) PG_GETARG_POINTER(1), PG_GET_COLLATION(), context);
	if (into == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(into);
}

/* collection_write(internal) */
Datum
mr_collection_write(PG_FUNCTION_ARGS)
{
	(void) mr_call_context(fcinfo);
	PG_RETURN_BYTEA_P(mr_collection_serialize((MrCollection *) PG_GETARG_POINTER(0)));
}

/* collection_read(bytea, internal) */
Datum
mr_collection_read(PG_FUNCTION_ARGS)
{
	(void) mr_call_context(fcinfo);
	PG_RETURN_POINTER(mr_collection_deserialize(PG_GETARG_BYTEA_PP(0), fcinfo->flinfo));
}
