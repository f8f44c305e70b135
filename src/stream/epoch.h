/*
 * stream/epoch.h
 *		From Kafka's milliseconds to PostgreSQL's microseconds and back.
 */
#ifndef MR_STREAM_EPOCH_H
#define MR_STREAM_EPOCH_H

#include "datatype/timestamp.h"

/* PostgreSQL's epoch as Unix time */
#define MR_POSTGRES_EPOCH_USECS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

#endif							/* MR_STREAM_EPOCH_H */
