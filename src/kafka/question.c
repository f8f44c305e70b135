/*
 * kafka/question.c
 *		Questions to a broker that librdkafka only offers as blocking calls.
 *
 * librdkafka 2.0 has no asynchronous form of metadata and offset queries, and its blocking
 * forms cannot be interrupted: an answer that comes after the timeout is lost, so calling
 * them in slices of 100 ms would never get an answer from a broker that is 100 ms away.  So
 * a question is asked by a thread of its own, which does nothing else, and the backend
 * waits on its latch as it does for everything.
 *
 * Offsets that are sent to a transaction, and those that a group has committed, go the same
 * way: the one call cannot be resumed either, the other answers through a queue of its own.
 *
 * A backend that does not want to wait any longer drops the question and goes on.  The thread
 * notices when its current call returns, a second or two later, and cleans up.  Therefore the
 * librdkafka handle is counted (handle.c).
 *
 * Locking: "lock" covers done, dropped, the number of a question's users and that of threads.
 */
#include "postgres.h"

#include <pthread.h>
#include <unistd.h>

#include "kafka/question.h"
#include "kafka/thread.h"

/* How long one blocking call may take; doubled from first to last with every attempt. */
#define FIRST_SLICE_MS	500
#define LAST_SLICE_MS	2000

/*
 * How long offsets of an unknown partition are asked for.  Whoever asks has seen that partition:
 * while a leader is elected, or a broker has come back and does not lead anything yet,
 * librdkafka knows the topic with no partitions for a moment.
 */
#define UNKNOWN_PARTITION_MS	10000

typedef rd_kafka_resp_err_t (*Ask) (MrQuestion *question, rd_kafka_t *rk, int timeout_ms);

struct MrQuestion
{
	Ask			ask;
	MrHandle   *handle;
	int			refs;			/* the asker's, and its thread's */
	bool		done;
	bool		dropped;
	int64		started;		/* milliseconds of the monotonic clock */
	int64		deadline;
	int			wake_fd;

	/* question and answer */
	char		topic[256];
	char		group[256];
	rd_kafka_topic_partition_list_t *offsets;
	int64		time_or_logical;
	int			partitions;
	int			leaderless;
	rd_kafka_resp_err_t err;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t thread_ended = PTHREAD_COND_INITIALIZER;
static int	nthreads = 0;

static int64
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static MrQuestion *
question_create(Ask ask, const char *topic)
{
	MrQuestion *question = calloc(1, sizeof(MrQuestion));

	if (question != NULL)
	{
		question->ask = ask;
		question->refs = 1;
		strlcpy(question->topic, topic, sizeof(question->topic));
	}
	return question;
}

static void
question_free(MrQuestion *question)
{
	if (question->offsets != NULL)
		rd_kafka_topic_partition_list_destroy(question->offsets);
	free(question);
}

static rd_kafka_resp_err_t
ask_topic(MrQuestion *question, rd_kafka_t *rk, int timeout_ms)
{
	const struct rd_kafka_metadata *md = NULL;
	rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, question->topic, NULL);
	rd_kafka_resp_err_t err;

	if (rkt == NULL)
		return rd_kafka_last_error();
	err = rd_kafka_metadata(rk, 0, rkt, &md, timeout_ms);
	rd_kafka_topic_destroy(rkt);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return err;

	question->partitions = question->leaderless = 0;
	if (md->topic_cnt == 1)
	{
		const struct rd_kafka_metadata_topic *topic = &md->topics[0];

		err = topic->err;
		question->partitions = topic->partition_cnt;
		for (int i = 0; i < topic->partition_cnt; i++)
		{
			if (topic->partitions[i].leader < 0)
				question->leaderless++;
		}
	}
	rd_kafka_metadata_destroy(md);

