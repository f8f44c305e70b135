/*
 * aggregate/cmsketch.c
 *		How often each value came, about: the count-min sketch.
 *
 * d rows of w counters: a value's hash chooses one counter in each row, which is raised when
 * the value comes, and the least of the d is how often it came.  That is never too low; it is
 * too high by more than epsilon times the number of all values with a probability of
 * 1 - p at most, where w = e / epsilon and d = ln(1 / (1 - p)) (Cormode, Muthukrishnan 2005).
 * Counters are added when sketches are merged, so nothing depends on the order of values.
 *
 * Rows' hashes are made from the value's one hash of 64 bits.  Counters that are zero take no
 * place.
 *
 * Bytes: w, d, number of all values, counters.
 */
#include "millrace.h"

#include <math.h>

#include "aggregate/call.h"
#include "aggregate/histogram.h"
#include "aggregate/sketch.h"
#include "libpq/pqformat.h"

#define TYPE				'C'
#define DEFAULT_EPSILON		0.002
#define DEFAULT_P			0.995
#define MAX_ROWS			64
#define MAX_COUNTERS		(8 * 1024 * 1024)

typedef struct CmSketch
{
	int			width;
	int			nrows;
	int64		total;
	MrHistogram counters;		/* row * width + column */
} CmSketch;

PG_FUNCTION_INFO_V1(mr_cmsketch_in);
PG_FUNCTION_INFO_V1(mr_cmsketch_recv);
PG_FUNCTION_INFO_V1(mr_cmsketch_transition);
PG_FUNCTION_INFO_V1(mr_cmsketch_merge_transition);
PG_FUNCTION_INFO_V1(mr_cmsketch_combine);
PG_FUNCTION_INFO_V1(mr_cmsketch_write);
PG_FUNCTION_INFO_V1(mr_cmsketch_read);
PG_FUNCTION_INFO_V1(mr_cmsketch_add);
PG_FUNCTION_INFO_V1(mr_cmsketch_merge);
PG_FUNCTION_INFO_V1(mr_cmsketch_frequency);
PG_FUNCTION_INFO_V1(mr_cmsketch_total);

static CmSketch *
create(int width, int nrows, MemoryContext context)
{
	CmSketch   *sketch = MemoryContextAllocZero(context, sizeof(CmSketch));

	sketch->width = width;
	sketch->nrows = nrows;
	sketch->counters.context = context;
	return sketch;
}

static int32
counter_of(const CmSketch *sketch, uint64 hash, int row)
{
	return row * sketch->width + mr_hash_again(hash, row) % sketch->width;
}

static void
add_hash(void *state, uint64 hash)
{
	CmSketch   *sketch = state;

	sketch->total = mr_add_counts(sketch->total, 1);
	for (int row = 0; row < sketch->nrows; row++)
		mr_histogram_add(&sketch->counters, counter_of(sketch, hash, row), 1);
}

static void *
merge(void *state, const void *other, MemoryContext context)
{
	const CmSketch *from = other;
	CmSketch   *into = state ? state : create(from->width, from->nrows, context);

	if (into->width != from->width || into->nrows != from->nrows)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("count-min sketches of different sizes cannot be combined"),
				errdetail("One has %d times %d counters, the other %d times %d.",
						  into->nrows, into->width, from->nrows, from->width));
	into->total = mr_add_counts(into->total, from->total);
	mr_histogram_merge(&into->counters, &from->counters);
	return into;
}

/* ---------- bytes ---------- */

static bytea *
write_sketch(const void *state)
{
	const CmSketch *sketch = state;
	StringInfoData out;

	mr_sketch_begin(&out, TYPE);
	mr_write_number(&out, sketch->width);
	mr_write_number(&out, sketch->nrows);
	mr_write_number(&out, sketch->total);
	mr_histogram_write(&sketch->counters, &out);
	return mr_sketch_end(&out);
}

static void *
read_sketch(const bytea *bytes)
{
	StringInfoData in;
	CmSketch   *sketch;
	uint64		width,
				nrows,
				total;

	mr_sketch_open(&in, bytes, TYPE);
	width = mr_read_number(&in);
	nrows = mr_read_number(&in);
	total = mr_read_number(&in);
	if (width < 1 || width > MAX_COUNTERS || nrows < 1 || nrows > MAX_ROWS ||
		width * nrows > MAX_COUNTERS || total > PG_INT64_MAX)
		mr_bad_state("its size");
	sketch = create(width, nrows, CurrentMemoryContext);
	sketch->total = total;
	mr_histogram_read(&sketch->counters, &in, 0, width * nrows - 1);
	pq_getmsgend(&in);
	return sketch;
}

