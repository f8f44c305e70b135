/*
 * kafka/conf.c
 *		librdkafka properties: checking them, and who may set which.
 *
 * librdkafka itself is the judge of names and values: nothing here repeats its table of
 * properties, so a newer library brings its new ones along.  What this file adds is what
 * librdkafka cannot know: which properties are millrace's own, which are secret, and which
 * reach into the server's machine.  Those lists lean to the safe side: a property is
 * recognized by the form of its name where there is one (".password", ".location"), so that
 * a future sibling is not forgotten.
 *
 * plugin.library.paths is never given to librdkafka for a check, because it loads the
 * library at once.
 */
#include "postgres.h"

#include "kafka/conf.h"
#include "lib/stringinfo.h"

#include <librdkafka/rdkafka.h>

typedef struct OwnedProperty
{
	const char *name;
	const char *reason;
} OwnedProperty;

#define BECAUSE_OFFSETS		"offsets are kept in PostgreSQL, in the transaction that used the messages"
#define BECAUSE_ASSIGNED	"partitions are assigned explicitly, no consumer group is joined"
#define BECAUSE_EXACT		"rows are produced in transactions, acknowledged by all in-sync replicas"
#define BECAUSE_POINTER		"it is a pointer inside the program, not a value"
#define BECAUSE_EVENTS		"millrace handles librdkafka's events itself"

static const OwnedProperty owned_properties[] = {
	{"group.id", BECAUSE_OFFSETS},
	{"enable.auto.commit", BECAUSE_OFFSETS},
	{"auto.commit.enable", BECAUSE_OFFSETS},
	{"auto.commit.interval.ms", BECAUSE_OFFSETS},
	{"enable.auto.offset.store", BECAUSE_OFFSETS},
	{"offset.store.method", BECAUSE_OFFSETS},
	{"offset.store.path", BECAUSE_OFFSETS},
	{"offset.store.sync.interval.ms", BECAUSE_OFFSETS},
	{"auto.offset.reset", "where reading begins is said when a view is created, and the stream's option \"on_gap\" says what happens when an offset is gone"},
	{"group.instance.id", BECAUSE_ASSIGNED},
	{"group.protocol", BECAUSE_ASSIGNED},
	{"group.protocol.type", BECAUSE_ASSIGNED},
	{"group.remote.assignor", BECAUSE_ASSIGNED},
	{"partition.assignment.strategy", BECAUSE_ASSIGNED},
	{"session.timeout.ms", BECAUSE_ASSIGNED},
	{"heartbeat.interval.ms", BECAUSE_ASSIGNED},
	{"max.poll.interval.ms", BECAUSE_ASSIGNED},
	{"enable.partition.eof", "the end of a topic is recognized by it"},
	{"transactional.id", BECAUSE_EXACT},
	{"enable.idempotence", BECAUSE_EXACT},
	{"enable.gapless.guarantee", BECAUSE_EXACT},
	{"acks", BECAUSE_EXACT},
	{"request.required.acks", BECAUSE_EXACT},
	{"delivery.report.only.error", BECAUSE_EVENTS},
	{"allow.auto.create.topics", "topics are created by millrace.create_topic()"},
	{"log.queue", BECAUSE_EVENTS},
	{"enabled_events", BECAUSE_EVENTS},
	{"statistics.interval.ms", BECAUSE_EVENTS},
	{"consume.callback.max.messages", BECAUSE_EVENTS},
	{"internal.termination.signal", "it would send signals to a server process"},
	{"builtin.features", "it cannot be changed"},
	{"opaque", BECAUSE_POINTER},
	{"interceptors", BECAUSE_POINTER},
	{"default_topic_conf", BECAUSE_POINTER},
	{"msg_order_cmp", BECAUSE_POINTER},
	{"ssl_key", BECAUSE_POINTER},
	{"ssl_ca", BECAUSE_POINTER},
	{"ssl_certificate", BECAUSE_POINTER},
	{"ssl_engine_callback_data", BECAUSE_POINTER},
	{NULL, NULL}
};

