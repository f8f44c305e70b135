/*
 * millrace.h
 *		What every module may know: settings, names, and the types that have no
 *		better home.
 */
#ifndef MILLRACE_H
#define MILLRACE_H

#include "postgres.h"

#include "compat.h"

#define MR_EXTENSION	"millrace"
#define MR_SCHEMA		"millrace"
#define MR_FDW			"millrace"

/* settings, defined in init.c; units are those of the setting */
extern PGDLLIMPORT bool mr_enabled;
extern PGDLLIMPORT int mr_commit_interval;	/* ms */
extern PGDLLIMPORT int mr_batch_messages;
extern PGDLLIMPORT int mr_batch_memory; /* kB */
extern PGDLLIMPORT int mr_retry_max_interval;	/* ms */
extern PGDLLIMPORT int mr_catchup_workers;
extern PGDLLIMPORT int mr_dead_letter_limit;
extern PGDLLIMPORT int mr_view_timeout;
extern PGDLLIMPORT int mr_state_memory; /* kB */
extern PGDLLIMPORT bool mr_allow_growing_states;
extern PGDLLIMPORT bool mr_executor_aggregation;

/* true once the library was loaded by shared_preload_libraries */
extern bool mr_preloaded(void);

#endif							/* MILLRACE_H */
