/*
 * view/follow.c
 *		What DDL on a continuous view does to its parts.
 *
 * DROP: the event trigger on_drop removes matrel, definition and catalog rows of dropped
 * views, and what the catalog knows of dropped streams.  A part alone cannot be dropped;
 * the server's own dependencies say so first.  A dump does not keep those, so on_ddl_start
 * looks whether they are there before anything is dropped.
 *
 * CREATE OR REPLACE: refused before it happens, by the event trigger on_ddl_start.  It also
 * warns of a column's new name where that names another field of the messages.
 *
 * ALTER: name, schema and owner of the parts follow the view, by the event trigger
 * on_ddl_end.  REASSIGN OWNED fires none: the utility hook and workers look as well.
 */
#include "millrace.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog_feed_lock.h"
#include "catalog_rebuild.h"
#include "catalog_table.h"
#include "commands/event_trigger.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "failpoint.h"
#include "miscadmin.h"
#include "shmem.h"
#include "stream/option.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "view/attach.h"
#include "view/change_table.h"
#include "view/guard.h"
#include "view/relations.h"
#include "view/split.h"
#include "view/window.h"

/* a relation that a command touched */
typedef struct Touched
{
	Oid			relid;
	char	   *what;			/* object type, or command tag */
} Touched;

/* who owned a view */
typedef struct Owned
{
	Oid			view;
	Oid			owner;
} Owned;

PG_FUNCTION_INFO_V1(mr_on_drop);
PG_FUNCTION_INFO_V1(mr_on_ddl_start);
PG_FUNCTION_INFO_V1(mr_on_ddl_end);

static bool
relation_exists(Oid relid)
{
	return SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid));
}

/* relations that the current event is about: List of Touched * */
static List *
touched_relations(const char *sql)
{
	MrCatalogScope scope;
	List	   *result = NIL;

	mr_catalog_begin(&scope);
	mr_catalog_run(sql, true, 0, NULL, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		MemoryContext old = MemoryContextSwitchTo(scope.caller);
		Touched    *touched = palloc0(sizeof(Touched));
		bool		isnull;

		touched->relid = DatumGetObjectId(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &isnull));
		touched->what = SPI_getvalue(tuple, SPI_tuptable->tupdesc, 2);
		if (touched->what != NULL)
			touched->what = MemoryContextStrdup(scope.caller, touched->what);
		result = lappend(result, touched);
		MemoryContextSwitchTo(old);
	}
	mr_catalog_end(&scope);
	return result;
}

/*
 * DROP
 */

static void
add_if_exists(ObjectAddresses *objects, Oid relid)
{
	ObjectAddress address;

	if (!relation_exists(relid))
		return;
	ObjectAddressSet(address, RelationRelationId, relid);
	add_exact_object_address(&address, objects);
}

