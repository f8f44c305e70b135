/*
 * view/restrict.c
 *		Refuses what a continuous view cannot keep exactly.
 *
 * Every refusal names the construct, says where it stands if the parser kept that, and
 * hints what to write instead.  Four questions are asked, from the outside inwards: of
 * the whole declared query, of the level that is split, of each aggregate and column
 * there, and of the half that every batch runs.  What a reader evaluates is any SELECT.
 *
 * The batch's half must depend on the messages and on ordinary tables only: a time of
 * day, a random number or a user's name would have another value in the worker, at
 * another time, than in the same SELECT over the same messages.
 */
#include "millrace.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_relation.h"
#include "parser/parse_type.h"
#include "parser/parsetree.h"
#include "stream/option.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "view/aggregate.h"
#include "view/combine.h"
#include "view/split.h"

/* where the walker over the batch's half stands */
typedef struct PartialContext
{
	List	   *queries;		/* around, innermost first */
	int			location;		/* of the innermost expression that knows its
								 * own */
	bool		shown;			/* it is a reader's, of a view with changes */
} PartialContext;

/* functions that are no more than stable, but whose result is not the query's alone */
typedef struct AmbientFunction
{
	Oid			funcid;
	bool		is_clock;		/* else the session's */
	const char *name;
} AmbientFunction;

static const AmbientFunction ambient_functions[] = {
	{F_NOW, true, "now()"},
	{F_TRANSACTION_TIMESTAMP, true, "transaction_timestamp()"},
	{F_STATEMENT_TIMESTAMP, true, "statement_timestamp()"},
	{F_CLOCK_TIMESTAMP, true, "clock_timestamp()"},
	{F_TIMEOFDAY, true, "timeofday()"},
	{F_AGE_TIMESTAMP, true, "age() of one argument"},
	{F_AGE_TIMESTAMPTZ, true, "age() of one argument"},
	{F_CURRENT_SETTING_TEXT, false, "current_setting()"},
	{F_CURRENT_SETTING_TEXT_BOOL, false, "current_setting()"},
	{F_CURRENT_USER, false, "current_user"},
	{F_SESSION_USER, false, "session_user"},
	{F_CURRENT_SCHEMA, false, "current_schema"},
	{F_CURRENT_SCHEMAS, false, "current_schemas()"},
	{F_PG_BACKEND_PID, false, "pg_backend_pid()"},
	{F_INET_CLIENT_ADDR, false, "inet_client_addr()"},
	{F_INET_CLIENT_PORT, false, "inet_client_port()"},
	{F_INET_SERVER_ADDR, false, "inet_server_addr()"},
	{F_INET_SERVER_PORT, false, "inet_server_port()"},
	{F_GETPGUSERNAME, false, "getpgusername()"},
	{MR_F_SYSTEM_USER, false, "system_user"},
	{F_PG_MY_TEMP_SCHEMA, false, "pg_my_temp_schema()"},
	{F_PG_TRIGGER_DEPTH, false, "pg_trigger_depth()"},
	{F_PG_POSTMASTER_START_TIME, true, "pg_postmaster_start_time()"},
	{F_PG_CONF_LOAD_TIME, true, "pg_conf_load_time()"},
	{F_PG_CURRENT_XACT_ID, false, "pg_current_xact_id()"},
	{F_TXID_CURRENT, false, "txid_current()"},
	{F_PG_CURRENT_XACT_ID_IF_ASSIGNED, false, "pg_current_xact_id_if_assigned()"},
	{F_TXID_CURRENT_IF_ASSIGNED, false, "txid_current_if_assigned()"},
	{F_AGE_XID, false, "age() of a transaction"},
	{F_PG_CURRENT_SNAPSHOT, false, "pg_current_snapshot()"},
	{F_TXID_CURRENT_SNAPSHOT, false, "txid_current_snapshot()"},
};

/* what an error says of its place; ereport's auxiliary function */
int
mr_error_location(int location)
{
	return location >= 0 ? errposition(location + 1) : 0;
}

/*
 * The whole query
 */

