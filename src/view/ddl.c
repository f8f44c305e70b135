/*
 * view/ddl.c
 *		create_continuous_view(), create_continuous_transform(), and what workers need of a
 *		view's relations.
 *
 * The query is parsed, analyzed and planned as the caller, with the caller's settings,
 * which are kept: the worker evaluates it as the same role under the same settings.  The
 * caller needs SELECT on what the query reads, as if it were run, and becomes the owner.
 *
 * An error in the query points into the query, not into the statement that called us.
 */
#include "millrace.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog_table.h"
#include "executor/executor.h"
#include "failpoint.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "rewrite/rewriteHandler.h"
#include "stream/option.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

#include "view/aggregate.h"
#include "view/change_table.h"
#include "view/contents.h"
#include "view/expiry.h"
#include "view/local.h"
#include "view/plan.h"
#include "view/relations.h"
#include "view/retention.h"
#include "view/split.h"
#include "view/transform.h"
#include "view/window.h"

typedef struct CreateArgs
{
	char	   *name;
	char	   *query;
	char	   *start_at;
	MrWindow   *window;			/* or NULL */
	Interval   *retention;		/* or NULL */
	char	   *retention_column;	/* or NULL */
	bool		changes;		/* keep them */
} CreateArgs;

/* whose text an error's position is in */
typedef struct QueryText
{
	const char *sql;
	bool		in_bytes;		/* else in characters */
} QueryText;

/*
 * What changes the result of an expression when a message is taken in.
 */
static const char *const kept_settings[] = {
	"search_path",
	"TimeZone",
	"timezone_abbreviations",
	"DateStyle",
	"IntervalStyle",
	"extra_float_digits",
	"bytea_output",
	"lc_monetary",
	"lc_numeric",
	"lc_time",
	"xmlbinary",
	"xmloption",
	"array_nulls",
	"quote_all_identifiers",
	"default_text_search_config",
	"transform_null_equals",
	"row_security",
};

PG_FUNCTION_INFO_V1(mr_create_continuous_view);
PG_FUNCTION_INFO_V1(mr_create_continuous_transform);

/*
 * Arguments
 */

static char *
text_argument(FunctionCallInfo fcinfo, int i, const char *name)
{
	if (PG_ARGISNULL(i))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("argument \"%s\" of %s() must not be null", name,
					   get_func_name(fcinfo->flinfo->fn_oid)));
	return text_to_cstring(PG_GETARG_TEXT_PP(i));
}

static void
read_args(FunctionCallInfo fcinfo, CreateArgs *args)
{
	args->name = text_argument(fcinfo, 0, "name");
	args->query = text_argument(fcinfo, 1, "query");
	args->start_at = text_argument(fcinfo, 2, "start_at");
	args->window = mr_window_from_arguments(PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3),
											PG_ARGISNULL(4) ? NULL : text_argument(fcinfo, 4, "time_column"),
											PG_ARGISNULL(5) ? NULL : PG_GETARG_INTERVAL_P(5));
	args->retention = PG_ARGISNULL(6) ? NULL : PG_GETARG_INTERVAL_P(6);
	args->retention_column = PG_ARGISNULL(7) ? NULL : text_argument(fcinfo, 7, "retention_column");
	args->changes = !PG_ARGISNULL(8) && PG_GETARG_BOOL(8);
	mr_start_at_check(args->start_at);
}

static void
check_environment(const char *function)
{
	if (!mr_preloaded())
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("continuous views need \"%s\" in shared_preload_libraries", MR_EXTENSION),
				errhint("Add it to shared_preload_libraries in postgresql.conf and restart the server."));
	PreventCommandIfReadOnly(function);
	PreventCommandDuringRecovery(function);
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("cannot create a continuous view within security-restricted operation"));
}

/* schema to create the view in, checked for CREATE; *name becomes the bare name */
static Oid
creation_namespace(char **name)
{
	RangeVar   *rv = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(*name)));
	Oid			existing;
	Oid			namespace = RangeVarGetAndCheckCreationNamespace(rv, NoLock, &existing);

	if (OidIsValid(existing))
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_TABLE),
				errmsg("relation \"%s\" already exists", rv->relname));
	if (isAnyTempNamespace(namespace))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("a continuous view cannot be temporary"),
				errhint("Create it in an ordinary schema."));
	if (strlen(rv->relname) >= NAMEDATALEN)
		rv->relname[pg_mbcliplen(rv->relname, strlen(rv->relname), NAMEDATALEN - 1)] = '\0';
	*name = rv->relname;
	return namespace;
}

