/*
 * kafka/producer_error.h
 *		What a producer's failures become: errors with librdkafka's reason.  Private to this
 *		folder.
 */
#ifndef MR_KAFKA_PRODUCER_ERROR_H
#define MR_KAFKA_PRODUCER_ERROR_H

#include "kafka/producer_internal.h"

/*
 * For errors of the caller's own: SQLSTATE of an error of librdkafka's, and errhint() on it, for
 * use inside ereport().
 */
extern int	mr_producer_sqlstate(rd_kafka_resp_err_t err);
extern int	mr_producer_advise(const MrProducer *producer, rd_kafka_resp_err_t err);

/*
 * ERROR if a delivery of this transaction has failed, as far as is known, or if the login was
 * refused, which does not get better by waiting.  what: "could not … a Kafka transaction"
 */
extern void mr_producer_check_failure(const MrProducer *producer);
extern void mr_producer_check_login(const MrProducer *producer, const char *what);

/*
 * These always throw; the failed delivery, if there is one, since that is the reason.
 *
 * _transaction_error takes over the error; _timed_out: no answer in time; _send_error: a message
 * was not handed over.
 */
extern void mr_producer_throw_transaction_error(MrProducer *producer, const char *what,
												rd_kafka_error_t *error);
extern void mr_producer_throw_timed_out(const MrProducer *producer, const char *what);
extern void mr_producer_throw_send_error(MrProducer *producer, const char *topic,
										 rd_kafka_resp_err_t err, const MrOutMessage *msg);

/* So do these.  size: of key and value; _never_fits: the queue is empty, and full */
extern void mr_producer_throw_no_topic(const char *topic);
extern void mr_producer_throw_too_large(const MrProducer *producer, const char *topic, size_t size);
extern void mr_producer_throw_never_fits(const MrProducer *producer, const char *topic, size_t size);

#endif							/* MR_KAFKA_PRODUCER_ERROR_H */
