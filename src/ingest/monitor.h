/*
 * ingest/monitor.h
 *		Asking the broker how far it is.
 */
#ifndef MR_INGEST_MONITOR_H
#define MR_INGEST_MONITOR_H

#include "kafka/conf.h"

/* the properties to see high watermarks with, whatever the isolation level */
extern List *mr_monitor_see_everything(List *props);

#endif							/* MR_INGEST_MONITOR_H */
