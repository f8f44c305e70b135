/*
 * view/table.h
 *		A table of ours, open to be written a batch of rows.
 */
#ifndef MR_VIEW_TABLE_H
#define MR_VIEW_TABLE_H

#include "millrace.h"

#include "nodes/execnodes.h"
#include "utils/relcache.h"

/* the struct is for whoever updates rows besides */
typedef struct MrTable
{
	Relation	rel;
	EState	   *estate;			/* with the command id to write under */
	ResultRelInfo *rinfo;		/* indexes are open */

	/* private */
	MemoryContext context;
	TupleTableSlot **inserts;
	int			ninserts;
	struct BulkInsertStateData *bulk;
} MrTable;

/* with RowExclusiveLock, in the current context; rows live there until they are written */
extern MrTable *mr_table_open(Oid relid);

/* take a copy of a row, to be inserted with others, without triggers and constraints */
extern void mr_table_insert(MrTable *table, TupleTableSlot *row);

/* insert what was taken and close; the lock stays */
extern void mr_table_close(MrTable *table);

#endif							/* MR_VIEW_TABLE_H */
