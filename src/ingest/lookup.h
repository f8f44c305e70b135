/*
 * ingest/lookup.h
 *		Finding a batch's groups in the matrel, by its unique index.
 */
#ifndef MR_INGEST_LOOKUP_H
#define MR_INGEST_LOOKUP_H

#include "millrace.h"

#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef struct MrLookup MrLookup;

/*
 * index is unique over the first nkeys columns of rel, in any order.  Lives in the current
 * context; NULL when the index is another one.
 */
extern MrLookup *mr_lookup_begin(Relation rel, Relation index, int nkeys, Snapshot snapshot);

/*
 * The visible row with the key of a partial row (its first nkeys columns), into found; false:
 * there is none.  Keys come in ascending order, NULLs last.
 */
extern bool mr_lookup_find(MrLookup *lookup, TupleTableSlot *partial, TupleTableSlot *found);

extern void mr_lookup_end(MrLookup *lookup);

#endif							/* MR_INGEST_LOOKUP_H */
