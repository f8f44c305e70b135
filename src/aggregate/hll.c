/*
 * aggregate/hll.c
 *		How many distinct values there are, about: HyperLogLog.
 *
 * 2^p registers, 16,384 by default: a value's 64-bit hash chooses one by its first p bits, and
 * the register keeps the greatest number of zeros that it has seen at the beginning of the
 * rest.  Two sketches are merged register by register, so what comes out depends neither on
 * the order of values nor on batches.
 *
 * Standard error 1.04 / sqrt(2^p), 0.8% by default (Flajolet, Fusy, Gandouet, Meunier 2007).
 * The estimate is Ertl's ("New cardinality estimation algorithms for HyperLogLog sketches",
 * 2017, algorithm 6), which needs no tables and has no bias for small and middle numbers, where
 * the original's is several times its standard error.  The server's own lib/hyperloglog has
 * the original, and hashes of 32 bits, which are too few beyond some hundred millions; so it
 * is not used.
 *
 * While few registers are set they are kept as a sorted list of (register, value), so that a
 * group with few values takes some bytes: in memory, where there may be very many groups in a
 * batch, as well as in the table.
 *
 * Bytes: precision, then the number of pairs and the pairs, or 0 and all registers.
 */
#include "millrace.h"

#include <math.h>

#include "aggregate/call.h"
#include "aggregate/sketch.h"
#include "libpq/pqformat.h"
#include "port/pg_bitutils.h"

#define TYPE				'H'
#define DEFAULT_PRECISION	14
#define MIN_PRECISION		4
#define MAX_PRECISION		18

/* ln 2, the constant of the estimate */
#define LN2					0.693147180559945309417

typedef struct Hll
{
	int			precision;
	MemoryContext context;
	uint8	   *registers;		/* NULL: few, in pairs */
	uint32	   *pairs;			/* register << 8 | value, ascending */
	int			npairs;
	int			nallocated;
} Hll;

PG_FUNCTION_INFO_V1(mr_hll_in);
PG_FUNCTION_INFO_V1(mr_hll_recv);
PG_FUNCTION_INFO_V1(mr_hll_transition);
PG_FUNCTION_INFO_V1(mr_hll_union_transition);
PG_FUNCTION_INFO_V1(mr_hll_combine);
PG_FUNCTION_INFO_V1(mr_hll_write);
PG_FUNCTION_INFO_V1(mr_hll_read);
PG_FUNCTION_INFO_V1(mr_hll_count_final);
PG_FUNCTION_INFO_V1(mr_hll_empty);
PG_FUNCTION_INFO_V1(mr_hll_add);
PG_FUNCTION_INFO_V1(mr_hll_union);
PG_FUNCTION_INFO_V1(mr_hll_cardinality);

/* ---------- registers ---------- */

static inline int
nregisters(const Hll *hll)
{
	return 1 << hll->precision;
}

/* more pairs than these take as much memory as a quarter of all registers */
static inline int
max_pairs(const Hll *hll)
{
	return nregisters(hll) / 16;
}

/* the greatest value of a register */
static inline int
max_value(const Hll *hll)
{
	return 64 - hll->precision + 1;
}

static Hll *
create(int precision, MemoryContext context)
{
	Hll		   *hll = MemoryContextAllocZero(context, sizeof(Hll));

	hll->precision = precision;
	hll->context = context;
	return hll;
}

static void
expand(Hll *hll)
{
	hll->registers = MemoryContextAllocZero(hll->context, nregisters(hll));
	for (int i = 0; i < hll->npairs; i++)
		hll->registers[hll->pairs[i] >> 8] = hll->pairs[i] & 0xff;
	if (hll->pairs != NULL)
		pfree(hll->pairs);
	hll->pairs = NULL;
	hll->npairs = 0;
}

static void
set_pair(Hll *hll, uint32 number, uint8 value)
{
	int			low = 0,
				high = hll->npairs;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (hll->pairs[middle] >> 8 < number)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < hll->npairs && hll->pairs[low] >> 8 == number)
	{
		hll->pairs[low] = Max(hll->pairs[low], number << 8 | value);
		return;
	}
	if (hll->npairs == hll->nallocated)
	{
		hll->nallocated = Max(hll->nallocated * 2, 8);
		hll->pairs = hll->pairs == NULL ?
			MemoryContextAlloc(hll->context, sizeof(uint32) * hll->nallocated) :
			repalloc(hll->pairs, sizeof(uint32) * hll->nallocated);
	}
	memmove(&hll->pairs[low + 1], &hll->pairs[low], sizeof(uint32) * (hll->npairs - low));
	hll->pairs[low] = number << 8 | value;
	hll->npairs++;
}

