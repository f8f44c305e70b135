/*
 * view/contents.c
 *		All of a view's contents, told to its change feed: those of a new view, those that are
 *		thrown away, those that take the place of others.
 *
 * Two contents of one view are compared group by group, walking along the unique indexes of
 * both matrels, which are in the same order.  A view without aggregates has no key: all its
 * rows go, and all come.
 */
#include "millrace.h"

#include "access/genam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "view/contents.h"
#include "view/ddl.h"

/* what is kept in memory of the changes of whole contents */
#define CHANGES_MEMORY	Max(work_mem, 1024)

/* a walk along a matrel's unique index */
typedef struct Walk
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *row;
	bool		ended;
} Walk;

/* ---------- all rows ---------- */

static Snapshot
begin_reading(void)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	PushActiveSnapshot(snapshot);
	return snapshot;
}

static void
end_reading(Snapshot snapshot)
{
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
}

static void
note_rows(MrChanges *changes, Relation rel, Snapshot snapshot, bool come)
{
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *row = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		mr_changes_note(changes, come ? NULL : row, come ? row : NULL);
	}
	ExecDropSingleTupleTableSlot(row);
	table_endscan(scan);
}

void
mr_contents_note_all(MrChanges *changes, Oid matrel, bool come)
{
	Relation	rel = table_open(matrel, AccessShareLock);
	Snapshot	snapshot = begin_reading();

	note_rows(changes, rel, snapshot, come);
	end_reading(snapshot);
	table_close(rel, NoLock);
}

void
mr_contents_note_first(const MrView *view, const MrViewAnalysis *analysis)
{
	MrChanges  *changes = mr_changes_create(view, analysis);

	mr_changes_begin(changes, CHANGES_MEMORY);
	mr_contents_note_all(changes, view->matrel, true);
	mr_changes_write(changes, NULL);
}

/*
 * The only row of the matrel of a view without GROUP BY, as it is now, whatever becomes of the
 * matrel; in the current context.
 */
static TupleTableSlot *
only_row(Oid matrel)
{
	Relation	rel = table_open(matrel, AccessShareLock);
	TupleDesc	desc = CreateTupleDescCopy(RelationGetDescr(rel));
	TupleTableSlot *result = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
	TupleTableSlot *row = table_slot_create(rel, NULL);
	Snapshot	snapshot = begin_reading();
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	if (table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		HeapTuple	tuple = ExecCopySlotHeapTuple(row);

		if (HeapTupleHasExternal(tuple))
			tuple = toast_flatten_tuple(tuple, desc);
		ExecStoreHeapTuple(tuple, result, true);
	}
	table_endscan(scan);
	end_reading(snapshot);
	ExecDropSingleTupleTableSlot(row);
	table_close(rel, NoLock);
	return result;
}

void
mr_contents_empty(MrChanges *changes, const MrViewAnalysis *analysis, Oid matrel,
				  void (*remove) (Oid matrel))
{
	bool		one_row = analysis->has_aggregates && analysis->nkeys == 0;
	TupleTableSlot *before = NULL;

	if (changes)
		mr_changes_begin(changes, CHANGES_MEMORY);
	if (changes && one_row)
		before = only_row(matrel);
	else if (changes)
		mr_contents_note_all(changes, matrel, false);
	remove(matrel);
	mr_view_insert_initial_row(analysis, matrel);
	if (changes && one_row)
		mr_changes_note(changes, before, only_row(matrel));
	else if (changes)
		mr_contents_note_all(changes, matrel, true);
	if (changes)
		mr_changes_write(changes, NULL);
}

/* ---------- differences ---------- */

/* is an index unique over the keys, in their order? */
static bool
is_key(Relation index, int nkeys)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indisvalid || form->indnkeyatts != nkeys ||
		RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < nkeys; i++)
		if (form->indkey.values[i] != i + 1 || index->rd_indoption[i] != 0)
			return false;
	return true;
}

