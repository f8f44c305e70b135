/*
 * catalog_feed.c
 *		Feeds and their offsets in millrace's own tables; see catalog.c.
 *
 * Which feed is live, whose home it is, which Kafka cluster its offsets belong to, where it
 * stands in each partition, and how feeds part and join.  Which views follow a feed is changed
 * here, too, since that is what parting and joining are; everything else about views is
 * catalog_view.c's.
 *
 * Counters: those of a feed are how many messages of the partition ingest has taken from the
 * topic up to the feed's position, through whichever feeds it came there.  So they are copied
 * with a position, the larger ones stay where two feeds become one, and the stream's, which
 * must not fall, are the largest.
 *
 * Locking: whoever changes which views follow a feed, or copies its position, holds the feed's
 * heavyweight lock exclusively; a worker that moves its offsets has it in share mode.  After
 * that, rows of feeds are locked before rows that belong to views, in the order of their ids;
 * DROP VIEW, which needs no heavyweight lock, would deadlock with the others without that.
 */
#include "millrace.h"

#include "access/xlog.h"
#include "catalog_feed.h"
#include "catalog_feed_lock.h"
#include "catalog/pg_type.h"
#include "failpoint.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* is a feed this database's?  Its row may have been copied here. */
#define AT_HOME	MR_CATALOG_AT_HOME("f")

#define FEED_COLUMNS	"f.id, f.stream, f.live, f.generation, f.stopped, NOT " AT_HOME ", f.apart, f.log"

#define ADOPT \
	"UPDATE millrace.feed f SET home_cluster = $2, home_database = $3, home_extension = $4," \
	" generation = generation + 1"

/* a feed's offsets go with it */
#define DELETE_FEEDS(condition) \
	"WITH d AS (DELETE FROM millrace.feed f WHERE " condition " RETURNING f.id)" \
	" DELETE FROM millrace.feed_offset o USING d WHERE o.feed = d.id"

/* no view follows it */
#define UNUSED "NOT EXISTS (SELECT FROM millrace.view_stream s WHERE s.feed = f.id)"

void
mr_catalog_forget_orphans(void)
{
	mr_catalog_run_alone(DELETE_FEEDS("NOT " AT_HOME " AND " UNUSED), 0, NULL, NULL, NULL);
}

/* ---------- stopping, adopting, clusters ---------- */

void
mr_catalog_delete_stream(Oid stream)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(stream)};

	mr_catalog_run_alone("DELETE FROM millrace.view_stream WHERE stream = $1", 1, types, values, NULL);
	mr_catalog_run_alone(DELETE_FEEDS("f.stream = $1"), 1, types, values, NULL);
	mr_catalog_run_alone("DELETE FROM millrace.stream_status WHERE stream = $1", 1, types, values, NULL);
	mr_catalog_run_alone("DELETE FROM millrace.dead_letter WHERE stream = $1", 1, types, values, NULL);
	mr_catalog_run_alone("DELETE FROM millrace.gap WHERE stream = $1", 1, types, values, NULL);
}

char *
mr_catalog_feed_error(int64 feed, Oid *blamed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};
	MrCatalogScope scope;
	char	   *result = NULL;

	*blamed = InvalidOid;
	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT last_error, coalesce(blamed::oid, 0) FROM millrace.feed WHERE id = $1 AND stopped",
				   true, 1, types, values, NULL);
	if (SPI_processed > 0)
	{
		result = mr_catalog_text(0, 1, scope.caller);
		*blamed = DatumGetObjectId(mr_catalog_value(0, 2));
	}
	mr_catalog_end(&scope);
	return result;
}

void
mr_catalog_stop_feed(const MrFeed *feed, const char *error, Oid blamed)
{
	Oid			types[] = {INT8OID, TEXTOID, OIDOID};
	Datum		values[] = {Int64GetDatum(feed->id), CStringGetTextDatum(error), ObjectIdGetDatum(blamed)};
	const char *nulls = OidIsValid(blamed) ? NULL : "  n";

	mr_catalog_run_alone("UPDATE millrace.feed SET stopped = true, last_error = $2, blamed = $3, generation = generation + 1"
						 " WHERE id = $1", 3, types, values, nulls);
	mr_catalog_run_alone("INSERT INTO millrace.stream_status AS s (stream, last_error, last_error_at, blamed)"
						 " SELECT stream, $2, clock_timestamp(), $3 FROM millrace.feed WHERE id = $1"
						 " ON CONFLICT (stream) DO UPDATE SET last_error = excluded.last_error,"
						 " last_error_at = excluded.last_error_at, blamed = excluded.blamed", 3, types, values, nulls);
}

