/*
 * stream/local_stream.h
 *		Streams inside of this database: adding rows to one.
 */
#ifndef MR_STREAM_LOCAL_STREAM_H
#define MR_STREAM_LOCAL_STREAM_H

#include "millrace.h"

#include "executor/tuptable.h"

/*
 * Add a row, of the relation's present columns, to the stream that a relation is.  The caller
 * holds RowExclusiveLock on the relation until the transaction ends.  Views that follow it have
 * the row when the transaction commits, which fails when one of them cannot take it.
 *
 * May also be called while that is being done, for rows that a view's change makes: they are
 * taken next.
 */
extern void mr_local_stream_add(Oid relid, TupleTableSlot *slot);

/* are views taking rows in this process now?  Nobody but them may insert meanwhile. */
extern void mr_local_stream_set_flushing(bool flushing);

#endif							/* MR_STREAM_LOCAL_STREAM_H */
