/*
 * stream/option.c
 *		What a foreign table, its columns, server and user mapping say of a stream.
 *
 * One table lists the options of streams and columns, with a function each that judges a
 * value; validation and hints both come from it.  A server's and a user mapping's options
 * are librdkafka's properties, so for these kafka/conf is asked instead.  Everything is
 * checked when it is set, except what the validator is not told: the type of a column, and
 * what is absent.  Those are checked when the stream is used, here too.
 *
 * Options are read anew at every use: the system caches make that cheap, and an ALTER
 * takes effect at the next statement.
 */
#include "millrace.h"

#include "stream/option.h"
#include "stream/option_check.h"
#include "stream/suggest.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/relation.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#define MR_MAX_WORKERS		256
#define MR_MAX_TOPIC_LENGTH 249
#define MR_MAX_PATH_NAMES	100

PG_FUNCTION_INFO_V1(mr_fdw_validator);

typedef struct OptionDef
{
	const char *name;
	Oid			catalog;		/* of the object that it belongs to */
	void		(*check) (const char *name, const char *value); /* ERROR, or the value
																 * is right */
} OptionDef;

/* a word that an option accepts, and what it stands for */
typedef struct OptionWord
{
	const char *word;
	int			value;
} OptionWord;

static const OptionWord on_error_words[] = {
	{"dead_letter", MR_ON_ERROR_DEAD_LETTER},
	{"skip", MR_ON_ERROR_SKIP},
	{"stop", MR_ON_ERROR_STOP},
	{NULL, 0}
};

static const OptionWord on_gap_words[] = {
	{"stop", MR_ON_GAP_STOP},
	{"earliest", MR_ON_GAP_EARLIEST},
	{"latest", MR_ON_GAP_LATEST},
	{NULL, 0}
};

static const OptionWord metadata_words[] = {
	{"partition", MR_META_PARTITION},
	{"offset", MR_META_OFFSET},
	{"timestamp", MR_META_TIMESTAMP},
	{"key", MR_META_KEY},
	{"headers", MR_META_HEADERS},
	{NULL, 0}
};

static void check_topic(const char *name, const char *value);
static void check_format(const char *name, const char *value);
static void check_on_error(const char *name, const char *value);
static void check_on_gap(const char *name, const char *value);
static void check_workers(const char *name, const char *value);
static void check_path(const char *name, const char *value);
static void check_metadata(const char *name, const char *value);

static const OptionDef options[] = {
	{"topic", ForeignTableRelationId, check_topic},
	{"format", ForeignTableRelationId, check_format},
	{"on_error", ForeignTableRelationId, check_on_error},
	{"on_gap", ForeignTableRelationId, check_on_gap},
	{"workers", ForeignTableRelationId, check_workers},
	{"path", AttributeRelationId, check_path},
	{"metadata", AttributeRelationId, check_metadata},
	{NULL, InvalidOid, NULL}
};


/*
 * Values
 */

/* The word's meaning; ERROR that lists the words when it is none of them. */
static int
parse_word(const char *name, const char *value, const OptionWord *words)
{
	List	   *valid = NIL;

	for (const OptionWord *w = words; w->word != NULL; w++)
	{
		if (strcmp(w->word, value) == 0)
			return w->value;
		valid = lappend(valid, unconstify(char *, w->word));
	}

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("invalid value for option \"%s\": \"%s\"", name, value),
			 errhint("Valid values are: %s.", mr_join_names(valid))));
	return 0;					/* keep the compiler quiet */
}

/* Kafka's rule for topic names */
static bool
is_topic_name(const char *topic)
{
	static const char *const legal =
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t		len = strlen(topic);

	if (len == 0 || len > MR_MAX_TOPIC_LENGTH || strspn(topic, legal) != len)
		return false;
	return strcmp(topic, ".") != 0 && strcmp(topic, "..") != 0;
}

