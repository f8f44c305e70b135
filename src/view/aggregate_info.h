/*
 * view/aggregate_info.h
 *		What the files that call an aggregate's functions share; private to view/.
 */
#ifndef MR_VIEW_AGGREGATE_INFO_H
#define MR_VIEW_AGGREGATE_INFO_H

#include "view/aggregate.h"

#include "fmgr.h"
#include "nodes/execnodes.h"

/* what the catalogs say of an aggregate, resolved for one call's argument types */
typedef struct AggregateInfo
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
	int			nargs;
	Oid			argtypes[FUNC_MAX_ARGS];
	Oid			transfn;
	Oid			transtype;
	Oid			statetype;		/* as stored */
	Oid			resulttype;
	bool		has_initial;
	char	   *initial;		/* text, if has_initial */
} AggregateInfo;

struct MrAggregate
{
	AggregateInfo info;
	Oid			collation;
	uint64		stamp;			/* of serialized states */
	int16		statelen;
	bool		statebyval;
	FmgrInfo	combine;
	FmgrInfo	serialize;
	FmgrInfo	deserialize;
	ExprContext *context;
	AggState   *aggstate;		/* nothing but a context, for
								 * AggCheckCallContext */
};

/*
 * What an SQL call of ours is about: the aggregate, which the current user must be allowed
 * to use, for the argument types that the call's own arguments from first on have.
 */
extern void mr_aggregate_read_call(AggregateInfo *info, FunctionCallInfo fcinfo, Oid aggfnoid,
								   int first);

/* ERROR when a state of that type is not the aggregate's */
extern void mr_aggregate_check_state_type(const AggregateInfo *info, Oid state);

/* find the functions of an aggregate whose info is there */
extern void mr_aggregate_init(MrAggregate *agg, Oid collation);

/* the transition value that there is before any row, in the current memory context */
extern Datum mr_aggregate_initial_value(const MrAggregate *agg, bool *isnull);

/* a stored state as the combine function wants it; a copy, for it may write on the first */
extern Datum mr_aggregate_load_state(MrAggregate *agg, Datum state);

/* state as it is stored */
extern Datum mr_aggregate_store_state(MrAggregate *agg, Datum state, bool *isnull);

#endif							/* MR_VIEW_AGGREGATE_INFO_H */
