/*
 * ingest/worker.h
 *		The ingest process.
 */
#ifndef MR_INGEST_WORKER_H
#define MR_INGEST_WORKER_H

#include "postgres.h"

#include "fmgr.h"

/* entry point for background workers; argument: index of its slot in shared memory */
extern PGDLLEXPORT void mr_worker_main(Datum arg);

#endif							/* MR_INGEST_WORKER_H */
