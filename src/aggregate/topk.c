/*
 * aggregate/topk.c
 *		The most frequent values, about, with their counts.
 *
 * Up to m values have a counter, m being max(10 k, 100).  While no more distinct values come
 * all counts are exact.  When there are more, the (m + 1)-th largest count is subtracted from all
 * counters, those that are not positive are dropped, and what was subtracted is added to
 * the error: so a value's true count lies between its counter and that plus the error.  This is
 * the summary of Misra and Gries (1982) with merging as Agarwal, Cormode, Huang, Phillips, Wei
 * and Yi describe it ("Mergeable summaries", 2012, theorem 1): after any number of merges the
 * error is at most n / (m + 1) for n values, and every value that came more often is there.
 * Space-saving, which PipelineDB had in a filtered form, is the same up to the presentation
 * (ibid., section 2).  What is dropped depends on the order of values and on batches; that
 * bound does not.
 *
 * Between two reductions m further values find room, so a reduction is paid for by m rows.  A
 * state that is written is reduced.
 *
 * Where a counter lies in the table of a state in memory begins with a random number of that
 * state's own, so that nobody can choose values that all lie at one place.  The hash that is
 * stored beside a value cannot; where the server's hash function gives different values the
 * same, as it folds integers of 64 bits to 32, the values themselves are taken.
 *
 * Bytes: version, k, error, number of values, OID of their type, counters and values.
 */
#include "millrace.h"

#include "aggregate/call.h"
#include "aggregate/histogram.h"
#include "aggregate/sketch.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "libpq/pqformat.h"
#include "nodes/makefuncs.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#define TYPE		'T'
#define MAX_K		10000
#define FREE		(-1)

typedef struct Counter
{
	uint64		hash;
	Datum		value;
	int64		count;
} Counter;

typedef struct TopK
{
	int			k;
	int64		error;
	const MrRowType *row;		/* of one column */
	Oid			collation;
	MemoryContext context;
	int			ncounters;
	int			nallocated;
	Counter    *counters;
	int		   *table;			/* places of counters, open addressing */
	uint32		mask;
	uint64		seed;			/* of where they lie */
	Size		memory;			/* of values */
} TopK;

PG_FUNCTION_INFO_V1(mr_topk_transition);
PG_FUNCTION_INFO_V1(mr_topk_combine);
PG_FUNCTION_INFO_V1(mr_topk_write);
PG_FUNCTION_INFO_V1(mr_topk_read);
PG_FUNCTION_INFO_V1(mr_topk_final);

static inline const MrValueType *
value_type(const TopK *topk)
{
	return &topk->row->columns[0];
}

static inline int
max_counters(int k)
{
	return Max(10 * k, 100);
}

/* ---------- counters ---------- */

static TopK *
create(int k, const MrRowType *row, Oid collation, MemoryContext context)
{
	TopK	   *topk = MemoryContextAllocZero(context, sizeof(TopK));

	topk->k = k;
	topk->row = row;
	topk->collation = collation;
	topk->context = context;
	topk->seed = pg_prng_uint64(&pg_global_prng_state);
	return topk;
}

/* where the search for a value begins */
static inline uint32
place_of(const TopK *topk, uint64 hash, Datum value)
{
	const MrValueType *type = value_type(topk);

	if (type->exact && type->entry->typbyval && type->entry->typlen == sizeof(Datum))
		hash = (uint64) value;
	return mr_hash_mix(hash ^ topk->seed) & topk->mask;
}

static void
enter(TopK *topk, int number)
{
	uint32		at = place_of(topk, topk->counters[number].hash, topk->counters[number].value);

	while (topk->table[at] != FREE)
		at = (at + 1) & topk->mask;
	topk->table[at] = number;
}

/* a table for all counters that there is room for, at most half full */
static void
make_table(TopK *topk)
{
	uint32		size = 16;

	while (size < topk->nallocated * 2)
		size *= 2;
	if (topk->table == NULL || topk->mask + 1 != size)
	{
		if (topk->table != NULL)
			pfree(topk->table);
		topk->table = MemoryContextAlloc(topk->context, sizeof(int) * size);
		topk->mask = size - 1;
	}
	memset(topk->table, 0xff, sizeof(int) * size);
	for (int i = 0; i < topk->ncounters; i++)
		enter(topk, i);
}

static void
reserve(TopK *topk)
{
	if (topk->ncounters < topk->nallocated)
		return;
	topk->nallocated = Max(topk->nallocated * 2, 8);
	topk->counters = topk->counters == NULL ?
		MemoryContextAlloc(topk->context, sizeof(Counter) * topk->nallocated) :
		repalloc(topk->counters, sizeof(Counter) * topk->nallocated);
	make_table(topk);
}

/* the counter of a value, NULL if there is none */
static Counter *
find(const TopK *topk, uint64 hash, Datum value)
{
	if (topk->table == NULL)
		return NULL;
	for (uint32 at = place_of(topk, hash, value); topk->table[at] != FREE; at = (at + 1) & topk->mask)
	{
		Counter    *counter = &topk->counters[topk->table[at]];

		if (counter->hash == hash && mr_value_equal(value_type(topk), topk->collation, counter->value, value))
			return counter;
	}
	return NULL;
}

