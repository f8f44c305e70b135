/*
 * merge.c
 *		The merge: each group of the batch is looked up in the matrel's unique index, then
 *		there is an update in place (HOT) of its states, or an insert.
 *
 * The partial rows come in the order of the group columns, either from a table of groups
 * that is still in memory or, where the executor made them or memory did not suffice, from a
 * sort.  Neighbours in the index are then looked up one after the other (lookup.c), which is
 * where most of the time of an unsorted merge goes.  A sort may give several rows of one
 * group; they are combined before the matrel is looked at.
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

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog_view.h"
#include "executor/executor.h"
#include "failpoint.h"
#include "ingest/lookup.h"
#include "ingest/merge.h"
#include "ingest/view_limit.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/sortsupport.h"
#include "utils/tuplesort.h"
#include "utils/typcache.h"
#include "view/aggregate.h"
#include "view/relations.h"
#include "view/table.h"
#include "miscadmin.h"

typedef struct MergeReceiver
{
	DestReceiver pub;
	MrMerge    *merge;
} MergeReceiver;

struct MrMerge
{
	Oid			view;
	Oid			matrel;
	int			ncolumns;
	int			nkeys;
	bool		append;			/* no aggregates */
	AttrNumber *key_attnums;	/* matrel's, 1 .. nkeys */
	Oid		   *sort_operators;
	Oid		   *collations;
	bool	   *nulls_first;
	FmgrInfo   *key_equal;
	MrAggregate **aggregates;	/* per column, NULL for keys */
	bool		seals;			/* some states must be sealed */
	bool		chooses;		/* no states: the row that comes first stays */
	int			norder;
	int		   *order_columns;
	SortSupport order;
	const List *columns;		/* of MrMatrelColumn * */
	MrChanges  *changes;		/* to be told, or NULL */
	MergeReceiver receiver;

	/* of the batch */
	MemoryContext batch;
	MemoryContext row;
	int			sort_memory;	/* kB */
	TupleDesc	desc;			/* of partial rows: the matrel's without
								 * dropped columns */
	Tuplesortstate *sort;		/* rows with keys */
	TupleTableSlot *only;		/* the row without keys */
	TupleTableSlot *coming;		/* of the sort: the row after the group at
								 * hand */
	MemoryContext group;		/* rows of a group that were combined */
	MrGroups   *groups;			/* instead of rows */
	MrTable    *table;			/* the matrel */
	MrLookup   *lookup;
	TupleTableSlot *partial;
	TupleTableSlot *sealed;		/* a partial row with its states sealed */
	TupleTableSlot *found;
	TupleTableSlot *changed;
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

/* how rows of one group are compared, where one is chosen */
static void
init_order(MrMerge *merge, const MrViewAnalysis *analysis)
{
	ListCell   *lc;

	merge->chooses = analysis->chooses;
	merge->order_columns = palloc(sizeof(int) * (list_length(analysis->order) + 1));
	merge->order = palloc0(sizeof(SortSupportData) * (list_length(analysis->order) + 1));
	foreach(lc, analysis->order)
	{
		const MrOrder *order = lfirst(lc);
		SortSupport sort = &merge->order[merge->norder];

		sort->ssup_cxt = CurrentMemoryContext;
		sort->ssup_collation = ((MrMatrelColumn *) list_nth(analysis->columns, order->column))->collation;
		sort->ssup_nulls_first = order->nulls_first;
		PrepareSortSupportFromOrderingOp(order->sort_operator, sort);
		merge->order_columns[merge->norder++] = order->column;
	}
}

static bool receive_row(TupleTableSlot *slot, DestReceiver *self);
static void receiver_startup(DestReceiver *self, int operation, TupleDesc desc);
static void receiver_shutdown(DestReceiver *self);
static void receiver_destroy(DestReceiver *self);

