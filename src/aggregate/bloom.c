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
 * While few bits are set they are listed, each once and perhaps a few times more; so a filter never takes much more
 * memory than the bytes that it was read from, whatever size these speak of.  Bytes: m, k, number of
 * bits set, and then those, each by its distance from the one before; or 0 and all bits, where that is shorter.
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
	MemoryContext context;
	uint8	   *bits;			/* NULL: those that are set are listed */
	uint32	   *set;			/* in no order, unless compact() was called */
	Size		nset;
	Size		nallocated;
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

/* more bits than these are not listed: it would take more than a quarter of the memory of all */
static inline Size
max_listed(const Bloom *bloom)
{
	return nbytes(bloom) / 16;
}

static Bloom *
create(uint64 nbits, int nhashes, MemoryContext context)
{
	Bloom	   *bloom = MemoryContextAllocZero(context, sizeof(Bloom));

	bloom->nbits = nbits;
	bloom->nhashes = nhashes;
	bloom->context = context;
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

static int
compare_bits(const void *a, const void *b)
{
	uint32		x = *(const uint32 *) a,
				y = *(const uint32 *) b;

	return x < y ? -1 : x > y;
}

/* listed bits in ascending order, each once */
static void
compact(Bloom *bloom)
{
	Size		n = 0;

	if (bloom->nset == 0)
		return;
	qsort(bloom->set, bloom->nset, sizeof(uint32), compare_bits);
	for (Size i = 0; i < bloom->nset; i++)
		if (n == 0 || bloom->set[n - 1] != bloom->set[i])
			bloom->set[n++] = bloom->set[i];
	bloom->nset = n;
}

/* no list any more */
static void
expand(Bloom *bloom)
{
	bloom->bits = MemoryContextAllocZero(bloom->context, nbytes(bloom));
	for (Size i = 0; i < bloom->nset; i++)
		set_bit(bloom, bloom->set[i]);
	if (bloom->set != NULL)
		pfree(bloom->set);
	bloom->set = NULL;
	bloom->nset = 0;
	bloom->nallocated = 0;
}

/* the list is full */
static void
make_room(Bloom *bloom)
{
	compact(bloom);
	if (bloom->nset > max_listed(bloom))
	{
		expand(bloom);
		return;
	}
	if (bloom->nallocated > bloom->nset * 2)
		return;
	bloom->nallocated = Max(bloom->nset * 2, 16);
	bloom->set = bloom->set == NULL ?
		MemoryContextAlloc(bloom->context, sizeof(uint32) * bloom->nallocated) :
		repalloc(bloom->set, sizeof(uint32) * bloom->nallocated);
}

static void
add_bit(Bloom *bloom, uint64 bit)
{
	if (bloom->bits == NULL && bloom->nset == bloom->nallocated)
		make_room(bloom);
	if (bloom->bits != NULL)
		set_bit(bloom, bit);
	else
		bloom->set[bloom->nset++] = bit;
}

static void
add_hash(void *state, uint64 hash)
{
	Bloom	   *bloom = state;

	for (int i = 0; i < bloom->nhashes; i++)
		add_bit(bloom, bit_of(bloom, hash, i));
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
	for (Size i = 0; i < from->nset; i++)
		add_bit(into, from->set[i]);
	if (from->bits == NULL)
		return into;
	if (into->bits == NULL)
		expand(into);
	for (Size i = 0; i < nbytes(into); i++)
		into->bits[i] |= from->bits[i];
	return into;
}

/* the bits that both have, in either of them; lists are compact */
static Bloom *
intersect(Bloom *a, const Bloom *b)
{
	Size		n = 0;

	for (Size i = 0; i < a->nset; i++)
		if (b->bits != NULL ? is_set(b, a->set[i]) :
			b->nset > 0 && bsearch(&a->set[i], b->set, b->nset, sizeof(uint32), compare_bits) != NULL)
			a->set[n++] = a->set[i];
	a->nset = n;
	for (Size i = 0; a->bits != NULL && i < nbytes(a); i++)
		a->bits[i] &= b->bits[i];
	return a;
}

/* ---------- bytes ---------- */

static void
write_bits(StringInfo out, const Bloom *bloom, uint64 nset)
{
	uint64		before = 0;

	mr_write_number(out, nset + 1);
	for (Size i = 0; i < bloom->nset; i++)
	{
		mr_write_number(out, bloom->set[i] - before);
		before = bloom->set[i];
	}
	for (uint64 bit = 0; bloom->bits != NULL && bit < bloom->nbits; bit++)
	{
		if (!is_set(bloom, bit))
			continue;
		mr_write_number(out, bit - before);
		before = bit;
	}
}

static bytea *
write_bloom(const void *state)
{
	Bloom	   *bloom = unconstify(Bloom *, (const Bloom *) state);
	StringInfoData out;
	uint64		nset;

	compact(bloom);
	nset = bloom->bits == NULL ? bloom->nset : count_bits(bloom);
	mr_sketch_begin(&out, TYPE);
	mr_write_number(&out, bloom->nbits);
	mr_write_number(&out, bloom->nhashes);

	/* a distance takes two bytes as a rule */
	if (nset * 2 < nbytes(bloom))
	{
		write_bits(&out, bloom, nset);
		return mr_sketch_end(&out);
	}
	if (bloom->bits == NULL)
		expand(bloom);
	mr_write_number(&out, 0);
	appendBinaryStringInfo(&out, (const char *) bloom->bits, nbytes(bloom));
	return mr_sketch_end(&out);
}

/*
 * A filter's bytes while they are read: as they are, without the memory that its bits would take.  A few bytes
 * may speak of a very large one.
 */
typedef struct BloomReader
{
	StringInfoData in;
	Bloom		bloom;			/* its bits are NULL, or all there are */
	uint64		left;			/* bits to come one by one */
	uint64		bit;			/* that came last */
	bool		any;			/* has one come? */
} BloomReader;

static void
open_bloom(BloomReader *reader, const bytea *bytes)
{
	uint64		nhashes,
				n;
	Bloom	   *bloom = &reader->bloom;

	mr_sketch_open(&reader->in, bytes, TYPE);
	bloom->nbits = mr_read_number(&reader->in);
	nhashes = mr_read_number(&reader->in);
	if (bloom->nbits < 1 || bloom->nbits > MAX_BITS || nhashes < 1 || nhashes > MAX_HASHES)
		mr_bad_state("its size");
	bloom->nhashes = nhashes;
	n = mr_read_number(&reader->in);
	bloom->bits = n > 0 ? NULL : unconstify(uint8 *, (const uint8 *) pq_getmsgbytes(&reader->in, nbytes(bloom)));
	reader->left = n > 0 ? n - 1 : 0;
	reader->bit = 0;
	reader->any = false;
	if (n == 0)
		pq_getmsgend(&reader->in);
	if (n == 0 && bloom->nbits % 8 != 0 && bloom->bits[bloom->nbits / 8] >> (bloom->nbits % 8) != 0)
		mr_bad_state("a bit");
}

/* the next of those that come one by one, in ascending order; false: there is none */
static bool
next_bit(BloomReader *reader)
{
	uint64		step;

	if (reader->left == 0)
	{
		if (reader->bloom.bits == NULL)
			pq_getmsgend(&reader->in);
		return false;
	}
	step = mr_read_number(&reader->in);
	if ((reader->any && step == 0) || step >= reader->bloom.nbits || reader->bit + step >= reader->bloom.nbits)
		mr_bad_state("a bit");
	reader->bit += step;
	reader->any = true;
	reader->left--;
	return true;
}

static void
check_bloom(const bytea *bytes)
{
	BloomReader reader;

	open_bloom(&reader, bytes);
	while (next_bit(&reader))
		;
}

static void *
read_bloom(const bytea *bytes)
{
	BloomReader reader;
	Bloom	   *bloom;

	check_bloom(bytes);
	open_bloom(&reader, bytes);
	bloom = create(reader.bloom.nbits, reader.bloom.nhashes, CurrentMemoryContext);
	if (reader.bloom.bits != NULL)
	{
		expand(bloom);
		memcpy(bloom->bits, reader.bloom.bits, nbytes(bloom));
	}
	while (next_bit(&reader))
		add_bit(bloom, reader.bit);
	return bloom;
}

static const MrSketchKind kind = {read_bloom, write_bloom, merge, add_hash, check_bloom};

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
	compact(a);
	compact(b);
	PG_RETURN_BYTEA_P(write_bloom(a->bits == NULL ? intersect(a, b) : intersect(b, a)));
}

