/*
 * stream/create_topic.c
 *		millrace.create_topic(): a topic on a stream server.
 *
 * Only arguments, privileges and one call.  The broker judges everything else; its words
 * are passed on.
 */
#include "millrace.h"

#include "kafka/admin.h"
#include "stream/option.h"
#include "stream/option_check.h"

#include "catalog/pg_foreign_server.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#define CREATE_TIMEOUT_MS	15000

PG_FUNCTION_INFO_V1(mr_create_topic);

static void
reject_nulls(FunctionCallInfo fcinfo)
{
	static const char *const names[] = {"server", "topic", "partitions", "replication", "config"};

	for (int i = 0; i < lengthof(names); i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", names[i])));
}

static int32
positive_arg(FunctionCallInfo fcinfo, int arg, const char *name)
{
	int32		value = PG_GETARG_INT32(arg);

	if (value < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be at least 1", name)));
	return value;
}

/* a scalar as Kafka's configuration spells it; ERROR when it is none */
static char *
config_value(const char *name, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("value of \"%s\" in argument \"config\" must be a string, a number or a boolean",
							name)));
	}
	return NULL;				/* keep the compiler quiet */
}

/* {"retention.ms": 1000}: List of MrProperty * */
static List *
config_properties(Jsonb *config)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;
	List	   *props = NIL;

	if (!JB_ROOT_IS_OBJECT(config))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"config\" must be a JSON object")));

	it = JsonbIteratorInit(&config->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		MrProperty *prop;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		prop = palloc(sizeof(MrProperty));
		prop->name = pnstrdup(key.val.string.val, key.val.string.len);
		prop->value = config_value(prop->name, &value);
		props = lappend(props, prop);
	}
	return props;
}

/* the stream server of that name that the current user may use */
static ForeignServer *
usable_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, false);
	AclResult	acl = mr_foreign_server_usage(server->serverid, GetUserId());

	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FOREIGN_SERVER, server->servername);
	if (!mr_is_stream_server(server->serverid))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not a server of foreign-data wrapper %s",
						server->servername, MR_FDW)));
	return server;
}

Datum
mr_create_topic(PG_FUNCTION_ARGS)
{
	ForeignServer *server;
	char	   *topic;
	int32		partitions;
	int32		replication;
	List	   *config;

	PreventCommandIfReadOnly("create_topic()");
	PreventCommandDuringRecovery("create_topic()");
	reject_nulls(fcinfo);
	server = usable_server(NameStr(*PG_GETARG_NAME(0)));
	topic = text_to_cstring(PG_GETARG_TEXT_PP(1));
	mr_check_topic_name(topic);
	partitions = positive_arg(fcinfo, 2, "partitions");
	replication = positive_arg(fcinfo, 3, "replication");
	config = config_properties(PG_GETARG_JSONB_P(4));

	mr_admin_create_topic(mr_server_properties(server->serverid, GetUserId()),
						  topic, partitions, replication, config, CREATE_TIMEOUT_MS);
	PG_RETURN_VOID();
}
