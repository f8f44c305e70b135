/*
 * view/target.h
 *		What the SQL functions that take a relation are applied to.
 */
#ifndef MR_VIEW_TARGET_H
#define MR_VIEW_TARGET_H

#include "catalog_view.h"

#include "fmgr.h"

/* the function's first argument, a relation; ERROR when it is null */
extern Oid	mr_target_relation(FunctionCallInfo fcinfo);

/* the continuous view relid; ERROR when there is no such relation or it is none */
extern MrView *mr_target_view(Oid relid);

/* ERROR when it is a transform, which has no contents of its own */
extern void mr_target_refuse_transform(const MrView *view, const char *hint);

/*
 * The views that relid stands for: itself, or all views of a stream.  List of MrView *;
 * ERROR when it is neither.
 */
extern List *mr_target_views(Oid relid, bool *is_stream);

/*
 * ERROR where nothing may be changed: in a read-only transaction, or in what runs as another user, as
 * functions in a view's query do.  function: with "()"
 */
extern void mr_target_require_command(const char *function);

/* ERROR unless the current user owns the relation */
extern void mr_target_require_owner(Oid relid);

/* ERROR with a hint unless the library was preloaded */
extern void mr_target_require_preload(void);

#endif							/* MR_VIEW_TARGET_H */
