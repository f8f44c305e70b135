/*
 * catalog.c
 *		millrace's own tables, and nothing else.
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
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "catalog.h"
#include "catalog/namespace.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "shmem.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
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
	Snapshot	snapshot = GetLatestSnapshot();
	int			rc;

	rc = SPI_execute_snapshot(plan, unconstify(Datum *, values), nulls, snapshot,
							  InvalidSnapshot, read_only, true, 0);
	if (rc < 0)
		elog(ERROR, "\"%s\" failed: %s", sql, SPI_result_code_string(rc));
	return rc;
}

/* one statement in a scope of its own, for those whose rows do not matter */
static void
run_alone(const char *sql, int nargs, const Oid *types, const Datum *values, const char *nulls)
{
	MrCatalogScope scope;

	mr_catalog_begin(&scope);
	mr_catalog_run(sql, false, nargs, types, values, nulls);
	mr_catalog_end(&scope);
}

static Datum
column(uint64 row, int col, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, isnull);
}

/* a value that cannot be NULL */
static Datum
value(uint64 row, int col)
{
	bool		isnull;
	Datum		result = column(row, col, &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in a catalog of millrace");
	return result;
}

static char *
text_value(uint64 row, int col, MemoryContext context)
{
	bool		isnull;
	Datum		datum = column(row, col, &isnull);
	char	   *result;

	if (isnull)
		return NULL;
	result = TextDatumGetCString(datum);
	return MemoryContextStrdup(context, result);
}

/* is a feed this database's?  Its row may have been copied here. */
#define AT_HOME	"millrace.is_home(f.home_cluster, f.home_database, f.home_extension)"

/* what makes a feed this database's */
#define HERE \
	Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(MyDatabaseId), \
	ObjectIdGetDatum(mr_catalog_extension_oid())

#define ADOPT \
	"UPDATE millrace.feed f SET home_cluster = $2, home_database = $3, home_extension = $4," \
	" generation = generation + 1"

/* a feed's offsets go with it */
#define DELETE_FEEDS(condition) \
	"WITH d AS (DELETE FROM millrace.feed f WHERE " condition " RETURNING f.id)" \
	" DELETE FROM millrace.feed_offset o USING d WHERE o.feed = d.id"

/* feeds that are away, and that no view follows any more */
static void
forget_orphans(void)
{
	run_alone(DELETE_FEEDS("NOT " AT_HOME
						   " AND NOT EXISTS (SELECT FROM millrace.view_stream s WHERE s.feed = f.id)"),
			  0, NULL, NULL, NULL);
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

/* ---------- views ---------- */

#define VIEW_COLUMNS \
	"v.view, v.matrel, v.definition, v.kind, v.query, v.settings, v.active, v.failed, v.last_error," \
	" coalesce(v.rebuilds, v.view)"

static List *
text_array_to_list(Datum array)
{
	List	   *result = NIL;
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
					  &elems, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			result = lappend(result, TextDatumGetCString(elems[i]));
	return result;
}

static MrView *
view_from_row(uint64 row, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	MrView	   *view = palloc0(sizeof(MrView));

	view->view = DatumGetObjectId(value(row, 1));
	view->matrel = DatumGetObjectId(value(row, 2));
	view->definition = DatumGetObjectId(value(row, 3));
	view->kind = text_value(row, 4, context);
	view->query = text_value(row, 5, context);
	view->settings = text_array_to_list(value(row, 6));
	view->active = DatumGetBool(value(row, 7));
	view->failed = DatumGetBool(value(row, 8));
	view->last_error = text_value(row, 9, context);
	view->target = DatumGetObjectId(value(row, 10));
	MemoryContextSwitchTo(old);
	return view;
}

static List *
views_from(const char *sql, int nargs, const Oid *types, const Datum *values)
{
	MrCatalogScope scope;
	List	   *result = NIL;

	mr_catalog_begin(&scope);
	mr_catalog_run(sql, true, nargs, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MrView	   *view = view_from_row(i, scope.caller);
		MemoryContext old = MemoryContextSwitchTo(scope.caller);

		result = lappend(result, view);
		MemoryContextSwitchTo(old);
	}
	mr_catalog_end(&scope);
	return result;
}

MrView *
mr_catalog_view(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};
	List	   *views = views_from("SELECT " VIEW_COLUMNS
								   " FROM millrace.continuous_view v WHERE v.view = $1",
								   1, types, values);

	return views == NIL ? NULL : linitial(views);
}

bool
mr_catalog_view_changed_here(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};
	MrCatalogScope scope;
	bool		result = false;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT xmin FROM millrace.continuous_view WHERE view = $1",
				   true, 1, types, values, NULL);
	if (SPI_processed > 0)
		result = TransactionIdIsCurrentTransactionId(DatumGetTransactionId(value(0, 1)));
	mr_catalog_end(&scope);
	return result;
}

