/*
 * view/retention.h
 *		Setting how long a view keeps its groups.
 */
#ifndef MR_VIEW_RETENTION_H
#define MR_VIEW_RETENTION_H

#include "catalog_expiry.h"

/*
 * Arguments "retention" and "retention_column", checked; NULL when both are null.  attno: the
 * output column of that name, 0 when there is none.  Whether it can be one is the analysis'
 * business.
 */
extern MrRetention *mr_retention_from_arguments(Interval *age, const char *column,
												AttrNumber attno);

/* ERROR: a view with a sliding window cannot have one */
extern void mr_retention_refuse_window(void);

#endif							/* MR_VIEW_RETENTION_H */
