/*
 * view/transform.h
 *		Continuous transforms: a query whose rows are written somewhere, batch by batch.
 */
#ifndef MR_VIEW_TRANSFORM_H
#define MR_VIEW_TRANSFORM_H

#include "view/analyze.h"

/*
 * Take a declared query apart, as mr_view_analyze() does.  There is nothing to split: partial
 * is the whole of it, standing alone, and there are no columns.  Errors as there.
 */
extern MrViewAnalysis *mr_transform_analyze(Query *query, Oid sink);

/*
 * The INSERT that a batch runs, not rewritten: partial's rows into the sink, by the names of
 * the output columns.  ERROR when the sink is not there any more, is none, or lacks a column.
 * Leaves the sink locked.
 */
extern Query *mr_transform_insert(const MrViewAnalysis *analysis);

/*
 * The partitions of a sink, at any depth, which mr_transform_insert() looks at besides the sink itself; NIL when
 * it has none.  Locks nothing.
 */
extern List *mr_transform_partitions(Oid sink);

#endif							/* MR_VIEW_TRANSFORM_H */
