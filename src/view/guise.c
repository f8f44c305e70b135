/*
 * guise.c
 *		Acting as the owner of a view or stream, under the settings that were in force when
 *		the view was created.
 *
 * Nothing restores a guise after an error but the end of the (sub)transaction, which does.
 */
#include "millrace.h"

#include "miscadmin.h"
#include "utils/guc.h"
#include "view/guise.h"

static void
apply_settings(const List *settings)
{
	ListCell   *lc;

	foreach(lc, settings)
	{
		char	   *setting = pstrdup(lfirst(lc));
		char	   *equals = strchr(setting, '=');
		const char *now;

		if (equals == NULL)
			continue;
		*equals = '\0';
		now = GetConfigOption(setting, true, false);
		if (now && strcmp(now, equals + 1) != 0)
			(void) set_config_option(setting, equals + 1, PGC_SUSET, PGC_S_SESSION,
									 GUC_ACTION_SAVE, true, WARNING, false);
		pfree(setting);
	}
}

void
mr_guise_begin(MrGuise *guise, Oid userid, const List *settings)
{
	GetUserIdAndSecContext(&guise->userid, &guise->sec_context);
	guise->guc_level = NewGUCNestLevel();
	apply_settings(settings);
	SetUserIdAndSecContext(userid, guise->sec_context | SECURITY_RESTRICTED_OPERATION);
}

void
mr_guise_end(const MrGuise *guise)
{
	AtEOXact_GUC(false, guise->guc_level);
	SetUserIdAndSecContext(guise->userid, guise->sec_context);
}
