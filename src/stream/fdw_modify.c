/*
 * stream/fdw_modify.c
 *		INSERT and COPY into streams.
 *
 * Turns rows into messages and leaves them to produce.c, which sends them when the
 * transaction commits.  Columns of the value go through the format's encoder; metadata
 * columns, where they are not null, say key, headers, partition and timestamp.
 *
 * UPDATE, DELETE and TRUNCATE are refused: a topic only grows.
 */
#include "millrace.h"

#include "stream/epoch.h"
#include "stream/fdw.h"
#include "stream/produce.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

typedef struct ModifyState
{
	MemoryContext context;
	MemoryContext row_context;	/* reset for every row */
	MrStream   *stream;
	MrProduceTarget *target;

	MrEncoder  *encoder;
	int			nvalues;		/* columns of the value */
	const MrColumn **value_columns;
	Datum	   *values;			/* nvalues: what the encoder is given */
	bool	   *isnull;
	StringInfoData value;

	/* by MrMetadata; NULL where the stream has no such column */
	const MrColumn *metadata[MR_META_HEADERS + 1];
} ModifyState;


static int
is_updatable(Relation rel)
{
	return 1 << CMD_INSERT;
}

static void
refuse_change(const char *action, const char *relname)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot %s stream \"%s\"", action, relname),
			 errdetail("Messages in a topic cannot be changed or removed one by one."),
			 errhint("Use INSERT to add messages; the topic's retention settings remove them.")));
}

static List *
plan_modify(PlannerInfo *root, ModifyTable *plan, Index resultRelation, int subplan_index)
{
	RangeTblEntry *rte = planner_rt_fetch(resultRelation, root);
	Relation	rel = table_open(rte->relid, NoLock);

	if (plan->operation != CMD_INSERT)
		refuse_change(plan->operation == CMD_DELETE ? "delete from" : "update",
					  RelationGetRelationName(rel));
	table_close(rel, NoLock);
	return NIL;
}

static void
truncate_stream(List *rels, DropBehavior behavior, bool restart_seqs)
{
	refuse_change("truncate", RelationGetRelationName((Relation) linitial(rels)));
}


/*
 * Beginning and ending
 */

/* Sort the stream's columns into those of the value and metadata. */
static void
sort_columns(ModifyState *state)
{
	MrStream   *stream = state->stream;

	state->value_columns = palloc(Max(stream->natts, 1) * sizeof(MrColumn *));
	for (int i = 0; i < stream->natts; i++)
	{
		const MrColumn *column = &stream->columns[i];

		if (column->attnum == InvalidAttrNumber)
			continue;
		if (column->metadata == MR_META_NONE)
			state->value_columns[state->nvalues++] = column;
		else if (state->metadata[column->metadata] == NULL)
			state->metadata[column->metadata] = column;
		else
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot insert into stream %s", stream->name),
					 errdetail("Columns \"%s\" and \"%s\" show the same metadata.",
							   state->metadata[column->metadata]->name, column->name)));
	}
}

static void
begin_insert(ModifyTableState *mtstate, ResultRelInfo *rinfo)
{
	EState	   *estate = mtstate->ps.state;
	Oid			userid = mr_result_relation_user(rinfo, estate);
	MemoryContext context = AllocSetContextCreate(estate->es_query_cxt, "millrace insert",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	ModifyState *state = palloc0(sizeof(ModifyState));

	state->context = context;
	state->row_context = AllocSetContextCreate(context, "millrace insert row",
											   ALLOCSET_DEFAULT_SIZES);
	state->stream = mr_stream_get(RelationGetRelid(rinfo->ri_RelationDesc));
	state->target = mr_produce_target(state->stream, OidIsValid(userid) ? userid : GetUserId());
	sort_columns(state);
	state->encoder = state->stream->format->create_encoder(state->value_columns, state->nvalues);
	state->values = palloc(Max(state->nvalues, 1) * sizeof(Datum));
	state->isnull = palloc(Max(state->nvalues, 1) * sizeof(bool));
	initStringInfo(&state->value);
	rinfo->ri_FdwState = state;
	MemoryContextSwitchTo(old);
}

static void
begin_modify(ModifyTableState *mtstate, ResultRelInfo *rinfo, List *fdw_private,
			 int subplan_index, int eflags)
{
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		begin_insert(mtstate, rinfo);
}

static void
end_insert(EState *estate, ResultRelInfo *rinfo)
{
	ModifyState *state = rinfo->ri_FdwState;

	if (state != NULL)
		MemoryContextDelete(state->context);
	rinfo->ri_FdwState = NULL;
}


/*
 * Rows to messages
 */

/* ERROR for a metadata column's value that a message cannot have. */
static void
bad_metadata(const ModifyState *state, const MrColumn *column, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for column \"%s\" of stream %s",
					column->name, state->stream->name),
			 errdetail("%s", detail)));
}

/* The column that shows this metadata and its value in the row; NULL when it is null. */
static const MrColumn *
metadata_value(const ModifyState *state, MrMetadata which, TupleTableSlot *slot, Datum *value)
{
	const MrColumn *column = state->metadata[which];

	if (column == NULL || slot->tts_isnull[column->attnum - 1])
		return NULL;
	*value = slot->tts_values[column->attnum - 1];
	return column;
}

static int32
message_partition(const ModifyState *state, TupleTableSlot *slot)
{
	Datum		value;
	const MrColumn *column = metadata_value(state, MR_META_PARTITION, slot, &value);
	int64		partition;

	if (column == NULL)
		return -1;
	partition = column->type == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value);
	if (partition < 0 || partition > PG_INT32_MAX)
		bad_metadata(state, column, "Partition numbers are not negative and fit into an integer.");
	return (int32) partition;
}

