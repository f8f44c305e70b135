/*
 * kafka/producer_error.c
 *		What a producer's failures become: errors with librdkafka's reason.
 *
 * What a call returns is rarely the news.  A message that was refused fails its transaction,
 * and every call after that with "erroneous state": so the failed delivery is thrown, if there
 * is one, else the client's trouble, if there is one, and the call's own error only then.
 */
#include "postgres.h"

#include "kafka/producer_error.h"

int
mr_producer_sqlstate(rd_kafka_resp_err_t err)
{
	switch (mr_trouble_classify(err))
	{
		case MR_KAFKA_TRANSIENT:
		case MR_KAFKA_AUTH:
			return ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION;
		default:
			return ERRCODE_FDW_ERROR;
	}
}

void
mr_producer_throw_no_topic(const char *topic)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_ERROR),
			 errmsg("topic \"%s\" does not exist", topic),
			 errhint("Create it with millrace.create_topic().")));
}

/* The limit is the client's, or the smaller one that the broker sets for the topic. */
void
mr_producer_throw_too_large(const MrProducer *producer, const char *topic, size_t size)
{
	char	   *limit = mr_client_property(producer->client, "message.max.bytes");

	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("message of %zu bytes is too large for topic \"%s\"", size, topic),
			 errhint("The limits are the property \"message.max.bytes\" (%s here) and the topic's \"max.message.bytes\".",
					 limit ? limit : "unknown")));
}

/*
 * The broker ends a transaction that takes too long by fencing its producer, so librdkafka
 * cannot tell the one from the other either.
 */
static bool
may_have_taken_too_long(const MrProducer *producer, rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__FENCED:
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
		case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
		case RD_KAFKA_RESP_ERR_INVALID_TXN_STATE:
		case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING:
			return true;
		default:
			return mr_trouble_kind(producer->trouble) == MR_KAFKA_FATAL;
	}
}

int
mr_producer_advise(const MrProducer *producer, rd_kafka_resp_err_t err)
{
	char	   *timeout;

	/* first, since it ends a producer as fencing does */
	if (mr_trouble_is_unauthorized(err))
		return errhint("Check the access control lists: producing needs WRITE on the topic and on transactional ids that begin with \"millrace-\", and a transform READ on groups that begin so.");
	if (!may_have_taken_too_long(producer, err))
		return mr_trouble_hint(producer->trouble);
	timeout = mr_client_property(producer->client, "transaction.timeout.ms");
	return errhint("The transaction may have taken longer than the property \"transaction.timeout.ms\" (%s) allows, or a copy of this server, running beside it, produces, too.",
				   timeout ? timeout : "unknown");
}

void
mr_producer_check_failure(const MrProducer *producer)
{
	switch (producer->failure)
	{
		case RD_KAFKA_RESP_ERR_NO_ERROR:
			return;
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
			mr_producer_throw_no_topic(producer->failed_topic);
			break;
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
			mr_producer_throw_too_large(producer, producer->failed_topic, producer->failed_size);
			break;
		default:
			ereport(ERROR,
					(errcode(mr_producer_sqlstate(producer->failure)),
					 errmsg("could not produce to topic \"%s\": %s", producer->failed_topic,
							mr_trouble_kind(producer->trouble) == MR_KAFKA_OK ?
							producer->failed_reason :
							mr_trouble_explain(producer->trouble, producer->failure)),
					 mr_producer_advise(producer, producer->failure)));
	}
}

void
mr_producer_throw_transaction_error(MrProducer *producer, const char *what, rd_kafka_error_t *error)
{
	rd_kafka_resp_err_t err = rd_kafka_error_code(error);
	char	   *reason = mr_client_scrub(producer->client, rd_kafka_error_string(error));

	if (rd_kafka_error_is_fatal(error))
		producer->dead = true;
	rd_kafka_error_destroy(error);

	mr_client_serve(producer->client);
	mr_producer_check_failure(producer);
	ereport(ERROR,
			(errcode(mr_producer_sqlstate(err)),
			 errmsg("could not %s a Kafka transaction: %s", what, reason),
			 mr_producer_advise(producer, err)));
}

void
mr_producer_throw_timed_out(const MrProducer *producer, const char *what)
{
	mr_producer_check_failure(producer);
	ereport(ERROR,
			(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
			 errmsg("could not %s a Kafka transaction: %s", what,
					mr_trouble_explain(producer->trouble, RD_KAFKA_RESP_ERR__TIMED_OUT)),
			 mr_trouble_hint(producer->trouble)));
}

void
mr_producer_check_login(const MrProducer *producer, const char *what)
{
	if (mr_trouble_kind(producer->trouble) == MR_KAFKA_AUTH)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
				 errmsg("could not %s a Kafka transaction: %s", what,
						mr_trouble_reason(producer->trouble)),
				 mr_trouble_hint(producer->trouble)));
}

void
mr_producer_throw_send_error(MrProducer *producer, const char *topic, rd_kafka_resp_err_t err,
							 const MrOutMessage *msg)
{
	const char *reason = rd_kafka_err2str(err);

	mr_client_serve(producer->client);
	mr_producer_check_failure(producer);
	if (err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
		mr_producer_throw_too_large(producer, topic, msg->key_len + msg->value_len);
	/* "erroneous state": the transaction has failed already, for that reason */
	if (err == RD_KAFKA_RESP_ERR__STATE &&
		mr_trouble_kind(producer->trouble) != MR_KAFKA_OK)
		reason = mr_trouble_reason(producer->trouble);
	ereport(ERROR,
			(errcode(mr_producer_sqlstate(err)),
			 errmsg("could not produce to topic \"%s\": %s", topic, reason),
			 mr_producer_advise(producer, err)));
}

void
mr_producer_throw_never_fits(const MrProducer *producer, const char *topic, size_t size)
{
	char	   *limit = mr_client_property(producer->client, "queue.buffering.max.kbytes");

	ereport(ERROR,
			(errcode(ERRCODE_FDW_ERROR),
			 errmsg("message of %zu bytes for topic \"%s\" is larger than the producer's queue",
					size, topic),
			 errhint("Raise the property \"queue.buffering.max.kbytes\" (%s here).",
					 limit ? limit : "unknown")));
}