void
mr_catalog_restart_feed(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};

	mr_catalog_run_alone("UPDATE millrace.feed SET stopped = false, last_error = NULL, blamed = NULL, generation = generation + 1"
						 " WHERE id = $1", 1, types, values, NULL);
}

void
mr_catalog_adopt_stream(Oid stream)
{
	Oid			types[] = {OIDOID, INT8OID, OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(stream), MR_CATALOG_HERE};

	mr_catalog_run_alone(ADOPT " WHERE f.stream = $1 AND NOT " AT_HOME, 4, types, values, NULL);
}

/* views that share the feed stay behind: nobody has asked for them */
void
mr_catalog_adopt_view(Oid view)
{
	Oid			types[] = {OIDOID, INT8OID, OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view), MR_CATALOG_HERE};
	ListCell   *lc;

	mr_catalog_run_alone(ADOPT " WHERE NOT " AT_HOME " AND f.id IN (SELECT feed FROM millrace.view_stream WHERE view = $1)"
						 " AND NOT EXISTS (SELECT FROM millrace.view_stream s WHERE s.feed = f.id AND s.view <> $1)",
						 4, types, values, NULL);
	foreach(lc, mr_catalog_streams_of_view(view))
	{
		const MrFeed *feed = lfirst(lc);

		if (!feed->away)
			continue;
		mr_catalog_lock_feed(feed->id, ExclusiveLock);
		(void) mr_catalog_split_view(view, feed->stream, feed->id);
	}
	mr_catalog_forget_orphans();
}

void
mr_catalog_set_resume_offset(int64 feed, int32 partition, int64 offset, MrRecord last, MrRecord anchor)
{
	Oid			types[] = {INT8OID, INT4OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID};
	Datum		values[] = {Int64GetDatum(feed), Int32GetDatum(partition), Int64GetDatum(offset),
		Int64GetDatum(last.offset), Int64GetDatum((int64) last.checksum),
	Int64GetDatum(anchor.offset), Int64GetDatum((int64) anchor.checksum)};

	mr_catalog_run_alone("UPDATE millrace.feed_offset SET resume_offset = $3,"
						 " last_offset = nullif($4, -1), last_checksum = $5, anchor_offset = nullif($6, -1), anchor_checksum = $7"
						 " WHERE feed = $1 AND partition = $2", 7, types, values, NULL);
}

void
mr_catalog_lower_starts(int64 feed, int32 partition, int64 offset)
{
	Oid			types[] = {INT8OID, INT4OID, INT8OID};
	Datum		values[] = {Int64GetDatum(feed), Int32GetDatum(partition), Int64GetDatum(offset)};

	mr_catalog_run_alone("UPDATE millrace.view_start w SET from_offset = $3 FROM millrace.view_stream s"
						 " WHERE s.feed = $1 AND w.view = s.view AND w.stream = s.stream"
						 " AND w.partition = $2 AND w.from_offset > $3", 3, types, values, NULL);
}

void
mr_catalog_pass_gaps(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};

	mr_catalog_run_alone("WITH o AS (UPDATE millrace.feed_offset o SET next_offset = resume_offset,"
						 " resume_offset = NULL WHERE o.feed = $1 AND resume_offset IS NOT NULL RETURNING partition, next_offset)"
						 " UPDATE millrace.gap g SET passed = true FROM o, millrace.feed f"
						 " WHERE f.id = $1 AND g.stream = f.stream AND NOT g.passed"
						 " AND g.partition = o.partition AND g.to_offset = o.next_offset",
						 1, types, values, NULL);
}

MrFeedCluster *
mr_catalog_feed_cluster(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};
	MrFeedCluster *result = palloc0(sizeof(MrFeedCluster));
	MrCatalogScope scope;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT cluster, other_cluster FROM millrace.feed WHERE id = $1",
				   true, 1, types, values, NULL);
	if (SPI_processed > 0)
	{
		result->id = mr_catalog_text(0, 1, scope.caller);
		result->other = mr_catalog_text(0, 2, scope.caller);
	}
	mr_catalog_end(&scope);
	return result;
}

