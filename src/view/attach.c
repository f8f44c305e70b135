/*
 * view/attach.c
 *		attach_table() and detach_table(): the INSERTs of an ordinary table become a stream.
 *
 * An attached table has a statement trigger AFTER INSERT with a transition table, whose
 * function (stream/local_stream.c) keeps the rows until the transaction commits.  A row
 * trigger would also see the rows that an UPDATE moves from one partition to another, and
 * would need memory for each row of a COPY.
 *
 * Of a partitioned table, the trigger of the table sees the rows that are inserted by its
 * name, those of a partition what is inserted into that.  So all partitions have one, and
 * what is created or attached later gets one, by the event trigger on_ddl_end; one that is
 * detached loses it.
 *
 * The triggers are dumped with their tables, and restored after the rows.
 *
 * The table of a view's changes (view/changes.c) is attached without one: whoever writes
 * changes adds them to the stream.
 *
 * Locking: ShareRowExclusiveLock on the table, as CREATE TRIGGER has it.
 */
#include "millrace.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog_changes.h"
#include "catalog_table.h"
#include "catalog_view.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "storage/lmgr.h"
#include "stream/option.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "view/attach.h"
#include "view/relations.h"
#include "view/target.h"
#include "view/window.h"

#define TRIGGER_NAME		"millrace_stream_insert"
#define TRIGGER_FUNCTION	"stream_insert"
#define TRANSITION_TABLE	"new_rows"

PG_FUNCTION_INFO_V1(mr_attach_table);
PG_FUNCTION_INFO_V1(mr_detach_table);

/*
 * Triggers
 */

static Oid
trigger_function(void)
{
	return LookupFuncName(list_make2(makeString(MR_SCHEMA), makeString(TRIGGER_FUNCTION)), 0, NULL, true);
}

/* another trigger may have its name */
static bool
has_trigger(Oid relid)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	Oid			function = trigger_function();
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		found = form->tgfoid == function && strcmp(NameStr(form->tgname), TRIGGER_NAME) == 0;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

static void
create_trigger(Oid relid)
{
	CreateTrigStmt *stmt = makeNode(CreateTrigStmt);
	TriggerTransition *rows = makeNode(TriggerTransition);
	MrOwnerScope scope;

	if (has_trigger(relid))
		return;
	rows->name = TRANSITION_TABLE;
	rows->isNew = true;
	rows->isTable = true;
	stmt->trigname = TRIGGER_NAME;
	stmt->relation = makeRangeVar(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid), -1);
	stmt->funcname = list_make2(makeString(MR_SCHEMA), makeString(TRIGGER_FUNCTION));
	stmt->timing = TRIGGER_TYPE_AFTER;
	stmt->events = TRIGGER_TYPE_INSERT;
	stmt->transitionRels = list_make1(rows);
	mr_owner_enter(&scope);
	(void) CreateTrigger(stmt, NULL, relid, InvalidOid, InvalidOid, InvalidOid,
						 InvalidOid, InvalidOid, NULL, false, false);
	mr_owner_leave(&scope);
	CommandCounterIncrement();
}

static void
drop_trigger(Oid relid)
{
	ObjectAddress address;

	if (!has_trigger(relid))
		return;
	ObjectAddressSet(address, TriggerRelationId, get_trigger_oid(relid, TRIGGER_NAME, false));
	performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	CommandCounterIncrement();
}

static void
refuse_partition(Oid relid, Oid root)
{
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("partition \"%s\" of table \"%s\", a stream, must not be a foreign table",
				   get_rel_name(relid), get_rel_name(root)),
			errdetail("The server does not collect the rows that are inserted into it."));
}

/* a trigger for each partition that has none */
static void
create_triggers(Oid root)
{
	ListCell   *lc;

	foreach(lc, find_all_inheritors(root, ShareRowExclusiveLock, NULL))
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_FOREIGN_TABLE)
			refuse_partition(lfirst_oid(lc), root);
		create_trigger(lfirst_oid(lc));
	}
}

