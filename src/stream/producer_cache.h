/*
 * stream/producer_cache.h
 *		One producer per server and user, kept for the session.
 */
#ifndef MR_STREAM_PRODUCER_CACHE_H
#define MR_STREAM_PRODUCER_CACHE_H

#include "kafka/producer.h"

/*
 * The session's producer for that server and user, made when there is none or when their
 * options have changed since.  Valid until the next call.
 */
extern MrProducer *mr_cached_producer(Oid serverid, Oid userid);

/* destroy it: it is in doubt after an error */
extern void mr_cached_producer_drop(Oid serverid, Oid userid);

#endif							/* MR_STREAM_PRODUCER_CACHE_H */
