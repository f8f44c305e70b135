/*
 * view/start_at.h
 *		Where a new view begins: what start_at says.
 */
#ifndef MR_VIEW_START_AT_H
#define MR_VIEW_START_AT_H

typedef enum MrStartKind
{
	MR_START_EARLIEST,
	MR_START_LATEST,
	MR_START_AT_TIME
} MrStartKind;

/* ERROR when it is no such thing */
extern MrStartKind mr_start_at_kind(const char *start_at);

#endif							/* MR_VIEW_START_AT_H */
