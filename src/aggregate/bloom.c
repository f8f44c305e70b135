/*
 * aggregate/bloom.c
 *		Whether a value came: Bloom filters.
 *
 * m bits, of which a value sets k.  A value that came is always found; one that did not is
 * found with probability p at most while no more than n distinct values came, where
 * m = -n ln p / (ln 2)^2 and k = m / n ln 2 (Bloom 1970; Mitzenmacher, Upfal, "Probability and
 * Computing", 5.5.3).  Filters of the same size are united bit by bit, which gives the filter of
 * all values of both; the bits common to both are those of a filter that has all common values,
 * and answers falsely more often.
 *
 * The server's lib/bloomfilter keeps its bits to itself: it can be neither stored nor united.
 *
 * A filter takes all its bits in memory.  Bytes: m, k, number of bits set, and then those,
 * each by its distance from the one before; or 0 and all bits, where that is shorter.
 */
#include "millrace.h"

#include <math.h>

#include "aggregate/call.h"
#include "aggregate/sketch.h"
#include "libpq/pqformat.h"
#include "port/pg_bitutils.h"

#define TYPE		'B'
#define DEFAULT_P	0.02
#define DEFAULT_N	16384
#define MAX_N		100000000
#define MAX_BITS	(UINT64CONST(1) << 31)
#define MAX_HASHES	64

/* ln 2 */
#define LN2			0.693147180559945309417

typedef struct Bloom
{
	uint64		nbits;
	int			nhashes;
	uint8	   *bits;
} Bloom;

PG_FUNCTION_INFO_V1(mr_bloom_in);
PG_FUNCTION_INFO_V1(mr_bloom_recv);
PG_FUNCTION_INFO_V1(mr_bloom_transition);
PG_FUNCTION_INFO_V1(mr_bloom_union_transition);
PG_FUNCTION_INFO_V1(mr_bloom_combine);
PG_FUNCTION_INFO_V1(mr_bloom_write);
PG_FUNCTION_INFO_V1(mr_bloom_read);
PG_FUNCTION_INFO_V1(mr_bloom_add);
PG_FUNCTION_INFO_V1(mr_bloom_union);
PG_FUNCTION_INFO_V1(mr_bloom_intersection);
PG_FUNCTION_INFO_V1(mr_bloom_contains);
PG_FUNCTION_INFO_V1(mr_bloom_cardinality);

/* ---------- bits ---------- */

static inline Size
nbytes(const Bloom *bloom)
{
	return (bloom->nbits + 7) / 8;
}

static Bloom *
create(uint64 nbits, int nhashes, MemoryContext context)
{
	Bloom	   *bloom = MemoryContextAlloc(context, sizeof(Bloom));

	bloom->nbits = nbits;
	bloom->nhashes = nhashes;
	bloom->bits = MemoryContextAllocZero(context, nbytes(bloom));
	return bloom;
}

static inline uint64
bit_of(const Bloom *bloom, uint64 hash, int n)
{
	return mr_hash_again(hash, n) % bloom->nbits;
}

static inline bool
is_set(const Bloom *bloom, uint64 bit)
{
	return (bloom->bits[bit / 8] >> (bit % 8)) & 1;
}

static inline void
set_bit(Bloom *bloom, uint64 bit)
{
	bloom->bits[bit / 8] |= 1 << (bit % 8);
}

static void
add_hash(void *state, uint64 hash)
{
	Bloom	   *bloom = state;

	for (int i = 0; i < bloom->nhashes; i++)
		set_bit(bloom, bit_of(bloom, hash, i));
}

static uint64
count_bits(const Bloom *bloom)
{
	return pg_popcount((const char *) bloom->bits, nbytes(bloom));
}

static void
check_same_size(const Bloom *a, const Bloom *b)
{
	if (a->nbits != b->nbits || a->nhashes != b->nhashes)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("Bloom filters of different sizes cannot be combined"),
				errdetail("One has %llu bits and %d hashes, the other %llu and %d.",
						  (unsigned long long) a->nbits, a->nhashes, (unsigned long long) b->nbits, b->nhashes));
}

static void *
merge(void *state, const void *other, MemoryContext context)
{
	const Bloom *from = other;
	Bloom	   *into = state ? state : create(from->nbits, from->nhashes, context);

	check_same_size(into, from);
	for (Size i = 0; i < nbytes(into); i++)
		into->bits[i] |= from->bits[i];
	return into;
}

/* ---------- bytes ---------- */

static bytea *
write_bloom(const void *state)
{
	const Bloom *bloom = state;
	StringInfoData out;
	uint64		nset = count_bits(bloom);
	uint64		before = 0;

	mr_sketch_begin(&out, TYPE);
	mr_write_number(&out, bloom->nbits);
	mr_write_number(&out, bloom->nhashes);

	/* a distance takes two bytes as a rule */
	if (nset * 2 >= nbytes(bloom))
	{
		mr_write_number(&out, 0);
		appendBinaryStringInfo(&out, (const char *) bloom->bits, nbytes(bloom));
		return mr_sketch_end(&out);
	}
	mr_write_number(&out, nset + 1);
	for (uint64 bit = 0; bit < bloom->nbits; bit++)
	{
		if (!is_set(bloom, bit))
			continue;
		mr_write_number(&out, bit - before);
		before = bit;
	}
	return mr_sketch_end(&out);
}