static int64
message_timestamp(const ModifyState *state, TupleTableSlot *slot)
{
	Datum		value;
	const MrColumn *column = metadata_value(state, MR_META_TIMESTAMP, slot, &value);
	int64		usecs;

	if (column == NULL)
		return 0;
	usecs = DatumGetTimestamp(value) + MR_POSTGRES_EPOCH_USECS;
	if (TIMESTAMP_NOT_FINITE(DatumGetTimestamp(value)) || usecs < 1000)
		bad_metadata(state, column, "Timestamps of messages are finite and later than the beginning of 1970.");
	return usecs / 1000;
}

static void
refuse_offset(const ModifyState *state, TupleTableSlot *slot)
{
	Datum		value;
	const MrColumn *column = metadata_value(state, MR_META_OFFSET, slot, &value);

	if (column != NULL)
		bad_metadata(state, column, "The broker assigns offsets; a row to be inserted has null there.");
}

static void
message_key(const ModifyState *state, TupleTableSlot *slot, MrOutMessage *msg)
{
	Datum		value;
	const MrColumn *column = metadata_value(state, MR_META_KEY, slot, &value);
	struct varlena *key;

	if (column == NULL)
		return;
	key = PG_DETOAST_DATUM_PACKED(value);
	msg->key = VARDATA_ANY(key);
	msg->key_len = VARSIZE_ANY_EXHDR(key);
	if (column->type == TEXTOID)
	{
		char	   *utf8 = pg_server_to_any(msg->key, msg->key_len, PG_UTF8);

		if (utf8 != msg->key)
		{
			msg->key = utf8;
			msg->key_len = strlen(utf8);
		}
	}
}

/* text of a jsonb value in UTF-8; NULL for null */
static char *
header_text(const JsonbValue *value, size_t *len)
{
	char	   *text;

	switch (value->type)
	{
		case jbvNull:
			*len = 0;
			return NULL;
		case jbvString:
			text = pnstrdup(value->val.string.val, value->val.string.len);

			break;
		case jbvBool:
			text = pstrdup(value->val.boolean ? "true" : "false");

			break;
		case jbvNumeric:
			text = DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));

			break;
		default:
			text = JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);

			break;
	}
	text = pg_server_to_any(text, strlen(text), PG_UTF8);

	*len = strlen(text);
	return text;
}

static void
message_headers(const ModifyState *state, TupleTableSlot *slot, MrOutMessage *msg)
{
	Datum		datum;
	const MrColumn *column = metadata_value(state, MR_META_HEADERS, slot, &datum);
	Jsonb	   *jsonb;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;
	MrHeader   *headers;

	if (column == NULL)
		return;
	jsonb = DatumGetJsonbP(datum);
	if (!JB_ROOT_IS_OBJECT(jsonb))
		bad_metadata(state, column, "Headers are a JSON object of names and values.");

	headers = palloc(Max(JB_ROOT_COUNT(jsonb), 1) * sizeof(MrHeader));
	it = JsonbIteratorInit(&jsonb->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		MrHeader   *header = &headers[msg->nheaders];
		char	   *name;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		name = pnstrdup(key.val.string.val, key.val.string.len);
		header->name = pg_server_to_any(name, strlen(name), PG_UTF8);
		header->value = header_text(&value, &header->value_len);
		msg->nheaders++;
	}
	msg->headers = headers;
}

static void
message_value(ModifyState *state, TupleTableSlot *slot, MrOutMessage *msg)
{
	for (int i = 0; i < state->nvalues; i++)
	{
		int			att = state->value_columns[i]->attnum - 1;

		state->values[i] = slot->tts_values[att];
		state->isnull[i] = slot->tts_isnull[att];
	}
	resetStringInfo(&state->value);
	state->stream->format->encode(state->encoder, state->values, state->isnull, &state->value);
	msg->value = state->value.data;
	msg->value_len = state->value.len;
}

static TupleTableSlot *
exec_insert(EState *estate, ResultRelInfo *rinfo, TupleTableSlot *slot, TupleTableSlot *planSlot)
{
	ModifyState *state = rinfo->ri_FdwState;
	MemoryContext old = MemoryContextSwitchTo(state->row_context);
	MrOutMessage msg = {0};

	slot_getallattrs(slot);
	refuse_offset(state, slot);
	msg.partition = message_partition(state, slot);
	msg.timestamp_ms = message_timestamp(state, slot);
	message_key(state, slot, &msg);
	message_headers(state, slot, &msg);
	message_value(state, slot, &msg);
	mr_produce_append(state->target, &msg);

	MemoryContextSwitchTo(old);
	MemoryContextReset(state->row_context);
	return slot;
}

static void
explain_modify(ModifyTableState *mtstate, ResultRelInfo *rinfo, List *fdw_private,
			   int subplan_index, struct ExplainState *es)
{
	MrStream   *stream = mr_stream_get(RelationGetRelid(rinfo->ri_RelationDesc));

	ExplainPropertyText("Kafka Topic", stream->topic, es);
}

void
mr_fdw_modify_routine(FdwRoutine *routine)
{
	routine->PlanForeignModify = plan_modify;
	routine->BeginForeignModify = begin_modify;
	routine->BeginForeignInsert = begin_insert;
	routine->ExecForeignInsert = exec_insert;
	routine->EndForeignModify = end_insert;
	routine->EndForeignInsert = end_insert;
	routine->ExplainForeignModify = explain_modify;
	routine->IsForeignRelUpdatable = is_updatable;
	routine->ExecForeignTruncate = truncate_stream;
}
