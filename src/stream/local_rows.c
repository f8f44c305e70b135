/*
 * stream/local_rows.c
 *		Rows that the current transaction has added to streams inside of this database.
 *
 * They are kept in a spill (memory, then a temporary file), one for each stream, in the order
 * in which they came, as minimal tuples of those columns that some view reads.  The obvious
 * alternative, a tuplestore, cannot be cut off at a savepoint.
 *
 * Forms.  Which columns matter, and of what type they are, may change within a transaction
 * that creates views and alters tables; so each row says which form it has, and a form is
 * never changed.  A row is read as what it was when it was written: a column whose type has
 * changed since is not one that any view reads.
 *
 * Memory: everything is in a context below TopTransactionContext.
 */
#include "millrace.h"

#include "stream/local_rows.h"
#include "stream/spill.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "utils/memutils.h"

/* a view that begins behind some rows, unless that subtransaction aborts */
typedef struct Skip
{
	Oid			view;
	uint64		nrows;
	int			level;
} Skip;

struct MrLocalWriter
{
	MrLocalRows *rows;
	int			form;			/* its place among the forms of the stream */
	int			n;
	AttrNumber *attnums;
	TupleDesc	columns;
};

struct MrLocalRows
{
	Oid			relid;
	MrSpill    *spill;
	List	   *forms;			/* of MrLocalWriter * */
	List	   *skips;			/* of Skip *, the last one first */
};

/* before a row's tuple in the spill */
typedef struct RowRecord
{
	int32		form;
	uint32		length;
} RowRecord;

/* of the current transaction: MrLocalRows *; NIL between transactions */
static List *pending = NIL;
static MemoryContext rows_context = NULL;


/*
 * Collecting
 */

static MrLocalRows *
find_rows(Oid relid)
{
	ListCell   *lc;

	foreach(lc, pending)
	{
		MrLocalRows *rows = lfirst(lc);

		if (rows->relid == relid)
			return rows;
	}
	return NULL;
}

/* with the transaction's context as the current one */
static MrLocalRows *
create_rows(Oid relid)
{
	MrLocalRows *rows = palloc0(sizeof(MrLocalRows));

	rows->relid = relid;
	rows->spill = mr_spill_create();
	pending = lappend(pending, rows);
	return rows;
}

static bool
has_form(const MrLocalWriter *form, int n, const AttrNumber *attnums, TupleDesc columns)
{
	if (form->n != n || memcmp(form->attnums, attnums, sizeof(AttrNumber) * n) != 0)
		return false;
	for (int i = 0; i < n; i++)
	{
		Form_pg_attribute a = TupleDescAttr(form->columns, i);
		Form_pg_attribute b = TupleDescAttr(columns, i);

		if (a->atttypid != b->atttypid || a->attlen != b->attlen || a->attalign != b->attalign)
			return false;
	}
	return true;
}

static MrLocalWriter *
create_form(MrLocalRows *rows, int n, const AttrNumber *attnums, TupleDesc columns)
{
	MrLocalWriter *form = palloc0(sizeof(MrLocalWriter));

	form->rows = rows;
	form->form = list_length(rows->forms);
	form->n = n;
	form->attnums = palloc(sizeof(AttrNumber) * (n + 1));
	memcpy(form->attnums, attnums, sizeof(AttrNumber) * n);
	form->columns = CreateTupleDescCopy(columns);
	rows->forms = lappend(rows->forms, form);
	return form;
}

