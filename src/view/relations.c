/*
 * view/relations.c
 *		Creates the three relations of a continuous view.
 *
 *	<view>_def	an ordinary view with the declared query: never read by us, but as its
 *				rule the query follows renames, and it keeps what it refers to
 *	<view>_mrel	the table of groups and states, or of appended rows
 *	<view>		the reader: a view over <view>_mrel
 *
 * The matrel belongs to the extension's owner, so that nobody writes or drops it by
 * accident; the view's owner may read it, and nobody else, whatever default privileges
 * say.  It depends on the foreign-data wrapper, or DROP EXTENSION would leave it behind.  It
 * does not depend on the view, since the view depends on it and pg_dump could not order the
 * two; the event trigger drops it instead.  The definition does, internally: it goes with the
 * view and cannot be dropped alone.
 *
 * Only what needs the extension owner's rights is done with them.
 */
#include "millrace.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "catalog/toasting.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "commands/tablespace.h"
#include "commands/trigger.h"
#include "commands/view.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "view/access_list.h"
#include "view/relations.h"
#include "view/swap.h"

PG_FUNCTION_INFO_V1(mr_refuse_write);

void
mr_owner_enter(MrOwnerScope *scope)
{
	GetUserIdAndSecContext(&scope->userid, &scope->sec_context);
	SetUserIdAndSecContext(mr_catalog_owner(),
						   scope->sec_context | SECURITY_LOCAL_USERID_CHANGE);
}

void
mr_owner_leave(const MrOwnerScope *scope)
{
	SetUserIdAndSecContext(scope->userid, scope->sec_context);
}

/* as makeObjectName and ChooseRelationName, but own keeps the name that it has */
char *
mr_relations_part_name(const char *view, const char *label, Oid namespace, Oid own)
{
	char		numbered[NAMEDATALEN];

	strlcpy(numbered, label, sizeof(numbered));
	for (int i = 1;; i++)
	{
		char	   *name = makeObjectName(view, NULL, numbered);
		Oid			relid = get_relname_relid(name, namespace);

		if (relid == own || !OidIsValid(relid))
			return name;
		snprintf(numbered, sizeof(numbered), "%s%d", label, i);
	}
}

static CreateStmt *
create_stmt(const char *name, Oid namespace, List *columns)
{
	CreateStmt *stmt = makeNode(CreateStmt);

	stmt->relation = makeRangeVar(get_namespace_name(namespace), pstrdup(name), -1);
	stmt->tableElts = columns;
	stmt->oncommit = ONCOMMIT_NOOP;
	return stmt;
}

Oid
mr_relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void depend_once(Oid relid, Oid refclass, Oid refobj, DependencyType type);

/*
 * Views
 */

static List *
view_columns(const Query *query)
{
	List	   *columns = NIL;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		Node	   *expr = (Node *) tle->expr;

		if (tle->resjunk)
			continue;
		if (type_is_collatable(exprType(expr)) && !OidIsValid(exprCollation(expr)))
			ereport(ERROR,
					errcode(ERRCODE_INDETERMINATE_COLLATION),
					errmsg("could not determine which collation to use for view column \"%s\"",
						   tle->resname),
					errhint("Use the COLLATE clause to set the collation explicitly."));
		columns = lappend(columns, makeColumnDef(tle->resname, exprType(expr),
												 exprTypmod(expr), exprCollation(expr)));
	}
	return columns;
}

static Oid
create_view(const char *name, Oid namespace, Query *query)
{
	CreateStmt *stmt = create_stmt(name, namespace, view_columns(query));
	ObjectAddress address = DefineRelation(stmt, RELKIND_VIEW, InvalidOid, NULL, NULL);

	CommandCounterIncrement();
	StoreViewQuery(address.objectId, query, false);
	CommandCounterIncrement();
	return address.objectId;
}

Oid
mr_relations_create_definition(const char *view, Oid namespace, Query *query)
{
	return create_view(mr_relations_part_name(view, "def", namespace, InvalidOid),
					   namespace, query);
}

/* without it, a simple reader would be updatable, by a superuser or for one */
static void
create_write_trigger(const char *view, Oid namespace, Oid relid)
{
	CreateTrigStmt *stmt = makeNode(CreateTrigStmt);

	stmt->trigname = "millrace_refuse_write";
	stmt->relation = makeRangeVar(get_namespace_name(namespace), pstrdup(view), -1);
	stmt->funcname = list_make2(makeString(MR_SCHEMA), makeString("refuse_write"));
	stmt->row = true;
	stmt->timing = TRIGGER_TYPE_INSTEAD;
	stmt->events = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE;
	(void) CreateTrigger(stmt, NULL, relid, InvalidOid, InvalidOid, InvalidOid,
						 InvalidOid, InvalidOid, NULL, false, false);
	CommandCounterIncrement();
}