MrMerge *
mr_merge_create(const MrViewAnalysis *analysis, Oid view, Oid matrel, MrChanges *changes)
{
	MrMerge    *merge = palloc0(sizeof(MrMerge));
	int			i = 0;
	ListCell   *lc;

	merge->view = view;
	merge->matrel = matrel;
	merge->changes = changes;
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
	init_order(merge, analysis);
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

/* with slots whose rows live as long as the batch */
static void
open_matrel(MrMerge *merge)
{
	merge->table = mr_table_open(merge->matrel);
	mr_relations_check_matrel(merge->table->rel, merge->columns);
	merge->found = table_slot_create(merge->table->rel, NULL);
	merge->changed = MakeSingleTupleTableSlot(RelationGetDescr(merge->table->rel), &TTSOpsVirtual);
}

static void
close_matrel(MrMerge *merge)
{
	ExecDropSingleTupleTableSlot(merge->found);
	ExecDropSingleTupleTableSlot(merge->changed);
	mr_table_close(merge->table);
}

static void
insert_row(MrMerge *merge, TupleTableSlot *row)
{
	if (merge->changes)
		mr_changes_note(merge->changes, NULL, row);
	mr_table_insert(merge->table, row);
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

/* be ready for rows */
static void
expect_rows(MrMerge *merge, TupleDesc desc)
{
	MemoryContext old;

	if (merge->append || merge->desc != NULL)
		return;
	old = MemoryContextSwitchTo(merge->batch);
	merge->desc = stored_desc(merge, desc);
	if (merge->seals)
		merge->sealed = MakeSingleTupleTableSlot(merge->desc, &TTSOpsVirtual);
	if (merge->nkeys > 0)
	{
		merge->sort = tuplesort_begin_heap(merge->desc, merge->nkeys, merge->key_attnums,
										   merge->sort_operators, merge->collations,
										   merge->nulls_first, merge->sort_memory, NULL, TUPLESORT_NONE);
		merge->coming = MakeSingleTupleTableSlot(merge->desc, &TTSOpsMinimalTuple);
	}
	else
		merge->only = MakeSingleTupleTableSlot(merge->desc, &TTSOpsVirtual);
	MemoryContextSwitchTo(old);
}

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	expect_rows(((MergeReceiver *) self)->merge, desc);
}

/* of two rows of a group, is it the first that is chosen? */
static bool
comes_first(MrMerge *merge, TupleTableSlot *a, TupleTableSlot *b)
{
	slot_getallattrs(a);
	slot_getallattrs(b);
	for (int i = 0; i < merge->norder; i++)
	{
		int			column = merge->order_columns[i];
		int			result = ApplySortComparator(a->tts_values[column], a->tts_isnull[column],
												 b->tts_values[column], b->tts_isnull[column],
												 &merge->order[i]);

		if (result != 0)
			return result < 0;
	}
	return false;
}

/* the states of two partial rows of one group into the first one, which is virtual */
static void
combine_partial(MrMerge *merge, TupleTableSlot *into, TupleTableSlot *row)
{
	MemoryContext old = MemoryContextSwitchTo(merge->group);

	slot_getallattrs(row);
	if (merge->chooses && comes_first(merge, row, into))
		ExecCopySlot(into, row);
	for (int i = 0; i < merge->ncolumns; i++)
		if (merge->aggregates[i])
			into->tts_values[i] = mr_aggregate_combine(merge->aggregates[i],
													   into->tts_values[i], into->tts_isnull[i],
													   row->tts_values[i], row->tts_isnull[i],
													   &into->tts_isnull[i]);
	MemoryContextSwitchTo(old);
}

static void
receive_only(MrMerge *merge, TupleTableSlot *slot)
{
	if (!TupIsNull(merge->only))
		combine_partial(merge, merge->only, slot);
	else
	{
		ExecCopySlot(merge->only, slot);
		merge->rows++;
	}
}

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	MrMerge    *merge = ((MergeReceiver *) self)->merge;

	if (merge->seals)
		slot = seal_row(merge, slot);
	if (merge->append)
		insert_row(merge, slot);
	else if (merge->sort)
		tuplesort_puttupleslot(merge->sort, slot);
	else
		receive_only(merge, slot);
	if (merge->append || merge->sort)
		merge->rows++;
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

void
mr_merge_put_aside(MrMerge *merge, MrGroups *groups, TupleDesc desc)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	MemoryContext old = MemoryContextSwitchTo(merge->row);

	expect_rows(merge, desc);
	mr_groups_sort(groups);
	while (mr_groups_next(groups, slot))
	{
		(void) receive_row(slot, &merge->receiver.pub);
		MemoryContextReset(merge->row);
	}
	MemoryContextSwitchTo(old);
	mr_groups_reset(groups);
	ExecDropSingleTupleTableSlot(slot);
}