static void
set_register(Hll *hll, uint32 number, uint8 value)
{
	if (hll->registers == NULL)
	{
		set_pair(hll, number, value);
		if (hll->npairs > max_pairs(hll))
			expand(hll);
	}
	else if (hll->registers[number] < value)
		hll->registers[number] = value;
}

static void
add_hash(void *state, uint64 hash)
{
	Hll		   *hll = state;
	uint64		rest = hash << hll->precision;

	set_register(hll, hash >> (64 - hll->precision),
				 rest == 0 ? max_value(hll) : 64 - pg_leftmost_one_pos64(rest));
}

static void *
merge(void *state, const void *other, MemoryContext context)
{
	const Hll  *from = other;
	Hll		   *into = state ? state : create(from->precision, context);

	if (into->precision != from->precision)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("sketches of precision %d and %d cannot be combined", into->precision, from->precision));
	for (int i = 0; i < from->npairs; i++)
		set_register(into, from->pairs[i] >> 8, from->pairs[i] & 0xff);
	if (from->registers == NULL)
		return into;
	if (into->registers == NULL)
		expand(into);
	for (int i = 0; i < nregisters(into); i++)
		into->registers[i] = Max(into->registers[i], from->registers[i]);
	return into;
}

/* ---------- the estimate ---------- */

static double
sigma(double x)
{
	double		y = 1,
				z = x,
				before;

	if (x == 1)
		return INFINITY;
	do
	{
		x *= x;
		before = z;
		z += x * y;
		y += y;
	} while (z != before);
	return z;
}

static double
tau(double x)
{
	double		y = 1,
				z = 1 - x,
				before;

	if (x == 0 || x == 1)
		return 0;
	do
	{
		x = sqrt(x);
		before = z;
		y *= 0.5;
		z -= (1 - x) * (1 - x) * y;
	} while (z != before);
	return z / 3;
}

static int64
estimate(const Hll *hll)
{
	int			histogram[66] = {0};
	double		m = nregisters(hll);
	double		z;

	if (hll->registers != NULL)
		for (int i = 0; i < nregisters(hll); i++)
			histogram[hll->registers[i]]++;
	else
	{
		histogram[0] = nregisters(hll) - hll->npairs;
		for (int i = 0; i < hll->npairs; i++)
			histogram[hll->pairs[i] & 0xff]++;
	}
	z = m * tau(1 - histogram[max_value(hll)] / m);
	for (int k = max_value(hll) - 1; k >= 1; k--)
		z = 0.5 * (z + histogram[k]);
	z += m * sigma(histogram[0] / m);
	return (int64) Min(rint(m * m / (2 * LN2 * z)), 9e18);
}

/* ---------- bytes ---------- */

static bytea *
write_hll(const void *state)
{
	const Hll  *hll = state;
	StringInfoData out;

	mr_sketch_begin(&out, TYPE);
	pq_sendbyte(&out, hll->precision);
	if (hll->registers != NULL)
	{
		mr_write_number(&out, 0);
		appendBinaryStringInfo(&out, (const char *) hll->registers, nregisters(hll));
		return mr_sketch_end(&out);
	}
	mr_write_number(&out, hll->npairs + 1);
	for (int i = 0; i < hll->npairs; i++)
	{
		mr_write_number(&out, (hll->pairs[i] >> 8) - (i == 0 ? 0 : hll->pairs[i - 1] >> 8));
		pq_sendbyte(&out, hll->pairs[i] & 0xff);
	}
	return mr_sketch_end(&out);
}

static void
read_pairs(Hll *hll, StringInfo in, uint64 n)
{
	uint64		number = 0;

	if (n > max_pairs(hll))
		mr_bad_state("too many pairs");
	hll->pairs = palloc(sizeof(uint32) * (n + 1));
	hll->nallocated = n + 1;
	for (int i = 0; i < n; i++)
	{
		uint64		step = mr_read_number(in);
		int			value = pq_getmsgbyte(in);

		if ((i > 0 && step == 0) || step >= nregisters(hll) || number + step >= nregisters(hll) ||
			value < 1 || value > max_value(hll))
			mr_bad_state("a register");
		number += step;
		hll->pairs[hll->npairs++] = number << 8 | value;
	}
}