List *
mr_catalog_views(void)
{
	return views_from("SELECT " VIEW_COLUMNS " FROM millrace.continuous_view v ORDER BY v.view::oid",
					  0, NULL, NULL);
}

List *
mr_catalog_views_of_feed(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};

	return views_from("SELECT " VIEW_COLUMNS " FROM millrace.continuous_view v"
					  " JOIN millrace.view_stream s USING (view) WHERE s.feed = $1"
					  " ORDER BY v.view::oid", 1, types, values);
}

List *
mr_catalog_views_of_stream(Oid stream)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(stream)};

	return views_from("SELECT " VIEW_COLUMNS " FROM millrace.continuous_view v"
					  " JOIN millrace.view_stream s USING (view) WHERE s.stream = $1"
					  " ORDER BY v.view::oid", 1, types, values);
}

void
mr_catalog_insert_view(const MrView *view, const char *start_at)
{
	Oid			types[] = {OIDOID, TEXTOID, OIDOID, OIDOID, TEXTOID, TEXTARRAYOID, TEXTOID};
	Datum		values[7];
	Datum	   *elems = palloc(sizeof(Datum) * (list_length(view->settings) + 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, view->settings)
		elems[n++] = CStringGetTextDatum(lfirst(lc));
	values[0] = ObjectIdGetDatum(view->view);
	values[1] = CStringGetTextDatum(view->kind);
	values[2] = ObjectIdGetDatum(view->matrel);
	values[3] = ObjectIdGetDatum(view->definition);
	values[4] = CStringGetTextDatum(view->query);
	values[5] = PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
	values[6] = CStringGetTextDatum(start_at);
	run_alone("INSERT INTO millrace.continuous_view"
			  " (view, kind, matrel, definition, query, settings, start_at)"
			  " VALUES ($1, $2, $3, $4, $5, $6, $7)", 7, types, values, NULL);
}

void
mr_catalog_delete_view(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};

	run_alone("WITH s AS (DELETE FROM millrace.view_stream WHERE view = $1 RETURNING feed),"
			  " o AS (DELETE FROM millrace.view_start WHERE view = $1),"
			  " d AS (DELETE FROM millrace.dead_letter WHERE view = $1),"
			  " m AS (UPDATE millrace.dead_letter SET missed = array_remove(missed, $1::regclass)"
			  " WHERE view IS NULL AND $1 = ANY (missed)),"
			  " r AS (DELETE FROM millrace.view_retention WHERE view = $1),"
			  " w AS (DELETE FROM millrace.view_window WHERE view = $1),"
			  " v AS (DELETE FROM millrace.continuous_view WHERE view = $1)"
			  " UPDATE millrace.feed f SET generation = generation + 1 FROM s WHERE s.feed = f.id",
			  1, types, values, NULL);
	forget_orphans();
}

