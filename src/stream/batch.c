/*
 * stream/batch.c
 *		Messages of one stream, decoded once for all views: rows and rejects.
 *
 * Owns the way from MrMessage to Datums: metadata columns are made here, the columns in a
 * message's value by the stream's format.  A message's value is always given to the format,
 * even when no column of it is wanted, so that a message that is no JSON at all is refused
 * whatever is asked for.
 *
 * Errors.  Most types are decoded without calling an input function, and then nothing here
 * throws for what a message holds.  Where input functions are called, the batch runs in one
 * internal subtransaction; a message that makes one throw is rejected, and decoding goes
 * on behind it in a new subtransaction.  The rows before it stay: they are plain memory, not
 * the subtransaction's.  So a batch costs one subtransaction and one more per such message.
 *
 * Which errors are the message's fault: data exceptions (22), constraint violations of
 * domains (23), limits such as nesting depth or array size (54), names that do not exist or
 * do not parse (42 and 3F, for reg* types, tsquery and the like; lack of privilege not), what a
 * type does not support of its own syntax (0A), and what a domain's own function raises (P0,
 * 20, 21, 38, 39, or codes of its author's).  Everything else, such as out of memory, a cancel, a
 * shutdown, a full disk, a deadlock or an internal error, says nothing of the message and goes
 * on to the caller.
 *
 * Memory: a batch's arrays live in the context that is current when it is created, and grow;
 * its Datums and the rejects' texts in a child of that, which wastes no memory on powers of
 * two.  The decoder lives in the context of its creation.
 */
#include "millrace.h"

#include "format/reject.h"
#include "stream/batch.h"
#include "stream/epoch.h"
#include "subtransaction.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SHOWN_KEY_BYTES		32

struct MrBatchDecoder
{
	Oid			relid;
	int			ncols;
	AttrNumber *attnums;
	const MrColumn **columns;	/* ncols; point into the stream */

	const MrFormat *format;
	MrDecoder  *decoder;
	int			nvalues;		/* columns that come from the value */
	int		   *value_cols;		/* nvalues: where each of them stands in a row */
	Datum	   *values;			/* nvalues: scratch, when a row has other
								 * columns too */
	bool	   *isnull;
	bool		can_throw;
};

/* where a run over the messages is; survives an error that it throws */
typedef struct DecodeProgress
{
	int			next;			/* message to be decoded, or being decoded */
	const MrColumn *column;		/* metadata column being made, or NULL */
} DecodeProgress;

/* what this process's scans of streams return; see batch.h */
static MrScanSource *scan_source = NULL;


void
mr_scan_source_set(MrScanSource *source)
{
	scan_source = source;
}

MrScanSource *
mr_scan_source(void)
{
	return scan_source;
}

void
mr_scan_source_run(const struct PlannedStmt *plan)
{
	if (scan_source != NULL)
		scan_source->plan = plan;
}

struct QueryEnvironment *
mr_scan_environment(void)
{
	return scan_source == NULL ? NULL : scan_source->environment;
}

/* Keys are taken as they are, unless the server's encoding makes a conversion necessary. */
static bool
key_needs_conversion(const MrColumn *column)
{
	return column->metadata == MR_META_KEY && column->type == TEXTOID &&
		GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII;
}

