/*
 * aggregate/collection_call.h
 *		Aggregates whose state is a collection: what their transition functions share.
 */
#ifndef MR_AGGREGATE_COLLECTION_CALL_H
#define MR_AGGREGATE_COLLECTION_CALL_H

#include "millrace.h"

#include "aggregate/collection.h"

/*
 * The state of a transition's or final function's call, its first argument; NULL if there is
 * none yet.
 */
extern MrCollection *mr_collection_argument(FunctionCallInfo fcinfo, MrCollectionKind kind);

/*
 * ERROR unless a column holds values of that type, as the result's type promises; bytes that a
 * state was read from may say otherwise.
 */
extern void mr_collection_check_column(const MrCollection *collection, int column, Oid type);

/*
 * The state of a transition's call, a new one if there is none.  columns: the arguments
 * that make a row.
 */
extern MrCollection *mr_collection_begin(FunctionCallInfo fcinfo, MrCollectionKind kind,
										 int limit, int ncolumns, const int *columns);

/* arguments of the call, in the order of columns, as a row */
extern void mr_collection_add_arguments(MrCollection *collection, FunctionCallInfo fcinfo,
										const int *columns);

#endif							/* MR_AGGREGATE_COLLECTION_CALL_H */
