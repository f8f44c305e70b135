/*
 * catalog_expiry.c
 *		What millrace's own tables say of rows that leave a view: windows and retention.
 *		See catalog.c.
 */
#include "millrace.h"

#include "catalog_expiry.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"

/* an interval in the current memory context; NULL for null */
static Interval *
interval_column(uint64 row, int col)
{
	bool		isnull;
	Datum		value = mr_catalog_column(row, col, &isnull);

	return isnull ? NULL : DatumGetIntervalP(datumCopy(value, false, sizeof(Interval)));
}

/*
 * Windows
 */

static MrWindow *
window_from_row(uint64 row)
{
	MrWindow   *result = palloc0(sizeof(MrWindow));
	bool		isnull;
	Datum		value;

	result->size = interval_column(row, 1);
	result->step = interval_column(row, 2);
	value = mr_catalog_column(row, 3, &isnull);
	result->time_column = isnull ? NULL : TextDatumGetCString(value);
	return result;
}

MrWindow *
mr_catalog_window(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};
	MrCatalogScope scope;
	MrWindow   *result = NULL;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT sliding_window, step, time_column FROM millrace.view_window WHERE view = $1",
				   true, 1, types, values, NULL);
	if (SPI_processed > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(scope.caller);

		result = window_from_row(0);
		MemoryContextSwitchTo(old);
	}
	mr_catalog_end(&scope);
	return result;
}

void
mr_catalog_insert_window(Oid view, const MrWindow *window)
{
	Oid			types[] = {OIDOID, INTERVALOID, INTERVALOID, TEXTOID};
	Datum		values[] = {ObjectIdGetDatum(view), IntervalPGetDatum(window->size),
	IntervalPGetDatum(window->step), (Datum) 0};

	if (window->time_column != NULL)
		values[3] = CStringGetTextDatum(window->time_column);
	mr_catalog_run_alone("INSERT INTO millrace.view_window (view, sliding_window, step, time_column)"
						 " VALUES ($1, $2, $3, $4)", 4, types, values, window->time_column == NULL ? "   n" : NULL);
}

/*
 * Retention
 */

static MrRetention *
retention_from_row(uint64 row)
{
	MrRetention *result = palloc0(sizeof(MrRetention));
	bool		isnull;
	Datum		value;

	result->column = DatumGetInt16(mr_catalog_column(row, 1, &isnull));
	result->age = interval_column(row, 2);
	value = mr_catalog_column(row, 3, &isnull);
	result->removed_before = isnull ? DT_NOBEGIN : DatumGetTimestamp(value);
	return result;
}

List *
mr_catalog_retentions(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};
	MrCatalogScope scope;
	List	   *result = NIL;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT column_number, retention, removed_before FROM millrace.view_retention"
				   " WHERE view = $1 ORDER BY column_number", true, 1, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(scope.caller);

		result = lappend(result, retention_from_row(i));
		MemoryContextSwitchTo(old);
	}
	mr_catalog_end(&scope);
	return result;
}

void
mr_catalog_set_retention(Oid view, const MrRetention *retention)
{
	Oid			types[] = {OIDOID, INT2OID, INTERVALOID, TIMESTAMPOID};
	Datum		values[] = {ObjectIdGetDatum(view), Int16GetDatum(retention->column),
	IntervalPGetDatum(retention->age), TimestampGetDatum(retention->removed_before)};
	char		nulls[] = "    ";

	if (retention->age == NULL)
		nulls[2] = 'n';
	if (TIMESTAMP_IS_NOBEGIN(retention->removed_before))
		nulls[3] = 'n';
	mr_catalog_run_alone("INSERT INTO millrace.view_retention (view, column_number, retention, removed_before)"
						 " VALUES ($1, $2, $3, $4) ON CONFLICT (view, column_number)"
						 " DO UPDATE SET retention = excluded.retention, removed_before = excluded.removed_before",
						 4, types, values, nulls);
}

void
mr_catalog_count_late(Oid view, AttrNumber column, int64 messages)
{
	Oid			types[] = {OIDOID, INT2OID, INT8OID};
	Datum		values[] = {ObjectIdGetDatum(view), Int16GetDatum(column), Int64GetDatum(messages)};

	mr_catalog_run_alone("UPDATE millrace.view_retention SET late_events = late_events + $3"
						 " WHERE view = $1 AND column_number = $2", 3, types, values, NULL);
}

List *
mr_catalog_local_views_that_expire(void)
{
	return mr_catalog_oids("SELECT DISTINCT s.view::oid FROM millrace.view_stream s WHERE s.feed = 0"
						   " AND (EXISTS (SELECT FROM millrace.view_retention r WHERE r.view = s.view)"
						   " OR EXISTS (SELECT FROM millrace.view_window w WHERE w.view = s.view)"
						   " OR EXISTS (SELECT FROM millrace.view_changes c WHERE c.view = s.view))",
						   0, NULL, NULL);
}
