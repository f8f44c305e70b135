/*
 * offsets.c
 *		The rows of millrace.feed_offset that one worker owns.
 *
 * They are the only truth about what has been consumed, and the fence: a batch's
 * transaction begins by locking them and comparing them with the worker's own idea.  A
 * second worker on the same partitions, for whatever reason, finds other values after it
 * has waited, and nothing that it computed is committed.
 *
 * Before them the feed is locked, in share mode because its shards run side by side, and its
 * generation compared.  Whoever changes which views follow a feed, or copies its position,
 * holds that lock exclusively.  The offset rows alone would not do: a new feed has none, and
 * there may be partitions that nobody has met yet.
 *
 * With the offset goes what is needed to recognize the log that it belongs to: the message
 * that was taken last, and an older one, the anchor.  If both have become others, the log is
 * another one; if only the last has, the log has lost its end.
 */
#include "millrace.h"

#include "catalog/pg_type.h"
#include "catalog_feed_lock.h"
#include "elapsed.h"
#include "failpoint.h"
#include "ingest/offsets.h"
#include "stream/epoch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/*
 * An anchor is at least this much older than the last message, once there is such a one.  A replica
 * that is elected though it lags behind has lagged for more than half a minute (replica.lag.time.max.ms).
 */
#define ANCHOR_MS	120000

static bool
is_ours(const MrOffsets *offsets, int32 partition)
{
	return partition % offsets->nshards == offsets->shard;
}

static int
compare_positions(const void *a, const void *b)
{
	int32		pa = ((const MrPosition *) a)->partition;
	int32		pb = ((const MrPosition *) b)->partition;

	return (pa > pb) - (pa < pb);
}

/* nothing has been taken since the last commit */
static void
reset_position(MrPosition *position)
{
	position->new_offset = position->next_offset;
	position->new_last = position->last;
	position->new_anchor = position->anchor;
	position->moved = false;
	position->messages = 0;
	position->bytes = 0;
	position->tombstones = 0;
	position->skipped = 0;
	position->timestamp_ms = -1;
	position->message = NULL;
}

static void
init_position(MrPosition *position, const MrFeedOffset *row, bool stored)
{
	position->partition = row->partition;
	position->stored = stored;
	position->next_offset = row->next_offset;
	position->last = row->last;
	position->anchor = row->anchor;
	position->waiting = row->last;
	position->anchored_at = mr_steady_time();
	reset_position(position);
}

MrOffsets *
mr_offsets_load(const MrFeed *feed, int shard, int nshards)
{
	MrOffsets  *result = palloc0(sizeof(MrOffsets));
	int			n;
	MrFeedOffset *rows = mr_catalog_feed_offsets(feed->id, false, &n);

	result->feed = feed->id;
	result->generation = feed->generation;
	result->shard = shard;
	result->nshards = nshards;
	result->positions = palloc(sizeof(MrPosition) * (n + 1));
	for (int i = 0; i < n; i++)
		if (is_ours(result, rows[i].partition))
			init_position(&result->positions[result->n++], &rows[i], true);
	return result;
}

MrPosition *
mr_offsets_find(MrOffsets *offsets, int32 partition)
{
	MrPosition	key = {.partition = partition};

	if (offsets->n == 0)
		return NULL;
	return bsearch(&key, offsets->positions, offsets->n, sizeof(MrPosition), compare_positions);
}

static void
add_position(MrOffsets *offsets, const MrFeedOffset *row, bool stored)
{
	Assert(is_ours(offsets, row->partition));
	offsets->positions = repalloc(offsets->positions, sizeof(MrPosition) * (offsets->n + 2));
	init_position(&offsets->positions[offsets->n++], row, stored);
	qsort(offsets->positions, offsets->n, sizeof(MrPosition), compare_positions);
}

void
mr_offsets_add(MrOffsets *offsets, int32 partition, int64 next_offset)
{
	MrFeedOffset row = {
		.partition = partition,
		.next_offset = next_offset,
		.last = MR_NO_RECORD,
		.anchor = MR_NO_RECORD
	};

	add_position(offsets, &row, false);
}

void
mr_offsets_load_new(MrOffsets *offsets)
{
	int			n;
	MrFeedOffset *rows = mr_catalog_feed_offsets(offsets->feed, false, &n);

	for (int i = 0; i < n; i++)
		if (is_ours(offsets, rows[i].partition) && !mr_offsets_find(offsets, rows[i].partition))
			add_position(offsets, &rows[i], true);
}

