/*
 * view/substitute.c
 *		Aggregates that cannot be combined, but can be had from others that can.
 *
 * Those of a hypothetical set are counts (view/hypothetical.c).
 *
 * The others need their input whole.  It is kept by the aggregates of our own that collect
 * values, count_distinct(), set_agg(), array_agg() and string_agg(), and what is left to do is
 * done at read (extension/ordered.sql).  array_agg() and string_agg() can be combined from
 * PostgreSQL 16 on, but are replaced there, too: a view that pg_upgrade or a dump brings to
 * another version must have the states there that it has.
 *
 * Their states grow with the messages, so whoever creates a view must have asked for that by
 * millrace.allow_growing_states, or is told which setting and which aggregates there are.
 *
 * A call is replaced in the declared query's own terms, so everything behind the analysis
 * sees ordinary aggregates only: sliding windows and combine() follow.  What is not
 * replaced is refused where its state would be made (view/restrict.c).
 */
#include "millrace.h"

#include "catalog/pg_aggregate.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_func.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/typcache.h"

#include "view/hypothetical.h"
#include "view/split.h"
#include "view/substitute.h"

/*
 * Small expressions
 */

Expr *
mr_substitute_is_null(const Expr *expr, bool yes)
{
	NullTest   *test = makeNode(NullTest);

	test->arg = (Expr *) copyObject(expr);
	test->nulltesttype = yes ? IS_NULL : IS_NOT_NULL;
	test->argisrow = false;
	test->location = -1;
	return (Expr *) test;
}

Expr *
mr_substitute_both(Expr *a, Expr *b)
{
	return makeBoolExpr(AND_EXPR, list_make2(a, b), -1);
}

Expr *
mr_substitute_as_text(Expr *expr, Oid collation)
{
	CoerceViaIO *result = makeNode(CoerceViaIO);

	result->arg = expr;
	result->resulttype = TEXTOID;
	result->resultcollid = collation;
	result->coerceformat = COERCE_EXPLICIT_CAST;
	result->location = -1;
	return (Expr *) result;
}

static Oid
extension_function(const char *name, int nargs, const Oid *types)
{
	return LookupFuncName(list_make2(makeString(MR_SCHEMA), makeString(pstrdup(name))), nargs, types, false);
}

/* call of a function that is declared with the very types of its arguments, or with the given ones */
Expr *
mr_substitute_call(const char *name, Oid result, List *args, const Oid *declared)
{
	Oid			types[3];
	Oid			collation = InvalidOid;
	ListCell   *lc;

	foreach(lc, args)
	{
		if (declared == NULL)
			types[foreach_current_index(lc)] = exprType(lfirst(lc));
		if (OidIsValid(exprCollation(lfirst(lc))))
			collation = exprCollation(lfirst(lc));
	}
	return (Expr *) makeFuncExpr(extension_function(name, list_length(args), declared ? declared : types),
								 result, args, type_is_collatable(result) ? collation : InvalidOid,
								 collation, COERCE_EXPLICIT_CALL);
}

/*
 * The aggregates that take a call's place
 */

/* over the rows that the call looks at, and the condition holds for */
Aggref *
mr_substitute_aggregate(const Aggref *call, Oid function, Oid type, Expr *condition)
{
	Aggref	   *result = makeNode(Aggref);

	result->aggfnoid = function;
	result->aggtype = type;
	result->aggtranstype = InvalidOid;
	result->aggkind = AGGKIND_NORMAL;
	result->agglevelsup = call->agglevelsup;
	result->aggsplit = AGGSPLIT_SIMPLE;
	result->aggno = -1;
	result->aggtransno = -1;
	result->location = call->location;
	result->aggfilter = copyObject(call->aggfilter);
	if (result->aggfilter == NULL)
		result->aggfilter = condition;
	else if (condition != NULL)
		result->aggfilter = mr_substitute_both(result->aggfilter, condition);
	return result;
}

/* an aggregate of the extension's, by its declared types, over expressions */
static Expr *
collect(const Aggref *call, const char *name, const Oid *declared, Oid type, List *exprs, Expr *condition)
{
	Aggref	   *result = mr_substitute_aggregate(call, extension_function(name, list_length(exprs), declared), type, condition);
	ListCell   *lc;

	foreach(lc, exprs)
	{
		Expr	   *expr = copyObject(lfirst(lc));

		result->aggargtypes = lappend_oid(result->aggargtypes, exprType((Node *) expr));
		result->args = lappend(result->args,
							   makeTargetEntry(expr, foreach_current_index(lc) + 1, NULL, false));
		if (!OidIsValid(result->inputcollid))
			result->inputcollid = exprCollation((Node *) expr);
	}
	if (type_is_collatable(type))
		result->aggcollid = result->inputcollid;
	return (Expr *) result;
}

