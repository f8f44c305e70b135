/*
 * message.h
 *		The messages of the benchmark, made from their number alone, so that every run and
 *		every peer sees the same.
 *
 * Time passes as in a stream of events: MESSAGES_PER_MINUTE of them share a minute.  60 of
 * those minutes have 6,000 groups of (minute, url) and nearly 600,000 of (minute, user_id).
 */
#ifndef BENCH_MESSAGE_H
#define BENCH_MESSAGE_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_MAX			1024
#define MESSAGES_PER_MINUTE	33333
#define URLS				100
#define USERS				10000

typedef enum MessageKind
{
	MESSAGE_EVENT,				/* 130 bytes */
	MESSAGE_WIDE,				/* five keys, ten numbers */
	MESSAGE_NUMBERED,			/* an event with its number in it */
	MESSAGE_CSV					/* an event as COPY takes it */
} MessageKind;

/* splitmix64: the same everywhere, and good enough */
static inline uint64_t
message_random(uint64_t i)
{
	uint64_t	z = i * UINT64_C(0x9e3779b97f4a7c15) + UINT64_C(0x632be59bd9b4e019);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static inline int
message_event(char *to, uint64_t i, const char *format)
{
	static const char *const countries[] = {"HU", "SE", "JP", "BR", "CA", "IN", "KE", "NZ"};
	uint64_t	r = message_random(i);
	uint64_t	minute = i / MESSAGES_PER_MINUTE;
	uint64_t	ms = i % MESSAGES_PER_MINUTE * 60000 / MESSAGES_PER_MINUTE;
	int			hour = (int) (minute / 60 % 24);
	int			day = (int) (minute / 1440 % 28) + 1;

	return snprintf(to, MESSAGE_MAX, format, day, hour, (int) (minute % 60),
					(int) (ms / 1000), (int) (ms % 1000),
					(int) (r % USERS), (int) (r / USERS % URLS),
					(int) (r >> 32 & 511), (int) (r >> 41 & 7) * 125,
					countries[r >> 50 & 7]);
}

static inline int
message_wide(char *to, uint64_t i)
{
	static const char *const regions[] = {"north", "east", "south", "west"};
	static const char *const devices[] = {"phone", "tablet", "desktop"};
	uint64_t	r = message_random(i);
	uint64_t	s = message_random(r);

	return snprintf(to, MESSAGE_MAX,
					"{\"k0\":\"%s\",\"k1\":\"%s\",\"k2\":%d,\"k3\":%d,\"k4\":\"v%d\","
					"\"c0\":%d,\"c1\":%d,\"c2\":%d,\"c3\":%d,\"c4\":%d,"
					"\"c5\":%d.%02d,\"c6\":%d.%02d,\"c7\":%d.%02d,\"c8\":%d.%02d,\"c9\":%d.%02d}",
					regions[r & 3], devices[(r >> 2) % 3], (int) (r >> 8 & 7), (int) (r >> 12 & 7),
					(int) ((r >> 16) % 5),
					(int) (r >> 20 & 1023), (int) (r >> 30 & 1023), (int) (r >> 40 & 1023),
					(int) (r >> 50 & 1023), (int) (s & 65535),
					(int) (s >> 16 & 511), (int) ((s >> 3) % 100), (int) (s >> 25 & 511),
					(int) ((s >> 5) % 100), (int) (s >> 34 & 511), (int) ((s >> 7) % 100),
					(int) (s >> 43 & 511), (int) ((s >> 9) % 100), (int) (s >> 52 & 511),
					(int) ((s >> 11) % 100));
}

/* writes message number i, returns its length */
static inline int
message_make(char *to, MessageKind kind, uint64_t i)
{
	int			n;

	if (kind == MESSAGE_WIDE)
		return message_wide(to, i);
	n = message_event(to, i, kind == MESSAGE_CSV
					  ? "2026-01-%02dT%02d:%02d:%02d.%03dZ,%d,/page/%d,%d.%03d,%s\n"
					  : "{\"ts\":\"2026-01-%02dT%02d:%02d:%02d.%03dZ\",\"user_id\":%d,"
					  "\"url\":\"/page/%d\",\"latency\":%d.%03d,\"country\":\"%s\","
					  "\"agent\":\"browser/12.5 (mobile)\"}");
	if (kind == MESSAGE_NUMBERED)
		n += snprintf(to + n - 1, MESSAGE_MAX - n, ",\"seq\":%llu}", (unsigned long long) i) - 1;
	return n;
}

#endif							/* BENCH_MESSAGE_H */
