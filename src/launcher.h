/*
 * launcher.h
 *		The processes that start and watch ingest workers.
 */
#ifndef MR_LAUNCHER_H
#define MR_LAUNCHER_H

extern void mr_launcher_register(void); /* in _PG_init, when preloading */

#endif							/* MR_LAUNCHER_H */
