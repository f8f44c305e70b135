/*
 * shmem.h
 *		What processes of millrace know of each other.
 */
#ifndef MR_SHMEM_H
#define MR_SHMEM_H

#include "millrace.h"

#include "portability/instr_time.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#define MR_ERROR_LENGTH		512
#define MR_PROGRESS_VARIABLES	64

/* as an error of what cannot be started for lack of a slot */
#define MR_SHORTAGE "no background worker slot is free: raise max_worker_processes"

typedef enum MrWorkerState
{
	MR_WORKER_FREE,				/* slot not in use */
	MR_WORKER_STARTING,
	MR_WORKER_RUNNING,
	MR_WORKER_CATCHING_UP,
	MR_WORKER_RETRYING,			/* in trouble, tries again */
	MR_WORKER_EXITED			/* supervisor has yet to look at it */
} MrWorkerState;

/*
 * One ingest process.  A slot is reserved by the supervisor of its database, filled by the
 * worker, and freed by the supervisor after the worker has exited.  Fields are read and
 * written under MrShared.lock, except counters, which only the worker writes and where a
 * reader may see a value of a moment ago.
 */
typedef struct MrWorkerSlot
{
	MrWorkerState state;
	Oid			database;
	Oid			stream;
	int64		feed;
	int			shard;			/* partitions p with p % nshards == shard */
	int			nshards;
	bool		catch_up;		/* feed is not the live one */
	uint32		generation;		/* how often it was reserved: a process that
								 * comes too late is another reservation's */
	pid_t		pid;			/* 0: not running (yet) */
	Latch	   *latch;
	bool		reload;			/* set by others: look at the catalog again */
	bool		shy;			/* has left others, or was in their way: that
								 * it waits for them is no reason to end what
								 * they do */
	int			exit_code;
	TimestampTz not_before;		/* supervisor: do not start again before */
	TimestampTz renewed_at;		/* to forget what it knew; kept for the next */
	char		last_error[MR_ERROR_LENGTH];	/* empty: none */
	Oid			blamed;			/* the view whose error it is, or InvalidOid */
	TimestampTz last_error_at;
	/* counters */
	int64		batches;
	int64		messages;
	double		decode_ms;
	double		aggregate_ms;
	double		merge_ms;
	double		commit_ms;
} MrWorkerSlot;

/* One database with a supervisor. */
typedef struct MrDatabaseSlot
{
	Oid			database;		/* InvalidOid: free */
	pid_t		pid;			/* supervisor, 0: not running */
	Latch	   *latch;
	bool		changed;		/* catalog changed since the supervisor looked */
	bool		shortage;		/* not all workers that it wants can be
								 * started: no slot is free */
	bool		crowded;		/* nor all that are to catch up:
								 * millrace.catchup_workers are at it */
} MrDatabaseSlot;

/* A database that some command wants for itself. */
typedef struct MrBlockedDatabase
{
	Oid			database;
	pid_t		pid;			/* who wants it */
} MrBlockedDatabase;

#define MR_MAX_BLOCKED 8

/* A view that a process could only get rid of by ending. */
typedef struct MrStubbornView
{
	Oid			database;		/* InvalidOid: free */
	Oid			view;
	bool		fails;			/* it may not go on by itself: that was the
								 * supervisor */
} MrStubbornView;

#define MR_MAX_STUBBORN 16

typedef struct MrShared
{
	LWLock	   *lock;
	pid_t		launcher_pid;
	Latch	   *launcher_latch;
	TimestampTz probe_after;	/* not before */
	bool		probe;			/* look for the extension in all databases
								 * again */
	bool		shortage;		/* the launcher found no slot for a supervisor */
	int			nslots;			/* length of databases and workers */
	MrBlockedDatabase blocked[MR_MAX_BLOCKED];
	MrStubbornView stubborn[MR_MAX_STUBBORN];	/* for the supervisors */
	ConditionVariable exits;	/* a supervisor or worker has exited */
	ConditionVariable progress[MR_PROGRESS_VARIABLES];	/* by stream */
	MrDatabaseSlot *databases;
	MrWorkerSlot workers[FLEXIBLE_ARRAY_MEMBER];
} MrShared;

extern MrShared *mr_shared;		/* NULL when not preloaded */

extern void mr_shmem_init(void);	/* in _PG_init, when preloading */

/* Counters of one view, or of a stream, since the server started; written by its workers. */
typedef struct MrCounters
{
	Oid			database;		/* these two are the key */
	Oid			relid;
	int64		rows_in;		/* a view: rows of streams that its plans have
								 * read */
	int64		rows_out;		/* a view: rows that they gave to the merge */
	int64		excess;			/* messages refused in excess of those taken,
								 * since they were even; a stream: that could
								 * not be decoded */
} MrCounters;

/*
 * All are silent about relations beyond what there is room for.  _count_rows: excess is how
 * much it changes; it does not fall below zero.  _excess: fallback for a relation without
 * counters.
 */
extern void mr_shmem_count_rows(Oid relid, int64 rows_in, int64 rows_out, int64 excess);
extern int64 mr_shmem_excess(Oid relid, int64 fallback);
extern void mr_shmem_forget_excess(Oid relid);
extern void mr_shmem_forget_counters(Oid relid);
extern void mr_shmem_forget_database(Oid database);
extern bool mr_shmem_counters(Oid relid, MrCounters *result);

/* after the current transaction has committed: let a database's supervisor look again */
extern void mr_shmem_wake_at_commit(Oid database);

/* the same at once; who waits for a stream's progress looks again, too */
extern void mr_shmem_wake(Oid database);

/* let the launcher look at all databases again: at once; after the current transaction has committed */
extern void mr_shmem_probe(void);
extern void mr_shmem_probe_at_commit(void);

/* is there no background worker slot free for all that should run in this database? */
extern bool mr_shmem_shortage(void);

/* are there more feeds to catch up than may at a time?  For a signal handler: takes no lock. */
extern bool mr_shmem_is_crowded(void);

/*
 * A view of this database that its process could not cancel; forgotten where too many are noted, as
 * it will come again.  _take: one of them, no longer noted; false: there is none.
 */
extern void mr_shmem_note_stubborn(Oid view, bool fails);
extern bool mr_shmem_take_stubborn(MrStubbornView *stubborn);

/* waiting for what a stream's workers do: positions, states */
extern ConditionVariable *mr_shmem_progress(Oid stream);

/* an error into a slot, no view's, cut where a character ends; the caller holds the lock if others see the slot */
extern void mr_shmem_set_error(MrWorkerSlot *slot, const char *error, TimestampTz at);

/*
 * A process of a database has exited.  Its supervisor looks at the slots of workers that have;
 * where there is none, nobody will, and they are free at once.
 */
extern void mr_shmem_exited(Oid database);

/* stop all processes of a database and keep them from starting until _unblock */
extern void mr_shmem_block_database(Oid database);
extern void mr_shmem_unblock_database(Oid database);
extern bool mr_shmem_is_blocked(Oid database);	/* caller holds the lock */

#endif							/* MR_SHMEM_H */
