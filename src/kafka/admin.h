/*
 * kafka/admin.h
 *		Creating topics.
 */
#ifndef MR_KAFKA_ADMIN_H
#define MR_KAFKA_ADMIN_H

#include "kafka/conf.h"

/*
 * Create a topic and wait until its metadata shows all partitions with leaders.
 * config: List of MrProperty * (topic configuration entries).  Errors:
 * ERRCODE_DUPLICATE_OBJECT when it exists, ERRCODE_INVALID_PARAMETER_VALUE for what the
 * broker refuses (its message passed on), ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION
 * when it cannot be reached within timeout_ms.
 */
extern void mr_admin_create_topic(List *props, const char *topic, int partitions,
								  int replication, List *config, int timeout_ms);

#endif							/* MR_KAFKA_ADMIN_H */
