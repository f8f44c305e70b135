/*
 * kafka/thread.c
 *		Threads of our own, for librdkafka's blocking calls.
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>

#include "kafka/thread.h"

#define THREAD_STACK	(256 * 1024)

static int
create_thread(pthread_t *thread, int detached, void *(*main) (void *), void *arg)
{
	pthread_attr_t attr;
	sigset_t	all,
				old;
	int			rc;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, detached);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(thread, &attr, main, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return rc;
}

int
mr_thread_start(void *(*main) (void *), void *arg)
{
	pthread_t	thread;

	return create_thread(&thread, PTHREAD_CREATE_DETACHED, main, arg);
}

/* is there until its starter lets go of the lock */
static void *
idle_main(void *arg)
{
	pthread_mutex_lock(arg);
	pthread_mutex_unlock(arg);
	return NULL;
}

bool
mr_threads_left(int n)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_t  *threads = malloc(n * sizeof(pthread_t));
	int			started = 0;
	int			rc = threads == NULL ? ENOMEM : 0;

	pthread_mutex_lock(&mutex);
	while (started < n && rc == 0)
	{
		rc = create_thread(&threads[started], PTHREAD_CREATE_JOINABLE, idle_main, &mutex);
		if (rc == 0)
			started++;
	}
	pthread_mutex_unlock(&mutex);
	for (int i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	free(threads);
	errno = rc;
	return rc == 0;
}

struct timespec
mr_thread_deadline(int ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000L;
	if (until.tv_nsec >= 1000000000L)
	{
		until.tv_nsec -= 1000000000L;
		until.tv_sec++;
	}
	return until;
}
