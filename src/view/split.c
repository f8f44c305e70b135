/*
 * view/split.c
 *		Finds the one level of a declared query that the matrel takes the place of.
 *
 * A query is a tree of levels: subqueries in FROM, CTEs, branches of set operations,
 * sublinks.  Each level gets a class by what reaches it from a stream:
 *
 *	none		no row of a stream; can be evaluated whenever we like
 *	rows		each message makes rows of its own, whatever the others are
 *	appended	as rows, but shown in an order, cut off, or seen through windows
 *	states		made from groups of messages, or one chosen of each group
 *
 * Everything of class rows is the batch's.  The first level above it that aggregates, or
 * chooses by DISTINCT ON, is the split level: its groups and states are what the matrel keeps, and whatever stands
 * above is evaluated at read.  Without any aggregation, the first level that orders or
 * cuts is it, or else the topmost: its rows are appended.
 *
 * The alternative, to split at the topmost aggregation, would lose the lower one's
 * groups; a matrel per level would need the upper one's rows retracted.
 *
 * References to CTEs are followed to the CTE; each is classified once.  Ordinary views
 * are looked into, because they may wrap a stream; they must not do more than class rows.
 */
#include "millrace.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteManip.h"
#include "stream/option.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "view/choice.h"
#include "view/split.h"

typedef enum Reads
{
	READS_NONE,
	READS_ROWS,
	READS_APPENDED,
	READS_STATES
} Reads;

/* a query and where it stands; lives on the stack */
typedef struct Level
{
	Query	   *query;
	struct Level *parent;
	bool		in_expression;	/* of a sublink */
	Oid			in_view;		/* ordinary view whose body this is */
	bool		recursive;		/* body of a recursive CTE */
} Level;

/* a CTE that has been classified */
typedef struct CteClass
{
	CommonTableExpr *cte;
	Reads		reads;
} CteClass;

typedef struct Finder
{
	List	   *found;			/* candidate split levels, Query * */
	List	   *outers;			/* for each, the queries around it */
	List	   *ctes;			/* CteClass * */
} Finder;

typedef struct SublinkContext
{
	Finder	   *finder;
	Level	   *level;
	Reads		from;			/* class of the level's FROM */
	Reads		reads;
} SublinkContext;

static Reads classify_query(Finder *finder, Query *query, Level *parent, const Level *like);
static Reads classify_rte(Finder *finder, Level *level, RangeTblEntry *rte);

/* does the level make groups of its input, plain DISTINCT included? */
bool
mr_split_is_aggregation(const Query *query)
{
	return query->hasAggs || query->groupClause != NIL || query->groupingSets != NIL ||
		query->havingQual != NULL ||
		(query->distinctClause != NIL && !query->hasDistinctOn &&
		 !query->hasWindowFuncs && query->setOperations == NULL);
}

/* does it look at its rows together, in a way that is no aggregation? */
static bool
is_cut(const Query *query)
{
	return query->limitCount != NULL || query->limitOffset != NULL ||
		query->hasWindowFuncs || query->distinctClause != NIL;
}

/* name and place of what makes is_cut true */
static const char *
cut_name(const Query *query, int *location)
{
	*location = -1;
	if (query->limitCount != NULL || query->limitOffset != NULL)
	{
		*location = exprLocation(query->limitCount != NULL ?
								 query->limitCount : query->limitOffset);
		return query->limitCount != NULL ? "LIMIT" : "OFFSET";
	}
	if (query->hasWindowFuncs)
		return "a window function";
	return query->hasDistinctOn ? "DISTINCT ON" : "DISTINCT";
}

static void
remember_level(Finder *finder, Level *level)
{
	List	   *outer = NIL;

	for (Level *l = level->parent; l != NULL; l = l->parent)
		outer = lappend(outer, l->query);
	finder->found = lappend(finder->found, level->query);
	finder->outers = lappend(finder->outers, outer);
}

/* the query of an ordinary view, locked; NULL for anything else */
Query *
mr_relation_view_query(Oid relid)
{
	Relation	rel;
	Query	   *query;

	if (get_rel_relkind(relid) != RELKIND_VIEW)
		return NULL;
	rel = table_open(relid, AccessShareLock);
	query = copyObject(get_view_query(rel));
	table_close(rel, NoLock);
	return query;
}