MrLocalWriter *
mr_local_rows_writer(Oid relid, int n, const AttrNumber *attnums, TupleDesc columns)
{
	MrLocalRows *rows = find_rows(relid);
	MrLocalWriter *writer;
	MemoryContext old;

	if (rows != NULL && rows->forms != NIL && has_form(llast(rows->forms), n, attnums, columns))
		return llast(rows->forms);
	if (rows_context == NULL)
		rows_context = AllocSetContextCreate(TopTransactionContext, "millrace local rows",
											 ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(rows_context);
	if (rows == NULL)
		rows = create_rows(relid);
	writer = create_form(rows, n, attnums, columns);
	MemoryContextSwitchTo(old);
	return writer;
}

void
mr_local_rows_append(MrLocalWriter *writer, Datum *values, bool *isnull)
{
	MrLocalRows *rows = writer->rows;
	RowRecord	record = {.form = writer->form};
	MinimalTuple tuple;

	/* what lies elsewhere may be gone when the transaction commits */
	for (int i = 0; i < writer->n; i++)
		if (!isnull[i] && TupleDescAttr(writer->columns, i)->attlen == -1 &&
			VARATT_IS_EXTERNAL(DatumGetPointer(values[i])))
			values[i] = PointerGetDatum(detoast_external_attr((struct varlena *) DatumGetPointer(values[i])));
	tuple = mr_compat_form_minimal_tuple(writer->columns, values, isnull);
	record.length = tuple->t_len;
	mr_spill_begin_item(rows->spill);
	mr_spill_append(rows->spill, &record, sizeof(record));
	mr_spill_append(rows->spill, tuple, tuple->t_len);
	heap_free_minimal_tuple(tuple);
}

void
mr_local_rows_skip(Oid relid, Oid view)
{
	MrLocalRows *rows = find_rows(relid);
	MemoryContext old;
	Skip	   *skip;

	if (rows == NULL || mr_local_rows_count(rows) == 0)
		return;
	old = MemoryContextSwitchTo(rows_context);
	skip = palloc(sizeof(Skip));
	skip->view = view;
	skip->nrows = mr_local_rows_count(rows);
	skip->level = GetCurrentTransactionNestLevel();
	rows->skips = lcons(skip, rows->skips);
	MemoryContextSwitchTo(old);
}


/*
 * Giving away
 */

bool
mr_local_rows_pending(void)
{
	ListCell   *lc;

	foreach(lc, pending)
	{
		if (mr_local_rows_count(lfirst(lc)) > 0)
			return true;
	}
	return false;
}

static int
compare_relids(const ListCell *a, const ListCell *b)
{
	Oid			left = ((MrLocalRows *) lfirst(a))->relid;
	Oid			right = ((MrLocalRows *) lfirst(b))->relid;

	return left < right ? -1 : left > right;
}

List *
mr_local_rows_take(void)
{
	List	   *result = pending;

	pending = NIL;
	list_sort(result, compare_relids);
	return result;
}

Oid
mr_local_rows_relid(const MrLocalRows *rows)
{
	return rows->relid;
}

uint64
mr_local_rows_count(const MrLocalRows *rows)
{
	return mr_spill_items(rows->spill);
}

uint64
mr_local_rows_skipped(const MrLocalRows *rows, Oid view)
{
	ListCell   *lc;

	foreach(lc, rows->skips)
	{
		const Skip *skip = lfirst(lc);

		if (skip->view == view)
			return skip->nrows;
	}
	return 0;
}

/* a row as one of the relation */
static void
store_row(const MrLocalWriter *form, MinimalTuple tuple, TupleTableSlot *slot,
		  Datum *values, bool *isnull)
{
	HeapTupleData htup;
	int			natts = slot->tts_tupleDescriptor->natts;

	htup.t_len = tuple->t_len + MINIMAL_TUPLE_OFFSET;
	htup.t_data = (HeapTupleHeader) ((char *) tuple - MINIMAL_TUPLE_OFFSET);
	heap_deform_tuple(&htup, form->columns, values, isnull);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, natts * sizeof(bool));
	for (int i = 0; i < form->n; i++)
	{
		int			at = form->attnums[i] - 1;

		if (TupleDescAttr(slot->tts_tupleDescriptor, at)->atttypid !=
			TupleDescAttr(form->columns, i)->atttypid)
			continue;
		slot->tts_values[at] = values[i];
		slot->tts_isnull[at] = isnull[i];
	}
	ExecStoreVirtualTuple(slot);
}

void
mr_local_rows_read(MrLocalRows *rows, TupleDesc desc, uint64 skip, Tuplestorestate *store)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	Datum	   *values = palloc(sizeof(Datum) * (desc->natts + 1));
	bool	   *isnull = palloc(sizeof(bool) * (desc->natts + 1));
	uint64		nrows = mr_local_rows_count(rows);
	Size		size = 1024;
	char	   *buffer = palloc(size);

	mr_spill_rewind(rows->spill);
	for (uint64 i = 0; i < nrows; i++)
	{
		RowRecord	record;

		mr_spill_read(rows->spill, &record, sizeof(record));
		if (record.length > size)
		{
			size = record.length;
			pfree(buffer);
			buffer = palloc_extended(size, MCXT_ALLOC_HUGE);
		}
		mr_spill_read(rows->spill, buffer, record.length);
		if (i < skip)
			continue;
		store_row(list_nth(rows->forms, record.form), (MinimalTuple) buffer, slot, values, isnull);
		tuplestore_puttupleslot(store, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	pfree(buffer);
	pfree(values);
	pfree(isnull);
}

void
mr_local_rows_close(MrLocalRows *rows)
{
	mr_spill_close(rows->spill);
}


/*
 * Following transactions
 */

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			/* memory goes with the transaction, files with its resource owner */
			pending = NIL;
			rows_context = NULL;
			break;
		default:
			break;
	}
}

/* a view's skip becomes the parent's, or never was */
static void
end_skips(MrLocalRows *rows, SubXactEvent event)
{
	int			level = GetCurrentTransactionNestLevel();
	ListCell   *lc;

	foreach(lc, rows->skips)
	{
		Skip	   *skip = lfirst(lc);

		if (event == SUBXACT_EVENT_COMMIT_SUB)
			skip->level = Min(skip->level, level - 1);
		else if (event == SUBXACT_EVENT_ABORT_SUB && skip->level >= level)
			rows->skips = foreach_delete_current(rows->skips, lc);
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	ListCell   *lc;

	foreach(lc, pending)
	{
		MrLocalRows *rows = lfirst(lc);

		end_skips(rows, event);
		mr_spill_end_subtransaction(rows->spill, event);
	}
}

void
mr_local_rows_init(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}
