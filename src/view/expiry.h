/*
 * view/expiry.h
 *		Rows that leave a view by age: which, as seen by readers and by ingest.
 */
#ifndef MR_VIEW_EXPIRY_H
#define MR_VIEW_EXPIRY_H

#include "catalog_expiry.h"
#include "catalog_view.h"
#include "view/analyze.h"

/* what the catalog says; NULL in the cases where nothing ever leaves */
extern MrExpiry *mr_expiry_load(const MrView *view);

/* value of TimeZone among settings (of char *: name=value) */
extern const char *mr_expiry_zone(const List *settings);

/* find the columns of the matrel that retentions are about; ERROR with hint for others */
extern List *mr_expiry_bounds(const MrViewAnalysis *analysis, const MrExpiry *expiry);

/*
 * The oldest value of the bound's column that is kept when the clock is at now; of a
 * timestamp, date as local time of the view's TimeZone, else as timestamptz.
 */
extern Timestamp mr_bound_horizon(const MrBound *bound, TimestampTz now);

/* ERROR when the view's TimeZone, which must be set, is not the one that is reckoned in */
extern void mr_bound_check_zone(const MrBound *bound);

/* condition that var, the bound's column, is not too old now */
extern Node *mr_bound_qual(const MrBound *bound, Var *var);

/* condition that var, the column of a sliding window, lies in the window now */
extern Node *mr_window_qual(const MrBound *bound, Var *var);

/* expr, but minus infinity where the value of the bound with that number is too old */
extern Expr *mr_bound_kept_expr(const MrBound *bound, int number, Expr *expr);

/*
 * For kept(), which those expressions call, in this process: the horizons, and counters of
 * values that were too old; n 0: keep everything.
 */
extern void mr_expiry_arm(const Timestamp *horizons, int64 *late, int n);

/* create an index for removing by the bound, if the matrel's key does not serve */
extern void mr_expiry_create_index(const MrView *view, const MrViewAnalysis *analysis,
								   const MrBound *bound);

#endif							/* MR_VIEW_EXPIRY_H */
