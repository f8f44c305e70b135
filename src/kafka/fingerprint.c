/*
 * kafka/fingerprint.c
 *		Fingerprints of messages that are produced.
 *
 * A hash of all that makes a message's size: key, value and headers.  Not of topic, partition
 * and timestamp: the broker may set them, and what is too large stays so with others.
 *
 * A set is searched from one end to the other: it holds messages that a broker has refused,
 * and each of those has cost a transaction.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "kafka/fingerprint.h"
#include "utils/memutils.h"

/* NULL has no length */
static uint64
add_bytes(uint64 hash, const void *bytes, size_t len)
{
	hash = hash_combine64(hash, len);
	return len == 0 ? hash : hash_combine64(hash, hash_bytes_extended(bytes, len, 0));
}

uint64
mr_fingerprint(const MrOutMessage *msg)
{
	uint64		hash = add_bytes(0, msg->key, msg->key_len);

	hash = add_bytes(hash, msg->value, msg->value_len);
	for (int i = 0; i < msg->nheaders; i++)
	{
		const MrHeader *header = &msg->headers[i];

		hash = add_bytes(hash, header->name, strlen(header->name));
		hash = add_bytes(hash, header->value, header->value_len);
	}
	return hash;
}

uint64
mr_fingerprint_delivered(const rd_kafka_message_t *rkmessage)
{
	uint64		hash = add_bytes(0, rkmessage->key, rkmessage->key_len);
	rd_kafka_headers_t *headers;
	const char *name;
	const void *value;
	size_t		size;

	hash = add_bytes(hash, rkmessage->payload, rkmessage->len);
	if (rd_kafka_message_headers(rkmessage, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return hash;
	for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
	{
		hash = add_bytes(hash, name, strlen(name));
		hash = add_bytes(hash, value, size);
	}
	return hash;
}

void
mr_fingerprints_add(MrFingerprints *set, const uint64 *fingerprints, int n)
{
	if (n == 0)
		return;
	if (set->n + n > set->size)
	{
		set->size = Max(set->size * 2, set->n + n);
		set->items = set->items == NULL ?
			MemoryContextAllocHuge(set->cxt, sizeof(uint64) * set->size) :
			repalloc_huge(set->items, sizeof(uint64) * set->size);
	}
	memcpy(set->items + set->n, fingerprints, sizeof(uint64) * n);
	set->n += n;
}

bool
mr_fingerprints_has(const MrFingerprints *set, const MrOutMessage *msg)
{
	uint64		fingerprint = set->n == 0 ? 0 : mr_fingerprint(msg);

	for (int i = 0; i < set->n; i++)
		if (set->items[i] == fingerprint)
			return true;
	return false;
}