static bool
declared_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		if (query->hasModifyingCTE || query->commandType != CMD_SELECT)
			mr_refuse(-1,
					  errmsg("a data-modifying statement in WITH is not supported in a continuous view"),
					  errhint("A continuous view's query can only read."));
		if (query->rowMarks != NIL)
			mr_refuse(-1,
					  errmsg("FOR UPDATE and FOR SHARE are not supported in a continuous view"),
					  errhint("Remove the locking clause."));
		return query_tree_walker(query, declared_walker, context, 0);
	}
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
		mr_refuse(((Param *) node)->location,
				  errmsg("a parameter is not supported in a continuous view"),
				  errhint("Write the value itself."));
	return expression_tree_walker(node, declared_walker, context);
}

/* refusals that hold wherever the construct stands */
void
mr_restrict_declared(Query *query)
{
	if (query->commandType != CMD_SELECT || query->utilityStmt != NULL)
		mr_refuse(-1,
				  errmsg("a continuous view's query must be a SELECT"),
				  errhint("Give one SELECT, or WITH ... SELECT, that reads a stream."));
	declared_walker((Node *) query, NULL);
	if (isQueryUsingTempRelation(query))
		mr_refuse(-1,
				  errmsg("a temporary relation is not supported in a continuous view"),
				  errdetail("Ingest runs in another session, which cannot see it."),
				  errhint("Use an ordinary table."));
}

/*
 * The level that is split
 */

void
mr_restrict_level(const Query *level)
{
	if (level->groupingSets != NIL && level->groupClause == NIL && !level->hasAggs)
		mr_refuse(exprLocation((Node *) level->groupingSets),
				  errmsg("GROUP BY () without an aggregate is not supported in a continuous view"),
				  errdetail("The result does not depend on the stream."),
				  errhint("Group by a column, or use an aggregate."));
	if (level->havingQual != NULL && !level->hasAggs && level->groupClause == NIL)
		mr_refuse(exprLocation(level->havingQual),
				  errmsg("HAVING without GROUP BY or an aggregate is not supported in a continuous view"),
				  errhint("Use WHERE."));
}

static const char *
aggregate_name(const Aggref *aggref)
{
	return format_procedure(aggref->aggfnoid);
}

/* an aggregate of ours that does what the server's does with DISTINCT, or ORDER BY */
typedef struct Counterpart
{
	const char *name;
	const char *instead;
} Counterpart;

static const Counterpart distinct_counterparts[] = {
	{"array_agg", "Use millrace.set_agg(x)."},
	{"json_agg", "Use to_json(millrace.set_agg(x))."},
	{"jsonb_agg", "Use to_jsonb(millrace.set_agg(x))."},
	{"string_agg", "Use array_to_string(millrace.set_agg(x), ',')."},
	{"min", "Leave out DISTINCT; it does not change the result."},
	{"max", "Leave out DISTINCT; it does not change the result."},
};

static const Counterpart order_counterparts[] = {
	{"array_agg", "Order by one expression, ascending and nulls last, as in array_agg(x ORDER BY -y)."},
	{"string_agg", "Order by one expression, ascending and nulls last, as in string_agg(x, ',' ORDER BY -y)."},
	{"json_agg", "Order by one expression, ascending and nulls last, as in json_agg(x ORDER BY -y)."},
	{"jsonb_agg", "Order by one expression, ascending and nulls last, as in jsonb_agg(x ORDER BY -y)."},
	{"json_object_agg", "Order by one expression, ascending and nulls last, as in json_object_agg(k, v ORDER BY -y)."},
	{"jsonb_object_agg", "Order by one expression, ascending and nulls last, as in jsonb_object_agg(k, v ORDER BY -y)."},
};

static const char *
find_counterpart(const Counterpart *table, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (strcmp(table[i].name, name) == 0)
			return table[i].instead;
	return NULL;
}

static void
refuse_distinct(const Aggref *aggref)
{
	const char *name = get_func_name(aggref->aggfnoid);
	const char *instead = find_counterpart(distinct_counterparts, lengthof(distinct_counterparts), name);

	mr_refuse(aggref->location,
			  errmsg("DISTINCT in aggregate %s is not supported in a continuous view",
					 aggregate_name(aggref)),
			  instead != NULL ? errhint("%s", instead) :
			  errhint("Aggregate over a subquery, as in SELECT g, %s(x) FROM (SELECT DISTINCT g, x FROM stream) AS d GROUP BY g.",
					  quote_identifier(name)));
}