/* do the locked rows say what we believe? */
static bool
rows_agree(const MrOffsets *offsets)
{
	int			row = 0;

	for (int i = 0; i < offsets->n; i++)
	{
		const MrPosition *position = &offsets->positions[i];
		bool		isnull;

		if (!position->stored)
			continue;
		if (row >= (int) SPI_processed)
			return false;
		if (position->partition != DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1, &isnull)) ||
			position->next_offset != DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 2, &isnull)))
			return false;
		row++;
	}
	return row == (int) SPI_processed;
}

bool
mr_offsets_lock_feed(MrOffsets *offsets)
{
	Oid			types[] = {INT8OID, INT8OID};
	Datum		values[] = {Int64GetDatum(offsets->feed), Int64GetDatum(offsets->generation)};
	MrCatalogScope scope;
	bool		result;

	mr_catalog_lock_feed(offsets->feed, ShareLock);
	mr_catalog_lock_to_write("feed");
	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT 1 FROM millrace.feed WHERE id = $1 AND generation = $2",
				   true, 2, types, values, NULL);
	result = SPI_processed == 1;
	mr_catalog_end(&scope);
	return result;
}

bool
mr_offsets_lock(MrOffsets *offsets)
{
	Oid			types[] = {INT8OID, INT4OID, INT4OID};
	Datum		values[] = {Int64GetDatum(offsets->feed), Int32GetDatum(offsets->nshards),
	Int32GetDatum(offsets->shard)};
	MrCatalogScope scope;
	bool		result;

	mr_catalog_lock_to_write("feed_offset");
	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT partition, next_offset FROM millrace.feed_offset"
				   " WHERE feed = $1 AND partition % $2 = $3 ORDER BY partition FOR UPDATE",
				   false, 3, types, values, NULL);
	result = rows_agree(offsets);
	mr_catalog_end(&scope);
	return result;
}

void
mr_offsets_reset(MrOffsets *offsets)
{
	for (int i = 0; i < offsets->n; i++)
		reset_position(&offsets->positions[i]);
}

/*
 * Of a portion only the last message of each partition is looked at.  The first ever becomes
 * the anchor; later on an anchor is replaced by what was the last message some time ago.
 */
static void
remember_last(MrPosition *position)
{
	TimestampTz now = mr_steady_time();

	if (position->message == NULL)
		return;
	if (position->anchor.offset < 0)
		position->new_anchor = position->last;
	else if (TimestampDifferenceExceeds(position->anchored_at, now, ANCHOR_MS))
	{
		/* none has waited where the log has just begun, or begun again */
		if (position->waiting.offset >= 0)
			position->new_anchor = position->waiting;
		position->waiting = position->last;
		position->anchored_at = now;
	}
	position->new_last.offset = position->message->offset;
	position->new_last.checksum = mr_message_checksum(position->message);
	position->message = NULL;
}

void
mr_offsets_move(MrPosition *position, int64 offset, MrRecord last, MrRecord anchor)
{
	position->new_offset = offset;
	position->new_last = last;
	position->new_anchor = anchor;
	position->waiting = MR_NO_RECORD;
	position->moved = true;
}

void
mr_offsets_count(MrOffsets *offsets, const MrMessage *messages, int n)
{
	MrPosition *position = NULL;

	for (int i = 0; i < n; i++)
	{
		const MrMessage *message = &messages[i];

		if (position == NULL || position->partition != message->partition)
			position = mr_offsets_find(offsets, message->partition);
		if (position == NULL)
			elog(ERROR, "message of partition %d, which is not assigned", message->partition);
		if (message->offset < position->new_offset)
			elog(ERROR, "message at offset %lld of partition %d came again",
				 (long long) message->offset, message->partition);
		position->new_offset = message->offset + 1;
		position->messages++;
		position->bytes += message->key_len + message->value_len;
		position->timestamp_ms = message->timestamp_ms;
		position->message = message;
		if (message->value == NULL)
			position->tombstones++;
	}
	for (int i = 0; i < offsets->n; i++)
		remember_last(&offsets->positions[i]);
}

static bool
position_dirty(const MrPosition *position)
{
	return !position->stored || position->moved || position->new_offset != position->next_offset;
}