bool
mr_catalog_set_cluster(int64 feed, const char *from, const char *to)
{
	Oid			types[] = {INT8OID, TEXTOID, TEXTOID};
	Datum		values[] = {Int64GetDatum(feed), from ? CStringGetTextDatum(from) : (Datum) 0,
	CStringGetTextDatum(to)};

	return mr_catalog_run_alone("UPDATE millrace.feed SET cluster = $3, other_cluster = NULL"
								" WHERE id = $1 AND cluster IS NOT DISTINCT FROM $2",
								3, types, values, from ? "   " : " n ") == 1;
}

void
mr_catalog_set_other_cluster(int64 feed, const char *other)
{
	Oid			types[] = {INT8OID, TEXTOID};
	Datum		values[] = {Int64GetDatum(feed), other ? CStringGetTextDatum(other) : (Datum) 0};

	mr_catalog_run_alone("UPDATE millrace.feed SET other_cluster = $2 WHERE id = $1", 2, types, values, other ? NULL : " n");
}

int
mr_catalog_feed_partitions(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};
	MrCatalogScope scope;
	int			result = -1;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT partitions FROM millrace.feed WHERE id = $1 AND partitions IS NOT NULL", true, 1, types, values, NULL);
	if (SPI_processed > 0)
		result = DatumGetInt32(mr_catalog_value(0, 1));
	mr_catalog_end(&scope);
	return result;
}

bool
mr_catalog_change_feed_partitions(int64 feed, int from, int to)
{
	Oid			types[] = {INT8OID, INT4OID, INT4OID};
	Datum		values[] = {Int64GetDatum(feed), Int32GetDatum(from), Int32GetDatum(to)};

	return mr_catalog_run_alone("UPDATE millrace.feed SET partitions = $3 WHERE id = $1 AND coalesce(partitions, -1) = $2",
								3, types, values, NULL) == 1;
}

/* ---------- feeds ---------- */

#define TOPIC_OF_STREAM \
	"(SELECT o.option_value FROM pg_foreign_table t, pg_options_to_table(t.ftoptions) o" \
	" WHERE t.ftrelid = $1 AND o.option_name = 'topic')"

bool
mr_catalog_topic_changed(Oid stream)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(stream)};
	MrCatalogScope scope;
	bool		result;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT 1 FROM millrace.feed f JOIN millrace.view_stream s ON s.feed = f.id"
				   " WHERE f.stream = $1 AND f.topic IS DISTINCT FROM " TOPIC_OF_STREAM,
				   true, 1, types, values, NULL);
	result = SPI_processed > 0;
	mr_catalog_end(&scope);
	return result;
}

int64
mr_catalog_insert_feed(Oid stream)
{
	Oid			types[] = {OIDOID, INT8OID, OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(stream), MR_CATALOG_HERE};
	MrCatalogScope scope;
	int64		result;

	mr_catalog_begin(&scope);
	mr_catalog_run("INSERT INTO millrace.feed (stream, topic, home_cluster, home_database, home_extension)"
				   " VALUES ($1, " TOPIC_OF_STREAM ", $2, $3, $4) RETURNING id",
				   false, 4, types, values, NULL);
	result = DatumGetInt64(mr_catalog_value(0, 1));
	mr_catalog_end(&scope);
	return result;
}

void
mr_catalog_insert_feed_offset(int64 feed, int32 partition, int64 next_offset)
{
	Oid			types[] = {INT8OID, INT4OID, INT8OID};
	Datum		values[] = {Int64GetDatum(feed), Int32GetDatum(partition), Int64GetDatum(next_offset)};

	mr_catalog_run_alone("INSERT INTO millrace.feed_offset (feed, partition, next_offset, messages, bytes, tombstones, skipped)"
						 " SELECT $1, $2, $3, coalesce(max(o.messages), 0), coalesce(max(o.bytes), 0),"
						 " coalesce(max(o.tombstones), 0), coalesce(max(o.skipped), 0)"
						 " FROM millrace.feed f JOIN millrace.feed x ON x.stream = f.stream JOIN millrace.feed_offset o ON o.feed = x.id"
						 " WHERE f.id = $1 AND o.partition = $2 AND o.next_offset <= $3",
						 3, types, values, NULL);
}