/*
 * The query
 */

static void
query_error_callback(void *arg)
{
	QueryText  *query = arg;
	int			position = geterrposition();

	if (position <= 0)
		return;
	if (query->in_bytes)
		position = pg_mbstrlen_with_len(query->sql, position - 1) + 1;
	errposition(0);
	internalerrposition(position);
	internalerrquery(query->sql);
}

static Node *
refuse_parameter(ParseState *pstate, ParamRef *pref)
{
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("a parameter is not supported in a continuous view"),
			errhint("Write the value itself."),
			parser_errposition(pstate, pref->location));
	return NULL;				/* not reached */
}

static void
setup_parser(ParseState *pstate, void *arg)
{
	pstate->p_paramref_hook = refuse_parameter;
}

static RawStmt *
parse_one_statement(const char *sql)
{
	List	   *statements = raw_parser(sql, RAW_PARSE_DEFAULT);

	if (statements == NIL)
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("the query of a continuous view must not be empty"),
				errhint("Give a SELECT that reads a stream."));
	if (list_length(statements) > 1)
		mr_refuse(lsecond_node(RawStmt, statements)->stmt_location,
				  errmsg("a continuous view's query must be a single statement"),
				  errhint("Create a view for each SELECT."));
	return linitial_node(RawStmt, statements);
}

static void
refuse_into(const Query *query)
{
	if (query->utilityStmt != NULL && IsA(query->utilityStmt, CreateTableAsStmt) &&
		((CreateTableAsStmt *) query->utilityStmt)->is_select_into)
		mr_refuse(-1,
				  errmsg("SELECT INTO is not supported in a continuous view"),
				  errhint("Leave out INTO; the view holds the result."));
}

/* parse and analyze the text; not rewritten */
static Query *
parse_query(const char *sql)
{
	QueryText	where = {.sql = sql};
	ErrorContextCallback callback = {.callback = query_error_callback,.arg = &where};
	RawStmt    *raw;
	Query	   *query;

	callback.previous = error_context_stack;
	error_context_stack = &callback;
	raw = parse_one_statement(sql);
	if (!IsA(raw->stmt, SelectStmt))
		mr_refuse(-1,
				  errmsg("a continuous view's query must be a SELECT"),
				  errhint("Give one SELECT, or WITH ... SELECT, that reads a stream."));
	query = parse_analyze_withcb(raw, sql, setup_parser, NULL, NULL);
	error_context_stack = callback.previous;
	refuse_into(query);
	return query;
}

/* sink: a transform's, or InvalidOid */
static MrViewAnalysis *
analyze_query(const char *sql, Query *query, const MrExpiry *expiry, List *tables, Oid sink)
{
	QueryText	where = {.sql = sql,.in_bytes = true};
	ErrorContextCallback callback = {.callback = query_error_callback,.arg = &where};
	MrViewAnalysis *analysis;

	callback.previous = error_context_stack;
	error_context_stack = &callback;
	analysis = OidIsValid(sink) ? mr_transform_analyze(query, sink) :
		mr_view_analyze(query, expiry, tables, mr_allow_growing_states);
	error_context_stack = callback.previous;
	return analysis;
}

/* privileges that running the query would need */
static bool
permission_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		mr_check_permissions((Query *) node);
		return query_tree_walker((Query *) node, permission_walker, context, 0);
	}
	return expression_tree_walker(node, permission_walker, context);
}

/*
 * Creation
 */

static void
create_relations(MrView *view, const char *name, Oid namespace, MrViewAnalysis *analysis)
{
	view->definition = mr_relations_create_definition(name, namespace, analysis->declared);
	MR_FAILPOINT("create-definition");
	view->matrel = mr_relations_create_matrel(name, namespace, analysis);
	MR_FAILPOINT("create-matrel");
	view->view = mr_relations_create_reader(name, namespace,
											mr_view_reader_query(analysis, view->matrel));
	view->target = view->view;
	MR_FAILPOINT("create-reader");
	mr_relations_depend(view);
	CommandCounterIncrement();
}