bool
mr_offsets_dirty(const MrOffsets *offsets)
{
	for (int i = 0; i < offsets->n; i++)
		if (position_dirty(&offsets->positions[i]))
			return true;
	return false;
}

/* one array for each of these */
#define STORED_COLUMNS	11
#define STORED_AS \
	" FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS u(partition, next_offset, messages, bytes," \
	" tombstones, ms, last_offset, last_checksum, anchor_offset, anchor_checksum, skipped)"

static int
collect_arrays(const MrOffsets *offsets, bool stored, Datum *arrays)
{
	int64	   *columns[STORED_COLUMNS];
	int			n = 0;

	for (int c = 0; c < STORED_COLUMNS; c++)
		columns[c] = palloc(sizeof(int64) * (offsets->n + 1));
	for (int i = 0; i < offsets->n; i++)
	{
		const MrPosition *position = &offsets->positions[i];

		if (!position_dirty(position) || position->stored != stored)
			continue;
		columns[0][n] = position->partition;
		columns[1][n] = position->new_offset;
		columns[2][n] = position->messages;
		columns[3][n] = position->bytes;
		columns[4][n] = position->tombstones;
		columns[5][n] = Min(position->timestamp_ms, MR_MAX_UNIX_MS);
		columns[6][n] = position->new_last.offset;
		columns[7][n] = position->new_last.checksum;
		columns[8][n] = position->new_anchor.offset;
		columns[9][n] = position->new_anchor.checksum;
		columns[10][n] = position->skipped;
		n++;
	}
	for (int c = 0; c < STORED_COLUMNS; c++)
		arrays[c + 1] = mr_catalog_int8_array(columns[c], n);
	arrays[0] = Int64GetDatum(offsets->feed);
	return n;
}

void
mr_offsets_store(MrOffsets *offsets)
{
	Oid			types[1 + STORED_COLUMNS] = {INT8OID};
	Datum		arrays[1 + STORED_COLUMNS];
	MrCatalogScope scope;

	for (int c = 0; c < STORED_COLUMNS; c++)
		types[1 + c] = INT8ARRAYOID;

	mr_catalog_begin(&scope);
	if (collect_arrays(offsets, true, arrays) > 0)
		mr_catalog_run("UPDATE millrace.feed_offset o SET next_offset = u.next_offset,"
					   " messages = o.messages + u.messages, bytes = o.bytes + u.bytes,"
					   " tombstones = o.tombstones + u.tombstones, skipped = o.skipped + u.skipped,"
					   " \"timestamp\" = CASE WHEN u.ms < 0 THEN o.\"timestamp\" ELSE to_timestamp(u.ms / 1000.0) END,"
					   " last_offset = nullif(u.last_offset, -1), last_checksum = u.last_checksum,"
					   " anchor_offset = nullif(u.anchor_offset, -1), anchor_checksum = u.anchor_checksum"
					   STORED_AS
					   " WHERE o.feed = $1 AND o.partition = u.partition",
					   false, 1 + STORED_COLUMNS, types, arrays, NULL);
	MR_FAILPOINT("step-offsets-updated");
	if (collect_arrays(offsets, false, arrays) > 0)
		mr_catalog_run("INSERT INTO millrace.feed_offset"
					   " (feed, partition, next_offset, messages, bytes, tombstones, \"timestamp\","
					   " last_offset, last_checksum, anchor_offset, anchor_checksum, skipped)"
					   " SELECT $1, u.partition, u.next_offset, u.messages, u.bytes, u.tombstones,"
					   " CASE WHEN u.ms >= 0 THEN to_timestamp(u.ms / 1000.0) END,"
					   " nullif(u.last_offset, -1), u.last_checksum, nullif(u.anchor_offset, -1), u.anchor_checksum, u.skipped"
					   STORED_AS,
					   false, 1 + STORED_COLUMNS, types, arrays, NULL);
	mr_catalog_end(&scope);
}

void
mr_offsets_committed(MrOffsets *offsets)
{
	for (int i = 0; i < offsets->n; i++)
	{
		MrPosition *position = &offsets->positions[i];

		position->stored = true;
		position->next_offset = position->new_offset;
		position->last = position->new_last;
		position->anchor = position->new_anchor;
		reset_position(position);
	}
}
