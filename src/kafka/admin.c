/*
 * kafka/admin.c
 *		Creating topics.
 *
 * The broker's controller answers before the other brokers have heard of the new topic, so
 * the topic is only reported as created when metadata shows all of its partitions.
 */
#include "postgres.h"

#include "elapsed.h"
#include "kafka/admin.h"
#include "kafka/client.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define METADATA_PAUSE_MS	50

typedef struct Admin
{
	MrClient   *client;
	MrTrouble  *trouble;		/* the client's */
	rd_kafka_queue_t *queue;
	rd_kafka_event_t *event;
	const char *topic;
	TimestampTz end;
} Admin;

static void
release_admin(void *arg)
{
	Admin	   *admin = arg;

	if (admin->event != NULL)
		rd_kafka_event_destroy(admin->event);
	if (admin->queue != NULL)
	{
		rd_kafka_queue_io_event_enable(admin->queue, -1, NULL, 0);
		rd_kafka_queue_destroy(admin->queue);
	}
}

static Admin *
create_admin(List *props, const char *topic, int timeout_ms)
{
	Admin	   *admin = palloc0(sizeof(Admin));

	admin->topic = topic;
	admin->end = TimestampTzPlusMilliseconds(mr_steady_time(), timeout_ms);
	admin->client = mr_client_create(RD_KAFKA_PRODUCER, props, NULL, NULL,
									 release_admin, admin, NULL);
	admin->trouble = mr_client_trouble(admin->client);
	admin->queue = rd_kafka_queue_new(mr_client_handle(admin->client));
	mr_client_watch(admin->client, admin->queue);
	return admin;
}

static int
remaining_ms(Admin *admin)
{
	return (int) TimestampDifferenceMilliseconds(mr_steady_time(), admin->end);
}

static void
throw_unreachable(Admin *admin, rd_kafka_resp_err_t err)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
			 errmsg("could not create topic \"%s\": %s", admin->topic,
					mr_trouble_explain(admin->trouble, err)),
			 mr_trouble_hint(admin->trouble)));
}

/* err and its text are the broker's, or librdkafka's own when that refuses the request. */
static void
throw_refused(Admin *admin, rd_kafka_resp_err_t err, const char *text)
{
	if (err == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("topic \"%s\" already exists", admin->topic)));
	/* codes above zero were sent by a broker */
	if (err < 0 && err != RD_KAFKA_RESP_ERR__INVALID_ARG)
		throw_unreachable(admin, err);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("could not create topic \"%s\": %s", admin->topic,
					mr_client_scrub(admin->client, text !=NULL ? text : rd_kafka_err2str(err)))));
}

/* Takes over new_topic.  The result will come as an event. */
static void
send_request(Admin *admin, rd_kafka_NewTopic_t *new_topic)
{
	rd_kafka_t *rk = mr_client_handle(admin->client);
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
	char		err[256];
	int			timeout_ms = Max(remaining_ms(admin), 1);

	(void) rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, err, sizeof(err));
	(void) rd_kafka_AdminOptions_set_operation_timeout(options, timeout_ms, err, sizeof(err));
	rd_kafka_CreateTopics(rk, &new_topic, 1, options, admin->queue);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_NewTopic_destroy(new_topic);
}

static rd_kafka_NewTopic_t *
describe_topic(Admin *admin, int partitions, int replication, List *config)
{
	char text[	256] = "";
	rd_kafka_NewTopic_t *new_topic = rd_kafka_NewTopic_new(admin->topic, partitions, replication,
														   text, sizeof(text));
	ListCell   *lc;

	if (new_topic == NULL)
		throw_refused(admin, RD_KAFKA_RESP_ERR__INVALID_ARG, text);
	foreach(lc, config)
	{
		MrProperty *entry = lfirst(lc);
		rd_kafka_resp_err_t err = rd_kafka_NewTopic_set_config(new_topic, entry->name, entry->value);

		if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			rd_kafka_NewTopic_destroy(new_topic);
			throw_refused(admin, err, NULL);
		}
	}
	return new_topic;
}

static void
await_result(Admin *admin)
{
	while ((admin->event = rd_kafka_queue_poll(admin->queue, 0)) == NULL)
	{
		int			remaining = remaining_ms(admin);

		mr_client_serve(admin->client);
		if (remaining <= 0 || mr_trouble_kind(admin->trouble) == MR_KAFKA_AUTH)
			throw_unreachable(admin, mr_trouble_kind(admin->trouble) == MR_KAFKA_AUTH ?
							  RD_KAFKA_RESP_ERR__AUTHENTICATION : RD_KAFKA_RESP_ERR__TIMED_OUT);
		mr_client_pause(admin->client, Min(remaining, 100));
	}
	mr_client_keep_latch(admin->client);
}

static void
check_result(Admin *admin)
{
	const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(admin->event);
	const rd_kafka_topic_result_t **topics;
	size_t		n = 0;

	if (rd_kafka_event_error(admin->event) != RD_KAFKA_RESP_ERR_NO_ERROR)
		throw_refused(admin, rd_kafka_event_error(admin->event),
					  rd_kafka_event_error_string(admin->event));
	topics = rd_kafka_CreateTopics_result_topics(result, &n);
	for (size_t i = 0; i < n; i++)
	{
		rd_kafka_resp_err_t err = rd_kafka_topic_result_error(topics[i]);

		if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
			throw_refused(admin, err, rd_kafka_topic_result_error_string(topics[i]));
	}
}

/* partitions < 1: the broker's default number was asked for */
static void
await_leaders(Admin *admin, int partitions)
{
	for (;;)
	{
		rd_kafka_resp_err_t err = mr_client_ask(admin->client, mr_question_topic(admin->topic),
												Max(remaining_ms(admin), 1));

		if (err == RD_KAFKA_RESP_ERR_NO_ERROR &&
			mr_client_partitions(admin->client) >= Max(partitions, 1) &&
			mr_client_leaderless(admin->client) == 0)
			return;
		if (err == RD_KAFKA_RESP_ERR__AUTHENTICATION)
			throw_unreachable(admin, err);
		if (remaining_ms(admin) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
					 errmsg("topic \"%s\" was created, but its partitions did not get leaders in time",
							admin->topic)));
		mr_client_pause(admin->client, METADATA_PAUSE_MS);
		mr_client_keep_latch(admin->client);
	}
}

void
mr_admin_create_topic(List *props, const char *topic, int partitions,
					  int replication, List *config, int timeout_ms)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace admin",
											  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Admin	   *admin = create_admin(props, topic, timeout_ms);

	send_request(admin, describe_topic(admin, partitions, replication, config));
	await_result(admin);
	check_result(admin);
	await_leaders(admin, partitions);

	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}