void
mr_catalog_insert_view_stream(Oid view, Oid stream, int64 feed, const Bitmapset *attrs)
{
	Oid			types[] = {OIDOID, OIDOID, INT8OID, INT2ARRAYOID};
	Datum		values[4];
	Datum	   *elems = palloc(sizeof(Datum) * (bms_num_members(attrs) + 1));
	int			n = 0;
	int			attnum = -1;

	while ((attnum = bms_next_member(attrs, attnum)) >= 0)
		elems[n++] = Int16GetDatum((int16) attnum);
	values[0] = ObjectIdGetDatum(view);
	values[1] = ObjectIdGetDatum(stream);
	values[2] = Int64GetDatum(feed);
	values[3] = PointerGetDatum(construct_array(elems, n, INT2OID, 2, true, TYPALIGN_SHORT));
	run_alone("INSERT INTO millrace.view_stream (view, stream, feed, columns)"
			  " VALUES ($1, $2, $3, $4)", 4, types, values, NULL);
}

void
mr_catalog_insert_view_start(Oid view, Oid stream, int32 partition, int64 offset)
{
	Oid			types[] = {OIDOID, OIDOID, INT4OID, INT8OID};
	Datum		values[] = {ObjectIdGetDatum(view), ObjectIdGetDatum(stream),
	Int32GetDatum(partition), Int64GetDatum(offset)};

	run_alone("INSERT INTO millrace.view_start (view, stream, partition, from_offset)"
			  " VALUES ($1, $2, $3, $4)", 4, types, values, NULL);
}

/* rows of (partition, offset) as an array in the caller's context */
/* from two columns; of all NULL, none */
static MrRecord
record_value(uint64 row, int col)
{
	MrRecord	result = MR_NO_RECORD;
	bool		isnull;
	Datum		offset = column(row, col, &isnull);

	if (!isnull)
	{
		result.offset = DatumGetInt64(offset);
		result.checksum = (uint32) DatumGetInt64(value(row, col + 1));
	}
	return result;
}

static MrFeedOffset *
offsets_from_rows(const MrCatalogScope *scope, int *n)
{
	MrFeedOffset *result = MemoryContextAlloc(scope->caller,
											  sizeof(MrFeedOffset) * (SPI_processed + 1));

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		result[i].partition = DatumGetInt32(value(i, 1));
		result[i].next_offset = DatumGetInt64(value(i, 2));
		result[i].in_gap = SPI_tuptable->tupdesc->natts > 2 && DatumGetBool(value(i, 3));
		result[i].last = SPI_tuptable->tupdesc->natts > 2 ? record_value(i, 4) : MR_NO_RECORD;
		result[i].anchor = SPI_tuptable->tupdesc->natts > 2 ? record_value(i, 6) : MR_NO_RECORD;
	}
	*n = (int) SPI_processed;
	return result;
}

MrFeedOffset *
mr_catalog_view_start(Oid view, Oid stream, int *n)
{
	Oid			types[] = {OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view), ObjectIdGetDatum(stream)};
	MrCatalogScope scope;
	MrFeedOffset *result;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT partition, from_offset FROM millrace.view_start"
				   " WHERE view = $1 AND stream = $2 ORDER BY partition",
				   true, 2, types, values, NULL);
	result = offsets_from_rows(&scope, n);
	mr_catalog_end(&scope);
	return result;
}

void
mr_catalog_set_view_state(Oid view, bool active, bool failed, const char *error)
{
	Oid			types[] = {OIDOID, BOOLOID, BOOLOID, TEXTOID};
	Datum		values[] = {ObjectIdGetDatum(view), BoolGetDatum(active), BoolGetDatum(failed),
	error ? CStringGetTextDatum(error) : (Datum) 0};

	run_alone("UPDATE millrace.continuous_view SET active = $2, failed = $3, last_error = $4,"
			  " last_error_at = CASE WHEN $4 IS NULL THEN NULL ELSE clock_timestamp() END"
			  " WHERE view = $1", 4, types, values, error ? "    " : "   n");
}

