/*
 * lock_wait.c
 *		What a process waits for that others have locked.
 *
 * A worker that waits for a lock cannot say so: it sleeps in the server's lock manager.  So
 * whoever looks at it finds out by himself, from what the lock manager knows.
 */
#include "millrace.h"

#include "access/genam.h"
#include "catalog/namespace.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "lock_wait.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#define QUEUE_LENGTH	32		/* processes that wait for each other: to ask
								 * for one locks all of the lock manager */

TimestampTz
mr_lock_wait_since(pid_t pid)
{
	PGPROC	   *proc = pid == 0 ? NULL : BackendPidGetProc(pid);
	TimestampTz since = proc == NULL ? 0 : (TimestampTz) pg_atomic_read_u64(&proc->waitStart);

	if (since == 0 || !TimestampDifferenceExceeds(since, GetCurrentTimestamp(), MR_LOCK_WAIT_MS))
		return 0;
	return since;
}

/* NULL: there is none of that OID */
static char *
relation_name(Oid relid)
{
	char	   *name = get_rel_name(relid);
	char	   *namespace = name == NULL ? NULL : get_namespace_name(get_rel_namespace(relid));

	return namespace == NULL ? NULL : quote_qualified_identifier(namespace, name);
}

char *
mr_lock_name(Oid relid, LOCKMODE mode)
{
	char	   *name = relation_name(relid);

	if (name == NULL)
		name = psprintf("%u", relid);
	return psprintf("%s on relation %s", GetLockmodeName(DEFAULT_LOCKMETHOD, mode), name);
}

static char *
name_of_tag(const LOCKTAG *tag, LOCKMODE mode)
{
	StringInfoData text;
	char	   *table = NULL;

	if (tag->locktag_type == LOCKTAG_RELATION && tag->locktag_field1 == MyDatabaseId)
		return mr_lock_name(tag->locktag_field2, mode);
	if (tag->locktag_type == LOCKTAG_OBJECT && tag->locktag_field1 == MyDatabaseId)
		table = relation_name(tag->locktag_field2);
	initStringInfo(&text);
	appendStringInfo(&text, "%s on ", GetLockmodeName(tag->locktag_lockmethodid, mode));
	if (table != NULL)
		appendStringInfo(&text, "%u of %s", tag->locktag_field3, table);
	else
		DescribeLockTag(&text, tag);
	return text.data;
}

static const int32 *
processes_in_the_way(pid_t pid, int *n)
{
	ArrayType  *pids = DatumGetArrayTypeP(OidFunctionCall1(F_PG_BLOCKING_PIDS, Int32GetDatum(pid)));

	*n = ArrayGetNItems(ARR_NDIM(pids), ARR_DIMS(pids));
	return (const int32 *) ARR_DATA_PTR(pids);
}

/* queue (of int) grows by those that one of it waits for, each once; true: that is us */
static bool
append_who_is_in_the_way(List **queue, pid_t pid)
{
	PGPROC	   *proc = BackendPidGetProc(pid);
	const int32 *pids;
	int			n;

	if (proc == NULL || pg_atomic_read_u64(&proc->waitStart) == 0)
		return false;
	pids = processes_in_the_way(pid, &n);
	for (int i = 0; i < n; i++)
	{
		if (pids[i] == MyProcPid)
			return true;
		*queue = list_append_unique_int(*queue, pids[i]);
	}
	return false;
}

bool
mr_lock_waits_for_us(pid_t pid)
{
	List	   *queue = list_make1_int(pid);

	for (int i = 0; i < list_length(queue) && i < QUEUE_LENGTH; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (append_who_is_in_the_way(&queue, list_nth_int(queue, i)))
			return true;
	}
	return false;
}

/* " held by process 1, 2": those in the way, or "" */
static char *
name_holders(pid_t pid)
{
	int			n;
	const int32 *values = processes_in_the_way(pid, &n);
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < n; i++)
		appendStringInfo(&text, "%s%d", i == 0 ? ", which others have locked: process " : ", ", values[i]);
	return text.data;
}

char *
mr_lock_wait_describe(pid_t pid)
{
	LockData   *locks = GetLockStatusData();

	for (int i = 0; i < locks->nelements; i++)
	{
		const LockInstanceData *lock = &locks->locks[i];

		if (lock->pid == pid && lock->waitLockMode != NoLock)
			return psprintf("waiting for %s%s", name_of_tag(&lock->locktag, lock->waitLockMode),
							name_holders(pid));
	}
	return NULL;
}
