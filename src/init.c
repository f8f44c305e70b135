/*
 * init.c
 *		What happens when the library is loaded: settings, hooks, the launcher.
 *
 * Loaded by shared_preload_libraries it registers everything.  Loaded later, by the first
 * use of a function, only settings of the session's own kind exist and whatever needs a
 * worker says so.
 */
#include "millrace.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "ingest/local.h"
#include "ingest/write.h"
#include "launcher.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "shmem.h"
#include "storage/ipc.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "view/combine.h"
#include "view/ddl.h"
#include "view/guise.h"

PG_MODULE_MAGIC;

bool		mr_enabled = true;
int			mr_commit_interval = 100;
int			mr_dead_letter_limit = 10000;
int			mr_batch_messages = 1000000;
int			mr_batch_memory = 128 * 1024;
int			mr_retry_max_interval = 30000;
int			mr_view_timeout = 30000;
int			mr_catchup_workers = 2;
int			mr_state_memory = 1024 * 1024;
bool		mr_allow_growing_states = false;
bool		mr_executor_aggregation = false;

static bool preloaded = false;
static ProcessUtility_hook_type prev_process_utility = NULL;

extern PGDLLEXPORT void _PG_init(void);

bool
mr_preloaded(void)
{
	return preloaded;
}

/* ---------- databases that are dropped, copied or moved ---------- */

/* DROP EXTENSION of ours, by somebody who may */
static bool
drops_extension(Node *stmt)
{
	ListCell   *lc;

	if (!IsA(stmt, DropStmt) || ((DropStmt *) stmt)->removeType != OBJECT_EXTENSION || !superuser())
		return false;
	foreach(lc, ((DropStmt *) stmt)->objects)
		if (strcmp(strVal(lfirst(lc)), MR_EXTENSION) == 0)
		return true;
	return false;
}

/*
 * The database that a statement wants without other sessions in it, InvalidOid if none:
 * our processes would keep it busy for ever.  Of these statements only CREATE DATABASE can
 * mean the one that it is given in.  DROP EXTENSION wants our processes away from there, because it
 * locks all that they work with, in an order that is not theirs.  (Inlined, its variable would seem to live through
 * process_utility's setjmp.)
 */
static pg_noinline Oid
database_wanted(Node *stmt)
{
	const char *name = NULL;
	Oid			result;

	if (drops_extension(stmt))
		return MyDatabaseId;
	if (IsA(stmt, DropdbStmt))
		name = ((DropdbStmt *) stmt)->dbname;
	else if (IsA(stmt, RenameStmt) && ((RenameStmt *) stmt)->renameType == OBJECT_DATABASE)
		name = ((RenameStmt *) stmt)->subname;
	else if (IsA(stmt, AlterDatabaseStmt))
	{
		ListCell   *lc;

		foreach(lc, ((AlterDatabaseStmt *) stmt)->options)
			if (strcmp(((DefElem *) lfirst(lc))->defname, "tablespace") == 0)
			name = ((AlterDatabaseStmt *) stmt)->dbname;
	}
	else if (IsA(stmt, CreatedbStmt))
	{
		ListCell   *lc;

		foreach(lc, ((CreatedbStmt *) stmt)->options)
		{
			DefElem    *option = lfirst(lc);

			if (strcmp(option->defname, "template") == 0 && option->arg && IsA(option->arg, String))
				name = strVal(option->arg);
		}
	}
	result = name ? get_database_oid(name, true) : InvalidOid;
	return result == MyDatabaseId && !IsA(stmt, CreatedbStmt) ? InvalidOid : result;
}

/* the server's own, have_createdb_privilege(), is not there for others in all minor releases */
static bool
may_create_databases(void)
{
	HeapTuple	tuple;
	bool		result;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	result = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return result;
}

/* would the server let this user do it?  Nobody else may stop ingest by trying. */
static bool
may_want(Node *stmt, Oid database)
{
	if (IsA(stmt, CreatedbStmt) && !may_create_databases())
		return false;
	return mr_compat_database_owner(database, GetUserId());
}

/* does a statement make, or let in to, a database that the launcher does not look after yet? */
static bool
opens_database(const Node *stmt)
{
	return IsA(stmt, CreatedbStmt) || IsA(stmt, AlterDatabaseStmt);
}

static void
unblock(int code, Datum database)
{
	mr_shmem_unblock_database(DatumGetObjectId(database));
}