void
mr_check_topic_name(const char *topic)
{
	if (!is_topic_name(topic))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid topic name: \"%s\"", topic),
				 errdetail("Topic names are made of ASCII letters, digits, \".\", \"_\" and \"-\", and have at most %d characters.",
						   MR_MAX_TOPIC_LENGTH)));
}

static void
check_topic(const char *name, const char *value)
{
	mr_check_topic_name(value);
}

static void
check_format(const char *name, const char *value)
{
	if (mr_format_find(value) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", name, value),
				 errhint("Valid values are: %s.", mr_join_names(mr_format_names()))));
}

static void
check_on_error(const char *name, const char *value)
{
	(void) parse_word(name, value, on_error_words);
}

static void
check_on_gap(const char *name, const char *value)
{
	(void) parse_word(name, value, on_gap_words);
}

static int
parse_workers(const char *name, const char *value)
{
	int			workers;

	if (!parse_int(value, &workers, 0, NULL) || workers < 1 || workers > MR_MAX_WORKERS)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", name, value),
				 errdetail("It must be an integer from 1 to %d.", MR_MAX_WORKERS)));
	return workers;
}

static void
check_workers(const char *name, const char *value)
{
	(void) parse_workers(name, value);
}

static void
check_path(const char *name, const char *value)
{
	size_t		len = strlen(value);
	int			names = 1;

	for (const char *p = value; (p = strchr(p, '.')) != NULL; p++)
		names++;
	if (names > MR_MAX_PATH_NAMES)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("value of option \"%s\" has %d names", name, names),
				 errdetail("A path has at most %d.", MR_MAX_PATH_NAMES)));
	if (len == 0 || value[0] == '.' || value[len - 1] == '.' || strstr(value, "..") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", name, value),
				 errdetail("A path is one or more field names, from the outermost inwards, with dots in between.")));
}

static void
check_metadata(const char *name, const char *value)
{
	(void) parse_word(name, value, metadata_words);
}


/*
 * Validation
 */

/* ERROR for an option that streams or columns do not have, or have elsewhere. */
static void
unknown_option(const char *name, Oid catalog)
{
	List	   *valid = NIL;
	bool		elsewhere = mr_conf_is_property(name);

	for (const OptionDef *opt = options; opt->name != NULL; opt++)
		if (opt->catalog == catalog)
			valid = lappend(valid, unconstify(char *, opt->name));

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 elsewhere ?
			 errdetail("Properties of librdkafka belong to the server or to a user mapping.") : 0,
			 valid == NIL ?
			 errhint("There are no valid options in this context.") :
			 errhint("%sValid options in this context are: %s.",
					 mr_suggest(name, valid), mr_join_names(valid))));
}

/* ERROR for a name that is not a property of the linked librdkafka. */
static void
unknown_property(const char *name, List *valid)
{
	const char *suggestion = mr_suggest(name, valid);

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 suggestion[0] != '\0' ?
			 errhint("%sOptions of a server are librdkafka's configuration properties, under their own names.",
					 suggestion) :
			 errhint("Options of a server are librdkafka's configuration properties, under their own names, such as \"bootstrap.servers\".")));
}

/* What holds for a property wherever it stands. */
static void
check_property(const char *name, const char *value)
{
	const char *reason = mr_conf_owned_reason(name);

	if (reason != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("property \"%s\" cannot be set: %s", name, reason)));

	if (mr_conf_is_privileged(name) && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set property \"%s\"", name),
				 errdetail("Only superusers may set properties that run a command, load a library or read a file on the server.")));

	mr_conf_check_property(name, value);
}

static void
check_server_option(const char *name, const char *value)
{
	if (mr_conf_is_secret(name))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("property \"%s\" cannot be set for a server", name),
				 errdetail("Options of a server can be read by everybody."),
				 errhint("Use CREATE USER MAPPING to set it.")));
	if (mr_conf_owned_reason(name) == NULL && !mr_conf_is_property(name))
		unknown_property(name, mr_conf_property_names());
	check_property(name, value);
}