MrBatchDecoder *
mr_batch_decoder_create(const MrStream *stream, const Bitmapset *attrs)
{
	MrBatchDecoder *decoder = palloc0(sizeof(MrBatchDecoder));
	int			n = Max(bms_num_members(attrs), 1);
	const MrColumn **value_columns = palloc(n * sizeof(MrColumn *));
	int			attnum = -1;

	decoder->relid = stream->relid;
	decoder->format = stream->format;
	decoder->attnums = palloc(n * sizeof(AttrNumber));
	decoder->columns = palloc(n * sizeof(MrColumn *));
	decoder->value_cols = palloc(n * sizeof(int));
	decoder->values = palloc(n * sizeof(Datum));
	decoder->isnull = palloc(n * sizeof(bool));

	while ((attnum = bms_next_member(attrs, attnum)) >= 0)
	{
		const MrColumn *column;

		if (attnum < 1 || attnum > stream->natts ||
			stream->columns[attnum - 1].attnum == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("stream %s has no column number %d", stream->name, attnum)));

		column = &stream->columns[attnum - 1];
		if (column->metadata == MR_META_NONE)
		{
			value_columns[decoder->nvalues] = column;
			decoder->value_cols[decoder->nvalues++] = decoder->ncols;
		}
		else if (key_needs_conversion(column) || column->metadata == MR_META_HEADERS)
			decoder->can_throw = true;
		decoder->attnums[decoder->ncols] = attnum;
		decoder->columns[decoder->ncols++] = column;
	}

	decoder->decoder = decoder->format->create_decoder(value_columns, decoder->nvalues);
	if (decoder->format->can_throw(decoder->decoder))
		decoder->can_throw = true;
	return decoder;
}

/*
 * The reason why a message's key or timestamp cannot be shown; always false, for the
 * caller to return.
 */
static bool
reject_metadata(MrReject *reject, int sqlstate, char *text)
{
	reject->sqlstate = sqlstate;
	reject->text = text;

	return false;
}

static bool
decode_key(const MrColumn *column, const MrMessage *msg, Datum *value, MrReject *reject)
{
	const char *key = msg->key;
	size_t		len = msg->key_len;

	if (column->type == TEXTOID)
	{
		if (!pg_verify_mbstr(PG_UTF8, key, len, true))
			return reject_metadata(reject, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
								   psprintf("column \"%s\": message key is not valid UTF-8 text: \\x%s%s",
											column->name,
											TextDatumGetCString(DirectFunctionCall2(binary_encode,
																					PointerGetDatum(cstring_to_text_with_len(key, Min(len, SHOWN_KEY_BYTES))),
																					CStringGetTextDatum("hex"))),
											len > SHOWN_KEY_BYTES ? "..." : ""));
		if (key_needs_conversion(column))
		{
			key = pg_any_to_server(key, len, PG_UTF8);
			len = strlen(key);
		}
	}

	/* text and bytea are the same bytes */
	*value = PointerGetDatum(cstring_to_text_with_len(key, len));
	return true;
}

static bool
decode_timestamp(const MrColumn *column, const MrMessage *msg, Datum *value, MrReject *reject)
{
	int64		ms = msg->timestamp_ms;

	if (ms > MR_MAX_UNIX_MS)
		return reject_metadata(reject, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
							   psprintf("column \"%s\": message timestamp is out of range: %lld ms",
										column->name, (long long) ms));

	/* without time zone: UTC, so that it does not depend on who reads */
	*value = Int64GetDatum(ms * 1000 - MR_POSTGRES_EPOCH_USECS);
	return true;
}

static bool
decode_metadata(const MrColumn *column, const MrMessage *msg,
				Datum *value, bool *isnull, MrReject *reject)
{
	*isnull = false;
	switch (column->metadata)
	{
		case MR_META_PARTITION:
			*value = column->type == INT4OID ?
				Int32GetDatum(msg->partition) : Int64GetDatum((int64) msg->partition);
			return true;
		case MR_META_OFFSET:
			*value = Int64GetDatum(msg->offset);
			return true;
		case MR_META_TIMESTAMP:
			if (msg->timestamp_ms >= 0)
				return decode_timestamp(column, msg, value, reject);
			break;
		case MR_META_KEY:
			if (msg->key != NULL)
				return decode_key(column, msg, value, reject);
			break;
		case MR_META_HEADERS:
			*value = mr_message_headers(msg, isnull);
			return true;
		case MR_META_NONE:
			break;
	}
	*value = (Datum) 0;
	*isnull = true;
	return true;
}

/*
 * One message into one row.  False and *reject when it cannot be used; throws what input
 * functions throw, with *at telling the metadata column if it was one.
 */
