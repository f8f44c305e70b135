/*
 * aggregate/histogram.c
 *		Counts by a small integer key, most of which are zero.
 *
 * The common ground of sketches that are linear: two of them are merged by adding counts, so
 * the result depends neither on the order of rows nor on batches.  Bars are in an array by
 * their keys: found by bisection, cheap to merge, and few for what arrives as a rule.
 */
#include "millrace.h"

#include "aggregate/histogram.h"
#include "aggregate/sketch.h"
#include "common/int.h"
#include "utils/memutils.h"

int64
mr_add_counts(int64 a, int64 b)
{
	int64		result;

	if (pg_add_s64_overflow(a, b, &result))
		ereport(ERROR,
				errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				errmsg("bigint out of range"));
	return result;
}

static void
reserve(MrHistogram *histogram, int nbars)
{
	Size		nallocated = Max(histogram->nallocated, 8);

	if (nbars <= histogram->nallocated)
		return;
	while (nallocated < nbars)
		nallocated *= 2;
	histogram->bars = histogram->bars == NULL ?
		MemoryContextAllocHuge(histogram->context, sizeof(MrBar) * nallocated) :
		repalloc_huge(histogram->bars, sizeof(MrBar) * nallocated);
	histogram->nallocated = nallocated;
}

/* place of a key, or where it would be */
static int
find(const MrHistogram *histogram, int32 key)
{
	int			low = 0,
				high = histogram->nbars;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (histogram->bars[middle].key < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void
mr_histogram_add(MrHistogram *histogram, int32 key, int64 count)
{
	int			at = find(histogram, key);

	if (at < histogram->nbars && histogram->bars[at].key == key)
	{
		histogram->bars[at].count = mr_add_counts(histogram->bars[at].count, count);
		return;
	}
	reserve(histogram, histogram->nbars + 1);
	memmove(&histogram->bars[at + 1], &histogram->bars[at], sizeof(MrBar) * (histogram->nbars - at));
	histogram->bars[at].key = key;
	histogram->bars[at].count = count;
	histogram->nbars++;
}

int64
mr_histogram_count(const MrHistogram *histogram, int32 key)
{
	int			at = find(histogram, key);

	return at < histogram->nbars && histogram->bars[at].key == key ? histogram->bars[at].count : 0;
}

/* keys of from that into does not have */
static int
count_new(const MrHistogram *into, const MrHistogram *from)
{
	int			result = 0;

	for (int a = 0, b = 0; b < from->nbars; b++)
	{
		while (a < into->nbars && into->bars[a].key < from->bars[b].key)
			a++;
		result += a == into->nbars || into->bars[a].key != from->bars[b].key;
	}
	return result;
}

/* from behind, so that nothing is overwritten before it is moved */
void
mr_histogram_merge(MrHistogram *into, const MrHistogram *from)
{
	int			fresh = count_new(into, from);
	int			a = into->nbars - 1,
				b = from->nbars - 1;

	reserve(into, into->nbars + fresh);
	into->nbars += fresh;
	for (int at = into->nbars - 1; b >= 0; at--)
	{
		MrBar		bar = from->bars[b];

		if (a >= 0 && into->bars[a].key >= bar.key)
		{
			int64		count = bar.key == into->bars[a].key ? from->bars[b--].count : 0;

			bar = into->bars[a--];
			bar.count = mr_add_counts(bar.count, count);
		}
		else
			b--;
		into->bars[at] = bar;
	}
}

void
mr_histogram_write(const MrHistogram *histogram, StringInfo out)
{
	mr_write_number(out, histogram->nbars);
	for (int i = 0; i < histogram->nbars; i++)
	{
		int64		before = i == 0 ? PG_INT32_MIN : histogram->bars[i - 1].key;

		mr_write_number(out, histogram->bars[i].key - before);
		mr_write_number(out, histogram->bars[i].count);
	}
}

void
mr_histogram_read(MrHistogram *histogram, StringInfo in, int64 low, int64 high)
{
	uint64		n = mr_read_number(in);
	int64		key = PG_INT32_MIN;

	/* a bar has two bytes at least */
	if (n > (in->len - in->cursor) / 2)
		mr_bad_state("more counts than there are");
	reserve(histogram, n);
	for (int i = 0; i < n; i++)
	{
		uint64		step = mr_read_number(in);
		uint64		count = mr_read_number(in);

		if (step > PG_UINT32_MAX || (i > 0 && step == 0) || count == 0 || count > PG_INT64_MAX)
			mr_bad_state("a count");
		key += step;
		if (key < low || key > high)
			mr_bad_state("a key");
		histogram->bars[i].key = key;
		histogram->bars[i].count = count;
		histogram->nbars++;
	}
}
