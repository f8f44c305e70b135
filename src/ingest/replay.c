/*
 * replay.c
 *		millrace.replay: dead letters once more, each exactly once into what it missed.
 *
 * Runs in the caller's session and transaction, as a step without a broker: the letters'
 * messages are decoded, and each view takes those that it misses, as its owner.  A letter
 * that a view has taken goes in the same transaction as the view's change; one that fails
 * again stays, with the new error.  So whatever happens to the session, a message is either
 * a dead letter of a view or counted in it, and never both.
 *
 * Given a view instead of a stream, it feeds that view alone (and its shadow); a letter of no
 * view in particular stays for the others that miss it.
 *
 * Where the views' feeds stand does not matter: a letter lies behind all positions of the
 * views that miss it.  So views that are paused, failed or catching up take their letters
 * as well, and no feed is locked.
 *
 * Locking: one replay of a stream at a time (a heavyweight lock); then the views and matrels
 * by oid, so that nobody drops them, and no rebuild takes their place, before the letters are
 * read; then the letters' rows, all of them.  Merging locks out the workers of the same views, as theirs
 * does, until the caller's transaction ends.
 *
 * Which letters: the filter is run in a query over millrace.dead_letters with the caller's
 * rights.  It must be an expression: parsed by itself it is nothing else, so it cannot end
 * the parentheses that are put around it.
 */
#include "millrace.h"

#include "catalog_feed.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "failpoint.h"
#include "fmgr.h"
#include "ingest/dead_letter.h"
#include "ingest/intake.h"
#include "ingest/isolate.h"
#include "ingest/open.h"
#include "ingest/write.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "view/target.h"

#define LETTERS_AT_A_TIME	100
#define FILTER_PREFIX		"SELECT "

PG_FUNCTION_INFO_V1(mr_replay);

/* letters in hand, and what became of them */
typedef struct Replay
{
	MrIngest   *ingest;
	int			n;
	MrLetter	letters[LETTERS_AT_A_TIME];
	bool		wanted[LETTERS_AT_A_TIME];	/* by a view that is still there */
	bool		failed[LETTERS_AT_A_TIME];	/* for some view */
	bool		locked;			/* all views' contents */
	int64		succeeded;		/* letters, so far */
} Replay;

/* ---------- the filter ---------- */

/* a syntax error is one of the filter's text */
static void
filter_context(void *arg)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(Max(position - (int) strlen(FILTER_PREFIX), 1));
		internalerrquery(arg);
	}
	errcontext("filter of millrace.replay");
}

static bool
is_plain_expression(const List *statements)
{
	const SelectStmt *select;
	const ResTarget *target;

	if (list_length(statements) != 1 || !IsA(linitial_node(RawStmt, statements)->stmt, SelectStmt))
		return false;
	select = (const SelectStmt *) linitial_node(RawStmt, statements)->stmt;
	if (select->op != SETOP_NONE || list_length(select->targetList) != 1 ||
		select->distinctClause || select->intoClause || select->fromClause || select->whereClause ||
		select->groupClause || select->havingClause || select->windowClause || select->valuesLists ||
		select->sortClause || select->limitOffset || select->limitCount || select->lockingClause ||
		select->withClause)
		return false;
	target = linitial_node(ResTarget, select->targetList);
	return target->name == NULL && target->indirection == NIL;
}

static void
check_filter(char *filter)
{
	ErrorContextCallback callback = {error_context_stack, filter_context, filter};
	List	   *statements;

	error_context_stack = &callback;
	statements = raw_parser(psprintf(FILTER_PREFIX "%s\n", filter), RAW_PARSE_DEFAULT);
	error_context_stack = callback.previous;
	if (!is_plain_expression(statements))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("filter is not an expression: %s", filter),
				 errhint("Give a condition over the columns of millrace.dead_letters, for example view = 'v'::regclass.")));
}

/*
 * Ids of the letters of the stream (view: of those that this view misses) that the caller can
 * see and means: int8 array, or (Datum) 0 for none.
 */
static Datum
select_letters(Oid stream, Oid view, const char *filter)
{
	MemoryContext caller = CurrentMemoryContext;
	StringInfoData sql;
	Datum		result;
	bool		isnull;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT pg_catalog.array_agg(id ORDER BY id) FROM millrace.dead_letters"
					 " WHERE stream OPERATOR(pg_catalog.=) %u::pg_catalog.oid", stream);
	if (OidIsValid(view))
		appendStringInfo(&sql, " AND (view OPERATOR(pg_catalog.=) %u::pg_catalog.oid"
						 " OR %u::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (missed::pg_catalog.oid[]))",
						 view, view);
	if (filter != NULL)
		appendStringInfo(&sql, " AND (\n%s\n)", filter);
	SPI_connect();
	if (SPI_execute(sql.data, false, 0) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not select dead letters");
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(caller);

		result = PointerGetDatum(DatumGetArrayTypePCopy(result));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return isnull ? (Datum) 0 : result;
}

