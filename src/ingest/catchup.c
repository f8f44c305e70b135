/*
 * catchup.c
 *		Joining the live feed with neither a gap nor an overlap.
 *
 * A feed that is not live (a new view's, a reactivated view's) is read by a worker of its
 * own from its own offsets.  It must not pass the live feed, because joining is: both stand
 * at the same offset in every partition, so the views of one can follow the other.
 *
 * In each step the messages are cut at the live offsets.  The cut itself needs no lock: live
 * offsets only grow.  Only when messages and ends of partitions at hand reach all of them,
 * the live rows are locked, which holds up the live worker's next batch, and read again;
 * where they have moved on meanwhile the messages in hand usually reach there as well,
 * because both consumers receive the same messages while the live one has yet to commit
 * its batch.  Nothing is fetched while the lock is held.
 *
 * Where the topic has been created again just now, and the live worker has not noticed it yet, the
 * same offsets are not the same place: the messages taken last tell.
 *
 * The test is the reader's position, not the offset of a last message: transaction markers
 * and compaction leave holes.
 *
 * A view that starts after the live position ('latest' while the live feed is behind) joins
 * at once: its start offsets keep earlier messages from it wherever its feed stands.
 *
 * A shadow (a view's contents that are being rebuilt) must not take the view's place before it
 * holds as much, and it takes it as soon as it has joined.  So it does not join a live feed
 * that is itself behind the view, which has failed or was deactivated further on: unless it
 * is at the end of the stream, where nothing is missing, or the view's offsets are beyond the end,
 * because the topic was created again.
 */
#include "millrace.h"

#include "catalog_rebuild.h"
#include "failpoint.h"
#include "ingest/catchup.h"

/* may the feed go back to an offset before its own? All its views start later anyway. */
static bool
starts_later(const MrIngest *ingest, int32 partition, int64 offset)
{
	ListCell   *lc;

	foreach(lc, ingest->views)
	{
		const MrIngestView *view = lfirst(lc);

		if (partition >= view->nstart || view->start[partition] < offset)
			return false;
	}
	return true;
}

static int64
end_of(int32 partition, const MrPartitionOffset *ends, int nends)
{
	for (int i = 0; i < nends; i++)
		if (ends[i].partition == partition)
			return ends[i].offset;
	return -1;
}

/* how far the messages at hand, and what is known of the end, reach in a partition */
static int64
reach_of(const MrPosition *position, const MrMessage *messages, int n,
		 const MrPartitionOffset *ends, int nends)
{
	int64		reach = Max(position->next_offset, end_of(position->partition, ends, nends));

	for (int i = n - 1; i >= 0; i--)
		if (messages[i].partition == position->partition)
			return Max(reach, messages[i].offset + 1);
	return reach;
}

/* do we reach all the live offsets, with none passed? */
static bool
reaches(MrIngest *ingest, const MrFeedOffset *live, int nlive, const MrMessage *messages, int n,
		const MrStepSource *source)
{
	int			nends;
	const MrPartitionOffset *ends = source->ends(source->arg, &nends);

	for (int i = 0; i < nlive; i++)
	{
		MrPosition *position = mr_offsets_find(ingest->offsets, live[i].partition);

		/* it will go on elsewhere */
		if (live[i].in_gap)
			return false;
		/* a partition that the topic no longer has, or nothing was taken of */
		if (position == NULL && live[i].next_offset == 0)
			continue;
		if (position == NULL)
			return false;
		if (position->next_offset > live[i].next_offset)
		{
			/*
			 * what was taken there is of another log, if the live feed will
			 * not come as far, and so is an offset beyond the end
			 */
			if (position->last.offset >= live[i].next_offset ||
				source->end(source->arg, position->partition) < position->next_offset ||
				!starts_later(ingest, position->partition, position->next_offset))
				return false;
		}
		else if (reach_of(position, messages, n, ends, nends) < live[i].next_offset)
			return false;
	}
	/* of partitions that the live worker has not met yet nothing was taken */
	for (int i = 0; i < ingest->offsets->n; i++)
	{
		const MrPosition *position = &ingest->offsets->positions[i];
		bool		known = false;

		for (int j = 0; j < nlive; j++)
			known = known || live[j].partition == position->partition;
		if (!known && position->stored && position->next_offset > 0)
			return false;
	}
	return true;
}

/* an offset of one cluster means nothing in another */
static bool
same_cluster(const MrIngest *ingest, int64 live_feed)
{
	const MrFeedCluster *live = mr_catalog_feed_cluster(live_feed);

	return ingest->cluster->id == NULL || live->id == NULL ||
		strcmp(ingest->cluster->id, live->id) == 0;
}

/* is what was taken last in each partition the very message that the live feed has taken there? */
static bool
is_same_log(const MrIngest *ingest)
{
	for (int i = 0; i < ingest->nlive; i++)
	{
		const MrPosition *position = mr_offsets_find(ingest->offsets, ingest->live[i].partition);
		const MrRecord *last = &ingest->live[i].last;

		if (position != NULL && last->offset >= 0 && position->new_last.offset == last->offset &&
			position->new_last.checksum != last->checksum)
			return false;
	}
	return true;
}

static int64
live_offset(const MrFeedOffset *live, int nlive, int32 partition)
{
	for (int i = 0; i < nlive; i++)
		if (live[i].partition == partition)
			return live[i].next_offset;
	return 0;
}

/*
 * Keep the messages before the live offsets.  The others follow them, so that every message can
 * still be given back; both in order, as the step may be taken anew.
 */