static void
call_utility(PlannedStmt *pstmt, const char *query, bool read_only, ProcessUtilityContext context,
			 ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (prev_process_utility)
		prev_process_utility(pstmt, query, read_only, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only, context, params, env, dest, qc);
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *stmt = pstmt->utilityStmt;
	const Oid	database = mr_shared != NULL && IsTransactionState() ? database_wanted(stmt) : InvalidOid;

	mr_write_check_utility(stmt);
	if (!OidIsValid(database) || !may_want(stmt, database))
	{
		bool		extension = IsA(stmt, CreateExtensionStmt) ||
		(IsA(stmt, DropStmt) && ((DropStmt *) stmt)->removeType == OBJECT_EXTENSION);
		bool		opens = opens_database(stmt);
		List	   *owners = IsA(stmt, ReassignOwnedStmt) ? mr_view_owners() : NIL;

		call_utility(pstmt, query, read_only, context, params, env, dest, qc);
		if (extension)
			mr_shmem_wake_at_commit(MyDatabaseId);
		if (opens)
			mr_shmem_probe_at_commit();
		if (IsA(stmt, ReassignOwnedStmt))
			mr_view_sync_owners(owners);
		return;
	}

	PG_ENSURE_ERROR_CLEANUP(unblock, ObjectIdGetDatum(database));
	{
		mr_shmem_block_database(database);
		call_utility(pstmt, query, read_only, context, params, env, dest, qc);
		if (IsA(stmt, DropdbStmt) || IsA(stmt, DropStmt))
			mr_shmem_forget_database(database);
		if (IsA(stmt, DropStmt))
			mr_shmem_wake_at_commit(MyDatabaseId);
		if (IsA(stmt, CreatedbStmt))
			mr_shmem_probe_at_commit();
	}
	PG_END_ENSURE_ERROR_CLEANUP(unblock, ObjectIdGetDatum(database));
	unblock(0, ObjectIdGetDatum(database));
}

/* ---------- settings ---------- */

static void
define_settings(void)
{
	DefineCustomBoolVariable("millrace.enabled", "Runs ingest workers.",
							 "When off, all ingest stops; positions are kept.",
							 &mr_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.commit_interval",
							"Longest time between two commits while messages keep coming.",
							"An idle stream commits a new message at once.",
							&mr_commit_interval, 100, 1, 60 * 60 * 1000, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.dead_letter_limit",
							"A view fails when messages that it cannot take outnumber the others by more than this.",
							"-1: never.",
							&mr_dead_letter_limit, 10000, -1, INT_MAX, PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.batch_messages", "Most messages in one transaction.", NULL,
							&mr_batch_messages, 1000000, 1, 100000000, PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.batch_memory", "Memory that one worker uses to buffer messages.",
							NULL, &mr_batch_memory, 128 * 1024, 1024, MAX_KILOBYTES, PGC_SIGHUP,
							GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.retry_max_interval", "Longest wait between two attempts after an error.",
							NULL, &mr_retry_max_interval, 30000, 10, 60 * 60 * 1000, PGC_SIGHUP,
							GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.view_timeout",
							"Longest time that a view may take for a batch while others wait for it.",
							"Then it goes on by itself. 0: no limit.",
							&mr_view_timeout, 30000, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.catchup_workers",
							"Most processes per database that feed views which are behind.",
							NULL, &mr_catchup_workers, 2, 1, 100, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("millrace.state_memory",
							"Most memory that one state of an aggregate that keeps values may take.",
							"A row that would make it larger is an error.",
							&mr_state_memory, 1024 * 1024, 64, 1024 * 1024, PGC_USERSET,
							GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomBoolVariable("millrace.allow_growing_states",
							 "Creates continuous views whose states grow with the messages.",
							 "For count(DISTINCT x), percentile_cont, array_agg and the like, which keep all values.",
							 &mr_allow_growing_states, false, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("millrace.executor_aggregation",
							 "Aggregates batches by the executor's Agg node only.",
							 "For comparison; results are the same.",
							 &mr_executor_aggregation, false, PGC_SIGHUP, GUC_NOT_IN_SAMPLE,
							 NULL, NULL, NULL);
	MarkGUCPrefixReserved("millrace");
}

void
_PG_init(void)
{
	preloaded = process_shared_preload_libraries_in_progress;
	mr_guise_init();
	define_settings();
	mr_combine_init();
	mr_local_init();
	if (!preloaded)
		return;
	mr_shmem_init();
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	mr_launcher_register();
}