static int
compare_counts(const void *a, const void *b)
{
	int64		x = ((const Counter *) a)->count,
				y = ((const Counter *) b)->count;

	return x > y ? -1 : x < y;
}

/* no more than m counters */
static void
reduce(TopK *topk)
{
	int			m = max_counters(topk->k);
	int64		subtracted;
	int			n = 0;

	if (topk->ncounters <= m)
		return;
	qsort(topk->counters, topk->ncounters, sizeof(Counter), compare_counts);
	subtracted = topk->counters[m].count;
	topk->error = mr_add_counts(topk->error, subtracted);
	for (int i = 0; i < topk->ncounters; i++)
	{
		Counter    *counter = &topk->counters[i];

		if (counter->count > subtracted)
		{
			counter->count -= subtracted;
			topk->counters[n++] = *counter;
			continue;
		}
		topk->memory -= mr_value_size(value_type(topk), counter->value);
		mr_value_free(value_type(topk), counter->value);
	}
	topk->ncounters = n;
	make_table(topk);
}

/* of values that are equal but not the same, one is shown whatever their order */
static void
prefer(TopK *topk, Counter *counter, Datum value)
{
	const MrValueType *type = value_type(topk);
	Size		size;

	if (type->exact || mr_value_compare_bytes(type, counter->value, value) <= 0)
		return;
	topk->memory -= mr_value_size(type, counter->value);
	mr_value_free(type, counter->value);
	counter->value = mr_value_copy(type, value, topk->context, &size);
	topk->memory += size;
}

/* a flat value came so many times */
static void
add_value(TopK *topk, uint64 hash, Datum value, int64 count)
{
	Counter    *counter = find(topk, hash, value);
	Size		size;

	if (counter != NULL)
	{
		counter->count = mr_add_counts(counter->count, count);
		prefer(topk, counter, value);
		return;
	}
	reserve(topk);
	counter = &topk->counters[topk->ncounters];
	counter->hash = hash;
	counter->count = count;
	counter->value = mr_value_copy(value_type(topk), value, topk->context, &size);
	topk->memory += size;
	enter(topk, topk->ncounters++);
	mr_call_check_memory(topk->memory, -1, "Choose a smaller k");
}

static TopK *
merge_into(TopK *into, const TopK *from, Oid collation, MemoryContext context)
{
	if (into == NULL)
		into = create(from->k, from->row, collation, context);
	if (into->k != from->k)
		mr_call_changed("k");
	if (value_type(into)->entry != value_type(from)->entry)
		mr_bad_state("it holds values of another type");
	into->collation = collation;
	into->error = mr_add_counts(into->error, from->error);
	for (int i = 0; i < from->ncounters; i++)
		add_value(into, from->counters[i].hash, from->counters[i].value, from->counters[i].count);
	reduce(into);
	return into;
}

/* ---------- bytes ---------- */

static bytea *
write_topk(TopK *topk)
{
	StringInfoData out;

	reduce(topk);
	mr_sketch_begin(&out, TYPE);
	mr_write_number(&out, topk->k);
	mr_write_number(&out, topk->error);
	mr_write_number(&out, topk->ncounters);
	pq_sendint32(&out, value_type(topk)->entry->type_id);
	for (int i = 0; i < topk->ncounters; i++)
	{
		pq_sendint64(&out, topk->counters[i].hash);
		mr_write_number(&out, topk->counters[i].count);
		mr_value_write(value_type(topk), &out, topk->counters[i].value);
	}
	return mr_sketch_end(&out);
}

static TopK *
read_topk(const bytea *bytes, FmgrInfo *flinfo)
{
	StringInfoData in;
	StringInfoData scratch;
	TopK	   *topk;
	uint64		k,
				error,
				n;
	Oid			type;

	mr_sketch_open(&in, bytes, TYPE);
	k = mr_read_number(&in);
	error = mr_read_number(&in);
	n = mr_read_number(&in);
	if (k < 1 || k > MAX_K || error > PG_INT64_MAX || n > max_counters(k))
		mr_bad_state("its size");
	type = pq_getmsgint(&in, 4);
	topk = create(k, mr_row_type(flinfo, 1, &type), InvalidOid, CurrentMemoryContext);
	mr_value_check_hashed(value_type(topk));
	topk->error = error;
	initStringInfo(&scratch);
	for (int i = 0; i < n; i++)
	{
		Counter    *counter;
		uint64		count;

		reserve(topk);
		counter = &topk->counters[topk->ncounters];
		counter->hash = pq_getmsgint64(&in);
		count = mr_read_number(&in);
		if (count < 1 || count > PG_INT64_MAX)
			mr_bad_state("a count");
		counter->count = count;
		counter->value = mr_value_read(value_type(topk), &in, &scratch);
		topk->memory += mr_value_size(value_type(topk), counter->value);
		enter(topk, topk->ncounters++);
	}
	pq_getmsgend(&in);
	return topk;
}