/* a view whose rows come from a stream, one by one */
bool
mr_relation_is_row_view(Oid relid)
{
	Query	   *query = mr_relation_view_query(relid);
	Finder		finder = {0};
	Level		like = {.in_view = relid};

	return query != NULL && classify_query(&finder, query, NULL, &like) != READS_NONE;
}

static Reads
classify_view(Finder *finder, Oid relid)
{
	Query	   *query = mr_relation_view_query(relid);
	Level		like = {.in_view = relid};

	check_stack_depth();
	return classify_query(finder, query, NULL, &like);
}

/* a table whose children include a stream would be read again with every batch */
static void
check_inheritance(Oid relid)
{
	List	   *children;
	ListCell   *lc;

	if (!has_subclass(relid))
		return;
	/* the table itself is one of them, even if it has no others any more */
	children = find_all_inheritors(relid, AccessShareLock, NULL);
	if (list_length(children) == 1)
		return;
	foreach(lc, children)
	{
		if (mr_is_stream(lfirst_oid(lc)))
			mr_refuse(-1,
					  errmsg("table \"%s\" with a stream among its partitions or children is not supported in a continuous view",
							 get_rel_name(relid)),
					  errhint("Select from the stream itself, or from a UNION ALL of streams."));
	}
}

static Reads
classify_relation(Finder *finder, RangeTblEntry *rte)
{
	if (rte->relkind == RELKIND_VIEW)
		return classify_view(finder, rte->relid);
	if (rte->inh && rte->relkind != RELKIND_MATVIEW)
		check_inheritance(rte->relid);
	if (!mr_split_is_stream(rte->relid))
		return READS_NONE;
	if (!rte->inh && rte->relkind == RELKIND_PARTITIONED_TABLE)
		mr_refuse(-1,
				  errmsg("ONLY with a partitioned table is not supported in a continuous view"),
				  errhint("Leave out ONLY; the table itself holds no rows."));
	if (rte->tablesample != NULL)
		mr_refuse(rte->tablesample->repeatable ? exprLocation((Node *) rte->tablesample->repeatable) : -1,
				  errmsg("TABLESAMPLE is not supported in a continuous view"),
				  errhint("Filter on a column in WHERE instead."));
	return READS_ROWS;
}

/* the level that holds the CTE that rte refers to, and the CTE */
static Level *
find_cte(Level *level, RangeTblEntry *rte, CommonTableExpr **cte)
{
	ListCell   *lc;

	for (Index i = 0; i < rte->ctelevelsup && level != NULL; i++)
		level = level->parent;
	if (level != NULL)
	{
		foreach(lc, level->query->cteList)
		{
			*cte = lfirst_node(CommonTableExpr, lc);
			if (strcmp((*cte)->ctename, rte->ctename) == 0)
				return level;
		}
	}
	elog(ERROR, "could not find common table expression \"%s\"", rte->ctename);
	return NULL;				/* not reached */
}

static Reads
classify_cte(Finder *finder, Level *level, RangeTblEntry *rte)
{
	CommonTableExpr *cte;
	Level	   *holder;
	Level		like;
	CteClass   *class;
	ListCell   *lc;

	if (rte->self_reference)
		return READS_NONE;
	holder = find_cte(level, rte, &cte);
	foreach(lc, finder->ctes)
	{
		class = lfirst(lc);
		if (class->cte == cte)
			return class->reads;
	}

	like = *holder;
	like.recursive = cte->cterecursive;
	class = palloc(sizeof(CteClass));
	class->cte = cte;
	class->reads = classify_query(finder, castNode(Query, cte->ctequery), holder, &like);
	finder->ctes = lappend(finder->ctes, class);

	if (cte->cterecursive && class->reads == READS_ROWS)
		mr_refuse(cte->location,
				  errmsg("recursive query \"%s\" over a stream is not supported in a continuous view",
						 cte->ctename),
				  errhint("Recurse over ordinary tables only, and join the result."));
	return class->reads;
}

static Reads
classify_rte(Finder *finder, Level *level, RangeTblEntry *rte)
{
	switch (rte->rtekind)
	{
		case RTE_RELATION:
			return classify_relation(finder, rte);
		case RTE_SUBQUERY:
			return classify_query(finder, rte->subquery, level, level);
		case RTE_CTE:
			return classify_cte(finder, level, rte);
		default:
			return READS_NONE;
	}
}

