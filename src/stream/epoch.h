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

/* the last Unix time in ms that is a timestamp; producers may send any */
#define MR_MAX_UNIX_MS \
	(END_TIMESTAMP / 1000 + MR_POSTGRES_EPOCH_USECS / 1000 - 1)

#endif							/* MR_STREAM_EPOCH_H */