static void
refuse_ordered(const Aggref *aggref)
{
	const char *instead = find_counterpart(order_counterparts, lengthof(order_counterparts),
										   get_func_name(aggref->aggfnoid));

	if (aggref->aggkind != AGGKIND_NORMAL)
		mr_refuse(aggref->location,
				  errmsg("ordered-set aggregate %s is not supported in a continuous view",
						 aggregate_name(aggref)),
				  instead != NULL ? errhint("%s", instead) :
				  errhint("Group by the value and count, then compute the aggregate when selecting from the view."));
	mr_refuse(aggref->location,
			  errmsg("ORDER BY in aggregate %s is not supported in a continuous view",
					 aggregate_name(aggref)),
			  instead != NULL ? errhint("%s", instead) :
			  errhint("Leave out ORDER BY, or create a view without the aggregate and aggregate when selecting from it."));
}

/*
 * An aggregate whose states are kept.
 */
void
mr_restrict_aggref(const Aggref *aggref)
{
	if (mr_is_combine(aggref->aggfnoid))
		mr_refuse(aggref->location,
				  errmsg("combine() of a stream's column is not supported"),
				  errhint("Use the aggregate itself; combine() is for queries over the continuous view."));
	if (aggref->aggkind != AGGKIND_NORMAL)
		refuse_ordered(aggref);
	if (aggref->aggdistinct != NIL)
		refuse_distinct(aggref);
	if (aggref->aggorder != NIL)
		refuse_ordered(aggref);
	(void) mr_aggregate_state_type(aggref);
}

/*
 * Columns
 */

/* group columns are compared by btree operators, in the index and in the merge */
static void
check_key(const MrMatrelColumn *column, int location)
{
	TypeCacheEntry *type = lookup_type_cache(column->type,
											 TYPECACHE_LT_OPR | TYPECACHE_EQ_OPR |
											 TYPECACHE_CMP_PROC);

	if (!OidIsValid(type->lt_opr) || !OidIsValid(type->eq_opr) || !OidIsValid(type->cmp_proc))
		mr_refuse(location,
				  errmsg("grouping by column \"%s\" of type %s is not supported in a continuous view",
						 column->name, format_type_be(column->type)),
				  errdetail("The type has no default operator class for access method \"btree\"."),
				  errhint("Group by an expression of another type, for example by a cast to text."));
}

/* is that how groups, and distinct values, of the expression are told apart? */
bool
mr_restrict_is_default_equality(Oid operator, const Expr *expr)
{
	return operator == lookup_type_cache(exprType((const Node *) expr), TYPECACHE_EQ_OPR)->eq_opr;
}

/*
 * Groups are told apart by the equality of those btree operators; ORDER BY ... USING can bring another one into
 * GROUP BY and DISTINCT.
 */
void
mr_restrict_grouping(const SortGroupClause *clause, const Expr *expr)
{
	if (!mr_restrict_is_default_equality(clause->eqop, expr))
		mr_refuse(exprLocation((const Node *) expr),
				  errmsg("grouping by operator %s is not supported in a continuous view",
						 format_operator(clause->eqop)),
				  errdetail("ORDER BY with USING says which values of type %s are equal.",
							format_type_be(exprType((const Node *) expr))),
				  errhint("Order by the type's default operator, or group in a subquery and order outside of it."));
}

/* a stream whose row type is stored could no longer be altered */
static void
check_row_type(const MrMatrelColumn *column, int location)
{
	Oid			relid = typeidTypeRelid(column->type);

	if (OidIsValid(relid) && mr_split_is_stream(relid))
		mr_refuse(location,
				  errmsg("column \"%s\" of a stream's row type is not supported in a continuous view",
						 column->name),
				  errhint("List the columns, or use to_jsonb()."));
}

void
mr_restrict_column(const MrMatrelColumn *column, const Expr *expr)
{
	int			location = exprLocation((const Node *) expr);

	if (get_typtype(getBaseType(column->type)) == TYPTYPE_PSEUDO ||
		column->type == RECORDARRAYOID)
		mr_refuse(location,
				  errmsg("column \"%s\" of type %s is not supported in a continuous view",
						 column->name, format_type_be(column->type)),
				  errhint("Cast it to a type that a table's column can have."));
	if (type_is_collatable(column->type) && !OidIsValid(column->collation))
		ereport(ERROR,
				errcode(ERRCODE_INDETERMINATE_COLLATION),
				errmsg("could not determine which collation to use for view column \"%s\"",
					   column->name),
				errhint("Use the COLLATE clause to set the collation explicitly."),
				mr_error_location(location));
	check_row_type(column, location);
	if (column->is_key)
		check_key(column, location);
}