Bitmapset *
mr_catalog_stream_attrs(Oid stream)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(stream)};
	MrCatalogScope scope;
	Bitmapset  *result = NULL;
	MemoryContext old;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT DISTINCT unnest(columns)::integer FROM millrace.view_stream"
				   " WHERE stream = $1", true, 1, types, values, NULL);
	old = MemoryContextSwitchTo(scope.caller);
	for (uint64 i = 0; i < SPI_processed; i++)
		result = bms_add_member(result, DatumGetInt32(value(i, 1)));
	MemoryContextSwitchTo(old);
	mr_catalog_end(&scope);
	return result;
}

Oid
mr_catalog_view_of_part(Oid relid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};
	MrCatalogScope scope;
	Oid			result = InvalidOid;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT coalesce(rebuilds, view)::oid FROM millrace.continuous_view"
				   " WHERE matrel = $1 OR definition = $1", true, 1, types, values, NULL);
	if (SPI_processed > 0)
		result = DatumGetObjectId(value(0, 1));
	mr_catalog_end(&scope);
	return result;
}

/* ---------- streams ---------- */

void
mr_catalog_delete_stream(Oid stream)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(stream)};

	run_alone("DELETE FROM millrace.view_stream WHERE stream = $1", 1, types, values, NULL);
	run_alone(DELETE_FEEDS("f.stream = $1"), 1, types, values, NULL);
	run_alone("DELETE FROM millrace.stream_status WHERE stream = $1", 1, types, values, NULL);
	run_alone("DELETE FROM millrace.dead_letter WHERE stream = $1", 1, types, values, NULL);
	run_alone("DELETE FROM millrace.gap WHERE stream = $1", 1, types, values, NULL);
}

char *
mr_catalog_feed_error(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};
	MrCatalogScope scope;
	char	   *result = NULL;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT last_error FROM millrace.feed WHERE id = $1",
				   true, 1, types, values, NULL);
	if (SPI_processed > 0)
		result = text_value(0, 1, scope.caller);
	mr_catalog_end(&scope);
	return result;
}

void
mr_catalog_stop_feed(const MrFeed *feed, const char *error)
{
	Oid			types[] = {INT8OID, TEXTOID};
	Datum		values[] = {Int64GetDatum(feed->id), CStringGetTextDatum(error)};

	run_alone("UPDATE millrace.feed SET stopped = true, last_error = $2, generation = generation + 1"
			  " WHERE id = $1", 2, types, values, NULL);
	run_alone("INSERT INTO millrace.stream_status AS s (stream, last_error, last_error_at)"
			  " SELECT stream, $2, clock_timestamp() FROM millrace.feed WHERE id = $1"
			  " ON CONFLICT (stream) DO UPDATE SET last_error = excluded.last_error,"
			  " last_error_at = excluded.last_error_at", 2, types, values, NULL);
}

void
mr_catalog_restart_feed(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};

	run_alone("UPDATE millrace.feed SET stopped = false, last_error = NULL, generation = generation + 1"
			  " WHERE id = $1", 1, types, values, NULL);
}

void
mr_catalog_adopt_stream(Oid stream)
{
	Oid			types[] = {OIDOID, INT8OID, OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(stream), HERE};

	run_alone(ADOPT " WHERE f.stream = $1 AND NOT " AT_HOME, 4, types, values, NULL);
}

/* views that share the feed stay behind: nobody has asked for them */
void
mr_catalog_adopt_view(Oid view)
{
	Oid			types[] = {OIDOID, INT8OID, OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view), HERE};
	ListCell   *lc;

	run_alone(ADOPT " WHERE NOT " AT_HOME " AND f.id IN (SELECT feed FROM millrace.view_stream WHERE view = $1)"
			  " AND NOT EXISTS (SELECT FROM millrace.view_stream s WHERE s.feed = f.id AND s.view <> $1)",
			  4, types, values, NULL);
	foreach(lc, mr_catalog_streams_of_view(view))
	{
		const MrFeed *feed = lfirst(lc);

		if (!feed->away)
			continue;
		mr_catalog_lock_feed(feed->id, ExclusiveLock);
		(void) mr_catalog_split_view(view, feed->stream, feed->id);
	}
	forget_orphans();
}

