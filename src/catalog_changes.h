/*
 * catalog_changes.h
 *		Change feeds of views in millrace's own tables; see catalog.h.
 */
#ifndef MR_CATALOG_CHANGES_H
#define MR_CATALOG_CHANGES_H

#include "catalog.h"

#include "utils/timestamp.h"

typedef struct MrChangeFeed
{
	Oid			view;
	Oid			table;			/* <view>_changes */
	Interval   *retention;		/* NULL: for ever */
} MrChangeFeed;

/* where a transaction will have moved a feed of one stream to: arrays of n int4, int8 */
typedef struct MrStand
{
	Oid			stream;
	int			n;
	Datum	   *partitions;
	Datum	   *offsets;
} MrStand;

/* NULL when the view keeps no changes (a shadow never does) */
extern MrChangeFeed *mr_catalog_change_feed(Oid view);

/* the view whose changes a table holds, or InvalidOid */
extern Oid	mr_catalog_view_of_changes(Oid table);
extern void mr_catalog_insert_change_feed(Oid view, Oid table);
extern void mr_catalog_set_changes_retention(Oid view, const Interval *retention);

/*
 * Numbers for n rows, with the contents of the view locked: the batch (one for each
 * transaction) and the first id; both grow without holes, in the order of commits.  The
 * result is where the view stands in its streams, a jsonb; stand (or NULL) counts for the
 * feed that is being moved.
 */
extern Datum mr_catalog_number_changes(Oid view, int64 n, const MrStand *stand, int64 *batch,
									   int64 *first_id);

#endif							/* MR_CATALOG_CHANGES_H */
