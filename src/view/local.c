/*
 * view/local.c
 *		Views that follow streams inside of this database: tables whose INSERTs they take.
 *
 * To such a view, the table is what a topic is to others: the split level's rows come from
 * it.  The same partial query serves twice.  Over the table itself it computes what the table
 * holds, when the view is created or computed anew; over the rows that a transaction has
 * inserted, when that commits.  For the latter, a named tuplestore takes the table's place in
 * the query's FROM, as a transition table would, so that the planner takes nothing for granted
 * that holds for the table only: rows of a batch need not be unique where the table's are,
 * since a row may have been inserted, deleted and inserted once more.  The table stays in the
 * range table, where the executor checks the privileges for it; what row security lets the
 * view's owner see goes over to the tuplestore.
 *
 * Which attached tables a query takes for streams is decided when the view is created, and
 * kept in millrace.view_stream: tables that are attached later, or a topic in the same query,
 * do not change what a view means.
 *
 * Locking: whoever computes from a table's rows holds ShareRowExclusiveLock on it, so that each
 * row is either in what he sees or inserted after it.
 */
#include "millrace.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog_changes.h"
#include "catalog_table.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "storage/lmgr.h"
#include "stream/batch.h"
#include "stream/option.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "view/local.h"
#include "view/split.h"
#include "view/start_at.h"
#include "view/target.h"

#define DEFAULT_ROWS	100		/* for the planner, where nobody knows */

typedef struct FindContext
{
	Query	   *query;			/* around the node at hand */
	List	   *relids;			/* relations read, through views */
} FindContext;

void		(*mr_local_fill) (const MrView *view, bool from_rows) = NULL;

/* what mr_split_is_stream() takes for streams besides topics */
static const List *stream_tables = NIL;

void
mr_local_take_for_streams(const List *tables)
{
	stream_tables = tables;
}

bool
mr_split_is_stream(Oid relid)
{
	return mr_is_stream(relid) || list_member_oid(stream_tables, relid);
}

bool
mr_split_over_tables(void)
{
	return stream_tables != NIL;
}

/*
 * Which tables
 */

static bool
find_walker(Node *node, FindContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *around = context->query;

		check_stack_depth();
		context->query = (Query *) node;
		query_tree_walker((Query *) node, find_walker, context, 0);
		context->query = around;
		return false;
	}
	if (IsA(node, RangeTblRef))
	{
		RangeTblEntry *rte = rt_fetch(((RangeTblRef *) node)->rtindex, context->query->rtable);

		if (rte->rtekind != RTE_RELATION)
			return false;
		context->relids = list_append_unique_oid(context->relids, rte->relid);
		if (rte->relkind == RELKIND_VIEW)
			find_walker((Node *) mr_relation_view_query(rte->relid), context);
		return false;
	}
	return expression_tree_walker(node, find_walker, context);
}

/*
 * Rows that a statement under way has inserted are in the table, and come to the views once more when
 * that ends.
 */
static void
require_not_in_use(Oid relid)
{
	ListCell   *lc;

	foreach(lc, find_all_inheritors(relid, AccessShareLock, NULL))
	{
		Relation	rel = table_open(lfirst_oid(lc), NoLock);

		if (rel->rd_refcnt > 1)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("cannot fill a continuous view from table \"%s\" while a statement of this session uses it",
							RelationGetRelationName(rel))));
		table_close(rel, NoLock);
	}
}

/* locked, and still attached */
static bool
lock_table(Oid relid)
{
	AclResult	acl;
	Oid			view;

	LockRelationOid(relid, ShareRowExclusiveLock);
	if (get_rel_name(relid) == NULL || !mr_catalog_is_attached(relid))
		return false;
	view = mr_catalog_view_of_changes(relid);
	if (OidIsValid(view))
		mr_target_require_owner(view);
	else if ((acl = pg_class_aclcheck(relid, GetUserId(), ACL_TRIGGER)) != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_TABLE, get_rel_name(relid));
	return true;
}

List *
mr_local_tables(Query *query)
{
	List	   *attached = mr_catalog_attached_tables();
	FindContext context = {query, NIL};
	List	   *result = NIL;
	ListCell   *lc;

	if (attached == NIL)
		return NIL;
	find_walker((Node *) query, &context);
	foreach(lc, context.relids)
		if (mr_is_stream(lfirst_oid(lc)))
		return NIL;
	foreach(lc, attached)
	{
		Oid			relid = lfirst_oid(lc);

		if (list_member_oid(context.relids, relid) && lock_table(relid))
			result = lappend_oid(result, relid);
	}
	return result;
}

void
mr_local_require_not_in_use(const List *tables)
{
	ListCell   *lc;

	foreach(lc, tables)
		require_not_in_use(lfirst_oid(lc));
}

/* of a virtual generated column, which 18 has, rows have no value */
#define GENERATED_VIRTUAL	'v'

void
mr_local_check_columns(Oid relid, const Bitmapset *attrs)
{
	Relation	rel = table_open(relid, AccessShareLock);
	int			attnum = 0;		/* whole rows are no column */

	while ((attnum = bms_next_member(attrs, attnum)) >= 0)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), attnum - 1);

		if (attr->attgenerated == GENERATED_VIRTUAL)
			ereport(ERROR,
					errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("virtual generated column \"%s\" of table \"%s\" is not supported in a continuous view",
						   NameStr(attr->attname), RelationGetRelationName(rel)),
					errhint("Write its expression in the query, or make the column STORED."));
	}
	table_close(rel, NoLock);
}

/*
 * In the place of tables
 */

static char *
rows_name(Oid relid)
{
	return psprintf("rows of %u", relid);
}

