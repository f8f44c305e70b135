/*
 * ingest/lock.c
 *		Locks that a step needs, tried with others in hand and waited for with none.
 *
 * Whatever a batch needs is locked before the offset rows, and never waited for with other
 * locks in hand, so DDL that locks the same relations in another order cannot meet us in a
 * deadlock.
 *
 * A lock that one view needs, and the others do not (on its matrel, or on a table that it
 * joins), is an error of that view after a while, and one that may pass: when it comes again
 * the view gets a feed and a worker of its own, which waits, and the others go on.
 *
 * Views that follow what a view tells take their rows when the step commits (local.c), with all its
 * locks in hand.  So they are locked beforehand, too.  They have no feed that they could leave:
 * a lock that is needed for them is needed by the view that they follow.
 */
#include "millrace.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog_table.h"
#include "ingest/local_view.h"
#include "ingest/lock.h"
#include "ingest/slot.h"
#include "ingest/take.h"
#include "lock_wait.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "transaction.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* so long all views wait for a lock that one of them needs, three times */
#define PATIENCE	"2s"

/* and the only view of a feed: then it looks whether others have joined it */
#define LONE_PATIENCE	"10s"

bool
mr_try_lock(Oid relid, LOCKMODE mode, MrBusy *busy)
{
	if (ConditionalLockRelationOid(relid, mode))
		return true;
	busy->relid = relid;
	busy->mode = mode;
	busy->view = InvalidOid;
	return false;
}

/* the relations that a query reads, by name as it were: not what is behind views */
static bool
collect_relations(Node *node, List **relids)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		if (((RangeTblEntry *) node)->rtekind == RTE_RELATION)
			*relids = list_append_unique_oid(*relids, ((RangeTblEntry *) node)->relid);
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, collect_relations, relids, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, collect_relations, relids);
}

/* with the view locked; it may have been dropped before */
static List *
relations_read(Oid view)
{
	Relation	rel = try_relation_open(view, NoLock);
	List	   *result = NIL;

	if (rel == NULL)
		return NIL;
	collect_relations((Node *) get_view_query(rel), &result);
	relation_close(rel, NoLock);
	return result;
}

static bool
try_lock_relations(const List *relids, MrBusy *busy)
{
	ListCell   *lc;

	foreach(lc, relids)
		if (!mr_try_lock(lfirst_oid(lc), AccessShareLock, busy))
		return false;
	return true;
}

/* what a locked definition reads, and what is behind views among that */
static bool
try_lock_read(Oid definition, MrBusy *busy)
{
	List	   *relids = relations_read(definition);

	/* the list grows */
	for (int i = 0; i < list_length(relids); i++)
	{
		Oid			relid = list_nth_oid(relids, i);

		if (!mr_try_lock(relid, AccessShareLock, busy))
			return false;
		if (get_rel_relkind(relid) == RELKIND_VIEW)
			relids = list_concat_unique_oid(relids, relations_read(relid));
	}
	return true;
}

/* the matrel, or a transform's sink, whose lock to write comes with the plan */
static bool
try_lock_contents(const MrView *view, LOCKMODE mode, MrBusy *busy)
{
	return OidIsValid(view->sink) ? mr_try_lock(view->sink, RowExclusiveLock, busy) :
		mr_try_lock(view->matrel, mode, busy);
}

bool
mr_try_lock_to_open(const MrView *view, MrBusy *busy)
{
	if (mr_try_lock(view->target, AccessShareLock, busy) &&
		mr_try_lock(view->definition, AccessShareLock, busy) &&
		try_lock_contents(view, AccessShareLock, busy) &&
		try_lock_read(view->definition, busy))
		return true;
	busy->view = view->view;
	return false;
}

bool
mr_try_lock_to_take(const MrIngestView *view, MrBusy *busy)
{
	if (mr_try_lock(view->view->target, AccessShareLock, busy) &&
		mr_try_lock(view->view->definition, AccessShareLock, busy) &&
		try_lock_contents(view->view, RowExclusiveLock, busy) &&
		(view->changes == NULL ||
		 mr_try_lock(mr_changes_table(view->changes), RowExclusiveLock, busy)) &&
		try_lock_relations(view->relations, busy))
		return true;
	busy->view = view->view->view;
	return false;
}

/* the stream inside of this database that the view adds rows to; InvalidOid: none, as of a shadow's changes */
static Oid
followed_table(const MrIngestView *view)
{
	Oid			sink = view->view->sink;

	if (view->changes)
		return view->view->target == view->view->view ? mr_changes_table(view->changes) : InvalidOid;
	return OidIsValid(sink) && get_rel_relkind(sink) != RELKIND_FOREIGN_TABLE ?
		mr_catalog_root_table(sink) : InvalidOid;
}

static List *
followers_of(const MrIngestView *view)
{
	Oid			table = followed_table(view);

	return OidIsValid(table) ? mr_local_views_of(table) : NIL;
}

bool
mr_try_lock_followers_contents(const List *followers)
{
	ListCell   *lc;

	foreach(lc, followers)
		if (!mr_catalog_try_lock_contents(lfirst_oid(lc)))
		return false;
	return true;
}

bool
mr_try_lock_followers(const MrIngestView *view, List **followers, MrBusy *busy)
{
	int			i = list_length(*followers);

	*followers = list_concat_unique_oid(*followers, followers_of(view));
	/* the list grows by those who follow them */
	for (; i < list_length(*followers); i++)
	{
		MrLocalView *local;

		if (!mr_local_view_try_open(list_nth_oid(*followers, i), &local, busy))
		{
			busy->view = view->view->view;
			return false;
		}
		if (local != NULL)
			*followers = list_concat_unique_oid(*followers, followers_of(local->view));
	}
	return true;
}

void
mr_set_lock_timeout(const char *value)
{
	(void) set_config_option("lock_timeout", value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
}

/* false: in vain */
static bool
lock_within(const MrBusy *busy, const char *timeout)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool result = true;

	mr_set_lock_timeout(timeout);
	PG_TRY();
	{
		LockRelationOid(busy->relid, busy->mode);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		result = false;
	}
	PG_END_TRY();
	return result;
}

/* a view that need not leave others */
static void
wait_alone(const MrBusy *busy)
{
	char	   *text = psprintf("waited in vain for %s", mr_lock_name(busy->relid, busy->mode));

	mr_slot_note_wait(busy->view, lock_within(busy, LONE_PATIENCE) ? NULL : text);
}

static void
wait_with_others(const MrBusy *busy)
{
	char	   *name = mr_lock_name(busy->relid, busy->mode);

	mr_take_blame(busy->view);
	if (!lock_within(busy, PATIENCE))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("waited in vain for %s", name)));
	mr_take_done();
}

void
mr_wait_for_lock(const MrBusy *busy, bool only_view)
{
	MemoryContext context = CurrentMemoryContext;

	mr_start_transaction();
	if (!OidIsValid(busy->view))
		LockRelationOid(busy->relid, busy->mode);
	else if (only_view)
		wait_alone(busy);
	else
		wait_with_others(busy);
	AbortCurrentTransaction();	/* there is nothing to keep */
	MemoryContextSwitchTo(context);
}
