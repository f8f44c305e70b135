/*
 * launcher.h
 *		The process that starts supervisors, and what these share with it.
 */
#ifndef MR_LAUNCHER_H
#define MR_LAUNCHER_H

#include "millrace.h"

#include "postmaster/bgworker.h"
#include "shmem.h"
#include "wait_event.h"

#define MR_LOOK_INTERVAL_MS		10000	/* a look without being asked */
#define MR_RETRY_INTERVAL_MS	1000	/* between attempts to start what
										 * failed */

extern void mr_launcher_register(void); /* in _PG_init, when preloading */

/* what every process of ours is; argument and whom to notify are left to the caller */
extern void mr_launcher_describe(BackgroundWorker *worker, const char *function, const char *name,
								 const char *type);

/* wait for the latch, a timeout or the postmaster's end; serve interrupts and reloads */
extern void mr_launcher_nap(long timeout_ms, MrWaitEvent event);

/* a shortage of slots is told in the log when it begins, and to whoever looks while it lasts */
extern void mr_launcher_note_shortage(bool *shortage, bool now);

/* ask the launcher for a look, but not at once: what failed may fail again */
extern void mr_launcher_probe_later(void);

/* a supervisor is gone, or could not be started; slot: its index in MrShared.databases */
extern void mr_launcher_free_database(int slot);

#endif							/* MR_LAUNCHER_H */