static void
drop_rest_of_view(const MrView *view)
{
	ObjectAddresses *objects = new_object_addresses();
	MrView	   *shadow = mr_catalog_shadow_of(view->view);
	MrChangeFeed *changes = mr_catalog_change_feed(view->view);

	add_if_exists(objects, view->definition);
	add_if_exists(objects, view->matrel);
	if (changes)
	{
		add_if_exists(objects, changes->table);
		mr_catalog_forget_table(changes->table);
	}
	if (shadow)
		add_if_exists(objects, shadow->matrel);
	performMultipleDeletions(objects, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	MR_FAILPOINT("drop-parts");
	free_object_addresses(objects);
	if (shadow)
	{
		mr_catalog_delete_view(shadow->view);
		mr_shmem_forget_counters(shadow->view);
	}
	mr_catalog_delete_view(view->view);
	MR_FAILPOINT("drop-view");
	mr_shmem_forget_counters(view->view);
	mr_catalog_changed();
}

static void
check_part_dropped(Oid relid)
{
	Oid			view = mr_catalog_view_of_part(relid);
	Oid			transform = mr_catalog_transform_into(relid);

	if (OidIsValid(transform))
		ereport(ERROR,
				errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				errmsg("cannot drop the target of continuous transform \"%s\"", get_rel_name(transform)),
				errhint("Drop the transform first."));
	if (OidIsValid(view) && relation_exists(view))
		ereport(ERROR,
				errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				errmsg("cannot drop a part of continuous view \"%s\"", get_rel_name(view)),
				errhint("Drop the view instead."));
}

/* of all views that are dropped together, and their shadows */
static void
lock_feed_rows(const List *dropped)
{
	List	   *views = NIL;
	ListCell   *lc;

	foreach(lc, dropped)
	{
		const Touched *touched = lfirst(lc);
		MrView	   *shadow;

		if (strcmp(touched->what, "view") != 0)
			continue;
		views = lappend_oid(views, touched->relid);
		if ((shadow = mr_catalog_shadow_of(touched->relid)) != NULL)
			views = lappend_oid(views, shadow->view);
	}
	if (views == NIL)
		return;
	mr_catalog_lock_feed_rows(views);
	mr_catalog_lock_letters_of_views(views);
}

/* on_drop(): event trigger for sql_drop */
Datum
mr_on_drop(PG_FUNCTION_ARGS)
{
	List	   *dropped;
	ListCell   *lc;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("on_drop() must be called as an event trigger"));
	if (!OidIsValid(mr_catalog_owner()))
		PG_RETURN_NULL();
	dropped = touched_relations("SELECT objid, object_type"
								" FROM pg_catalog.pg_event_trigger_dropped_objects()"
								" WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND objsubid = 0"
								" AND object_type IN ('view', 'table', 'foreign table')");
	foreach(lc, dropped)
		check_part_dropped(((Touched *) lfirst(lc))->relid);
	if (touched_relations("SELECT objid, object_type"
						  " FROM pg_catalog.pg_event_trigger_dropped_objects()"
						  " WHERE classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass LIMIT 1") != NIL)
		mr_attach_check_triggers();
	lock_feed_rows(dropped);
	foreach(lc, dropped)
	{
		Touched    *touched = lfirst(lc);
		MrView	   *view;

		if (strcmp(touched->what, "view") == 0 &&
			(view = mr_catalog_view(touched->relid)) != NULL)
			drop_rest_of_view(view);
		else if (strcmp(touched->what, "foreign table") == 0)
		{
			mr_catalog_delete_stream(touched->relid);
			mr_shmem_forget_counters(touched->relid);
		}
		else if (strcmp(touched->what, "table") == 0)
			mr_catalog_forget_table(touched->relid);
	}
	PG_RETURN_NULL();
}

/*
 * ALTER
 */

static void
follow_schema(Oid relid, Oid namespace)
{
	ObjectAddresses *moved;
	Relation	rel;
	Oid			old = get_rel_namespace(relid);

	if (old == namespace)
		return;
	rel = relation_open(relid, AccessExclusiveLock);
	moved = new_object_addresses();
	AlterTableNamespaceInternal(rel, old, namespace, moved);
	free_object_addresses(moved);
	relation_close(rel, NoLock);
	CommandCounterIncrement();
}

static void
follow_name(Oid relid, const char *view, const char *label, bool is_index)
{
	char	   *name = mr_relations_part_name(view, label, get_rel_namespace(relid), relid);

	if (strcmp(name, get_rel_name(relid)) == 0)
		return;
	RenameRelationInternal(relid, name, true, is_index);
	CommandCounterIncrement();
}

/* a table's only unique index, its key; InvalidOid when there is none */
static Oid
key_index(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Oid			result = InvalidOid;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indisunique)
			result = lfirst_oid(lc);
		index_close(index, AccessShareLock);
	}

	table_close(rel, AccessShareLock);
	return result;
}

/* a table of the view, and its key */
static void
follow_table(Oid relid, const MrView *view, const char *label, const char *key_label)
{
	const char *name = get_rel_name(view->view);
	Oid			index;

	follow_schema(relid, get_rel_namespace(view->view));
	follow_name(relid, name, label, false);
	index = key_index(relid);
	if (OidIsValid(index))
		follow_name(index, name, key_label, true);
	mr_relations_depend_table(relid, view->view);
}

/* former: who owned the view before, InvalidOid when the definition still tells */
static void
follow_owner(const MrView *view, const MrChangeFeed *changes, Oid former)
{
	Oid			owner = mr_relation_owner(view->view);

	if (!OidIsValid(former))
		former = mr_relation_owner(view->definition);
	if (mr_relation_owner(view->definition) != owner)
	{
		ATExecChangeOwner(view->definition, owner, true, AccessExclusiveLock);
		CommandCounterIncrement();
	}
	if (former != owner)
		mr_relations_grant_select(view->matrel, former, false, false);
	if (pg_class_aclcheck(view->matrel, owner, ACL_SELECT) != ACLCHECK_OK)
		mr_relations_grant_select(view->matrel, owner, true, false);
	if (changes)
		mr_change_table_follow_owner(changes->table, former, owner);
}

