/*
 * aggregate/collection.c
 *		A collection of rows: the state of aggregates that keep values.
 *
 * Sets, lists, objects, and the first rows by a key have this in common: rows of up to three
 * columns are kept, all or the best of them.  What a collection holds in the end depends on
 * the rows that came and not on their order, so it does not matter in which batches they
 * came: an order is made complete by looking at all columns, and then at their bytes.
 *
 * A row is Datums side by side, with one more that has a bit for each null if there can be one.  The first
 * rows, up to ncompact, are in order and nothing among them is in vain; behind them rows lie
 * as they came.  When there are as many again these are sorted, the two are merged, and
 * what is not to be kept is dropped: a few comparisons per row, and at most twice the memory.
 * A row that the compact part makes needless is not even copied.
 *
 * MR_COLLECT_ALL is a mere list, sorted when it is read.  The least and the greatest are few, and
 * always in order: each row is put into its place.
 *
 * Where rows are to be distinct their order serves nothing else, and under a deterministic
 * collation it is that of bytes: faster, and no business of the operating system's next
 * version.  mr_collection_finish() sorts them by what the caller expects.
 *
 * Memory: all in the context of the aggregation, none of it in contexts of its own, since
 * there may be a million groups.  It is counted, without the allocator's share, and limited by
 * millrace.state_memory.
 */
#include "millrace.h"

#include "access/htup_details.h"
#include "aggregate/call.h"
#include "aggregate/collection.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define VERSION			1
#define FIRST_ROWS		4
#define FIRST_COMPACT	64
#define CHUNK_OVERHEAD	16		/* about what the allocator needs for a copy */

struct MrCollection
{
	MrCollectionKind kind;
	const MrRowType *row;
	Oid			collation;		/* of the call */
	Oid			key_collation;	/* by which the first column is compared */
	int			limit;
	int			stride;			/* Datums in a row */
	bool		nullable;		/* the last of them tells which are null */
	bool		has_null;
	MemoryContext context;
	Datum	   *rows;
	int64		nrows;
	int64		ncompact;
	int64		nallocated;
	int64		compact_at;
	Size		memory;
};

/* ---------- rows ---------- */

static inline Datum *
row_at(const MrCollection *collection, int64 i)
{
	return collection->rows + i * collection->stride;
}

static inline bool
is_null(const MrCollection *collection, const Datum *row, int column)
{
	return collection->nullable && ((row[collection->row->ncolumns] >> column) & 1);
}

static inline bool
is_unique(MrCollectionKind kind)
{
	return kind == MR_COLLECT_DISTINCT || kind == MR_COLLECT_FIELDS;
}

/* fields: names upwards, and the last of a name's rows first */
static bool
is_descending(MrCollectionKind kind, int column)
{
	return kind == MR_COLLECT_GREATEST || (kind == MR_COLLECT_FIELDS && column > 0);
}

static void
free_row(MrCollection *collection, Datum *row)
{
	for (int i = 0; i < collection->row->ncolumns; i++)
	{
		const MrValueType *type = &collection->row->columns[i];
		Size		size;

		if (is_null(collection, row, i) || type->entry->typbyval)
			continue;
		size = mr_value_size(type, row[i]) + CHUNK_OVERHEAD;
		collection->memory -= Min(size, collection->memory);
		mr_value_free(type, row[i]);
	}
}

/* ---------- order ---------- */

/* nulls come last, whatever the direction */
static int
compare_column(const MrCollection *collection, const Datum *a, const Datum *b, int column)
{
	bool		a_null = is_null(collection, a, column);
	bool		b_null = is_null(collection, b, column);
	int			result;

	if (a_null || b_null)
		return (int) a_null - (int) b_null;
	result = mr_value_compare(&collection->row->columns[column],
							  column == 0 ? collection->key_collation : collection->collation,
							  a[column], b[column]);
	return is_descending(collection->kind, column) ? -result : result;
}

/* equal rows are the same to the last byte */
static int
compare_rows(const MrCollection *collection, const Datum *a, const Datum *b)
{
	int			ncolumns = collection->row->ncolumns;
	int			result;

	for (int i = 0; i < ncolumns; i++)
		if ((result = compare_column(collection, a, b, i)) != 0)
			return result;
	for (int i = 0; i < ncolumns; i++)
	{
		const MrValueType *type = &collection->row->columns[i];

		if (type->exact || is_null(collection, a, i))
			continue;
		if ((result = mr_value_compare_bytes(type, a[i], b[i])) != 0)
			return result;
	}
	return 0;
}

static int
compare_pointers(const void *a, const void *b, void *collection)
{
	return compare_rows(collection, a, b);
}

