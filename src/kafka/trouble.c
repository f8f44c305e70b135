/*
 * kafka/trouble.c
 *		The trouble that a client is in: of all that librdkafka complains of, the one thing
 *		that is the news.
 *
 * One trouble at a time is remembered.  Kinds are ordered: a refused login is followed by
 * "all brokers are down", which is true but says less, so the more specific kind stays until
 * some broker has answered.  Why a single broker could not be reached is no trouble while
 * others are there; it is kept beside, to explain a time-out.
 *
 * This file knows errors and texts, and asks nobody: who tells it what happened is the client
 * (errors of the whole), its questions, and the consumer (errors of partitions).
 */
#include "postgres.h"

#include "kafka/trouble.h"

#define REASON_SIZE		512

/* librdkafka before this version fails SCRAM against Kafka 4 */
#define SCRAM_MENDED	0x02060100

struct MrTrouble
{
	const List *secrets;
	bool		scram;

	MrErrorKind kind;
	bool		unauthorized;	/* it is a right that is missing */
	bool		denied;			/* reading was refused, or failed for its
								 * size: only data ends this trouble */
	bool		down;			/* no broker could be reached, and none has
								 * answered since */
	char		reason[REASON_SIZE];
	char		connection[REASON_SIZE];	/* why a broker could not be
											 * reached */
	int			refusals;		/* times that authentication failed */
};

MrTrouble *
mr_trouble_create(const List *props, const List *secrets)
{
	MrTrouble  *trouble = palloc0(sizeof(MrTrouble));
	ListCell   *lc;

	trouble->secrets = secrets;
	foreach(lc, props)
	{
		const MrProperty *prop = lfirst(lc);

		/* or its second name, sasl.mechanisms */
		if (strncmp(prop->name, "sasl.mechanism", strlen("sasl.mechanism")) == 0)
			trouble->scram = pg_strncasecmp(prop->value, "SCRAM-", strlen("SCRAM-")) == 0;
	}
	return trouble;
}

MrErrorKind
mr_trouble_classify(rd_kafka_resp_err_t err)
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
		case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
			return MR_KAFKA_AUTH;
		case RD_KAFKA_RESP_ERR__FATAL:
			return MR_KAFKA_FATAL;
		default:
			return MR_KAFKA_TRANSIENT;
	}
}

bool
mr_trouble_is_unauthorized(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
		err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
		err == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED ||
		err == RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
}

/* ----------------------------------------------------------------
 * What happened.  Nothing here may throw.
 * ----------------------------------------------------------------
 */

/* is it an answer that is larger than may be received? */
static bool
is_about_size(const char *reason)
{
	return strstr(reason, "receive.message.max.bytes") != NULL;
}

/* without how long it took and how often it was suppressed, which is no news */
static void
remember_connection(MrTrouble *trouble, const char *reason)
{
	char	   *details;

	strlcpy(trouble->connection, reason, sizeof(trouble->connection));
	details = strstr(trouble->connection, " (after ");
	if (details != NULL)
		*details = '\0';
}

void
mr_trouble_hear(MrTrouble *trouble, rd_kafka_resp_err_t err, const char *reason)
{
	/* whatever else is connected: no other connection mends that */
	if (is_about_size(reason))
	{
		remember_connection(trouble, reason);
		mr_trouble_note(trouble, err, trouble->connection);
		trouble->denied = true;
		return;
	}

	/* one broker away is no trouble while others are there: only remember why */
	if (err == RD_KAFKA_RESP_ERR__TRANSPORT || err == RD_KAFKA_RESP_ERR__RESOLVE)
	{
		remember_connection(trouble, reason);
		if (trouble->kind == MR_KAFKA_TRANSIENT)
			strlcpy(trouble->reason, trouble->connection, sizeof(trouble->reason));
		return;
	}
	if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
	{
		trouble->down = true;
		if (trouble->connection[0] != '\0')
			reason = trouble->connection;
	}
	mr_trouble_note(trouble, err, reason);
}

void
mr_trouble_note(MrTrouble *trouble, rd_kafka_resp_err_t err, const char *reason)
{
	MrErrorKind kind = mr_trouble_classify(err);

	if (kind == MR_KAFKA_AUTH)
		trouble->refusals++;
	/* kinds are ordered: the more specific, the higher */
	if (kind == MR_KAFKA_OK || kind < trouble->kind)
		return;
	trouble->kind = kind;
	trouble->unauthorized = mr_trouble_is_unauthorized(err);
	strlcpy(trouble->reason, reason, sizeof(trouble->reason));
}

void
mr_trouble_note_denied(MrTrouble *trouble, const char *reason)
{
	mr_trouble_note(trouble, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, reason);
	trouble->denied = true;
}