	if (err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
	{
		question->partitions = 0;
		err = RD_KAFKA_RESP_ERR_NO_ERROR;
	}
	/* partitions without leaders are part of the answer */
	if (err == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE && question->partitions > 0)
		err = RD_KAFKA_RESP_ERR_NO_ERROR;
	return err;
}

MrQuestion *
mr_question_topic(const char *topic)
{
	return question_create(ask_topic, topic);
}

/*
 * One ListOffsets request per broker for all partitions: logical offsets are the
 * protocol's own special timestamps, and librdkafka passes them on.
 */
static rd_kafka_resp_err_t
ask_offsets(MrQuestion *question, rd_kafka_t *rk, int timeout_ms)
{
	rd_kafka_topic_partition_list_t *list = question->offsets;
	rd_kafka_resp_err_t err;

	for (int i = 0; i < list->cnt; i++)
	{
		list->elems[i].offset = question->time_or_logical;
		list->elems[i].err = RD_KAFKA_RESP_ERR_NO_ERROR;
	}
	err = rd_kafka_offsets_for_times(rk, list, timeout_ms);
	for (int i = 0; i < list->cnt && err == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
		err = list->elems[i].err;
	return err;
}

MrQuestion *
mr_question_offsets(const char *topic, const int32 *partitions, int n, int64 time_or_logical)
{
	MrQuestion *question = question_create(ask_offsets, topic);

	if (question == NULL)
		return NULL;
	question->time_or_logical = time_or_logical;
	question->offsets = rd_kafka_topic_partition_list_new(n);
	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(question->offsets, topic, partitions[i]);
	return question;
}

static rd_kafka_resp_err_t
take_error(rd_kafka_error_t *error)
{
	rd_kafka_resp_err_t err = error == NULL ? RD_KAFKA_RESP_ERR_NO_ERROR : rd_kafka_error_code(error);

	if (error != NULL)
		rd_kafka_error_destroy(error);
	return err;
}

/* the answer of ListConsumerGroupOffsets: into list, where a partition of it is not told, none */
static rd_kafka_resp_err_t
read_group_offsets(rd_kafka_topic_partition_list_t *list, rd_kafka_event_t *event)
{
	const rd_kafka_group_result_t **groups;
	const rd_kafka_topic_partition_list_t *told;
	size_t		n;

	if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return rd_kafka_event_error(event);
	groups = rd_kafka_ListConsumerGroupOffsets_result_groups(rd_kafka_event_ListConsumerGroupOffsets_result(event), &n);
	if (n != 1)
		return RD_KAFKA_RESP_ERR__BAD_MSG;
	if (rd_kafka_group_result_error(groups[0]) != NULL)
		return rd_kafka_error_code(rd_kafka_group_result_error(groups[0]));
	told = rd_kafka_group_result_partitions(groups[0]);
	for (int i = 0; i < list->cnt; i++)
	{
		list->elems[i].offset = RD_KAFKA_OFFSET_INVALID;
		for (int j = 0; told != NULL && j < told->cnt; j++)
		{
			if (told->elems[j].partition != list->elems[i].partition)
				continue;
			if (told->elems[j].err != RD_KAFKA_RESP_ERR_NO_ERROR)
				return told->elems[j].err;
			list->elems[i].offset = told->elems[j].offset;
		}
	}
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t
ask_group_offsets(MrQuestion *question, rd_kafka_t *rk, int timeout_ms)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);
	rd_kafka_ListConsumerGroupOffsets_t *request =
	rd_kafka_ListConsumerGroupOffsets_new(question->group, question->offsets);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
	rd_kafka_event_t *event;
	char		reason[64];

	(void) take_error(rd_kafka_AdminOptions_set_require_stable_offsets(options, 1));
	(void) rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, reason, sizeof(reason));
	rd_kafka_ListConsumerGroupOffsets(rk, &request, 1, options, queue);
	event = rd_kafka_queue_poll(queue, timeout_ms);
	if (event != NULL)
	{
		err = read_group_offsets(question->offsets, event);
		rd_kafka_event_destroy(event);
	}
	rd_kafka_ListConsumerGroupOffsets_destroy(request);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_queue_destroy(queue);
	return err;
}

MrQuestion *
mr_question_group_offsets(const char *group, const char *topic, const int32 *partitions, int n)
{
	MrQuestion *question = question_create(ask_group_offsets, topic);

	if (question == NULL)
		return NULL;
	strlcpy(question->group, group, sizeof(question->group));
	question->offsets = rd_kafka_topic_partition_list_new(n);
	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(question->offsets, topic, partitions[i]);
	return question;
}

static rd_kafka_resp_err_t
send_offsets(MrQuestion *question, rd_kafka_t *rk, int timeout_ms)
{
	rd_kafka_consumer_group_metadata_t *metadata = rd_kafka_consumer_group_metadata_new(question->group);
	rd_kafka_resp_err_t err = take_error(rd_kafka_send_offsets_to_transaction(rk, question->offsets,
																			  metadata, timeout_ms));

	rd_kafka_consumer_group_metadata_destroy(metadata);
	return err;
}

