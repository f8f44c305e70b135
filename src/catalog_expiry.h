/*
 * catalog_expiry.h
 *		What millrace's own tables say of rows that leave a view; see catalog.h.
 */
#ifndef MR_CATALOG_EXPIRY_H
#define MR_CATALOG_EXPIRY_H

#include "catalog.h"

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

/* One output column of a view, and which groups go by it. */
typedef struct MrRetention
{
	AttrNumber	column;			/* of the view */
	Interval   *age;			/* older ones; NULL: none any more */
	Timestamp	removed_before; /* gone for good; of a timestamptz: as UTC.
								 * DT_NOBEGIN: none */
} MrRetention;

/* A view shows the last stretch of time only. */
typedef struct MrWindow
{
	Interval   *size;
	Interval   *step;
	char	   *time_column;	/* of the stream; NULL: the message's
								 * timestamp */
} MrWindow;

/* NULL when the view has none */
extern MrWindow *mr_catalog_window(Oid view);
extern void mr_catalog_insert_window(Oid view, const MrWindow *window);

/* List of MrRetention *, by column */
extern List *mr_catalog_retentions(Oid view);
extern void mr_catalog_set_retention(Oid view, const MrRetention *retention);

/* views over tables that rows may leave: List of Oid */
extern List *mr_catalog_local_views_that_expire(void);

/* in the ingest transaction: messages that came too late for a group */
extern void mr_catalog_count_late(Oid view, AttrNumber column, int64 messages);

#endif							/* MR_CATALOG_EXPIRY_H */
