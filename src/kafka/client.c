/*
 * kafka/client.c
 *		What consumer, producer and admin share: a librdkafka handle with its events, waits
 *		and questions.
 *
 * librdkafka runs threads of its own.  None of them ever executes a line of ours: they only
 * put events into queues, and what librdkafka calls "callbacks" (errors, logs,
 * deliveries) runs in the backend's own thread, when mr_client_serve polls the handle's main
 * queue.  Even there a callback may not throw, because librdkafka's stack frames lie below
 * it: what they are told is copied into fixed buffers, and mr_client_serve does the rest.
 *
 * Waiting: every watched queue writes a byte into one pipe when it becomes non-empty, and
 * the backend sleeps on its latch and the pipe together.  librdkafka writes the next byte
 * only after the queue has been polled again, so the pipe is emptied before the poll, never
 * after it.
 *
 * Memory: a client lives in a memory context of its own, whose reset callback destroys
 * everything in the order in which librdkafka wants it.  A list of living clients lets a
 * process that exits do the same: running threads do not go well with exit handlers.
 *
 * What librdkafka complains of is kept in trouble.c, what it writes in client_log.c.  A
 * property's value that is secret is cut out of every text that leaves.
 */
#include "postgres.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "kafka/client.h"
#include "kafka/client_log.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "wait_event.h"

/* librdkafka's own texts of errors */
#define REASON_SIZE		512

/* How often mr_client_serve goes on when there is more to log than is kept at once. */
#define SERVE_ROUNDS	100

/* Longest wait for an answer between two looks at what else has come. */
#define ASK_SLICE_MS	100

/* A backend that exits waits this long for questions still asked. */
#define EXIT_WAIT_MS	5000

struct MrClient
{
	MrHandle   *handle;
	rd_kafka_t *rk;
	rd_kafka_queue_t *main_queue;
	int			wake[2];		/* pipe */
	List	   *secrets;		/* of char * */
	char	   *username;		/* of SASL, as configured; never NULL */
	char	   *password;
	bool		latch_kept;		/* mr_client_pause has reset the latch */

	MrTrouble  *trouble;
	MrClientLog *log;

	MrQuestion *question;
	bool		asking;

	MrClientRelease release;
	MrDelivery	delivery;
	void	   *arg;
	MemoryContextCallback callback;
	dlist_node	node;
};

static dlist_head clients = DLIST_STATIC_INIT(clients);
static bool exit_registered = false;

/* ----------------------------------------------------------------
 * Callbacks, run by rd_kafka_poll.  They must not throw.
 * ----------------------------------------------------------------
 */

static void
on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	MrClient   *client = opaque;
	char		fatal[REASON_SIZE] = "";

	if (err == RD_KAFKA_RESP_ERR__FATAL)
	{
		(void) rd_kafka_fatal_error(rk, fatal, sizeof(fatal));
		reason = fatal;
	}
	mr_trouble_hear(client->trouble, err, reason);
}

static void
on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	MrClient   *client = rk == NULL ? NULL : rd_kafka_opaque(rk);

	/* no room for the next one: let rd_kafka_poll return, it keeps the rest */
	if (client != NULL && mr_client_log_take(client->log, level, facility, text))
		rd_kafka_yield((rd_kafka_t *) rk);
}

static void
on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *rkmessage, void *opaque)
{
	MrClient   *client = opaque;

	if (client->delivery != NULL)
		client->delivery(client->arg, rkmessage);
}

/* ----------------------------------------------------------------
 * Life
 * ----------------------------------------------------------------
 */

/* Idempotent, because the process may exit before the context is reset. */
static void
client_release(void *arg)
{
	MrClient   *client = arg;

	if (client->rk == NULL)
		return;
	dlist_delete(&client->node);
	if (client->question != NULL)
		mr_question_drop(client->question);
	if (client->release != NULL)
		client->release(client->arg);
	if (client->main_queue != NULL)
	{
		rd_kafka_queue_io_event_enable(client->main_queue, -1, NULL, 0);
		rd_kafka_queue_destroy(client->main_queue);
	}
	mr_handle_release(client->handle);
	client->rk = NULL;
	close(client->wake[0]);
	close(client->wake[1]);
}

