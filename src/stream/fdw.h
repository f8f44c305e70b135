/*
 * stream/fdw.h
 *		The foreign-data wrapper's parts, and what its plans carry.
 */
#ifndef MR_STREAM_FDW_H
#define MR_STREAM_FDW_H

#include "millrace.h"

#include "foreign/fdwapi.h"

/*
 * A ForeignScan's fdw_private is one List of int: the attribute numbers that the query
 * reads.
 */

/* fill in the executor's callbacks */
extern void mr_fdw_scan_routine(FdwRoutine *routine);
extern void mr_fdw_modify_routine(FdwRoutine *routine);

#endif							/* MR_STREAM_FDW_H */
