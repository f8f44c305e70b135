/*
 * view/contents.h
 *		All of a view's contents, told to its change feed.
 */
#ifndef MR_VIEW_CONTENTS_H
#define MR_VIEW_CONTENTS_H

#include "view/changes.h"

/* all rows of the matrel come, or go; its contents must be locked */
extern void mr_contents_note_all(MrChanges *changes, Oid matrel, bool come);

/* the rows of one matrel become those of another, of the same view, both locked likewise */
extern void mr_contents_note_difference(MrChanges *changes, const MrViewAnalysis *analysis,
										Oid before, Oid after);

/*
 * All rows of the matrel go, by remove, and what is there from the start comes; changes are told
 * and written unless that is NULL.  A view without GROUP BY keeps its one row, changed.  The
 * contents must be locked; call it as the view's owner.
 */
extern void mr_contents_empty(MrChanges *changes, const MrViewAnalysis *analysis, Oid matrel,
							  void (*remove) (Oid matrel));

/* a new view's contents are its first changes; call it as the view's owner */
extern void mr_contents_note_first(const MrView *view, const MrViewAnalysis *analysis);

#endif							/* MR_VIEW_CONTENTS_H */
