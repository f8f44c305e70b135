/*
 * merge.c
 *		The merge: one lookup in the matrel's unique index per group of the batch, then an
 *		update in place (HOT) of its states, or an insert.
 *
 * The partial rows are sorted by the group columns first.  Neighbours in the index are then
 * looked up one after the other, which is where most of the time of an unsorted merge goes.
 *
 * Locking: several workers can feed one view (shards of a stream, streams below a UNION
 * ALL).  A heavyweight lock on the view's row of the catalog, held from the beginning of
 * the merge to the end of the transaction, lets one of them merge at a time; a new
 * snapshot after it shows what the one before has written.  So a group is never updated
 * under our feet and the unique index never sees two inserts of one key.  The lock is not
 * on the matrel itself, where it would fight with vacuum.
 *
 * Memory: everything of one batch is below one context, made by _begin and deleted by
 * _finish; combining runs in a context that is reset for each row.
 *
 * Views without aggregates have no key and no lookup: rows are appended as they come.
 */
#include "millrace.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_index.h"
#include "executor/executor.h"
#include "ingest/merge.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"
#include "utils/typcache.h"
#include "view/aggregate.h"
#include "view/relations.h"
#include "miscadmin.h"

#define INSERT_BUFFER	1000	/* rows per multi-insert */

typedef struct MergeReceiver
{
	DestReceiver pub;
	MrMerge    *merge;
} MergeReceiver;

struct MrMerge
{
	Oid			view;
	Oid			matrel;
	MemoryContext life;
	int			ncolumns;
	int			nkeys;
	bool		append;			/* no aggregates */
	AttrNumber *key_attnums;	/* matrel's, 1 .. nkeys */
	Oid		   *sort_operators;
	Oid		   *collations;
	bool	   *nulls_first;
	FmgrInfo   *key_equal;		/* btree equality procedure per key */
	MrAggregate **aggregates;	/* per column, NULL for keys */
	bool		seals;			/* some states must be sealed */
	const List *columns;		/* of MrMatrelColumn * */
	MergeReceiver receiver;

	/* of the batch */
	MemoryContext batch;
	MemoryContext row;
	int			sort_memory;	/* kB */
	TupleDesc	desc;			/* of partial rows: the matrel's without
								 * dropped columns */
	Tuplesortstate *sort;		/* with keys */
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rinfo;
	Relation	index;
	AttrNumber *index_column;	/* per key: its place in the index, from 1 */
	IndexScanDesc scan;
	TupleTableSlot *partial;
	TupleTableSlot *sealed;		/* a partial row with its states sealed */
	TupleTableSlot *found;
	TupleTableSlot *changed;
	TupleTableSlot **inserts;
	int			ninserts;
	BulkInsertState bulk;
	uint64		rows;
};

/* ---------- life ---------- */

/* "<", its btree equality, and the collation for one key column */
static void
init_key(MrMerge *merge, int i, const MrMatrelColumn *column)
{
	TypeCacheEntry *type = lookup_type_cache(column->type, TYPECACHE_LT_OPR | TYPECACHE_EQ_OPR);

	merge->key_attnums[i] = i + 1;
	merge->sort_operators[i] = type->lt_opr;
	merge->collations[i] = column->collation;
	merge->nulls_first[i] = false;
	fmgr_info(get_opcode(type->eq_opr), &merge->key_equal[i]);
}

static bool receive_row(TupleTableSlot *slot, DestReceiver *self);
static void receiver_startup(DestReceiver *self, int operation, TupleDesc desc);
static void receiver_shutdown(DestReceiver *self);
static void receiver_destroy(DestReceiver *self);

MrMerge *
mr_merge_create(const MrViewAnalysis *analysis, Oid view, Oid matrel)
{
	MrMerge    *merge = palloc0(sizeof(MrMerge));
	int			i = 0;
	ListCell   *lc;

	merge->view = view;
	merge->matrel = matrel;
	merge->life = CurrentMemoryContext;
	merge->ncolumns = list_length(analysis->columns);
	merge->nkeys = analysis->nkeys;
	merge->append = !analysis->has_aggregates && analysis->nkeys == 0;
	merge->key_attnums = palloc(sizeof(AttrNumber) * (merge->nkeys + 1));
	merge->sort_operators = palloc(sizeof(Oid) * (merge->nkeys + 1));
	merge->collations = palloc(sizeof(Oid) * (merge->nkeys + 1));
	merge->nulls_first = palloc(sizeof(bool) * (merge->nkeys + 1));
	merge->key_equal = palloc0(sizeof(FmgrInfo) * (merge->nkeys + 1));
	merge->aggregates = palloc0(sizeof(MrAggregate *) * (merge->ncolumns + 1));
	merge->columns = analysis->columns;
	foreach(lc, analysis->columns)
	{
		const MrMatrelColumn *column = lfirst(lc);

		if (column->aggref)
		{
			merge->aggregates[i] = mr_aggregate_create(column->aggref);
			merge->seals |= mr_aggregate_is_sealed(merge->aggregates[i]);
		}
		else if (i < merge->nkeys)
			init_key(merge, i, column);
		i++;
	}
	merge->receiver.pub.receiveSlot = receive_row;
	merge->receiver.pub.rStartup = receiver_startup;
	merge->receiver.pub.rShutdown = receiver_shutdown;
	merge->receiver.pub.rDestroy = receiver_destroy;
	merge->receiver.pub.mydest = DestNone;
	merge->receiver.merge = merge;
	return merge;
}

