/*-------------------------------------------------------------------------
 *
 * clock.c
 *		To be preloaded: the time of day of a process, put off by as many seconds as the
 *		file says that CLOCK_OFFSET names.
 *
 * Only for who asks for the time by gettimeofday(), clock_gettime() or time(), as the
 * server does; waits until a time of day are left alone, so that librdkafka's threads, which ask by
 * other means, notice nothing.  (libfaketime shifts those, too, and their waits end at once.)
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long
offset(void)
{
	const char *path = getenv("CLOCK_OFFSET");
	FILE	   *file = path ? fopen(path, "re") : NULL;
	long		result = 0;

	if (file != NULL)
	{
		if (fscanf(file, "%ld", &result) != 1)
			result = 0;
		fclose(file);
	}
	return result;
}

int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	int			rc = (int) syscall(SYS_clock_gettime, clock, ts);

	if (rc == 0 && clock == CLOCK_REALTIME)
		ts->tv_sec += offset();
	return rc;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec ts;

	(void) tz;
	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *result)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (result != NULL)
		*result = ts.tv_sec;
	return ts.tv_sec;
}
