/*
 * kafka/client.c
 *		What consumer, producer and admin share: a librdkafka handle with its events, logs,
 *		troubles and waits.
 *
 * librdkafka runs threads of its own.  None of them ever executes a line of ours: they only
 * put events into queues, and what librdkafka calls "callbacks" (errors, logs,
 * deliveries) runs in the backend's own thread, when mr_client_serve polls the handle's main
 * queue.  Even there a callback may not throw, because librdkafka's stack frames lie below
 * it: it copies into fixed buffers, and mr_client_serve does the rest.
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
 * Troubles: one at a time is remembered.  A refused login is followed by "all brokers are
 * down", which is true but not the news, so the more specific one stays.
 *
 * Secrets: a property's value that is secret is cut out of every text that leaves.
 */
#include "postgres.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "common/hashfn.h"
#include "kafka/client.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "wait_event.h"


#define REASON_SIZE		512

/*
 * Log lines taken from librdkafka at once, and how often mr_client_serve does that.  What
 * comes while nobody serves, during a transaction call, may be lost, and is counted.
 */
#define LOG_LINES		32
#define LOG_LINE_SIZE	512
#define SERVE_ROUNDS	100

/* The same complaint is written to the server log once in this time. */
#define LOG_REPEAT_MS	(60 * 1000)
#define LOG_KINDS		32

/* A backend that exits waits this long for questions still asked. */
#define EXIT_WAIT_MS	5000

/* librdkafka before this version fails SCRAM against Kafka 4 */
#define SCRAM_MENDED	0x02060100

typedef struct LogLine
{
	int			level;			/* of syslog */
	char text[	LOG_LINE_SIZE];
} LogLine;

struct MrClient
{
	MrHandle   *handle;
	rd_kafka_t *rk;
	rd_kafka_queue_t *main_queue;
	int			wake[2];		/* pipe */
	List	   *secrets;		/* of char * */
	char	   *username;		/* of SASL, as configured; never NULL */
	char	   *password;
	bool		scram;
	bool		debug;			/* the user asked for librdkafka's debug
								 * output */
	bool		latch_kept;		/* mr_client_pause has reset the latch */

	MrErrorKind trouble;
	bool		unauthorized;	/* it is a right that is missing, not
								 * credentials */
	bool		denied;			/* reading was refused, or failed for its
								 * size: only data ends this trouble */
	bool		down;			/* no broker could be reached, and none has
								 * answered since */
	char		reason[REASON_SIZE];
	char		connection[REASON_SIZE];	/* why a broker could not be
											 * reached */
	int			refusals;		/* times that authentication failed */

	LogLine		lines[LOG_LINES];
	int			nlines;
	int64		lines_lost;

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

/* What was last written to the server log, for all clients of this process. */
static struct
{
	uint32		hash;
	TimestampTz at;
	int64		suppressed;
}			log_kinds[LOG_KINDS];

/* ----------------------------------------------------------------
 * Callbacks, run by rd_kafka_poll.  They must not throw.
 * ----------------------------------------------------------------
 */

/* without how long it took and how often it was suppressed, which is no news */
static void
remember_connection(MrClient *client, const char *reason)
{
	char	   *details;

	strlcpy(client->connection, reason, sizeof(client->connection));
	details = strstr(client->connection, " (after ");
	if (details != NULL)
		*details = '\0';
}

/* is it an answer that is larger than may be received? */
static bool
is_about_size(const char *reason)
{
	return strstr(reason, "receive.message.max.bytes") != NULL;
}

static void
on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	MrClient   *client = opaque;

	if (err == RD_KAFKA_RESP_ERR__FATAL)
	{
		(void) rd_kafka_fatal_error(rk, client->reason, sizeof(client->reason));
		client->trouble = MR_KAFKA_FATAL;
		return;
	}

	/* whatever else is connected: no other connection mends that */
	if (is_about_size(reason))
	{
		remember_connection(client, reason);
		mr_client_note(client, err, client->connection);
		client->denied = true;
		return;
	}

