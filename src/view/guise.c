/*
 * guise.c
 *		Acting as the owner of a view or stream, under the settings that were in force when
 *		the view was created.
 *
 * Nothing restores a guise after an error but the end of the (sub)transaction, which does.
 *
 * In a worker there is nobody else.  In a session there is whoever inserts into an attached
 * table, or replays, and what is his must not decide what the owner's functions do:
 *
 * Temporary relations.  The server looks for names in the session's temporary schema before
 * all others unless the search_path says otherwise, so it always says that it comes last,
 * also when a function sets another one, be it by a SET clause or set_config(): the check
 * hook of the setting sees to it.  (It sees no RESET.)  What is still found there, since
 * nothing else has that name, is refused: when a query is planned, because that may already
 * run what a temporary view calls, and when it is executed, because its plan may be older
 * than the guise.  The planner itself may still run a constant of a temporary view that a
 * set-returning SQL function reads, before the refusal undoes it.
 *
 * Settings that are not kept with the view, but change results, get a value of ours.  All
 * others do not matter to results: planning, resources, messages, new objects.  Parallel
 * workers would not know of the guise: there are none.
 *
 * The setting millrace.in_guise says that a guise is worn, since settings go back by
 * themselves after an error.  Nobody can set it.
 */
#include "millrace.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/planner.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"
#include "view/guise.h"

#define SEARCH_PATH	"search_path"
#define IN_GUISE	"millrace.in_guise"

static bool in_guise = false;

static planner_hook_type prev_planner = NULL;
static ExecutorCheckPerms_hook_type prev_check_permissions = NULL;
static GucStringCheckHook prev_check_search_path = NULL;

/* ---------- settings ---------- */

static void
set(const char *name, const char *value)
{
	const char *now = GetConfigOption(name, true, false);

	if (now != NULL && strcmp(now, value) != 0)
		(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
								 WARNING, false);
}

static bool
is_temporary_schema(const char *name)
{
	return strcmp(name, "pg_temp") == 0 || strncmp(name, "pg_temp_", strlen("pg_temp_")) == 0;
}

/* a search_path with the same schemas, and the temporary one behind them; NULL: it is none */
static char *
temporary_last(const char *path)
{
	char	   *copy = pstrdup(path);
	StringInfoData result;
	List	   *names;
	ListCell   *lc;

	if (!SplitIdentifierString(copy, ',', &names))
		return NULL;
	initStringInfo(&result);
	foreach(lc, names)
		if (!is_temporary_schema(lfirst(lc)))
		appendStringInfo(&result, "%s, ", quote_identifier(lfirst(lc)));
	/* what is named first is where objects are created */
	appendStringInfoString(&result, result.len == 0 ? "pg_catalog, pg_temp" : "pg_temp");
	list_free(names);
	pfree(copy);
	return result.data;
}

/* whoever sets it, in a guise */
static bool
keep_temporary_last(char **newval, void **extra, GucSource source)
{
	char	   *last = in_guise ? temporary_last(*newval) : NULL;

	if (last != NULL)
	{
		mr_guc_free(*newval);
		*newval = mr_guc_strdup(last);
		pfree(last);
		if (*newval == NULL)
			return false;
	}
	return prev_check_search_path(newval, extra, source);
}

/* the session's are anybody's */
static void
fix_settings(void)
{
	static const char *const settings[][2] = {
		{"standard_conforming_strings", "on"},
		{"backslash_quote", "safe_encoding"},
		{"gin_fuzzy_search_limit", "0"},
		{"session_replication_role", "origin"},
		{"restrict_nonsystem_relation_kind", ""},	/* from minor releases on */
		{"max_parallel_workers", "0"},
		{"plpgsql.check_asserts", "on"},
		{"pg_trgm.similarity_threshold", "0.3"},
		{"pg_trgm.word_similarity_threshold", "0.6"},
		{"pg_trgm.strict_word_similarity_threshold", "0.5"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		set(settings[i][0], settings[i][1]);
}

static void
apply_settings(const List *settings)
{
	const char *path = namespace_search_path;
	char	   *last;
	ListCell   *lc;

	foreach(lc, settings)
	{
		char	   *setting = pstrdup(lfirst(lc));
		char	   *equals = strchr(setting, '=');

		if (equals == NULL)
			continue;
		*equals = '\0';
		if (strcmp(setting, SEARCH_PATH) == 0)
			path = (const char *) lfirst(lc) + (equals + 1 - setting);
		else
			set(setting, equals + 1);
		pfree(setting);
	}
	last = temporary_last(path);
	if (last != NULL)
	{
		set(SEARCH_PATH, last);
		pfree(last);
	}
}

/* ---------- beginning and end ---------- */

void
mr_guise_begin(MrGuise *guise, Oid userid, const List *settings)
{
	GetUserIdAndSecContext(&guise->userid, &guise->sec_context);
	guise->guc_level = NewGUCNestLevel();
	fix_settings();
	apply_settings(settings);
	(void) set_config_option(IN_GUISE, "on", PGC_INTERNAL, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 ERROR, false);
	SetUserIdAndSecContext(userid, guise->sec_context | SECURITY_RESTRICTED_OPERATION);
}

void
mr_guise_end(const MrGuise *guise)
{
	AtEOXact_GUC(false, guise->guc_level);
	SetUserIdAndSecContext(guise->userid, guise->sec_context);
}

/* ---------- temporary relations ---------- */

static void
refuse_temporary(const List *rtable)
{
	ListCell   *lc;

	foreach(lc, rtable)
	{
		Oid			relid = lfirst_node(RangeTblEntry, lc)->relid;

		if (OidIsValid(relid) && get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
			ereport(ERROR,
					errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("cannot use temporary relation \"%s\" where a continuous view's query is run",
						   get_rel_name(relid)),
					errhint("No other relation of that name was found in the search_path that the view was created under."));
	}
}

static bool
refuse_temporary_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, refuse_temporary_walker, context);
	refuse_temporary(((Query *) node)->rtable);
	return query_tree_walker((Query *) node, refuse_temporary_walker, context, 0);
}

static PlannedStmt *
planner(Query *parse, const char *sql, int options, ParamListInfo params)
{
	if (in_guise)
		(void) refuse_temporary_walker((Node *) parse, NULL);
	return prev_planner ? prev_planner(parse, sql, options, params) :
		standard_planner(parse, sql, options, params);
}

static bool
check_permissions(MR_CHECK_PERMISSIONS_PARAMETERS)
{
	if (in_guise)
		refuse_temporary(rtable);
	return prev_check_permissions == NULL || prev_check_permissions(MR_CHECK_PERMISSIONS_ARGUMENTS);
}

void
mr_guise_init(void)
{
	struct config_string *search_path = (struct config_string *) mr_find_setting(SEARCH_PATH);

	DefineCustomBoolVariable(IN_GUISE, "Shows whether the query of a continuous view is run.", NULL,
							 &in_guise, false, PGC_INTERNAL,
							 GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							 NULL, NULL, NULL);
	prev_planner = planner_hook;
	planner_hook = planner;
	prev_check_permissions = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = check_permissions;
	prev_check_search_path = search_path->check_hook;
	search_path->check_hook = keep_temporary_last;
}