static void
release_at_exit(int code, Datum arg)
{
	while (!dlist_is_empty(&clients))
		client_release(dlist_head_element(MrClient, node, &clients));

	/*
	 * Exit handlers of libraries (OpenSSL's) may wait for ever for threads
	 * that still use them.  Shared memory has been left already.
	 */
	if (!mr_question_quiesce(EXIT_WAIT_MS) || mr_handle_any_abandoned())
		_exit(code);
}

static void
open_pipe(MrClient *client)
{
	if (pipe(client->wake) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create pipe: %m")));
	for (int i = 0; i < 2; i++)
	{
		(void) fcntl(client->wake[i], F_SETFD, FD_CLOEXEC);
		(void) fcntl(client->wake[i], F_SETFL, O_NONBLOCK);
	}
}

/* False, with err filled, when librdkafka refuses a value. */
static bool
set_all(rd_kafka_conf_t *conf, const MrSetting *settings, char *err, size_t size)
{
	for (; settings != NULL && settings->name != NULL; settings++)
	{
		if (settings->value != NULL &&
			rd_kafka_conf_set(conf, settings->name, settings->value, err, size) != RD_KAFKA_CONF_OK)
			return false;
	}
	return true;
}

static bool
set_user_properties(rd_kafka_conf_t *conf, List *props, char *err, size_t size)
{
	ListCell   *lc;

	foreach(lc, props)
	{
		MrProperty *prop = lfirst(lc);

		if (rd_kafka_conf_set(conf, prop->name, prop->value, err, size) != RD_KAFKA_CONF_OK)
			return false;
	}
	return true;
}

/* What must be known of the properties later, without asking librdkafka for secrets. */
static void
remember_properties(MrClient *client, List *props)
{
	bool		debug = false;
	ListCell   *lc;

	client->username = client->password = pstrdup("");
	foreach(lc, props)
	{
		MrProperty *prop = lfirst(lc);

		if (strcmp(prop->name, "sasl.username") == 0)
			client->username = pstrdup(prop->value);
		if (strcmp(prop->name, "sasl.password") == 0)
			client->password = pstrdup(prop->value);
		if (strcmp(prop->name, "debug") == 0)
			debug = prop->value[0] != '\0';
	}
	client->secrets = mr_conf_secrets(props);
	client->trouble = mr_trouble_create(props, client->secrets);
	client->log = mr_client_log_create(debug, client->secrets);
}

static rd_kafka_conf_t *
build_conf(MrClient *client, rd_kafka_type_t type, List *props,
		   const MrSetting *defaults, const MrSetting *owned)
{
	static const MrSetting common[] = {
		{"client.id", "millrace"},
		{"log.thread.name", "false"},
		/* a broker that is back is to be noticed soon */
		{"reconnect.backoff.max.ms", "2000"},
		{NULL, NULL}
	};
	static const MrSetting common_owned[] = {
		{"log.queue", "true"},
		{"allow.auto.create.topics", "false"},
		{NULL, NULL}
	};
	char		err[REASON_SIZE] = "";
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	if (!set_all(conf, common, err, sizeof(err)) ||
		!set_all(conf, defaults, err, sizeof(err)) ||
		!set_user_properties(conf, props, err, sizeof(err)) ||
		!set_all(conf, common_owned, err, sizeof(err)) ||
		!set_all(conf, owned, err, sizeof(err)))
	{
		rd_kafka_conf_destroy(conf);
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid librdkafka property: %s", mr_client_scrub(client, err))));
	}
	rd_kafka_conf_set_opaque(conf, client);
	rd_kafka_conf_set_error_cb(conf, on_error);
	rd_kafka_conf_set_log_cb(conf, on_log);
	if (type == RD_KAFKA_PRODUCER)
		rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	return conf;
}

/*
 * librdkafka's threads inherit the signal mask of the thread that creates them: a signal
 * for the backend must never be handled in one of those.
 */
static rd_kafka_t *
new_handle(rd_kafka_type_t type, rd_kafka_conf_t *conf, char *err, size_t size)
{
	sigset_t	all,
				old;
	rd_kafka_t *rk;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rk = rd_kafka_new(type, conf, err, size);
	if (rk != NULL)
		rd_kafka_set_log_queue(rk, NULL);	/* the main queue */
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rk;
}

/* Takes over the configuration.  From here on client_release has something to destroy. */
static void
open_handle(MrClient *client, rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
	char		err[REASON_SIZE] = "";
	rd_kafka_t *rk = new_handle(type, conf, err, sizeof(err));

	if (rk == NULL)
	{
		rd_kafka_conf_destroy(conf);
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not create a Kafka client: %s", mr_client_scrub(client, err))));
	}
	client->handle = mr_handle_create(rk);
	if (client->handle == NULL)
	{
		rd_kafka_destroy(rk);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	}
	client->rk = rk;
	client->wake[0] = client->wake[1] = -1;
	dlist_push_tail(&clients, &client->node);
}

/* at the reset of the current memory context, or at the end of the process */
static void
arrange_release(MrClient *client)
{
	if (!exit_registered)
	{
		on_proc_exit(release_at_exit, (Datum) 0);
		exit_registered = true;
	}
	client->callback.func = client_release;
	client->callback.arg = client;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &client->callback);
}