bool
mr_catalog_begin_feed_partition(int64 feed, int32 partition, int64 next_offset)
{
	Oid			types[] = {INT8OID, INT4OID, INT8OID};
	Datum		values[] = {Int64GetDatum(feed), Int32GetDatum(partition), Int64GetDatum(next_offset)};

	return mr_catalog_run_alone("INSERT INTO millrace.feed_offset (feed, partition, next_offset) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
								3, types, values, NULL) == 1;
}

void
mr_catalog_bump_feed(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};

	mr_catalog_run_alone("UPDATE millrace.feed SET generation = generation + 1 WHERE id = $1",
						 1, types, values, NULL);
}

static List *
feeds_from(const char *sql, int nargs, const Oid *types, const Datum *values)
{
	MrCatalogScope scope;
	List	   *result = NIL;

	mr_catalog_begin(&scope);
	mr_catalog_run(sql, true, nargs, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(scope.caller);
		MrFeed	   *feed = palloc(sizeof(MrFeed));

		feed->id = DatumGetInt64(mr_catalog_value(i, 1));
		feed->stream = DatumGetObjectId(mr_catalog_value(i, 2));
		feed->live = DatumGetBool(mr_catalog_value(i, 3));
		feed->generation = DatumGetInt64(mr_catalog_value(i, 4));
		feed->stopped = DatumGetBool(mr_catalog_value(i, 5));
		feed->away = DatumGetBool(mr_catalog_value(i, 6));
		feed->apart = DatumGetBool(mr_catalog_value(i, 7));
		feed->log = DatumGetInt32(mr_catalog_value(i, 8));
		result = lappend(result, feed);
		MemoryContextSwitchTo(old);
	}
	mr_catalog_end(&scope);
	return result;
}

MrFeed *
mr_catalog_feed(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};
	List	   *feeds = feeds_from("SELECT " FEED_COLUMNS " FROM millrace.feed f"
								   " WHERE id = $1", 1, types, values);

	return feeds == NIL ? NULL : linitial(feeds);
}

List *
mr_catalog_feeds(void)
{
	return feeds_from("SELECT " FEED_COLUMNS " FROM millrace.feed f"
					  " WHERE EXISTS (SELECT FROM millrace.view_stream s"
					  " JOIN millrace.continuous_view v USING (view)"
					  " WHERE s.feed = f.id AND v.active AND NOT v.failed)"
					  " AND NOT f.stopped AND " AT_HOME
					  " ORDER BY f.live DESC, f.id", 0, NULL, NULL);
}

int64
mr_catalog_live_feed(Oid stream)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(stream)};
	List	   *feeds = feeds_from("SELECT " FEED_COLUMNS " FROM millrace.feed f"
								   " WHERE stream = $1 AND live", 1, types, values);

	return feeds == NIL ? 0 : ((MrFeed *) linitial(feeds))->id;
}

int64
mr_catalog_feed_of(Oid view, Oid stream)
{
	Oid			types[] = {OIDOID, OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view), ObjectIdGetDatum(stream)};
	List	   *feeds = feeds_from("SELECT " FEED_COLUMNS " FROM millrace.feed f"
								   " JOIN millrace.view_stream s ON s.feed = f.id"
								   " WHERE s.view = $1 AND s.stream = $2", 2, types, values);

	return feeds == NIL ? 0 : ((MrFeed *) linitial(feeds))->id;
}

List *
mr_catalog_streams_of_view(Oid view)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(view)};

	return feeds_from("SELECT " FEED_COLUMNS " FROM millrace.feed f"
					  " JOIN millrace.view_stream s ON s.feed = f.id WHERE s.view = $1"
					  " ORDER BY f.stream::oid", 1, types, values);
}

void
mr_catalog_set_feed_apart(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};

	mr_catalog_run_alone("UPDATE millrace.feed SET apart = true WHERE id = $1", 1, types, values, NULL);
}

void
mr_catalog_set_another_log(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};

	mr_catalog_run_alone("UPDATE millrace.feed SET log = log + 1 WHERE id = $1", 1, types, values, NULL);
}

/* from two columns; of all NULL, none */
static MrRecord
record_value(uint64 row, int col)
{
	MrRecord	result = MR_NO_RECORD;
	bool		isnull;
	Datum		offset = mr_catalog_column(row, col, &isnull);

	if (!isnull)
	{
		result.offset = DatumGetInt64(offset);
		result.checksum = (uint32) DatumGetInt64(mr_catalog_value(row, col + 1));
	}
	return result;
}

