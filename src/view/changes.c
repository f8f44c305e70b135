/*
 * view/changes.c
 *		The change feed: what a transaction changes in a view, into <view>_changes.
 *
 * Whoever changes rows of a matrel (the merge of a batch, a removal by age, a truncation, an
 * exchange) notes each as it was and as it is.  Both are shown as the view would show them
 * (view/shown.c), and where that differs, one row of <view>_changes is collected, to be
 * written, with all others, at the end of the merge and in its transaction.
 *
 * A careful step, or a replay, may merge several times in one transaction; then a row of the
 * view may have several changes in one batch, each beginning where the one before ended.
 *
 * Where the view stands in its streams is the same for all changes of a batch, and larger
 * than most of them: it is told with the first one only.
 *
 * A row that cannot be shown, because an expression over its states fails, is an error of the
 * merge: what brought it about is refused, and the view never holds it.  That is so while a
 * shadow is filled, too, though it tells of no changes.
 *
 * Locking: the view's contents are locked from the time when numbers are given to the end of
 * the transaction, so the feed is in the order of commits.
 */
#include "millrace.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "stream/local_stream.h"

#include "view/change_table.h"
#include "view/changes.h"
#include "view/shown.h"
#include "view/table.h"

/* a row of the view, or none */
typedef struct Sight
{
	bool		shown;
	Datum	   *values;
	bool	   *isnull;
} Sight;

struct MrChanges
{
	Oid			view;
	Oid			table;
	bool		silent;			/* a shadow's: look, but tell nobody */
	MrShown    *shown;
	TupleDesc	row;			/* the view's */
	TupleDesc	pair;			/* old and new */
	Sight		old;
	Sight		new;

	/* of a transaction */
	MemoryContext batch;
	MemoryContext change;		/* one change */
	Tuplestorestate *store;		/* of pairs */
	int64		n;				/* of them */
};

/* ---------- life ---------- */

static void
init_sight(Sight *sight, int ncolumns)
{
	sight->values = palloc(sizeof(Datum) * (ncolumns + 1));
	sight->isnull = palloc(sizeof(bool) * (ncolumns + 1));
}

MrChanges *
mr_changes_create(const MrView *view, const MrViewAnalysis *analysis)
{
	MrChangeFeed *feed = mr_catalog_change_feed(view->target);
	Oid			type = get_rel_type_id(view->target);
	MrChanges  *changes;

	if (feed == NULL)
		return NULL;
	changes = palloc0(sizeof(MrChanges));
	changes->view = view->target;
	changes->silent = view->view != view->target;
	changes->table = feed->table;
	changes->shown = mr_shown_create(analysis, view->matrel);
	changes->row = lookup_rowtype_tupdesc_copy(type, -1);
	if (changes->row->natts != mr_shown_columns(changes->shown))
		elog(ERROR, "view %u has %d columns instead of %d", view->view, changes->row->natts,
			 mr_shown_columns(changes->shown));
	changes->pair = CreateTemplateTupleDesc(2);
	TupleDescInitEntry(changes->pair, 1, "old", type, -1, 0);
	TupleDescInitEntry(changes->pair, 2, "new", type, -1, 0);
	init_sight(&changes->old, changes->row->natts);
	init_sight(&changes->new, changes->row->natts);
	return changes;
}

Oid
mr_changes_table(const MrChanges *changes)
{
	return changes->table;
}

/* ---------- collecting ---------- */