void
mr_merge_take_groups(MrMerge *merge, MrGroups *groups, TupleDesc desc)
{
	if (merge->groups == NULL && merge->desc == NULL && merge->nkeys > 0)
	{
		merge->groups = groups;
		merge->desc = desc;
		merge->rows = mr_groups_sort(groups);
		return;
	}
	if (merge->groups != NULL)
	{
		merge->desc = NULL;
		merge->rows = 0;
		mr_merge_put_aside(merge, merge->groups, desc);
		merge->groups = NULL;
	}
	mr_merge_put_aside(merge, groups, desc);
}

DestReceiver *
mr_merge_begin(MrMerge *merge, int sort_memory)
{
	MemoryContext old;

	merge->batch = AllocSetContextCreate(CurrentMemoryContext, "millrace merge", ALLOCSET_DEFAULT_SIZES);
	merge->row = AllocSetContextCreate(merge->batch, "millrace merged row", ALLOCSET_SMALL_SIZES);
	merge->group = AllocSetContextCreate(merge->batch, "millrace merged group", ALLOCSET_SMALL_SIZES);
	merge->desc = NULL;
	merge->sort = NULL;
	merge->only = NULL;
	merge->coming = NULL;
	merge->groups = NULL;
	merge->rows = 0;
	merge->sort_memory = sort_memory;
	if (merge->append)
	{
		old = MemoryContextSwitchTo(merge->batch);
		open_matrel(merge);
		MemoryContextSwitchTo(old);
	}
	return &merge->receiver.pub;
}

/* ---------- the batch's groups, in order ---------- */

static bool
same_group(MrMerge *merge, TupleTableSlot *a, TupleTableSlot *b)
{
	slot_getsomeattrs(b, merge->nkeys);
	for (int i = 0; i < merge->nkeys; i++)
		if (a->tts_isnull[i] != b->tts_isnull[i] ||
			(!a->tts_isnull[i] &&
			 !DatumGetBool(FunctionCall2Coll(&merge->key_equal[i], merge->collations[i],
											 a->tts_values[i], b->tts_values[i]))))
			return false;
	return true;
}

static bool
next_row(MrMerge *merge)
{
	return tuplesort_gettupleslot(merge->sort, true, false, merge->coming, NULL);
}

/* from the sort: rows of one group combined; coming is the first row of the next */
static bool
next_sorted(MrMerge *merge)
{
	MemoryContext old;

	ExecClearTuple(merge->partial);
	MemoryContextReset(merge->group);
	if (TupIsNull(merge->coming))
		return false;
	old = MemoryContextSwitchTo(merge->group);
	ExecCopySlot(merge->partial, merge->coming);
	MemoryContextSwitchTo(old);
	while (next_row(merge) && same_group(merge, merge->partial, merge->coming))
		combine_partial(merge, merge->partial, merge->coming);
	return true;
}

/* from the table; what the row before was made of goes with merge->group */
static bool
next_in_memory(MrMerge *merge)
{
	TupleTableSlot *partial = merge->partial;
	MemoryContext old;
	bool		result;

	MemoryContextReset(merge->group);
	old = MemoryContextSwitchTo(merge->group);
	result = mr_groups_next(merge->groups, partial);
	for (int i = merge->nkeys; result && merge->seals && i < merge->ncolumns; i++)
		if (is_sealed(merge, i) && !partial->tts_isnull[i])
			partial->tts_values[i] = mr_aggregate_seal(merge->aggregates[i], partial->tts_values[i]);
	MemoryContextSwitchTo(old);
	return result;
}

static bool
next_group(MrMerge *merge)
{
	return merge->groups ? next_in_memory(merge) : next_sorted(merge);
}

/* ---------- merging ---------- */

/* the row that replaces the found one: same keys, states combined; or the partial one itself */
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
			TupleTableSlot *kept = merge->chooses ? partial : found;

			changed->tts_values[i] = kept->tts_values[i];
			changed->tts_isnull[i] = kept->tts_isnull[i];
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

	merge->changed->tts_tableOid = RelationGetRelid(merge->table->rel);
	if (table_tuple_update(merge->table->rel, &tid, merge->changed, merge->table->estate->es_output_cid, snapshot,
						   InvalidSnapshot, true, &failure, &lock_mode, &indexes) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a row of \"%s\" was changed by hand while it was merged",
						RelationGetRelationName(merge->table->rel))));
	if (!MR_UPDATE_NO_INDEXES(indexes))
		list_free(mr_compat_insert_index_tuples(merge->table->rinfo, merge->changed, merge->table->estate, true,
												MR_UPDATE_SUMMARIZING(indexes)));
}