static void
sort_rows(MrCollection *collection, int64 from)
{
	CHECK_FOR_INTERRUPTS();
	qsort_arg(row_at(collection, from), collection->nrows - from, sizeof(Datum) * collection->stride,
			  compare_pointers, collection);
}

/*
 * Under a deterministic collation values are equal when their bytes are, and bytes are what
 * distinct ones are ordered by.  (Composite types and ranges look at their own collations.)
 * Names in JSON have no other.
 */
static Oid
choose_key_collation(MrCollectionKind kind, Oid collation)
{
	if (kind == MR_COLLECT_FIELDS)
		return C_COLLATION_OID;
	if (is_unique(kind) && OidIsValid(collation) && get_collation_isdeterministic(collation))
		return C_COLLATION_OID;
	return collation;
}

/* ---------- memory ---------- */

static void
check_memory(const MrCollection *collection)
{
	mr_call_check_memory(collection->memory, collection->nrows,
						 "Group by more columns, use an approximate aggregate");
}

static void
reserve(MrCollection *collection, int64 nrows)
{
	Size		row_size = sizeof(Datum) * collection->stride;
	int64		nallocated = Max(collection->nallocated, FIRST_ROWS);

	if (nrows <= collection->nallocated)
		return;
	while (nallocated < nrows)
		nallocated *= 2;
	if (collection->rows == NULL)
		collection->rows = MemoryContextAllocHuge(collection->context, nallocated * row_size);
	else
		collection->rows = repalloc_huge(collection->rows, nallocated * row_size);
	collection->memory += (nallocated - collection->nallocated) * row_size;
	collection->nallocated = nallocated;
	check_memory(collection);
}

/* ---------- compacting ---------- */

/* does the second row add nothing to the first, which comes before it? */
static bool
is_needless(const MrCollection *collection, const Datum *first, const Datum *second)
{
	return compare_column(collection, first, second, 0) == 0;
}

/* the two halves, each in order, into new memory, without what is not kept */
static void
merge_halves(MrCollection *collection)
{
	Size		row_size = sizeof(Datum) * collection->stride;
	Datum	   *merged = MemoryContextAllocHuge(collection->context, collection->nallocated * row_size);
	int64		a = 0,
				b = collection->ncompact,
				n = 0;

	while (a < collection->ncompact || b < collection->nrows)
	{
		bool		take_a = b == collection->nrows ||
		(a < collection->ncompact &&
		 compare_rows(collection, row_at(collection, a), row_at(collection, b)) <= 0);
		Datum	   *row = row_at(collection, take_a ? a++ : b++);

		if (n > 0 && is_needless(collection, merged + (n - 1) * collection->stride, row))
			free_row(collection, row);
		else
			memcpy(merged + n++ * collection->stride, row, row_size);
	}
	pfree(collection->rows);
	collection->rows = merged;
	collection->nrows = n;
}

static void
compact(MrCollection *collection)
{
	if (!is_unique(collection->kind) || collection->ncompact == collection->nrows)
		return;
	sort_rows(collection, collection->ncompact);
	merge_halves(collection);
	collection->ncompact = collection->nrows;
	collection->compact_at = Max(FIRST_COMPACT, collection->nrows * 2);
}