MrClient *
mr_client_create(rd_kafka_type_t type, List *props, const MrSetting *defaults,
				 const MrSetting *owned, MrClientRelease release, void *arg,
				 MrDelivery delivery)
{
	MrClient   *client = palloc0(sizeof(MrClient));

	client->delivery = delivery;
	client->arg = arg;
	remember_properties(client, props);
	if (!mr_handle_threads_left())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start a thread: %m")));
	arrange_release(client);
	open_handle(client, type, build_conf(client, type, props, defaults, owned));
	open_pipe(client);
	client->main_queue = rd_kafka_queue_get_main(client->rk);
	mr_client_watch(client, client->main_queue);
	/* not before: to whoever is called, the client exists when this returns */
	client->release = release;
	return client;
}

rd_kafka_t *
mr_client_handle(MrClient *client)
{
	return client->rk;
}

MrTrouble *
mr_client_trouble(MrClient *client)
{
	return client->trouble;
}

char *
mr_client_scrub(MrClient *client, const char *text)
{
	return mr_conf_scrub(text, client->secrets);
}

char *
mr_client_property(MrClient *client, const char *name)
{
	char		value[512];
	size_t		size = sizeof(value);

	if (rd_kafka_conf_get(rd_kafka_conf(client->rk), name, value, &size) != RD_KAFKA_CONF_OK)
		return NULL;
	return pstrdup(value);
}

/* ----------------------------------------------------------------
 * Events and waits
 * ----------------------------------------------------------------
 */

void
mr_client_watch(MrClient *client, rd_kafka_queue_t *queue)
{
	rd_kafka_queue_io_event_enable(queue, client->wake[1], "e", 1);
}

/*
 * librdkafka has no call for this.  But new SASL credentials make all broker threads look
 * around, and the same ones again, or some where none are used, change nothing.
 */
void
mr_client_nudge(MrClient *client)
{
	rd_kafka_error_t *error = rd_kafka_sasl_set_credentials(client->rk, client->username,
															client->password);

	if (error != NULL)
		rd_kafka_error_destroy(error);
}

void
mr_client_serve(MrClient *client)
{
	for (int round = 0; round < SERVE_ROUNDS; round++)
	{
		rd_kafka_poll(client->rk, 0);
		if (!mr_client_log_write(client->log))
			break;
	}
	mr_client_log_write_lost(client->log);
}

static void
drain_pipe(int fd)
{
	char		bytes[256];
	ssize_t		n;

	do
	{
		n = read(fd, bytes, sizeof(bytes));
	} while (n == sizeof(bytes) || (n < 0 && errno == EINTR));
}