MrFeedOffset *
mr_catalog_offsets(const MrCatalogScope *scope, int *n)
{
	MrFeedOffset *result = MemoryContextAlloc(scope->caller,
											  sizeof(MrFeedOffset) * (SPI_processed + 1));

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		result[i].partition = DatumGetInt32(mr_catalog_value(i, 1));
		result[i].next_offset = DatumGetInt64(mr_catalog_value(i, 2));
		result[i].in_gap = SPI_tuptable->tupdesc->natts > 2 && DatumGetBool(mr_catalog_value(i, 3));
		result[i].last = SPI_tuptable->tupdesc->natts > 2 ? record_value(i, 4) : MR_NO_RECORD;
		result[i].anchor = SPI_tuptable->tupdesc->natts > 2 ? record_value(i, 6) : MR_NO_RECORD;
	}
	*n = (int) SPI_processed;
	return result;
}

MrFeedOffset *
mr_catalog_feed_offsets(int64 feed, bool lock, int *n)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};
	MrCatalogScope scope;
	MrFeedOffset *result;

	if (lock)
		mr_catalog_lock_feed(feed, ExclusiveLock);
	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT partition, next_offset, resume_offset IS NOT NULL, last_offset, last_checksum,"
				   " anchor_offset, anchor_checksum FROM millrace.feed_offset WHERE feed = $1"
				   " ORDER BY partition", true, 1, types, values, NULL);
	result = mr_catalog_offsets(&scope, n);
	mr_catalog_end(&scope);
	return result;
}

int64
mr_catalog_split_view(Oid view, Oid stream, int64 feed)
{
	int64		result = mr_catalog_insert_feed(stream);
	Oid			copy_types[] = {INT8OID, INT8OID};
	Datum		copy_values[] = {Int64GetDatum(result), Int64GetDatum(feed)};
	Oid			move_types[] = {INT8OID, OIDOID, OIDOID};
	Datum		move_values[] = {Int64GetDatum(result), ObjectIdGetDatum(view), ObjectIdGetDatum(stream)};

	mr_catalog_run_alone("UPDATE millrace.feed f SET cluster = o.cluster, other_cluster = o.other_cluster,"
						 " apart = o.apart, log = o.log, partitions = o.partitions FROM millrace.feed o WHERE f.id = $1 AND o.id = $2",
						 2, copy_types, copy_values, NULL);
	mr_catalog_run_alone("INSERT INTO millrace.feed_offset (feed, partition, next_offset, \"timestamp\", last_offset,"
						 " last_checksum, anchor_offset, anchor_checksum, resume_offset, messages, bytes, tombstones, skipped)"
						 " SELECT $1, partition, next_offset, \"timestamp\", last_offset,"
						 " last_checksum, anchor_offset, anchor_checksum, resume_offset, messages, bytes, tombstones, skipped"
						 " FROM millrace.feed_offset WHERE feed = $2",
						 2, copy_types, copy_values, NULL);
	MR_FAILPOINT("deactivate-offsets-copied");
	mr_catalog_run_alone("UPDATE millrace.view_stream SET feed = $1, reached = false WHERE view = $2 AND stream = $3",
						 3, move_types, move_values, NULL);
	MR_FAILPOINT("deactivate-view-moved");
	mr_catalog_bump_feed(feed);
	return result;
}

void
mr_catalog_set_trouble(int64 feed, const char *error, bool slow)
{
	Oid			types[] = {INT8OID, TEXTOID, BOOLOID};
	Datum		values[] = {Int64GetDatum(feed), CStringGetTextDatum(error), BoolGetDatum(slow)};

	mr_catalog_run_alone("UPDATE millrace.feed SET last_error = $2, slow = $3 WHERE id = $1", 3, types, values, NULL);
}

char *
mr_catalog_trouble(int64 feed, bool *slow)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};
	MrCatalogScope scope;
	char	   *result = NULL;

	mr_catalog_begin(&scope);
	mr_catalog_run("SELECT last_error, slow FROM millrace.feed WHERE id = $1 AND NOT stopped AND last_error IS NOT NULL",
				   true, 1, types, values, NULL);
	if (SPI_processed > 0)
	{
		result = mr_catalog_text(0, 1, scope.caller);
		*slow = DatumGetBool(mr_catalog_value(0, 2));
	}
	mr_catalog_end(&scope);
	return result;
}