/* ---------- views ---------- */

/* lock a view and its parts; NULL: it is gone */
static MrView *
lock_view(Oid relid)
{
	MrView	   *view = mr_catalog_view(relid);

	if (view == NULL)
		return NULL;
	LockRelationOid(view->target, AccessShareLock);
	LockRelationOid(view->definition, AccessShareLock);
	LockRelationOid(OidIsValid(view->sink) ? view->sink : view->matrel, RowExclusiveLock);
	/* whatever has become of it while we waited */
	view = mr_catalog_view(relid);
	return view != NULL && get_rel_name(view->target) != NULL ? view : NULL;
}

/* only: leave out all others; NIL: none */
static List *
lock_views(const List *relids, const List *only)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, relids)
	{
		MrView	   *view = NULL;

		if (only == NIL || list_member_oid(only, lfirst_oid(lc)))
			view = lock_view(lfirst_oid(lc));
		if (view != NULL)
			result = lappend(result, view);
	}
	return result;
}

/* ---------- letters ---------- */

static bool
misses(const MrLetter *letter, Oid view)
{
	return OidIsValid(letter->view) ? letter->view == view : list_member_oid(letter->missed, view);
}

/* those that cannot be decoded stay as they are, but for the error */
static void
keep_rejected(Replay *replay)
{
	ListCell   *lc;

	foreach(lc, replay->ingest->profiles)
	{
		const MrBatch *batch = ((MrProfile *) lfirst(lc))->batch;

		for (int i = 0; i < batch->nrejected; i++)
		{
			const MrRejected *rejected = &batch->rejected[i];

			if (!replay->failed[rejected->message])
				mr_dead_letter_update(replay->letters[rejected->message].id, &rejected->reject);
			replay->failed[rejected->message] = true;
		}
	}
}

/* a letter that its view could not take stays; one that no view had becomes this view's */
static void
keep_refused(Replay *replay, const MrIsolation *isolation)
{
	const MrBatch *batch = isolation->view->profile->batch;

	for (int i = 0; i < isolation->nrefused; i++)
	{
		const MrRefusal *refused = &isolation->refused[i];
		int			at = batch->message[refused->row];

		if (OidIsValid(replay->letters[at].view))
			mr_dead_letter_update(replay->letters[at].id, &refused->reject);
		else
			mr_dead_letter_narrow(replay->letters[at].id, isolation->view->view->view,
								  &refused->reject);
		replay->failed[at] = true;
	}
}

static void
feed_view(Replay *replay, MrIngestView *view)
{
	const MrBatch *batch = view->profile->batch;
	MrIsolation isolation = {
		.ingest = replay->ingest,
		.view = view,
		.excess_limit = -1,
		.excluded = palloc0(sizeof(bool) * (batch->nrows + 1))
	};

	for (int i = 0; i < replay->n; i++)
		replay->wanted[i] = replay->wanted[i] || misses(&replay->letters[i], view->view->view);
	for (int row = 0; row < batch->nrows; row++)
		isolation.excluded[row] = !misses(&replay->letters[batch->message[row]], view->view->view);
	mr_isolate(&isolation);
	MR_FAILPOINT("replay-fed");
	keep_refused(replay, &isolation);
	view->rows_out = 0;
}

/*
 * A letter that has been fed.  One of no view in particular stays for others: such as are not meant,
 * and one that has caught up as far since we looked who misses it.
 */
static void
forget_letter(Replay *replay, const MrLetter *letter)
{
	List	   *fed = NIL;
	ListCell   *lc;

	if (OidIsValid(letter->view))
		mr_dead_letter_delete(letter->id);
	else
	{
		foreach(lc, replay->ingest->views)
			fed = lappend_oid(fed, ((const MrIngestView *) lfirst(lc))->view->view);
		mr_dead_letter_fed(letter->id, fed);
	}
	MR_FAILPOINT("replay-letter-deleted");
}

/*
 * All of them as soon as one message is to be fed: a worker locks them by oid in each step, and we may come to
 * the one or the other's letters at any time.
 */
static void
lock_all_contents(Replay *replay)
{
	bool		any = false;
	ListCell   *lc;

	for (int i = 0; i < replay->n; i++)
		any = any || !replay->failed[i];
	if (!any || replay->locked)
		return;
	foreach(lc, replay->ingest->views)
	{
		const MrView *view = ((const MrIngestView *) lfirst(lc))->view;

		if (OidIsValid(view->matrel))
			mr_catalog_lock_contents(view->view);
	}
	replay->locked = true;
}

