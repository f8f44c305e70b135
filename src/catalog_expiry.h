/*
 * catalog_expiry.h
 *		What millrace's own tables say of rows that leave a view; see catalog.h.
 */
#ifndef MR_CATALOG_EXPIRY_H
#define MR_CATALOG_EXPIRY_H

#include "catalog.h"

/* One output column of a view, and which groups go by it. */
typedef struct MrRetention
{
	AttrNumber	column;			/* of the view */
	Interval   *age;			/* older ones; NULL: none any more */
	Timestamp	removed_before; /* gone for good; of a timestamptz: as UTC.
								 * DT_NOBEGIN: none */
} MrRetention;

/* List of MrRetention *, by column */
extern List *mr_catalog_retentions(Oid view);
extern void mr_catalog_set_retention(Oid view, const MrRetention *retention);

/* in the ingest transaction: messages that came too late for a group */
extern void mr_catalog_count_late(Oid view, AttrNumber column, int64 messages);

#endif							/* MR_CATALOG_EXPIRY_H */
