/*
 * catalog_view.h
 *		Views in millrace's own tables; see catalog.h.
 */
#ifndef MR_CATALOG_VIEW_H
#define MR_CATALOG_VIEW_H

#include "catalog_feed.h"

#include "nodes/bitmapset.h"

typedef struct MrView
{
	Oid			view;
	Oid			matrel;			/* InvalidOid of a transform */
	Oid			sink;			/* table that a transform writes into, or
								 * InvalidOid */
	Oid			definition;		/* internal view that holds the declared
								 * query; a transform holds its own */
	int64		token;			/* of a transform into a stream: tells it from
								 * others of the same OID */
	char	   *kind;
	char	   *query;
	List	   *settings;		/* of char *: name=value */
	bool		active;
	bool		failed;
	char	   *last_error;		/* or NULL */
	Oid			target;			/* view itself; of a shadow, the view that
								 * will get its contents */
} MrView;

/*
 * Views.  mr_catalog_view: NULL when relid is no continuous view.  Lists contain shadows,
 * too: see catalog_rebuild.h.
 */
extern MrView *mr_catalog_view(Oid view);
extern bool mr_catalog_view_changed_here(Oid view); /* by the current
													 * transaction */
extern List *mr_catalog_views(void);	/* of MrView * */

/* those whose parts do not go with them yet, as the server sees it; of transforms: with their targets */
extern List *mr_catalog_loose_views(void);
extern List *mr_catalog_views_of_feed(int64 feed);	/* of MrView *, by view */
extern List *mr_catalog_views_of_stream(Oid stream);	/* of MrView *, by view */
extern void mr_catalog_insert_view(const MrView *view, const char *start_at);
extern void mr_catalog_delete_view(Oid view);
extern void mr_catalog_insert_view_stream(Oid view, Oid stream, int64 feed,
										  const Bitmapset *attrs);

/*
 * Columns are known by their numbers, which a dump does not keep, and by their names, which
 * others change: _renaming before any column of a table is renamed, _renamed after that.
 */
extern void mr_catalog_columns_renaming(void);
extern void mr_catalog_columns_renamed(void);

extern void mr_catalog_insert_view_start(Oid view, Oid stream, int32 partition, int64 offset);
extern MrFeedOffset *mr_catalog_view_start(Oid view, Oid stream, int *n);

/*
 * Dead letters of a stream.  A feed that takes what others have taken adds its views to letters that
 * are there, in the order in which it meets them; who takes views out of letters, or replays,
 * does so in another.  So these exclude each other: the former with ShareLock, before any contents, the
 * latter with ExclusiveLock; both behind the feeds' rows.  The second does not wait: false when
 * somebody is in the way.  The third locks those of all streams of some views (of Oid).
 */
extern void mr_catalog_lock_letters(Oid stream, LOCKMODE mode);
extern bool mr_catalog_try_lock_letters(Oid stream, LOCKMODE mode);
extern void mr_catalog_lock_letters_of_views(const List *views);

/*
 * Let nobody else change the contents of a view's matrel until the transaction ends.  The second
 * does not wait: false when somebody else has the lock.
 */
extern void mr_catalog_lock_contents(Oid view);
extern bool mr_catalog_try_lock_contents(Oid view);
extern void mr_catalog_set_view_state(Oid view, bool active, bool failed, const char *error);

/* where the view was declared to begin, a shadow's rebuild aside */
extern char *mr_catalog_view_start_at(Oid view);
extern void mr_catalog_set_view_start_at(Oid view, const char *start_at);

/* attributes that any view on the stream reads */
extern Bitmapset *mr_catalog_stream_attrs(Oid stream);

/* Relations of dropped or changed objects */
extern Oid	mr_catalog_view_of_part(Oid relid); /* view whose matrel,
												 * definition or changes, or
												 * shadow's matrel, this is */

/* a transform that writes into the relation, of those that still exist; or InvalidOid */
extern Oid	mr_catalog_transform_into(Oid relid);

#endif							/* MR_CATALOG_VIEW_H */