/* ---------- the matrel, opened for a batch ---------- */

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
static void
open_matrel(MrMerge *merge)
{
	merge->rel = table_open(merge->matrel, RowExclusiveLock);
	mr_relations_check_matrel(merge->rel, merge->columns);
	merge->estate = CreateExecutorState();
	mr_compat_init_range_table(merge->estate, make_rte(merge->rel));
	merge->estate->es_output_cid = GetCurrentCommandId(true);
	merge->rinfo = makeNode(ResultRelInfo);
	InitResultRelInfo(merge->rinfo, merge->rel, 1, NULL, 0);
	ExecOpenIndices(merge->rinfo, false);
	merge->bulk = GetBulkInsertState();
}

/* is this index unique over exactly our keys?  Then fill index_column. */
static bool
index_matches(MrMerge *merge, Relation index)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indisvalid || form->indnkeyatts != merge->nkeys ||
		RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < merge->nkeys; i++)
	{
		merge->index_column[i] = 0;
		for (int c = 0; c < form->indnkeyatts; c++)
			if (form->indkey.values[c] == merge->key_attnums[i])
				merge->index_column[i] = c + 1;
		if (merge->index_column[i] == 0)
			return false;
	}
	return true;
}

static void
find_key_index(MrMerge *merge)
{
	merge->index_column = palloc(sizeof(AttrNumber) * merge->nkeys);
	for (int i = 0; i < merge->rinfo->ri_NumIndices; i++)
	{
		merge->index = merge->rinfo->ri_IndexRelationDescs[i];
		if (index_matches(merge, merge->index))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" has lost its unique index", RelationGetRelationName(merge->rel)),
			 errhint("Drop the continuous view and create it again.")));
}

/* slots whose rows live as long as the batch */
static void
make_slots(MrMerge *merge)
{
	TupleDesc	desc = RelationGetDescr(merge->rel);

	merge->found = table_slot_create(merge->rel, NULL);
	merge->changed = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	merge->inserts = palloc0(sizeof(TupleTableSlot *) * INSERT_BUFFER);
	merge->ninserts = 0;
}

static void
close_matrel(MrMerge *merge)
{
	for (int i = 0; i < INSERT_BUFFER; i++)
		if (merge->inserts[i])
			ExecDropSingleTupleTableSlot(merge->inserts[i]);
	ExecDropSingleTupleTableSlot(merge->found);
	ExecDropSingleTupleTableSlot(merge->changed);
	FreeBulkInsertState(merge->bulk);
	ExecCloseIndices(merge->rinfo);
	FreeExecutorState(merge->estate);
	table_close(merge->rel, NoLock);
}

/* ---------- inserting ---------- */

static void
flush_inserts(MrMerge *merge)
{
	MemoryContext old;

	if (merge->ninserts == 0)
		return;
	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(merge->estate));
	table_multi_insert(merge->rel, merge->inserts, merge->ninserts, merge->estate->es_output_cid,
					   0, merge->bulk);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < merge->ninserts; i++)
	{
		if (merge->rinfo->ri_NumIndices > 0)
			list_free(mr_compat_insert_index_tuples(merge->rinfo, merge->inserts[i], merge->estate, false, false));
		ExecClearTuple(merge->inserts[i]);
		ResetPerTupleExprContext(merge->estate);
	}
	merge->ninserts = 0;
}

/* take a copy of a row for the next multi-insert */
static void
buffer_insert(MrMerge *merge, TupleTableSlot *row)
{
	TupleTableSlot **slot = &merge->inserts[merge->ninserts];

	if (*slot == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(merge->batch);

		*slot = table_slot_create(merge->rel, NULL);
		MemoryContextSwitchTo(old);
	}
	ExecCopySlot(*slot, row);
	(*slot)->tts_tableOid = RelationGetRelid(merge->rel);
	merge->ninserts++;
	if (merge->ninserts == INSERT_BUFFER)
		flush_inserts(merge);
}

/* ---------- receiving partial rows ---------- */

static bool
is_sealed(const MrMerge *merge, int i)
{
	return merge->aggregates[i] && mr_aggregate_is_sealed(merge->aggregates[i]);
}

