/*
 * catalog_changes.c
 *		Change feeds of views in millrace's own tables: which table, how long, and the numbers
 *		of batches and changes.
 *
 * The numbers are kept in a row for each view and not in sequences: whoever writes changes
 * has the view's contents locked until it commits, so numbers in a row can grow in the order
 * of commits and have no holes.  That is worth something to readers who remember how far
 * they were.
 */
#include "millrace.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "catalog_changes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"

Oid
mr_catalog_view_of_changes(Oid table)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(table)};

	return mr_catalog_oid("SELECT view::oid FROM millrace.view_changes WHERE changes = $1",
						  1, types, values);
}

MrChangeFeed *
mr_catalog_change_feed(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};
	MrCatalogScope scope;
	MrChangeFeed *result = NULL;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT changes, retention FROM millrace.view_changes WHERE view = $1",
				   true, 1, types, values, NULL);
	if (SPI_processed > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(scope.caller);
		bool		isnull;
		Datum		retention = mr_catalog_column(0, 2, &isnull);

		result = palloc0(sizeof(MrChangeFeed));
		result->view = view;
		result->table = DatumGetObjectId(mr_catalog_value(0, 1));
		if (!isnull)
			result->retention = DatumGetIntervalP(datumCopy(retention, false, sizeof(Interval)));
		MemoryContextSwitchTo(old);
	}
	mr_catalog_end(&scope);
	return result;
}

void
mr_catalog_insert_change_feed(Oid view, Oid table)
{
	Oid			types[] = {OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view), ObjectIdGetDatum(table)};

	mr_catalog_run_alone("INSERT INTO millrace.view_changes (view, changes) VALUES ($1, $2)",
						 2, types, values, NULL);
}

void
mr_catalog_set_changes_retention(Oid view, const Interval *retention)
{
	Oid			types[] = {OIDOID, INTERVALOID};
	Datum		values[] = {ObjectIdGetDatum(view), IntervalPGetDatum(retention)};

	mr_catalog_run_alone("UPDATE millrace.view_changes SET retention = $2 WHERE view = $1",
						 2, types, values, retention == NULL ? " n" : NULL);
}

/*
 * Has this transaction begun a batch of the view?  Inside a scope.  Numbers of transactions
 * alone would not tell in a database that was restored.
 */
static bool
has_batch(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};

	mr_catalog_run("SELECT xmin FROM millrace.view_changes"
				   " WHERE view = $1 AND last_transaction = pg_current_xact_id()",
				   true, 1, types, values, NULL);
	return SPI_processed > 0 &&
		TransactionIdIsCurrentTransactionId(DatumGetTransactionId(mr_catalog_value(0, 1)));
}

static Datum
array_of(const Datum *elems, int n, Oid type)
{
	bool		is_int8 = type == INT8OID;

	return PointerGetDatum(construct_array(unconstify(Datum *, elems), n, type, is_int8 ? 8 : 4,
										   is_int8 ? FLOAT8PASSBYVAL : true,
										   is_int8 ? TYPALIGN_DOUBLE : TYPALIGN_INT));
}

Datum
mr_catalog_number_changes(Oid view, int64 n, const MrStand *stand, int64 *batch, int64 *first_id)
{
	Oid			types[] = {OIDOID, INT8OID, BOOLOID, OIDOID, INT4ARRAYOID, INT8ARRAYOID};
	Datum		values[6];
	MrCatalogScope scope;
	MemoryContext old;
	Datum		offsets;

	mr_catalog_begin(&scope);
	values[0] = ObjectIdGetDatum(view);
	values[1] = Int64GetDatum(n);
	values[2] = BoolGetDatum(has_batch(view));
	values[3] = ObjectIdGetDatum(stand ? stand->stream : InvalidOid);
	values[4] = array_of(stand ? stand->partitions : NULL, stand ? stand->n : 0, INT4OID);
	values[5] = array_of(stand ? stand->offsets : NULL, stand ? stand->n : 0, INT8OID);
	mr_catalog_run("UPDATE millrace.view_changes c SET last_id = last_id + $2,"
				   " last_batch = last_batch + CASE WHEN $3 THEN 0 ELSE 1 END,"
				   " last_transaction = pg_current_xact_id() WHERE view = $1"
				   " RETURNING last_batch, last_id - $2 + 1,"
				   " (SELECT coalesce(jsonb_object_agg(s.stream::text, coalesce(s.stored, '{}') || coalesce(s.moved, '{}')), '{}')"
				   " FROM (SELECT s.stream,"
				   " (SELECT jsonb_object_agg(o.partition, o.next_offset) FROM millrace.feed_offset o WHERE o.feed = s.feed) AS stored,"
				   " (SELECT jsonb_object_agg(u.partition, u.next_offset) FROM unnest($5, $6) AS u(partition, next_offset)"
				   " WHERE s.stream = $4) AS moved"
				   " FROM millrace.view_stream s WHERE s.view = $1 AND s.feed <> 0) s)",
				   false, 6, types, values, NULL);
	if (SPI_processed != 1)
		elog(ERROR, "changes of view %u have no numbers", view);
	*batch = DatumGetInt64(mr_catalog_value(0, 1));
	*first_id = DatumGetInt64(mr_catalog_value(0, 2));
	old = MemoryContextSwitchTo(scope.caller);
	offsets = datumCopy(mr_catalog_value(0, 3), false, -1);
	MemoryContextSwitchTo(old);
	mr_catalog_end(&scope);
	return offsets;
}
