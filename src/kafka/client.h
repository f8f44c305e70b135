/*
 * kafka/client.h
 *		What consumer, producer and admin share: a librdkafka handle with its events, waits
 *		and questions.  Private to this folder.
 */
#ifndef MR_KAFKA_CLIENT_H
#define MR_KAFKA_CLIENT_H

#include "kafka/consumer.h"
#include "kafka/question.h"
#include "kafka/trouble.h"

#include <librdkafka/rdkafka.h>

typedef struct MrClient MrClient;

/* a property with its value (NULL: it stays as it is), in arrays that end with a NULL name */
typedef struct MrSetting
{
	const char *name;
	const char *value;
} MrSetting;

/* called first when the client is destroyed; must not throw */
typedef void (*MrClientRelease) (void *arg);

/* a delivery report; called from mr_client_serve; must not throw */
typedef void (*MrDelivery) (void *arg, const rd_kafka_message_t *rkmessage);

/*
 * A handle in the current memory context, which must be one of its own: when it goes,
 * release(arg) is called and the handle destroyed, without waiting for a broker.  defaults
 * yield to props, props to owned.
 */
extern MrClient *mr_client_create(rd_kafka_type_t type, List *props,
								  const MrSetting *defaults, const MrSetting *owned,
								  MrClientRelease release, void *arg,
								  MrDelivery delivery);
extern rd_kafka_t *mr_client_handle(MrClient *client);

/* value of a property as it is in force; palloc'd, NULL when it has none */
extern char *mr_client_property(MrClient *client, const char *name);

/* let events of this queue end mr_client_wait */
extern void mr_client_watch(MrClient *client, rd_kafka_queue_t *queue);

/* handle errors, logs and delivery reports that are queued */
extern void mr_client_serve(MrClient *client);

/*
 * Wait for an event of a watched queue or the latch; true when the latch was set (and is
 * reset now).  Checks for interrupts.
 */
extern bool mr_client_wait(MrClient *client, int timeout_ms);

/*
 * The same for waits inside a longer task: the latch's event is not lost for the caller's
 * caller when mr_client_keep_latch is called afterwards.
 */
extern void mr_client_pause(MrClient *client, int timeout_ms);
extern void mr_client_keep_latch(MrClient *client);

/*
 * For when nothing may fail or interrupt any more, so without a long wait: let an event of a
 * watched queue end it, and leave the latch alone.  Does not throw.
 */
extern void mr_client_rest(MrClient *client, int timeout_ms);

/* have librdkafka's broker threads look now whether there is something to fetch */
extern void mr_client_nudge(MrClient *client);

/* the trouble that the client is in; as long as the client lives */
extern MrTrouble *mr_client_trouble(MrClient *client);

/* copy of a text of librdkafka's without secrets, palloc'd */
extern char *mr_client_scrub(MrClient *client, const char *text);

/*
 * Put a question to the broker.  mr_client_ask waits for the answer, in which case an
 * authentication failure ends the wait early; mr_client_ask_async goes on, and
 * mr_client_answered tells (true once) that it is over.  Both take over the question, whose
 * answer stays readable until the next question or the client's end.
 */
extern rd_kafka_resp_err_t mr_client_ask(MrClient *client, MrQuestion *question, int timeout_ms);
extern void mr_client_ask_async(MrClient *client, MrQuestion *question, int timeout_ms);

/* as mr_client_ask, but rests meanwhile, and says nothing of the client's trouble */
extern rd_kafka_resp_err_t mr_client_try_to_ask(MrClient *client, MrQuestion *question,
												int timeout_ms);
extern bool mr_client_asking(MrClient *client);
extern bool mr_client_answered(MrClient *client, rd_kafka_resp_err_t *err);
extern int	mr_client_partitions(MrClient *client);
extern int	mr_client_leaderless(MrClient *client);
extern int64 mr_client_offset(MrClient *client, int i);

#endif							/* MR_KAFKA_CLIENT_H */