static bool
in_list(const char *name, const char *const *list)
{
	for (; *list != NULL; list++)
	{
		if (strcmp(name, *list) == 0)
			return true;
	}
	return false;
}

static bool
ends_with(const char *name, const char *const *suffixes)
{
	size_t		len = strlen(name);

	for (; *suffixes != NULL; suffixes++)
	{
		size_t		slen = strlen(*suffixes);

		if (len >= slen && strcmp(name + len - slen, *suffixes) == 0)
			return true;
	}
	return false;
}

const char *
mr_conf_owned_reason(const char *name)
{
	static const char *const callbacks[] = {"_cb", NULL};

	for (const OwnedProperty *p = owned_properties; p->name != NULL; p++)
	{
		if (strcmp(name, p->name) == 0)
			return p->reason;
	}
	return ends_with(name, callbacks) ? BECAUSE_POINTER : NULL;
}

bool
mr_conf_is_secret(const char *name)
{
	static const char *const suffixes[] = {
		"password", "passphrase", ".secret", "key.pem", NULL
	};
	static const char *const names[] = {"sasl.oauthbearer.config", NULL};

	return ends_with(name, suffixes) || in_list(name, names);
}

List *
mr_conf_secrets(const List *props)
{
	List	   *secrets = NIL;
	ListCell   *lc;

	foreach(lc, props)
	{
		const MrProperty *prop = lfirst(lc);

		if (mr_conf_is_secret(prop->name) && prop->value[0] != '\0')
			secrets = lappend(secrets, pstrdup(prop->value));
	}
	return secrets;
}

static char *
replace_all(const char *source, const char *what)
{
	StringInfoData out;
	const char *hit;

	initStringInfo(&out);
	while ((hit = strstr(source, what)) != NULL)
	{
		appendBinaryStringInfo(&out, source, hit - source);
		appendStringInfoString(&out, "***");
		source = hit + strlen(what);
	}
	appendStringInfoString(&out, source);
	return out.data;
}

char *
mr_conf_scrub(const char *text, const List *secrets)
{
	char	   *result = pstrdup(text);
	ListCell   *lc;

	foreach(lc, secrets)
	{
		char	   *before = result;

		if (strstr(before, lfirst(lc)) == NULL)
			continue;
		result = replace_all(before, lfirst(lc));
		pfree(before);
	}
	return result;
}

bool
mr_conf_is_credential(const char *name)
{
	static const char *const names[] = {
		"sasl.username",
		"sasl.kerberos.principal",
		"sasl.kerberos.keytab",
		"sasl.oauthbearer.client.id",
		"sasl.oauthbearer.client.credentials.client.id",
		"sasl.oauthbearer.scope",
		"sasl.oauthbearer.extensions",
		"ssl.certificate.pem",
		"ssl.ca.pem",
		"ssl.certificate.location",
		"ssl.key.location",
		"ssl.keystore.location",
		NULL
	};

	return in_list(name, names);
}

/*
 * sasl.kerberos.principal and its like are in because librdkafka puts them, unquoted, into
 * the command line it gives to a shell.  Token URLs are in because libcurl also reads
 * file: URLs, and because the request is made from the server's network; the metadata type
 * because it makes the server's machine itself the one that is authenticated.
 */
bool
mr_conf_is_privileged(const char *name)
{
	static const char *const suffixes[] = {
		".location", ".file", ".path", ".paths", ".cmd", ".keytab", ".url", NULL
	};
	static const char *const names[] = {
		"plugin.library.paths",
		"sasl.kerberos.principal",
		"sasl.kerberos.service.name",
		"ssl.engine.id",
		"ssl.providers",
		"ssl.ca.certificate.stores",
		"sasl.oauthbearer.config",
		"sasl.oauthbearer.metadata.authentication.type",
		NULL
	};

	return ends_with(name, suffixes) || in_list(name, names);
}

const char *
mr_conf_value(const List *props, const char *name)
{
	ListCell   *lc;

	foreach(lc, props)
		if (strcmp(((MrProperty *) lfirst(lc))->name, name) == 0)
		return ((MrProperty *) lfirst(lc))->value;
	return NULL;
}

