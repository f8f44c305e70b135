/*
 * ingest/session.h
 *		What a process of ours is to the server and to the C library.
 */
#ifndef MR_INGEST_SESSION_H
#define MR_INGEST_SESSION_H

#include "millrace.h"

/*
 * Settings that no ALTER DATABASE or ALTER SYSTEM may bend for our processes.  Before they connect,
 * which takes a transaction already.
 */
extern void mr_session_settings(void);

/* interrupts, reloads, changes of the catalog; never with a transaction open */
extern void mr_session_serve_interrupts(void);

/* have the C library keep what is freed, and give all of it back to the kernel */
extern void mr_session_keep_memory(void);
extern void mr_session_give_memory_back(void);

#endif							/* MR_INGEST_SESSION_H */
