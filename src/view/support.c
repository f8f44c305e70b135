/*
 * view/support.c
 *		An aggregate's support functions, called outside of an Agg node.
 *
 * They are called as nodeAgg.c calls them: in the name of the aggregate's owner, with a context
 * that AggCheckCallContext believes.  An Agg node of our own is not possible in the reader
 * (states are columns, one per row, not groups of rows) and too slow in the merge; so a
 * state's functions get an AggState that has nothing but a memory context.
 */
#include "millrace.h"

#include "catalog.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

#include "view/state.h"
#include "view/support.h"

void
mr_support_init(FmgrInfo *finfo, Oid funcid, const MrAggregateInfo *info)
{
	AclResult	acl = mr_function_execute(funcid, info->owner);

	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FUNCTION, get_func_name(funcid));
	InvokeFunctionExecuteHook(funcid);
	fmgr_info(funcid, finfo);
}

AggState *
mr_support_aggstate(ExprContext *context)
{
	AggState   *aggstate = makeNode(AggState);

	aggstate->curaggcontext = context;
	aggstate->tmpcontext = context;
	aggstate->ss.ps.ps_ExprContext = context;
	return aggstate;
}

void
mr_support_use_memory(ExprContext *context, MemoryContext memory)
{
	context->ecxt_per_tuple_memory = memory;
	context->ecxt_per_query_memory = memory;
}

Datum
mr_support_deserialize(const MrAggregateInfo *info, FmgrInfo *deserialize, AggState *aggstate,
					   uint64 stamp, Datum state)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, deserialize, 2, InvalidOid, (Node *) aggstate, NULL);
	fcinfo->args[0].value = mr_state_open(state, stamp, info->aggfnoid);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = (Datum) 0;
	fcinfo->args[1].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	if (fcinfo->isnull)
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("deserialization function %s returned null",
					   format_procedure(deserialize->fn_oid)));
	return result;
}
