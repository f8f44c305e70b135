/*
 * view/ddl.h
 *		Creating a continuous view's relations, and following what DDL does to them.
 */
#ifndef MR_VIEW_DDL_H
#define MR_VIEW_DDL_H

#include "catalog_view.h"
#include "view/analyze.h"

/* the declared query of a view, from its definition's rule; locks what it refers to */
extern Query *mr_view_declared_query(const MrView *view);

/* its analysis, with what is set for the view besides */
extern MrViewAnalysis *mr_view_reanalyze(const MrView *view);

/*
 * Let name, schema and owner of a view's matrel and definition, and SELECT on the matrel,
 * follow the view.  Cheap when nothing differs.
 */
extern void mr_view_sync(const MrView *view);

/*
 * The same for the views whose owner a command has changed that does not tell which: who owned
 * them before (from mr_view_owners) and still does is left alone, whoever else is at work there.
 */
extern List *mr_view_owners(void);
extern void mr_view_sync_owners(const List *before);

/* settings that a view keeps, as they are now: List of char *, name=value */
extern List *mr_view_capture_settings(void);

/* (re)create the row that is there from the start, if there is one; needs RowExclusiveLock or more */
extern void mr_view_insert_initial_row(const MrViewAnalysis *analysis, Oid matrel);

#endif							/* MR_VIEW_DDL_H */
