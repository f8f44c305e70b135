/*
 * aggregate/collection.h
 *		A collection of rows: the state of aggregates that keep values.
 */
#ifndef MR_AGGREGATE_COLLECTION_H
#define MR_AGGREGATE_COLLECTION_H

#include "millrace.h"

#include "aggregate/value.h"

/* what is kept of the rows that come */
typedef enum MrCollectionKind
{
	MR_COLLECT_ALL,				/* everything: order, value, delimiter */
	MR_COLLECT_LEAST,			/* so many with the least key: key, value */
	MR_COLLECT_GREATEST,		/* so many with the greatest key */
	MR_COLLECT_DISTINCT,		/* one of each value, and whether a null came */
	MR_COLLECT_FIELDS			/* for each name the value that comes last in
								 * its order: name, order, value */
} MrCollectionKind;

typedef struct MrCollection MrCollection;

/* an empty one, in context; limit: how many rows are kept, 0: all */
extern MrCollection *mr_collection_create(MrCollectionKind kind, const MrRowType *row, Oid collation,
										  int limit, MemoryContext context);

/* ERROR unless it is of that kind, which a support function of another aggregate is not */
extern void mr_collection_check(const MrCollection *collection, MrCollectionKind kind);

extern int	mr_collection_limit(const MrCollection *collection);

/* type of a column */
extern const MrValueType *mr_collection_column(const MrCollection *collection, int column);

/* is it so many columns? */
extern int	mr_collection_ncolumns(const MrCollection *collection);

/* a row comes; values are copied.  ERROR 54000 when more than millrace.state_memory is kept */
extern void mr_collection_add(MrCollection *collection, const Datum *values, const bool *isnull);

/* MR_COLLECT_DISTINCT: a null came; and did one? */
extern void mr_collection_add_null(MrCollection *collection);
extern bool mr_collection_has_null(const MrCollection *collection);

/* what came to another one comes to this one, too; compared under a collation */
extern MrCollection *mr_collection_merge(MrCollection *into, MrCollection *from, Oid collation,
										 MemoryContext context);

/*
 * Ready to be read, in an order under the collation if that is wanted (the least and the
 * greatest always are); number of rows
 */
extern int64 mr_collection_finish(MrCollection *collection, bool sorted, Oid collation);

/* a row of one that is finished; values point into it */
extern void mr_collection_get(const MrCollection *collection, int64 i, Datum *values, bool *isnull);

/* written, and read back; both in the current context */
extern bytea *mr_collection_serialize(MrCollection *collection);
extern MrCollection *mr_collection_deserialize(const bytea *bytes, FmgrInfo *flinfo);

#endif							/* MR_AGGREGATE_COLLECTION_H */