/* class of two things joined */
static Reads
combine_joined(Reads a, Reads b)
{
	if (a == READS_NONE || b == READS_NONE)
		return Max(a, b);
	if (a == READS_ROWS && b == READS_ROWS)
		mr_refuse(-1,
				  errmsg("a join of two streams is not supported in a continuous view"),
				  mr_split_over_tables() ?
				  errhint("Detach the table whose INSERTs the view need not follow; one that is not attached can be joined.") :
				  errhint("Write one of them to an ordinary table and join that, or combine the streams with UNION ALL."));
	if (a == READS_ROWS || b == READS_ROWS)
		mr_refuse(-1,
				  errmsg("a join of a stream with an aggregation over a stream is not supported in a continuous view"),
				  errhint("Make a continuous view of the aggregation and join the two when selecting."));
	return Max(a, b);
}

static void
check_outer_join(const JoinExpr *join, Reads left, Reads right)
{
	if (join->jointype == JOIN_FULL && (left == READS_ROWS || right == READS_ROWS))
		mr_refuse(-1,
				  errmsg("FULL JOIN with a stream is not supported in a continuous view"),
				  errhint("Use LEFT JOIN with the stream on the left side."));
	if ((join->jointype == JOIN_LEFT && right == READS_ROWS) ||
		(join->jointype == JOIN_RIGHT && left == READS_ROWS))
		mr_refuse(-1,
				  errmsg("an outer join with the stream on its nullable side is not supported in a continuous view"),
				  errhint("Use LEFT JOIN with the stream on the left side, or an inner join."));
}

static Reads
classify_from(Finder *finder, Level *level, Node *jtnode)
{
	Reads		reads = READS_NONE;
	ListCell   *lc;

	if (jtnode == NULL)
		return READS_NONE;
	check_stack_depth();
	if (IsA(jtnode, RangeTblRef))
		return classify_rte(finder, level,
							rt_fetch(((RangeTblRef *) jtnode)->rtindex, level->query->rtable));
	if (IsA(jtnode, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) jtnode;
		Reads		left = classify_from(finder, level, join->larg);
		Reads		right = classify_from(finder, level, join->rarg);

		reads = combine_joined(left, right);
		check_outer_join(join, left, right);
		return reads;
	}
	foreach(lc, castNode(FromExpr, jtnode)->fromlist)
		reads = combine_joined(reads, classify_from(finder, level, lfirst(lc)));
	return reads;
}

static void
refuse_set_operation(const SetOperationStmt *setop)
{
	const char *name = setop->op == SETOP_UNION ? "UNION" :
	setop->op == SETOP_INTERSECT ? "INTERSECT" : "EXCEPT";

	if (setop->op == SETOP_UNION)
		mr_refuse(-1,
				  errmsg("UNION of streams is not supported in a continuous view"),
				  errhint("Use UNION ALL, or SELECT DISTINCT over a subquery with UNION ALL."));
	mr_refuse(-1,
			  errmsg("%s over streams is not supported in a continuous view", name),
			  errhint("Use UNION ALL, or a semi- or anti-join (EXISTS, NOT EXISTS) with an ordinary table."));
}

/* class of two branches of a set operation */
static Reads
combine_branches(Level *level, const SetOperationStmt *setop, Reads a, Reads b)
{
	if (a != READS_ROWS && b != READS_ROWS)
		return Max(a, b);
	if (level->recursive)
		return READS_ROWS;		/* the CTE says it better */
	if (setop->op != SETOP_UNION)
		refuse_set_operation(setop);
	if (a == READS_NONE || b == READS_NONE)
		mr_refuse(-1,
				  errmsg("UNION of a stream with something that is no stream is not supported in a continuous view"),
				  errdetail("The other branch's rows would be counted again with every batch of messages."),
				  errhint("Combine the two when selecting from the view."));
	if (a != b)
		mr_refuse(-1,
				  errmsg("UNION of a stream with an aggregation over a stream is not supported in a continuous view"),
				  errhint("Aggregate once, above a UNION ALL of the streams, or create a view for each branch."));
	if (!setop->all)
		refuse_set_operation(setop);
	return READS_ROWS;
}