/* false: it has lost its key */
static bool
open_walk(Walk *walk, Oid matrel, int nkeys)
{
	ListCell   *lc;

	walk->rel = table_open(matrel, AccessShareLock);
	walk->index = NULL;
	foreach(lc, RelationGetIndexList(walk->rel))
	{
		walk->index = index_open(lfirst_oid(lc), AccessShareLock);
		if (is_key(walk->index, nkeys))
			return true;
		index_close(walk->index, AccessShareLock);
		walk->index = NULL;
	}
	return false;
}

static void
advance(Walk *walk)
{
	walk->ended = !index_getnext_slot(walk->scan, ForwardScanDirection, walk->row);
}

static void
begin_walk(Walk *walk, Snapshot snapshot)
{
	walk->scan = mr_compat_index_beginscan(walk->rel, walk->index, snapshot, 0);
	walk->row = table_slot_create(walk->rel, NULL);
	index_rescan(walk->scan, NULL, 0, NULL, 0);
	advance(walk);
}

static void
end_walk(Walk *walk)
{
	index_endscan(walk->scan);
	ExecDropSingleTupleTableSlot(walk->row);
}

static void
close_walk(Walk *walk)
{
	if (walk->index)
		index_close(walk->index, NoLock);
	table_close(walk->rel, NoLock);
}

/* which key comes first; NULL is the last */
static int
compare_keys(const MrViewAnalysis *analysis, TypeCacheEntry **types, TupleTableSlot *a,
			 TupleTableSlot *b)
{
	slot_getsomeattrs(a, analysis->nkeys);
	slot_getsomeattrs(b, analysis->nkeys);
	for (int i = 0; i < analysis->nkeys; i++)
	{
		const MrMatrelColumn *column = list_nth(analysis->columns, i);
		int			result;

		if (a->tts_isnull[i] || b->tts_isnull[i])
			result = a->tts_isnull[i] - b->tts_isnull[i];
		else
			result = DatumGetInt32(FunctionCall2Coll(&types[i]->cmp_proc_finfo, column->collation,
													 a->tts_values[i], b->tts_values[i]));
		if (result != 0)
			return result;
	}
	return 0;
}

static TypeCacheEntry **
key_types(const MrViewAnalysis *analysis)
{
	TypeCacheEntry **result = palloc(sizeof(TypeCacheEntry *) * analysis->nkeys);

	for (int i = 0; i < analysis->nkeys; i++)
		result[i] = lookup_type_cache(((MrMatrelColumn *) list_nth(analysis->columns, i))->type,
									  TYPECACHE_CMP_PROC_FINFO);
	return result;
}

static void
note_groups(MrChanges *changes, const MrViewAnalysis *analysis, Walk *before, Walk *after)
{
	TypeCacheEntry **types = key_types(analysis);

	while (!before->ended || !after->ended)
	{
		int			order = before->ended ? 1 : after->ended ? -1 :
		compare_keys(analysis, types, before->row, after->row);

		CHECK_FOR_INTERRUPTS();
		mr_changes_note(changes, order <= 0 ? before->row : NULL, order >= 0 ? after->row : NULL);
		if (order <= 0)
			advance(before);
		if (order >= 0)
			advance(after);
	}
}

void
mr_contents_note_difference(MrChanges *changes, const MrViewAnalysis *analysis, Oid before, Oid after)
{
	Walk		old = {0};
	Walk		new = {0};
	bool		keys = open_walk(&old, before, analysis->nkeys);
	Snapshot	snapshot = begin_reading();

	keys = open_walk(&new, after, analysis->nkeys) && keys;
	if (analysis->nkeys > 0 && keys)
	{
		begin_walk(&old, snapshot);
		begin_walk(&new, snapshot);
		note_groups(changes, analysis, &old, &new);
		end_walk(&old);
		end_walk(&new);
	}
	else if (analysis->has_aggregates && analysis->nkeys == 0)
		mr_changes_note(changes, only_row(before), only_row(after));
	else
	{
		note_rows(changes, old.rel, snapshot, false);
		note_rows(changes, new.rel, snapshot, true);
	}
	end_reading(snapshot);
	close_walk(&old);
	close_walk(&new);
}
