/*
 * stream/local_stream.c
 *		Streams inside of this database: adding rows to one, which is what the trigger of an
 *		attached table does.
 *
 * Only the columns that some view reads are kept, and nothing where no view follows.  What
 * those are is remembered for each relation, until the relation cache says that something
 * has changed: whoever creates a view holds a lock on the table that lets nobody insert, and
 * invalidates the table's entry.
 *
 * A partition's rows are those of the table at its root; its columns may be in another order.
 */
#include "millrace.h"

#include "stream/local_rows.h"
#include "stream/local_stream.h"

#include "access/table.h"
#include "catalog_table.h"
#include "catalog_view.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

/* where rows that are inserted into a relation go */
typedef struct Target
{
	Oid			relid;			/* hash key */
	bool		built;
	bool		valid;			/* nobody has said that something changed */
	Oid			root;			/* relid, or the table that it is a partition
								 * of */
	MemoryContext context;		/* of what follows */
	bool		followed;		/* by some view */
	int			n;				/* columns that matter */
	AttrNumber *attnums;		/* as attributes of root, ascending */
	AttrNumber *from;			/* and of relid */
	AttrNumber	last;			/* highest of those */
	TupleDesc	columns;
} Target;

static HTAB *targets = NULL;
static bool flushing = false;

PG_FUNCTION_INFO_V1(mr_stream_insert);

/* ---------- targets ---------- */

static void
on_relcache(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	Target	   *target;

	hash_seq_init(&status, targets);
	while ((target = hash_seq_search(&status)) != NULL)
		if (!OidIsValid(relid) || target->relid == relid || target->root == relid)
			target->valid = false;
}

static void
create_targets(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(Target)};

	targets = hash_create("millrace table streams", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(on_relcache, (Datum) 0);
}

static bool
is_followed(Oid root)
{
	ListCell   *lc;

	foreach(lc, mr_catalog_views_of_stream(root))
	{
		const MrView *view = lfirst(lc);

		if (view->active && !view->failed)
			return true;
	}
	return false;
}

/* row security may look at any column */
static Bitmapset *
needed_attributes(Relation root)
{
	Bitmapset  *result = mr_catalog_stream_attrs(RelationGetRelid(root));

	for (int i = 0; root->rd_rel->relrowsecurity && i < RelationGetNumberOfAttributes(root); i++)
		if (!TupleDescAttr(RelationGetDescr(root), i)->attisdropped)
			result = bms_add_member(result, i + 1);
	return result;
}

/* in the target's context */
static void
set_columns(Target *target, Relation root)
{
	Bitmapset  *attrs = needed_attributes(root);
	int			n = bms_num_members(attrs);
	int			attnum = -1;

	target->attnums = palloc(sizeof(AttrNumber) * (n + 1));
	target->from = palloc(sizeof(AttrNumber) * (n + 1));
	target->columns = CreateTemplateTupleDesc(n);
	target->n = 0;
	target->last = 0;
	while ((attnum = bms_next_member(attrs, attnum)) >= 0)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(root), attnum - 1);
		int			i = target->n++;

		target->attnums[i] = attnum;
		target->from[i] = target->relid == target->root ? attnum :
			get_attnum(target->relid, NameStr(attr->attname));
		target->last = Max(target->last, target->from[i]);
		TupleDescInitEntry(target->columns, i + 1, NameStr(attr->attname), attr->atttypid,
						   attr->atttypmod, 0);
	}
}

static void
build_target(Target *target)
{
	MemoryContext old;

	target->valid = true;
	target->root = mr_catalog_root_table(target->relid);
	if (target->context == NULL)
		target->context = AllocSetContextCreate(CacheMemoryContext, "millrace table stream",
												ALLOCSET_SMALL_SIZES);
	MemoryContextReset(target->context);
	old = MemoryContextSwitchTo(target->context);
	target->followed = mr_catalog_is_attached(target->root) && is_followed(target->root);
	if (target->followed)
	{
		Relation	root = table_open(target->root, AccessShareLock);

		set_columns(target, root);
		table_close(root, NoLock);
	}
	MemoryContextSwitchTo(old);
	target->built = true;
}

static Target *
find_target(Oid relid)
{
	Target	   *target;
	bool		found;

	if (targets == NULL)
		create_targets();
	target = hash_search(targets, &relid, HASH_ENTER, &found);
	if (!found)
		memset((char *) target + sizeof(Oid), 0, sizeof(Target) - sizeof(Oid));
	while (!target->built || !target->valid)
	{
		target->built = false;
		build_target(target);
	}
	return target;
}

/* ---------- rows ---------- */

static void
append_row(const Target *target, MrLocalWriter *writer, TupleTableSlot *slot)
{
	Datum		values[MaxTupleAttributeNumber];
	bool		isnull[MaxTupleAttributeNumber];

	slot_getsomeattrs(slot, target->last);
	for (int i = 0; i < target->n; i++)
	{
		values[i] = slot->tts_values[target->from[i] - 1];
		isnull[i] = slot->tts_isnull[target->from[i] - 1];
	}
	mr_local_rows_append(writer, values, isnull);
}

static MrLocalWriter *
writer_of(const Target *target)
{
	return mr_local_rows_writer(target->root, target->n, target->attnums, target->columns);
}

void
mr_local_stream_add(Oid relid, TupleTableSlot *slot)
{
	const Target *target = find_target(relid);
	MemoryContext context;
	MemoryContext old;

	if (!target->followed)
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "millrace row", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	append_row(target, writer_of(target), slot);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* all rows of a tuplestore */
static void
add_all(Oid relid, TupleDesc desc, Tuplestorestate *store)
{
	const Target *target = find_target(relid);
	MrLocalWriter *writer;
	TupleTableSlot *slot;
	MemoryContext context;

	if (!target->followed)
		return;
	writer = writer_of(target);
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	context = AllocSetContextCreate(CurrentMemoryContext, "millrace row", ALLOCSET_DEFAULT_SIZES);
	tuplestore_select_read_pointer(store, tuplestore_alloc_read_pointer(store, EXEC_FLAG_REWIND));
	tuplestore_rescan(store);
	while (tuplestore_gettupleslot(store, true, false, slot))
	{
		/* the slot's row is of the context around */
		MemoryContext old = MemoryContextSwitchTo(context);

		append_row(target, writer, slot);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
	ExecDropSingleTupleTableSlot(slot);
}

void
mr_local_stream_set_flushing(bool value)
{
	flushing = value;
}

/* a view's own functions, which run while it takes rows */
static void
refuse_while_flushing(Relation rel)
{
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot insert into table \"%s\", a stream, while continuous views take the rows of this transaction",
				   RelationGetRelationName(rel)),
			errhint("Functions in the query of a continuous view must not write."));
}

/* stream_insert(): AFTER INSERT statement trigger of attached tables and their partitions */
Datum
mr_stream_insert(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_INSERT(data->tg_event) ||
		!TRIGGER_FIRED_AFTER(data->tg_event) || !TRIGGER_FIRED_FOR_STATEMENT(data->tg_event) ||
		data->tg_newtable == NULL)
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("stream_insert() must be called as a statement trigger AFTER INSERT with a transition table"),
				errhint("Use millrace.attach_table()."));
	if (flushing)
		refuse_while_flushing(data->tg_relation);
	add_all(RelationGetRelid(data->tg_relation), RelationGetDescr(data->tg_relation), data->tg_newtable);
	PG_RETURN_POINTER(NULL);
}