	/* one broker away is no trouble while others are there: only remember why */
	if (err == RD_KAFKA_RESP_ERR__TRANSPORT || err == RD_KAFKA_RESP_ERR__RESOLVE)
	{
		remember_connection(client, reason);
		if (client->trouble == MR_KAFKA_TRANSIENT)
			strlcpy(client->reason, client->connection, sizeof(client->reason));
		return;
	}
	if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		client->down = true;
	if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && client->connection[0] != '\0')
		reason = client->connection;
	mr_client_note(client, err, reason);
}

static void
on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	MrClient   *client = rk == NULL ? NULL : rd_kafka_opaque(rk);
	LogLine    *line;

	if (client == NULL)
		return;
	if (client->nlines == LOG_LINES)
	{
		client->lines_lost++;
		return;
	}
	line = &client->lines[client->nlines++];
	/* "your property is for producers" is no news: a server serves both */
	line->level = strcmp(facility, "CONFWARN") == 0 ? 7 : level;
	snprintf(line->text, sizeof(line->text), "%s: %s", facility, text);
	/* no room for the next one: let rd_kafka_poll return, it keeps the rest */
	if (client->nlines == LOG_LINES)
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
	ListCell   *lc;

	foreach(lc, props)
	{
		MrProperty *prop = lfirst(lc);

		if (mr_conf_is_secret(prop->name) && prop->value[0] != '\0')
			client->secrets = lappend(client->secrets, pstrdup(prop->value));
		if (strncmp(prop->name, "sasl.mechanism", 14) == 0)
			client->scram = pg_strncasecmp(prop->value, "SCRAM-", 6) == 0;
		if (strcmp(prop->name, "sasl.username") == 0)
			client->username = pstrdup(prop->value);
		if (strcmp(prop->name, "sasl.password") == 0)
			client->password = pstrdup(prop->value);
		if (strcmp(prop->name, "debug") == 0)
			client->debug = prop->value[0] != '\0';
	}
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

MrClient *
mr_client_create(rd_kafka_type_t type, List *props, const MrSetting *defaults,
				 const MrSetting *owned, MrClientRelease release, void *arg,
				 MrDelivery delivery)
{
	MrClient   *client = palloc0(sizeof(MrClient));
	char		err[REASON_SIZE] = "";
	rd_kafka_conf_t *conf;

	if (!exit_registered)
	{
		on_proc_exit(release_at_exit, (Datum) 0);
		exit_registered = true;
	}
	client->release = release;
	client->delivery = delivery;
	client->arg = arg;
	client->username = client->password = pstrdup("");
	remember_properties(client, props);
	conf = build_conf(client, type, props, defaults, owned);
	client->callback.func = client_release;
	client->callback.arg = client;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &client->callback);

	client->rk = new_handle(type, conf, err, sizeof(err));
	if (client->rk == NULL)
	{
		rd_kafka_conf_destroy(conf);
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not create a Kafka client: %s", mr_client_scrub(client, err))));
	}
	client->handle = mr_handle_create(client->rk);
	if (client->handle == NULL)
	{
		rd_kafka_destroy(client->rk);
		client->rk = NULL;
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	}
	client->wake[0] = client->wake[1] = -1;
	dlist_push_tail(&clients, &client->node);

	open_pipe(client);
	client->main_queue = rd_kafka_queue_get_main(client->rk);
	mr_client_watch(client, client->main_queue);
	return client;
}