void
mr_catalog_forget_trouble(int64 feed)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(feed)};

	mr_catalog_run_alone("UPDATE millrace.feed SET last_error = NULL, slow = false WHERE id = $1 AND NOT stopped",
						 1, types, values, NULL);
}

void
mr_catalog_lock_join(int64 from, int64 into)
{
	int64		both[] = {from, into};

	mr_catalog_lock_feed_rows_by_id(both, lengthof(both));
}

void
mr_catalog_carry_counters(int64 from, int64 into)
{
	Oid			types[] = {INT8OID, INT8OID};
	Datum		values[] = {Int64GetDatum(from), Int64GetDatum(into)};

	mr_catalog_run_alone("UPDATE millrace.feed_offset i SET messages = greatest(i.messages, o.messages),"
						 " bytes = greatest(i.bytes, o.bytes), tombstones = greatest(i.tombstones, o.tombstones),"
						 " skipped = greatest(i.skipped, o.skipped) FROM millrace.feed_offset o"
						 " WHERE i.feed = $2 AND o.feed = $1 AND o.partition = i.partition"
						 " AND (o.messages > i.messages OR o.bytes > i.bytes OR o.tombstones > i.tombstones OR o.skipped > i.skipped)",
						 2, types, values, NULL);
}

void
mr_catalog_join_feeds(int64 from, int64 into)
{
	Oid			types[] = {INT8OID, INT8OID};
	Datum		values[] = {Int64GetDatum(from), Int64GetDatum(into)};

	mr_catalog_lock_join(from, into);
	mr_catalog_run_alone("UPDATE millrace.view_stream SET feed = $2,"
						 " reached = (SELECT live FROM millrace.feed WHERE id = $2) WHERE feed = $1",
						 2, types, values, NULL);
	MR_FAILPOINT("catchup-views-moved");
	mr_catalog_carry_counters(from, into);
	mr_catalog_run_alone(DELETE_FEEDS("f.id = $1"), 1, types, values, NULL);
	mr_catalog_bump_feed(into);
}

/*
 * Feeds that no view follows.  With the feed's lock, and looking once more under it: a view may
 * just be joining.  A feed that somebody is at work with has time until the next round, and
 * one that is away as well, because a restore may be under way.
 */
bool
mr_catalog_forget_unused_feeds(void)
{
	Oid			types[] = {INT8OID};
	bool		result = true;
	ListCell   *lc;

	foreach(lc, feeds_from("SELECT " FEED_COLUMNS " FROM millrace.feed f WHERE " AT_HOME " AND " UNUSED " ORDER BY f.id",
						   0, NULL, NULL))
	{
		int64		id = ((MrFeed *) lfirst(lc))->id;
		Datum		values[] = {Int64GetDatum(id)};

		if (mr_catalog_try_lock_feed(id) && mr_catalog_try_lock_feed_rows_by_id(&id, 1) == 1)
			mr_catalog_run_alone(DELETE_FEEDS("f.id = $1 AND " UNUSED), 1, types, values, NULL);
		else
			result = false;
	}
	return result;
}

/*
 * Feeds that are live elsewhere, and those that are to be live here because none is, by stream: of
 * those that are well the one that has read the furthest, as all others wait for it to come as far.
 * One that has only begun there does not: it can join any.
 */
#define LIVE_AWAY \
	"(SELECT f.id FROM millrace.feed f WHERE f.live AND NOT " AT_HOME ")"
#define ELECTED \
	"(SELECT DISTINCT ON (f.stream::oid) f.id FROM millrace.feed f" \
	" WHERE " AT_HOME " AND NOT f.apart AND NOT f.stopped AND EXISTS" \
	" (SELECT FROM millrace.view_stream s JOIN millrace.continuous_view v USING (view)" \
	" WHERE s.feed = f.id AND v.active AND NOT v.failed AND (v.rebuilds IS NULL OR s.reached)) AND NOT EXISTS" \
	" (SELECT FROM millrace.feed l WHERE l.stream = f.stream AND l.live AND " MR_CATALOG_AT_HOME("l") ")" \
	" ORDER BY f.stream::oid, f.last_error IS NULL DESC," \
	" (SELECT coalesce(sum(o.next_offset), 0) FROM millrace.feed_offset o" \
	" WHERE o.feed = f.id AND o.last_offset IS NOT NULL) DESC, f.id)"