/* decode, feed, and forget what succeeded */
static void
replay_in_hand(Replay *replay)
{
	MrMessage  *messages = palloc(sizeof(MrMessage) * replay->n);
	bool	   *rejected = palloc(sizeof(bool) * replay->n);
	ListCell   *lc;

	memset(replay->wanted, 0, sizeof(replay->wanted));
	memset(replay->failed, 0, sizeof(replay->failed));
	for (int i = 0; i < replay->n; i++)
		messages[i] = replay->letters[i].message;
	mr_intake_begin(replay->ingest);
	mr_intake_decode(replay->ingest, messages, replay->n);
	MR_FAILPOINT("replay-decoded");
	keep_rejected(replay);
	memcpy(rejected, replay->failed, sizeof(bool) * replay->n);
	lock_all_contents(replay);
	foreach(lc, replay->ingest->views)
		feed_view(replay, lfirst(lc));
	for (int i = 0; i < replay->n; i++)
	{
		if (!replay->wanted[i] || rejected[i] ||
			(replay->failed[i] && OidIsValid(replay->letters[i].view)))
			continue;
		replay->succeeded += !replay->failed[i];
		forget_letter(replay, &replay->letters[i]);
	}
}

static int64
replay_all(MrIngest *ingest, Datum ids)
{
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "millrace replay",
												ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(batch);
	Replay	   *replay = MemoryContextAllocZero(old, sizeof(Replay));
	const ArrayType *array = DatumGetArrayTypeP(ids);
	const int64 *all = (const int64 *) ARR_DATA_PTR(array);
	int			n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	replay->ingest = ingest;
	for (int done = 0; done < n; done += LETTERS_AT_A_TIME)
	{
		CHECK_FOR_INTERRUPTS();
		replay->n = mr_dead_letter_lock(ingest->stream->relid, all + done, Min(n - done, LETTERS_AT_A_TIME),
										replay->letters);
		if (replay->n > 0)
			replay_in_hand(replay);
		MemoryContextReset(batch);
	}
	MemoryContextSwitchTo(old);
	return replay->succeeded;
}

/* whatever happens, nothing that is opened here may be used afterwards */
static int64
replay_into(Oid stream, List *views, Datum ids)
{
	volatile int64 result = 0;

	PG_TRY();
	{
		result = replay_all(mr_ingest_open_views(stream, views), ids);
	}
	PG_CATCH();
	{
		MrTakePhase phase;

		(void) mr_ingest_after_error(&phase);
		mr_ingest_close();
		PG_RE_THROW();
	}
	PG_END_TRY();
	mr_ingest_close();
	return result;
}

/*
 * What the caller's transaction has put off must not be met where it looks like a message's
 * fault.
 */
static void
check_deferred(const List *views)
{
	ListCell   *lc;

	foreach(lc, views)
	{
		if (!OidIsValid(((const MrView *) lfirst(lc))->sink))
			continue;
		mr_write_defer_nothing();
		return;
	}
}

/* with everything selected: lock, open, feed; only: these views (of Oid), NIL: all */
static int64
replay_letters(Oid stream, Datum ids, List *only)
{
	List	   *views;

	LockRelationOid(stream, AccessShareLock);
	views = lock_views(mr_dead_letter_views(stream, ids), only);
	/* behind the views, as DROP VIEW does */
	mr_catalog_lock_letters(stream, ExclusiveLock);
	check_deferred(views);
	if (views == NIL)
		return 0;
	/* before any contents: a worker writes letters first, too */
	mr_dead_letter_lock_all(stream, ids);
	MR_FAILPOINT("replay-locked");
	return replay_into(stream, views, ids);
}

/* the stream that a view reads */
static Oid
stream_of(const MrView *view)
{
	List	   *feeds = mr_catalog_streams_of_view(view->view);

	if (feeds == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("continuous %s \"%s\" reads no topic", view->kind, get_rel_name(view->target)),
				 errdetail("Only messages of a topic can become dead letters.")));
	if (list_length(feeds) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("continuous %s \"%s\" reads several streams", view->kind, get_rel_name(view->target)),
				 errhint("Give one of the streams, and a filter over the columns view and missed of millrace.dead_letters.")));
	return ((const MrFeed *) linitial(feeds))->stream;
}

static List *
oids_of(const List *views)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, views)
		result = lappend_oid(result, ((const MrView *) lfirst(lc))->view);
	return result;
}

Datum
mr_replay(PG_FUNCTION_ARGS)
{
	Oid			relid = mr_target_relation(fcinfo);
	bool		is_stream;
	char	   *filter = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	List	   *views = mr_target_views(relid, &is_stream);
	Oid			stream;
	Datum		ids;

	mr_target_require_owner(relid);
	stream = is_stream ? relid : stream_of(linitial(views));
	if (mr_ingest_is_open())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot replay dead letters while messages are taken"),
				 errdetail("millrace.replay() was called by a trigger of a transform's target, or by a function in a view's query.")));
	mr_target_require_command("millrace.replay()");
	if (filter != NULL)
		check_filter(filter);
	ids = select_letters(stream, is_stream ? InvalidOid : relid, filter);
	PG_RETURN_INT64(DatumGetPointer(ids) == NULL ? 0 :
					replay_letters(stream, ids, is_stream ? NIL : oids_of(views)));
}
