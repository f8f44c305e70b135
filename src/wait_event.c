/*
 * wait_event.c
 *		Our own wait events, where the server has a place for them.
 */
#include "millrace.h"

#include "utils/wait_event.h"
#include "wait_event.h"

uint32
mr_wait_event(MrWaitEvent event)
{
	static const char *const names[MR_WAIT_EVENTS] = {
		[MR_WAIT_LAUNCHER_MAIN] = "MillraceLauncherMain",
		[MR_WAIT_SUPERVISOR_MAIN] = "MillraceSupervisorMain",
		[MR_WAIT_KAFKA] = "MillraceKafka",
		[MR_WAIT_RETRY] = "MillraceRetry",
		[MR_WAIT_LIVE] = "MillraceLive",
		[MR_WAIT_PROGRESS] = "MillraceProgress",
		[MR_WAIT_DATABASE] = "MillraceDatabase",
	};
	static uint32 known[MR_WAIT_EVENTS];

	if (known[event] == 0)
		known[event] = mr_compat_new_wait_event(names[event]);
	return known[event];
}
