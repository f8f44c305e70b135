/*
 * view/split.h
 *		What the files that take a declared query apart share; private to view/.
 */
#ifndef MR_VIEW_SPLIT_H
#define MR_VIEW_SPLIT_H

#include "view/analyze.h"

/*
 * Every MrViewAnalysis is one of these.
 */
typedef struct MrSplit
{
	MrViewAnalysis analysis;
	Query	   *whole;			/* copy of the declared query: the reader's */
	Query	   *level;			/* in it: the query that the matrel takes the
								 * place of */
	List	   *outer;			/* queries around level, innermost first */
	List	   *kept_ctes;		/* CTEs that the reader needs */
	List	   *exprs;			/* per column: what it is at that level */
	bool		growing;		/* states may grow with the messages */
} MrSplit;

/*
 * An ERROR that a construct is not supported; location is a byte offset into the
 * declared text, or -1.  The rest are ereport's auxiliary calls.
 */
#define mr_refuse(location, ...) \
	ereport(ERROR, \
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED), \
			__VA_ARGS__, \
			mr_error_location(location))

extern int	mr_error_location(int location);

/* split.c */
extern void mr_split_find(MrSplit *split);
extern void mr_split_drop_ctes(MrSplit *split);
extern void mr_split_inline_ctes(Query *query, List *outer);
extern bool mr_split_is_aggregation(const Query *query);
extern bool mr_relation_is_row_view(Oid relid);
extern Query *mr_relation_view_query(Oid relid);

/* local.c: does the query that is being analyzed take the relation for a stream?  Is it over tables? */
extern bool mr_split_is_stream(Oid relid);
extern bool mr_split_over_tables(void);

/* analyze.c */
extern void mr_split_add_column(MrSplit *split, Expr *expr, bool is_key);
extern int	mr_split_match_entry(const MrSplit *split, const TargetEntry *tle);
extern int	mr_split_match(const MrSplit *split, Node *node, int depth);
extern SortGroupClause *mr_split_group_clause(const MrSplit *split, int column, TargetEntry *tle);
extern int	mr_split_output_column(const MrSplit *split, AttrNumber attno);

/* restrict.c */
extern void mr_restrict_declared(Query *query);
extern void mr_restrict_partial(Query *partial);
extern void mr_restrict_shown(Node *exprs);
extern void mr_restrict_aggref(const Aggref *aggref);
extern void mr_restrict_level(const Query *level);
extern bool mr_restrict_is_default_equality(Oid operator, const Expr *expr);
extern void mr_restrict_grouping(const SortGroupClause *clause, const Expr *expr);
extern void mr_restrict_column(const MrMatrelColumn *column, const Expr *expr);

/* rewrite.c */
extern AttrNumber mr_query_add_column(Query *query, Expr *expr, const char *name);

/*
 * substitute.c: other aggregates in the level's output for those that cannot be combined;
 * ERROR where their states would grow, unless that is wanted
 */
extern void mr_substitute_aggregates(Query *level, bool growing);

/* stream_use.c */
extern List *mr_stream_uses(Query *partial);

#endif							/* MR_VIEW_SPLIT_H */