/* what the plan's rows are once their states are sealed */
static TupleDesc
stored_desc(const MrMerge *merge, TupleDesc desc)
{
	TupleDesc	result = CreateTupleDescCopy(desc);

	for (int i = 0; i < merge->ncolumns; i++)
		if (is_sealed(merge, i))
			TupleDescInitEntry(result, i + 1, NameStr(TupleDescAttr(desc, i)->attname),
							   ((MrMatrelColumn *) list_nth(merge->columns, i))->type, -1, 0);
	return result;
}

/* the row as it would be stored; valid until the row context is reset */
static TupleTableSlot *
seal_row(MrMerge *merge, TupleTableSlot *row)
{
	TupleTableSlot *sealed = merge->sealed;
	MemoryContext old = MemoryContextSwitchTo(merge->row);

	slot_getallattrs(row);
	ExecClearTuple(sealed);
	for (int i = 0; i < merge->ncolumns; i++)
	{
		sealed->tts_values[i] = row->tts_values[i];
		sealed->tts_isnull[i] = row->tts_isnull[i];
		if (is_sealed(merge, i) && !row->tts_isnull[i])
			sealed->tts_values[i] = mr_aggregate_seal(merge->aggregates[i], row->tts_values[i]);
	}
	ExecStoreVirtualTuple(sealed);
	MemoryContextSwitchTo(old);
	return sealed;
}

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	MrMerge    *merge = ((MergeReceiver *) self)->merge;
	MemoryContext old;

	if (merge->append || merge->sort != NULL)
		return;
	old = MemoryContextSwitchTo(merge->batch);
	merge->desc = stored_desc(merge, desc);
	if (merge->seals)
		merge->sealed = MakeSingleTupleTableSlot(merge->desc, &TTSOpsVirtual);
	if (merge->nkeys > 0)
		merge->sort = tuplesort_begin_heap(merge->desc, merge->nkeys, merge->key_attnums,
										   merge->sort_operators, merge->collations,
										   merge->nulls_first, merge->sort_memory, NULL, TUPLESORT_NONE);
	merge->partial = MakeSingleTupleTableSlot(merge->desc, &TTSOpsMinimalTuple);
	MemoryContextSwitchTo(old);
}

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	MrMerge    *merge = ((MergeReceiver *) self)->merge;

	merge->rows++;
	if (merge->seals)
		slot = seal_row(merge, slot);
	if (merge->append)
		buffer_insert(merge, slot);
	else if (merge->sort)
		tuplesort_puttupleslot(merge->sort, slot);
	else
		ExecCopySlot(merge->partial, slot); /* the only one there is */
	if (merge->seals)
		MemoryContextReset(merge->row);
	return true;
}

static void
receiver_shutdown(DestReceiver *self)
{
}

static void
receiver_destroy(DestReceiver *self)
{
}

DestReceiver *
mr_merge_begin(MrMerge *merge, int sort_memory)
{
	MemoryContext old;

	merge->batch = AllocSetContextCreate(CurrentMemoryContext, "millrace merge", ALLOCSET_DEFAULT_SIZES);
	merge->row = AllocSetContextCreate(merge->batch, "millrace merged row", ALLOCSET_SMALL_SIZES);
	merge->sort = NULL;
	merge->partial = NULL;
	merge->rows = 0;
	merge->sort_memory = sort_memory;
	if (merge->append)
	{
		old = MemoryContextSwitchTo(merge->batch);
		open_matrel(merge);
		make_slots(merge);
		MemoryContextSwitchTo(old);
	}
	return &merge->receiver.pub;
}

/* ---------- merging ---------- */

/* scan keys: all of the index's columns, NULLs included */
static void
begin_lookups(MrMerge *merge, Snapshot snapshot)
{
	merge->scan = mr_compat_index_beginscan(merge->rel, merge->index, snapshot, merge->nkeys);
}

static bool
look_up(MrMerge *merge, TupleTableSlot *partial)
{
	ScanKeyData keys[INDEX_MAX_KEYS];

	slot_getallattrs(partial);
	for (int i = 0; i < merge->nkeys; i++)
	{
		int			at = merge->index_column[i] - 1;
		bool		isnull = partial->tts_isnull[i];

		ScanKeyEntryInitializeWithInfo(&keys[at],
									   isnull ? SK_ISNULL | SK_SEARCHNULL : 0,
									   at + 1, isnull ? InvalidStrategy : BTEqualStrategyNumber,
									   InvalidOid, merge->collations[i], &merge->key_equal[i],
									   isnull ? (Datum) 0 : partial->tts_values[i]);
	}
	index_rescan(merge->scan, keys, merge->nkeys, NULL, 0);
	return index_getnext_slot(merge->scan, ForwardScanDirection, merge->found);
}

