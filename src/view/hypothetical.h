/*
 * view/hypothetical.h
 *		Hypothetical-set aggregates as counts.
 */
#ifndef MR_VIEW_HYPOTHETICAL_H
#define MR_VIEW_HYPOTHETICAL_H

#include "nodes/primnodes.h"

/* what takes a call's place; NULL: nothing can */
extern Expr *mr_hypothetical_rank(const Aggref *call);
extern Expr *mr_hypothetical_dense_rank(const Aggref *call);
extern Expr *mr_hypothetical_percent_rank(const Aggref *call);
extern Expr *mr_hypothetical_cume_dist(const Aggref *call);

#endif							/* MR_VIEW_HYPOTHETICAL_H */