rd_kafka_t *
mr_client_handle(MrClient *client)
{
	return client->rk;
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

/* A kind of complaint: the text without what differs from one time to the next. */
static uint32
log_kind(const char *text)
{
	uint32		hash = 0;

	for (; *text !='\0'; text ++)
	{
		if (*text <'0' || *text >'9')
			hash = hash_combine(hash, (uint32) (unsigned char) *text);
	}
	return hash;
}

/*
 * May a line of this kind be written now?  *suppressed is the number of those that were
 * not since the last one.
 */
static bool
log_permitted(const char *text, int64 *suppressed)
{
	uint32		hash = log_kind(text);
	int			i = hash % LOG_KINDS;
	TimestampTz now = GetCurrentTimestamp();

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
write_log_line(MrClient *client, const LogLine *line)
{
	char	   *text = mr_client_scrub(client, line->text);
	int64		suppressed = 0;
	int			elevel = LOG_SERVER_ONLY;

	/* 4 is syslog's warning; what is below it is only for who asked for it */
	if (!client->debug &&
		(line->level > 4 || !log_permitted(text, &suppressed)))
		elevel = DEBUG2;
	if (suppressed > 0)
		ereport(elevel,
				(errmsg("Kafka client: %s", text),
				 errdetail("%lld similar messages were not logged.", (long long) suppressed)));
	else
		ereport(elevel, (errmsg("Kafka client: %s", text)));
	pfree(text);
}

void
mr_client_serve(MrClient *client)
{
	bool		full;

	for (int round = 0; round < SERVE_ROUNDS; round++)
	{
		rd_kafka_poll(client->rk, 0);

		full = client->nlines == LOG_LINES;
		for (int i = 0; i < client->nlines; i++)
			write_log_line(client, &client->lines[i]);
		client->nlines = 0;
		if (!full)
			break;
	}
	if (client->lines_lost > 0)
		ereport(client->debug ? LOG_SERVER_ONLY : DEBUG1,
				(errmsg("Kafka client: %lld log lines were lost", (long long) client->lines_lost)));
	client->lines_lost = 0;
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
 * Troubles
 * ----------------------------------------------------------------
 */

MrErrorKind
mr_client_classify(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR_NO_ERROR:
		case RD_KAFKA_RESP_ERR__PARTITION_EOF:
			return MR_KAFKA_OK;
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
			return MR_KAFKA_NO_TOPIC;
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
		case RD_KAFKA_RESP_ERR__SSL:
		case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
			return MR_KAFKA_AUTH;
		case RD_KAFKA_RESP_ERR__FATAL:
			return MR_KAFKA_FATAL;
		default:
			return MR_KAFKA_TRANSIENT;
	}
}

MrErrorKind
mr_client_trouble(MrClient *client)
{
	return client->trouble;
}

/* has the reason to do with encryption? */
static bool
is_about_tls(const MrClient *client)
{
	return strstr(client->reason, "SSL") != NULL || strstr(client->reason, "ssl") != NULL;
}

/* what to look at, given the trouble; NULL when nothing is to be advised */
static const char *
advice(const MrClient *client)
{
	if (client->trouble != MR_KAFKA_AUTH && client->trouble != MR_KAFKA_TRANSIENT)
		return NULL;
	if (client->trouble == MR_KAFKA_AUTH && client->unauthorized)
		return "check the access control lists: reading needs READ and DESCRIBE on the topic";
	if (client->trouble == MR_KAFKA_AUTH && client->scram && rd_kafka_version() < SCRAM_MENDED)
		return "librdkafka before 2.6.1, which is in use here, fails SCRAM authentication with Kafka 4 and later: use another \"sasl.mechanism\", or a newer librdkafka";
	if (is_about_size(client->reason))
		return NULL;
	if (is_about_tls(client))
		return "check \"security.protocol\", \"ssl.ca.pem\", and the certificate and key of the user mapping";
	if (client->trouble == MR_KAFKA_AUTH)
		return "check \"security.protocol\", \"sasl.mechanism\", and the credentials of the user mapping";
	if (strstr(client->reason, "isconnected") != NULL)
		return "check \"bootstrap.servers\", \"security.protocol\", and whether the brokers run";
	return "check \"bootstrap.servers\", and whether the brokers run";
}

char *
mr_client_reason(MrClient *client)
{
	char	   *reason = mr_client_scrub(client, client->reason);

	return advice(client) == NULL ? reason : psprintf("%s; %s", reason, advice(client));
}

/* Does not throw: callbacks use it. */
void
mr_client_note(MrClient *client, rd_kafka_resp_err_t err, const char *reason)
{
	MrErrorKind kind = mr_client_classify(err);

	if (kind == MR_KAFKA_AUTH)
		client->refusals++;
	/* kinds are ordered: the more specific, the higher */
	if (kind == MR_KAFKA_OK || kind < client->trouble)
		return;
	client->trouble = kind;
	client->unauthorized = err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
		err == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED ||
		err == RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
	strlcpy(client->reason, reason, sizeof(client->reason));
}

void
mr_client_note_denied(MrClient *client, const char *reason)
{
	mr_client_note(client, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, reason);
	client->denied = true;
}

void
mr_client_well(MrClient *client, bool data)
{
	client->down = false;
	if (client->trouble == MR_KAFKA_OK || client->trouble == MR_KAFKA_FATAL ||
		(client->denied && !data))
		return;
	client->trouble = MR_KAFKA_OK;
	client->denied = false;
	client->reason[0] = client->connection[0] = '\0';
}

bool
mr_client_is_down(MrClient *client)
{
	return client->down;
}

/*
 * "timed out" says little when it is known why no broker was reached.
 */
const char *
mr_client_explain(MrClient *client, rd_kafka_resp_err_t err)
{
	const char *text = rd_kafka_err2str(err);

	if (mr_client_classify(err) == MR_KAFKA_TRANSIENT)
	{
		if (client->trouble != MR_KAFKA_OK && client->trouble != MR_KAFKA_NO_TOPIC)
			text = client->reason;

		else if (client->connection[0] != '\0')
			text = client->connection;
	}
	else if (client->trouble == MR_KAFKA_FATAL ||
			 (client->trouble == MR_KAFKA_AUTH && err == RD_KAFKA_RESP_ERR__AUTHENTICATION))
		text = client->reason;

	return mr_client_scrub(client, text);
}

static char *
replace_all(const char *text, const char *what)
{
	StringInfoData out;
	const char *hit;

	initStringInfo(&out);
	while ((hit = strstr(text, what)) != NULL)
	{
		appendBinaryStringInfo(&out, text, hit - text);
		appendStringInfoString(&out, "***");
		text = hit + strlen(what);
	}
	appendStringInfoString(&out, text);
	return out.data;
}

char *
mr_client_scrub(MrClient *client, const char *text)
{
	char	   *result = pstrdup(text);
	ListCell   *lc;

	foreach(lc, client->secrets)
	{
		if (strstr(result, lfirst(lc)) != NULL)
			result = replace_all(result, lfirst(lc));
	}
	return result;
}

int
mr_client_hint(MrClient *client)
{
	if (client->trouble == MR_KAFKA_AUTH && !client->unauthorized &&
		client->scram && rd_kafka_version() < SCRAM_MENDED)
		return errhint("librdkafka %s, which is in use here, fails SCRAM authentication with Kafka 4 and later; version 2.6.1 mended it. Other mechanisms work.",
					   rd_kafka_version_str());
	if (client->trouble == MR_KAFKA_AUTH && client->unauthorized)
		return errhint("Check the access control lists of the topic.");
	if (client->trouble == MR_KAFKA_AUTH)
		return errhint("Check \"security.protocol\", and the \"sasl.\" and \"ssl.\" properties of the server and the user mapping.");
	if (client->trouble == MR_KAFKA_TRANSIENT && client->connection[0] != '\0')
		return errhint("Check \"bootstrap.servers\", and whether the brokers run.");
	return 0;
}

/* ----------------------------------------------------------------
 * Questions
 * ----------------------------------------------------------------
 */

void
mr_client_ask_async(MrClient *client, MrQuestion *question, int timeout_ms)
{
	if (client->question != NULL)
		mr_question_drop(client->question);
	client->question = question;
	client->asking = false;
	if (question == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	if (!mr_question_start(question, client->handle, timeout_ms, client->wake[1]))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start a thread: %m")));
	client->asking = true;
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
	int			refusals = client->refusals;

	mr_client_ask_async(client, question, timeout_ms);
	while (!mr_client_answered(client, &err))
	{
		mr_client_pause(client, 100);
		mr_client_serve(client);
		if (client->refusals != refusals || client->trouble == MR_KAFKA_FATAL)
		{
			/* it will not be answered */
			mr_question_drop(client->question);
			client->question = NULL;
			client->asking = false;
			err = RD_KAFKA_RESP_ERR__AUTHENTICATION;
			break;
		}
	}
	mr_client_keep_latch(client);

	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (client->trouble != MR_KAFKA_NO_TOPIC)
			mr_client_well(client, false);
	}
	else
		mr_client_note(client, err, mr_client_explain(client, err));
	return err;
}