static void
sync_view(const MrView *view, Oid former)
{
	const char *name = get_rel_name(view->view);
	MrChangeFeed *changes;
	MrOwnerScope scope;

	if (name != NULL && OidIsValid(view->sink) && relation_exists(view->sink))
		mr_relations_depend(view);
	if (name == NULL || !relation_exists(view->matrel) || !relation_exists(view->definition))
		return;
	if (view->target != view->view)
	{
		if (relation_exists(view->target))
			mr_relations_depend_shadow(view);
		return;
	}
	changes = mr_catalog_change_feed(view->view);
	mr_owner_enter(&scope);
	follow_table(view->matrel, view, "mrel", "mrel_key");
	MR_FAILPOINT("rename-matrel");
	if (changes)
		follow_table(changes->table, view, "changes", "changes_pkey");
	follow_schema(view->definition, get_rel_namespace(view->view));
	follow_name(view->definition, name, "def", false);
	follow_owner(view, changes, former);
	mr_relations_depend(view);
	mr_owner_leave(&scope);
}

void
mr_view_sync(const MrView *view)
{
	sync_view(view, InvalidOid);
}

List *
mr_view_owners(void)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (!OidIsValid(mr_catalog_owner()))
		return NIL;
	foreach(lc, mr_catalog_views())
	{
		MrView	   *view = lfirst(lc);

		if (relation_exists(view->view))
		{
			Owned	   *owned = palloc(sizeof(Owned));

			owned->view = view->view;
			owned->owner = mr_relation_owner(view->view);
			result = lappend(result, owned);
		}
	}
	return result;
}

void
mr_view_sync_owners(const List *before)
{
	ListCell   *lc;

	foreach(lc, before)
	{
		const Owned *owned = lfirst(lc);
		MrView	   *view;

		if (!relation_exists(owned->view) || mr_relation_owner(owned->view) == owned->owner ||
			(view = mr_catalog_view(owned->view)) == NULL)
			continue;
		sync_view(view, owned->owner);
		mr_catalog_changed();
	}
}

/*
 * What a dump does not keep: that a view's parts go with it, and a transform with its target.  The
 * worker that opens a view tells the server so, but where none has yet, DROP would leave parts behind.
 */
static void
depend_loose(void)
{
	ListCell   *lc;

	foreach(lc, mr_catalog_loose_views())
	{
		const MrView *view = lfirst(lc);
		const MrChangeFeed *changes = mr_catalog_change_feed(view->view);
		bool		whole = relation_exists(view->view) && (OidIsValid(view->sink) ? relation_exists(view->sink) :
															relation_exists(view->matrel) && relation_exists(view->definition));

		if (!whole)
			continue;
		if (view->target == view->view)
			mr_relations_depend(view);
		else if (relation_exists(view->target))
			mr_relations_depend_shadow(view);
		if (changes && relation_exists(changes->table))
			mr_relations_depend_table(changes->table, view->view);
	}
	CommandCounterIncrement();
}

/* what a part of the view is called after; NULL: it is none */
static const char *
label_of_part(Oid relid, const MrView *view)
{
	MrChangeFeed *changes = mr_catalog_change_feed(view->view);

	if (relid == view->matrel)
		return "mrel";
	if (relid == view->definition)
		return "def";
	return changes && relid == changes->table ? "changes" : NULL;
}

/* does the command change which columns a table has, or their types? */
static bool
changes_columns(const Node *parsetree)
{
	ListCell   *lc;

	if (!IsA(parsetree, AlterTableStmt))
		return false;
	foreach(lc, ((const AlterTableStmt *) parsetree)->cmds)
	{
		AlterTableType subtype = ((AlterTableCmd *) lfirst(lc))->subtype;

		if (subtype == AT_AddColumn || subtype == AT_DropColumn || subtype == AT_AlterColumnType)
			return true;
	}
	return false;
}

/* a part was altered by hand: only what the view does not decide may change */
static void
check_part_altered(const Touched *touched, Oid viewid, const Node *parsetree)
{
	MrView	   *view = mr_catalog_view(viewid);
	const char *label;
	char	   *name;

	if (view == NULL || !relation_exists(viewid) ||
		(label = label_of_part(touched->relid, view)) == NULL)
		return;
	name = mr_relations_part_name(get_rel_name(viewid), label, get_rel_namespace(viewid), touched->relid);
	if (changes_columns(parsetree) ||
		get_rel_namespace(touched->relid) != get_rel_namespace(viewid) ||
		strcmp(name, get_rel_name(touched->relid)) != 0 ||
		(touched->relid == view->definition ? mr_relation_owner(touched->relid) != mr_relation_owner(viewid) :
		 !superuser_arg(mr_relation_owner(touched->relid))))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot alter a part of continuous view \"%s\"", get_rel_name(viewid)),
				errhint("Alter the view instead; its parts follow."));
}

