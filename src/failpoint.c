/*
 * failpoint.c
 *		Places where a test can make the process fail, in builds for tests only.
 *
 * What is to happen is kept in shared memory: whichever process comes to the place first does
 * it.  One place is armed at a time, for so many visits.  Every visit that does something says so
 * in the server's log, which outlives the shared memory of a server that crashed.
 *
 * The functions have no place in the extension; a test declares them by itself, see
 * t/lib/MillraceFailpoint.pm.
 *
 * Locking: a spinlock over the few words; a visit with nothing armed reads one of them.
 */
#include "failpoint.h"

#ifdef MR_FAILPOINTS

#include <signal.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

#define WAIT_SLICE_MS	10

typedef enum FailAction
{
	FAIL_ERROR,
	FAIL_KILL,
	FAIL_WAIT
} FailAction;

typedef struct ArmedFailpoint
{
	slock_t		mutex;
	char		name[NAMEDATALEN];
	FailAction	action;
	int			sqlstate;
	int			rest;			/* visits yet to be acted upon; 0: none */
	int			waiting;		/* processes that wait */
} ArmedFailpoint;

extern const char *const __start_mr_failpoints[];
extern const char *const __stop_mr_failpoints[];

static ArmedFailpoint *armed = NULL;

PG_FUNCTION_INFO_V1(mr_failpoint_names);
PG_FUNCTION_INFO_V1(mr_failpoint_arm);
PG_FUNCTION_INFO_V1(mr_failpoint_waiting);

void
mr_failpoint_request(void)
{
	RequestAddinShmemSpace(sizeof(ArmedFailpoint));
}

void
mr_failpoint_startup(void)
{
	bool		found;

	armed = ShmemInitStruct("millrace failpoints", sizeof(ArmedFailpoint), &found);
	if (found)
		return;
	memset(armed, 0, sizeof(ArmedFailpoint));
	SpinLockInit(&armed->mutex);
}

static bool
is_armed(const char *name)
{
	bool		result;

	SpinLockAcquire(&armed->mutex);
	result = armed->rest > 0 && strcmp(armed->name, name) == 0;
	SpinLockRelease(&armed->mutex);
	return result;
}

/* count a visit; false when there is nothing to do */
static bool
visit(const char *name, ArmedFailpoint *copy)
{
	bool		result;

	SpinLockAcquire(&armed->mutex);
	result = armed->rest > 0 && strcmp(armed->name, name) == 0;
	if (result && armed->action != FAIL_WAIT)
		armed->rest--;
	if (result && armed->action == FAIL_WAIT)
		armed->waiting++;
	*copy = *armed;
	SpinLockRelease(&armed->mutex);
	return result;
}

static void
wait_until_disarmed(const char *name)
{
	while (is_armed(name))
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, WAIT_SLICE_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	SetLatch(MyLatch);
}

void
mr_failpoint(const char *name)
{
	ArmedFailpoint copy;

	if (armed == NULL || armed->rest == 0 || !visit(name, &copy))
		return;
	ereport(LOG,
			(errmsg("failpoint %s", name), errhidestmt(true), errhidecontext(true)));
	switch (copy.action)
	{
		case FAIL_ERROR:
			ereport(ERROR,
					(errcode(copy.sqlstate),
					 errmsg("error of failpoint %s", name)));
			break;
		case FAIL_KILL:
			kill(MyProcPid, SIGKILL);
			break;
		case FAIL_WAIT:
			wait_until_disarmed(name);
			break;
	}
}

/* failpoint_names(): all that there are, each as often as it is in the code */
Datum
mr_failpoint_names(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (const char *const *name = __start_mr_failpoints; name < __stop_mr_failpoints; name++)
	{
		Datum		value = CStringGetTextDatum(*name);
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	return (Datum) 0;
}

static FailAction
action_of(const char *text)
{
	if (strcmp(text, "error") == 0)
		return FAIL_ERROR;
	if (strcmp(text, "kill") == 0)
		return FAIL_KILL;
	if (strcmp(text, "wait") == 0)
		return FAIL_WAIT;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized action: \"%s\"", text)));
}

/*
 * failpoint_arm(name, action, sqlstate, visits): instead of what was armed before; processes that
 * wait go on.  0 visits: none is armed.
 */
Datum
mr_failpoint_arm(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	FailAction	action = action_of(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	char	   *state = text_to_cstring(PG_GETARG_TEXT_PP(2));

	if (armed == NULL || strlen(state) != 5)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("not preloaded, or not an SQLSTATE: \"%s\"", state)));
	SpinLockAcquire(&armed->mutex);
	strlcpy(armed->name, name, NAMEDATALEN);
	armed->action = action;
	armed->sqlstate = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	armed->rest = PG_GETARG_INT32(3);
	armed->waiting = 0;
	SpinLockRelease(&armed->mutex);
	PG_RETURN_VOID();
}

/* failpoint_waiting(): processes that wait at the place that is armed */
Datum
mr_failpoint_waiting(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(armed == NULL ? 0 : armed->waiting);
}

#endif							/* MR_FAILPOINTS */
