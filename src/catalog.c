/*
 * catalog.c
 *		How millrace's own tables are read and written, and what the extension itself is.
 *
 * What is in the tables is others' affair: views (catalog_view.c), feeds (catalog_feed.c),
 * shadows (catalog_rebuild.c), rows that leave (catalog_expiry.c).
 *
 * Every statement is schema-qualified, has bound parameters and runs with the extension
 * owner's rights under a search_path of pg_catalog, so that neither the caller's
 * privileges nor his operators matter.  Plans are kept for the life of the process; the
 * plan cache of the server follows DDL on the tables.
 *
 * Reading statements use the latest snapshot even in a REPEATABLE READ transaction: the
 * catalog describes what processes do now, not what a transaction saw when it began.
 */
#include "millrace.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "catalog.h"
#include "catalog/namespace.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "planted.h"
#include "shmem.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

typedef struct PlanEntry
{
	const char *sql;			/* hash key: the literal's address */
	SPIPlanPtr	plan;
} PlanEntry;

static HTAB *plans = NULL;

PG_FUNCTION_INFO_V1(mr_is_home);

/* ---------- scope and statements ---------- */

void
mr_catalog_begin(MrCatalogScope *scope)
{
	Oid			owner = mr_catalog_owner();

	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"%s\" is not installed in this database", MR_EXTENSION),
				 errhint("Use CREATE EXTENSION %s.", MR_EXTENSION)));
	scope->caller = CurrentMemoryContext;
	GetUserIdAndSecContext(&scope->userid, &scope->sec_context);
	SetUserIdAndSecContext(owner, scope->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	scope->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
}

void
mr_catalog_end(MrCatalogScope *scope)
{
	SPI_finish();
	AtEOXact_GUC(false, scope->guc_level);
	SetUserIdAndSecContext(scope->userid, scope->sec_context);
	MemoryContextSwitchTo(scope->caller);
}

static SPIPlanPtr
cached_plan(const char *sql, int nargs, const Oid *types)
{
	PlanEntry  *entry;
	bool		found;

	if (plans == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(const char *),.entrysize = sizeof(PlanEntry)};

		plans = hash_create("millrace catalog plans", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(plans, &sql, HASH_FIND, NULL);
	if (entry == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(sql, nargs, unconstify(Oid *, types));

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		entry = hash_search(plans, &sql, HASH_ENTER, &found);
		entry->plan = plan;
	}
	return entry->plan;
}

int
mr_catalog_run(const char *sql, bool read_only, int nargs, const Oid *types,
			   const Datum *values, const char *nulls)
{
	SPIPlanPtr	plan = cached_plan(sql, nargs, types);
	Snapshot	snapshot;
	int			rc;

	if (!read_only)
		mr_planted_check_plan(plan);
	snapshot = GetLatestSnapshot();
	rc = SPI_execute_snapshot(plan, unconstify(Datum *, values), nulls, snapshot,
							  InvalidSnapshot, read_only, true, 0);
	if (rc < 0)
		elog(ERROR, "\"%s\" failed: %s", sql, SPI_result_code_string(rc));
	return rc;
}

int
mr_catalog_run_alone(const char *sql, int nargs, const Oid *types,
					 const Datum *values, const char *nulls)
{
	MrCatalogScope scope;
	int			n;

	mr_catalog_begin(&scope);
	mr_catalog_run(sql, false, nargs, types, values, nulls);
	n = (int) SPI_processed;
	mr_catalog_end(&scope);
	return n;
}

List *
mr_catalog_oids(const char *sql, int nargs, const Oid *types, const Datum *values)
{
	MrCatalogScope scope;
	List	   *result = NIL;
	MemoryContext old;

	mr_catalog_begin(&scope);
	mr_catalog_run(sql, true, nargs, types, values, NULL);
	old = MemoryContextSwitchTo(scope.caller);
	for (uint64 i = 0; i < SPI_processed; i++)
		result = lappend_oid(result, DatumGetObjectId(mr_catalog_value(i, 1)));
	MemoryContextSwitchTo(old);
	mr_catalog_end(&scope);
	return result;
}

Oid
mr_catalog_oid(const char *sql, int nargs, const Oid *types, const Datum *values)
{
	List	   *oids = mr_catalog_oids(sql, nargs, types, values);

	return oids == NIL ? InvalidOid : linitial_oid(oids);
}

char *
mr_catalog_string(const char *sql, int nargs, const Oid *types, const Datum *values)
{
	MrCatalogScope scope;
	char	   *result = NULL;

	mr_catalog_begin(&scope);
	mr_catalog_run(sql, true, nargs, types, values, NULL);
	if (SPI_processed > 0)
		result = mr_catalog_text(0, 1, scope.caller);
	mr_catalog_end(&scope);
	return result;
}

Datum
mr_catalog_column(uint64 row, int col, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, isnull);
}

