/*
 * stream/topic_scan.h
 *		Reading a bounded part of a topic, in a client's session.
 */
#ifndef MR_STREAM_TOPIC_SCAN_H
#define MR_STREAM_TOPIC_SCAN_H

#include "stream/batch.h"
#include "stream/bounds.h"

typedef struct MrTopicScan MrTopicScan;

/*
 * attrs: columns wanted.  userid: whose user mapping connects.  Does not contact the
 * broker.  Lives in a context of its own below the current one; all that it holds,
 * connections too, goes with that.
 */
extern MrTopicScan *mr_topic_scan_create(const MrStream *stream, const Bitmapset *attrs, Oid userid);

/*
 * Go to the beginning of what bounds leave of the topic, from the oldest message to the
 * end as it was when the scan was started the first time.
 */
extern void mr_topic_scan_start(MrTopicScan *scan, const MrBounds *bounds);

/*
 * The next messages, decoded; NULL at the end.  At most a few megabytes beyond what
 * librdkafka buffers; valid until the next call.  Needs an active snapshot.
 */
extern const MrBatch *mr_topic_scan_next(MrTopicScan *scan);

/* Ends it and warns of messages that could not be used. */
extern void mr_topic_scan_end(MrTopicScan *scan);

#endif							/* MR_STREAM_TOPIC_SCAN_H */