/* one partial row; combining is done in a context of its own */
static void
merge_row(MrMerge *merge, TupleTableSlot *partial, bool found, Snapshot snapshot)
{
	MemoryContext old;

	if (!found)
	{
		insert_row(merge, partial);
		return;
	}
	if (merge->ncolumns == merge->nkeys)
		return;					/* keys only: nothing to combine */
	old = MemoryContextSwitchTo(merge->row);
	if (merge->chooses && !comes_first(merge, partial, merge->found))
	{
		MemoryContextSwitchTo(old);
		MemoryContextReset(merge->row);
		return;
	}
	combine_row(merge, partial);
	if (merge->changes)
		mr_changes_note(merge->changes, merge->found, merge->changed);
	update_row(merge, snapshot);
	MemoryContextSwitchTo(old);
	MemoryContextReset(merge->row);
	ResetPerTupleExprContext(merge->table->estate);
}

/* the view without GROUP BY has one row, and no index */
static void
fetch_only_row(MrMerge *merge, Snapshot snapshot)
{
	TableScanDesc scan = table_beginscan(merge->table->rel, snapshot, 0, NULL);

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
	merge_row(merge, merge->only, !TupIsNull(merge->found), snapshot);
}

static void
begin_lookups(MrMerge *merge, Snapshot snapshot)
{
	merge->lookup = NULL;
	for (int i = 0; i < merge->table->rinfo->ri_NumIndices && merge->lookup == NULL; i++)
		merge->lookup = mr_lookup_begin(merge->table->rel, merge->table->rinfo->ri_IndexRelationDescs[i],
										merge->nkeys, snapshot);
	if (merge->lookup == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has lost its unique index", RelationGetRelationName(merge->table->rel)),
				 errhint("Drop the continuous view and create it again.")));
}

static void
merge_groups(MrMerge *merge, Snapshot snapshot)
{
	begin_lookups(merge, snapshot);
	merge->partial = MakeSingleTupleTableSlot(merge->desc, &TTSOpsVirtual);
	if (merge->groups == NULL)
	{
		tuplesort_performsort(merge->sort);
		(void) next_row(merge);
	}
	while (next_group(merge))
	{
		CHECK_FOR_INTERRUPTS();
		merge_row(merge, merge->partial, mr_lookup_find(merge->lookup, merge->partial, merge->found),
				  snapshot);
	}
	mr_lookup_end(merge->lookup);
	ExecDropSingleTupleTableSlot(merge->partial);
}

void
mr_merge_lock_contents(Oid view)
{
	if (mr_catalog_try_lock_contents(view))
		return;
	mr_catalog_lock_contents(view);
	mr_view_limit_waited();
}

/* with the view's lock: read what is there, write what comes out */
static void
merge_rows(MrMerge *merge)
{
	Snapshot	snapshot;

	mr_merge_lock_contents(merge->view);
	MR_FAILPOINT("view-contents-locked");
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	PushActiveSnapshot(snapshot);
	open_matrel(merge);
	if (merge->nkeys > 0)
		merge_groups(merge, snapshot);
	else
		merge_only_row(merge, snapshot);
	MR_FAILPOINT("view-groups-merged");
	close_matrel(merge);
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
}

static void
end_rows(MrMerge *merge)
{
	if (merge->groups)
		mr_groups_reset(merge->groups);
	if (merge->coming)
		ExecDropSingleTupleTableSlot(merge->coming);
	if (merge->only)
		ExecDropSingleTupleTableSlot(merge->only);
	if (merge->sort)
		tuplesort_end(merge->sort);
}

uint64
mr_merge_finish(MrMerge *merge)
{
	MemoryContext old = MemoryContextSwitchTo(merge->batch);

	if (merge->append)
		close_matrel(merge);
	else if (merge->rows > 0)
		merge_rows(merge);
	end_rows(merge);
	CommandCounterIncrement();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(merge->batch);
	merge->batch = NULL;
	return merge->rows;
}
