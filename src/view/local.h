/*
 * view/local.h
 *		Views that follow streams inside of this database: tables whose INSERTs they take.
 */
#ifndef MR_VIEW_LOCAL_H
#define MR_VIEW_LOCAL_H

#include "catalog_view.h"
#include "view/analyze.h"

#include "utils/queryenvironment.h"
#include "utils/tuplestore.h"

/*
 * The attached tables that a new view's query takes for streams, locked against INSERTs until
 * the transaction ends: List of Oid, ascending.  NIL when it reads a topic; then they are
 * tables like others.  The current user needs TRIGGER on them.
 */
extern List *mr_local_tables(Query *query);

/* ERROR when a statement of this session uses one of these tables, which are to fill a view */
extern void mr_local_require_not_in_use(const List *tables);

/* ERROR when an INSERT does not give the value of one of these columns of a table */
extern void mr_local_check_columns(Oid relid, const Bitmapset *attrs);

/*
 * From here on, tables are taken for streams by mr_split_is_stream(); the list must live as
 * long as that is asked.
 */
extern void mr_local_take_for_streams(const List *tables);

/*
 * In a rewritten query, let rows that are provided come instead of the tables' own.  What the
 * current user may see of the tables is checked as before.
 */
extern void mr_local_substitute(Query *query, const List *tables);

/* provide rows of a table, as its columns are now */
extern void mr_local_provide(QueryEnvironment *environment, Oid relid, TupleDesc desc,
							 Tuplestorestate *store, double rows);

/* what provides no rows at all */
extern QueryEnvironment *mr_local_provide_nothing(const List *tables);

/*
 * start_at of a view over tables: false for 'latest'.  ERROR for a timestamp.
 */
extern bool mr_local_from_beginning(const char *start_at);

/*
 * Compute a view over tables anew from the rows that they hold, or empty it, in the current
 * transaction; start_at NULL: as the view was created.  From now on it follows them.  The
 * view must be locked against others who do the same.
 */
extern void mr_local_recompute(const MrView *view, const char *start_at);

/*
 * How that is done, given by ingest/, which lies below: the tables are locked against INSERTs.
 */
extern void (*mr_local_fill) (const MrView *view, bool from_rows);

#endif							/* MR_VIEW_LOCAL_H */
