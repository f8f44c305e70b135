/*
 * lock_wait.h
 *		What a process waits for that others have locked.
 */
#ifndef MR_LOCK_WAIT_H
#define MR_LOCK_WAIT_H

#include "millrace.h"

#include "storage/lockdefs.h"
#include "utils/timestamp.h"

/* shorter waits are everyday life, and not told */
#define MR_LOCK_WAIT_MS	1000

/* how long a process has been waiting for a lock, if for that long; 0: it does not */
extern TimestampTz mr_lock_wait_since(pid_t pid);

/* what it waits for and who has it, for people to read; NULL: nothing any more */
extern char *mr_lock_wait_describe(pid_t pid);

/* a lock on a relation, for people to read */
extern char *mr_lock_name(Oid relid, LOCKMODE mode);

/* does a process wait for a lock that we have, perhaps behind others who do?  Leaves memory. */
extern bool mr_lock_waits_for_us(pid_t pid);

#endif							/* MR_LOCK_WAIT_H */