/* is there a row already that makes this one needless? */
static bool
is_refused(const MrCollection *collection, const Datum *row)
{
	int64		low = 0,
				high = collection->ncompact;

	if (collection->limit > 0)
		return collection->nrows == collection->limit &&
			compare_rows(collection, row_at(collection, collection->limit - 1), row) <= 0;
	while (low < high && is_unique(collection->kind))
	{
		int64		middle = (low + high) / 2;
		int			order = compare_column(collection, row_at(collection, middle), row, 0);

		if (order == 0)
			return compare_rows(collection, row_at(collection, middle), row) <= 0;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* ---------- what comes ---------- */

MrCollection *
mr_collection_create(MrCollectionKind kind, const MrRowType *row, Oid collation, int limit,
					 MemoryContext context)
{
	MrCollection *collection = MemoryContextAllocZero(context, sizeof(MrCollection));

	collection->kind = kind;
	collection->row = row;
	collection->collation = collation;
	collection->key_collation = choose_key_collation(kind, collation);
	collection->limit = limit;
	collection->nullable = kind != MR_COLLECT_DISTINCT;
	collection->stride = row->ncolumns + collection->nullable;
	collection->context = context;
	collection->compact_at = FIRST_COMPACT;
	if (kind != MR_COLLECT_ALL)
		mr_value_check_ordered(&row->columns[0]);
	return collection;
}

void
mr_collection_check(const MrCollection *collection, MrCollectionKind kind)
{
	if (collection->kind != kind)
		mr_bad_state("it is of another kind");
}

int
mr_collection_limit(const MrCollection *collection)
{
	return collection->limit;
}

int
mr_collection_ncolumns(const MrCollection *collection)
{
	return collection->row->ncolumns;
}

const MrValueType *
mr_collection_column(const MrCollection *collection, int column)
{
	return &collection->row->columns[column];
}

/* make room for a row in its place, the last one giving way if there are enough */
static Datum *
make_place(MrCollection *collection, const Datum *row)
{
	Size		row_size = sizeof(Datum) * collection->stride;
	int64		low = 0,
				high;

	if (collection->nrows == collection->limit)
		free_row(collection, row_at(collection, --collection->nrows));
	high = collection->nrows;
	while (low < high)
	{
		int64		middle = (low + high) / 2;

		if (compare_rows(collection, row_at(collection, middle), row) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	memmove(row_at(collection, low + 1), row_at(collection, low), (collection->nrows - low) * row_size);
	return row_at(collection, low);
}

/* a row that is flat */
static void
add_row(MrCollection *collection, const Datum *row)
{
	Datum		copy[MR_ROW_COLUMNS + 1];
	Datum	   *place;

	if (is_refused(collection, row))
		return;
	memcpy(copy, row, sizeof(Datum) * collection->stride);
	for (int i = 0; i < collection->row->ncolumns; i++)
	{
		const MrValueType *type = &collection->row->columns[i];
		Size		size;

		if (is_null(collection, row, i) || type->entry->typbyval)
			continue;
		copy[i] = mr_value_copy(type, row[i], collection->context, &size);
		collection->memory += size + CHUNK_OVERHEAD;
	}
	reserve(collection, collection->nrows + 1);
	place = collection->limit > 0 ? make_place(collection, row) : row_at(collection, collection->nrows);
	memcpy(place, copy, sizeof(Datum) * collection->stride);
	collection->nrows++;
	if (collection->nrows >= collection->compact_at)
		compact(collection);
	check_memory(collection);
}

void
mr_collection_add(MrCollection *collection, const Datum *values, const bool *isnull)
{
	Datum		row[MR_ROW_COLUMNS + 1];
	int			ncolumns = collection->row->ncolumns;

	row[ncolumns] = 0;
	for (int i = 0; i < ncolumns; i++)
	{
		row[i] = isnull[i] ? (Datum) 0 : mr_value_flat(&collection->row->columns[i], values[i]);
		if (isnull[i])
			row[ncolumns] |= (Datum) 1 << i;
	}
	add_row(collection, row);
}

void
mr_collection_add_null(MrCollection *collection)
{
	collection->has_null = true;
}

bool
mr_collection_has_null(const MrCollection *collection)
{
	return collection->has_null;
}

static void
check_same(const MrCollection *a, const MrCollection *b)
{
	if (a->kind != b->kind || a->row->ncolumns != b->row->ncolumns)
		mr_bad_state("it is of another kind");
	for (int i = 0; i < a->row->ncolumns; i++)
		if (a->row->columns[i].entry != b->row->columns[i].entry)
			mr_bad_state("it holds values of another type");
	if (a->limit != b->limit)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("states of aggregates that keep %d and %d rows cannot be combined",
					   a->limit, b->limit));
}

/* one that was read from bytes does not know it yet */
static void
set_collation(MrCollection *collection, Oid collation)
{
	if (collection->collation == collation)
		return;
	collection->collation = collation;
	collection->key_collation = choose_key_collation(collection->kind, collation);
}

MrCollection *
mr_collection_merge(MrCollection *into, MrCollection *from, Oid collation, MemoryContext context)
{
	if (into == NULL)
		into = mr_collection_create(from->kind, from->row, collation, from->limit, context);
	set_collation(into, collation);
	check_same(into, from);
	into->has_null |= from->has_null;

	/*
	 * Many rows are better sorted once than looked for one by one.  No
	 * compaction in between, unless memory asks for it.
	 */
	into->compact_at = Max(into->compact_at, into->nrows + from->nrows);
	for (int64 i = 0; i < from->nrows; i++)
		add_row(into, row_at(from, i));
	return into;
}

/* ---------- what is there ---------- */

int64
mr_collection_finish(MrCollection *collection, bool sorted, Oid collation)
{
	Oid			key_collation;

	set_collation(collection, collation);
	compact(collection);
	if (!sorted || collection->limit > 0 ||
		(collection->kind != MR_COLLECT_ALL && collection->key_collation == collation))
		return collection->nrows;

	/* an order for the reader; rows that come later are compacted once more */
	key_collation = collection->key_collation;
	collection->key_collation = collation;
	sort_rows(collection, 0);
	collection->key_collation = key_collation;
	collection->ncompact = 0;
	return collection->nrows;
}

void
mr_collection_get(const MrCollection *collection, int64 i, Datum *values, bool *isnull)
{
	const Datum *row = row_at(collection, i);

	for (int column = 0; column < collection->row->ncolumns; column++)
	{
		values[column] = row[column];
		isnull[column] = is_null(collection, row, column);
	}
}

/* ---------- bytes ---------- */

/*
 * Version, kind, number of columns, whether a null came, limit, number of rows, number of
 * those in order, the types; then the rows, each with its nulls' bits before it if
 * there can be any.
 */
bytea *
mr_collection_serialize(MrCollection *collection)
{
	StringInfoData out;

	compact(collection);
	pq_begintypsend(&out);
	pq_sendbyte(&out, VERSION);
	pq_sendbyte(&out, collection->kind);
	pq_sendbyte(&out, collection->row->ncolumns);
	pq_sendbyte(&out, collection->has_null);
	pq_sendint32(&out, collection->limit);
	pq_sendint64(&out, collection->nrows);
	pq_sendint64(&out, collection->ncompact);
	for (int i = 0; i < collection->row->ncolumns; i++)
		mr_type_write(&out, collection->row->columns[i].entry->type_id);
	for (int64 n = 0; n < collection->nrows; n++)
	{
		const Datum *row = row_at(collection, n);

		if (collection->nullable)
			pq_sendbyte(&out, row[collection->row->ncolumns]);
		for (int i = 0; i < collection->row->ncolumns; i++)
			if (!is_null(collection, row, i))
				mr_value_write(&collection->row->columns[i], &out, row[i]);
	}
	return pq_endtypsend(&out);
}

static void
read_row(MrCollection *collection, Datum *row, StringInfo in, StringInfo scratch)
{
	int			ncolumns = collection->row->ncolumns;

	if (collection->nullable)
		row[ncolumns] = pq_getmsgbyte(in) & ((1 << ncolumns) - 1);
	for (int i = 0; i < ncolumns; i++)
	{
		const MrValueType *type = &collection->row->columns[i];

		row[i] = is_null(collection, row, i) ? (Datum) 0 : mr_value_read(type, in, scratch);
		if (!is_null(collection, row, i) && !type->entry->typbyval)
			collection->memory += mr_value_size(type, row[i]) + CHUNK_OVERHEAD;
	}
}

/* the row type that the bytes tell */
static const MrRowType *
read_row_type(StringInfo in, int ncolumns, FmgrInfo *flinfo)
{
	Oid			types[MR_ROW_COLUMNS];

	if (ncolumns < 1 || ncolumns > MR_ROW_COLUMNS)
		mr_bad_state("number of columns");
	for (int i = 0; i < ncolumns; i++)
		types[i] = mr_type_read(in);
	return mr_row_type(flinfo, ncolumns, types);
}

MrCollection *
mr_collection_deserialize(const bytea *bytes, FmgrInfo *flinfo)
{
	StringInfoData in;
	StringInfoData scratch;
	MrCollection *collection;
	int			kind,
				ncolumns,
				limit;
	bool		has_null;
	int64		nrows,
				ncompact;

	mr_open_bytes(&in, bytes);
	if (pq_getmsgbyte(&in) != VERSION)
		mr_bad_state("it was written by another version of the extension");
	kind = pq_getmsgbyte(&in);
	ncolumns = pq_getmsgbyte(&in);
	has_null = pq_getmsgbyte(&in) != 0;
	limit = pq_getmsgint(&in, 4);
	nrows = pq_getmsgint64(&in);
	ncompact = pq_getmsgint64(&in);

	/* a row has a byte at least */
	if (kind > MR_COLLECT_FIELDS || limit < 0 || nrows < 0 || nrows > in.len ||
		ncompact < 0 || ncompact > nrows ||
		(limit > 0) != (kind == MR_COLLECT_LEAST || kind == MR_COLLECT_GREATEST) ||
		(limit > 0 && nrows > limit))
		mr_bad_state("its head");
	collection = mr_collection_create(kind, read_row_type(&in, ncolumns, flinfo), InvalidOid, limit,
									  CurrentMemoryContext);
	collection->has_null = has_null;
	initStringInfo(&scratch);
	reserve(collection, nrows);
	for (int64 n = 0; n < nrows; n++)
	{
		read_row(collection, row_at(collection, n), &in, &scratch);
		collection->nrows++;
	}
	pq_getmsgend(&in);
	check_memory(collection);
	collection->ncompact = ncompact;
	collection->compact_at = Max(FIRST_COMPACT, nrows * 2);
	pfree(scratch.data);
	return collection;
}
