/*
 * kafka/client_log.c
 *		librdkafka's log lines on their way into the server log.
 *
 * They come in a callback, below librdkafka's stack frames, where nothing may throw, and so
 * nothing be written: they are copied into a fixed buffer first.  What comes while nobody
 * writes, during a transaction call, may be lost, and is counted.
 *
 * librdkafka repeats itself as long as a broker is away.  A complaint of one kind is written
 * once in a while, for all clients of this process together, with the number of those that
 * were left out since.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "elapsed.h"
#include "kafka/client_log.h"
#include "utils/timestamp.h"

/* Lines kept at once. */
#define LOG_LINES		32
#define LOG_LINE_SIZE	512

/* The same complaint is written once in this time. */
#define LOG_REPEAT_MS	(60 * 1000)
#define LOG_KINDS		32

/* syslog's */
#define LEVEL_WARNING	4
#define LEVEL_DEBUG		7

typedef struct LogLine
{
	int			level;			/* of syslog */
	char		content[LOG_LINE_SIZE];
} LogLine;

struct MrClientLog
{
	bool		debug;
	const List *secrets;
	LogLine		lines[LOG_LINES];
	int			nlines;
	int64		lost;
};

/* What was last written, for all clients of this process. */
static struct
{
	uint32		hash;
	TimestampTz at;
	int64		suppressed;
}			log_kinds[LOG_KINDS];

MrClientLog *
mr_client_log_create(bool debug, const List *secrets)
{
	MrClientLog *log = palloc0(sizeof(MrClientLog));

	log->debug = debug;
	log->secrets = secrets;
	return log;
}

bool
mr_client_log_take(MrClientLog *log, int level, const char *facility, const char *text)
{
	LogLine    *line;

	if (log->nlines == LOG_LINES)
	{
		log->lost++;
		return false;
	}
	line = &log->lines[log->nlines++];
	/* "your property is for producers" is no news: a server serves both */
	line->level = strcmp(facility, "CONFWARN") == 0 ? LEVEL_DEBUG : level;
	snprintf(line->content, sizeof(line->content), "%s: %s", facility, text);
	return log->nlines == LOG_LINES;
}

/* A kind of complaint: the line without what differs from one time to the next. */
static uint32
kind_of(const char *line)
{
	uint32		hash = 0;

	for (; *line != '\0'; line++)
	{
		if (*line < '0' || *line > '9')
			hash = hash_combine(hash, (uint32) (unsigned char) *line);
	}
	return hash;
}

/*
 * May a line of this kind be written now?  *suppressed is the number of those that were
 * not since the last one.
 */
static bool
is_permitted(const char *line, int64 *suppressed)
{
	uint32		hash = kind_of(line);
	int			i = hash % LOG_KINDS;
	TimestampTz now = mr_steady_time();

	if (log_kinds[i].hash == hash &&
		!TimestampDifferenceExceeds(log_kinds[i].at, now, LOG_REPEAT_MS))
	{
		log_kinds[i].suppressed++;
		return false;
	}
	*suppressed = log_kinds[i].hash == hash ? log_kinds[i].suppressed : 0;
	log_kinds[i].hash = hash;
	log_kinds[i].at = now;
	log_kinds[i].suppressed = 0;
	return true;
}

static void
write_line(const MrClientLog *log, const LogLine *line)
{
	char	   *shown = mr_conf_scrub(line->content, log->secrets);
	int64		suppressed = 0;
	int			elevel = LOG_SERVER_ONLY;

	/* what is below a warning is only for who asked for it */
	if (!log->debug &&
		(line->level > LEVEL_WARNING || !is_permitted(shown, &suppressed)))
		elevel = DEBUG2;
	if (suppressed > 0)
		ereport(elevel,
				(errmsg("Kafka client: %s", shown),
				 errdetail("%lld similar messages were not logged.", (long long) suppressed)));
	else
		ereport(elevel, (errmsg("Kafka client: %s", shown)));
	pfree(shown);
}

bool
mr_client_log_write(MrClientLog *log)
{
	bool		full = log->nlines == LOG_LINES;

	for (int i = 0; i < log->nlines; i++)
		write_line(log, &log->lines[i]);
	log->nlines = 0;
	return full;
}

void
mr_client_log_write_lost(MrClientLog *log)
{
	if (log->lost > 0)
		ereport(log->debug ? LOG_SERVER_ONLY : DEBUG1,
				(errmsg("Kafka client: %lld log lines were lost", (long long) log->lost)));
	log->lost = 0;
}