static bool
decode_message(MrBatchDecoder *decoder, const MrMessage *msg,
			   Datum *values, bool *isnull, MrReject *reject, const MrColumn **at)
{
	bool		direct = decoder->nvalues == decoder->ncols;
	Datum	   *into = direct ? values : decoder->values;
	bool	   *into_null = direct ? isnull : decoder->isnull;

	*at = NULL;
	if (!decoder->format->decode(decoder->decoder, msg->value, msg->value_len,
								 into, into_null, reject))
		return false;
	if (direct)
		return true;

	for (int i = 0; i < decoder->nvalues; i++)
	{
		values[decoder->value_cols[i]] = into[i];
		isnull[decoder->value_cols[i]] = into_null[i];
	}
	for (int col = 0; col < decoder->ncols; col++)
	{
		const MrColumn *column = decoder->columns[col];

		if (column->metadata == MR_META_NONE)
			continue;
		*at = column;
		if (!decode_metadata(column, msg, &values[col], &isnull[col], reject))
			return false;
	}
	*at = NULL;
	return true;
}

static void
add_reject(MrBatch *batch, DecodeProgress *progress, const MrReject *reject)
{
	MrRejected *rejected;

	if (batch->nrejected == batch->rejected_size)
	{
		batch->rejected_size = Max(batch->rejected_size * 2, 16);
		batch->rejected = batch->rejected == NULL ?
			MemoryContextAlloc(batch->context, batch->rejected_size * sizeof(MrRejected)) :
			repalloc_huge(batch->rejected, batch->rejected_size * sizeof(MrRejected));
	}
	rejected = &batch->rejected[batch->nrejected++];
	rejected->message = progress->next;
	rejected->reject = *reject;
}

static void
add_row(MrBatch *batch, const MrMessage *msg, int message)
{
	batch->message[batch->nrows] = message;
	batch->partition[batch->nrows] = msg->partition;
	batch->time[batch->nrows] = msg->timestamp_ms;
	batch->offset[batch->nrows++] = msg->offset;
}

/* Decode from progress->next on to the end, in the current memory context. */
static void
decode_run(MrBatchDecoder *decoder, MrBatch *batch, DecodeProgress *progress)
{
	for (; progress->next < batch->nmessages; progress->next++)
	{
		const MrMessage *msg = &batch->messages[progress->next];
		size_t		at = (size_t) batch->nrows * decoder->ncols;
		MrReject	reject;

		if (msg->value == NULL)
			continue;			/* a tombstone */
		if (decode_message(decoder, msg, batch->values + at, batch->isnull + at,
						   &reject, &progress->column))
			add_row(batch, msg, progress->next);
		else
			add_reject(batch, progress, &reject);
	}
}

/* a code that SQL leaves to implementations, and the server does not use: its classes are 5x, 72 and XX */
static bool
is_users_own(int sqlstate)
{
	const char *state = unpack_sql_state(sqlstate);

	return ((state[0] >= '6' && state[0] <= '9') || (state[0] >= 'I' && state[0] <= 'Z')) &&
		strncmp(state, "72", 2) != 0 && strncmp(state, "XX", 2) != 0;
}

/* Does this error say something of the message?  See the head of this file. */
static bool
is_message_fault(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_FEATURE_NOT_SUPPORTED:
		case ERRCODE_CASE_NOT_FOUND:
		case ERRCODE_CARDINALITY_VIOLATION:
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case ERRCODE_EXTERNAL_ROUTINE_EXCEPTION:
		case ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
			return true;
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
			return sqlstate != ERRCODE_INSUFFICIENT_PRIVILEGE;
		default:
			return sqlstate == ERRCODE_INVALID_SCHEMA_NAME || is_users_own(sqlstate);
	}
}

/* What an input function threw, as the reason to refuse the message. */
static void
reject_from_error(MrBatchDecoder *decoder, const DecodeProgress *progress,
				  const ErrorData *edata, MrReject *reject)
{
	const MrColumn *column = progress->column;
	char	   *message = mr_clip_message(edata->message);

	if (column == NULL)
		column = decoder->format->current_column(decoder->decoder);
	reject->sqlstate = edata->sqlerrcode;
	reject->text = column == NULL ? message :
		psprintf("column \"%s\": %s", column->name, message);
}

