/*
 * view/shadow.h
 *		A view's contents in the making, beside the present ones.
 */
#ifndef MR_VIEW_SHADOW_H
#define MR_VIEW_SHADOW_H

#include "catalog_view.h"

/* give up what a view's rebuild has made so far; false: there is none */
extern bool mr_shadow_drop(Oid view);

/*
 * Let the shadow's contents be the view's.  The caller holds AccessExclusiveLock on both
 * matrels and all feeds of both.
 */
extern void mr_shadow_exchange(const MrView *shadow);

#endif							/* MR_VIEW_SHADOW_H */