Expr *
mr_substitute_count_distinct(const Aggref *call, Expr *value, Expr *condition)
{
	static const Oid declared[] = {ANYELEMENTOID};

	return collect(call, "count_distinct", declared, INT8OID, list_make1(value), condition);
}

/* all values but nulls, as an array; NULL where they cannot be kept so */
static Expr *
all_values(const Aggref *call, Expr *value)
{
	static const Oid declared[] = {ANYNONARRAYOID};
	Oid			type = exprType((Node *) value);
	Oid			array = get_array_type(type);

	if (!OidIsValid(array) || OidIsValid(get_element_type(getBaseType(type))))
		return NULL;
	return collect(call, "array_agg", declared, array, list_make1(value), mr_substitute_is_null(value, false));
}

static Expr *
argument(const Aggref *call, int i)
{
	return list_nth_node(TargetEntry, call->args, i)->expr;
}

/*
 * Ordered-set aggregates
 */

/* a function of the call's own argument, if it has one, all values, and whether they descend */
static Expr *
of_all_values(const Aggref *call, const char *name, Oid declared_argument, Oid declared_values)
{
	SortGroupClause *order = linitial_node(SortGroupClause, call->aggorder);
	Expr	   *values = all_values(call, argument(call, 0));
	TypeCacheEntry *type = lookup_type_cache(exprType((Node *) argument(call, 0)),
											 TYPECACHE_LT_OPR | TYPECACHE_GT_OPR);
	Oid			declared[] = {declared_values, BOOLOID, InvalidOid};
	List	   *args;

	if (values == NULL || (order->sortop != type->lt_opr && order->sortop != type->gt_opr))
		return NULL;
	args = list_make2(values, makeBoolConst(order->sortop == type->gt_opr, false));
	if (call->aggdirectargs != NIL)
	{
		declared[2] = declared_argument;
		args = lappend(args, copyObject(linitial(call->aggdirectargs)));
	}
	return mr_substitute_call(name, call->aggtype, args, declared);
}

static Expr *
percentile_cont_of(const Aggref *call)
{
	Oid			type = exprType((Node *) argument(call, 0));

	return of_all_values(call, "percentile_cont_of", exprType(linitial(call->aggdirectargs)), get_array_type(type));
}

static Expr *
percentile_disc_of(const Aggref *call)
{
	return of_all_values(call, "percentile_disc_of", exprType(linitial(call->aggdirectargs)), ANYARRAYOID);
}

static Expr *
mode_of(const Aggref *call)
{
	return of_all_values(call, "mode_of", InvalidOid, ANYARRAYOID);
}

/*
 * Aggregates over values that are distinct, or in an order
 */

static Expr *
count_of(const Aggref *call)
{
	if (call->aggdistinct == NIL ||
		!mr_restrict_is_default_equality(linitial_node(SortGroupClause, call->aggdistinct)->eqop, argument(call, 0)))
		return NULL;
	return mr_substitute_count_distinct(call, argument(call, 0), NULL);
}

/* the one expression that a call is ordered by, ascending and nulls last; NULL where that is not all */
static Expr *
simple_order(const Aggref *call)
{
	SortGroupClause *order = linitial_node(SortGroupClause, call->aggorder);
	Expr	   *expr = get_sortgroupclause_tle(order, call->args)->expr;
	TypeCacheEntry *type = lookup_type_cache(exprType((Node *) expr), TYPECACHE_LT_OPR);

	if (list_length(call->aggorder) > 1 || order->nulls_first || order->sortop != type->lt_opr)
		return NULL;
	return expr;
}

/* an expression under a collation, if it has another one */
static Expr *
collated(Expr *expr, Oid collation)
{
	Oid			own = exprCollation((Node *) expr);
	CollateExpr *result;

	if (!OidIsValid(collation) || !OidIsValid(own) || own == collation)
		return expr;
	result = makeNode(CollateExpr);
	result->arg = expr;
	result->collOid = collation;
	result->location = -1;
	return (Expr *) result;
}

/*
 * Arguments in a list, in the call's order, which becomes one more argument.  It is under the order's collation that
 * they are compared, so for that time all of them have it.
 */
static Expr *
collect_in_order(const Aggref *call, const char *name, Oid *declared, Oid type, List *args)
{
	Expr	   *order;
	ListCell   *lc;

	if (call->aggorder == NIL)
		return collect(call, name, declared, type, args, NULL);
	if ((order = simple_order(call)) == NULL)
		return NULL;
	foreach(lc, args)
		lfirst(lc) = collated(lfirst(lc), exprCollation((Node *) order));
	declared[list_length(args)] = ANYCOMPATIBLEOID;
	args = lappend(args, order);
	return collated(collect(call, name, declared, type, args, NULL), call->aggcollid);
}