Oid
mr_relations_create_reader(const char *view, Oid namespace, Query *query)
{
	Oid			relid = create_view(view, namespace, query);

	create_write_trigger(view, namespace, relid);
	return relid;
}

/* refuse_write(): INSTEAD OF trigger of readers */
Datum
mr_refuse_write(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("refuse_write() must be called as a trigger"));
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot write into continuous view \"%s\"",
				   RelationGetRelationName(((TriggerData *) fcinfo->context)->tg_relation)),
			errhint("Write into its streams."));
	PG_RETURN_NULL();
}

/*
 * The matrel
 */

static DefElem *
storage_option(const char *name, const char *value)
{
	return makeDefElem(pstrdup(name), (Node *) makeString(pstrdup(value)), -1);
}

/* each batch updates rows in place: leave room on the pages, and clean up often */
static List *
matrel_options(const MrViewAnalysis *analysis)
{
	if (!analysis->has_aggregates)
		return NIL;
	return list_make4(storage_option("fillfactor", analysis->nkeys == 0 ? "10" : "70"),
					  storage_option("autovacuum_vacuum_threshold", "1000"),
					  storage_option("autovacuum_vacuum_scale_factor", "0.05"),
					  storage_option("autovacuum_vacuum_cost_delay", "0"));
}

static List *
matrel_columns(const MrViewAnalysis *analysis)
{
	List	   *columns = NIL;
	ListCell   *lc;

	foreach(lc, analysis->columns)
	{
		MrMatrelColumn *column = lfirst(lc);

		columns = lappend(columns, makeColumnDef(column->name, column->type,
												 column->typmod, column->collation));
	}
	return columns;
}

IndexElem *
mr_relations_index_column(const char *name)
{
	IndexElem  *elem = makeNode(IndexElem);

	elem->name = pstrdup(name);
	elem->ordering = SORTBY_DEFAULT;
	elem->nulls_ordering = SORTBY_NULLS_DEFAULT;
	return elem;
}

/* the key that the merge looks groups up by; NULL is a group */
static void
create_key_index(const char *view, Oid namespace, Oid matrel, const MrViewAnalysis *analysis)
{
	IndexStmt  *stmt = makeNode(IndexStmt);
	ListCell   *lc;

	foreach(lc, analysis->columns)
	{
		MrMatrelColumn *column = lfirst(lc);

		if (column->is_key)
			stmt->indexParams = lappend(stmt->indexParams, mr_relations_index_column(column->name));
	}
	stmt->idxname = mr_relations_part_name(view, "mrel_key", namespace, InvalidOid);
	stmt->relation = makeRangeVar(get_namespace_name(namespace), get_rel_name(matrel), -1);
	stmt->accessMethod = "btree";
	stmt->unique = true;
	stmt->nulls_not_distinct = true;
	stmt->transformed = true;
	mr_define_index(matrel, stmt);
	CommandCounterIncrement();
}

/* which rows are the oldest; the column never changes, so updates stay HOT */
void
mr_relations_create_expiry_index(const char *view, Oid matrel, const char *column)
{
	Oid			namespace = get_rel_namespace(matrel);
	IndexStmt  *stmt = makeNode(IndexStmt);
	MrOwnerScope scope;

	stmt->indexParams = list_make1(mr_relations_index_column(column));
	stmt->idxname = mr_relations_part_name(view, "mrel_age", namespace, InvalidOid);
	stmt->relation = makeRangeVar(get_namespace_name(namespace), get_rel_name(matrel), -1);
	stmt->accessMethod = "btree";
	stmt->transformed = true;
	mr_owner_enter(&scope);
	mr_define_index(matrel, stmt);
	mr_owner_leave(&scope);
	CommandCounterIncrement();
}

/* could ANALYZE of the type call a function of somebody who is no superuser? */
static bool
is_analyzed_by_user_code(Oid type)
{
	TypeCacheEntry *entry;
	Oid			element = get_element_type(type);

	if (OidIsValid(element))
		return is_analyzed_by_user_code(element);
	type = getBaseType(type);
	if (get_typtype(type) == TYPTYPE_MULTIRANGE)
		type = get_multirange_range(type);
	if (get_typtype(type) != TYPTYPE_RANGE)
		return false;
	entry = lookup_type_cache(type, TYPECACHE_RANGE_INFO);
	return OidIsValid(entry->rng_subdiff_finfo.fn_oid) &&
		entry->rng_subdiff_finfo.fn_oid >= FirstNormalObjectId;
}