static void
check_mapping_option(const char *name, const char *value)
{
	List	   *valid = NIL;
	ListCell   *lc;

	if (mr_conf_is_secret(name) || mr_conf_is_credential(name) ||
		mr_conf_owned_reason(name) != NULL)
	{
		check_property(name, value);
		return;
	}

	if (mr_conf_is_property(name))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("property \"%s\" cannot be set for a user mapping", name),
				 errdetail("A user mapping holds secrets and credentials only."),
				 errhint("Use ALTER SERVER to set it.")));

	foreach(lc, mr_conf_property_names())
	{
		char	   *property = lfirst(lc);

		if (mr_conf_is_secret(property) || mr_conf_is_credential(property))
			valid = lappend(valid, property);
	}
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 errhint("%sValid options in this context are: %s.",
					 mr_suggest(name, valid), mr_join_names(valid))));
}

static void
check_table_option(const char *name, const char *value, Oid catalog)
{
	for (const OptionDef *opt = options; opt->name != NULL; opt++)
	{
		if (opt->catalog == catalog && strcmp(opt->name, name) == 0)
		{
			opt->check(name, value);
			return;
		}
	}
	unknown_option(name, catalog);
}

static List *
append_properties(List *props, List *defs)
{
	ListCell   *lc;

	foreach(lc, defs)
	{
		DefElem    *def = lfirst(lc);
		MrProperty *prop = palloc(sizeof(MrProperty));

		prop->name = pstrdup(def->defname);
		prop->value = pstrdup(defGetString(def));
		props = lappend(props, prop);
	}
	return props;
}

/* What holds for the properties of a server together. */
static void
check_server(List *defs)
{
	if (mr_conf_is_kerberos(append_properties(NIL, defs)) && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to authenticate to a broker by GSSAPI"),
				 errdetail("GSSAPI, the default of \"sasl.mechanisms\", uses the credentials of the server's operating system user."),
				 errhint("Set \"sasl.mechanisms\", or ask a superuser.")));
}

static bool
has_option(List *defs, const char *name)
{
	ListCell   *lc;

	foreach(lc, defs)
	{
		if (strcmp(((DefElem *) lfirst(lc))->defname, name) == 0)
			return true;
	}
	return false;
}

/* a statement that is refused is logged, but not with a secret in it */
static void
hide_secrets(void *arg)
{
	ListCell   *lc;

	foreach(lc, (List *) arg)
		if (mr_conf_is_secret(((DefElem *) lfirst(lc))->defname))
		errhidestmt(true);
}

/*
 * The wrapper's validator: the options as they are going to be, and the catalog that tells
 * what they are of.
 */
Datum
mr_fdw_validator(PG_FUNCTION_ARGS)
{
	List	   *defs = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	ErrorContextCallback callback = {error_context_stack, hide_secrets, defs};
	ListCell   *lc;

	error_context_stack = &callback;
	foreach(lc, defs)
	{
		DefElem    *def = lfirst(lc);
		char	   *value = defGetString(def);

		if (catalog == ForeignServerRelationId)
			check_server_option(def->defname, value);
		else if (catalog == UserMappingRelationId)
			check_mapping_option(def->defname, value);
		else
			check_table_option(def->defname, value, catalog);
	}

	if (catalog == ForeignServerRelationId)
		check_server(defs);
	if (catalog == ForeignTableRelationId && !has_option(defs, "topic"))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
				 errmsg("option \"%s\" is required for a stream", "topic")));
	if (catalog == AttributeRelationId &&
		has_option(defs, "path") && has_option(defs, "metadata"))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("options \"%s\" and \"%s\" exclude each other", "path", "metadata")));
	error_context_stack = callback.previous;
	PG_RETURN_VOID();
}


/*
 * Reading a stream's options
 */

