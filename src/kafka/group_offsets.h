/*
 * kafka/group_offsets.h
 *		A consumer's position that commits with what is produced.
 */
#ifndef MR_KAFKA_GROUP_OFFSETS_H
#define MR_KAFKA_GROUP_OFFSETS_H

#include "kafka/producer.h"

/*
 * What a group has committed of all partitions of a topic, offset -1: nothing; palloc'd.  Errors
 * are mr_producer_begin's.
 */
extern MrPartitionOffset *mr_producer_group_offsets(MrProducer *producer, const char *group,
													const char *topic, int *n);

/* within a transaction: what the group is to have committed with it */
extern void mr_producer_send_offsets(MrProducer *producer, const char *group, const char *topic,
									 const MrPartitionOffset *offsets, int n);

#endif							/* MR_KAFKA_GROUP_OFFSETS_H */
