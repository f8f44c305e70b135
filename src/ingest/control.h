/*
 * ingest/control.h
 *		What the functions that take a view or a stream share.
 */
#ifndef MR_INGEST_CONTROL_H
#define MR_INGEST_CONTROL_H

#include "catalog.h"

/*
 * The views that relid stands for: itself, or all views of a stream.  List of MrView *;
 * ERROR when it is neither.
 */
extern List *mr_control_views(Oid relid, bool *is_stream);

/* ERROR with a hint unless the library was preloaded */
extern void mr_control_require_preload(void);

#endif							/* MR_INGEST_CONTROL_H */
