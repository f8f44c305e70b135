/*
 * view/table.c
 *		A table of ours, open to be written a batch of rows.
 *
 * Rows are inserted many at a time, as COPY does it.  The tables have neither triggers, which is
 * made sure of (planted.c), nor constraints but their unique indexes, so nothing but those is
 * looked at.
 */
#include "millrace.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "planted.h"
#include "utils/rel.h"

#include "view/table.h"

#define INSERT_BUFFER	1000	/* rows per multi-insert */

static RangeTblEntry *
make_rte(Relation rel)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
	return rte;
}

/* an EState with a range table, which ExecInsertIndexTuples wants for updates */
MrTable *
mr_table_open(Oid relid)
{
	MrTable    *table = palloc0(sizeof(MrTable));

	table->context = CurrentMemoryContext;
	table->rel = table_open(relid, RowExclusiveLock);
	mr_planted_check(table->rel);
	table->estate = CreateExecutorState();
	mr_compat_init_range_table(table->estate, make_rte(table->rel));
	table->estate->es_output_cid = GetCurrentCommandId(true);
	table->rinfo = makeNode(ResultRelInfo);
	InitResultRelInfo(table->rinfo, table->rel, 1, NULL, 0);
	ExecOpenIndices(table->rinfo, false);
	table->bulk = GetBulkInsertState();
	table->inserts = palloc0(sizeof(TupleTableSlot *) * INSERT_BUFFER);
	return table;
}

static void
flush(MrTable *table)
{
	MemoryContext old;

	if (table->ninserts == 0)
		return;
	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(table->estate));
	table_multi_insert(table->rel, table->inserts, table->ninserts, table->estate->es_output_cid,
					   0, table->bulk);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < table->ninserts; i++)
	{
		if (table->rinfo->ri_NumIndices > 0)
			list_free(mr_compat_insert_index_tuples(table->rinfo, table->inserts[i], table->estate, false, false));
		ExecClearTuple(table->inserts[i]);
		ResetPerTupleExprContext(table->estate);
	}
	table->ninserts = 0;
}

void
mr_table_insert(MrTable *table, TupleTableSlot *row)
{
	TupleTableSlot **slot = &table->inserts[table->ninserts];

	if (*slot == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(table->context);

		*slot = table_slot_create(table->rel, NULL);
		MemoryContextSwitchTo(old);
	}
	ExecCopySlot(*slot, row);
	(*slot)->tts_tableOid = RelationGetRelid(table->rel);
	table->ninserts++;
	if (table->ninserts == INSERT_BUFFER)
		flush(table);
}

void
mr_table_close(MrTable *table)
{
	flush(table);
	table_finish_bulk_insert(table->rel, 0);
	for (int i = 0; i < INSERT_BUFFER; i++)
		if (table->inserts[i])
			ExecDropSingleTupleTableSlot(table->inserts[i]);
	FreeBulkInsertState(table->bulk);
	ExecCloseIndices(table->rinfo);
	FreeExecutorState(table->estate);
	table_close(table->rel, NoLock);
}
