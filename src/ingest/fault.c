/*
 * fault.c
 *		Whose fault is an error in a view's plan or merge?
 *
 * Only an error that says something of the values at hand may make a message a dead letter.
 * Everything that can pass by itself (a lock, a deadlock, a full disk, no memory, a cancel, a
 * foreign server that is down) is tried again, however often it comes.  What is missing or
 * forbidden (a function, a privilege) is the definition's fault: all messages would share it.
 *
 * Class 42 is almost all of the latter kind.  Syntax errors and invalid names are not: plans
 * hold no text to be parsed but what a message brought, for to_tsquery or as a jsonpath.
 * Codes that SQL leaves to implementations are PL/pgSQL's and users' own, except the
 * server's operational ones.
 */
#include "millrace.h"

#include "ingest/fault.h"
#include "utils/elog.h"

static bool
is_class(const char *state, const char *const *classes, int n)
{
	for (int i = 0; i < n; i++)
		if (strncmp(state, classes[i], 2) == 0)
			return true;
	return false;
}

/* SQL's own classes begin with 0 to 4 or A to H */
static bool
is_implementation_defined(const char *state)
{
	return (state[0] >= '5' && state[0] <= '9') || (state[0] >= 'I' && state[0] <= 'Z');
}

static bool
is_parsing(int sqlstate)
{
	return sqlstate == ERRCODE_SYNTAX_ERROR || sqlstate == ERRCODE_INVALID_NAME ||
		sqlstate == ERRCODE_NAME_TOO_LONG;
}

MrFault
mr_fault(int sqlstate)
{
	/* not supported, CASE, cardinality, data, constraints, external routines */
	static const char *const message[] = {"0A", "20", "21", "22", "23", "38", "39"};

	/* connection, rollback, resources, intervention, system, foreign data */
	static const char *const passing[] = {"08", "40", "53", "57", "58", "HV"};
	static const char *const definition[] = {"55", "72"};
	const char *state = unpack_sql_state(sqlstate);

	if (strncmp(state, "XX", 2) == 0)
		return MR_FAULT_INTERNAL;
	if (sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_OBJECT_IN_USE ||
		is_class(state, passing, lengthof(passing)))
		return MR_FAULT_PASSING;
	/* a matrel whose index is not right: no message is to pay for that */
	if (sqlstate == ERRCODE_UNIQUE_VIOLATION || is_class(state, definition, lengthof(definition)))
		return MR_FAULT_DEFINITION;
	if (is_class(state, message, lengthof(message)) || is_parsing(sqlstate) ||
		is_implementation_defined(state))
		return MR_FAULT_MESSAGE;
	return MR_FAULT_DEFINITION;
}

/* row security has no code of its own: its refusals are told by who throws them */
static bool
is_row_security(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE && error->funcname != NULL &&
		strcmp(error->funcname, "ExecWithCheckOptions") == 0;
}

MrFault
mr_fault_of_write(const ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION || is_row_security(error))
		return MR_FAULT_MESSAGE;
	return mr_fault(error->sqlerrcode);
}
