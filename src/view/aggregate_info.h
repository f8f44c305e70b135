/*
 * view/aggregate_info.h
 *		What the catalogs say of an aggregate, resolved for one call's argument types.  Private
 *		to view/.
 */
#ifndef MR_VIEW_AGGREGATE_INFO_H
#define MR_VIEW_AGGREGATE_INFO_H

#include "millrace.h"

#include "fmgr.h"
#include "nodes/primnodes.h"

typedef struct MrAggregateInfo
{
	Oid			aggfnoid;
	Oid			owner;
	Oid			combinefn;
	Oid			finalfn;
	Oid			serialfn;
	Oid			deserialfn;
	bool		finalextra;
	bool		finalmodify;	/* may write on the state */
	bool		polymorphic;	/* states differ by the arguments' types */
	bool		variadic;		/* VARIADIC "any": any number of arguments */
	int			nargs;
	Oid			argtypes[FUNC_MAX_ARGS];
	Oid			transfn;
	Oid			transtype;
	Oid			statetype;		/* as stored */
	Oid			resulttype;
	bool		has_initial;
	char	   *initial;		/* text, if has_initial */
} MrAggregateInfo;

/* of a query's aggregate; texts are in the current memory context */
extern void mr_aggregate_info_read(MrAggregateInfo *info, const Aggref *aggref);

/*
 * What an SQL call of ours is about: the aggregate, which the current user must be allowed
 * to use, for the argument types that the call's own arguments from first on have.
 */
extern void mr_aggregate_info_read_call(MrAggregateInfo *info, FunctionCallInfo fcinfo, Oid aggfnoid,
										int first);

/* Of an aggregate alone: argument types are not known, and polymorphic types not resolved. */
extern void mr_aggregate_info_read_alone(MrAggregateInfo *info, Oid aggfnoid);

/* ERROR unless the current user may use it, as in nodeAgg.c */
extern void mr_aggregate_info_check_execute(const MrAggregateInfo *info);

/* does a call of the aggregate's final function need to know the argument types? */
extern bool mr_aggregate_info_needs_arguments(const MrAggregateInfo *info);

/* are its states stored serialized and sealed? */
extern bool mr_aggregate_info_is_sealed(const MrAggregateInfo *info);

/* the stamp of its serialized states */
extern uint64 mr_aggregate_info_stamp(const MrAggregateInfo *info);

/* the transition value that there is before any row, in the current memory context */
extern Datum mr_aggregate_info_initial(const MrAggregateInfo *info, bool *isnull);

/* ERROR when a state of that type is not the aggregate's */
extern void mr_aggregate_info_check_state(const MrAggregateInfo *info, Oid state);

#endif							/* MR_VIEW_AGGREGATE_INFO_H */
