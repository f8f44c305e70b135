/*
 * supervisor.h
 *		The process that starts and watches the ingest workers of a database.
 */
#ifndef MR_SUPERVISOR_H
#define MR_SUPERVISOR_H

#include "postgres.h"

#include "fmgr.h"

/* entry point for background workers; argument: index of its slot among MrShared.databases */
extern PGDLLEXPORT void mr_supervisor_main(Datum arg);

#endif							/* MR_SUPERVISOR_H */