/* bloom_contains(bloom, value) */
Datum
mr_bloom_contains(PG_FUNCTION_ARGS)
{
	const MrValueType *type = mr_hashed_argument(fcinfo, 1);
	uint64		hash = mr_value_hash(type, PG_GET_COLLATION(), PG_GETARG_DATUM(1));
	BloomReader reader;
	int			nhashes;
	uint64		wanted[MAX_HASHES];
	uint64		missing = 0;	/* by number of the hash */

	open_bloom(&reader, PG_GETARG_BYTEA_PP(0));
	nhashes = reader.bloom.nhashes;
	for (int i = 0; i < nhashes; i++)
	{
		wanted[i] = bit_of(&reader.bloom, hash, i);
		if (reader.bloom.bits == NULL || !is_set(&reader.bloom, wanted[i]))
			missing |= UINT64CONST(1) << i;
	}
	while (next_bit(&reader))
		for (int i = 0; i < nhashes; i++)
			if (wanted[i] == reader.bit)
				missing &= ~(UINT64CONST(1) << i);
	PG_RETURN_BOOL(missing == 0);
}

/*
 * bloom_cardinality(bloom): how many distinct values came, about: -m / k ln(1 - x / m), where x
 * bits are set (Swamidass, Baldi 2007).  Null where all are.
 */
Datum
mr_bloom_cardinality(PG_FUNCTION_ARGS)
{
	BloomReader reader;
	double		m;
	uint64		nset = 0;

	open_bloom(&reader, PG_GETARG_BYTEA_PP(0));
	m = reader.bloom.nbits;
	if (reader.bloom.bits != NULL)
		nset = count_bits(&reader.bloom);
	while (next_bit(&reader))
		nset++;
	if (nset == reader.bloom.nbits)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) rint(-m / reader.bloom.nhashes * log(1 - nset / m)));
}