/* the row that replaces the found one: same keys, states combined */
static void
combine_row(MrMerge *merge, TupleTableSlot *partial)
{
	TupleTableSlot *found = merge->found;
	TupleTableSlot *changed = merge->changed;

	slot_getallattrs(found);
	slot_getallattrs(partial);
	ExecClearTuple(changed);
	for (int i = 0; i < merge->ncolumns; i++)
	{
		if (merge->aggregates[i])
			changed->tts_values[i] = mr_aggregate_combine(merge->aggregates[i],
														  found->tts_values[i], found->tts_isnull[i],
														  partial->tts_values[i], partial->tts_isnull[i],
														  &changed->tts_isnull[i]);
		else
		{
			changed->tts_values[i] = found->tts_values[i];
			changed->tts_isnull[i] = found->tts_isnull[i];
		}
	}
	ExecStoreVirtualTuple(changed);
}

static void
update_row(MrMerge *merge, Snapshot snapshot)
{
	ItemPointerData tid = merge->found->tts_tid;
	TM_FailureData failure;
	LockTupleMode lock_mode;
	MrUpdateIndexes indexes;

	merge->changed->tts_tableOid = RelationGetRelid(merge->rel);
	if (table_tuple_update(merge->rel, &tid, merge->changed, merge->estate->es_output_cid, snapshot,
						   InvalidSnapshot, true, &failure, &lock_mode, &indexes) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a row of \"%s\" was changed by hand while it was merged",
						RelationGetRelationName(merge->rel))));
	if (!MR_UPDATE_NO_INDEXES(indexes))
		list_free(mr_compat_insert_index_tuples(merge->rinfo, merge->changed, merge->estate, true,
												MR_UPDATE_SUMMARIZING(indexes)));
}

/* one partial row; combining is done in a context of its own */
static void
merge_row(MrMerge *merge, TupleTableSlot *partial, Snapshot snapshot)
{
	bool		found;
	MemoryContext old;

	found = merge->nkeys > 0 ? look_up(merge, partial) : !TupIsNull(merge->found);
	if (!found)
	{
		buffer_insert(merge, partial);
		return;
	}
	if (merge->ncolumns == merge->nkeys)
		return;					/* keys only: nothing to combine */
	old = MemoryContextSwitchTo(merge->row);
	combine_row(merge, partial);
	update_row(merge, snapshot);
	MemoryContextSwitchTo(old);
	MemoryContextReset(merge->row);
	ResetPerTupleExprContext(merge->estate);
}

/* the view without GROUP BY has one row, and no index */
static void
fetch_only_row(MrMerge *merge, Snapshot snapshot)
{
	TableScanDesc scan = table_beginscan(merge->rel, snapshot, 0, NULL);

	if (!table_scan_getnextslot(scan, ForwardScanDirection, merge->found))
		ExecClearTuple(merge->found);
	else
		ExecMaterializeSlot(merge->found);
	table_endscan(scan);
}

static void
merge_only_row(MrMerge *merge, Snapshot snapshot)
{
	fetch_only_row(merge, snapshot);
	merge_row(merge, merge->partial, snapshot);
}

static void
merge_sorted(MrMerge *merge, Snapshot snapshot)
{
	find_key_index(merge);
	begin_lookups(merge, snapshot);
	tuplesort_performsort(merge->sort);
	while (tuplesort_gettupleslot(merge->sort, true, false, merge->partial, NULL))
	{
		CHECK_FOR_INTERRUPTS();
		merge_row(merge, merge->partial, snapshot);
	}
	index_endscan(merge->scan);
	tuplesort_end(merge->sort);
}

/* with the view's lock: read what is there, write what comes out */
static void
merge_rows(MrMerge *merge)
{
	Snapshot	snapshot;

	LockDatabaseObject(get_relname_relid("continuous_view", mr_catalog_schema_oid()), merge->view, 0,
					   ExclusiveLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	PushActiveSnapshot(snapshot);
	open_matrel(merge);
	make_slots(merge);
	if (merge->sort)
		merge_sorted(merge, snapshot);
	else
		merge_only_row(merge, snapshot);
	flush_inserts(merge);
	table_finish_bulk_insert(merge->rel, 0);
	close_matrel(merge);
	ExecDropSingleTupleTableSlot(merge->partial);
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
}

uint64
mr_merge_finish(MrMerge *merge)
{
	MemoryContext old = MemoryContextSwitchTo(merge->batch);

	if (merge->append)
	{
		flush_inserts(merge);
		table_finish_bulk_insert(merge->rel, 0);
		close_matrel(merge);
	}
	else if (merge->rows > 0)
		merge_rows(merge);
	else if (merge->sort)
		tuplesort_end(merge->sort);
	CommandCounterIncrement();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(merge->batch);
	merge->batch = NULL;
	return merge->rows;
}
