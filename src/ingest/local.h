/*
 * ingest/local.h
 *		Streams inside of this database: what a transaction has added to them is in their views
 *		when it commits.
 */
#ifndef MR_INGEST_LOCAL_H
#define MR_INGEST_LOCAL_H

#include "millrace.h"

/* follow transactions; once in each process, when the library is loaded */
extern void mr_local_init(void);

#endif							/* MR_INGEST_LOCAL_H */