/* Is this server of our wrapper?  Told by the handler, whatever the wrapper's name is. */
bool
mr_is_stream_server(Oid serverid)
{
	ForeignServer *server = GetForeignServer(serverid);
	Oid			handler = GetForeignDataWrapper(server->fdwid)->fdwhandler;
	HeapTuple	tup;
	Datum		prosrc;
	bool		isnull;
	bool		result;

	if (!OidIsValid(handler))
		return false;
	tup = SearchSysCache1(PROCOID, ObjectIdGetDatum(handler));
	if (!HeapTupleIsValid(tup))
		return false;
	prosrc = SysCacheGetAttr(PROCOID, tup, Anum_pg_proc_prosrc, &isnull);
	result = !isnull && strcmp(TextDatumGetCString(prosrc), "mr_fdw_handler") == 0;
	ReleaseSysCache(tup);
	return result;
}

bool
mr_is_stream(Oid relid)
{
	return get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE &&
		mr_is_stream_server(GetForeignTable(relid)->serverid);
}

static const char *
metadata_name(int metadata)
{
	const OptionWord *word = metadata_words;

	while (word->word != NULL && word->value != metadata)
		word++;
	return word->word;
}

/* ERROR when a metadata column's type cannot hold what it is to show. */
static void
check_metadata_type(const MrStream *stream, const MrColumn *column)
{
	const char *wanted = NULL;

	switch (column->metadata)
	{
		case MR_META_NONE:
			break;
		case MR_META_PARTITION:
			if (column->type != INT4OID && column->type != INT8OID)
				wanted = "integer or bigint";
			break;
		case MR_META_OFFSET:
			if (column->type != INT8OID)
				wanted = "bigint";
			break;
		case MR_META_TIMESTAMP:
			if (column->type != TIMESTAMPTZOID && column->type != TIMESTAMPOID)
				wanted = "timestamp with time zone or timestamp without time zone";
			break;
		case MR_META_KEY:
			if (column->type != TEXTOID && column->type != BYTEAOID)
				wanted = "text or bytea";
			break;
		case MR_META_HEADERS:
			if (column->type != JSONBOID)
				wanted = "jsonb";
			break;
	}

	if (wanted != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_DATA_TYPE),
				 errmsg("column \"%s\" of stream %s has type %s, which metadata \"%s\" cannot have",
						column->name, stream->name, format_type_be(column->type), metadata_name(column->metadata)),
				 errhint("Change its type to %s.", wanted)));
}

/* geo.country: geo, country */
static List *
split_path(const char *path)
{
	List	   *result = NIL;
	char	   *copy = pstrdup(path);
	char	   *save = NULL;

	for (char *part = strtok_r(copy, ".", &save); part != NULL;
		 part = strtok_r(NULL, ".", &save))
		result = lappend(result, part);
	return result;
}

static void
read_column(MrStream *stream, Form_pg_attribute attr, MrColumn *column)
{
	ListCell   *lc;

	if (attr->attisdropped)
		return;					/* attnum stays InvalidAttrNumber */

	column->attnum = attr->attnum;
	column->name = pstrdup(NameStr(attr->attname));
	column->type = attr->atttypid;
	column->typmod = attr->atttypmod;
	column->collation = attr->attcollation;
	column->metadata = MR_META_NONE;

	if (attr->attgenerated != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of stream %s is a generated column", column->name, stream->name),
				 errdetail("Streams do not support generated columns."),
				 errhint("Compute it in the query instead.")));

	foreach(lc, GetForeignColumnOptions(stream->relid, attr->attnum))
	{
		DefElem    *def = lfirst(lc);

		if (strcmp(def->defname, "path") == 0)
			column->path = split_path(defGetString(def));
		else if (strcmp(def->defname, "metadata") == 0)
			column->metadata = parse_word(def->defname, defGetString(def), metadata_words);
	}

	column->by_name = column->metadata == MR_META_NONE && column->path == NIL;
	if (column->by_name)
		column->path = list_make1(column->name);
	check_metadata_type(stream, column);
}

