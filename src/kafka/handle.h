/*
 * kafka/handle.h
 *		A librdkafka handle that has several users, and is destroyed when the last one lets it
 *		go.  Private to this folder.
 */
#ifndef MR_KAFKA_HANDLE_H
#define MR_KAFKA_HANDLE_H

#include "millrace.h"

#include <librdkafka/rdkafka.h>

typedef struct MrHandle MrHandle;

/* None of these throws, and all but _create and _threads_left may be called in any thread. */

/* with one user; NULL when out of memory */
extern MrHandle *mr_handle_create(rd_kafka_t *rk);
extern rd_kafka_t *mr_handle_rk(const MrHandle *handle);

/* one more user, and one less */
extern void mr_handle_hold(MrHandle *handle);
extern void mr_handle_release(MrHandle *handle);

/* may this process have as many threads more as a new handle needs?  False: errno says why */
extern bool mr_handle_threads_left(void);

/* is a handle still being destroyed, which may never end? */
extern bool mr_handle_any_abandoned(void);

#endif							/* MR_KAFKA_HANDLE_H */
