/*
 * aggregate/histogram.h
 *		Counts by a small integer key, most of which are zero.
 */
#ifndef MR_AGGREGATE_HISTOGRAM_H
#define MR_AGGREGATE_HISTOGRAM_H

#include "millrace.h"

#include "lib/stringinfo.h"

typedef struct MrBar
{
	int32		key;
	int64		count;			/* > 0 */
} MrBar;

/* by rising keys; starts as zeros and a context */
typedef struct MrHistogram
{
	MrBar	   *bars;
	int			nbars;
	int			nallocated;
	MemoryContext context;
} MrHistogram;

/* ERROR 22003 when a count overflows */
extern void mr_histogram_add(MrHistogram *histogram, int32 key, int64 count);
extern void mr_histogram_merge(MrHistogram *into, const MrHistogram *from);

/* the count of a key, 0 if there is none */
extern int64 mr_histogram_count(const MrHistogram *histogram, int32 key);

/* a + b; ERROR 22003 when it overflows */
extern int64 mr_add_counts(int64 a, int64 b);

/* as bytes, and from them: keys in the range or an ERROR */
extern void mr_histogram_write(const MrHistogram *histogram, StringInfo out);
extern void mr_histogram_read(MrHistogram *histogram, StringInfo in, int64 low, int64 high);

#endif							/* MR_AGGREGATE_HISTOGRAM_H */
