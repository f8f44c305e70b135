/*
 * catalog_table.c
 *		Ordinary tables that are streams, in millrace's own tables; see catalog.c.
 *
 * Which tables are attached is in millrace.table_stream; which views follow one, as with
 * topics, in millrace.view_stream.  Sessions remember both, until they hear of a change by
 * way of the table's entry in the relation cache.
 */
#include "millrace.h"

#include "catalog_table.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

/* one that is being detached has no ancestors any more */
Oid
mr_catalog_root_table(Oid relid)
{
	List	   *ancestors = get_rel_relispartition(relid) ? get_partition_ancestors(relid) : NIL;

	return ancestors == NIL ? relid : llast_oid(ancestors);
}

bool
mr_catalog_is_attached(Oid relid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};

	return OidIsValid(mr_catalog_oid("SELECT relation::oid FROM millrace.table_stream WHERE relation = $1",
									 1, types, values));
}

List *
mr_catalog_attached_tables(void)
{
	return mr_catalog_oids("SELECT relation::oid FROM millrace.table_stream ORDER BY 1", 0, NULL, NULL);
}

void
mr_catalog_attach_table(Oid relid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};

	mr_catalog_run_alone("INSERT INTO millrace.table_stream (relation) VALUES ($1)",
						 1, types, values, NULL);
	mr_catalog_table_changed(relid);
}

void
mr_catalog_detach_table(Oid relid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};

	mr_catalog_run_alone("DELETE FROM millrace.table_stream WHERE relation = $1",
						 1, types, values, NULL);
	mr_catalog_table_changed(relid);
}

void
mr_catalog_forget_table(Oid relid)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};

	mr_catalog_run_alone("WITH s AS (DELETE FROM millrace.table_stream WHERE relation = $1)"
						 " DELETE FROM millrace.view_stream WHERE stream = $1 AND feed = 0",
						 1, types, values, NULL);
}

List *
mr_catalog_tables_of_view(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};

	return mr_catalog_oids("SELECT stream::oid FROM millrace.view_stream WHERE view = $1 AND feed = 0 ORDER BY 1",
						   1, types, values);
}

List *
mr_catalog_views_that_feed(Oid view, int64 feed)
{
	Oid			types[] = {OIDOID, INT8OID};
	Datum		values[] = {ObjectIdGetDatum(view), Int64GetDatum(feed)};

	return mr_catalog_oids("WITH RECURSIVE told (view, stream) AS ("
						   " SELECT view, changes FROM millrace.view_changes"
						   " UNION ALL SELECT view, coalesce(pg_catalog.pg_partition_root(target), target)"
						   " FROM millrace.continuous_view WHERE target IS NOT NULL),"
						   " led (view) AS ("
						   " SELECT $1::pg_catalog.regclass"
						   " UNION SELECT t.view FROM led l JOIN millrace.view_stream s ON s.view = l.view AND s.feed = 0"
						   " JOIN told t ON t.stream = s.stream)"
						   " SELECT l.view::oid FROM led l JOIN millrace.view_stream s ON s.view = l.view"
						   " WHERE s.feed = $2 ORDER BY 1", 2, types, values);
}

void
mr_catalog_table_changed(Oid relid)
{
	if (get_rel_name(relid) != NULL)
		CacheInvalidateRelcacheByRelid(relid);
}

void
mr_catalog_tables_of_view_changed(Oid view)
{
	ListCell   *lc;

	foreach(lc, mr_catalog_tables_of_view(view))
		mr_catalog_table_changed(lfirst_oid(lc));
}