void
mr_catalog_set_resume_offset(int64 feed, int32 partition, int64 offset)
{
	Oid			types[] = {INT8OID, INT4OID, INT8OID};
	Datum		values[] = {Int64GetDatum(feed), Int32GetDatum(partition), Int64GetDatum(offset)};

	run_alone("UPDATE millrace.feed_offset SET resume_offset = $3 WHERE feed = $1 AND partition = $2",
			  3, types, values, NULL);
}

void
mr_catalog_pass_gaps(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};

	run_alone("WITH o AS (UPDATE millrace.feed_offset o SET next_offset = resume_offset,"
			  " resume_offset = NULL, last_offset = NULL, last_checksum = NULL,"
			  " anchor_offset = NULL, anchor_checksum = NULL"
			  " WHERE o.feed = $1 AND resume_offset IS NOT NULL RETURNING partition, next_offset)"
			  " UPDATE millrace.gap g SET passed = true FROM o, millrace.feed f"
			  " WHERE f.id = $1 AND g.stream = f.stream AND NOT g.passed"
			  " AND g.partition = o.partition AND g.to_offset = o.next_offset",
			  1, types, values, NULL);
}

MrFeedCluster *
mr_catalog_feed_cluster(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};
	MrFeedCluster *result = palloc0(sizeof(MrFeedCluster));
	MrCatalogScope scope;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT cluster, other_cluster FROM millrace.feed WHERE id = $1",
				   true, 1, types, values, NULL);
	if (SPI_processed > 0)
	{
		result->id = text_value(0, 1, scope.caller);
		result->other = text_value(0, 2, scope.caller);
	}
	mr_catalog_end(&scope);
	return result;
}

bool
mr_catalog_set_cluster(int64 feed, const char *from, const char *to)
{
	Oid			types[] = {INT8OID, TEXTOID, TEXTOID};
	Datum		values[] = {Int64GetDatum(feed), from ? CStringGetTextDatum(from) : (Datum) 0,
	CStringGetTextDatum(to)};
	MrCatalogScope scope;
	bool		result;

	mr_catalog_begin(&scope);
	mr_catalog_run("UPDATE millrace.feed SET cluster = $3, other_cluster = NULL"
				   " WHERE id = $1 AND cluster IS NOT DISTINCT FROM $2",
				   false, 3, types, values, from ? "   " : " n ");
	result = SPI_processed == 1;
	mr_catalog_end(&scope);
	return result;
}

void
mr_catalog_set_other_cluster(int64 feed, const char *other)
{
	Oid			types[] = {INT8OID, TEXTOID};
	Datum		values[] = {Int64GetDatum(feed), CStringGetTextDatum(other)};

	run_alone("UPDATE millrace.feed SET other_cluster = $2 WHERE id = $1", 2, types, values, NULL);
}

/* ---------- feeds ---------- */

#define TOPIC_OF_STREAM \
	"(SELECT o.option_value FROM pg_foreign_table t, pg_options_to_table(t.ftoptions) o" \
	" WHERE t.ftrelid = $1 AND o.option_name = 'topic')"

bool
mr_catalog_topic_changed(Oid stream)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(stream)};
	MrCatalogScope scope;
	bool		result;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT 1 FROM millrace.feed f JOIN millrace.view_stream s ON s.feed = f.id"
				   " WHERE f.stream = $1 AND f.topic IS DISTINCT FROM " TOPIC_OF_STREAM,
				   true, 1, types, values, NULL);
	result = SPI_processed > 0;
	mr_catalog_end(&scope);
	return result;
}

int64
mr_catalog_insert_feed(Oid stream)
{
	Oid			types[] = {OIDOID, INT8OID, OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(stream), HERE};
	MrCatalogScope scope;
	int64		result;

	mr_catalog_begin(&scope);
	mr_catalog_run("INSERT INTO millrace.feed (stream, topic, home_cluster, home_database, home_extension)"
				   " VALUES ($1, " TOPIC_OF_STREAM ", $2, $3, $4) RETURNING id",
				   false, 4, types, values, NULL);
	result = DatumGetInt64(value(0, 1));
	mr_catalog_end(&scope);
	return result;
}

