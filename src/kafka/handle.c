/*
 * kafka/handle.c
 *		A librdkafka handle that has several users, and is destroyed when the last one lets it
 *		go.
 *
 * The users are the client and the threads that ask its questions, which may outlive it
 * (question.c).
 *
 * Destroying a handle is one of librdkafka's blocking calls.  It takes milliseconds, but before
 * version 2.2 it never returns when a partition that was read has vanished from the cluster.
 * So a thread does it, and after a while nobody waits for it any more; the process had
 * better end soon then.
 *
 * Where librdkafka cannot start a thread for the coordinator of a new handle's group it aborts the
 * process, and so the server.  So it is tried beforehand whether there are that many to be had;
 * a process that is at a limit stays there for more than a moment.
 *
 * Locking: "lock" covers the number of users, and what concerns destroying.
 */
#include "postgres.h"

#include <pthread.h>

#include "kafka/handle.h"
#include "kafka/thread.h"

/* What a new handle cannot do without: its own, the coordinator's, one for itself, and one to ask. */
#define HANDLE_THREADS	4

/* How long to wait until a handle is destroyed. */
#define DESTROY_WAIT_MS	3000

struct MrHandle
{
	rd_kafka_t *rk;
	int			refs;
};

/* A handle being destroyed; freed by the thread, or by who waits, whoever is later. */
typedef struct Destruction
{
	rd_kafka_t *rk;
	bool		done;
	bool		abandoned;
} Destruction;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t destroyed = PTHREAD_COND_INITIALIZER;
static int	nabandoned = 0;

bool
mr_handle_threads_left(void)
{
	return mr_threads_left(HANDLE_THREADS);
}

MrHandle *
mr_handle_create(rd_kafka_t *rk)
{
	MrHandle   *handle = malloc(sizeof(MrHandle));

	if (handle != NULL)
	{
		handle->rk = rk;
		handle->refs = 1;
	}
	return handle;
}

rd_kafka_t *
mr_handle_rk(const MrHandle *handle)
{
	return handle->rk;
}

void
mr_handle_hold(MrHandle *handle)
{
	pthread_mutex_lock(&lock);
	handle->refs++;
	pthread_mutex_unlock(&lock);
}

static void
destroy(rd_kafka_t *rk)
{
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

static void *
destroy_main(void *arg)
{
	Destruction *destruction = arg;
	bool		abandoned;

	destroy(destruction->rk);
	pthread_mutex_lock(&lock);
	destruction->done = true;
	abandoned = destruction->abandoned;
	if (abandoned)
		nabandoned--;
	pthread_cond_broadcast(&destroyed);
	pthread_mutex_unlock(&lock);
	if (abandoned)
		free(destruction);
	return NULL;
}

static void
destroy_in_thread(rd_kafka_t *rk)
{
	Destruction *destruction = calloc(1, sizeof(Destruction));
	struct timespec until = mr_thread_deadline(DESTROY_WAIT_MS);
	bool		done;

	if (destruction != NULL)
		destruction->rk = rk;
	if (destruction == NULL || mr_thread_start(destroy_main, destruction) != 0)
	{
		destroy(rk);
		free(destruction);
		return;
	}
	pthread_mutex_lock(&lock);
	while (!destruction->done && pthread_cond_timedwait(&destroyed, &lock, &until) == 0)
		;
	done = destruction->done;
	if (!done)
	{
		destruction->abandoned = true;
		nabandoned++;
	}
	pthread_mutex_unlock(&lock);
	if (done)
		free(destruction);
}

bool
mr_handle_any_abandoned(void)
{
	bool		result;

	pthread_mutex_lock(&lock);
	result = nabandoned > 0;
	pthread_mutex_unlock(&lock);
	return result;
}

void
mr_handle_release(MrHandle *handle)
{
	bool		last;

	pthread_mutex_lock(&lock);
	last = --handle->refs == 0;
	pthread_mutex_unlock(&lock);
	if (!last)
		return;
	destroy_in_thread(handle->rk);
	free(handle);
}
