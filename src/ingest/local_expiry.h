/*
 * ingest/local_expiry.h
 *		Rows that leave views over streams inside of this database.
 */
#ifndef MR_INGEST_LOCAL_EXPIRY_H
#define MR_INGEST_LOCAL_EXPIRY_H

#include "millrace.h"

/*
 * Remove some of them, if it is time, in transactions of its own; *nap_ms becomes no longer
 * than until the next time.
 */
extern void mr_local_expire(long *nap_ms);

#endif							/* MR_INGEST_LOCAL_EXPIRY_H */
