/*
 * ingest/session.c
 *		What a process of ours is to the server and to the C library: settings, interrupts, memory.
 *
 * Settings are made again after each reload, since some of them follow millrace's own.
 */
#include "millrace.h"

#include "ingest/session.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/inval.h"

#include <limits.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#define KEPT_BLOCK_MAX		(32 * 1024 * 1024)	/* as large as mallopt takes
												 * it */

void
mr_session_settings(void)
{
	static const char *const settings[][2] = {
		{"synchronous_commit", "off"},	/* the broker still has what a crash
										 * loses */
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"transaction_timeout", "0"},	/* from 17 on */
		{"restrict_nonsystem_relation_kind", ""},	/* from minor releases on */
		{"session_replication_role", "origin"},
		{"row_security", "on"},
		{"jit", "off"},			/* costs more per batch than it gains */
		{"max_parallel_workers_per_gather", "0"},
		{"client_min_messages", "error"},
		{"search_path", "pg_catalog, pg_temp"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);

	/* rows take one half of batch_memory, hashing and sorting a quarter each */
	SetConfigOption("work_mem", psprintf("%d", mr_batch_memory / 4), PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("hash_mem_multiplier", "1", PGC_SUSET, PGC_S_OVERRIDE);
}

void
mr_session_serve_interrupts(void)
{
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	AcceptInvalidationMessages();	/* DDL, while no transaction would hear of
									 * it */
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		mr_session_settings();
	}
	if (!mr_enabled)
		proc_exit(0);
}

/*
 * Batches ask for the same large blocks again and again, and a kernel that has to clear their
 * pages anew each time takes a tenth of the worker's time.  So the C library keeps what was
 * freed, up to a batch's worth, until the stream is idle.
 */
void
mr_session_keep_memory(void)
{
#ifdef __GLIBC__
	(void) mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_MAX);
	(void) mallopt(M_TRIM_THRESHOLD, Min(mr_batch_memory, INT_MAX / 1024) * 1024);
#endif
}

void
mr_session_give_memory_back(void)
{
#ifdef __GLIBC__
	(void) malloc_trim(0);
#endif
}
