/*
 * kafka/group_offsets.c
 *		A consumer's position that commits with what is produced.
 *
 * A group that nobody has joined keeps it: its offsets can be part of a producer's
 * transaction, and are asked for as those of any group.
 */
#include "postgres.h"

#include "kafka/group_offsets.h"
#include "kafka/producer_error.h"

/* How long the group's coordinator may take. */
#define GROUP_TIMEOUT_MS	15000

static void
throw_group_error(MrProducer *producer, const char *what, const char *group, rd_kafka_resp_err_t err)
{
	mr_client_serve(producer->client);
	mr_producer_check_failure(producer);
	ereport(ERROR,
			(errcode(mr_producer_sqlstate(err)),
			 errmsg("could not %s offsets of group \"%s\": %s", what, group,
					mr_trouble_explain(producer->trouble, err)),
			 mr_producer_advise(producer, err)));
}

MrPartitionOffset *
mr_producer_group_offsets(MrProducer *producer, const char *group, const char *topic, int *n)
{
	int32	   *partitions;
	MrPartitionOffset *result;
	rd_kafka_resp_err_t err;

	*n = mr_producer_ask_partitions(producer, topic);
	partitions = palloc(*n * sizeof(int32));
	result = palloc(*n * sizeof(MrPartitionOffset));
	for (int32 i = 0; i < *n; i++)
		partitions[i] = i;
	err = mr_client_ask(producer->client, mr_question_group_offsets(group, topic, partitions, *n),
						GROUP_TIMEOUT_MS);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		throw_group_error(producer, "read", group, err);
	for (int32 i = 0; i < *n; i++)
	{
		result[i].partition = i;
		result[i].offset = Max(mr_client_offset(producer->client, i), -1);
	}
	pfree(partitions);
	return result;
}

void
mr_producer_send_offsets(MrProducer *producer, const char *group, const char *topic,
						 const MrPartitionOffset *offsets, int n)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);
	MrQuestion *question;
	rd_kafka_resp_err_t err;

	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, topic, offsets[i].partition)->offset = offsets[i].offset;
	question = mr_question_send_offsets(group, list);
	rd_kafka_topic_partition_list_destroy(list);
	err = mr_client_ask(producer->client, question, GROUP_TIMEOUT_MS);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		throw_group_error(producer, "send", group, err);
}