bool
mr_client_wait(MrClient *client, int timeout_ms)
{
	int			events = WaitLatchOrSocket(MyLatch,
										   WL_LATCH_SET | WL_SOCKET_READABLE |
										   WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
										   client->wake[0], Max(timeout_ms, 0),
										   mr_wait_event(MR_WAIT_KAFKA));

	if (events & WL_SOCKET_READABLE)
		drain_pipe(client->wake[0]);
	if (events & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return (events & WL_LATCH_SET) != 0;
}

void
mr_client_rest(MrClient *client, int timeout_ms)
{
	struct pollfd pipe = {.fd = client->wake[0],.events = POLLIN};

	if (poll(&pipe, 1, timeout_ms) > 0)
		drain_pipe(client->wake[0]);
}

void
mr_client_pause(MrClient *client, int timeout_ms)
{
	if (mr_client_wait(client, timeout_ms))
		client->latch_kept = true;
}

void
mr_client_keep_latch(MrClient *client)
{
	if (client->latch_kept)
		SetLatch(MyLatch);
	client->latch_kept = false;
}

/* ----------------------------------------------------------------
 * Questions
 * ----------------------------------------------------------------
 */

static void
drop_question(MrClient *client)
{
	if (client->question != NULL)
		mr_question_drop(client->question);
	client->question = NULL;
	client->asking = false;
}

/* false: errno says why */
static bool
start_question(MrClient *client, MrQuestion *question, int timeout_ms)
{
	drop_question(client);
	client->question = question;
	client->asking = question != NULL &&
		mr_question_start(question, client->handle, timeout_ms, client->wake[1]);
	return client->asking;
}

void
mr_client_ask_async(MrClient *client, MrQuestion *question, int timeout_ms)
{
	if (question != NULL && start_question(client, question, timeout_ms))
		return;
	if (question == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("could not start a thread: %m")));
}

bool
mr_client_asking(MrClient *client)
{
	return client->asking;
}

bool
mr_client_answered(MrClient *client, rd_kafka_resp_err_t *err)
{
	if (!client->asking || !mr_question_done(client->question))
		return false;
	client->asking = false;
	*err = mr_question_error(client->question);
	return true;
}

rd_kafka_resp_err_t
mr_client_try_to_ask(MrClient *client, MrQuestion *question, int timeout_ms)
{
	rd_kafka_resp_err_t err;

	if (!start_question(client, question, timeout_ms))
		return RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE;
	while (!mr_client_answered(client, &err))
		mr_client_rest(client, ASK_SLICE_MS);
	return err;
}

int
mr_client_partitions(MrClient *client)
{
	return mr_question_partitions(client->question);
}

int
mr_client_leaderless(MrClient *client)
{
	return mr_question_leaderless(client->question);
}

int64
mr_client_offset(MrClient *client, int i)
{
	return mr_question_offset(client->question, i);
}

rd_kafka_resp_err_t
mr_client_ask(MrClient *client, MrQuestion *question, int timeout_ms)
{
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
	int			refusals = mr_trouble_refusals(client->trouble);

	mr_client_ask_async(client, question, timeout_ms);
	while (!mr_client_answered(client, &err))
	{
		mr_client_pause(client, ASK_SLICE_MS);
		mr_client_serve(client);
		if (mr_trouble_refusals(client->trouble) != refusals ||
			mr_trouble_kind(client->trouble) == MR_KAFKA_FATAL)
		{
			/* it will not be answered */
			drop_question(client);
			err = RD_KAFKA_RESP_ERR__AUTHENTICATION;
			break;
		}
	}
	mr_client_keep_latch(client);

	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (mr_trouble_kind(client->trouble) != MR_KAFKA_NO_TOPIC)
			mr_trouble_end(client->trouble, false);
	}
	else
		mr_trouble_note(client->trouble, err, mr_trouble_explain(client->trouble, err));
	return err;
}