MrQuestion *
mr_question_send_offsets(const char *group, const rd_kafka_topic_partition_list_t *offsets)
{
	MrQuestion *question = question_create(send_offsets, "");

	if (question == NULL)
		return NULL;
	strlcpy(question->group, group, sizeof(question->group));
	question->offsets = rd_kafka_topic_partition_list_copy(offsets);
	return question;
}

/* Can the same question have another answer a moment later? */
static bool
worth_asking_again(const MrQuestion *question)
{
	switch (question->err)
	{
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
			return question->offsets != NULL && now_ms() - question->started < UNKNOWN_PARTITION_MS;
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		case RD_KAFKA_RESP_ERR__WAIT_CACHE:
		case RD_KAFKA_RESP_ERR__NOENT:
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
		case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
		case RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
		case RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
		case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
		case RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT:
		case RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS:
			return true;
		default:
			return false;
	}
}

static bool
is_dropped(MrQuestion *question)
{
	bool		dropped;

	pthread_mutex_lock(&lock);
	dropped = question->dropped;
	pthread_mutex_unlock(&lock);
	return dropped;
}

static void
ask_until_answered(MrQuestion *question)
{
	const struct timespec pause = {0, 50 * 1000 * 1000};
	int			slice = FIRST_SLICE_MS;

	for (;;)
	{
		int64		remaining = question->deadline - now_ms();

		if (slice > remaining)
			slice = remaining < 1 ? 1 : (int) remaining;
		question->err = question->ask(question, mr_handle_rk(question->handle), slice);
		if (!worth_asking_again(question) || is_dropped(question) ||
			now_ms() >= question->deadline)
			return;
		slice = slice * 2 > LAST_SLICE_MS ? LAST_SLICE_MS : slice * 2;
		nanosleep(&pause, NULL);
	}
}

static void *
question_main(void *arg)
{
	MrQuestion *question = arg;
	MrHandle   *handle = question->handle;
	bool		last;

	ask_until_answered(question);

	pthread_mutex_lock(&lock);
	question->done = true;
	if (!question->dropped && write(question->wake_fd, "q", 1) < 0)
	{
		/* a full pipe wakes as well */
	}
	last = --question->refs == 0;
	pthread_mutex_unlock(&lock);

	if (last)
		question_free(question);
	mr_handle_release(handle);

	pthread_mutex_lock(&lock);
	nthreads--;
	pthread_cond_signal(&thread_ended);
	pthread_mutex_unlock(&lock);
	return NULL;
}

bool
mr_question_start(MrQuestion *question, MrHandle *handle, int timeout_ms, int wake_fd)
{
	int			rc;

	question->handle = handle;
	question->wake_fd = wake_fd;
	question->started = now_ms();
	question->deadline = question->started + timeout_ms;

	mr_handle_hold(handle);
	pthread_mutex_lock(&lock);
	question->refs++;
	nthreads++;
	pthread_mutex_unlock(&lock);

	rc = mr_thread_start(question_main, question);
	if (rc == 0)
		return true;

	pthread_mutex_lock(&lock);
	question->refs--;
	nthreads--;
	pthread_mutex_unlock(&lock);
	mr_handle_release(handle);
	errno = rc;
	return false;
}

bool
mr_question_done(MrQuestion *question)
{
	bool		done;

	pthread_mutex_lock(&lock);
	done = question->done;
	pthread_mutex_unlock(&lock);
	return done;
}

void
mr_question_drop(MrQuestion *question)
{
	bool		last;

	pthread_mutex_lock(&lock);
	question->dropped = true;
	last = --question->refs == 0;
	pthread_mutex_unlock(&lock);
	if (last)
		question_free(question);
}

rd_kafka_resp_err_t
mr_question_error(const MrQuestion *question)
{
	return question->err;
}

int
mr_question_partitions(const MrQuestion *question)
{
	return question->partitions;
}

int
mr_question_leaderless(const MrQuestion *question)
{
	return question->leaderless;
}

int64
mr_question_offset(const MrQuestion *question, int i)
{
	return question->offsets->elems[i].offset;
}

bool
mr_question_quiesce(int timeout_ms)
{
	struct timespec until = mr_thread_deadline(timeout_ms);
	bool		quiet;

	pthread_mutex_lock(&lock);
	while (nthreads > 0 &&
		   pthread_cond_timedwait(&thread_ended, &lock, &until) == 0)
		;
	quiet = nthreads == 0;
	pthread_mutex_unlock(&lock);
	return quiet;
}
