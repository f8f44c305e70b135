/*
 * kafka/too_large.c
 *		Messages that are too large for the broker: finding out which, and refusing them.
 *
 * What a topic allows, librdkafka does not know.  The broker refuses a batch as a whole, by
 * its compressed size, and that is the end of its transaction.  So which messages are too
 * large is found by trying: with a producer that sends each alone, in transactions that are
 * aborted, as often as one of them fails.  A delivery report does not tell more of its message
 * than what was in it, so messages are known by their fingerprints, by which the same ones are
 * recognized in a later attempt as well.
 */
#include "postgres.h"

#include "kafka/producer_error.h"
#include "kafka/too_large.h"
#include "miscadmin.h"

void
mr_producer_refuse(MrProducer *producer, const uint64 *fingerprints, int n)
{
	mr_fingerprints_add(&producer->refused, fingerprints, n);
}

const uint64 *
mr_producer_refused(const MrProducer *producer, int *n)
{
	*n = producer->refused.n;
	return producer->refused.items;
}

bool
mr_producer_met_too_large(const MrProducer *producer)
{
	return producer->ntoo_large > 0;
}

/* as mr_producer_send; false when one of the transaction's messages is too large */
static bool
offer(MrProducer *producer, const char *topic, const MrOutMessage *msg)
{
	rd_kafka_resp_err_t err = mr_producer_hand_over(producer, topic, msg);

	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return true;
	if (!mr_producer_failed_for_size(producer))
		mr_producer_throw_send_error(producer, topic, err, msg);
	return false;
}

/* in a transaction: false when it has failed because of a message that was not known to be too large */
static bool
offer_all(MrProducer *producer, const char *const *topics, const MrOutMessage *messages, int n)
{
	for (int i = 0; i < n; i++)
		if (!mr_fingerprints_has(&producer->refused, &messages[i]) &&
			!offer(producer, topics[i], &messages[i]))
			return false;
	return mr_producer_settle(producer);
}

static void
refuse_those_met(MrProducer *producer)
{
	if (producer->ntoo_large == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("the broker does not tell which messages are too large")));
	mr_producer_refuse(producer, producer->too_large, producer->ntoo_large);
}

void
mr_producer_survey(MrProducer *producer, const char *const *topics, const MrOutMessage *messages, int n)
{
	bool		passed;

	do
	{
		CHECK_FOR_INTERRUPTS();
		mr_producer_begin(producer);
		passed = offer_all(producer, topics, messages, n);
		if (!passed)
			refuse_those_met(producer);
		mr_producer_abort_or_throw(producer);
	} while (!passed);
}
