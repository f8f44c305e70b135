/*
 * json_format.c
 *		The format json: a message's value is a JSON object, its fields are columns.
 *
 * Decoding has two halves.  json.cpp finds the values of the wanted fields as slices of the
 * message; nothing is allocated for it and nothing throws.  Then each column's slice is
 * converted here, the way json_populate_record would: the text of a scalar (of a string,
 * what it means; of anything else, what it looks like) is what the type's input function
 * gets, arrays and composites are built member by member, json takes the text itself, and a
 * JSON null is NULL.  scalar.c has direct ways for the common types, json_server.c
 * calls the server for the others, and domains are checked on top of their base type.
 *
 * Differences from json_populate_record: what is in fields that are not wanted is not looked
 * at (see json.cpp), and values nested deeper than 1024 levels are refused.
 *
 * Memory: results are in the caller's context.  The decoder's scratch context takes the
 * litter of what the server is called for, and is emptied at the next message.
 *
 * Encoding: JSON is UTF-8.  In a database of another encoding every string that is not
 * plain ASCII is converted, which may throw.
 */
#include "postgres.h"

#include "format/json_encode.h"
#include "format/json_parser.h"
#include "format/json_server.h"
#include "format/json_text.h"
#include "format/reject.h"
#include "format/scalar.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* a buffer for unescaped text that has grown beyond this is given back */
#define KEEP_BUFFER		(1024 * 1024)

/* longest message whose every field fits into a Datum, whatever is done to it */
#define MAX_MESSAGE		(MaxAllocSize / 2)

typedef struct ColumnDecoder
{
	const MrColumn *column;
	Oid			type;			/* base type when the column's is a domain */
	int32		typmod;
	int16		typlen;
	bool		typbyval;
	bool		is_domain;
	bool		may_throw;
	void	   *domain_state;	/* domain_check's */
	MrScalarConvert convert;	/* direct way, or NULL */
	MrServerType *server;		/* NULL when it is never needed */
} ColumnDecoder;

struct MrDecoder
{
	int			ncolumns;
	ColumnDecoder *columns;
	MrJsonValue *found;
	MrJsonParser *parser;
	MemoryContextCallback destroy_parser;
	bool		convert_encoding;
	bool		can_throw;
	const MrColumn *current;
	MemoryContext context;		/* the decoder's own */
	MemoryContext scratch;
	bool		scratch_used;
	char	   *buffer;			/* unescaped text */
	size_t		buffer_size;
};

static void
destroy_parser(void *arg)
{
	mr_json_parser_destroy(arg);
}

static void
create_parser(MrDecoder *decoder, const MrColumn *const *columns)
{
	MrJsonPath *paths = palloc(sizeof(MrJsonPath) * Max(decoder->ncolumns, 1));

	for (int i = 0; i < decoder->ncolumns; i++)
	{
		const char **names = palloc(sizeof(char *) * list_length(columns[i]->path));
		ListCell   *lc;
		int			n = 0;

		foreach(lc, columns[i]->path)
			names[n++] = pg_server_to_any(lfirst(lc), strlen(lfirst(lc)), PG_UTF8);
		paths[i].names = names;
		paths[i].nnames = n;
	}
	decoder->parser = mr_json_parser_create(paths, decoder->ncolumns);
	if (decoder->parser == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	decoder->destroy_parser.func = destroy_parser;
	decoder->destroy_parser.arg = decoder->parser;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &decoder->destroy_parser);
}

static void
prepare_column(MrDecoder *decoder, ColumnDecoder *c, const MrColumn *column)
{
	bool		text_may_throw = decoder->convert_encoding;

	c->column = column;
	c->typmod = column->typmod;
	c->type = getBaseTypeAndTypmod(column->type, &c->typmod);
	c->is_domain = c->type != column->type;
	get_typlenbyval(c->type, &c->typlen, &c->typbyval);
	c->convert = mr_scalar_find(c->type, &c->may_throw);
	if (c->type == JSONOID)
		c->may_throw = false;
	else if (c->convert == NULL || c->may_throw || MR_INTEGERS_HAVE_PREFIXES)
		c->server = mr_server_type_create(column, c->type, c->typmod);
	c->may_throw = c->may_throw || c->is_domain || text_may_throw;
}

static MrDecoder *
json_create_decoder(const MrColumn *const *columns, int ncolumns)
{
	MrDecoder  *decoder = palloc0(sizeof(MrDecoder));

	decoder->ncolumns = ncolumns;
	decoder->columns = palloc0(sizeof(ColumnDecoder) * Max(ncolumns, 1));
	decoder->found = palloc0(sizeof(MrJsonValue) * Max(ncolumns, 1));
	decoder->convert_encoding = GetDatabaseEncoding() != PG_UTF8;
	decoder->context = CurrentMemoryContext;
	decoder->scratch = AllocSetContextCreate(CurrentMemoryContext, "millrace JSON decoder",
											 ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < ncolumns; i++)
	{
		prepare_column(decoder, &decoder->columns[i], columns[i]);
		decoder->can_throw |= decoder->columns[i].may_throw;
	}
	create_parser(decoder, columns);
	return decoder;
}

