/*
 * catalog_feed.h
 *		Feeds and their offsets in millrace's own tables; see catalog.h.
 */
#ifndef MR_CATALOG_FEED_H
#define MR_CATALOG_FEED_H

#include "catalog.h"

#include "nodes/pg_list.h"
#include "record.h"
#include "storage/lockdefs.h"

typedef struct MrFeed
{
	int64		id;
	Oid			stream;
	bool		live;
	int64		generation;
	bool		stopped;
	bool		away;			/* of a database that this one is a copy of:
								 * nobody moves it */
	bool		apart;			/* never becomes live, nor one with others */
	int			log;			/* changes when the stream's log is found to
								 * be another */
} MrFeed;

typedef struct MrFeedOffset
{
	int32		partition;
	int64		next_offset;
	/* of feeds only */
	bool		in_gap;			/* stopped: it will go on elsewhere */
	MrRecord	last;			/* message taken last */
	MrRecord	anchor;			/* one taken some time before that */
} MrFeedOffset;

/* The Kafka cluster that a feed's offsets belong to. */
typedef struct MrFeedCluster
{
	char	   *id;				/* NULL: not known yet */
	char	   *other;			/* met at the address instead, and accepted if
								 * the feed has not stopped; or NULL */
} MrFeedCluster;

/* everything about a stream that was dropped */
extern void mr_catalog_delete_stream(Oid stream);

/*
 * A feed stops (on_error, on_gap) and is started again.  Stopped, it keeps its place and its
 * being live; feeds behind it go on until they have reached it.  blamed: the view whose error it
 * is that made it stop, or InvalidOid.  _feed_error: NULL when it has not stopped.
 */
extern void mr_catalog_stop_feed(const MrFeed *feed, const char *error, Oid blamed);
extern void mr_catalog_restart_feed(int64 feed);
extern char *mr_catalog_feed_error(int64 feed, Oid *blamed);

/*
 * Feeds that are away, because the database was restored or copied, become this database's:
 * all feeds of a stream; those of one view, leaving other views where they are.
 */
extern void mr_catalog_adopt_stream(Oid stream);
extern void mr_catalog_adopt_view(Oid view);

/*
 * A feed has stopped at a gap: where each partition goes on, once it is to, and which messages it will
 * know the log by.  The second lets it stand there.
 */
extern void mr_catalog_set_resume_offset(int64 feed, int32 partition, int64 offset, MrRecord last, MrRecord anchor);
extern void mr_catalog_pass_gaps(int64 feed);

/* views of the feed that were to begin further on in a partition begin at this offset of another log */
extern void mr_catalog_lower_starts(int64 feed, int32 partition, int64 offset);

/*
 * Clusters.  _set_cluster: false when the feed's was not "from" (NULL: not known), but
 * somebody else has set it.
 */
extern MrFeedCluster *mr_catalog_feed_cluster(int64 feed);
extern bool mr_catalog_set_cluster(int64 feed, const char *from, const char *to);
extern void mr_catalog_set_other_cluster(int64 feed, const char *other);

/*
 * How many partitions the topic had when a feed's worker looked last, -1: none has looked.  Change that;
 * false: another one has.
 */
extern int	mr_catalog_feed_partitions(int64 feed);
extern bool mr_catalog_change_feed_partitions(int64 feed, int from, int to);

/* Feeds */
extern int64 mr_catalog_insert_feed(Oid stream);

/* has the stream another topic than the one that its views' offsets belong to? */
extern bool mr_catalog_topic_changed(Oid stream);
extern void mr_catalog_insert_feed_offset(int64 feed, int32 partition, int64 next_offset);

/* false: it has one already */
extern bool mr_catalog_begin_feed_partition(int64 feed, int32 partition, int64 next_offset);
extern void mr_catalog_bump_feed(int64 feed);
extern void mr_catalog_set_feed_apart(int64 feed);
extern void mr_catalog_set_another_log(int64 feed);
extern MrFeed *mr_catalog_feed(int64 feed); /* NULL: gone */
extern List *mr_catalog_feeds(void);	/* of MrFeed *, with active views only */
extern int64 mr_catalog_live_feed(Oid stream);	/* 0: none */
extern int64 mr_catalog_feed_of(Oid view, Oid stream);	/* 0: none */
extern List *mr_catalog_streams_of_view(Oid view);	/* of MrFeed *, the feed
													 * per stream */

/* rows of (partition, offset), or of what MrFeedOffset has, as an array in the scope's caller */
extern MrFeedOffset *mr_catalog_offsets(const MrCatalogScope *scope, int *n);

/*
 * Offsets of a feed, by partition.  lock: no worker moves them, and nobody changes which
 * views follow the feed, until the end of the transaction.
 */
extern MrFeedOffset *mr_catalog_feed_offsets(int64 feed, bool lock, int *n);

/*
 * Move a view to a feed of its own that stands where the given feed stands; that one must
 * be locked by the caller.  Returns the new feed.
 */
extern int64 mr_catalog_split_view(Oid view, Oid stream, int64 feed);

/*
 * A feed that has not stopped is in trouble: why, and is it that its views are slow?  NULL when it is
 * in none.
 */
extern void mr_catalog_set_trouble(int64 feed, const char *error, bool slow);
extern char *mr_catalog_trouble(int64 feed, bool *slow);
extern void mr_catalog_forget_trouble(int64 feed);

/* what one feed has counted in each partition, where another that takes its place has less */
extern void mr_catalog_carry_counters(int64 from, int64 into);

/*
 * Move all views of one feed to another that stands there, too, and forget the first.  Whoever
 * writes other rows before that calls _lock first.
 */
extern void mr_catalog_lock_join(int64 from, int64 into);
extern void mr_catalog_join_feeds(int64 from, int64 into);

/*
 * For the supervisor, each in a transaction of its own.  None waits for rows that somebody has
 * locked, as who drops a view has until he commits: false where there were such, which have time until
 * the next round.
 *
 * Elect live feeds where there is none.
 */
extern bool mr_catalog_elect_feeds(void);

/* forget feeds at home that no view follows; those that somebody is at work with stay */
extern bool mr_catalog_forget_unused_feeds(void);

/* forget feeds that are away, and that no view follows any more */
extern void mr_catalog_forget_orphans(void);

/*
 * Let feeds that wait for a worker at the same place of the same stream become one; those in
 * served have a worker and are left alone.
 */
extern bool mr_catalog_merge_waiting_feeds(const int64 *served, int nserved);

#endif							/* MR_CATALOG_FEED_H */
