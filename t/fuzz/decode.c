/*
 * t/fuzz/decode.c
 *		Feeds the JSON decoder with messages that libFuzzer thinks of.
 *
 * One decoder for a column of each type that has a direct way, for json, and for paths that
 * share names, as long as the program runs.  A message must be taken or refused; besides
 * what the sanitizers say of it:
 *
 * - text that is taken, and the reason of a refusal, are valid UTF-8 without a zero byte,
 *   and the reason is of a bearable length;
 * - a json value is one;
 * - the same message means the same after any other one: no state is left behind.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "format/format.h"
#include "format/json_text.h"
#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"

#include "backend.h"

#define LONGEST_REASON	1000

typedef struct FuzzColumn
{
	Oid			type;
	int32		typmod;
	const char *names[4];		/* the path */
} FuzzColumn;

static const FuzzColumn fuzz_columns[] = {
	{TEXTOID, -1, {"t"}},
	{INT4OID, -1, {"i"}},
	{INT8OID, -1, {"n"}},
	{INT2OID, -1, {"a", "b", "c"}},
	{FLOAT8OID, -1, {"f"}},
	{FLOAT4OID, -1, {"a", "f"}},
	{BOOLOID, -1, {"a", "b"}},
	{NUMERICOID, -1, {"d"}},
	{NUMERICOID, VARHDRSZ + (10 << 16 | 2), {"e"}},
	{VARCHAROID, VARHDRSZ + 5, {"v"}},
	{BPCHAROID, VARHDRSZ + 5, {"p"}},
	{UUIDOID, -1, {"u"}},
	{DATEOID, -1, {"date"}},
	{TIMESTAMPOID, -1, {"ts"}},
	{TIMESTAMPTZOID, -1, {"tz"}},
	{JSONOID, -1, {"a"}},
	{TEXTOID, -1, {"a", ""}},
	{TEXTOID, -1, {"a long name of more than sixteen bytes"}},
	{TEXTOID, -1, {"\303\251"}},
	{JSONBOID, -1, {"j"}},
};

typedef struct Result
{
	bool		taken;
	Datum		values[lengthof(fuzz_columns)];
	bool		isnull[lengthof(fuzz_columns)];
	MrReject	reject;
} Result;

static MrDecoder *decoder = NULL;

extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

/* a list without the server's list functions */
static List *
make_path(const char *const *names)
{
	List	   *list = palloc0(sizeof(List));

	list->type = T_List;
	list->elements = palloc0(sizeof(ListCell) * lengthof(fuzz_columns[0].names));
	for (int i = 0; i < lengthof(fuzz_columns[0].names) && names[i] != NULL; i++)
		list->elements[list->length++].ptr_value = unconstify(char *, names[i]);
	return list;
}

static void
create_decoder(void)
{
	const MrColumn **columns = palloc(sizeof(MrColumn *) * lengthof(fuzz_columns));

	for (int i = 0; i < lengthof(fuzz_columns); i++)
	{
		MrColumn   *column = palloc0(sizeof(MrColumn));

		column->attnum = i + 1;
		column->name = "column";
		column->type = fuzz_columns[i].type;
		column->typmod = fuzz_columns[i].typmod;
		column->path = make_path(fuzz_columns[i].names);
		columns[i] = column;
	}
	decoder = mr_format_json.create_decoder(columns, lengthof(fuzz_columns));
}

static void
require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "not so: %s\n", what);
	abort();
}

static bool
is_text(const char *text, size_t len)
{
	return memchr(text, '\0', len) == NULL && pg_encoding_verifymbstr(PG_UTF8, text, len) == len;
}

static bool
is_varlena(Oid type)
{
	return type == TEXTOID || type == VARCHAROID || type == BPCHAROID || type == JSONOID;
}

static void
check_value(Oid type, Datum value)
{
	const struct varlena *text = (struct varlena *) DatumGetPointer(value);

	if (!is_varlena(type))
		return;
	require(is_text(VARDATA(text), VARSIZE(text) - VARHDRSZ), "a value is text");
	if (type == JSONOID)
		require(mr_json_check(VARDATA(text), VARSIZE(text) - VARHDRSZ) == MR_JSON_NO_FAULT,
				"a json value is JSON");
}

/* from memory that ends with the message */
static void
decode(const char *data, size_t size, Result *result)
{
	char	   *message = malloc(Max(size, 1));

	memcpy(message, data, size);
	memset(result, 0, sizeof(*result));
	result->taken = mr_format_json.decode(decoder, message, size, result->values,
										  result->isnull, &result->reject);
	free(message);
	if (result->taken)
	{
		for (int i = 0; i < lengthof(fuzz_columns); i++)
			if (!result->isnull[i])
				check_value(fuzz_columns[i].type, result->values[i]);
		return;
	}
	require(result->reject.sqlstate != 0, "a refusal has a code");
	require(result->reject.text != NULL && strlen(result->reject.text) <= LONGEST_REASON &&
			is_text(result->reject.text, strlen(result->reject.text)),
			"a refusal has a reason of bearable length");
}

static void
compare(const Result *a, const Result *b)
{
	require(a->taken == b->taken, "the same message is taken or refused");
	if (!a->taken)
	{
		require(a->reject.sqlstate == b->reject.sqlstate &&
				strcmp(a->reject.text, b->reject.text) == 0, "for the same reason");
		return;
	}
	for (int i = 0; i < lengthof(fuzz_columns); i++)
	{
		struct varlena *x = (struct varlena *) DatumGetPointer(a->values[i]);
		struct varlena *y = (struct varlena *) DatumGetPointer(b->values[i]);

		require(a->isnull[i] == b->isnull[i], "it has the same nulls");
		if (!a->isnull[i] && is_varlena(fuzz_columns[i].type))
			require(VARSIZE(x) == VARSIZE(y) && memcmp(x, y, VARSIZE(x)) == 0,
					"it has the same values");
	}
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static const char other[] = "{\"t\": \"x\", \"a\": {\"b\": {\"c\": 1}}, \"i\": 7, \"j\": [1]}";
	Result		first;
	Result		between;
	Result		second;

	if (decoder == NULL)
	{
		backend_keep = true;
		create_decoder();
		backend_keep = false;
	}
	decode((const char *) data, size, &first);
	decode(other, strlen(other), &between);
	decode((const char *) data, size, &second);
	compare(&first, &second);
	backend_free_all();
	return 0;
}