/* in the current context, and modifiable */
static void *
read_hll(const bytea *bytes)
{
	StringInfoData in;
	Hll		   *hll;
	int			precision;
	uint64		n;

	mr_sketch_open(&in, bytes, TYPE);
	precision = pq_getmsgbyte(&in);
	if (precision < MIN_PRECISION || precision > MAX_PRECISION)
		mr_bad_state("its precision");
	hll = create(precision, CurrentMemoryContext);
	n = mr_read_number(&in);
	if (n > 0)
		read_pairs(hll, &in, n - 1);
	else
	{
		expand(hll);
		pq_copymsgbytes(&in, (char *) hll->registers, nregisters(hll));
		for (int i = 0; i < nregisters(hll); i++)
			if (hll->registers[i] > max_value(hll))
				mr_bad_state("a register");
	}
	pq_getmsgend(&in);
	return hll;
}

static const MrSketchKind kind = {read_hll, write_hll, merge, add_hash};

Datum
mr_hll_in(PG_FUNCTION_ARGS)
{
	return mr_sketch_in(fcinfo, &kind);
}

Datum
mr_hll_recv(PG_FUNCTION_ARGS)
{
	return mr_sketch_recv(fcinfo, &kind);
}

/* ---------- aggregates ---------- */

/* (internal, value [, p]) */
Datum
mr_hll_transition(PG_FUNCTION_ARGS)
{
	MemoryContext context = mr_call_context(fcinfo);
	Hll		   *hll = mr_call_state(fcinfo, 0);
	const MrValueType *type = mr_hashed_argument(fcinfo, 1);
	int			precision = DEFAULT_PRECISION;

	if (PG_NARGS() > 2)
		precision = mr_call_integer(fcinfo, 2, "p", MIN_PRECISION, MAX_PRECISION);
	if (hll == NULL)
		hll = create(precision, context);
	else if (hll->precision != precision)
		mr_call_changed("p");
	if (!PG_ARGISNULL(1))
		add_hash(hll, mr_value_hash(type, PG_GET_COLLATION(), PG_GETARG_DATUM(1)));
	PG_RETURN_POINTER(hll);
}

/* (internal, hll) */
Datum
mr_hll_union_transition(PG_FUNCTION_ARGS)
{
	return mr_sketch_union_transition(fcinfo, &kind);
}

Datum
mr_hll_combine(PG_FUNCTION_ARGS)
{
	return mr_sketch_combine(fcinfo, &kind);
}

/* serial function, and final function of those that give a sketch */
Datum
mr_hll_write(PG_FUNCTION_ARGS)
{
	return mr_sketch_write(fcinfo, &kind);
}

Datum
mr_hll_read(PG_FUNCTION_ARGS)
{
	return mr_sketch_read(fcinfo, &kind);
}

/* 0 when there were no rows */
Datum
mr_hll_count_final(PG_FUNCTION_ARGS)
{
	(void) mr_call_context(fcinfo);
	PG_RETURN_INT64(PG_ARGISNULL(0) ? 0 : estimate(mr_call_state(fcinfo, 0)));
}

/* ---------- functions ---------- */

/* hll_empty(p) */
Datum
mr_hll_empty(PG_FUNCTION_ARGS)
{
	int			precision = mr_call_integer(fcinfo, 0, "p", MIN_PRECISION, MAX_PRECISION);

	PG_RETURN_BYTEA_P(write_hll(create(precision, CurrentMemoryContext)));
}

/* hll_add(hll, value): a null value adds nothing */
Datum
mr_hll_add(PG_FUNCTION_ARGS)
{
	return mr_sketch_add(fcinfo, &kind);
}

/* hll_union(hll, hll) */
Datum
mr_hll_union(PG_FUNCTION_ARGS)
{
	return mr_sketch_union(fcinfo, &kind);
}

/* hll_cardinality(hll) */
Datum
mr_hll_cardinality(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(estimate(read_hll(PG_GETARG_BYTEA_PP(0))));
}