/* what has become of them by the time we have their rows counts */
bool
mr_catalog_elect_feeds(void)
{
	Oid			types[] = {INT8ARRAYOID};
	Datum		ids;
	MrCatalogScope scope;
	int64	   *feeds;
	int			n;
	int			nlocked;

	mr_catalog_begin(&scope);
	mr_catalog_run(LIVE_AWAY " UNION " ELECTED, false, 0, NULL, NULL, NULL);
	feeds = mr_catalog_int8_rows(&scope, 1, &n);
	nlocked = mr_catalog_try_lock_feed_rows_by_id(feeds, n);
	if (nlocked > 0)
	{
		ids = mr_catalog_int8_array(feeds, nlocked);
		mr_catalog_run("UPDATE millrace.feed SET live = false, generation = generation + 1"
					   " WHERE id = ANY ($1) AND id IN " LIVE_AWAY, false, 1, types, &ids, NULL);
		mr_catalog_run("UPDATE millrace.feed SET live = true, generation = generation + 1"
					   " WHERE id = ANY ($1) AND id IN " ELECTED " AND NOT EXISTS"
					   " (SELECT FROM millrace.feed l WHERE l.stream = feed.stream AND l.live)", false, 1, types, &ids, NULL);
	}
	mr_catalog_end(&scope);
	return nlocked == n;
}

/* sorted */
static bool
contains(const int64 *ids, int n, int64 id)
{
	return bsearch(&id, ids, n, sizeof(int64), mr_catalog_compare_ids) != NULL;
}

/* feeds that wait, and pairs of (from, into) among them */
#define WAITING_FEEDS \
	"SELECT f.id FROM millrace.feed f WHERE NOT f.live AND NOT f.apart AND NOT f.id = ANY ($1) AND " AT_HOME " ORDER BY f.id"
#define WAITING_PAIRS \
	"WITH w AS (SELECT f.id, f.stream, ARRAY(SELECT concat_ws(':', o.partition, o.next_offset, o.last_offset, o.last_checksum)" \
	" FROM millrace.feed_offset o WHERE o.feed = f.id ORDER BY o.partition) AS place," \
	" f.cluster, f.last_error IS NULL AS well, f.slow" \
	" FROM millrace.feed f WHERE f.id = ANY ($1) AND NOT f.stopped" \
	" AND (SELECT bool_and(v.active AND NOT v.failed) FROM millrace.view_stream s" \
	" JOIN millrace.continuous_view v USING (view) WHERE s.feed = f.id)), " \
	" g AS (SELECT id, min(id) OVER (PARTITION BY stream, cluster, place, well, slow) AS into FROM w)" \
	" SELECT id, \"into\" FROM g WHERE id <> \"into\""

bool
mr_catalog_merge_waiting_feeds(const int64 *served, int nserved)
{
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[1];
	MrCatalogScope scope;
	int64	   *waiting;
	int64	   *pairs;
	int64	   *all;
	int			n;
	int			nlocked = 0;
	bool		result = true;

	values[0] = mr_catalog_int8_array(served, nserved);
	mr_catalog_begin(&scope);
	mr_catalog_run(WAITING_FEEDS, true, 1, types, values, NULL);
	waiting = mr_catalog_int8_rows(&scope, 1, &n);
	/* those that somebody is changing are left alone */
	for (int i = 0; i < n; i++)
		if (mr_catalog_try_lock_feed(waiting[i]))
			waiting[nlocked++] = waiting[i];
	values[0] = mr_catalog_int8_array(waiting, nlocked);
	mr_catalog_run(WAITING_PAIRS, true, 1, types, values, NULL);
	pairs = mr_catalog_int8_rows(&scope, 2, &n);
	mr_catalog_end(&scope);
	all = palloc(sizeof(int64) * (2 * n + 1));
	memcpy(all, pairs, sizeof(int64) * 2 * n);
	nlocked = mr_catalog_try_lock_feed_rows_by_id(all, 2 * n);
	for (int i = 0; i < n; i++)
	{
		if (contains(all, nlocked, pairs[2 * i]) && contains(all, nlocked, pairs[2 * i + 1]))
			mr_catalog_join_feeds(pairs[2 * i], pairs[2 * i + 1]);
		else
			result = false;
	}
	return result;
}