/* the schema's owner may have given a name that we used to another table meanwhile */
static void
refuse_renamed(Oid matrel)
{
	ereport(ERROR,
			errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			errmsg("schema of table \"%s\" was renamed by somebody else", get_rel_name(matrel)),
			errhint("Try again."));
}

/*
 * ANALYZE runs with the rights of the table's owner, here a superuser: keep it off types
 * whose statistics are made by functions of users.
 */
static void
limit_analyze(Oid matrel)
{
	const char *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(matrel)),
												  get_rel_name(matrel));
	Relation	rel = table_open(matrel, AccessShareLock);
	TupleDesc	desc = CreateTupleDescCopy(RelationGetDescr(rel));
	MrCatalogScope scope;

	table_close(rel, AccessShareLock);
	mr_catalog_begin(&scope);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (!is_analyzed_by_user_code(attr->atttypid))
			continue;
		SPI_execute(psprintf("ALTER TABLE %s ALTER COLUMN %s SET STATISTICS 0",
							 name, quote_identifier(NameStr(attr->attname))), false, 0);
		SPI_execute(psprintf("SELECT FROM pg_catalog.pg_attribute"
							 " WHERE attrelid = %u AND attnum = %d AND attstattarget = 0",
							 attr->attrelid, attr->attnum), false, 0);
		if (SPI_processed == 0)
			refuse_renamed(attr->attrelid);
	}
	mr_catalog_end(&scope);
}

Oid
mr_relations_create_matrel(const char *view, Oid namespace, const MrViewAnalysis *analysis)
{
	char	   *name = mr_relations_part_name(view, "mrel", namespace, InvalidOid);
	CreateStmt *stmt = create_stmt(name, namespace, matrel_columns(analysis));
	ObjectAddress address;
	MrOwnerScope scope;

	stmt->accessMethod = "heap";
	stmt->options = matrel_options(analysis);
	mr_owner_enter(&scope);
	address = DefineRelation(stmt, RELKIND_RELATION, InvalidOid, NULL, NULL);
	CommandCounterIncrement();
	mr_access_list_clear(address.objectId);
	NewRelationCreateToastTable(address.objectId, (Datum) 0);
	if (analysis->nkeys > 0)
		create_key_index(view, namespace, address.objectId, analysis);
	limit_analyze(address.objectId);
	mr_owner_leave(&scope);
	mr_relations_grant_select(address.objectId, GetUserId(), true, false);
	return address.objectId;
}

/*
 * Shadows
 */

static List *
columns_of(Relation rel)
{
	List	   *columns = NIL;

	for (int i = 0; i < RelationGetDescr(rel)->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), i);

		columns = lappend(columns, makeColumnDef(NameStr(attr->attname), attr->atttypid,
												 attr->atttypmod, attr->attcollation));
	}
	return columns;
}

static List *
options_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		isnull;
	Datum		options = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_reloptions, &isnull);
	List	   *result = isnull ? NIL : untransformRelOptions(options);

	ReleaseSysCache(tuple);
	return result;
}

/* in the extension's schema, where nobody else's names are */
static Oid
create_like(const char *name, Relation matrel)
{
	CreateStmt *stmt = create_stmt(name, mr_catalog_schema_oid(), columns_of(matrel));
	ObjectAddress address;

	stmt->accessMethod = "heap";
	stmt->options = options_of(RelationGetRelid(matrel));
	stmt->relation->relpersistence = matrel->rd_rel->relpersistence;
	if (OidIsValid(matrel->rd_rel->reltablespace))
		stmt->tablespacename = get_tablespace_name(matrel->rd_rel->reltablespace);
	address = DefineRelation(stmt, RELKIND_RELATION, InvalidOid, NULL, NULL);
	CommandCounterIncrement();
	mr_access_list_clear(address.objectId);
	NewRelationCreateToastTable(address.objectId, (Datum) 0);
	limit_analyze(address.objectId);
	return address.objectId;
}

