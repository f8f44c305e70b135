/*
 * json_encode.c
 *		Columns into a JSON object: the encoding half of the format json.
 *
 * Each column's value is written as row_to_json would write it.  Paths of several names make
 * nested objects, in the order in which their first column comes.  Numbers, booleans, text
 * and dates are written here; all else is to_json's.  Floating point numbers are always
 * written in full, whatever extra_float_digits says: the reader is a program.
 *
 * Several columns may read the same field, or one a whole object and another a part of it.
 * Then at most one of them can be written: whichever is not NULL.
 */
#include "postgres.h"

#include "format/json_encode.h"
#include "format/json_text.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

typedef struct ColumnEncoder
{
	const MrColumn *column;
	Oid			type;			/* base type */
	FmgrInfo	to_json;		/* when there is no shorter way */
} ColumnEncoder;

/* One name of the nested objects. */
typedef struct FieldNode
{
	const char *name;			/* NULL: the whole object */
	char	   *label;			/* as written: "name": */
	List	   *columns;		/* of int: those whose path ends here */
	List	   *children;		/* of FieldNode * */
} FieldNode;

struct MrEncoder
{
	ColumnEncoder *columns;
	FieldNode  *root;
	MemoryContext scratch;		/* emptied for each message */

	/* of the message being written */
	const Datum *values;
	const bool *isnull;
};

static void append_node(MrEncoder *encoder, const FieldNode *node, StringInfo out);

static FieldNode *
make_node(const char *name)
{
	FieldNode  *node = palloc0(sizeof(FieldNode));
	StringInfoData label;

	node->name = name;
	if (name != NULL)
	{
		initStringInfo(&label);
		mr_json_append_string(&label, name, strlen(name));
		appendStringInfoChar(&label, ':');
		node->label = label.data;
	}
	return node;
}

/* the child of that name, made when there is none yet */
static FieldNode *
get_child(FieldNode *node, const char *name)
{
	ListCell   *lc;
	FieldNode  *child;

	foreach(lc, node->children)
	{
		child = lfirst(lc);
		if (strcmp(child->name, name) == 0)
			return child;
	}
	child = make_node(name);
	node->children = lappend(node->children, child);
	return child;
}

/* to_json takes its argument's type from the expression it is called in */
static void
prepare_to_json(ColumnEncoder *c)
{
	Const	   *argument = makeNullConst(c->column->type, c->column->typmod, c->column->collation);

	fmgr_info(F_TO_JSON, &c->to_json);
	fmgr_info_set_expr((fmNodePtr) makeFuncExpr(F_TO_JSON, JSONOID, list_make1(argument),
												InvalidOid, c->column->collation,
												COERCE_EXPLICIT_CALL),
					   &c->to_json);
}

MrEncoder *
mr_json_create_encoder(const MrColumn *const *columns, int ncolumns)
{
	MrEncoder  *encoder = palloc0(sizeof(MrEncoder));

	encoder->columns = palloc0(sizeof(ColumnEncoder) * Max(ncolumns, 1));
	encoder->root = make_node(NULL);
	encoder->scratch = AllocSetContextCreate(CurrentMemoryContext, "millrace JSON encoder",
											 ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < ncolumns; i++)
	{
		FieldNode  *node = encoder->root;
		ListCell   *lc;

		encoder->columns[i].column = columns[i];
		encoder->columns[i].type = getBaseType(columns[i]->type);
		prepare_to_json(&encoder->columns[i]);
		foreach(lc, columns[i]->path)
			node = get_child(node, lfirst(lc));
		node->columns = lappend_int(node->columns, i);
	}
	return encoder;
}

static void
append_integer(StringInfo out, int64 value)
{
	char		buffer[MAXINT8LEN + 1];

	appendBinaryStringInfo(out, buffer, pg_lltoa(value, buffer));
}

/* len bytes of text that are a number, or what is no JSON number: NaN, Infinity */
static void
append_number(StringInfo out, const char *text, int len, bool finite)
{
	if (!finite)
		appendStringInfoChar(out, '"');
	appendBinaryStringInfo(out, text, len);
	if (!finite)
		appendStringInfoChar(out, '"');
}

static void
append_float4(StringInfo out, float4 value)
{
	char		buffer[FLOAT_SHORTEST_DECIMAL_LEN];

	append_number(out, buffer, float_to_shortest_decimal_buf(value, buffer),
				  !isnan(value) && !isinf(value));
}

static void
append_float8(StringInfo out, float8 value)
{
	char		buffer[DOUBLE_SHORTEST_DECIMAL_LEN];

	append_number(out, buffer, double_to_shortest_decimal_buf(value, buffer),
				  !isnan(value) && !isinf(value));
}

