/*
 * kafka/conf.h
 *		librdkafka properties: checking them, and who may set which.
 */
#ifndef MR_KAFKA_CONF_H
#define MR_KAFKA_CONF_H

#include "millrace.h"
#include "nodes/pg_list.h"

/* one property under librdkafka's own name; lists of these are List of MrProperty * */
typedef struct MrProperty
{
	char	   *name;
	char	   *value;
} MrProperty;

/* the value that a list has for a name, or NULL */
extern const char *mr_conf_value(const List *props, const char *name);

/* is there a (global or topic) property of that name in the linked librdkafka? */
extern bool mr_conf_is_property(const char *name);

/* all property names that a user may set, as List of char *, for hints */
extern List *mr_conf_property_names(void);

/*
 * Let librdkafka judge a value; its message is passed on in an ERROR
 * (ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE).  An unknown name is an ERROR too.
 */
extern void mr_conf_check_property(const char *name, const char *value);

/* why millrace owns this property ("group.id": offsets live in PostgreSQL …), or NULL */
extern const char *mr_conf_owned_reason(const char *name);

/* secrets: only in user mappings (sasl.password, ssl.key.password, ssl.key.pem, …) */
extern bool mr_conf_is_secret(const char *name);

/* credentials that may stand in user mappings beside secrets (sasl.username, …) */
extern bool mr_conf_is_credential(const char *name);

/* the values of those of these properties that are secret, palloc'd, as List of char * */
extern List *mr_conf_secrets(const List *props);

/* copy of a text without secrets, palloc'd */
extern char *mr_conf_scrub(const char *text, const List *secrets);

/* runs a command, loads a library, or reads a file on the server: superusers only */
extern bool mr_conf_is_privileged(const char *name);

/*
 * Do these properties of a server lead to GSSAPI, librdkafka's default mechanism?  It runs
 * kinit, and uses the tickets of the server's operating system user.
 */
extern bool mr_conf_is_kerberos(const List *props);

#endif							/* MR_KAFKA_CONF_H */
