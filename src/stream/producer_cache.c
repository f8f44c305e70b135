/*
 * stream/producer_cache.c
 *		One producer per server and user, kept for the session.
 *
 * A producer costs threads, connections and a round trip to the transaction coordinator, so
 * it is kept.  Its transactional id is made of the cluster, the database, the server, the
 * user and the process's slot: no two live producers share one, and the next process in
 * that slot fences what a killed one has left open, before Kafka's time-out does.
 *
 * A change of any server or user mapping makes all of them stale, and a long rest the one: the
 * broker has closed its connections by then, and forgets its id some day
 * (transactional.id.expiration.ms).  They are replaced at the next use, never in the middle of
 * one.  At the end of the process they are destroyed before the libraries are, since
 * librdkafka's threads would go on working.
 */
#include "millrace.h"

#include "elapsed.h"
#include "stream/option.h"
#include "stream/producer_cache.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* A rest is long when it takes so many times as long as a transaction may: ten minutes. */
#define LONG_REST	10
#define TRANSACTION_TIMEOUT_MS	60000

typedef struct CachedProducer
{
	Oid			serverid;
	Oid			userid;
	bool		stale;
	TimestampTz used_at;
	int64		long_rest_ms;
	MemoryContext context;		/* the producer's, and this struct's */
	MrProducer *producer;
} CachedProducer;

/* the process's producers, of CachedProducer *; the list is in TopMemoryContext */
static List *producers = NIL;
static bool registered = false;


static void
destroy(CachedProducer *cached)
{
	producers = list_delete_ptr(producers, cached);
	MemoryContextDelete(cached->context);
}

static void
destroy_all(int code, Datum arg)
{
	while (producers != NIL)
		destroy(linitial(producers));
}

static void
mark_stale(Datum arg, int cacheid, uint32 hashvalue)
{
	ListCell   *lc;

	foreach(lc, producers)
		((CachedProducer *) lfirst(lc))->stale = true;
}

static void
register_callbacks(void)
{
	if (registered)
		return;
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, mark_stale, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, mark_stale, (Datum) 0);
	on_proc_exit(destroy_all, (Datum) 0);
	registered = true;
}

static CachedProducer *
find(Oid serverid, Oid userid)
{
	ListCell   *lc;

	foreach(lc, producers)
	{
		CachedProducer *cached = lfirst(lc);

		if (cached->serverid == serverid && cached->userid == userid)
			return cached;
	}
	return NULL;
}

static CachedProducer *
create(Oid serverid, Oid userid)
{
	List	   *props = mr_server_properties(serverid, userid);
	const char *timeout = mr_conf_value(props, "transaction.timeout.ms");
	char	   *id = psprintf("millrace-" UINT64_FORMAT "-%u-%u-%u-%d", GetSystemIdentifier(),
							  MyDatabaseId, serverid, userid, mr_process_number());
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "millrace producer",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CachedProducer *cached = palloc0(sizeof(CachedProducer));

	cached->serverid = serverid;
	cached->userid = userid;
	cached->long_rest_ms = LONG_REST * (timeout == NULL ? TRANSACTION_TIMEOUT_MS : strtoi64(timeout, NULL, 10));
	cached->context = context;
	cached->producer = mr_producer_create(props, id, 0);

	MemoryContextSwitchTo(TopMemoryContext);
	producers = lappend(producers, cached);
	MemoryContextSetParent(context, TopMemoryContext);
	MemoryContextSwitchTo(old);
	return cached;
}

static bool
is_stale(const CachedProducer *cached, TimestampTz now)
{
	return cached->stale || now - cached->used_at > cached->long_rest_ms * 1000;
}

MrProducer *
mr_cached_producer(Oid serverid, Oid userid)
{
	CachedProducer *cached = find(serverid, userid);
	TimestampTz now = mr_steady_time();

	register_callbacks();
	if (cached != NULL && is_stale(cached, now))
	{
		destroy(cached);
		cached = NULL;
	}
	if (cached == NULL)
		cached = create(serverid, userid);
	cached->used_at = now;
	return cached->producer;
}

void
mr_cached_producer_drop(Oid serverid, Oid userid)
{
	CachedProducer *cached = find(serverid, userid);

	if (cached != NULL)
		destroy(cached);
}