/* the distinct values as an array, ascending, a null at the end: what DISTINCT alone gives */
static Expr *
collect_set(const Aggref *call, Oid type)
{
	static const Oid declared[] = {ANYNONARRAYOID};

	if (call->aggorder != NIL && simple_order(call) == NULL)
		return NULL;
	return collect(call, "set_agg", declared, type, list_make1(argument(call, 0)), NULL);
}

/* all values as an array */
static Expr *
collect_array(const Aggref *call, Oid type)
{
	Oid			declared[] = {ANYNONARRAYOID, InvalidOid};

	if (call->aggdistinct != NIL)
		return collect_set(call, type);
	return collect_in_order(call, "array_agg", declared, type, list_make1(argument(call, 0)));
}

static Expr *
array_agg_of(const Aggref *call)
{
	return collect_array(call, call->aggtype);
}

static Expr *
string_agg_of(const Aggref *call)
{
	Oid			type = exprType((Node *) argument(call, 0));
	Oid			declared[] = {type, type, InvalidOid};

	if (call->aggdistinct != NIL)
		return NULL;
	return collect_in_order(call, "string_agg", declared, call->aggtype,
							list_make2(argument(call, 0), argument(call, 1)));
}

static Expr *
json_agg_of_kind(const Aggref *call, const char *name)
{
	static const Oid declared[] = {ANYARRAYOID};
	Oid			type = exprType((Node *) argument(call, 0));
	Oid			array = get_array_type(type);
	Expr	   *values;

	if (!OidIsValid(array) || OidIsValid(get_element_type(getBaseType(type))))
		return NULL;
	values = collect_array(call, array);
	return values == NULL ? NULL : mr_substitute_call(name, call->aggtype, list_make1(values), declared);
}

static Expr *
json_agg_of(const Aggref *call)
{
	return json_agg_of_kind(call, "json_agg_of");
}

static Expr *
jsonb_agg_of(const Aggref *call)
{
	return json_agg_of_kind(call, "jsonb_agg_of");
}

/* each name and value as an object of its own, in text, which json keeps as it is */
static Expr *
object_agg_of(const Aggref *call, const char *name)
{
	static const Oid texts[] = {TEXTARRAYOID};
	Oid			declared[] = {ANYNONARRAYOID, InvalidOid};
	List	   *pair = list_make2(copyObject(argument(call, 0)), copyObject(argument(call, 1)));
	Expr	   *object = (Expr *) makeFuncExpr(F_JSON_BUILD_OBJECT_ANY, JSONOID, pair, InvalidOid, InvalidOid,
											   COERCE_EXPLICIT_CALL);
	Expr	   *values;

	if (call->aggdistinct != NIL)
		return NULL;
	values = collect_in_order(call, "array_agg", declared, TEXTARRAYOID,
							  list_make1(mr_substitute_as_text(object, DEFAULT_COLLATION_OID)));
	return values == NULL ? NULL : mr_substitute_call(name, call->aggtype, list_make1(values), texts);
}

static Expr *
json_object_agg_of(const Aggref *call)
{
	return object_agg_of(call, "json_object_agg_of");
}

static Expr *
jsonb_object_agg_of(const Aggref *call)
{
	return object_agg_of(call, "jsonb_object_agg_of");
}

typedef struct Substitute
{
	Oid			aggregate;
	Expr	   *(*make) (const Aggref *call);	/* NULL: as it is */
	const char *instead;		/* what has a state that does not grow, or
								 * says that it does; NULL: this one's does
								 * not */
} Substitute;

#define COUNT_INSTEAD	"millrace.count_distinct(x) or millrace.approx_count_distinct(x)"
#define PERCENTILE_INSTEAD	"millrace.approx_percentile(x, fraction)"
#define ARRAY_INSTEAD	"millrace.array_agg(x, order_by) or millrace.set_agg(x)"
#define STRING_INSTEAD	"millrace.string_agg(x, delimiter, order_by)"
#define JSON_INSTEAD	"to_jsonb(millrace.array_agg(x, order_by)) or to_jsonb(millrace.set_agg(x))"
#define OBJECT_INSTEAD	"millrace.jsonb_object_agg(name, value, order_by)"

