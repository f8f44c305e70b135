/*
 * aggregate/dist.c
 *		Distributions: quantiles of numbers, about, as DDSketch has them.
 *
 * Values are counted in buckets whose bounds are powers of g = (1 + a) / (1 - a), so whatever
 * lies in a bucket is within the relative accuracy a of what is shown for all of it.  A
 * quantile is thus wrong by no more than a times its own value (Masson, Rim, Lee: "DDSketch: a
 * fast and fully-mergeable quantile sketch with relative-error guarantees", 2019, proposition
 * 3), whatever the data, which a t-digest cannot promise; and buckets are added when sketches are
 * merged, so the result depends neither on the order of values nor on batches, which a
 * t-digest's does.  That is why it is this one.  Buckets are never collapsed: between the
 * least and the greatest double there are 71,000 on each side of zero with an accuracy of 1%,
 * and data that spans a factor of a million needs 700.
 *
 * The key of a bucket is in the order of values: negative ones, zero with all that is nearer to
 * it than a normalized double can be, positive ones; infinities and NaN, which the server
 * sorts behind all others, have keys of their own.  Least and greatest value are kept as they
 * are, and no quantile lies outside of them.
 *
 * Bytes: accuracy, fraction (of approx_percentile(), else NaN), least, greatest, buckets.
 */
#include "millrace.h"

#include <float.h>
#include <math.h>

#include "aggregate/call.h"
#include "aggregate/histogram.h"
#include "aggregate/sketch.h"
#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "utils/array.h"
#include "utils/float.h"

#define TYPE				'D'
#define DEFAULT_ACCURACY	0.01
#define MIN_ACCURACY		0.001
#define MAX_ACCURACY		0.5

#define KEY_MINUS_INFINITY	(PG_INT32_MIN)
#define KEY_INFINITY		(PG_INT32_MAX - 1)
#define KEY_NAN				(PG_INT32_MAX)

typedef struct Dist
{
	double		accuracy;
	double		fraction;		/* NaN: none */
	double		log_base;		/* ln g */
	int32		middle;			/* what is added to the power of g to be a key */
	double		least;			/* if count > 0 */
	double		greatest;
	int64		count;
	MrHistogram buckets;
} Dist;

PG_FUNCTION_INFO_V1(mr_dist_in);
PG_FUNCTION_INFO_V1(mr_dist_recv);
PG_FUNCTION_INFO_V1(mr_dist_transition);
PG_FUNCTION_INFO_V1(mr_percentile_transition);
PG_FUNCTION_INFO_V1(mr_dist_union_transition);
PG_FUNCTION_INFO_V1(mr_dist_combine);
PG_FUNCTION_INFO_V1(mr_dist_write);
PG_FUNCTION_INFO_V1(mr_dist_read);
PG_FUNCTION_INFO_V1(mr_percentile_final);
PG_FUNCTION_INFO_V1(mr_dist_add);
PG_FUNCTION_INFO_V1(mr_dist_union);
PG_FUNCTION_INFO_V1(mr_dist_quantile);
PG_FUNCTION_INFO_V1(mr_dist_quantiles);
PG_FUNCTION_INFO_V1(mr_dist_cdf);
PG_FUNCTION_INFO_V1(mr_dist_count);

/* ---------- buckets ---------- */

static Dist *
create(double accuracy, double fraction, MemoryContext context)
{
	Dist	   *dist = MemoryContextAllocZero(context, sizeof(Dist));

	dist->accuracy = accuracy;
	dist->fraction = fraction;
	dist->log_base = log((1 + accuracy) / (1 - accuracy));
	dist->middle = (int32) ceil(-log(DBL_MIN) / dist->log_base) + 1;
	dist->buckets.context = context;
	return dist;
}

static int32
key_of(const Dist *dist, double value)
{
	double		power;

	if (isnan(value))
		return KEY_NAN;
	if (isinf(value))
		return value > 0 ? KEY_INFINITY : KEY_MINUS_INFINITY;
	if (fabs(value) < DBL_MIN)
		return 0;
	power = ceil(log(fabs(value)) / dist->log_base) + dist->middle;
	return value > 0 ? (int32) power : -(int32) power;
}

/* what is shown for all that lies in a bucket */
static double
value_of(const Dist *dist, int32 key)
{
	double		magnitude;

	if (key == KEY_NAN)
		return get_float8_nan();
	if (key == KEY_INFINITY || key == KEY_MINUS_INFINITY)
		return key > 0 ? get_float8_infinity() : -get_float8_infinity();
	if (key == 0)
		return 0;
	magnitude = exp((abs(key) - dist->middle) * dist->log_base - log((1 + exp(dist->log_base)) / 2));
	magnitude = Min(magnitude, DBL_MAX);
	return key > 0 ? magnitude : -magnitude;
}

static void
widen(Dist *dist, double least, double greatest)
{
	if (dist->count == 0 || float8_cmp_internal(least, dist->least) < 0)
		dist->least = least;
	if (dist->count == 0 || float8_cmp_internal(greatest, dist->greatest) > 0)
		dist->greatest = greatest;
}