/*
 * What every batch evaluates
 */

/* a view with changes shows what was so when the row last changed */
static void
refuse_shown(const char *name, int location)
{
	mr_refuse(location,
			  errmsg("%s above the aggregation is not supported in a continuous view with changes",
					 name),
			  errdetail("What the view shows could change without a message."),
			  errhint("Use it when selecting from the view, or leave out \"changes\"."));
}

static void
refuse_clock(const PartialContext *context, const char *name, int location)
{
	if (context->shown)
		refuse_shown(name, location);
	mr_refuse(location,
			  errmsg("%s is not supported where a continuous view takes in messages",
					 name),
			  errdetail("It would be evaluated once, when a message arrives, and never again."),
			  errhint("Use the message's timestamp (a column with OPTIONS (metadata 'timestamp')); filter when selecting from the view; or show the last stretch of time only, by sliding_window."));
}

static void
refuse_session(const PartialContext *context, const char *name, int location)
{
	if (context->shown)
		refuse_shown(name, location);
	mr_refuse(location,
			  errmsg("%s is not supported where a continuous view takes in messages",
					 name),
			  errdetail("Ingest runs in a session of its own."),
			  errhint("Use it when selecting from the view."));
}

static void
refuse_volatile(const PartialContext *context, Oid funcid, int location)
{
	if (context->shown)
		refuse_shown(psprintf("volatile function %s", format_procedure(funcid)), location);
	mr_refuse(location,
			  errmsg("volatile function %s is not supported where a continuous view takes in messages",
					 format_procedure(funcid)),
			  errhint("Evaluate it when selecting from the view. If its result depends on its arguments only, mark it IMMUTABLE or STABLE."));
}

static bool
function_checker(Oid funcid, void *context)
{
	int			location = ((PartialContext *) context)->location;

	for (int i = 0; i < lengthof(ambient_functions); i++)
	{
		if (ambient_functions[i].funcid != funcid)
			continue;
		if (ambient_functions[i].is_clock)
			refuse_clock(context, ambient_functions[i].name, location);
		refuse_session(context, ambient_functions[i].name, location);
	}
	if (func_volatile(funcid) == PROVOLATILE_VOLATILE)
		refuse_volatile(context, funcid, location);
	return false;
}

static void
check_sql_value(const PartialContext *context, const SQLValueFunction *function)
{
	switch (function->op)
	{
		case SVFOP_CURRENT_DATE:
			refuse_clock(context, "CURRENT_DATE", function->location);
			break;
		case SVFOP_CURRENT_TIME:
		case SVFOP_CURRENT_TIME_N:
			refuse_clock(context, "CURRENT_TIME", function->location);
			break;
		case SVFOP_CURRENT_TIMESTAMP:
		case SVFOP_CURRENT_TIMESTAMP_N:
			refuse_clock(context, "CURRENT_TIMESTAMP", function->location);
			break;
		case SVFOP_LOCALTIME:
		case SVFOP_LOCALTIME_N:
			refuse_clock(context, "LOCALTIME", function->location);
			break;
		case SVFOP_LOCALTIMESTAMP:
		case SVFOP_LOCALTIMESTAMP_N:
			refuse_clock(context, "LOCALTIMESTAMP", function->location);
			break;
		case SVFOP_CURRENT_ROLE:
		case SVFOP_CURRENT_USER:
		case SVFOP_USER:
			refuse_session(context, "CURRENT_USER", function->location);
			break;
		case SVFOP_SESSION_USER:
			refuse_session(context, "SESSION_USER", function->location);
			break;
		case SVFOP_CURRENT_SCHEMA:
			refuse_session(context, "CURRENT_SCHEMA", function->location);
			break;
		case SVFOP_CURRENT_CATALOG:
			break;
	}
}

static void
check_var(PartialContext *context, const Var *var)
{
	Query	   *query;
	RangeTblEntry *rte;

	if (var->varattno >= 0 || (var->varattno == TableOidAttributeNumber && !mr_split_over_tables()))
		return;
	query = list_nth(context->queries, var->varlevelsup);
	rte = rt_fetch(var->varno, query->rtable);
	if (rte->rtekind == RTE_RELATION && mr_split_is_stream(rte->relid))
		mr_refuse(var->location,
				  errmsg("system column \"%s\" of a stream is not supported in a continuous view",
						 get_attname(rte->relid, var->varattno, false)),
				  mr_split_over_tables() ?
				  errhint("Use a column of the table.") :
				  errhint("Declare columns of the stream with OPTIONS (metadata 'partition') and OPTIONS (metadata 'offset')."));
}