static bool
json_can_throw(const MrDecoder *decoder)
{
	return decoder->can_throw;
}

static const MrColumn *
json_current_column(const MrDecoder *decoder)
{
	return decoder->current;
}

/* room for unescaped text */
static char *
get_buffer(MrDecoder *decoder, size_t size)
{
	if (decoder->buffer == NULL || size > decoder->buffer_size ||
		(decoder->buffer_size > KEEP_BUFFER && size <= KEEP_BUFFER))
	{
		if (decoder->buffer != NULL)
			pfree(decoder->buffer);
		decoder->buffer = NULL;
		decoder->buffer = MemoryContextAlloc(decoder->context, Max(size, 1024));
		decoder->buffer_size = Max(size, 1024);
	}
	return decoder->buffer;
}

static MemoryContext
enter_scratch(MrDecoder *decoder)
{
	decoder->scratch_used = true;
	return MemoryContextSwitchTo(decoder->scratch);
}

/* into the database's encoding, when that is not UTF-8; may throw */
static void
convert_encoding(MrDecoder *decoder, const char **text, size_t *len)
{
	for (size_t i = 0; i < *len; i++)
		if (IS_HIGHBIT_SET((*text)[i]))
		{
			MemoryContext old = enter_scratch(decoder);

			*text = pg_any_to_server(pnstrdup(*text, *len), *len, PG_UTF8);
			*len = strlen(*text);
			MemoryContextSwitchTo(old);
			return;
		}
}

/*
 * The text that an input function would get: valid until the decoder's next use.
 */
static bool
scalar_text(MrDecoder *decoder, const MrJsonValue *value, const char **text, size_t *len,
			MrReject *reject)
{
	MrJsonFault fault = MR_JSON_NO_FAULT;

	*text = value->text;
	*len = value->len;
	switch (value->kind)
	{
		case MR_JSON_STRING:
			if (memchr(value->text, '\\', value->len) != NULL)
			{
				char	   *buffer = get_buffer(decoder, value->len);

				fault = mr_json_unescape(value->text, value->len, buffer, len);
				*text = buffer;
			}
			break;
		case MR_JSON_NUMBER:
			if (!mr_json_is_number(value->text, value->len))
				fault = MR_JSON_BAD_SYNTAX;
			break;
		case MR_JSON_OBJECT:
		case MR_JSON_ARRAY:
			fault = mr_json_check(value->text, value->len);
			break;
		case MR_JSON_TRUE:
		case MR_JSON_FALSE:
			break;
		default:
			fault = MR_JSON_BAD_SYNTAX;
			break;
	}
	if (fault != MR_JSON_NO_FAULT)
		return mr_json_reject_fault(reject, fault, value->text, value->len);
	if (decoder->convert_encoding)
		convert_encoding(decoder, text, len);
	return true;
}

/* for a column of type json: the text, a string's with its escapes spelled the server's way */
static Datum
json_datum(MrDecoder *decoder, const MrJsonValue *value, const char *text, size_t len)
{
	if (value->kind == MR_JSON_STRING)
	{
		MemoryContext old = enter_scratch(decoder);
		StringInfoData json;

		initStringInfo(&json);
		mr_json_append_string(&json, text, len);
		MemoryContextSwitchTo(old);
		text = json.data;

		len = json.len;
	}
	return PointerGetDatum(cstring_to_text_with_len(text, len));
}

/* what the server's machinery makes of it, copied out of the litter */
static bool
server_datum(MrDecoder *decoder, ColumnDecoder *c, const MrJsonValue *value,
			 const char *text, size_t len, Datum *result, bool *isnull, MrReject *reject)
{
	MemoryContext old = enter_scratch(decoder);
	bool		done = true;
	StringInfoData json;

	decoder->current = c->column;
	*isnull = false;
	if (value->kind == MR_JSON_STRING &&
		(c->type == JSONBOID || mr_server_type_is_nested(c->server)))
	{
		initStringInfo(&json);
		mr_json_append_string(&json, text, len);
		text = json.data;

		len = json.len;
	}
	if (mr_server_type_is_nested(c->server))
		*result = mr_server_populate(c->server, text, len, isnull);
	else
		done = mr_server_input(c->server, text, len, result, reject);
	MemoryContextSwitchTo(old);
	if (!done)
	{
		/* the text is in the scratch context */
		reject->text = pstrdup(reject->text);
		return false;
	}
	if (!*isnull)
		*result = datumCopy(*result, c->typbyval, c->typlen);
	return true;
}

/* the value of the column's base type */
static bool
base_datum(MrDecoder *decoder, ColumnDecoder *c, const MrJsonValue *value,
		   Datum *result, bool *isnull, MrReject *reject)
{
	const char *text;
	size_t		len;

	*isnull = false;
	if (!scalar_text(decoder, value, &text, &len, reject))
		return false;
	if (c->type == JSONOID)
	{
		*result = json_datum(decoder, value, text, len);
		return true;
	}
	if (c->convert != NULL)
		switch (c->convert(text, len, c->typmod, result, reject))
		{
			case MR_CONVERTED:
				return true;
			case MR_REJECTED:
				return false;
			case MR_ASK_SERVER:
				break;
		}
	return server_datum(decoder, c, value, text, len, result, isnull, reject);
}