void
mr_trouble_end(MrTrouble *trouble, bool data)
{
	trouble->down = false;
	if (trouble->kind == MR_KAFKA_OK || trouble->kind == MR_KAFKA_FATAL ||
		(trouble->denied && !data))
		return;
	trouble->kind = MR_KAFKA_OK;
	trouble->denied = false;
	trouble->reason[0] = trouble->connection[0] = '\0';
}

/* ----------------------------------------------------------------
 * What it is, and what to say of it
 * ----------------------------------------------------------------
 */

MrErrorKind
mr_trouble_kind(const MrTrouble *trouble)
{
	return trouble->kind;
}

bool
mr_trouble_is_down(const MrTrouble *trouble)
{
	return trouble->down;
}

int
mr_trouble_refusals(const MrTrouble *trouble)
{
	return trouble->refusals;
}

/* does this librdkafka fail where another one would not? */
static bool
is_broken_scram(const MrTrouble *trouble)
{
	return trouble->kind == MR_KAFKA_AUTH && !trouble->unauthorized &&
		trouble->scram && rd_kafka_version() < SCRAM_MENDED;
}

/* has the reason to do with encryption? */
static bool
is_about_tls(const char *reason)
{
	return strstr(reason, "SSL") != NULL || strstr(reason, "ssl") != NULL;
}

/* what to look at, given the trouble; NULL when nothing is to be advised */
static const char *
advice(const MrTrouble *trouble)
{
	if (trouble->kind != MR_KAFKA_AUTH && trouble->kind != MR_KAFKA_TRANSIENT)
		return NULL;
	if (trouble->kind == MR_KAFKA_AUTH && trouble->unauthorized)
		return "check the access control lists: reading needs READ and DESCRIBE on the topic";
	if (is_broken_scram(trouble))
		return "librdkafka before 2.6.1, which is in use here, fails SCRAM authentication with Kafka 4 and later: use another \"sasl.mechanism\", or a newer librdkafka";
	if (is_about_size(trouble->reason))
		return NULL;
	if (is_about_tls(trouble->reason))
		return "check \"security.protocol\", \"ssl.ca.pem\", and the certificate and key of the user mapping";
	if (trouble->kind == MR_KAFKA_AUTH)
		return "check \"security.protocol\", \"sasl.mechanism\", and the credentials of the user mapping";
	if (strstr(trouble->reason, "isconnected") != NULL)
		return "check \"bootstrap.servers\", \"security.protocol\", and whether the brokers run";
	return "check \"bootstrap.servers\", and whether the brokers run";
}

char *
mr_trouble_reason(const MrTrouble *trouble)
{
	return mr_conf_scrub(trouble->reason, trouble->secrets);
}

char *
mr_trouble_report(const MrTrouble *trouble)
{
	char	   *reason = mr_trouble_reason(trouble);
	char	   *report;

	if (advice(trouble) == NULL)
		return reason;
	report = psprintf("%s; %s", reason, advice(trouble));
	pfree(reason);
	return report;
}

/*
 * "timed out" says little when it is known why no broker was reached.
 */
char *
mr_trouble_explain(const MrTrouble *trouble, rd_kafka_resp_err_t err)
{
	const char *reason = rd_kafka_err2str(err);

	if (mr_trouble_classify(err) == MR_KAFKA_TRANSIENT)
	{
		if (trouble->kind != MR_KAFKA_OK && trouble->kind != MR_KAFKA_NO_TOPIC)
			reason = trouble->reason;
		else if (trouble->connection[0] != '\0')
			reason = trouble->connection;
	}
	else if (trouble->kind == MR_KAFKA_FATAL ||
			 (trouble->kind == MR_KAFKA_AUTH && err == RD_KAFKA_RESP_ERR__AUTHENTICATION))
		reason = trouble->reason;
	return mr_conf_scrub(reason, trouble->secrets);
}

int
mr_trouble_hint(const MrTrouble *trouble)
{
	if (is_broken_scram(trouble))
		return errhint("librdkafka %s, which is in use here, fails SCRAM authentication with Kafka 4 and later; version 2.6.1 mended it. Other mechanisms work.",
					   rd_kafka_version_str());
	if (trouble->kind == MR_KAFKA_AUTH && trouble->unauthorized)
		return errhint("Check the access control lists of the topic.");
	if (trouble->kind == MR_KAFKA_AUTH)
		return errhint("Check \"security.protocol\", and the \"sasl.\" and \"ssl.\" properties of the server and the user mapping.");
	if (trouble->kind == MR_KAFKA_TRANSIENT && trouble->connection[0] != '\0')
		return errhint("Check \"bootstrap.servers\", and whether the brokers run.");
	return 0;
}
