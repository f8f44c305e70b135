/*
 * view/substitute.h
 *		What the expressions are made of that take the place of an aggregate.
 */
#ifndef MR_VIEW_SUBSTITUTE_H
#define MR_VIEW_SUBSTITUTE_H

#include "nodes/primnodes.h"

extern Expr *mr_substitute_is_null(const Expr *expr, bool yes);
extern Expr *mr_substitute_both(Expr *a, Expr *b);
extern Expr *mr_substitute_as_text(Expr *expr, Oid collation);

/* call of a function of the extension: declared with the very types of its arguments, or with the given ones */
extern Expr *mr_substitute_call(const char *name, Oid result, List *args, const Oid *declared);

/* an aggregate without arguments yet, over the rows that the call looks at and the condition holds for; NULL: all */
extern Aggref *mr_substitute_aggregate(const Aggref *call, Oid function, Oid type, Expr *condition);

/* the number of distinct values in those rows */
extern Expr *mr_substitute_count_distinct(const Aggref *call, Expr *value, Expr *condition);

#endif							/* MR_VIEW_SUBSTITUTE_H */
