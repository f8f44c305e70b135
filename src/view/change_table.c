/*
 * view/change_table.c
 *		The table <view>_changes: made with its view, and kept like its other parts; and
 *		set_changes_retention().
 *
 * Like the matrel it belongs to the extension's owner, so that nobody writes into it, and
 * its name and schema follow the view.  Unlike the matrel it is for others to read: the view's
 * owner may grant SELECT on it.
 */
#include "millrace.h"

#include "access/xact.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "catalog/toasting.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "view/access_list.h"
#include "view/change_table.h"
#include "view/relations.h"
#include "view/target.h"

PG_FUNCTION_INFO_V1(mr_set_changes_retention);

/* ---------- making ---------- */

static void
add_column(CreateStmt *stmt, const char *name, Oid type, bool not_null)
{
	ColumnDef  *column = makeColumnDef(name, type, -1, InvalidOid);

	stmt->tableElts = lappend(stmt->tableElts, column);
	if (not_null)
		mr_compat_set_not_null(stmt, column);
}

static void
add_columns(CreateStmt *stmt, Oid row)
{
	add_column(stmt, "id", INT8OID, true);
	add_column(stmt, "batch", INT8OID, true);
	add_column(stmt, "changed_at", TIMESTAMPTZOID, true);
	add_column(stmt, "old", row, false);
	add_column(stmt, "new", row, false);
	add_column(stmt, "offsets", JSONBOID, false);
}

static void
create_key(const char *view, Oid namespace, Oid table)
{
	IndexStmt  *stmt = makeNode(IndexStmt);

	stmt->indexParams = list_make1(mr_relations_index_column("id"));
	stmt->idxname = mr_relations_part_name(view, "changes_pkey", namespace, InvalidOid);
	stmt->relation = makeRangeVar(get_namespace_name(namespace), get_rel_name(table), -1);
	stmt->accessMethod = "btree";
	stmt->unique = true;
	stmt->primary = true;
	stmt->isconstraint = true;
	stmt->transformed = true;
	mr_define_index(table, stmt);
	CommandCounterIncrement();
}

Oid
mr_change_table_create(const MrView *view)
{
	const char *name = get_rel_name(view->view);
	Oid			namespace = get_rel_namespace(view->view);
	CreateStmt *stmt = makeNode(CreateStmt);
	ObjectAddress address;
	MrOwnerScope scope;

	stmt->relation = makeRangeVar(get_namespace_name(namespace),
								  mr_relations_part_name(name, "changes", namespace, InvalidOid), -1);
	add_columns(stmt, get_rel_type_id(view->view));
	stmt->oncommit = ONCOMMIT_NOOP;
	stmt->accessMethod = "heap";
	mr_owner_enter(&scope);
	address = DefineRelation(stmt, RELKIND_RELATION, InvalidOid, NULL, NULL);
	CommandCounterIncrement();
	mr_access_list_clear(address.objectId);
	NewRelationCreateToastTable(address.objectId, (Datum) 0);
	create_key(name, namespace, address.objectId);
	mr_owner_leave(&scope);
	mr_relations_grant_select(address.objectId, GetUserId(), true, true);
	mr_relations_depend_table(address.objectId, view->view);
	CommandCounterIncrement();
	return address.objectId;
}

void
mr_change_table_check(Relation rel)
{
	static const Oid types[] = {INT8OID, INT8OID, TIMESTAMPTZOID, InvalidOid, InvalidOid, JSONBOID};
	TupleDesc	desc = RelationGetDescr(rel);
	bool		same = desc->natts == MR_CHANGE_COLUMNS;

	for (int i = 0; same && i < MR_CHANGE_COLUMNS; i++)
		same = !TupleDescAttr(desc, i)->attisdropped &&
			(!OidIsValid(types[i]) || TupleDescAttr(desc, i)->atttypid == types[i]);
	if (!same)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("columns of table \"%s\" are not those that it was created with",
					   RelationGetRelationName(rel)),
				errhint("Drop the continuous view and create it again."));
}

/* ---------- following the view ---------- */

void
mr_change_table_follow_owner(Oid table, Oid former, Oid owner)
{
	if (former != owner)
		mr_access_list_replace(table, former, owner);
	if (pg_class_aclcheck(table, owner, ACL_SELECT) != ACLCHECK_OK)
		mr_relations_grant_select(table, owner, true, true);
}

/* ---------- set_changes_retention() ---------- */

/* set_changes_retention(view, retention); see the reference */
Datum
mr_set_changes_retention(PG_FUNCTION_ARGS)
{
	Oid			relid = mr_target_relation(fcinfo);
	Interval   *retention = PG_ARGISNULL(1) ? NULL : PG_GETARG_INTERVAL_P(1);
	Interval	zero = {0};

	mr_target_require_command("set_changes_retention()");
	PreventCommandDuringRecovery("set_changes_retention()");
	(void) mr_target_view(relid);
	mr_target_require_owner(relid);
	LockRelationOid(relid, AccessShareLock);
	(void) mr_target_view(relid);
	if (mr_catalog_change_feed(relid) == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("continuous view \"%s\" keeps no changes", get_rel_name(relid)),
				errhint("Create it with changes => true."));
	if (retention != NULL &&
		DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(retention), IntervalPGetDatum(&zero))))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("retention of changes must not be negative"));
	/* whoever writes changes counts on in the same row */
	mr_catalog_lock_contents(relid);
	mr_catalog_set_changes_retention(relid, retention);
	PG_RETURN_VOID();
}
