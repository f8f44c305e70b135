/*
 * planted.h
 *		Triggers, rules and foreign keys that others put on tables of ours.
 */
#ifndef MR_PLANTED_H
#define MR_PLANTED_H

#include "millrace.h"

#include "executor/spi.h"
#include "utils/relcache.h"

/* ERROR when an open table of ours, locked against DDL, has any */
extern void mr_planted_check(Relation rel);

/* the same of all tables that a statement writes, which are locked as its execution will lock them */
extern void mr_planted_check_plan(SPIPlanPtr plan);

#endif							/* MR_PLANTED_H */