static const Substitute substitutes[] = {
	{F_RANK_ANY, mr_hypothetical_rank, NULL},
	{F_DENSE_RANK_ANY, mr_hypothetical_dense_rank, "rank()"},
	{F_PERCENT_RANK_ANY, mr_hypothetical_percent_rank, NULL},
	{F_CUME_DIST_ANY, mr_hypothetical_cume_dist, NULL},
	{F_PERCENTILE_CONT_FLOAT8_FLOAT8, percentile_cont_of, PERCENTILE_INSTEAD},
	{F_PERCENTILE_CONT_FLOAT8_INTERVAL, percentile_cont_of, PERCENTILE_INSTEAD},
	{F_PERCENTILE_CONT__FLOAT8_FLOAT8, percentile_cont_of, PERCENTILE_INSTEAD},
	{F_PERCENTILE_CONT__FLOAT8_INTERVAL, percentile_cont_of, PERCENTILE_INSTEAD},
	{F_PERCENTILE_DISC_FLOAT8_ANYELEMENT, percentile_disc_of, PERCENTILE_INSTEAD},
	{F_PERCENTILE_DISC__FLOAT8_ANYELEMENT, percentile_disc_of, PERCENTILE_INSTEAD},
	{F_MODE, mode_of, "millrace.topk(x, k)"},
	{F_COUNT_ANY, count_of, COUNT_INSTEAD},
	{F_ARRAY_AGG_ANYNONARRAY, array_agg_of, ARRAY_INSTEAD},
	{F_JSON_AGG, json_agg_of, JSON_INSTEAD},
	{F_JSONB_AGG, jsonb_agg_of, JSON_INSTEAD},
	{F_JSON_OBJECT_AGG, json_object_agg_of, OBJECT_INSTEAD},
	{F_JSONB_OBJECT_AGG, jsonb_object_agg_of, OBJECT_INSTEAD},
	{F_STRING_AGG_TEXT_TEXT, string_agg_of, STRING_INSTEAD},
	{F_STRING_AGG_BYTEA_BYTEA, string_agg_of, STRING_INSTEAD},
};

/* the construct that makes the call's state grow, and what else there is */
static void
refuse_growing(const Aggref *call, const char *instead)
{
	const char *construct = "aggregate";

	if (call->aggkind != AGGKIND_NORMAL)
		construct = "ordered-set aggregate";
	else if (call->aggdistinct != NIL)
		construct = "DISTINCT in aggregate";
	else if (call->aggorder != NIL)
		construct = "ORDER BY in aggregate";
	mr_refuse(call->location,
			  errmsg("%s %s is not supported in a continuous view", construct,
					 format_procedure(call->aggfnoid)),
			  errdetail("Its state would grow with the messages."),
			  errhint("Use %s; or set millrace.allow_growing_states to on when creating the view.", instead));
}

typedef struct SubstituteContext
{
	int			depth;			/* of sublinks below the level */
	bool		grouping_sets;
	bool		growing;		/* states may grow */
} SubstituteContext;

/* a group's own value in the place of a given row is null in totals, but not in the messages */
static bool
is_given_by_group(const Aggref *call, const SubstituteContext *context)
{
	return context->grouping_sets && call->aggkind == AGGKIND_HYPOTHETICAL &&
		contain_vars_of_level((Node *) call->aggdirectargs, call->agglevelsup);
}

static Node *
substitute(Aggref *call, const SubstituteContext *context)
{
	for (int i = 0; i < lengthof(substitutes); i++)
	{
		Expr	   *other;

		if (substitutes[i].aggregate != call->aggfnoid || is_given_by_group(call, context))
			continue;
		other = substitutes[i].make(call);
		if (other == NULL)
			continue;
		if (substitutes[i].instead != NULL && !context->growing)
			refuse_growing(call, substitutes[i].instead);
		return (Node *) other;
	}
	return (Node *) call;
}

/* the server could not write down JSON_OBJECTAGG() any more once it is made of something else */
static void
refuse_json_syntax(Node *node, const SubstituteContext *context)
{
	Node	   *function = mr_compat_json_function(node);

	if (function != NULL && IsA(function, Aggref) && ((Aggref *) function)->agglevelsup == context->depth)
		mr_refuse(exprLocation(node),
				  errmsg("JSON_OBJECTAGG and JSON_ARRAYAGG are not supported in a continuous view"),
				  errhint("Use json_object_agg() and json_agg(), or jsonb_object_agg() and jsonb_agg()."));
}

static Node *
substitute_mutator(Node *node, SubstituteContext *context)
{
	if (node == NULL)
		return NULL;
	refuse_json_syntax(node, context);
	if (IsA(node, Query))
	{
		Query	   *query;

		context->depth++;
		query = query_tree_mutator((Query *) node, substitute_mutator, context, 0);
		context->depth--;
		return (Node *) query;
	}
	if (IsA(node, Aggref) && ((Aggref *) node)->agglevelsup == context->depth)
		return substitute((Aggref *) node, context);
	return expression_tree_mutator(node, substitute_mutator, context);
}

void
mr_substitute_aggregates(Query *level, bool growing)
{
	SubstituteContext context = {0, level->groupingSets != NIL, growing};

	level->targetList = (List *) substitute_mutator((Node *) level->targetList, &context);
	level->havingQual = substitute_mutator(level->havingQual, &context);
}