void
mr_catalog_insert_feed_offset(int64 feed, int32 partition, int64 next_offset)
{
	Oid			types[] = {INT8OID, INT4OID, INT8OID};
	Datum		values[] = {Int64GetDatum(feed), Int32GetDatum(partition), Int64GetDatum(next_offset)};

	run_alone("INSERT INTO millrace.feed_offset (feed, partition, next_offset) VALUES ($1, $2, $3)",
			  3, types, values, NULL);
}

void
mr_catalog_bump_feed(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};

	run_alone("UPDATE millrace.feed SET generation = generation + 1 WHERE id = $1",
			  1, types, values, NULL);
}

static List *
feeds_from(const char *sql, int nargs, const Oid *types, const Datum *values)
{
	MrCatalogScope scope;
	List	   *result = NIL;

	mr_catalog_begin(&scope);
	mr_catalog_run(sql, true, nargs, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(scope.caller);
		MrFeed	   *feed = palloc(sizeof(MrFeed));

		feed->id = DatumGetInt64(value(i, 1));
		feed->stream = DatumGetObjectId(value(i, 2));
		feed->live = DatumGetBool(value(i, 3));
		feed->generation = DatumGetInt64(value(i, 4));
		feed->stopped = DatumGetBool(value(i, 5));
		feed->away = DatumGetBool(value(i, 6));
		result = lappend(result, feed);
		MemoryContextSwitchTo(old);
	}
	mr_catalog_end(&scope);
	return result;
}

MrFeed *
mr_catalog_feed(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};
	List	   *feeds = feeds_from("SELECT f.id, f.stream, f.live, f.generation, f.stopped, NOT " AT_HOME " FROM millrace.feed f"
								   " WHERE id = $1", 1, types, values);

	return feeds == NIL ? NULL : linitial(feeds);
}

List *
mr_catalog_feeds(void)
{
	return feeds_from("SELECT f.id, f.stream, f.live, f.generation, f.stopped, NOT " AT_HOME " FROM millrace.feed f"
					  " WHERE EXISTS (SELECT FROM millrace.view_stream s"
					  " JOIN millrace.continuous_view v USING (view)"
					  " WHERE s.feed = f.id AND v.active AND NOT v.failed)"
					  " AND NOT f.stopped AND " AT_HOME
					  " ORDER BY f.live DESC, f.id", 0, NULL, NULL);
}

int64
mr_catalog_live_feed(Oid stream)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(stream)};
	List	   *feeds = feeds_from("SELECT f.id, f.stream, f.live, f.generation, f.stopped, NOT " AT_HOME " FROM millrace.feed f"
								   " WHERE stream = $1 AND live", 1, types, values);

	return feeds == NIL ? 0 : ((MrFeed *) linitial(feeds))->id;
}

int64
mr_catalog_feed_of(Oid view, Oid stream)
{
	Oid			types[] = {OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view), ObjectIdGetDatum(stream)};
	List	   *feeds = feeds_from("SELECT f.id, f.stream, f.live, f.generation, f.stopped, NOT " AT_HOME " FROM millrace.feed f"
								   " JOIN millrace.view_stream s ON s.feed = f.id"
								   " WHERE s.view = $1 AND s.stream = $2", 2, types, values);

	return feeds == NIL ? 0 : ((MrFeed *) linitial(feeds))->id;
}

List *
mr_catalog_streams_of_view(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};

	return feeds_from("SELECT f.id, f.stream, f.live, f.generation, f.stopped, NOT " AT_HOME " FROM millrace.feed f"
					  " JOIN millrace.view_stream s ON s.feed = f.id WHERE s.view = $1"
					  " ORDER BY f.stream::oid", 1, types, values);
}

static Oid
feed_table(void)
{
	return get_relname_relid("feed", mr_catalog_schema_oid());
}