/*
 * librdkafka is asked what the values come to: it knows the mechanisms under two names, of which
 * the last one set wins, and takes blanks around a protocol.
 */
bool
mr_conf_is_kerberos(const List *props)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		protocol[64] = "";
	char		mechanism[64] = "";
	size_t		protocol_size = sizeof(protocol);
	size_t		mechanism_size = sizeof(mechanism);
	ListCell   *lc;

	foreach(lc, props)
	{
		const MrProperty *prop = lfirst(lc);

		if (strcmp(prop->name, "security.protocol") == 0 ||
			strcmp(prop->name, "sasl.mechanism") == 0 ||
			strcmp(prop->name, "sasl.mechanisms") == 0)
			(void) rd_kafka_conf_set(conf, prop->name, prop->value, NULL, 0);
	}
	(void) rd_kafka_conf_get(conf, "security.protocol", protocol, &protocol_size);
	(void) rd_kafka_conf_get(conf, "sasl.mechanisms", mechanism, &mechanism_size);
	rd_kafka_conf_destroy(conf);
	return pg_strncasecmp(protocol, "sasl", strlen("sasl")) == 0 &&
		pg_strcasecmp(mechanism, "GSSAPI") == 0;
}

bool
mr_conf_is_property(const char *name)
{
	rd_kafka_conf_t *conf;
	rd_kafka_conf_res_t res;
	char		err[512];

	/* plugin.library.paths must not get near rd_kafka_conf_set, see above */
	if (strcmp(name, "plugin.library.paths") == 0)
		return true;
	if (name[0] == '\0')
		return false;

	/*
	 * librdkafka's second name for each property of topics would pass our
	 * lists by
	 */
	if (strncmp(name, "topic.", strlen("topic.")) == 0)
		return false;
	conf = rd_kafka_conf_new();
	res = rd_kafka_conf_set(conf, name, NULL, err, sizeof(err));
	rd_kafka_conf_destroy(conf);
	return res != RD_KAFKA_CONF_UNKNOWN;
}

/* Is there a sequence of these characters that a property name may have? */
static bool
looks_like_name(const char *s, size_t len)
{
	return len > 0 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789._") >= len;
}

/*
 * librdkafka prints its own table as lines "name | C/P | range | default | …".
 */
List *
mr_conf_property_names(void)
{
	char	   *text = NULL;
	size_t		size = 0;
	FILE	   *fp = open_memstream(&text, &size);
	List	   *names = NIL;

	if (fp == NULL)
		return NIL;
	rd_kafka_conf_properties_show(fp);
	fclose(fp);

	for (char *line = text; line != NULL && *line != '\0';)
	{
		char	   *end = strchr(line, '\n');
		size_t		len = strcspn(line, " |\n");

		if (looks_like_name(line, len))
		{
			char	   *name = pnstrdup(line, len);

			if (mr_conf_owned_reason(name) == NULL && mr_conf_is_property(name))
				names = lappend(names, name);
		}
		line = end == NULL ? NULL : end + 1;
	}
	free(text);
	return names;
}

/*
 * Complain in librdkafka's words, which may quote the value: not for a secret.
 */
static void
refuse_value(const char *name, const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("invalid value for property \"%s\"", name),
			 mr_conf_is_secret(name) ? 0 : errdetail_internal("%s", reason)));
}

void
mr_conf_check_property(const char *name, const char *value)
{
	rd_kafka_conf_t *conf;
	rd_kafka_conf_res_t res;
	char		err[512] = "";

	if (!mr_conf_is_property(name))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("unknown librdkafka property \"%s\"", name)));
	if (strcmp(name, "plugin.library.paths") == 0)
		return;

	conf = rd_kafka_conf_new();
	res = rd_kafka_conf_set(conf, name, value, err, sizeof(err));
	rd_kafka_conf_destroy(conf);
	if (res != RD_KAFKA_CONF_OK)
		refuse_value(name, err);
}