static void
register_view(const MrView *view, const MrViewAnalysis *analysis, const char *start_at)
{
	ListCell   *lc;

	mr_catalog_insert_view(view, start_at);
	MR_FAILPOINT("create-registered");
	foreach(lc, analysis->streams)
	{
		MrStreamUse *use = lfirst(lc);
		int64		feed;

		if (analysis->tables != NIL)
		{
			mr_local_check_columns(use->relid, use->attrs);
			mr_catalog_insert_view_stream(view->view, use->relid, MR_NO_FEED, use->attrs);
			mr_catalog_table_changed(use->relid);
			continue;
		}
		feed = mr_catalog_insert_feed(use->relid);
		(void) mr_stream_get(use->relid);	/* what a worker could not read is
											 * an error now */

		if (OidIsValid(view->sink) && mr_is_stream(view->sink))
			mr_catalog_set_feed_apart(feed);
		mr_catalog_insert_view_stream(view->view, use->relid, feed, use->attrs);
		MR_FAILPOINT("create-feed");
		mr_start_at_store(start_at, view->view, use->relid, feed);
	}
	mr_catalog_changed();
}

/* 0 when there is none */
static AttrNumber
output_column(const Query *query, const char *name)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (name != NULL && !tle->resjunk && strcmp(tle->resname, name) == 0)
			return tle->resno;
	}
	return 0;
}

/* NULL when no row ever leaves */
static MrExpiry *
expiry_from_args(const CreateArgs *args, const Query *query, const List *settings)
{
	MrExpiry   *expiry = palloc0(sizeof(MrExpiry));
	MrRetention *retention = mr_retention_from_arguments(args->retention, args->retention_column,
														 output_column(query, args->retention_column));

	if (retention == NULL && args->window == NULL)
		return NULL;
	if (retention != NULL && args->window != NULL)
		mr_retention_refuse_window();
	expiry->zone = mr_expiry_zone(settings);
	expiry->window = args->window;
	if (retention != NULL)
		expiry->retentions = list_make1(retention);
	return expiry;
}

static void
register_expiry(const MrView *view, const MrViewAnalysis *analysis, const MrExpiry *expiry)
{
	ListCell   *lc;

	if (expiry == NULL)
		return;
	if (expiry->window != NULL)
		mr_catalog_insert_window(view->view, expiry->window);
	foreach(lc, expiry->retentions)
		mr_catalog_set_retention(view->view, lfirst(lc));
	foreach(lc, analysis->bounds)
	{
		MrBound    *bound = lfirst(lc);

		mr_bound_check_zone(bound);
		(void) mr_bound_horizon(bound, GetCurrentTransactionStartTimestamp());
		mr_expiry_create_index(view, analysis, bound);
	}
}

/* the table of changes, and the first of them */
static void
create_changes(const MrView *view, const MrViewAnalysis *analysis)
{
	QueryText	where = {.sql = view->query,.in_bytes = true};
	ErrorContextCallback callback = {.callback = query_error_callback,.arg = &where};

	mr_catalog_insert_change_feed(view->view, mr_change_table_create(view));
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	mr_contents_note_first(view, analysis);
	error_context_stack = callback.previous;
}

/* create_continuous_view(name, query, start_at, ...); see INTERFACE */
Datum
mr_create_continuous_view(PG_FUNCTION_ARGS)
{
	CreateArgs	args;
	MrView		view = {.kind = "view",.active = true};
	MrViewAnalysis *analysis;
	MrExpiry   *expiry;
	Query	   *query;
	List	   *tables;
	bool		from_rows;
	Oid			namespace;

	read_args(fcinfo, &args);
	check_environment("create_continuous_view()");
	namespace = creation_namespace(&args.name);
	query = parse_query(args.query);
	view.query = args.query;
	view.settings = mr_view_capture_settings();
	expiry = expiry_from_args(&args, query, view.settings);
	tables = mr_local_tables(query);
	from_rows = tables != NIL && mr_local_from_beginning(args.start_at);
	if (from_rows)
		mr_local_require_not_in_use(tables);
	analysis = analyze_query(args.query, query, expiry, tables, InvalidOid);
	permission_walker((Node *) query, NULL);
	(void) mr_plan_partial(analysis);

	create_relations(&view, args.name, namespace, analysis);
	mr_view_insert_initial_row(analysis, view.matrel);
	MR_FAILPOINT("create-relations");
	register_view(&view, analysis, args.start_at);
	register_expiry(&view, analysis, expiry);
	if (tables != NIL)
		mr_local_fill(&view, from_rows);
	if (args.changes)
		create_changes(&view, analysis);
	MR_FAILPOINT("create-done");
	PG_RETURN_OID(view.view);
}

/* the target argument; what it may be is the analysis's affair */
static Oid
sink_argument(FunctionCallInfo fcinfo, int i)
{
	if (PG_ARGISNULL(i))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("argument \"target\" of create_continuous_transform() must not be null"));
	return PG_GETARG_OID(i);
}