/*
 * Like decode_run, in a subtransaction; returns behind the first message that made an input
 * function throw.
 */
static void
decode_run_protected(MrBatchDecoder *decoder, MrBatch *batch, DecodeProgress *progress)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		decode_run(decoder, batch, progress);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata = mr_subtransaction_failed(context, owner);
		MrReject	reject;

		if (!is_message_fault(edata->sqlerrcode))
			ReThrowError(edata);
		reject_from_error(decoder, progress, edata, &reject);
		FreeErrorData(edata);
		add_reject(batch, progress, &reject);
		progress->next++;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

MrBatch *
mr_batch_create(MrBatchDecoder *decoder)
{
	MrBatch    *batch = palloc0(sizeof(MrBatch));

	batch->relid = decoder->relid;
	batch->ncols = decoder->ncols;
	batch->attnums = decoder->attnums;
	batch->decoder = decoder;
	batch->context = CurrentMemoryContext;
	batch->data = GenerationContextCreate(CurrentMemoryContext, "millrace rows",
										  ALLOCSET_DEFAULT_SIZES);
	return batch;
}

static void *
grow(MrBatch *batch, void *array, Size size)
{
	return array == NULL ? MemoryContextAllocHuge(batch->context, size) : repalloc_huge(array, size);
}

/* Make room for n more rows. */
static void
reserve_rows(MrBatch *batch, int n)
{
	Size		rows;
	Size		cells;

	if (batch->values != NULL && batch->nrows + n <= batch->capacity)
		return;
	batch->capacity = Max(Max(batch->nrows + n, batch->capacity + batch->capacity / 2), 1);
	rows = batch->capacity;
	cells = rows * Max(batch->ncols, 1);
	batch->values = grow(batch, batch->values, cells * sizeof(Datum));
	batch->isnull = grow(batch, batch->isnull, cells * sizeof(bool));
	batch->partition = grow(batch, batch->partition, rows * sizeof(int32));
	batch->offset = grow(batch, batch->offset, rows * sizeof(int64));
	batch->time = grow(batch, batch->time, rows * sizeof(int64));
	batch->message = grow(batch, batch->message, rows * sizeof(int));
}

void
mr_batch_append(MrBatch *batch, const MrMessage *messages, int n)
{
	MrBatchDecoder *decoder = batch->decoder;
	MemoryContext old = MemoryContextSwitchTo(batch->data);
	DecodeProgress progress = {0};

	reserve_rows(batch, n);
	batch->messages = messages;
	batch->nmessages = n;
	batch->first_row = batch->nrows;
	batch->nrejected = 0;

	/*
	 * Before 17 there are no subtransactions while parallel workers run; a
	 * client's query with a Gather beside the scan gets the input function's
	 * error then.
	 */
	if (!decoder->can_throw || !mr_subtransactions_allowed())
		decode_run(decoder, batch, &progress);
	else
		while (progress.next < n)
			decode_run_protected(decoder, batch, &progress);
	MemoryContextSwitchTo(old);
}

MrBatch *
mr_batch_decode(MrBatchDecoder *decoder, const MrMessage *messages, int n)
{
	MrBatch    *batch = mr_batch_create(decoder);

	mr_batch_append(batch, messages, n);
	return batch;
}

/* 48 bits reach to the year 6429; what is later may be as late as that */
void
mr_batch_time_to_tid(int64 ms, ItemPointer tid)
{
	ms = Min(ms, ((int64) 1 << 47) - 1);
	ItemPointerSet(tid, (BlockNumber) (ms >> 16), (OffsetNumber) (ms & 0xFFFF));
}

int64
mr_batch_time_from_tid(const ItemPointerData *tid)
{
	int64		block = (int32) ItemPointerGetBlockNumberNoCheck(tid);

	return (int64) ((uint64) block << 16) | ItemPointerGetOffsetNumberNoCheck(tid);
}