/* a heavyweight lock rather than one of the row: it queues, and costs no WAL */
void
mr_catalog_lock_feed(int64 feed, LOCKMODE mode)
{
	LockDatabaseObject(feed_table(), (Oid) feed, 0, mode);
}

MrFeedOffset *
mr_catalog_feed_offsets(int64 feed, bool lock, int *n)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};
	MrCatalogScope scope;
	MrFeedOffset *result;

	if (lock)
		mr_catalog_lock_feed(feed, ExclusiveLock);
	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT partition, next_offset, resume_offset IS NOT NULL, last_offset, last_checksum,"
				   " anchor_offset, anchor_checksum FROM millrace.feed_offset WHERE feed = $1"
				   " ORDER BY partition", true, 1, types, values, NULL);
	result = offsets_from_rows(&scope, n);
	mr_catalog_end(&scope);
	return result;
}

/* whichever feed it is by the time we have the lock */
static void
lock_feed_of(Oid view, Oid stream)
{
	for (;;)
	{
		int64		feed = mr_catalog_feed_of(view, stream);

		mr_catalog_lock_feed(feed, ExclusiveLock);
		if (mr_catalog_feed_of(view, stream) == feed)
			return;
	}
}

List *
mr_catalog_lock_feeds_of_view(Oid view)
{
	ListCell   *lc;

	foreach(lc, mr_catalog_streams_of_view(view))
		lock_feed_of(view, ((MrFeed *) lfirst(lc))->stream);
	return mr_catalog_streams_of_view(view);
}

int64
mr_catalog_split_view(Oid view, Oid stream, int64 feed)
{
	int64		result = mr_catalog_insert_feed(stream);
	Oid			copy_types[] = {INT8OID, INT8OID};
	Datum		copy_values[] = {Int64GetDatum(result), Int64GetDatum(feed)};
	Oid			move_types[] = {INT8OID, OIDOID, OIDOID};
	Datum		move_values[] = {Int64GetDatum(result), ObjectIdGetDatum(view), ObjectIdGetDatum(stream)};

	run_alone("UPDATE millrace.feed f SET cluster = o.cluster, other_cluster = o.other_cluster"
			  " FROM millrace.feed o WHERE f.id = $1 AND o.id = $2",
			  2, copy_types, copy_values, NULL);
	run_alone("INSERT INTO millrace.feed_offset (feed, partition, next_offset, \"timestamp\", last_offset,"
			  " last_checksum, anchor_offset, anchor_checksum, resume_offset)"
			  " SELECT $1, partition, next_offset, \"timestamp\", last_offset,"
			  " last_checksum, anchor_offset, anchor_checksum, resume_offset"
			  " FROM millrace.feed_offset WHERE feed = $2",
			  2, copy_types, copy_values, NULL);
	run_alone("UPDATE millrace.view_stream SET feed = $1, reached = false WHERE view = $2 AND stream = $3",
			  3, move_types, move_values, NULL);
	mr_catalog_bump_feed(feed);
	return result;
}

void
mr_catalog_join_feeds(int64 from, int64 into)
{
	Oid			types[] = {INT8OID, INT8OID};
	Datum		values[] = {Int64GetDatum(from), Int64GetDatum(into)};

	run_alone("UPDATE millrace.view_stream SET feed = $2,"
			  " reached = (SELECT live FROM millrace.feed WHERE id = $2) WHERE feed = $1",
			  2, types, values, NULL);
	run_alone(DELETE_FEEDS("f.id = $1"), 1, types, values, NULL);
	mr_catalog_bump_feed(into);
}

