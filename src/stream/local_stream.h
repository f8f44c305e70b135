/*
 * stream/local_stream.h
 *		Streams inside of this database: adding rows to one.
 */
#ifndef MR_STREAM_LOCAL_STREAM_H
#define MR_STREAM_LOCAL_STREAM_H

#include "millrace.h"

#include "executor/tuptable.h"
#include "utils/tuplestore.h"

/*
 * Add a row, or all rows of a tuplestore, to the stream that a relation is: of the relation's
 * present columns.  The caller holds RowExclusiveLock on the relation until the transaction
 * ends.  Views that follow it have them when the transaction commits, which fails when one
 * of them cannot take a row.
 *
 * May also be called while that is being done, for rows that a view's change makes: they are
 * taken next.
 */
extern void mr_local_stream_add(Oid relid, TupleTableSlot *slot);
extern void mr_local_stream_add_all(Oid relid, TupleDesc desc, Tuplestorestate *store);

/* are views taking rows in this process now?  Nobody but them may insert meanwhile. */
extern void mr_local_stream_set_flushing(bool flushing);

#endif							/* MR_STREAM_LOCAL_STREAM_H */
