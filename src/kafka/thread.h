/*
 * kafka/thread.h
 *		Threads of our own, for librdkafka's blocking calls.  Private to this folder.
 *
 * All signals are blocked in them, and nothing of PostgreSQL's is called or touched; memory
 * comes from malloc.
 */
#ifndef MR_KAFKA_THREAD_H
#define MR_KAFKA_THREAD_H

#include <time.h>

/* detached; 0 or an errno */
extern int	mr_thread_start(void *(*main) (void *), void *arg);

/* may this process have n more of them now?  False: errno says why */
extern bool mr_threads_left(int n);

/* in so many milliseconds, for pthread_cond_timedwait */
extern struct timespec mr_thread_deadline(int ms);

#endif							/* MR_KAFKA_THREAD_H */
