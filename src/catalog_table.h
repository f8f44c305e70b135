/*
 * catalog_table.h
 *		Ordinary tables that are streams, in millrace's own tables; see catalog.h.
 */
#ifndef MR_CATALOG_TABLE_H
#define MR_CATALOG_TABLE_H

#include "catalog.h"

#include "nodes/pg_list.h"

/*
 * What millrace.view_stream has as the feed of a table stream: its views hold whatever is
 * committed, so there is no position to keep.
 */
#define MR_NO_FEED		0

/* the table whose partition, at any depth, relid is; itself, if it is none */
extern Oid	mr_catalog_root_table(Oid relid);

/* is the table one whose INSERTs are a stream? */
extern bool mr_catalog_is_attached(Oid relid);
extern List *mr_catalog_attached_tables(void);	/* of Oid, ascending */
extern void mr_catalog_attach_table(Oid relid);
extern void mr_catalog_detach_table(Oid relid);

/* a table was dropped */
extern void mr_catalog_forget_table(Oid relid);

/* the tables that a view takes for streams: List of Oid, ascending; NIL for views of topics */
extern List *mr_catalog_tables_of_view(Oid view);

/*
 * The views (of Oid) of a feed whose changes, or rows for a table, the view takes, at any remove: they
 * wait for it.  Or itself.
 */
extern List *mr_catalog_views_that_feed(Oid view, int64 feed);

/*
 * Let all sessions look anew, when this transaction commits, at what an INSERT into the table,
 * or into one of the view's tables, is to be given to.
 */
extern void mr_catalog_table_changed(Oid relid);
extern void mr_catalog_tables_of_view_changed(Oid view);

#endif							/* MR_CATALOG_TABLE_H */