/* how many rows the planner should expect */
static double
expected_rows(Oid relid)
{
	QueryEnvironment *environment = mr_scan_environment();
	EphemeralNamedRelation rows = get_ENR(environment, rows_name(relid));

	return rows == NULL ? DEFAULT_ROWS : rows->md.enrtuples;
}

/*
 * All that the table has now, named as well: the planner makes room by the names, and reckons the
 * width of a whole row by the table's columns, of which there may be more than when the view was made.
 */
static void
add_columns(RangeTblEntry *rte, TupleDesc desc)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);
		bool		dropped = attr->attisdropped;

		if (i >= list_length(rte->eref->colnames))
			rte->eref->colnames = lappend(rte->eref->colnames,
										  makeString(dropped ? "" : pstrdup(NameStr(attr->attname))));
		rte->coltypes = lappend_oid(rte->coltypes, dropped ? InvalidOid : attr->atttypid);
		rte->coltypmods = lappend_int(rte->coltypmods, dropped ? 0 : attr->atttypmod);
		rte->colcollations = lappend_oid(rte->colcollations, dropped ? InvalidOid : attr->attcollation);
	}
}

static RangeTblEntry *
make_rows_rte(const RangeTblEntry *table)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	Relation	rel = table_open(table->relid, AccessShareLock);

	rte->rtekind = RTE_NAMEDTUPLESTORE;
	rte->relid = table->relid;
	rte->enrname = rows_name(table->relid);
	rte->enrtuples = expected_rows(table->relid);
	rte->alias = copyObject(table->alias);
	rte->eref = copyObject(table->eref);
	rte->inFromCl = table->inFromCl;
	add_columns(rte, RelationGetDescr(rel));
	table_close(rel, NoLock);
	return rte;
}

static void
substitute(Query *query, Index rti)
{
	RangeTblEntry *table = rt_fetch(rti, query->rtable);
	RangeTblEntry *rows = make_rows_rte(table);

	query->rtable = lappend(query->rtable, rows);
	ChangeVarNodes((Node *) query, rti, list_length(query->rtable), 0);
	rows->securityQuals = table->securityQuals;
	table->securityQuals = NIL;
}

static bool
substitute_walker(Node *node, const List *tables)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		int			n = list_length(query->rtable);

		for (int rti = 1; rti <= n; rti++)
		{
			RangeTblEntry *rte = rt_fetch(rti, query->rtable);

			if (rte->rtekind == RTE_RELATION && list_member_oid(tables, rte->relid))
				substitute(query, rti);
		}
		return query_tree_walker(query, substitute_walker, unconstify(List *, tables), 0);
	}
	return expression_tree_walker(node, substitute_walker, unconstify(List *, tables));
}

void
mr_local_substitute(Query *query, const List *tables)
{
	(void) substitute_walker((Node *) query, tables);
}

void
mr_local_provide(QueryEnvironment *environment, Oid relid, TupleDesc desc,
				 Tuplestorestate *store, double rows)
{
	EphemeralNamedRelation relation = palloc0(sizeof(EphemeralNamedRelationData));

	relation->md.name = rows_name(relid);
	relation->md.tupdesc = desc;
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = rows;
	relation->reldata = store;
	register_ENR(environment, relation);
}

QueryEnvironment *
mr_local_provide_nothing(const List *tables)
{
	QueryEnvironment *result = create_queryEnv();
	ListCell   *lc;

	foreach(lc, tables)
	{
		Relation	rel = table_open(lfirst_oid(lc), AccessShareLock);

		mr_local_provide(result, lfirst_oid(lc), CreateTupleDescCopy(RelationGetDescr(rel)),
						 tuplestore_begin_heap(false, false, work_mem), 0);
		table_close(rel, NoLock);
	}
	return result;
}

/*
 * Where views begin
 */

bool
mr_local_from_beginning(const char *start_at)
{
	switch (mr_start_at_kind(start_at))
	{
		case MR_START_EARLIEST:
			return true;
		case MR_START_LATEST:
			return false;
		case MR_START_AT_TIME:
			break;
	}
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("a timestamp as start_at is not supported for a view over tables"),
			errdetail("A table does not tell when its rows were inserted."),
			errhint("Use 'earliest' for the rows that it holds and those to come, or 'latest' for the latter only."));
	return false;				/* not reached */
}

void
mr_local_recompute(const MrView *view, const char *start_at)
{
	bool		from_rows;
	List	   *tables;
	ListCell   *lc;

	LockRelationOid(view->view, AccessShareLock);
	if (mr_catalog_view(view->view) == NULL)
		return;					/* it was dropped while we waited */
	from_rows = mr_local_from_beginning(start_at ? start_at : mr_catalog_view_start_at(view->view));
	if (start_at == NULL && !from_rows)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("cannot compute continuous view \"%s\" anew from where it began", get_rel_name(view->view)),
				errdetail("A table does not tell which of its rows were inserted since then."),
				errhint("Use millrace.rebuild() with start_at => 'earliest' for all rows that the table holds, or with 'latest' to begin empty."));
	tables = mr_catalog_tables_of_view(view->view);
	foreach(lc, tables)
		LockRelationOid(lfirst_oid(lc), ShareRowExclusiveLock);
	if (from_rows)
		mr_local_require_not_in_use(tables);
	mr_local_fill(view, from_rows);
	mr_catalog_set_view_state(view->view, true, false, NULL);
	if (start_at != NULL)
		mr_catalog_set_view_start_at(view->view, from_rows ? "earliest" : "latest");
	mr_catalog_tables_of_view_changed(view->view);
}