static void
append_numeric(StringInfo out, Datum value)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out, value));
	char		first = text[0] == '-' ? text[1] : text[0];

	append_number(out, text, strlen(text), first >= '0' && first <= '9');
}

static void
append_varlena(StringInfo out, Datum value, bool quote)
{
	struct varlena *text = PG_DETOAST_DATUM_PACKED(value);

	if (quote)
		mr_json_append_string(out, VARDATA_ANY(text), VARSIZE_ANY_EXHDR(text));
	else
		appendBinaryStringInfo(out, VARDATA_ANY(text), VARSIZE_ANY_EXHDR(text));
}

static void
append_datetime(StringInfo out, Datum value, Oid type)
{
	char		buffer[MAXDATELEN + 1];

	appendStringInfoChar(out, '"');
	appendStringInfoString(out, JsonEncodeDateTime(buffer, value, type, NULL));
	appendStringInfoChar(out, '"');
}

static void
append_value(ColumnEncoder *c, Datum value, StringInfo out)
{
	switch (c->type)
	{
		case BOOLOID:
			appendStringInfoString(out, DatumGetBool(value) ? "true" : "false");
			break;
		case INT2OID:
			append_integer(out, DatumGetInt16(value));
			break;
		case INT4OID:
			append_integer(out, DatumGetInt32(value));
			break;
		case INT8OID:
			append_integer(out, DatumGetInt64(value));
			break;
		case FLOAT4OID:
			append_float4(out, DatumGetFloat4(value));
			break;
		case FLOAT8OID:
			append_float8(out, DatumGetFloat8(value));
			break;
		case NUMERICOID:
			append_numeric(out, value);
			break;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			append_varlena(out, value, true);
			break;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			append_datetime(out, value, c->type);
			break;
		case JSONOID:
			append_varlena(out, value, false);
			break;
		default:
			append_varlena(out, FunctionCall1(&c->to_json, value), false);
			break;
	}
}

/* is any column below this node to be written? */
static bool
has_value(const MrEncoder *encoder, const FieldNode *node)
{
	ListCell   *lc;

	foreach(lc, node->columns)
		if (!encoder->isnull[lfirst_int(lc)])
		return true;
	foreach(lc, node->children)
		if (has_value(encoder, lfirst(lc)))
		return true;
	return false;
}

/* the column that a name stands for, -1: none, its children are written */
static int
choose_column(const MrEncoder *encoder, const FieldNode *node)
{
	int			chosen = -1;
	bool		ambiguous = false;
	ListCell   *lc;

	foreach(lc, node->columns)
		if (!encoder->isnull[lfirst_int(lc)])
	{
		ambiguous |= chosen >= 0;
		chosen = lfirst_int(lc);
	}
	foreach(lc, node->children)
		ambiguous |= chosen >= 0 && has_value(encoder, lfirst(lc));
	if (ambiguous)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" shares its field with another column",
						encoder->columns[chosen].column->name),
				 errhint("At most one of the columns that read the same field can be written.")));
	if (chosen < 0 && node->children == NIL)
		chosen = linitial_int(node->columns);
	return chosen;
}

static void
append_object(MrEncoder *encoder, const FieldNode *node, StringInfo out)
{
	char		separator = '{';
	ListCell   *lc;

	foreach(lc, node->children)
	{
		const FieldNode *child = lfirst(lc);

		appendStringInfoChar(out, separator);
		appendStringInfoString(out, child->label);
		append_node(encoder, child, out);
		separator = ',';
	}
	if (separator == '{')
		appendStringInfoChar(out, '{');
	appendStringInfoChar(out, '}');
}

static void
append_node(MrEncoder *encoder, const FieldNode *node, StringInfo out)
{
	int			column = choose_column(encoder, node);

	if (column < 0)
		append_object(encoder, node, out);
	else if (encoder->isnull[column])
		appendStringInfoString(out, "null");
	else
		append_value(&encoder->columns[column], encoder->values[column], out);
}

void
mr_json_encode(MrEncoder *encoder, const Datum *values, const bool *isnull, StringInfo out)
{
	MemoryContext old;
	StringInfoData json;
	char	   *utf8;

	MemoryContextReset(encoder->scratch);
	old = MemoryContextSwitchTo(encoder->scratch);
	encoder->values = values;
	encoder->isnull = isnull;
	initStringInfo(&json);
	append_object(encoder, encoder->root, &json);
	utf8 = pg_server_to_any(json.data, json.len, PG_UTF8);
	MemoryContextSwitchTo(old);
	appendBinaryStringInfo(out, utf8, utf8 == json.data ? json.len : strlen(utf8));
}