static void *
read_bloom(const bytea *bytes)
{
	StringInfoData in;
	Bloom	   *bloom;
	uint64		nbits,
				nhashes,
				n,
				bit = 0;

	mr_sketch_open(&in, bytes, TYPE);
	nbits = mr_read_number(&in);
	nhashes = mr_read_number(&in);
	if (nbits < 1 || nbits > MAX_BITS || nhashes < 1 || nhashes > MAX_HASHES)
		mr_bad_state("its size");
	n = mr_read_number(&in);
	bloom = create(nbits, nhashes, CurrentMemoryContext);
	if (n == 0)
		pq_copymsgbytes(&in, (char *) bloom->bits, nbytes(bloom));
	for (uint64 i = 1; i < n; i++)
	{
		uint64		step = mr_read_number(&in);

		if (step >= nbits || bit + step >= nbits)
			mr_bad_state("a bit");
		bit += step;
		set_bit(bloom, bit);
	}
	pq_getmsgend(&in);
	if (nbits % 8 != 0 && bloom->bits[nbits / 8] >> (nbits % 8) != 0)
		mr_bad_state("a bit");
	return bloom;
}

static const MrSketchKind kind = {read_bloom, write_bloom, merge, add_hash};

Datum
mr_bloom_in(PG_FUNCTION_ARGS)
{
	return mr_sketch_in(fcinfo, &kind);
}

Datum
mr_bloom_recv(PG_FUNCTION_ARGS)
{
	return mr_sketch_recv(fcinfo, &kind);
}

/* ---------- aggregates ---------- */

static void
choose_size(FunctionCallInfo fcinfo, uint64 *nbits, int *nhashes)
{
	double		p = DEFAULT_P;
	double		n = DEFAULT_N;
	double		m;

	if (PG_NARGS() > 2)
	{
		p = mr_call_fraction(fcinfo, 2, "p", false);
		n = mr_call_integer(fcinfo, 3, "n", 1, MAX_N);
	}
	m = Max(ceil(-n * log(p) / (LN2 * LN2)), 8);
	if (m > MAX_BITS)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("Bloom filter would have more than %llu bits", (unsigned long long) MAX_BITS),
				errhint("Choose a greater p or a lower n."));
	*nbits = m;
	*nhashes = Min(Max(rint(m / n * LN2), 1), MAX_HASHES);
}

/* (internal, value [, p, n]) */
Datum
mr_bloom_transition(PG_FUNCTION_ARGS)
{
	MemoryContext context = mr_call_context(fcinfo);
	Bloom	   *bloom = mr_call_state(fcinfo, 0);
	const MrValueType *type = mr_hashed_argument(fcinfo, 1);
	uint64		nbits;
	int			nhashes;

	choose_size(fcinfo, &nbits, &nhashes);
	if (bloom == NULL)
		bloom = create(nbits, nhashes, context);
	else if (bloom->nbits != nbits || bloom->nhashes != nhashes)
		mr_call_changed("p and n");
	if (!PG_ARGISNULL(1))
		add_hash(bloom, mr_value_hash(type, PG_GET_COLLATION(), PG_GETARG_DATUM(1)));
	PG_RETURN_POINTER(bloom);
}

/* (internal, bloom) */
Datum
mr_bloom_union_transition(PG_FUNCTION_ARGS)
{
	return mr_sketch_union_transition(fcinfo, &kind);
}

Datum
mr_bloom_combine(PG_FUNCTION_ARGS)
{
	return mr_sketch_combine(fcinfo, &kind);
}

/* serial and final function */
Datum
mr_bloom_write(PG_FUNCTION_ARGS)
{
	return mr_sketch_write(fcinfo, &kind);
}

Datum
mr_bloom_read(PG_FUNCTION_ARGS)
{
	return mr_sketch_read(fcinfo, &kind);
}

/* ---------- functions ---------- */

/* bloom_add(bloom, value): a null value adds nothing */
Datum
mr_bloom_add(PG_FUNCTION_ARGS)
{
	return mr_sketch_add(fcinfo, &kind);
}

/* bloom_union(bloom, bloom) */
Datum
mr_bloom_union(PG_FUNCTION_ARGS)
{
	return mr_sketch_union(fcinfo, &kind);
}

/* bloom_intersection(bloom, bloom) */
Datum
mr_bloom_intersection(PG_FUNCTION_ARGS)
{
	Bloom	   *a = read_bloom(PG_GETARG_BYTEA_PP(0));
	Bloom	   *b = read_bloom(PG_GETARG_BYTEA_PP(1));

	check_same_size(a, b);
	for (Size i = 0; i < nbytes(a); i++)
		a->bits[i] &= b->bits[i];
	PG_RETURN_BYTEA_P(write_bloom(a));
}

/* bloom_contains(bloom, value) */
Datum
mr_bloom_contains(PG_FUNCTION_ARGS)
{
	const MrValueType *type = mr_hashed_argument(fcinfo, 1);
	Bloom	   *bloom = read_bloom(PG_GETARG_BYTEA_PP(0));
	uint64		hash = mr_value_hash(type, PG_GET_COLLATION(), PG_GETARG_DATUM(1));

	for (int i = 0; i < bloom->nhashes; i++)
		if (!is_set(bloom, bit_of(bloom, hash, i)))
			PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(true);
}

/*
 * bloom_cardinality(bloom): how many distinct values came, about: -m / k ln(1 - x / m), where x
 * bits are set (Swamidass, Baldi 2007).  Null where all are.
 */
Datum
mr_bloom_cardinality(PG_FUNCTION_ARGS)
{
	Bloom	   *bloom = read_bloom(PG_GETARG_BYTEA_PP(0));
	double		m = bloom->nbits;
	uint64		nset = count_bits(bloom);

	if (nset == bloom->nbits)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) rint(-m / bloom->nhashes * log(1 - nset / m)));
}