/* throws when the domain refuses the value */
static void
check_domain(MrDecoder *decoder, ColumnDecoder *c, Datum value, bool isnull)
{
	MemoryContext old = enter_scratch(decoder);

	decoder->current = c->column;
	domain_check(value, isnull, c->column->type, &c->domain_state, decoder->context);
	MemoryContextSwitchTo(old);
}

static bool
decode_column(MrDecoder *decoder, int i, Datum *result, bool *isnull, MrReject *reject)
{
	ColumnDecoder *c = &decoder->columns[i];
	const MrJsonValue *value = &decoder->found[i];

	*result = (Datum) 0;
	*isnull = true;
	decoder->current = c->column;
	if (value->kind != MR_JSON_MISSING && value->kind != MR_JSON_NULL &&
		!base_datum(decoder, c, value, result, isnull, reject))
		return mr_reject_column(reject, c->column);
	if (c->is_domain)
		check_domain(decoder, c, *result, *isnull);
	return true;
}

static bool
reject_encoding(const char *text, size_t len, MrReject *reject)
{
	int			valid = pg_encoding_verifymbstr(PG_UTF8, text, len);
	StringInfoData bytes;

	initStringInfo(&bytes);
	for (int i = valid; i < len && i < valid + pg_utf_mblen((const unsigned char *) &text[valid]); i++)
		appendStringInfo(&bytes, " 0x%02x", (unsigned char) text[i]);
	return mr_reject(reject, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
					 "invalid byte sequence for encoding \"UTF8\":%s: \"%s\"", bytes.data,
					 mr_excerpt(text, len));
}

/* a message that is no JSON object: say what it is instead */
static bool
reject_no_object(const char *text, size_t len, MrReject *reject)
{
	const char *what = "a scalar";

	if (len == 0)
		return mr_reject(reject, ERRCODE_INVALID_TEXT_REPRESENTATION,
						 "invalid JSON: the message is empty");
	if (pg_encoding_verifymbstr(PG_UTF8, text, len) != len)
		return reject_encoding(text, len, reject);
	if (mr_json_check(text, len) != MR_JSON_NO_FAULT)
		return mr_reject(reject, ERRCODE_INVALID_TEXT_REPRESENTATION,
						 "invalid JSON: \"%s\"", mr_excerpt(text, len));
	if (*text == '[')
		what = "an array";
	return mr_reject(reject, ERRCODE_INVALID_PARAMETER_VALUE,
					 "message is %s, not a JSON object: \"%s\"", what, mr_excerpt(text, len));
}

/* find the wanted values; false when the message as a whole is of no use */
static bool
find_values(MrDecoder *decoder, const char *text, size_t len, MrReject *reject)
{
	const char *reason = "";

	if (len > MAX_MESSAGE)
		return mr_reject(reject, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
						 "message of %zu bytes is too large", len);
	while (len > 0 && (*text == ' ' || *text == '\t' || *text == '\n' || *text == '\r'))
	{
		text	  ++;

		len--;
	}
	if (len == 0 || *text !='{')
		return reject_no_object(text, len, reject);
	switch (mr_json_parser_find(decoder->parser, text, len, decoder->found, &reason))
	{
		case MR_JSON_OK:
			return true;
		case MR_JSON_BAD_ENCODING:
			return reject_encoding(text, len, reject);
		case MR_JSON_TOO_LARGE:
			return mr_reject(reject, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							 "message of %zu bytes is too large", len);
		case MR_JSON_NO_MEMORY:
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory"),
					 errdetail("Failed while parsing a message of %zu bytes.", len)));
			break;
		case MR_JSON_MALFORMED:
			break;
	}
	return mr_reject(reject, ERRCODE_INVALID_TEXT_REPRESENTATION,
					 "invalid JSON: %s: \"%s\"", reason, mr_excerpt(text, len));
}

static bool
json_decode(MrDecoder *decoder, const char *value, size_t len,
			Datum *values, bool *isnull, MrReject *reject)
{
	if (decoder->scratch_used)
	{
		MemoryContextReset(decoder->scratch);
		decoder->scratch_used = false;
	}
	decoder->current = NULL;
	if (!find_values(decoder, value, len, reject))
		return false;
	for (int i = 0; i < decoder->ncolumns; i++)
		if (!decode_column(decoder, i, &values[i], &isnull[i], reject))
			return false;
	return true;
}

const MrFormat mr_format_json = {
	.name = "json",
	.create_decoder = json_create_decoder,
	.can_throw = json_can_throw,
	.decode = json_decode,
	.current_column = json_current_column,
	.create_encoder = mr_json_create_encoder,
	.encode = mr_json_encode
};