Oid
mr_relations_create_shadow(const char *view, Oid matrel)
{
	Relation	rel = table_open(matrel, AccessShareLock);
	char	   *name = mr_relations_part_name(view, "rebuild", mr_catalog_schema_oid(), InvalidOid);
	MrOwnerScope scope;
	Oid			result;
	ListCell   *lc;

	mr_owner_enter(&scope);
	result = create_like(name, rel);
	foreach(lc, RelationGetIndexList(rel))
	{
		IndexStmt  *stmt = mr_swap_index_stmt(lfirst_oid(lc));

		stmt->relation = makeRangeVar(MR_SCHEMA, name, -1);
		mr_define_index(result, stmt);
		CommandCounterIncrement();
	}
	mr_owner_leave(&scope);
	table_close(rel, NoLock);
	return result;
}

void
mr_relations_depend_shadow(const MrView *shadow)
{
	mr_relations_depend_table(shadow->matrel, shadow->target);
}

void
mr_relations_drop_shadow(const MrView *shadow)
{
	ObjectAddress address;

	(void) deleteDependencyRecordsForSpecific(RelationRelationId, shadow->matrel,
											  DEPENDENCY_INTERNAL,
											  RelationRelationId, shadow->target);
	CommandCounterIncrement();
	ObjectAddressSet(address, RelationRelationId, shadow->matrel);
	performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
}

void
mr_relations_check_matrel(Relation matrel, const List *columns)
{
	TupleDesc	desc = RelationGetDescr(matrel);
	bool		same = desc->natts == list_length(columns);
	ListCell   *lc;

	foreach(lc, columns)
	{
		int			i = foreach_current_index(lc);

		same = same && !TupleDescAttr(desc, i)->attisdropped &&
			TupleDescAttr(desc, i)->atttypid == ((MrMatrelColumn *) lfirst(lc))->type;
	}
	if (!same)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("columns of table \"%s\" do not fit its continuous view",
					   RelationGetRelationName(matrel)),
				errdetail("An aggregate may have been replaced by another one."),
				errhint("Drop the continuous view and create it again."));
}

void
mr_relations_grant_select(Oid relid, Oid role, bool grant, bool option)
{
	GrantStmt  *stmt = makeNode(GrantStmt);
	AccessPriv *privilege = makeNode(AccessPriv);
	RoleSpec   *grantee = makeNode(RoleSpec);
	MrOwnerScope scope;

	grantee->roletype = ROLESPEC_CSTRING;
	grantee->rolename = GetUserNameFromId(role, false);
	grantee->location = -1;
	privilege->priv_name = "select";
	stmt->is_grant = grant;
	stmt->targtype = ACL_TARGET_OBJECT;
	stmt->objtype = OBJECT_TABLE;
	stmt->objects = list_make1(makeRangeVar(get_namespace_name(get_rel_namespace(relid)),
											get_rel_name(relid), -1));
	stmt->privileges = list_make1(privilege);
	stmt->grantees = list_make1(grantee);
	stmt->grant_option = option;
	stmt->behavior = DROP_RESTRICT;
	mr_owner_enter(&scope);
	ExecuteGrantStmt(stmt);
	mr_owner_leave(&scope);
	CommandCounterIncrement();
	if (grant && pg_class_aclcheck(relid, role, ACL_SELECT) != ACLCHECK_OK)
		refuse_renamed(relid);
}

/*
 * Dependencies
 */

/* is there a dependency of the relation on the object? */
static bool
depends_on(Oid relid, Oid refclass, Oid refobj)
{
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, DependDependerIndexId, true, NULL, 2, key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		found = form->refclassid == refclass && form->refobjid == refobj;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

static void
depend_once(Oid relid, Oid refclass, Oid refobj, DependencyType type)
{
	ObjectAddress part;
	ObjectAddress whole;

	if (depends_on(relid, refclass, refobj))
		return;
	ObjectAddressSet(part, RelationRelationId, relid);
	ObjectAddressSet(whole, refclass, refobj);
	recordDependencyOn(&part, &whole, type);
}

/*
 * The reader's rule needs the matrel, and the matrel goes with the reader: a circle, as that
 * of a serial column and its sequence.  A transform goes with its sink.
 */
void
mr_relations_depend(const MrView *view)
{
	if (OidIsValid(view->sink))
	{
		depend_once(view->view, RelationRelationId, view->sink, DEPENDENCY_NORMAL);
		return;
	}
	depend_once(view->definition, RelationRelationId, view->view, DEPENDENCY_INTERNAL);
	mr_relations_depend_table(view->matrel, view->view);
}

void
mr_relations_depend_table(Oid table, Oid view)
{
	depend_once(table, RelationRelationId, view, DEPENDENCY_INTERNAL);
	depend_once(table, ForeignDataWrapperRelationId,
				get_foreign_data_wrapper_oid(MR_FDW, false), DEPENDENCY_NORMAL);
}