static void
read_table_options(MrStream *stream, List *defs)
{
	ListCell   *lc;

	stream->format = mr_format_find("json");
	stream->on_error = MR_ON_ERROR_DEAD_LETTER;
	stream->on_gap = MR_ON_GAP_STOP;
	stream->workers = 1;

	foreach(lc, defs)
	{
		DefElem    *def = lfirst(lc);
		char	   *value = defGetString(def);

		if (strcmp(def->defname, "topic") == 0)
			stream->topic = value;
		else if (strcmp(def->defname, "format") == 0)
		{
			check_format(def->defname, value);
			stream->format = mr_format_find(value);
		}
		else if (strcmp(def->defname, "on_error") == 0)
			stream->on_error = parse_word(def->defname, value, on_error_words);
		else if (strcmp(def->defname, "on_gap") == 0)
			stream->on_gap = parse_word(def->defname, value, on_gap_words);
		else if (strcmp(def->defname, "workers") == 0)
			stream->workers = parse_workers(def->defname, value);
	}

	if (stream->topic == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
				 errmsg("stream %s has no option \"%s\"", stream->name, "topic")));
}

MrStream *
mr_stream_get(Oid relid)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	MrStream   *stream;
	ForeignTable *table;

	if (rel->rd_rel->relkind != RELKIND_FOREIGN_TABLE || !mr_is_stream(relid))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a stream", RelationGetRelationName(rel)),
				 errdetail("A stream is a foreign table of a server with foreign-data wrapper %s.", MR_FDW)));

	table = GetForeignTable(relid);
	stream = palloc0(sizeof(MrStream));
	stream->relid = relid;
	stream->serverid = table->serverid;
	stream->owner = rel->rd_rel->relowner;
	stream->name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											  RelationGetRelationName(rel));
	read_table_options(stream, table->options);

	stream->natts = desc->natts;
	stream->columns = palloc0(Max(desc->natts, 1) * sizeof(MrColumn));
	for (int i = 0; i < desc->natts; i++)
		read_column(stream, TupleDescAttr(desc, i), &stream->columns[i]);

	/* the lock stays until the end of the transaction */
	relation_close(rel, NoLock);
	return stream;
}


/*
 * Reading what a connection needs
 */

/* Options of the mapping of userid or else of PUBLIC; NIL when there is none. */
static List *
mapping_options(Oid serverid, Oid userid)
{
	HeapTuple	tup;
	Datum		datum;
	bool		isnull;
	List	   *result = NIL;

	tup = SearchSysCache2(USERMAPPINGUSERSERVER,
						  ObjectIdGetDatum(userid), ObjectIdGetDatum(serverid));
	if (!HeapTupleIsValid(tup))
		tup = SearchSysCache2(USERMAPPINGUSERSERVER,
							  ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(serverid));
	if (!HeapTupleIsValid(tup))
		return NIL;

	datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tup, Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		result = untransformRelOptions(datum);
	ReleaseSysCache(tup);
	return result;
}

List *
mr_server_properties(Oid serverid, Oid userid)
{
	ForeignServer *server = GetForeignServer(serverid);
	List	   *props = NIL;

	if (!has_option(server->options, "bootstrap.servers") &&
		!has_option(server->options, "metadata.broker.list"))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
				 errmsg("server \"%s\" has no option \"%s\"", server->servername, "bootstrap.servers"),
				 errhint("Use ALTER SERVER %s OPTIONS (ADD \"bootstrap.servers\" 'host:port') to say where the brokers are.",
						 quote_identifier(server->servername))));

	props = append_properties(props, server->options);
	return append_properties(props, mapping_options(serverid, userid));
}

int
mr_stream_workers(Oid relid)
{
	ListCell   *lc;

	foreach(lc, GetForeignTable(relid)->options)
	{
		DefElem    *def = lfirst(lc);

		if (strcmp(def->defname, "workers") == 0)
			return parse_workers(def->defname, defGetString(def));
	}
	return 1;
}