static void
check_outer_reference(const PartialContext *context, Index levelsup, int location)
{
	if (levelsup >= list_length(context->queries))
		mr_refuse(location,
				  errmsg("aggregating a stream in a subquery that refers to an outer query is not supported in a continuous view"),
				  errhint("Join inside of the subquery, or aggregate in the outer query."));
}

static bool partial_walker(Node *node, PartialContext *context);

static void
check_range_table(const PartialContext *context, const RangeTblEntry *rte)
{
	if (rte->rtekind == RTE_RELATION && rte->tablesample != NULL)
		mr_refuse(-1,
				  errmsg("TABLESAMPLE is not supported in a continuous view"),
				  errhint("Filter on a column in WHERE instead."));
	if (rte->rtekind == RTE_CTE && rte->ctelevelsup >= list_length(context->queries))
		mr_refuse(-1,
				  errmsg("reading the recursive query \"%s\" of an outer level below an aggregation over a stream is not supported in a continuous view",
						 rte->ctename),
				  errhint("Move its WITH clause into the subquery that aggregates."));
}

/* a view around a stream is a part of what the batch runs; other views are tables */
static void
check_view(RangeTblEntry *rte)
{
	Query	   *query;

	if (rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_VIEW ||
		!mr_relation_is_row_view(rte->relid))
		return;
	query = mr_relation_view_query(rte->relid);
	declared_walker((Node *) query, NULL);
	mr_restrict_partial(query);
}

static bool
partial_query(Query *query, PartialContext *context)
{
	PartialContext inner = *context;
	ListCell   *lc;

	check_stack_depth();
	inner.queries = lcons(query, list_copy(context->queries));
	foreach(lc, query->rtable)
		check_range_table(&inner, lfirst_node(RangeTblEntry, lc));
	return query_tree_walker(query, partial_walker, &inner, QTW_IGNORE_JOINALIASES);
}

static bool
partial_walker(Node *node, PartialContext *context)
{
	PartialContext inner;
	int			location;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return partial_query((Query *) node, context);

	inner = *context;
	location = exprLocation(node);
	if (location >= 0)
		inner.location = location;
	if (IsA(node, Var))
	{
		check_outer_reference(&inner, ((Var *) node)->varlevelsup, location);
		check_var(&inner, (Var *) node);
	}
	else if (IsA(node, Aggref))
		check_outer_reference(&inner, ((Aggref *) node)->agglevelsup, location);
	else if (IsA(node, SQLValueFunction))
		check_sql_value(&inner, (SQLValueFunction *) node);
	else if (IsA(node, NextValueExpr))
		(void) function_checker(F_NEXTVAL, &inner);
	else
		check_functions_in_node(node, function_checker, &inner);
	return expression_tree_walker(node, partial_walker, &inner);
}

/* views in the jointree, at any depth; unused range table entries may be anything */
static bool
view_walker(Node *node, Query *query)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, view_walker, node, 0);
	if (IsA(node, RangeTblRef))
	{
		check_view(rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable));
		return false;
	}
	return expression_tree_walker(node, view_walker, query);
}

/*
 * The half that every batch runs, which must stand alone.
 */
void
mr_restrict_partial(Query *partial)
{
	PartialContext context = {NIL, -1, false};

	partial_query(partial, &context);
	view_walker((Node *) partial, partial);
}

/* what a reader evaluates */
static bool
shown_walker(Node *node, PartialContext *context)
{
	PartialContext inner = *context;
	int			location;

	if (node == NULL)
		return false;
	location = exprLocation(node);
	if (location >= 0)
		inner.location = location;
	if (IsA(node, SQLValueFunction))
		check_sql_value(&inner, (SQLValueFunction *) node);
	else if (IsA(node, NextValueExpr))
		(void) function_checker(F_NEXTVAL, &inner);
	else
		check_functions_in_node(node, function_checker, &inner);
	return expression_tree_walker(node, shown_walker, &inner);
}

/*
 * The reader's half of a view with changes: expressions without subqueries.
 */
void
mr_restrict_shown(Node *exprs)
{
	PartialContext context = {NIL, -1, true};

	shown_walker(exprs, &context);
}