static void
add_value(Dist *dist, double value)
{
	if (value == 0)
		value = 0;				/* -0.0, of which it would depend on the order */
	widen(dist, value, value);
	dist->count = mr_add_counts(dist->count, 1);
	mr_histogram_add(&dist->buckets, key_of(dist, value), 1);
}

static bool
same_number(double a, double b)
{
	return a == b || (isnan(a) && isnan(b));
}

static void *
merge(void *state, const void *other, MemoryContext context)
{
	const Dist *from = other;
	Dist	   *into = state ? state : create(from->accuracy, from->fraction, context);

	if (into->accuracy != from->accuracy)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("distributions of accuracy %g and %g cannot be combined", into->accuracy, from->accuracy));
	if (!same_number(into->fraction, from->fraction))
		mr_call_changed("fraction");
	if (from->count == 0)
		return into;
	widen(into, from->least, from->greatest);
	into->count = mr_add_counts(into->count, from->count);
	mr_histogram_merge(&into->buckets, &from->buckets);
	return into;
}

/* as percentile_disc(): the first value that this fraction of all is no greater than */
static double
quantile(const Dist *dist, double fraction)
{
	int64		rank = Max((int64) ceil(fraction * dist->count), 1);
	int64		passed = 0;
	double		value = dist->greatest;

	for (int i = 0; i < dist->buckets.nbars; i++)
	{
		passed += dist->buckets.bars[i].count;
		if (passed >= rank)
		{
			value = value_of(dist, dist->buckets.bars[i].key);
			break;
		}
	}
	if (float8_cmp_internal(value, dist->least) < 0)
		return dist->least;
	if (float8_cmp_internal(value, dist->greatest) > 0)
		return dist->greatest;
	return value;
}

/* the part of all values that is no greater, those of the same bucket included */
static double
cdf(const Dist *dist, double value)
{
	int32		key = key_of(dist, value);
	int64		passed = 0;

	if (float8_cmp_internal(value, dist->least) < 0)
		return 0;
	if (float8_cmp_internal(value, dist->greatest) >= 0)
		return 1;
	for (int i = 0; i < dist->buckets.nbars && dist->buckets.bars[i].key <= key; i++)
		passed += dist->buckets.bars[i].count;
	return (double) passed / dist->count;
}

/* ---------- bytes ---------- */

static bytea *
write_dist(const void *state)
{
	const Dist *dist = state;
	StringInfoData out;

	mr_sketch_begin(&out, TYPE);
	pq_sendfloat8(&out, dist->accuracy);
	pq_sendfloat8(&out, dist->fraction);
	pq_sendfloat8(&out, dist->least);
	pq_sendfloat8(&out, dist->greatest);
	mr_histogram_write(&dist->buckets, &out);
	return mr_sketch_end(&out);
}

static void *
read_dist(const bytea *bytes)
{
	StringInfoData in;
	double		accuracy,
				fraction;
	Dist	   *dist;

	mr_sketch_open(&in, bytes, TYPE);
	accuracy = pq_getmsgfloat8(&in);
	fraction = pq_getmsgfloat8(&in);
	if (!(accuracy >= MIN_ACCURACY && accuracy <= MAX_ACCURACY))
		mr_bad_state("its accuracy");
	if (!isnan(fraction) && !(fraction >= 0 && fraction <= 1))
		mr_bad_state("its fraction");
	dist = create(accuracy, fraction, CurrentMemoryContext);
	dist->least = pq_getmsgfloat8(&in);
	dist->greatest = pq_getmsgfloat8(&in);
	mr_histogram_read(&dist->buckets, &in, PG_INT32_MIN, PG_INT32_MAX);
	pq_getmsgend(&in);
	for (int i = 0; i < dist->buckets.nbars; i++)
		dist->count = mr_add_counts(dist->count, dist->buckets.bars[i].count);
	return dist;
}

static const MrSketchKind kind = {read_dist, write_dist, merge, NULL};

Datum
mr_dist_in(PG_FUNCTION_ARGS)
{
	return mr_sketch_in(fcinfo, &kind);
}

Datum
mr_dist_recv(PG_FUNCTION_ARGS)
{
	return mr_sketch_recv(fcinfo, &kind);
}

/* ---------- aggregates ---------- */

static double
accuracy_argument(FunctionCallInfo fcinfo, int arg)
{
	double		accuracy = mr_call_fraction(fcinfo, arg, "accuracy", false);

	if (accuracy < MIN_ACCURACY || accuracy > MAX_ACCURACY)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("accuracy must be between %g and %g", MIN_ACCURACY, MAX_ACCURACY));
	return accuracy;
}

