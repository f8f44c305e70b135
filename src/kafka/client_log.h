/*
 * kafka/client_log.h
 *		librdkafka's log lines on their way into the server log.  Private to this folder.
 */
#ifndef MR_KAFKA_CLIENT_LOG_H
#define MR_KAFKA_CLIENT_LOG_H

#include "kafka/conf.h"

typedef struct MrClientLog MrClientLog;

/*
 * Empty; in the current memory context.  debug: the user asked for librdkafka's debug output,
 * so all is written; secrets: not to be written, and lives as long.
 */
extern MrClientLog *mr_client_log_create(bool debug, const List *secrets);

/*
 * Keep a line, of a syslog level.  Does not throw: librdkafka's callback uses it.  Has this line
 * filled the buffer?  The next ones are lost until it is written.
 */
extern bool mr_client_log_take(MrClientLog *log, int level, const char *facility, const char *text);

/* write what is kept; was the buffer full, so that more may be waiting? */
extern bool mr_client_log_write(MrClientLog *log);

/* say how many lines were lost, if any */
extern void mr_client_log_write_lost(MrClientLog *log);

#endif							/* MR_KAFKA_CLIENT_LOG_H */
