/*
 * record.c
 *		What is remembered of a message, to recognize it later.
 *
 * Kafka's offsets say nothing about which log they belong to: a topic that was created
 * again, or whose leader lost its last messages, has other messages at the same offsets.  The
 * timestamp is in the checksum because messages may be alike, and the checksum is a CRC
 * because it is stored, so it must be the same on every machine and in every version.
 */
#include "millrace.h"

#include "port/pg_bswap.h"
#include "port/pg_crc32c.h"
#include "record.h"

static pg_crc32c
add_number(pg_crc32c crc, int64 number)
{
	uint64		bytes = pg_hton64((uint64) number);

	return COMP_CRC32C(crc, &bytes, sizeof(bytes));
}

/* a null is not an empty text */
static pg_crc32c
add_bytes(pg_crc32c crc, const char *data, size_t len)
{
	crc = add_number(crc, data == NULL ? -1 : (int64) len);
	return data == NULL ? crc : COMP_CRC32C(crc, data, len);
}

uint32
mr_record_checksum(int64 timestamp_ms, const char *key, size_t key_len,
				   const char *value, size_t value_len)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	crc = add_number(crc, timestamp_ms);
	crc = add_bytes(crc, key, key_len);
	crc = add_bytes(crc, value, value_len);
	FIN_CRC32C(crc);
	return crc;
}