Datum
mr_catalog_value(uint64 row, int col)
{
	bool		isnull;
	Datum		result = mr_catalog_column(row, col, &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in a catalog of millrace");
	return result;
}

char *
mr_catalog_text(uint64 row, int col, MemoryContext context)
{
	bool		isnull;
	Datum		datum = mr_catalog_column(row, col, &isnull);
	char	   *result;

	if (isnull)
		return NULL;
	result = TextDatumGetCString(datum);
	return MemoryContextStrdup(context, result);
}

Datum
mr_catalog_int8_array(const int64 *values, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * (n + 1));

	for (int i = 0; i < n; i++)
		elems[i] = Int64GetDatum(values[i]);
	return PointerGetDatum(construct_array(elems, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

int64 *
mr_catalog_int8_rows(const MrCatalogScope *scope, int ncolumns, int *nrows)
{
	int64	   *result = MemoryContextAlloc(scope->caller,
											sizeof(int64) * (SPI_processed * ncolumns + 1));

	*nrows = (int) SPI_processed;
	for (int i = 0; i < *nrows; i++)
		for (int c = 0; c < ncolumns; c++)
			result[i * ncolumns + c] = DatumGetInt64(mr_catalog_value(i, c + 1));
	return result;
}

/* ---------- locks ---------- */

static Oid
table_oid(const char *table)
{
	return get_relname_relid(table, mr_catalog_schema_oid());
}

void
mr_catalog_lock_to_write(const char *table)
{
	LockRelationOid(table_oid(table), RowExclusiveLock);
}

void
mr_catalog_lock_object(const char *table, Oid id, LOCKMODE mode)
{
	LockDatabaseObject(table_oid(table), id, 0, mode);
}

/* as LockDatabaseObject does it */
bool
mr_catalog_try_lock_object(const char *table, Oid id, LOCKMODE mode)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, table_oid(table), id, 0);
	if (LockAcquire(&tag, mode, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	AcceptInvalidationMessages();
	return true;
}

/* ---------- the extension itself ---------- */

Oid
mr_catalog_extension_oid(void)
{
	return get_extension_oid(MR_EXTENSION, true);
}

Oid
mr_catalog_schema_oid(void)
{
	return get_namespace_oid(MR_SCHEMA, true);
}

Oid
mr_catalog_owner(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			owner = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(MR_EXTENSION));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return owner;
}

/*
 * is_home(cluster, database, extension): is that where we are?  What a dump brings back is of
 * another extension, if only because that was made again; CREATE DATABASE copies it to another
 * database, pg_upgrade to another cluster.  What the server itself takes for the same cluster
 * (a standby, a base backup) is the same to us.
 */
Datum
mr_is_home(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_INT64(0) == (int64) GetSystemIdentifier() &&
				   PG_GETARG_OID(1) == MyDatabaseId &&
				   PG_GETARG_OID(2) == mr_catalog_extension_oid());
}

/* ---------- waking ---------- */

void
mr_catalog_changed(void)
{
	mr_shmem_wake_at_commit(MyDatabaseId);
}