static const MrSketchKind kind = {read_sketch, write_sketch, merge, add_hash};

Datum
mr_cmsketch_in(PG_FUNCTION_ARGS)
{
	return mr_sketch_in(fcinfo, &kind);
}

Datum
mr_cmsketch_recv(PG_FUNCTION_ARGS)
{
	return mr_sketch_recv(fcinfo, &kind);
}

/* ---------- aggregates ---------- */

static void
choose_size(FunctionCallInfo fcinfo, int *width, int *nrows)
{
	double		epsilon = DEFAULT_EPSILON;
	double		p = DEFAULT_P;
	double		columns,
				rows;

	if (PG_NARGS() > 2)
	{
		epsilon = mr_call_fraction(fcinfo, 2, "epsilon", false);
		p = mr_call_fraction(fcinfo, 3, "p", false);
	}
	columns = ceil(exp(1) / epsilon);
	rows = Max(ceil(log(1 / (1 - p))), 1);
	if (columns * rows > MAX_COUNTERS || rows > MAX_ROWS)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("count-min sketch would have more than %d counters", MAX_COUNTERS),
				errhint("Choose a greater epsilon or a lower p."));
	*width = columns;
	*nrows = rows;
}

/* (internal, value [, epsilon, p]) */
Datum
mr_cmsketch_transition(PG_FUNCTION_ARGS)
{
	MemoryContext context = mr_call_context(fcinfo);
	CmSketch   *sketch = mr_call_state(fcinfo, 0);
	const MrValueType *type = mr_hashed_argument(fcinfo, 1);
	int			width,
				nrows;

	choose_size(fcinfo, &width, &nrows);
	if (sketch == NULL)
		sketch = create(width, nrows, context);
	else if (sketch->width != width || sketch->nrows != nrows)
		mr_call_changed("epsilon and p");
	if (!PG_ARGISNULL(1))
		add_hash(sketch, mr_value_hash(type, PG_GET_COLLATION(), PG_GETARG_DATUM(1)));
	PG_RETURN_POINTER(sketch);
}

/* (internal, cmsketch) */
Datum
mr_cmsketch_merge_transition(PG_FUNCTION_ARGS)
{
	return mr_sketch_union_transition(fcinfo, &kind);
}

Datum
mr_cmsketch_combine(PG_FUNCTION_ARGS)
{
	return mr_sketch_combine(fcinfo, &kind);
}

/* serial and final function */
Datum
mr_cmsketch_write(PG_FUNCTION_ARGS)
{
	return mr_sketch_write(fcinfo, &kind);
}

Datum
mr_cmsketch_read(PG_FUNCTION_ARGS)
{
	return mr_sketch_read(fcinfo, &kind);
}

/* ---------- functions ---------- */

/* cmsketch_add(cmsketch, value): a null value adds nothing */
Datum
mr_cmsketch_add(PG_FUNCTION_ARGS)
{
	return mr_sketch_add(fcinfo, &kind);
}

/* cmsketch_merge(cmsketch, cmsketch) */
Datum
mr_cmsketch_merge(PG_FUNCTION_ARGS)
{
	return mr_sketch_union(fcinfo, &kind);
}

/* cmsketch_frequency(cmsketch, value) */
Datum
mr_cmsketch_frequency(PG_FUNCTION_ARGS)
{
	const MrValueType *type = mr_hashed_argument(fcinfo, 1);
	CmSketch   *sketch = read_sketch(PG_GETARG_BYTEA_PP(0));
	uint64		hash = mr_value_hash(type, PG_GET_COLLATION(), PG_GETARG_DATUM(1));
	int64		result = PG_INT64_MAX;

	for (int row = 0; row < sketch->nrows; row++)
		result = Min(result, mr_histogram_count(&sketch->counters, counter_of(sketch, hash, row)));
	PG_RETURN_INT64(result);
}

/* cmsketch_total(cmsketch) */
Datum
mr_cmsketch_total(PG_FUNCTION_ARGS)
{
	CmSketch   *sketch = read_sketch(PG_GETARG_BYTEA_PP(0));

	PG_RETURN_INT64(sketch->total);
}