/* relations that have the trigger: List of Oid */
static List *
tables_with_trigger(void)
{
	Oid			function = trigger_function();
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	List	   *result = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if (form->tgfoid == function && strcmp(NameStr(form->tgname), TRIGGER_NAME) == 0)
			result = lappend_oid(result, form->tgrelid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/* partitions that were detached */
static void
drop_stray_triggers(const List *attached)
{
	ListCell   *lc;

	foreach(lc, tables_with_trigger())
		if (!list_member_oid(attached, mr_catalog_root_table(lfirst_oid(lc))))
		drop_trigger(lfirst_oid(lc));
}

/*
 * What can be attached
 */

static void
refuse_relation(const char *what, Oid relid, const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_WRONG_OBJECT_TYPE),
			errmsg("cannot attach %s \"%s\"", what, get_rel_name(relid)),
			errhint("%s", hint));
}

static void
check_kind(Oid relid)
{
	char		kind = get_rel_relkind(relid);

	if (OidIsValid(mr_catalog_view_of_changes(relid)))
		return;
	if (mr_is_stream(relid))
		refuse_relation("foreign table", relid, "It is a stream as it is.");
	if (mr_catalog_view(relid) != NULL)
		refuse_relation("continuous view", relid, "Attach an ordinary table.");
	if (kind == RELKIND_FOREIGN_TABLE)
		refuse_relation("foreign table", relid, "Rows that are inserted on the other server are not seen here.");
	if (kind == RELKIND_VIEW || kind == RELKIND_MATVIEW)
		refuse_relation(kind == RELKIND_VIEW ? "view" : "materialized view", relid,
						"Attach the table that is inserted into.");
	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		refuse_relation("relation", relid, "Attach an ordinary table.");
	if (relid < FirstNormalObjectId || get_rel_namespace(relid) == mr_catalog_schema_oid() ||
		OidIsValid(mr_catalog_view_of_part(relid)))
		refuse_relation("system table", relid, "Attach a table of your own.");
	if (get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		refuse_relation("temporary table", relid, "A continuous view outlives it; attach an ordinary table.");
	if (get_rel_relispartition(relid))
		refuse_relation("partition", relid,
						psprintf("Attach table \"%s\", and select its rows in WHERE.", get_rel_name(mr_catalog_root_table(relid))));
}

/* does it have parents or children that are no partitions? */
static bool
inherits(Oid relid)
{
	if (get_rel_relkind(relid) != RELKIND_RELATION || get_rel_relispartition(relid))
		return false;
	return find_inheritance_children(relid, NoLock) != NIL || has_superclass(relid);
}

static void
refuse_inheritance(Oid relid)
{
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("inheritance is not supported with table \"%s\", a stream", get_rel_name(relid)),
			errdetail("Rows that are inserted into a child by its name would be missed."),
			errhint("Use partitions."));
}

/*
 * Functions
 */

/* a view's changes are its owner's */
static void
require_owner(Oid relid)
{
	Oid			view = mr_catalog_view_of_changes(relid);

	mr_target_require_owner(OidIsValid(view) ? view : relid);
}

static Oid
lock_target(FunctionCallInfo fcinfo, const char *function)
{
	Oid			relid = mr_target_relation(fcinfo);

	mr_target_require_command(function);
	PreventCommandDuringRecovery(function);
	if (get_rel_name(relid) != NULL)
		require_owner(relid);
	LockRelationOid(relid, ShareRowExclusiveLock);
	if (get_rel_name(relid) == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("relation with OID %u does not exist", relid));
	require_owner(relid);
	return relid;
}

/* attach_table(relation regclass): see README */
Datum
mr_attach_table(PG_FUNCTION_ARGS)
{
	Oid			relid;

	mr_target_require_preload();
	relid = lock_target(fcinfo, "attach_table()");
	check_kind(relid);
	if (mr_catalog_is_attached(relid))
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_OBJECT),
				errmsg("table \"%s\" is attached already", get_rel_name(relid)));
	if (inherits(relid))
		refuse_inheritance(relid);
	mr_catalog_attach_table(relid);
	if (!OidIsValid(mr_catalog_view_of_changes(relid)))
		create_triggers(relid);
	PG_RETURN_VOID();
}

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