static Reads
classify_setop(Finder *finder, Level *level, Node *node)
{
	SetOperationStmt *setop;
	Reads		left;
	Reads		right;

	check_stack_depth();
	if (IsA(node, RangeTblRef))
		return classify_rte(finder, level,
							rt_fetch(((RangeTblRef *) node)->rtindex, level->query->rtable));
	setop = castNode(SetOperationStmt, node);
	left = classify_setop(finder, level, setop->larg);
	right = classify_setop(finder, level, setop->rarg);
	return combine_branches(level, setop, left, right);
}

static bool
sublink_walker(Node *node, SublinkContext *context)
{
	if (node == NULL || IsA(node, Query))
		return false;
	if (IsA(node, SubLink))
	{
		SubLink    *sublink = (SubLink *) node;
		Level		like = *context->level;
		Reads		reads;

		like.in_expression = true;
		reads = classify_query(context->finder, castNode(Query, sublink->subselect),
							   context->level, &like);
		if (reads != READS_NONE &&
			(reads == READS_ROWS || context->from == READS_ROWS))
			mr_refuse(sublink->location,
					  errmsg("a subquery in an expression that reads a stream is not supported in a continuous view"),
					  errhint("Let subqueries in expressions read ordinary tables, and keep the stream in FROM."));
		context->reads = Max(context->reads, reads);
		return sublink_walker(sublink->testexpr, context);
	}
	return expression_tree_walker(node, sublink_walker, context);
}

static Reads
classify_sublinks(Finder *finder, Level *level, Reads from)
{
	SublinkContext context = {finder, level, from, from};

	query_tree_walker(level->query, sublink_walker, &context,
					  QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES | QTW_IGNORE_JOINALIASES);
	return context.reads;
}

static void
refuse_inner(const Level *level, const char *what, int location)
{
	if (OidIsValid(level->in_view))
		mr_refuse(-1,
				  errmsg("%s in view \"%s\" over a stream is not supported in a continuous view",
						 what, get_rel_name(level->in_view)),
				  errhint("Write it in the query of the continuous view itself."));
	if (level->in_expression)
		mr_refuse(location,
				  errmsg("%s over a stream in a subquery in an expression is not supported in a continuous view",
						 what),
				  errhint("Move the subquery to FROM or to WITH."));
}

/* an aggregation above something that is only evaluated at read */
static void
refuse_cut_below(Finder *finder)
{
	Query	   *cut = llast_node(Query, finder->found);
	int			location;
	const char *name = cut_name(cut, &location);

	mr_refuse(location,
			  errmsg("%s below an aggregation over a stream is not supported in a continuous view",
					 name),
			  errhint("Aggregate the stream's rows first, and order, number or cut off the groups; or create a view without the aggregation and aggregate when selecting from it."));
}

/*
 * like: whose flags the query inherits.
 */
static Reads
classify_query(Finder *finder, Query *query, Level *parent, const Level *like)
{
	Level		level = *like;
	Reads		reads;

	check_stack_depth();
	level.query = query;
	level.parent = parent;

	if (query->setOperations != NULL)
		reads = classify_setop(finder, &level, query->setOperations);
	else
		reads = classify_from(finder, &level, (Node *) query->jointree);
	reads = classify_sublinks(finder, &level, reads);

	if (mr_split_is_aggregation(query) && reads == READS_APPENDED)
		refuse_cut_below(finder);
	if (reads != READS_ROWS)
		return reads;
	if (mr_split_is_aggregation(query))
	{
		refuse_inner(&level, "aggregation", -1);
		remember_level(finder, &level);
		return READS_STATES;
	}
	if (mr_choice_is_made(query))
	{
		refuse_inner(&level, "DISTINCT ON", -1);
		remember_level(finder, &level);
		return READS_STATES;
	}
	if (is_cut(query))
	{
		int			location;
		const char *name = cut_name(query, &location);

		refuse_inner(&level, name, location);
		remember_level(finder, &level);
		return READS_APPENDED;
	}
	return READS_ROWS;
}

/*
 * Take from the reader's half the CTEs whose rows only the batch reads, and those that
 * nobody refers to.  To be called when the batch's half has its copies.
 */