/* offsets of one topic mean nothing in another */
static void
check_topic(Oid stream)
{
	if (mr_catalog_topic_changed(stream))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_IN_USE),
				errmsg("cannot change the topic of stream \"%s\" because continuous views follow it",
					   get_rel_name(stream)),
				errhint("Drop the views first, or create another stream for the other topic."));
}

static void
follow_alter(const Touched *touched, const Node *parsetree)
{
	MrView	   *view = mr_catalog_view(touched->relid);
	Oid			viewid;

	if (view != NULL)
	{
		mr_view_sync(view);
		MR_FAILPOINT("rename-done");
		mr_catalog_changed();
		return;
	}
	viewid = mr_catalog_view_of_part(touched->relid);
	if (OidIsValid(viewid))
		check_part_altered(touched, viewid, parsetree);
	else if (mr_is_stream(touched->relid))
	{
		check_topic(touched->relid);
		mr_window_check_stream(touched->relid);
		mr_catalog_changed();
	}
}

/* everything in the extension calls its schema by its name */
static void
check_schema_renamed(const Node *parsetree)
{
	const RenameStmt *stmt = (const RenameStmt *) parsetree;

	if (IsA(parsetree, RenameStmt) && stmt->renameType == OBJECT_SCHEMA && strcmp(stmt->subname, MR_SCHEMA) == 0)
		ereport(ERROR,
				errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				errmsg("cannot rename schema \"%s\" because extension millrace requires it", MR_SCHEMA));
}

/* whoever owns it decides what is in it, and a dump could not be restored */
static void
check_schema_owner(const Node *parsetree)
{
	const AlterOwnerStmt *stmt = (const AlterOwnerStmt *) parsetree;

	if (IsA(parsetree, AlterOwnerStmt) && stmt->objectType == OBJECT_SCHEMA && strcmp(strVal(stmt->object), MR_SCHEMA) == 0 &&
		!superuser_arg(get_rolespec_oid(stmt->newowner, false)))
		ereport(ERROR,
				errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				errmsg("schema \"%s\" of extension millrace must be owned by a superuser", MR_SCHEMA));
}

/* of a table, perhaps with others below it, or of a type that tables are of */
static bool
renames_column(const Node *parsetree)
{
	return IsA(parsetree, RenameStmt) && (((const RenameStmt *) parsetree)->renameType == OBJECT_COLUMN ||
										  ((const RenameStmt *) parsetree)->renameType == OBJECT_ATTRIBUTE);
}

/* on_ddl_end(): event trigger for ddl_command_end */
Datum
mr_on_ddl_end(PG_FUNCTION_ARGS)
{
	Node	   *parsetree;
	List	   *altered;
	ListCell   *lc;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("on_ddl_end() must be called as an event trigger"));
	if (!OidIsValid(mr_catalog_owner()))
		PG_RETURN_NULL();
	parsetree = ((EventTriggerData *) fcinfo->context)->parsetree;
	check_schema_renamed(parsetree);
	check_schema_owner(parsetree);
	mr_guard_check(((EventTriggerData *) fcinfo->context)->tag);
	if (renames_column(parsetree))
		mr_catalog_columns_renamed();
	altered = touched_relations("SELECT DISTINCT objid, command_tag"
								" FROM pg_catalog.pg_event_trigger_ddl_commands()"
								" WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass");
	foreach(lc, altered)
	{
		Touched    *touched = lfirst(lc);

		if (!relation_exists(touched->relid))
			continue;
		if (strncmp(touched->what, "CREATE", strlen("CREATE")) != 0)
			follow_alter(touched, parsetree);
		mr_attach_follow_table(touched->relid, parsetree);
	}
	if (((EventTriggerData *) fcinfo->context)->tag == CMDTAG_ALTER_TRIGGER)
		mr_attach_check_triggers();
	PG_RETURN_NULL();
}

/*
 * CREATE OR REPLACE VIEW, CREATE RULE
 */

/* pg_dump creates a view without FROM first when it has to break a loop */
static bool
is_placeholder(Oid relid)
{
	Query	   *query = mr_relation_view_query(relid);

	return query != NULL && query->jointree->fromlist == NIL && query->setOperations == NULL;
}