/* names of views, for a message */
static char *
view_names(const List *views)
{
	StringInfoData names;
	ListCell   *lc;

	initStringInfo(&names);
	foreach(lc, views)
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
						 qualified_name(((MrView *) lfirst(lc))->view));
	return names.data;
}

/* detach_table(relation regclass) */
Datum
mr_detach_table(PG_FUNCTION_ARGS)
{
	Oid			relid = lock_target(fcinfo, "detach_table()");
	List	   *views;
	ListCell   *lc;

	if (!mr_catalog_is_attached(relid))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table \"%s\" is not attached", get_rel_name(relid)),
				errhint("See millrace.streams."));
	views = mr_catalog_views_of_stream(relid);
	if (views != NIL)
		ereport(ERROR,
				errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				errmsg("cannot detach table \"%s\" because continuous views follow it", get_rel_name(relid)),
				errdetail("Views: %s.", view_names(views)),
				errhint("Drop the views first."));
	mr_catalog_detach_table(relid);
	foreach(lc, find_all_inheritors(relid, NoLock, NULL))
		drop_trigger(lfirst_oid(lc));
	PG_RETURN_VOID();
}

/*
 * DDL
 */

/* an attached table, but no partitioned one, gets no children */
static void
check_parents(Oid relid, const List *attached)
{
	ListCell   *lc;

	if (get_rel_relispartition(relid))
		return;
	foreach(lc, attached)
		if (list_member_oid(find_inheritance_children(lfirst_oid(lc), NoLock), relid))
		refuse_inheritance(lfirst_oid(lc));
}

/* its trigger would no longer see what is inserted into the table that it became a part of */
static void
refuse_attached_partitions(const List *attached)
{
	ListCell   *lc;

	foreach(lc, attached)
		if (get_rel_relispartition(lfirst_oid(lc)))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table \"%s\", a stream, cannot become a partition", get_rel_name(lfirst_oid(lc))),
				errhint("Use millrace.detach_table() before."));
}

/*
 * Nothing else makes triggers: a restore alters tables before it creates the triggers that were
 * dumped.
 */
static bool
changes_partitions(Node *stmt)
{
	ListCell   *lc;

	if (!IsA(stmt, AlterTableStmt))
		return true;
	foreach(lc, ((AlterTableStmt *) stmt)->cmds)
	{
		AlterTableType type = lfirst_node(AlterTableCmd, lc)->subtype;

		if (type == AT_AttachPartition || type == AT_DetachPartition ||
			type == AT_DetachPartitionFinalize)
			return true;
	}
	return false;
}

void
mr_attach_follow_table(Oid relid, Node *stmt)
{
	List	   *attached = mr_catalog_attached_tables();
	Oid			root;

	if (attached == NIL)
		return;
	refuse_attached_partitions(attached);
	root = mr_catalog_root_table(relid);
	if (!list_member_oid(attached, root))
	{
		check_parents(relid, attached);
		return;
	}
	if (inherits(root))
		refuse_inheritance(root);
	mr_window_check_stream(root);
	if (!changes_partitions(stmt) || OidIsValid(mr_catalog_view_of_changes(root)))
		return;
	create_triggers(root);
	drop_stray_triggers(attached);
	mr_catalog_table_changed(root);
}

void
mr_attach_check_triggers(void)
{
	List	   *attached = mr_catalog_attached_tables();
	ListCell   *lc;

	foreach(lc, attached)
	{
		ListCell   *lp;

		if (get_rel_name(lfirst_oid(lc)) == NULL || OidIsValid(mr_catalog_view_of_changes(lfirst_oid(lc))))
			continue;
		foreach(lp, find_all_inheritors(lfirst_oid(lc), NoLock, NULL))
			if (!has_trigger(lfirst_oid(lp)))
			ereport(ERROR,
					errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					errmsg("cannot drop or rename trigger \"%s\" of table \"%s\", a stream",
						   TRIGGER_NAME, get_rel_name(lfirst_oid(lp))),
					errhint("Use millrace.detach_table() instead."));
	}
}
