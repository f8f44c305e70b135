/*
 * catalog.h
 *		Reading and writing millrace's own tables.
 *
 * Everything here runs in the caller's transaction, sees what is committed at the call
 * (a snapshot of its own), and acts with the extension owner's rights whoever calls.
 */
#ifndef MR_CATALOG_H
#define MR_CATALOG_H

#include "millrace.h"

#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "utils/timestamp.h"

typedef struct MrView
{
	Oid			view;
	Oid			matrel;
	Oid			definition;		/* internal view that holds the declared query */
	char	   *kind;
	char	   *query;
	List	   *settings;		/* of char *: name=value */
	bool		active;
	bool		failed;
	char	   *last_error;		/* or NULL */
} MrView;

typedef struct MrFeed
{
	int64		id;
	Oid			stream;
	bool		live;
	int64		generation;
} MrFeed;

typedef struct MrFeedOffset
{
	int32		partition;
	int64		next_offset;
} MrFeedOffset;

/* InvalidOid when the extension is not in this database */
extern Oid	mr_catalog_extension_oid(void);
extern Oid	mr_catalog_schema_oid(void);

/* Views.  mr_catalog_view: NULL when relid is no continuous view. */
extern MrView *mr_catalog_view(Oid view);
extern List *mr_catalog_views(void);	/* of MrView * */
extern void mr_catalog_insert_view(const MrView *view, const char *start_at);
extern void mr_catalog_delete_view(Oid view);
extern void mr_catalog_insert_view_stream(Oid view, Oid stream, int64 feed,
										  const Bitmapset *attrs);
extern void mr_catalog_insert_view_start(Oid view, Oid stream, int32 partition, int64 offset);

/* Relations of dropped or changed objects */
extern Oid	mr_catalog_view_of_part(Oid relid); /* view whose matrel or definition this is */
extern void mr_catalog_delete_stream(Oid stream);

/* Feeds */
extern int64 mr_catalog_insert_feed(Oid stream);
extern void mr_catalog_insert_feed_offset(int64 feed, int32 partition, int64 next_offset);
extern void mr_catalog_bump_feed(int64 feed);
extern List *mr_catalog_streams_of_view(Oid view);	/* of MrFeed *, the feed per stream */

/*
 * Wake the processes that watch this database's catalog; takes effect when the current
 * transaction commits.
 */
extern void mr_catalog_changed(void);

#endif							/* MR_CATALOG_H */