/* create_continuous_transform(name, query, target, start_at); see INTERFACE */
Datum
mr_create_continuous_transform(PG_FUNCTION_ARGS)
{
	char	   *name = text_argument(fcinfo, 0, "name");
	char	   *start_at = text_argument(fcinfo, 3, "start_at");
	MrView		view = {.kind = "transform",.active = true};
	MrViewAnalysis *analysis;
	Query	   *query;
	Oid			namespace;

	view.query = text_argument(fcinfo, 1, "query");
	view.sink = sink_argument(fcinfo, 2);
	mr_start_at_check(start_at);
	check_environment("create_continuous_transform()");
	namespace = creation_namespace(&name);
	query = parse_query(view.query);
	view.settings = mr_view_capture_settings();
	analysis = analyze_query(view.query, query, NULL, NIL, view.sink);
	permission_walker((Node *) query, NULL);
	mr_check_permissions(mr_transform_insert(analysis));
	(void) mr_plan_partial(analysis);

	if (mr_is_stream(view.sink) && !pg_strong_random(&view.token, sizeof(view.token)))
		ereport(ERROR,
				errcode(ERRCODE_INTERNAL_ERROR),
				errmsg("could not generate a random token"));
	view.view = mr_relations_create_reader(name, namespace, analysis->declared);
	view.definition = view.view;
	mr_relations_depend(&view);
	register_view(&view, analysis, start_at);
	PG_RETURN_OID(view.view);
}

/*
 * For workers
 */

List *
mr_view_capture_settings(void)
{
	List	   *result = NIL;

	for (int i = 0; i < lengthof(kept_settings); i++)
	{
		const char *value = GetConfigOption(kept_settings[i], true, false);

		if (value != NULL)
			result = lappend(result, psprintf("%s=%s", kept_settings[i], value));
	}
	return result;
}

Query *
mr_view_declared_query(const MrView *view)
{
	Relation	rel = table_open(view->definition, AccessShareLock);
	Query	   *query = copyObject(get_view_query(rel));

	table_close(rel, NoLock);
	AcquireRewriteLocks(query, true, false);
	return query;
}

MrViewAnalysis *
mr_view_reanalyze(const MrView *view)
{
	Query	   *query = mr_view_declared_query(view);

	return OidIsValid(view->sink) ? mr_transform_analyze(query, view->sink) :
		mr_view_analyze(query, mr_expiry_load(view), mr_catalog_tables_of_view(view->target), true);
}

/* the number of the empty grouping set */
static Datum
empty_set(const MrViewAnalysis *analysis)
{
	ListCell   *lc;

	foreach(lc, analysis->sets)
	{
		MrGroupingSet *set = lfirst(lc);

		if (set->is_empty)
			return Int32GetDatum(set->number);
	}
	return (Datum) 0;
}

/* all group columns null, states of no rows */
static void
store_initial_row(const MrViewAnalysis *analysis, TupleTableSlot *slot)
{
	ListCell   *lc;

	ExecClearTuple(slot);
	foreach(lc, analysis->columns)
	{
		MrMatrelColumn *column = lfirst(lc);
		int			i = foreach_current_index(lc);

		slot->tts_isnull[i] = column->aggref == NULL;
		slot->tts_values[i] = (Datum) 0;
		if (column->aggref != NULL)
			slot->tts_values[i] = mr_aggregate_initial(mr_aggregate_create(column->aggref), &slot->tts_isnull[i]);
	}
	if (analysis->set_column >= 0)
	{
		slot->tts_values[analysis->set_column] = empty_set(analysis);
		slot->tts_isnull[analysis->set_column] = false;
	}
	ExecStoreVirtualTuple(slot);
}

/* a row of the matrel, with its index entries */
static void
insert_row(Relation rel, TupleTableSlot *slot)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *rinfo = makeNode(ResultRelInfo);

	InitResultRelInfo(rinfo, rel, 1, NULL, 0);
	ExecOpenIndices(rinfo, false);
	simple_table_tuple_insert(rel, slot);
	if (rinfo->ri_NumIndices > 0)
		list_free(mr_compat_insert_index_tuples(rinfo, slot, estate, false, false));
	ExecCloseIndices(rinfo);
	FreeExecutorState(estate);
}

void
mr_view_insert_initial_row(const MrViewAnalysis *analysis, Oid matrel)
{
	Relation	rel;
	TupleTableSlot *slot;

	if (!mr_view_has_initial_row(analysis))
		return;
	rel = table_open(matrel, RowExclusiveLock);
	mr_relations_check_matrel(rel, analysis->columns);
	slot = table_slot_create(rel, NULL);
	store_initial_row(analysis, slot);
	insert_row(rel, slot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}
