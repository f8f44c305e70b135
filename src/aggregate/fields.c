/*
 * aggregate/fields.c
 *		JSON objects put together: jsonb_object_agg(), json_object_agg().
 *
 * The server's own cannot be combined.  Names are text.  Of several values of a name the one
 * with the greatest order_by is taken (null counts as the least), and among those, or without
 * order_by, the greatest value by jsonb's own comparison: with a number that is the largest.
 * So the result does not depend on the order in which rows come.  json_object_agg() gives the
 * same object as json; it has no duplicate names, unlike the server's own.
 */
#include "millrace.h"

#include "aggregate/call.h"
#include "aggregate/collection_call.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

PG_FUNCTION_INFO_V1(mr_object_transition);
PG_FUNCTION_INFO_V1(mr_object_ordered_transition);
PG_FUNCTION_INFO_V1(mr_jsonb_object_final);
PG_FUNCTION_INFO_V1(mr_json_object_final);

static void
check_name(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("field name must not be null"));
}

/* (internal, name text, value jsonb) */
Datum
mr_object_transition(PG_FUNCTION_ARGS)
{
	static const int columns[] = {1, 2};
	MrCollection *collection = mr_collection_begin(fcinfo, MR_COLLECT_FIELDS, 0, 2, columns);

	check_name(fcinfo);
	mr_collection_add_arguments(collection, fcinfo, columns);
	PG_RETURN_POINTER(collection);
}

/* (internal, name text, value jsonb, order_by) */
Datum
mr_object_ordered_transition(PG_FUNCTION_ARGS)
{
	static const int columns[] = {1, 3, 2};
	MrCollection *collection = mr_collection_begin(fcinfo, MR_COLLECT_FIELDS, 0, 3, columns);

	check_name(fcinfo);
	if (PG_ARGISNULL(0))
		mr_value_check_ordered(mr_collection_column(collection, 1));
	mr_collection_add_arguments(collection, fcinfo, columns);
	PG_RETURN_POINTER(collection);
}

static void
push_name(JsonbParseState **state, Datum name)
{
	JsonbValue	key;

	key.type = jbvString;
	key.val.string.val = VARDATA_ANY(DatumGetPointer(name));
	key.val.string.len = VARSIZE_ANY_EXHDR(DatumGetPointer(name));
	(void) pushJsonbValue(state, WJB_KEY, &key);
}

static void
push_value(JsonbParseState **state, Datum value, bool isnull)
{
	JsonbValue	field;

	if (isnull)
		field.type = jbvNull;
	else if (!JB_ROOT_IS_SCALAR(DatumGetJsonbP(value)))
		JsonbToJsonbValue(DatumGetJsonbP(value), &field);
	else
		(void) JsonbExtractScalar(&DatumGetJsonbP(value)->root, &field);
	(void) pushJsonbValue(state, WJB_VALUE, &field);
}

static Jsonb *
make_object(MrCollection *collection, Oid collation)
{
	JsonbParseState *state = NULL;
	int			last = mr_collection_ncolumns(collection) - 1;
	int64		n;

	mr_collection_check_column(collection, 0, TEXTOID);
	mr_collection_check_column(collection, last, JSONBOID);
	n = mr_collection_finish(collection, false, collation);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int64 i = 0; i < n; i++)
	{
		Datum		values[MR_ROW_COLUMNS];
		bool		isnull[MR_ROW_COLUMNS];

		mr_collection_get(collection, i, values, isnull);
		push_name(&state, values[0]);
		push_value(&state, values[last], isnull[last]);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* null when there were no rows */
Datum
mr_jsonb_object_final(PG_FUNCTION_ARGS)
{
	MrCollection *collection = mr_collection_argument(fcinfo, MR_COLLECT_FIELDS);

	(void) mr_call_context(fcinfo);
	if (collection == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(make_object(collection, PG_GET_COLLATION()));
}

Datum
mr_json_object_final(PG_FUNCTION_ARGS)
{
	MrCollection *collection = mr_collection_argument(fcinfo, MR_COLLECT_FIELDS);
	Jsonb	   *object;

	(void) mr_call_context(fcinfo);
	if (collection == NULL)
		PG_RETURN_NULL();
	object = make_object(collection, PG_GET_COLLATION());
	PG_RETURN_TEXT_P(cstring_to_text(JsonbToCString(NULL, &object->root, VARSIZE(object))));
}