void
mr_catalog_tidy_feeds(void)
{
	MrCatalogScope scope;

	mr_catalog_begin(&scope);
	/* not what is away: a restore may be under way */
	mr_catalog_run(DELETE_FEEDS(AT_HOME " AND NOT EXISTS"
								" (SELECT FROM millrace.view_stream s WHERE s.feed = f.id)"),
				   false, 0, NULL, NULL, NULL);
	mr_catalog_run("UPDATE millrace.feed f SET live = false, generation = generation + 1"
				   " WHERE live AND NOT " AT_HOME, false, 0, NULL, NULL, NULL);
	mr_catalog_run("UPDATE millrace.feed f SET live = true, generation = generation + 1 WHERE id IN"
				   " (SELECT min(s.feed) FROM millrace.view_stream s"
				   " JOIN millrace.feed f ON f.id = s.feed"
				   " JOIN millrace.continuous_view v USING (view)"
				   " WHERE " AT_HOME " AND v.active AND NOT v.failed AND (v.rebuilds IS NULL OR s.reached) AND NOT EXISTS"
				   " (SELECT FROM millrace.feed l WHERE l.stream = s.stream AND l.live)"
				   " GROUP BY s.stream)", false, 0, NULL, NULL, NULL);
	mr_catalog_end(&scope);
}

/* feeds that wait, and pairs of (from, into) among them */
#define WAITING_FEEDS \
	"SELECT f.id FROM millrace.feed f WHERE NOT f.live AND NOT f.id = ANY ($1) AND " AT_HOME " ORDER BY f.id"
#define WAITING_PAIRS \
	"WITH w AS (SELECT f.id, f.stream, ARRAY(SELECT o.partition || ':' || o.next_offset" \
	" FROM millrace.feed_offset o WHERE o.feed = f.id ORDER BY o.partition) AS place," \
	" f.cluster" \
	" FROM millrace.feed f WHERE f.id = ANY ($1) AND NOT f.stopped" \
	" AND (SELECT bool_and(v.active AND NOT v.failed) FROM millrace.view_stream s" \
	" JOIN millrace.continuous_view v USING (view) WHERE s.feed = f.id)), " \
	" g AS (SELECT id, min(id) OVER (PARTITION BY stream, cluster, place) AS into FROM w)" \
	" SELECT id, \"into\" FROM g WHERE id <> \"into\""

static Datum
int8_array(const int64 *values, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * (n + 1));

	for (int i = 0; i < n; i++)
		elems[i] = Int64GetDatum(values[i]);
	return PointerGetDatum(construct_array(elems, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* all columns of all rows, which are int8, row by row, in the caller's context */
static int64 *
int8_rows(const MrCatalogScope *scope, int ncolumns, int *nrows)
{
	int64	   *result = MemoryContextAlloc(scope->caller,
											sizeof(int64) * (SPI_processed * ncolumns + 1));

	*nrows = (int) SPI_processed;
	for (int i = 0; i < *nrows; i++)
		for (int c = 0; c < ncolumns; c++)
			result[i * ncolumns + c] = DatumGetInt64(value(i, c + 1));
	return result;
}

void
mr_catalog_merge_waiting_feeds(const int64 *served, int nserved)
{
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[1];
	MrCatalogScope scope;
	int64	   *waiting;
	int64	   *pairs;
	int			n;
	int			nlocked = 0;

	values[0] = int8_array(served, nserved);
	mr_catalog_begin(&scope);
	mr_catalog_run(WAITING_FEEDS, true, 1, types, values, NULL);
	waiting = int8_rows(&scope, 1, &n);
	/* those that somebody is changing are left alone */
	for (int i = 0; i < n; i++)
		if (ConditionalLockDatabaseObject(feed_table(), (Oid) waiting[i], 0, ExclusiveLock))
			waiting[nlocked++] = waiting[i];
	values[0] = int8_array(waiting, nlocked);
	mr_catalog_run(WAITING_PAIRS, true, 1, types, values, NULL);
	pairs = int8_rows(&scope, 2, &n);
	mr_catalog_end(&scope);
	for (int i = 0; i < n; i++)
		mr_catalog_join_feeds(pairs[2 * i], pairs[2 * i + 1]);
}

/* ---------- waking ---------- */

void
mr_catalog_changed(void)
{
	mr_shmem_wake_at_commit(MyDatabaseId);
}
