/*
 * wait_event.h
 *		What our processes wait for, as pg_stat_activity shows it.
 */
#ifndef MR_WAIT_EVENT_H
#define MR_WAIT_EVENT_H

#include "millrace.h"

typedef enum MrWaitEvent
{
	MR_WAIT_LAUNCHER_MAIN,
	MR_WAIT_SUPERVISOR_MAIN,
	MR_WAIT_KAFKA,				/* messages, or any other answer of a broker */
	MR_WAIT_RETRY,				/* before another attempt */
	MR_WAIT_LIVE,				/* a catch-up worker: for the live one */
	MR_WAIT_PROGRESS,			/* wait_for_latest and the like */
	MR_WAIT_DATABASE			/* for our processes to leave a database */
} MrWaitEvent;

#define MR_WAIT_EVENTS (MR_WAIT_DATABASE + 1)

/* PostgreSQL 15 and 16 know no names for extensions' events: "Extension" for all of them */
extern uint32 mr_wait_event(MrWaitEvent event);

#endif							/* MR_WAIT_EVENT_H */
