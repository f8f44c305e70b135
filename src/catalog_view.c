/*
 * catalog_view.c
 *		Views in millrace's own tables, and the streams that they read; see catalog.c.
 *
 * What a view was declared as, its state, which attributes of which streams it reads, and where
 * in them it began.  Where it stands by now is its feeds': catalog_feed.c.
 */
#include "millrace.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog_feed_lock.h"
#include "catalog_table.h"
#include "catalog_view.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define VIEW_COLUMNS \
	"v.view, v.matrel, v.definition, v.kind, v.query, v.settings, v.active, v.failed, v.last_error," \
	" coalesce(v.rebuilds, v.view), v.target, v.token"

/* are a view's column numbers those of this database? */
#define AT_HOME MR_CATALOG_AT_HOME("s")

/* the columns a of a stream that a view reads; whoever reads whole rows reads those that come, too */
#define READS \
	" a.attrelid = s.stream AND a.attnum > 0 AND NOT a.attisdropped AND (0 = ANY (s.columns) OR" \
	" CASE WHEN " AT_HOME " THEN a.attnum = ANY (s.columns) ELSE a.attname = ANY (s.column_names) END)"

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

/* of a column that may be null */
static Oid
oid_or_invalid(uint64 row, int col)
{
	bool		isnull;
	Datum		datum = mr_catalog_column(row, col, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(datum);
}

static MrView *
view_from_row(uint64 row, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	MrView	   *view = palloc0(sizeof(MrView));

	view->view = DatumGetObjectId(mr_catalog_value(row, 1));
	view->matrel = oid_or_invalid(row, 2);
	view->definition = DatumGetObjectId(mr_catalog_value(row, 3));
	view->kind = mr_catalog_text(row, 4, context);
	view->query = mr_catalog_text(row, 5, context);
	view->settings = text_array_to_list(mr_catalog_value(row, 6));
	view->active = DatumGetBool(mr_catalog_value(row, 7));
	view->failed = DatumGetBool(mr_catalog_value(row, 8));
	view->last_error = mr_catalog_text(row, 9, context);
	view->target = DatumGetObjectId(mr_catalog_value(row, 10));
	view->sink = oid_or_invalid(row, 11);
	view->token = DatumGetInt64(mr_catalog_value(row, 12));
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
		result = TransactionIdIsCurrentTransactionId(DatumGetTransactionId(mr_catalog_value(0, 1)));
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
mr_catalog_loose_views(void)
{
	return views_from("SELECT " VIEW_COLUMNS " FROM millrace.continuous_view v WHERE NOT EXISTS"
					  " (SELECT FROM pg_catalog.pg_depend d"
					  " WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = d.classid"
					  " AND d.objid = CASE WHEN v.matrel IS NULL THEN v.view WHEN v.rebuilds IS NOT NULL THEN v.matrel ELSE v.definition END"
					  " AND d.refobjid = CASE WHEN v.matrel IS NULL THEN v.target ELSE coalesce(v.rebuilds, v.view) END)",
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
	Oid			types[] = {OIDOID, TEXTOID, OIDOID, OIDOID, TEXTOID, TEXTARRAYOID, TEXTOID, OIDOID, INT8OID};
	Datum		values[9];
	char		nulls[] = "         ";
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
	values[7] = ObjectIdGetDatum(view->sink);
	values[8] = Int64GetDatum(view->token);
	nulls[2] = OidIsValid(view->matrel) ? ' ' : 'n';
	nulls[7] = OidIsValid(view->sink) ? ' ' : 'n';
	mr_catalog_run_alone("INSERT INTO millrace.continuous_view"
						 " (view, kind, matrel, definition, query, settings, start_at, target, token)"
						 " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)", 9, types, values, nulls);
}

void
mr_catalog_lock_letters(Oid stream, LOCKMODE mode)
{
	mr_catalog_lock_object("dead_letter", stream, mode);
}

bool
mr_catalog_try_lock_letters(Oid stream, LOCKMODE mode)
{
	return mr_catalog_try_lock_object("dead_letter", stream, mode);
}

void
mr_catalog_lock_letters_of_views(const List *views)
{
	List	   *streams = NIL;
	ListCell   *lc;

	foreach(lc, views)
	{
		ListCell   *lc2;

		foreach(lc2, mr_catalog_streams_of_view(lfirst_oid(lc)))
			streams = list_append_unique_oid(streams, ((MrFeed *) lfirst(lc2))->stream);
	}
	list_sort(streams, list_oid_cmp);
	foreach(lc, streams)
		mr_catalog_lock_letters(lfirst_oid(lc), ExclusiveLock);
}

void
mr_catalog_delete_view(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};
	ListCell   *lc;

	mr_catalog_lock_feed_rows(list_make1_oid(view));
	mr_catalog_lock_letters_of_views(list_make1_oid(view));
	mr_catalog_tables_of_view_changed(view);

	/*
	 * whatever its feed is, other feeds of its streams need not look at its
	 * columns any more
	 */
	foreach(lc, mr_catalog_streams_of_view(view))
		mr_catalog_table_changed(((MrFeed *) lfirst(lc))->stream);
	mr_catalog_run_alone("WITH s AS (DELETE FROM millrace.view_stream WHERE view = $1 RETURNING feed),"
						 " o AS (DELETE FROM millrace.view_start WHERE view = $1),"
						 " d AS (DELETE FROM millrace.dead_letter WHERE view = $1),"
						 " m AS (UPDATE millrace.dead_letter SET missed = array_remove(missed, $1::regclass)"
						 " WHERE view IS NULL AND $1 = ANY (missed)),"
						 " r AS (DELETE FROM millrace.view_retention WHERE view = $1),"
						 " w AS (DELETE FROM millrace.view_window WHERE view = $1),"
						 " c AS (DELETE FROM millrace.view_changes WHERE view = $1),"
						 " v AS (DELETE FROM millrace.continuous_view WHERE view = $1)"
						 " UPDATE millrace.feed f SET generation = generation + 1 FROM s WHERE s.feed = f.id",
						 1, types, values, NULL);
	mr_catalog_forget_orphans();
}

void
mr_catalog_insert_view_stream(Oid view, Oid stream, int64 feed, const Bitmapset *attrs)
{
	Oid			types[] = {OIDOID, OIDOID, INT8OID, INT8OID, OIDOID, OIDOID, INT2ARRAYOID};
	Datum		values[] = {ObjectIdGetDatum(view), ObjectIdGetDatum(stream), Int64GetDatum(feed),
	MR_CATALOG_HERE, (Datum) 0};
	Datum	   *elems = palloc(sizeof(Datum) * (bms_num_members(attrs) + 1));
	int			n = 0;
	int			attnum = -1;

	while ((attnum = bms_next_member(attrs, attnum)) >= 0)
		elems[n++] = Int16GetDatum((int16) attnum);
	values[6] = PointerGetDatum(construct_array(elems, n, INT2OID, 2, true, TYPALIGN_SHORT));
	mr_catalog_run_alone("INSERT INTO millrace.view_stream"
						 " (view, stream, feed, home_cluster, home_database, home_extension, columns, column_names)"
						 " SELECT $1, $2, $3, $4, $5, $6, $7, ARRAY(SELECT attname FROM pg_attribute"
						 " WHERE attrelid = $2 AND attnum = ANY ($7) ORDER BY attnum)",
						 7, types, values, NULL);
}

void
mr_catalog_columns_renaming(void)
{
	Oid			types[] = {INT8OID, OIDOID, OIDOID};
	Datum		values[] = {MR_CATALOG_HERE};

	mr_catalog_run_alone("UPDATE millrace.view_stream s SET home_cluster = $1, home_database = $2, home_extension = $3,"
						 " columns = array_remove(ARRAY[CASE WHEN 0 = ANY (s.columns) THEN 0::int2 END], NULL)"
						 " || ARRAY(SELECT a.attnum FROM pg_attribute a WHERE" READS " ORDER BY a.attnum)"
						 " WHERE NOT " AT_HOME, 3, types, values, NULL);
}

void
mr_catalog_columns_renamed(void)
{
	mr_catalog_run_alone("UPDATE millrace.view_stream s SET column_names = n.names FROM"
						 " (SELECT s.view, s.stream, ARRAY(SELECT a.attname FROM pg_attribute a WHERE" READS
						 " ORDER BY a.attnum) AS names FROM millrace.view_stream s) n"
						 " WHERE s.view = n.view AND s.stream = n.stream AND s.column_names <> n.names",
						 0, NULL, NULL, NULL);
}

void
mr_catalog_insert_view_start(Oid view, Oid stream, int32 partition, int64 offset)
{
	Oid			types[] = {OIDOID, OIDOID, INT4OID, INT8OID};
	Datum		values[] = {ObjectIdGetDatum(view), ObjectIdGetDatum(stream),
	Int32GetDatum(partition), Int64GetDatum(offset)};

	mr_catalog_run_alone("INSERT INTO millrace.view_start (view, stream, partition, from_offset)"
						 " VALUES ($1, $2, $3, $4)", 4, types, values, NULL);
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
	result = mr_catalog_offsets(&scope, n);
	mr_catalog_end(&scope);
	return result;
}

void
mr_catalog_set_view_state(Oid view, bool active, bool failed, const char *error)
{
	Oid			types[] = {OIDOID, BOOLOID, BOOLOID, TEXTOID};
	Datum		values[] = {ObjectIdGetDatum(view), BoolGetDatum(active), BoolGetDatum(failed),
	error ? CStringGetTextDatum(error) : (Datum) 0};

	mr_catalog_run_alone("UPDATE millrace.continuous_view SET active = $2, failed = $3, last_error = $4,"
						 " last_error_at = CASE WHEN $4 IS NULL THEN NULL ELSE clock_timestamp() END"
						 " WHERE view = $1", 4, types, values, error ? "    " : "   n");
	mr_catalog_tables_of_view_changed(view);
}

void
mr_catalog_lock_contents(Oid view)
{
	mr_catalog_lock_object("continuous_view", view, ExclusiveLock);
}

bool
mr_catalog_try_lock_contents(Oid view)
{
	return mr_catalog_try_lock_object("continuous_view", view, ExclusiveLock);
}

char *
mr_catalog_view_start_at(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};

	return mr_catalog_string("SELECT start_at FROM millrace.continuous_view WHERE view = $1",
							 1, types, values);
}

void
mr_catalog_set_view_start_at(Oid view, const char *start_at)
{
	Oid			types[] = {OIDOID, TEXTOID};
	Datum		values[] = {ObjectIdGetDatum(view), CStringGetTextDatum(start_at)};

	mr_catalog_run_alone("UPDATE millrace.continuous_view SET start_at = $2 WHERE view = $1",
						 2, types, values, NULL);
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
	mr_catalog_run("SELECT DISTINCT a.attnum::integer FROM millrace.view_stream s"
				   " JOIN pg_attribute a ON" READS " WHERE s.stream = $1", true, 1, types, values, NULL);
	old = MemoryContextSwitchTo(scope.caller);
	for (uint64 i = 0; i < SPI_processed; i++)
		result = bms_add_member(result, DatumGetInt32(mr_catalog_value(i, 1)));
	MemoryContextSwitchTo(old);
	mr_catalog_end(&scope);
	return result;
}

Oid
mr_catalog_view_of_part(Oid relid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};

	return mr_catalog_oid("SELECT coalesce(rebuilds, view)::oid FROM millrace.continuous_view"
						  " WHERE matrel = $1 OR definition = $1"
						  " UNION ALL SELECT view::oid FROM millrace.view_changes WHERE changes = $1",
						  1, types, values);
}

Oid
mr_catalog_transform_into(Oid relid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};

	return mr_catalog_oid("SELECT v.view::oid FROM millrace.continuous_view v JOIN pg_class c ON c.oid = v.view"
						  " WHERE v.target = $1 ORDER BY 1 LIMIT 1",
						  1, types, values);
}
