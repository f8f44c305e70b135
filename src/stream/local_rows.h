/*
 * stream/local_rows.h
 *		Rows that the current transaction has added to streams inside of this database.
 *
 * Such a stream is named by a relation: a table whose INSERTs are followed.  Its rows are
 * kept until the transaction is about to commit; what a savepoint rolls back is forgotten.
 */
#ifndef MR_STREAM_LOCAL_ROWS_H
#define MR_STREAM_LOCAL_ROWS_H

#include "millrace.h"

#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "utils/tuplestore.h"

/* rows of one stream, as they came */
typedef struct MrLocalRows MrLocalRows;

/* where to put rows of one form; good until the transaction ends */
typedef struct MrLocalWriter MrLocalWriter;

/*
 * A writer for rows of which the n attributes of the relation in attnums (ascending) matter.
 * columns: of those n, in that order.
 */
extern MrLocalWriter *mr_local_rows_writer(Oid relid, int n, const AttrNumber *attnums,
										   TupleDesc columns);

/* add a row: the values of the writer's columns; scratch memory is the current context's */
extern void mr_local_rows_append(MrLocalWriter *writer, Datum *values, bool *isnull);

/*
 * What has been added by now is none of that view's business: it is new, or has been computed
 * from the table itself.
 */
extern void mr_local_rows_skip(Oid relid, Oid view);

/* are there rows that nobody has taken yet? */
extern bool mr_local_rows_pending(void);

/*
 * All rows that are pending, which are no longer: List of MrLocalRows *, by relation.  They
 * live until the transaction ends, or are closed.
 */
extern List *mr_local_rows_take(void);
extern Oid	mr_local_rows_relid(const MrLocalRows *rows);
extern uint64 mr_local_rows_count(const MrLocalRows *rows);

/* how many rows at the beginning a view has to skip */
extern uint64 mr_local_rows_skipped(const MrLocalRows *rows, Oid view);

/*
 * Put all rows but the first few into a tuplestore, as rows of the relation, whose present
 * descriptor is desc; columns that were not kept are null.  May be called more than once.
 */
extern void mr_local_rows_read(MrLocalRows *rows, TupleDesc desc, uint64 skip,
							   Tuplestorestate *store);
extern void mr_local_rows_close(MrLocalRows *rows);

/* follow transactions; once in each process, when the library is loaded */
extern void mr_local_rows_init(void);

#endif							/* MR_STREAM_LOCAL_ROWS_H */