/* ---------- aggregate ---------- */

/* (internal, value, k) */
Datum
mr_topk_transition(PG_FUNCTION_ARGS)
{
	MemoryContext context = mr_call_context(fcinfo);
	TopK	   *topk = mr_call_state(fcinfo, 0);
	const MrValueType *type = mr_hashed_argument(fcinfo, 1);
	int			k = mr_call_integer(fcinfo, 2, "k", 1, MAX_K);

	if (topk == NULL)
		topk = create(k, (const MrRowType *) fcinfo->flinfo->fn_extra, PG_GET_COLLATION(), context);
	else if (topk->k != k)
		mr_call_changed("k");
	if (!PG_ARGISNULL(1))
	{
		Datum		value = mr_value_flat(type, PG_GETARG_DATUM(1));

		add_value(topk, mr_value_hash(type, topk->collation, value), value, 1);
		if (topk->ncounters >= 2 * max_counters(k))
			reduce(topk);
	}
	PG_RETURN_POINTER(topk);
}

Datum
mr_topk_combine(PG_FUNCTION_ARGS)
{
	MemoryContext context = mr_call_context(fcinfo);
	TopK	   *topk = mr_call_state(fcinfo, 0);

	if (!PG_ARGISNULL(1))
		topk = merge_into(topk, mr_call_state(fcinfo, 1), PG_GET_COLLATION(), context);
	if (topk == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(topk);
}

Datum
mr_topk_write(PG_FUNCTION_ARGS)
{
	(void) mr_call_context(fcinfo);
	PG_RETURN_BYTEA_P(write_topk(mr_call_state(fcinfo, 0)));
}

Datum
mr_topk_read(PG_FUNCTION_ARGS)
{
	(void) mr_call_context(fcinfo);
	PG_RETURN_POINTER(read_topk(PG_GETARG_BYTEA_PP(0), fcinfo->flinfo));
}

/* ---------- result ---------- */

/* the most frequent first, then by the values' own order */
static int
compare_shown(const void *a, const void *b, void *topk)
{
	const Counter *x = a,
			   *y = b;
	int			result = compare_counts(a, b);

	if (result == 0)
		result = mr_value_compare(value_type(topk), ((TopK *) topk)->collation, x->value, y->value);
	return result;
}

/* to_jsonb() of the values' type */
static FmgrInfo *
conversion(FmgrInfo *flinfo, Oid type)
{
	MemoryContext old;
	FmgrInfo   *to_jsonb;
	FuncExpr   *call;

	if (flinfo->fn_extra != NULL)
		return flinfo->fn_extra;
	old = MemoryContextSwitchTo(flinfo->fn_mcxt);
	call = makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(makeNullConst(type, -1, get_typcollation(type))),
						InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	to_jsonb = palloc0(sizeof(FmgrInfo));
	fmgr_info(F_TO_JSONB, to_jsonb);
	fmgr_info_set_expr((Node *) call, to_jsonb);
	MemoryContextSwitchTo(old);
	flinfo->fn_extra = to_jsonb;
	return to_jsonb;
}

static void
push_field(JsonbParseState **state, const char *name, Jsonb *value)
{
	JsonbValue	field;

	field.type = jbvString;
	field.val.string.val = unconstify(char *, name);
	field.val.string.len = strlen(name);
	(void) pushJsonbValue(state, WJB_KEY, &field);
	if (JB_ROOT_IS_SCALAR(value))
		(void) JsonbExtractScalar(&value->root, &field);
	else
		JsonbToJsonbValue(value, &field);
	(void) pushJsonbValue(state, WJB_VALUE, &field);
}

static Jsonb *
number(int64 value)
{
	JsonbValue	field;

	field.type = jbvNumeric;
	field.val.numeric = int64_to_numeric(value);
	return JsonbValueToJsonb(&field);
}

/*
 * An array of objects with "value", "count" (at least) and "error" (at most so many more);
 * null when there were no rows.
 */
Datum
mr_topk_final(PG_FUNCTION_ARGS)
{
	TopK	   *topk = mr_call_state(fcinfo, 0);
	JsonbParseState *state = NULL;
	FmgrInfo   *to_jsonb;

	(void) mr_call_context(fcinfo);
	if (topk == NULL)
		PG_RETURN_NULL();
	topk->collation = PG_GET_COLLATION();
	reduce(topk);
	to_jsonb = conversion(fcinfo->flinfo, value_type(topk)->entry->type_id);
	if (topk->ncounters > 0)
		qsort_arg(topk->counters, topk->ncounters, sizeof(Counter), compare_shown, topk);
	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < Min(topk->k, topk->ncounters); i++)
	{
		const Counter *counter = &topk->counters[i];

		(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		push_field(&state, "value", DatumGetJsonbP(FunctionCall1(to_jsonb, counter->value)));
		push_field(&state, "count", number(counter->count));
		push_field(&state, "error", number(topk->error));
		(void) pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}

	/* places have changed, and in a window more rows may come */
	if (topk->table != NULL)
		make_table(topk);
	PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}
