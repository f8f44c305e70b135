/*
 * view/analyze.h
 *		From a declared SELECT to its two halves: what a batch computes (the partial
 *		query) and what a reader computes (the reader query) over the matrel in between.
 */
#ifndef MR_VIEW_ANALYZE_H
#define MR_VIEW_ANALYZE_H

#include "millrace.h"

#include "nodes/bitmapset.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "utils/timestamp.h"

/* One column of the matrel, and of the partial query's output, in the same order. */
typedef struct MrMatrelColumn
{
	char	   *name;			/* unique in the matrel */
	Oid			type;			/* as stored: for a state, see aggregate.h */
	int32		typmod;
	Oid			collation;
	bool		is_key;			/* a group column: part of the unique key */
	Aggref	   *aggref;			/* state of this aggregate; NULL for others */
} MrMatrelColumn;

typedef struct MrStreamUse
{
	Oid			relid;
	Bitmapset  *attrs;			/* attribute numbers the query reads anywhere
								 * (plain attnums; a whole-row reference is 0
								 * and all that there are) */
} MrStreamUse;

/* A column by whose value rows of the matrel leave; see expiry.h. */
typedef struct MrBound
{
	int			column;			/* index in columns */
	AttrNumber	shown_as;		/* column of the view */
	Oid			type;			/* timestamptz, timestamp or date */
	Interval   *age;			/* NULL: none any more */
	Timestamp	removed_before; /* or DT_NOBEGIN */
	const char *zone;			/* in which days are counted */
	bool		is_window;		/* a sliding window's: age is its size */
	int64		margin;			/* microseconds for which ingest keeps rows
								 * that readers do not see */
} MrBound;

/* What is set for a view besides its query, and decides which rows leave it. */
typedef struct MrExpiry
{
	List	   *retentions;		/* of MrRetention * */
	const struct MrWindow *window;	/* or NULL; then there are no retentions */
	const char *zone;			/* the view's TimeZone */
} MrExpiry;

/* One of a view's grouping sets; see grouping_sets.c. */
typedef struct MrGroupingSet
{
	int32		number;			/* GROUPING() of all group columns in it */
	int			copies;			/* how often it is declared */
	bool		is_empty;		/* has a row even without a message */
} MrGroupingSet;

/* What decides which row of a group is kept; see choice.c. */
typedef struct MrOrder
{
	int			column;			/* index in columns */
	Oid			sort_operator;
	bool		nulls_first;
	const SortGroupClause *clause;	/* of ORDER BY, or NULL: it leaves this
									 * open */
} MrOrder;

typedef struct MrViewAnalysis
{
	Query	   *declared;
	Query	   *partial;		/* not yet rewritten; aggregates still whole.
								 * Its target list is columns, one to one, no
								 * junk */
	List	   *columns;		/* of MrMatrelColumn *; keys first */
	int			nkeys;			/* 0 with aggregates: exactly one row */
	bool		chooses;		/* DISTINCT ON: of each group the first row is
								 * kept; there are no aggregates, but
								 * has_aggregates */
	List	   *order;			/* of MrOrder *: which is the first */
	List	   *sets;			/* of MrGroupingSet *; NIL: plain groups */
	int			set_column;		/* index in columns of the set's number; -1:
								 * plain groups */
	bool		has_aggregates; /* false: rows are appended */
	List	   *streams;		/* of MrStreamUse *, by relid, at least one */
	List	   *tables;			/* of Oid: tables that are streams to it; NIL:
								 * its streams are topics */
	List	   *bounds;			/* of MrBound * */
	int			window_column;	/* index in columns of the step, the last key;
								 * without aggregates of the time; -1: no
								 * sliding window */
	Oid			sink;			/* a transform's: where its rows go; then
								 * there are no columns.  See transform.h */
} MrViewAnalysis;

/*
 * query: as analyzed by the parser, not rewritten.  expiry: NULL when no row ever leaves;
 * tables: those that the query takes for streams; growing: may states grow with the messages?
 * mr_view_reanalyze() knows all three of a view that exists.  Constructs that cannot be maintained
 * are an ERROR 0A000 that names the construct and hints what to write instead.  Pure: the
 * same query gives the same columns in the same order every time (workers rely on it).
 */
extern MrViewAnalysis *mr_view_analyze(Query *query, const MrExpiry *expiry, List *tables,
									   bool growing);

/* the row that is there from the start: without GROUP BY, or of an empty grouping set */
extern bool mr_view_has_initial_row(const MrViewAnalysis *analysis);

/*
 * The reader's query over the matrel: column i of the analysis is attribute i + 1 of it.
 * Result names and types are those of the declared query.
 */
extern Query *mr_view_reader_query(const MrViewAnalysis *analysis, Oid matrel);

#endif							/* MR_VIEW_ANALYZE_H */