void
mr_changes_begin(MrChanges *changes, int memory)
{
	MemoryContext old;

	changes->batch = AllocSetContextCreate(CurrentMemoryContext, "millrace changes", ALLOCSET_DEFAULT_SIZES);
	changes->change = AllocSetContextCreate(changes->batch, "millrace change", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(changes->batch);
	changes->store = tuplestore_begin_heap(false, false, memory);
	changes->n = 0;
	MemoryContextSwitchTo(old);
}

static bool
same_sight(const MrChanges *changes)
{
	const Sight *a = &changes->old;
	const Sight *b = &changes->new;

	if (!a->shown || !b->shown)
		return a->shown == b->shown;
	for (int i = 0; i < changes->row->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(changes->row, i);

		if (a->isnull[i] != b->isnull[i] ||
			(!a->isnull[i] && !datum_image_eq(a->values[i], b->values[i], attr->attbyval, attr->attlen)))
			return false;
	}
	return true;
}

static void
look(MrChanges *changes, Sight *sight, TupleTableSlot *row)
{
	sight->shown = !TupIsNull(row) && mr_shown_row(changes->shown, row, sight->values, sight->isnull);
}

static Datum
row_of(const MrChanges *changes, const Sight *sight)
{
	if (!sight->shown)
		return (Datum) 0;
	return HeapTupleGetDatum(heap_form_tuple(changes->row, sight->values, sight->isnull));
}

void
mr_changes_note(MrChanges *changes, TupleTableSlot *before, TupleTableSlot *after)
{
	MemoryContext old = MemoryContextSwitchTo(changes->change);

	look(changes, &changes->old, before);
	look(changes, &changes->new, after);
	if (!changes->silent && !same_sight(changes))
	{
		Datum		values[] = {row_of(changes, &changes->old), row_of(changes, &changes->new)};
		bool		isnull[] = {!changes->old.shown, !changes->new.shown};

		tuplestore_putvalues(changes->store, changes->pair, values, isnull);
		changes->n++;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(changes->change);
}

/* ---------- writing ---------- */

/* whoever listens to the view's channel */
static void
notify(const MrChanges *changes, int64 batch)
{
	const char *schema = get_namespace_name(get_rel_namespace(changes->view));
	const char *name = get_rel_name(changes->view);
	char	   *channel = psprintf("%s.%s", schema, name);
	StringInfoData payload;

	channel[pg_mbcliplen(channel, strlen(channel), NAMEDATALEN - 1)] = '\0';
	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"view\": ");
	escape_json(&payload, quote_qualified_identifier(schema, name));
	appendStringInfo(&payload, ", \"batch\": %lld}", (long long) batch);
	Async_Notify(channel, payload.data);
}

/*
 * All changes that a merge made, into the table.  This is the only place that writes there.
 */
static void
write_changes(MrChanges *changes, int64 batch, int64 first_id, Datum offsets)
{
	MrTable    *table = mr_table_open(changes->table);
	TupleTableSlot *pair = MakeSingleTupleTableSlot(changes->pair, &TTSOpsMinimalTuple);
	TupleTableSlot *row = MakeSingleTupleTableSlot(RelationGetDescr(table->rel), &TTSOpsVirtual);
	TimestampTz now = GetCurrentTimestamp();

	mr_change_table_check(table->rel);
	for (int64 i = 0; tuplestore_gettupleslot(changes->store, true, false, pair); i++)
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(pair);
		ExecClearTuple(row);
		memset(row->tts_isnull, false, sizeof(bool) * MR_CHANGE_COLUMNS);
		row->tts_values[MR_CHANGE_ID] = Int64GetDatum(first_id + i);
		row->tts_values[MR_CHANGE_BATCH] = Int64GetDatum(batch);
		row->tts_values[MR_CHANGE_AT] = TimestampTzGetDatum(now);
		row->tts_values[MR_CHANGE_OLD] = pair->tts_values[0];
		row->tts_isnull[MR_CHANGE_OLD] = pair->tts_isnull[0];
		row->tts_values[MR_CHANGE_NEW] = pair->tts_values[1];
		row->tts_isnull[MR_CHANGE_NEW] = pair->tts_isnull[1];
		row->tts_values[MR_CHANGE_OFFSETS] = offsets;
		row->tts_isnull[MR_CHANGE_OFFSETS] = i > 0;
		ExecStoreVirtualTuple(row);
		mr_table_insert(table, row);
		mr_local_stream_add(changes->table, row);
	}
	ExecDropSingleTupleTableSlot(row);
	ExecDropSingleTupleTableSlot(pair);
	mr_table_close(table);
}

void
mr_changes_write(MrChanges *changes, const MrStand *stand)
{
	MemoryContext old = MemoryContextSwitchTo(changes->batch);

	if (changes->n > 0)
	{
		int64		batch;
		int64		first_id;
		Datum		offsets;

		mr_catalog_lock_contents(changes->view);
		offsets = mr_catalog_number_changes(changes->view, changes->n, stand, &batch, &first_id);
		write_changes(changes, batch, first_id, offsets);
		notify(changes, batch);
	}
	tuplestore_end(changes->store);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(changes->batch);
	changes->batch = NULL;
	CommandCounterIncrement();
}