/* (internal, value [, accuracy]) */
Datum
mr_dist_transition(PG_FUNCTION_ARGS)
{
	MemoryContext context = mr_call_context(fcinfo);
	Dist	   *dist = mr_call_state(fcinfo, 0);
	double		accuracy = PG_NARGS() > 2 ? accuracy_argument(fcinfo, 2) : DEFAULT_ACCURACY;

	if (dist == NULL)
		dist = create(accuracy, get_float8_nan(), context);
	else if (dist->accuracy != accuracy)
		mr_call_changed("accuracy");
	if (!PG_ARGISNULL(1))
		add_value(dist, PG_GETARG_FLOAT8(1));
	PG_RETURN_POINTER(dist);
}

/* (internal, value, fraction [, accuracy]) */
Datum
mr_percentile_transition(PG_FUNCTION_ARGS)
{
	MemoryContext context = mr_call_context(fcinfo);
	Dist	   *dist = mr_call_state(fcinfo, 0);
	double		fraction = mr_call_fraction(fcinfo, 2, "fraction", true);
	double		accuracy = PG_NARGS() > 3 ? accuracy_argument(fcinfo, 3) : DEFAULT_ACCURACY;

	if (dist == NULL)
		dist = create(accuracy, fraction, context);
	else if (dist->fraction != fraction)
		mr_call_changed("fraction");
	else if (dist->accuracy != accuracy)
		mr_call_changed("accuracy");
	if (!PG_ARGISNULL(1))
		add_value(dist, PG_GETARG_FLOAT8(1));
	PG_RETURN_POINTER(dist);
}

/* (internal, dist) */
Datum
mr_dist_union_transition(PG_FUNCTION_ARGS)
{
	return mr_sketch_union_transition(fcinfo, &kind);
}

Datum
mr_dist_combine(PG_FUNCTION_ARGS)
{
	return mr_sketch_combine(fcinfo, &kind);
}

/* serial function, and final function of those that give a distribution */
Datum
mr_dist_write(PG_FUNCTION_ARGS)
{
	return mr_sketch_write(fcinfo, &kind);
}

Datum
mr_dist_read(PG_FUNCTION_ARGS)
{
	return mr_sketch_read(fcinfo, &kind);
}

/* null when there were no values */
Datum
mr_percentile_final(PG_FUNCTION_ARGS)
{
	Dist	   *dist = mr_call_state(fcinfo, 0);

	(void) mr_call_context(fcinfo);
	if (dist == NULL || dist->count == 0)
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(quantile(dist, dist->fraction));
}

/* ---------- functions ---------- */

/* dist_add(dist, value): a null value adds nothing */
Datum
mr_dist_add(PG_FUNCTION_ARGS)
{
	Dist	   *dist;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	dist = read_dist(PG_GETARG_BYTEA_PP(0));
	if (!PG_ARGISNULL(1))
		add_value(dist, PG_GETARG_FLOAT8(1));
	PG_RETURN_BYTEA_P(write_dist(dist));
}

/* dist_union(dist, dist) */
Datum
mr_dist_union(PG_FUNCTION_ARGS)
{
	return mr_sketch_union(fcinfo, &kind);
}

/* dist_quantile(dist, fraction): null when it is empty */
Datum
mr_dist_quantile(PG_FUNCTION_ARGS)
{
	Dist	   *dist = read_dist(PG_GETARG_BYTEA_PP(0));
	double		fraction = mr_call_fraction(fcinfo, 1, "fraction", true);

	if (dist->count == 0)
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(quantile(dist, fraction));
}

/* dist_quantile(dist, fractions): an array of the same shape, null where a fraction is null */
Datum
mr_dist_quantiles(PG_FUNCTION_ARGS)
{
	Dist	   *dist = read_dist(PG_GETARG_BYTEA_PP(0));
	ArrayType  *fractions = PG_GETARG_ARRAYTYPE_P(1);
	Datum	   *values;
	bool	   *nulls;
	int			n;

	if (dist->count == 0)
		PG_RETURN_NULL();
	deconstruct_array(fractions, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &values, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			continue;
		if (!(DatumGetFloat8(values[i]) >= 0 && DatumGetFloat8(values[i]) <= 1))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("%s must be between 0 and 1", "fraction"));
		values[i] = Float8GetDatum(quantile(dist, DatumGetFloat8(values[i])));
	}
	return PointerGetDatum(construct_md_array(values, nulls, ARR_NDIM(fractions), ARR_DIMS(fractions),
											  ARR_LBOUND(fractions), FLOAT8OID, sizeof(float8),
											  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* dist_cdf(dist, value): null when it is empty */
Datum
mr_dist_cdf(PG_FUNCTION_ARGS)
{
	Dist	   *dist = read_dist(PG_GETARG_BYTEA_PP(0));

	if (dist->count == 0)
		PG_RETURN_NULL();
	PG_RETURN_FLOAT8(cdf(dist, PG_GETARG_FLOAT8(1)));
}

/* dist_count(dist) */
Datum
mr_dist_count(PG_FUNCTION_ARGS)
{
	Dist	   *dist = read_dist(PG_GETARG_BYTEA_PP(0));

	PG_RETURN_INT64(dist->count);
}