bool
mr_catchup_cut(MrIngest *ingest, MrMessage *messages, int *n)
{
	int			all = *n;
	int			kept = 0;
	int			nrest = 0;
	MrMessage  *rest = NULL;

	if (ingest->live == NULL)
		return false;
	for (int i = 0; i < all; i++)
	{
		MrMessage	message = messages[i];

		if (message.offset < live_offset(ingest->live, ingest->nlive, message.partition))
		{
			messages[kept++] = message;
			continue;
		}
		if (rest == NULL)
			rest = palloc(sizeof(MrMessage) * (all - i));
		rest[nrest++] = message;
	}
	*n = kept;
	if (nrest == 0)
		return false;
	memcpy(messages + kept, rest, sizeof(MrMessage) * nrest);
	pfree(rest);
	return true;
}

static bool
has_shadow(const MrIngest *ingest)
{
	ListCell   *lc;

	foreach(lc, ingest->views)
	{
		const MrView *view = ((MrIngestView *) lfirst(lc))->view;

		if (view->target != view->view)
			return true;
	}
	return false;
}

void
mr_catchup_move(MrIngest *ingest, const MrPartitionOffset *ends, int nends, bool at_end)
{
	for (int i = 0; i < ingest->offsets->n; i++)
	{
		MrPosition *position = &ingest->offsets->positions[i];
		int64		end = end_of(position->partition, ends, nends);

		if (ingest->live != NULL)
			end = Min(end, live_offset(ingest->live, ingest->nlive, position->partition));
		position->new_offset = Max(position->new_offset, end);
	}
	if (ingest->live == NULL && has_shadow(ingest) && mr_catalog_shadows_reached(ingest->feed->id, at_end))
		mr_catalog_changed();
}

/*
 * Is the live feed nowhere behind the view that a shadow is for?  Beyond the end of a partition, the
 * view's offset is one of another log.
 */
static bool
covers_view(const MrIngest *ingest, Oid view, const MrStepSource *source)
{
	int64		feed = mr_catalog_feed_of(view, ingest->stream->relid);
	int			n;
	MrFeedOffset *rows;

	if (feed == ingest->live_feed)
		return true;
	rows = mr_catalog_feed_offsets(feed, false, &n);
	for (int i = 0; i < n; i++)
	{
		int64		end = source->end(source->arg, rows[i].partition);

		if (live_offset(ingest->live, ingest->nlive, rows[i].partition) < rows[i].next_offset &&
			(end < 0 || end >= rows[i].next_offset))
			return false;
	}
	return true;
}

static bool
shadows_may_join(const MrIngest *ingest, const MrStepSource *source, bool at_end)
{
	ListCell   *lc;

	foreach(lc, ingest->views)
	{
		const MrView *view = ((MrIngestView *) lfirst(lc))->view;

		if (view->target != view->view && !at_end && !covers_view(ingest, view->target, source))
			return false;
	}
	return true;
}

/* how many messages would be kept? */
static int
count_kept(const MrIngest *ingest, const MrMessage *messages, int n)
{
	int			result = 0;

	for (int i = 0; i < n; i++)
		result += messages[i].offset < live_offset(ingest->live, ingest->nlive, messages[i].partition);
	return result;
}

/* of one that reaches the live feed */
static bool
may_join(const MrIngest *ingest, const MrMessage *messages, int n, const MrStepSource *source)
{
	int			kept = count_kept(ingest, messages, n);

	return !(ingest->aloof && kept > 0) && (kept > 0 || !ingest->other_log || is_same_log(ingest)) &&
		shadows_may_join(ingest, source, kept == n && source->at_end(source->arg));
}

bool
mr_catchup_limit(MrIngest *ingest, MrMessage *messages, int *n,
				 const MrStepSource *source, bool *cut)
{
	int64		live_feed = mr_catalog_live_feed(ingest->stream->relid);
	bool		joins = false;

	*cut = false;
	ingest->live = NULL;
	ingest->live_feed = live_feed;
	if (live_feed == 0 || live_feed == ingest->feed->id)
		return false;			/* nobody to overlap with: soon we are live
								 * ourselves */
	ingest->live = mr_catalog_feed_offsets(live_feed, false, &ingest->nlive);
	if (reaches(ingest, ingest->live, ingest->nlive, messages, *n, source) &&
		same_cluster(ingest, live_feed) && may_join(ingest, messages, *n, source))
	{
		MR_FAILPOINT("catchup-reached");
		ingest->live = mr_catalog_feed_offsets(live_feed, true, &ingest->nlive);
		ingest->holds_live = true;
		MR_FAILPOINT("catchup-live-locked");
		/* its last view may have left it while we waited */
		if (mr_catalog_live_feed(ingest->stream->relid) != live_feed)
			return mr_catchup_limit(ingest, messages, n, source, cut);
		joins = reaches(ingest, ingest->live, ingest->nlive, messages, *n, source);
		/* before any dead letter: DROP VIEW writes both in this order */
		if (joins)
			mr_catalog_lock_join(ingest->feed->id, live_feed);
	}
	*cut = mr_catchup_cut(ingest, messages, n);
	MR_FAILPOINT("catchup-cut");
	return joins;
}

bool
mr_catchup_is_same_log(MrIngest *ingest)
{
	if (is_same_log(ingest))
		return true;
	ingest->other_log = true;
	mr_catalog_bump_feed(ingest->live_feed);
	mr_catalog_changed();
	return false;
}

void
mr_catchup_join(MrIngest *ingest)
{
	mr_catalog_join_feeds(ingest->feed->id, ingest->live_feed);
	MR_FAILPOINT("catchup-joined");
	mr_catalog_changed();
}
