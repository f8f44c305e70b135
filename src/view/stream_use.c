/*
 * view/stream_use.c
 *		Which columns of which streams a batch's query looks at.
 *
 * A field that no view reads is not decoded, so a column counts only when its value
 * matters: what a subquery or a view around the stream hands up counts only if the query
 * above uses it.  References from within subqueries to the levels around them are all
 * counted, used or not.
 */
#include "millrace.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "stream/option.h"
#include "utils/rel.h"

#include "view/split.h"

/* columns of one range table that are used; attribute 0: the whole row */
typedef struct UseContext
{
	Query	   *query;
	Bitmapset **columns;		/* by range table index */
	int			depth;
} UseContext;

static void query_uses(List **uses, Query *query, Bitmapset *used);

static bool
use_walker(Node *node, UseContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		context->depth++;
		query_tree_walker((Query *) node, use_walker, context, QTW_IGNORE_JOINALIASES);
		context->depth--;
		return false;
	}
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == context->depth)
	{
		Var		   *var = (Var *) node;
		RangeTblEntry *rte = rt_fetch(var->varno, context->query->rtable);

		if (rte->rtekind == RTE_JOIN)
		{
			int			depth = context->depth;

			context->depth = 0;
			if (var->varattno > 0)
				use_walker(list_nth(rte->joinaliasvars, var->varattno - 1), context);
			else
				use_walker((Node *) rte->joinaliasvars, context);
			context->depth = depth;
		}
		else if (var->varattno >= 0)
			context->columns[var->varno] =
				bms_add_member(context->columns[var->varno], var->varattno);
		return false;
	}
	return expression_tree_walker(node, use_walker, context);
}

/* the target entries whose values matter when only the outputs in used do */
static List *
used_targets(Query *query, Bitmapset *used)
{
	List	   *result = NIL;
	ListCell   *lc;
	bool		all = bms_is_member(0, used) || query->distinctClause != NIL;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (all || bms_is_member(tle->resno, used) || tle->ressortgroupref != 0 ||
			expression_returns_set((Node *) tle->expr))
			result = lappend(result, tle);
	}
	return result;
}

static void
add_stream(List **uses, Oid relid, Bitmapset *columns)
{
	MrStreamUse *use = NULL;
	ListCell   *lc;

	foreach(lc, *uses)
	{
		if (((MrStreamUse *) lfirst(lc))->relid == relid)
			use = lfirst(lc);
	}
	if (use == NULL)
	{
		use = palloc0(sizeof(MrStreamUse));
		use->relid = relid;
		*uses = lappend(*uses, use);
	}
	if (bms_is_member(0, columns))
	{
		Relation	rel = table_open(relid, AccessShareLock);

		for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
		{
			if (!TupleDescAttr(RelationGetDescr(rel), i)->attisdropped)
				use->attrs = bms_add_member(use->attrs, i + 1);
		}
		table_close(rel, NoLock);
	}
	use->attrs = bms_add_members(use->attrs, columns);
}

static void
rte_uses(List **uses, RangeTblEntry *rte, Bitmapset *columns)
{
	if (rte->rtekind == RTE_SUBQUERY)
		query_uses(uses, rte->subquery, columns);
	else if (rte->rtekind != RTE_RELATION)
		return;
	else if (mr_split_is_stream(rte->relid))
		add_stream(uses, rte->relid, columns);
	else if (rte->relkind == RELKIND_VIEW && mr_relation_is_row_view(rte->relid))
	{
		Query	   *query = mr_relation_view_query(rte->relid);

		mr_split_inline_ctes(query, NIL);
		query_uses(uses, query, columns);
	}
}

static bool
collect_leaves(Node *node, Bitmapset **leaves)
{
	if (node == NULL || IsA(node, Query))
		return false;
	if (IsA(node, RangeTblRef))
	{
		*leaves = bms_add_member(*leaves, ((RangeTblRef *) node)->rtindex);
		return false;
	}
	return expression_tree_walker(node, collect_leaves, leaves);
}

static void
query_uses(List **uses, Query *query, Bitmapset *used)
{
	UseContext	context = {query, NULL, 0};
	Bitmapset  *leaves = NULL;
	Query		looked = *query;
	int			rti = -1;

	check_stack_depth();
	context.columns = palloc0(sizeof(Bitmapset *) * (list_length(query->rtable) + 1));
	looked.targetList = used_targets(query, used);
	query_tree_walker(&looked, use_walker, &context, QTW_IGNORE_JOINALIASES);

	collect_leaves((Node *) query->jointree, &leaves);
	collect_leaves(query->setOperations, &leaves);
	while ((rti = bms_next_member(leaves, rti)) >= 0)
	{
		/* columns of a set operation's branches are its outputs, by position */
		rte_uses(uses, rt_fetch(rti, query->rtable),
				 query->setOperations ? used : context.columns[rti]);
	}
}

static int
compare_uses(const ListCell *a, const ListCell *b)
{
	Oid			left = ((MrStreamUse *) lfirst(a))->relid;
	Oid			right = ((MrStreamUse *) lfirst(b))->relid;

	return left < right ? -1 : left > right;
}

/*
 * The streams that the batch's query reads and their columns, by relid.
 */
List *
mr_stream_uses(Query *partial)
{
	List	   *uses = NIL;

	query_uses(&uses, partial, bms_make_singleton(0));
	list_sort(uses, compare_uses);
	return uses;
}
