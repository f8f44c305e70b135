/*
 * view/window.h
 *		Sliding windows: the time of a message, the step that it falls into, and the steps
 *		that a reader sees.
 */
#ifndef MR_VIEW_WINDOW_H
#define MR_VIEW_WINDOW_H

#include "catalog_expiry.h"
#include "view/analyze.h"

/*
 * Arguments "sliding_window", "time_column" and "step", checked; NULL when all are null.
 * step may be NULL: a twentieth of the window.
 */
extern MrWindow *mr_window_from_arguments(Interval *size, char *time_column, Interval *step);

/* length of a step in microseconds */
extern int64 mr_window_step(const MrWindow *window);

/*
 * Let the batch's half compute the window's column, from the time of the stream that it
 * reads; in_steps: rounded to a step.
 */
extern void mr_window_fill(Query *partial, int column, const MrWindow *window, bool in_steps);

/* ERROR when a stream no longer has the columns that windows of its views go by */
extern void mr_window_check_stream(Oid stream);

#endif							/* MR_VIEW_WINDOW_H */