void
mr_split_drop_ctes(MrSplit *split)
{
	List	   *queries = lcons(split->level, list_copy(split->outer));
	ListCell   *lc;

	foreach(lc, queries)
	{
		Query	   *query = lfirst_node(Query, lc);
		List	   *keep = NIL;
		ListCell   *lc2;

		foreach(lc2, query->cteList)
		{
			if (list_member_ptr(split->kept_ctes, lfirst(lc2)))
				keep = lappend(keep, lfirst(lc2));
		}
		query->cteList = keep;
		query->hasRecursive = query->hasRecursive && keep != NIL;
	}
}

/*
 * Fill level and outer, from whole.  Errors when there is no stream, when there are
 * several split levels, or when something between stream and split is more than rows.
 */
void
mr_split_find(MrSplit *split)
{
	Finder		finder = {0};
	Level		like = {0};
	Reads		reads = classify_query(&finder, split->whole, NULL, &like);
	ListCell   *lc;

	if (reads == READS_NONE)
		mr_refuse(-1,
				  errmsg("a continuous view must read a stream"),
				  errhint("A stream is a foreign table of foreign-data wrapper \"%s\", or a table given to millrace.attach_table(); name one in FROM.",
						  MR_FDW));
	if (list_length(finder.found) > 1)
		mr_refuse(-1,
				  errmsg("more than one aggregation over streams is not supported in a continuous view"),
				  errhint("Aggregate once, above a UNION ALL of the streams, or create a view for each aggregation."));
	split->level = split->whole;
	split->outer = NIL;
	if (finder.found != NIL)
	{
		split->level = linitial(finder.found);
		split->outer = linitial(finder.outers);
	}
	foreach(lc, finder.ctes)
	{
		CteClass   *class = lfirst(lc);

		if (class->reads != READS_ROWS)
			split->kept_ctes = lappend(split->kept_ctes, class->cte);
	}
}

/* the query that holds the CTE rte refers to; around: queries around, innermost first */
static CommonTableExpr *
lookup_cte(List *around, RangeTblEntry *rte)
{
	Query	   *holder;
	ListCell   *lc;

	if (rte->ctelevelsup >= list_length(around))
		elog(ERROR, "could not find common table expression \"%s\"", rte->ctename);
	holder = list_nth(around, rte->ctelevelsup);
	foreach(lc, holder->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);

		if (strcmp(cte->ctename, rte->ctename) == 0)
			return cte;
	}
	elog(ERROR, "could not find common table expression \"%s\"", rte->ctename);
	return NULL;				/* not reached */
}

static void
inline_cte(RangeTblEntry *rte, CommonTableExpr *cte)
{
	Query	   *subquery = castNode(Query, copyObject(cte->ctequery));

	/* one level for each query between the CTE's holder and the reference */
	if (rte->ctelevelsup > 0)
		IncrementVarSublevelsUp((Node *) subquery, rte->ctelevelsup, 1);
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = subquery;
	rte->security_barrier = false;
	rte->ctename = NULL;
	rte->ctelevelsup = 0;
	rte->self_reference = false;
	rte->coltypes = NIL;
	rte->coltypmods = NIL;
	rte->colcollations = NIL;
}

static bool
inline_walker(Node *node, List **around)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		mr_split_inline_ctes((Query *) node, *around);
		return false;
	}
	return expression_tree_walker(node, inline_walker, around);
}

/*
 * Make the query stand alone: references to CTEs become subqueries, but for recursive
 * ones, which must be the query's own.  Below the split nothing is volatile, so that it
 * does not matter how often a CTE is evaluated.  outer: queries around, innermost first.
 */
void
mr_split_inline_ctes(Query *query, List *outer)
{
	List	   *around = lcons(query, list_copy(outer));
	List	   *recursive = NIL;
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);
		CommonTableExpr *cte;

		if (rte->rtekind != RTE_CTE || rte->self_reference)
			continue;
		cte = lookup_cte(around, rte);
		if (!cte->cterecursive)
			inline_cte(rte, cte);
	}
	query_tree_walker(query, inline_walker, &around, 0);

	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst_node(CommonTableExpr, lc);

		if (cte->cterecursive)
			recursive = lappend(recursive, cte);
	}
	query->cteList = recursive;
	query->hasRecursive = recursive != NIL;
}