/*
 * Does the statement make such a placeholder of a view?  Restoring with --clean does, to drop what is in the loop.
 */
static bool
makes_placeholder(const Node *stmt)
{
	const SelectStmt *query;
	ListCell   *lc;

	if (!IsA(stmt, ViewStmt) || !IsA(((const ViewStmt *) stmt)->query, SelectStmt))
		return false;
	query = (const SelectStmt *) ((const ViewStmt *) stmt)->query;
	foreach(lc, query->targetList)
	{
		const Node *value = lfirst_node(ResTarget, lc)->val;

		while (IsA(value, TypeCast) || IsA(value, CollateClause))
			value = IsA(value, TypeCast) ? ((const TypeCast *) value)->arg : ((const CollateClause *) value)->arg;
		if (!IsA(value, A_Const) || !((const A_Const *) value)->isnull)
			return false;
	}
	return query->targetList != NIL && query->fromClause == NIL;
}

static void
check_replaced(Oid relid, const Node *stmt)
{
	Oid			view;

	if (!OidIsValid(relid))
		return;
	view = mr_catalog_view(relid) != NULL ? relid : mr_catalog_view_of_part(relid);
	if (!OidIsValid(view) || !relation_exists(view) || is_placeholder(relid))
		return;
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot replace \"%s\" because continuous view \"%s\" requires it",
				   get_rel_name(relid), get_rel_name(view)),
			makes_placeholder(stmt) ?
			errhint("A dump is restored into an empty database; to restore over this one, use DROP EXTENSION %s CASCADE first.", MR_EXTENSION) :
			errhint("Drop the continuous view and create it again, or create one with another name and rename the two."));
}

/* what CREATE OR REPLACE VIEW or CREATE RULE is about to change */
static Oid
replaced_relation(Node *stmt)
{
	if (IsA(stmt, ViewStmt) && ((ViewStmt *) stmt)->replace)
	{
		RangeVar   *view = ((ViewStmt *) stmt)->view;

		return get_relname_relid(view->relname, RangeVarGetCreationNamespace(view));
	}
	if (IsA(stmt, RuleStmt))
		return RangeVarGetRelid(((RuleStmt *) stmt)->relation, NoLock, true);
	return InvalidOid;
}

/*
 * RENAME COLUMN
 */

/* a stream's column without a path reads the field of its name, which changes now */
static void
warn_of_other_field(RenameStmt *stmt)
{
	Oid			relid;
	MrStream   *stream;

	if (stmt->renameType != OBJECT_COLUMN || stmt->relation == NULL)
		return;
	relid = RangeVarGetRelid(stmt->relation, NoLock, true);
	if (!OidIsValid(relid) || !mr_is_stream(relid))
		return;
	stream = mr_stream_get(relid);
	for (int i = 0; i < stream->natts; i++)
	{
		const MrColumn *column = &stream->columns[i];

		if (column->attnum == InvalidAttrNumber || strcmp(column->name, stmt->subname) != 0 ||
			!column->by_name)
			continue;
		ereport(WARNING,
				errmsg("column \"%s\" of stream \"%s\" reads field \"%s\" of the messages from now on, no longer \"%s\"",
					   stmt->newname, get_rel_name(relid), stmt->newname, stmt->subname),
				strchr(stmt->subname, '.') ? 0 :
				errhint("Use ALTER FOREIGN TABLE %s ALTER COLUMN %s OPTIONS (ADD path %s) to go on reading that.",
						stream->name, quote_identifier(stmt->newname), quote_literal_cstr(stmt->subname)));
	}
}

/* on_ddl_start(): event trigger for ddl_command_start */
Datum
mr_on_ddl_start(PG_FUNCTION_ARGS)
{
	EventTriggerData *data;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("on_ddl_start() must be called as an event trigger"));
	data = (EventTriggerData *) fcinfo->context;
	if (!OidIsValid(mr_catalog_owner()))
		PG_RETURN_NULL();
	check_replaced(replaced_relation(data->parsetree), data->parsetree);
	if (IsA(data->parsetree, DropStmt) || IsA(data->parsetree, DropOwnedStmt))
		depend_loose();
	if (renames_column(data->parsetree))
		mr_catalog_columns_renaming();
	if (IsA(data->parsetree, RenameStmt))
		warn_of_other_field((RenameStmt *) data->parsetree);
	PG_RETURN_NULL();
}
