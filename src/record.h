/*
 * record.h
 *		What is remembered of a message, to recognize it later.
 */
#ifndef MR_RECORD_H
#define MR_RECORD_H

#include "millrace.h"

typedef struct MrRecord
{
	int64		offset;			/* -1: no message is remembered */
	uint32		checksum;		/* of its timestamp, key and value */
} MrRecord;

#define MR_NO_RECORD	((MrRecord) {.offset = -1})

/* key and value may be NULL, as Kafka's may be null */
extern uint32 mr_record_checksum(int64 timestamp_ms, const char *key, size_t key_len,
								 const char *value, size_t value_len);

#endif							/* MR_RECORD_H */
