# Ways in which a user could become more than he is, and what stands in them.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $topic = create_stream($node, 'clicks', event_columns());

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# Fails, with a message that matches.
sub refused
{
	my ($role, $sql, $like, $name) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "SET ROLE $role; $sql");
	isnt($rc, 0, $name) or return;
	like($err, $like, "$name: message");
}

sub is_superuser { return sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'app'") }

sql(q{
	CREATE ROLE app; CREATE ROLE other; CREATE ROLE readers;
	GRANT CREATE ON DATABASE postgres TO app;
	CREATE SCHEMA app AUTHORIZATION app;
	GRANT USAGE ON SCHEMA app TO other, readers;
	GRANT SELECT ON clicks TO app;
	GRANT USAGE ON FOREIGN DATA WRAPPER millrace TO app});

# --- properties that reach into the server's machine --------------------------

my $privileged = qr/permission denied to set property/;
sql(q{SET ROLE app; CREATE SERVER mine FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" '127.0.0.1:1');
	CREATE USER MAPPING FOR app SERVER mine OPTIONS ("sasl.username" 'me')});
foreach my $option ('plugin.library.paths', 'sasl.kerberos.kinit.cmd', 'sasl.kerberos.keytab', 'sasl.kerberos.principal',
	'sasl.kerberos.service.name', 'ssl.ca.location', 'ssl.key.location', 'ssl.certificate.location', 'ssl.crl.location',
	'ssl.keystore.location', 'ssl.engine.location', 'sasl.oauthbearer.token.endpoint.url', 'ssl.ca.certificate.stores')
{
	# what the linked librdkafka does not know is refused to everybody
	my ($rc, $out, $err) = $node->psql('postgres', qq{ALTER SERVER mine OPTIONS (ADD "$option" 'x')});
	my $unknown = $rc != 0 && $err =~ /invalid option/;
	sql(qq{ALTER SERVER mine OPTIONS (DROP "$option")}) if $rc == 0;
	refused('app', qq{ALTER SERVER mine OPTIONS (ADD "$option" 'x')}, $unknown ? qr/invalid option/ : $privileged,
		"ALTER SERVER with $option");
}
foreach my $option ('ssl.key.location', 'ssl.certificate.location', 'ssl.keystore.location', 'sasl.kerberos.keytab',
	'sasl.kerberos.principal', 'sasl.oauthbearer.config')
{
	refused('app', qq{ALTER USER MAPPING FOR app SERVER mine OPTIONS (ADD "$option" 'x')}, $privileged,
		"ALTER USER MAPPING with $option");
}
refused('app', q{ALTER SERVER mine OPTIONS (ADD "security.protocol" 'SASL_PLAINTEXT')}, qr/GSSAPI/,
	"librdkafka's default mechanism runs kinit as the server's user");
refused('app', q{ALTER SERVER mine OPTIONS (ADD "security.protocol" 'sasl_ssl', ADD "sasl.mechanism" 'gssapi')}, qr/GSSAPI/,
	'so does its name');
sql(q{SET ROLE app; ALTER SERVER mine OPTIONS (ADD "security.protocol" 'sasl_ssl', ADD "sasl.mechanism" 'PLAIN')});
refused('app', q{ALTER SERVER mine OPTIONS (DROP "sasl.mechanism")}, qr/GSSAPI/, 'and it is not reached in two steps');
foreach my $option ('topic.acks', 'topic.request.required.acks', 'topic.offset.store.path', 'topic.auto.offset.reset')
{
	my ($rc, $out, $err) = $node->psql('postgres', qq{ALTER SERVER mine OPTIONS (ADD "$option" '0')});
	isnt($rc, 0, "$option is no second name for what millrace decides");
	like($err, qr/invalid option/, 'and is called unknown');
}

# What a superuser has set does not become the tool of a new owner.
sql(q{ALTER SERVER mine OPTIONS (ADD "ssl.ca.location" '/etc/hostname');
	ALTER USER MAPPING FOR app SERVER mine OPTIONS (ADD "ssl.key.location" '/etc/hostname')});
refused('app', q{ALTER SERVER mine OPTIONS (SET "bootstrap.servers" 'evil:9092')}, $privileged,
	'an owner does not redirect a server with privileged properties');
refused('app', q{ALTER USER MAPPING FOR app SERVER mine OPTIONS (SET "sasl.username" 'evil')}, $privileged,
	'nor change such a mapping');
sql(q{SET ROLE app; ALTER SERVER mine OPTIONS (DROP "ssl.ca.location");
	ALTER SERVER mine OPTIONS (SET "bootstrap.servers" 'localhost:1')});
pass('without them he may');
sql('DROP SERVER mine CASCADE');

# A deep path costs an error, not the stack.
my $deep = join '.', ('a') x 100_000;
my ($rc, $out, $err) = $node->psql('postgres', qq{CREATE FOREIGN TABLE deep (a integer OPTIONS (path '$deep'))
	SERVER kafka OPTIONS (topic '$topic')});
isnt($rc, 0, 'a path with 100,000 names is refused');
like($err, qr/at most 100/, 'with its limit');
like(sql(q{SELECT pg_backend_pid()}), qr/^\d+$/, 'and the server stands');

# --- functions of ours --------------------------------------------------------

sql(q{SET ROLE app; SELECT millrace.create_continuous_view('app.v', 'SELECT k, count(*) AS n, sum(v) AS s FROM clicks GROUP BY k')});
sql('GRANT SELECT ON app.v TO other');
produce($topic, 0, map { event($_) } 1 .. 10);
wait_latest($node, 'app.v');

# Whatever takes a relation asks for its owner, functions of tomorrow too; two
# that only look show nothing to those who may not.
my $calls = sql(q{
	SELECT format('millrace.%I(%s)', proname, (SELECT string_agg(
		CASE WHEN type = 'regclass'::regtype AND i = 1 THEN '''app.v''::regclass'
			WHEN type IN ('integer'::regtype, 'bigint'::regtype) THEN '0::' || type::regtype
			WHEN type = 'interval'::regtype THEN '''1 day''::interval'
			ELSE '''earliest''::' || type::regtype END, ', ' ORDER BY i)
		FROM unnest(proargtypes) WITH ORDINALITY t (type, i)))
	FROM pg_proc WHERE pronamespace = 'millrace'::regnamespace AND proargtypes[0] = 'regclass'::regtype
		AND proname NOT IN ('watermarks', 'view_counters')});
my @calls = split /\n/, $calls;
cmp_ok(scalar @calls, '>=', 6, 'functions that take a relation');
refused('other', "SELECT $_", qr/must be owner|permission denied|is not a stream/, $_) foreach @calls;
is(sql(q{SET ROLE readers; SELECT count(*) FROM millrace.watermarks('clicks')}), '0', 'watermarks() shows nothing to strangers');
is(sql(q{SET ROLE readers; SELECT rows_in IS NULL FROM millrace.view_counters('app.v')}), 't', 'view_counters() neither');

# All functions with nothing but nulls, and with what is no relation: errors, no crash.
my @nulls = split /\n/, sql(q{
	SELECT format('millrace.%I(%s)', proname, (SELECT string_agg('NULL::' || type::regtype, ', ' ORDER BY i)
		FROM unnest(proargtypes) WITH ORDINALITY t (type, i) WHERE type <> '"any"'::regtype))
	FROM pg_proc WHERE pronamespace = 'millrace'::regnamespace AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
		AND NOT 'internal'::regtype = ANY (proargtypes::oid[]) AND NOT '"any"'::regtype = ANY (proargtypes::oid[])
		AND NOT 'anyelement'::regtype = ANY (proargtypes::oid[]) AND prokind = 'f'});
cmp_ok(scalar @nulls, '>=', 15, 'functions to call with nulls');
my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'});
$node->psql('postgres', "SELECT $_") foreach @nulls;
foreach my $call (@calls)
{
	foreach my $relation ('0', '4294967295', "'pg_class'", "'pg_toast.pg_toast_2619'")
	{
		(my $strange = $call) =~ s/'app\.v'/$relation/;
		$node->psql('postgres', "SELECT $strange");
	}
}
$node->psql('postgres', "SELECT $_") foreach ('millrace.on_drop()', 'millrace.refuse_write()', 'millrace.on_ddl_start()',
	"millrace.fdw_validator('{sasl.password}', 'pg_user_mapping'::regclass)", "millrace.fdw_validator('{NULL,=,x=}', 'pg_foreign_server'::regclass)",
	"millrace.wait_for_offset('app.v', -1, -9223372036854775808, '0s')");
is($node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'}), $pid, 'no crash');
is(sql(q{SELECT millrace.wait_for_offset('app.v', 0, 9223372036854775807, '0s')}), 'f', 'the last offset of all is not there');

# --- a schema's owner and the name of a matrel ----------------------------------

# truncate_continuous_view() waits for a lock; meanwhile the schema's name comes
# to mean another schema, with a table that has a trigger.
my $reader = $node->background_psql('postgres');
$reader->query_safe('SET ROLE app; BEGIN; SELECT count(*) FROM app.v_mrel');
my $truncate = background($node, q{SET ROLE app; SELECT millrace.truncate_continuous_view('app.v')});
wait_for($node, q{SELECT count(*) > 0 FROM pg_locks WHERE relation = 'app.v_mrel'::regclass AND NOT granted});
sql(q{SET ROLE app;
	ALTER SCHEMA app RENAME TO app_away;
	CREATE SCHEMA app;
	CREATE TABLE app.v_mrel (bait integer);
	CREATE FUNCTION app.spring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ALTER ROLE app SUPERUSER; RETURN NULL; END $$;
	CREATE TRIGGER spring BEFORE TRUNCATE ON app.v_mrel EXECUTE FUNCTION app.spring()});
$reader->query_safe('COMMIT');
$reader->quit;
($rc) = $truncate->finish;
ok($rc, 'truncated');
is(is_superuser(), 'f', "the trap on a table of the matrel's name is not sprung");
is(sql('SELECT count(*) FROM app_away.v'), '0', 'it was the matrel that was emptied');
sql('SET ROLE app; DROP SCHEMA app CASCADE; ALTER SCHEMA app_away RENAME TO app');
produce($topic, 0, event(11));
wait_latest($node, 'app.v');
is(sql('SELECT k, n FROM app.v'), '4|1', 'and the view goes on');

# --- what is revoked later ------------------------------------------------------

sql('REVOKE SELECT ON clicks FROM app');
produce($topic, 0, event(12));
wait_state($node, 'view', 'app.v', 'failed');
like(sql(q{SELECT last_error FROM millrace.views WHERE view = 'app.v'::regclass}), qr/permission denied.*clicks/,
	'SELECT on the stream is asked for at every batch');
sql(q{GRANT SELECT ON clicks TO app; SET ROLE app; SELECT millrace.activate('app.v')});
wait_latest($node, 'app.v');
is(sql('SELECT sum(n) FROM app.v'), '2', 'granted again, nothing is missing');

# A superuser does not heed row security; once he is none, his view does.  So
# with a role that is taken away.
sql(q{CREATE ROLE boss SUPERUSER; CREATE ROLE member; GRANT readers TO member;
	CREATE TABLE names (k integer, word text);
	INSERT INTO names SELECT i, 'w' || i FROM generate_series(0, 6) i;
	ALTER TABLE names ENABLE ROW LEVEL SECURITY;
	CREATE POLICY few ON names TO boss USING (k < 2);
	CREATE POLICY many ON names TO readers USING (true);
	GRANT SELECT ON names, clicks TO boss, member;
	GRANT CREATE ON SCHEMA public TO boss, member;
	SET ROLE boss;
	SELECT millrace.create_continuous_view('public.bosses', 'SELECT word, count(*) AS n FROM clicks JOIN names USING (k) GROUP BY word', 'latest');
	SET ROLE member;
	SELECT millrace.create_continuous_view('public.members', 'SELECT word, count(*) AS n FROM clicks JOIN names USING (k) GROUP BY word', 'latest')});
produce($topic, 0, map { event($_) } 70 .. 76);
wait_latest($node, $_) foreach 'bosses', 'members';
is(sql('SELECT count(*) FROM bosses'), '7', 'a superuser sees all rows');
is(sql('SELECT count(*) FROM members'), '7', 'so does a member of a role that may');
sql('ALTER ROLE boss NOSUPERUSER');
sql('REVOKE readers FROM member');
produce($topic, 0, map { event($_) } 77 .. 83);
wait_latest($node, $_) foreach 'bosses', 'members';
is(sql('SELECT word, n FROM bosses ORDER BY word'), join("\n", 'w0|2', 'w1|2', map { "w$_|1" } 2 .. 6),
	'demoted, he sees what the policy lets him');
is(sql('SELECT sum(n), max(n) FROM members'), '7|1', 'and who is no member any more sees nothing new');

# --- states outlive a dump ------------------------------------------------------

sql(q{CREATE TABLE kept AS TABLE app.v_mrel});
my $before = sql(q{SELECT k, millrace.finalize('sum(numeric)', s, NULL::numeric) FROM kept ORDER BY k});
like($before, qr/\d/, 'states in a table of the user');
my $file = "$PostgreSQL::Test::Utils::tmp_check/kept.sql";
command_ok([ 'pg_dump', '-t', 'kept', '-f', $file, $node->connstr('postgres') ], 'are dumped');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->safe_psql('copy', 'CREATE EXTENSION millrace');
command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-f', $file, $node->connstr('copy') ], 'and restored by a superuser');
is($node->safe_psql('copy', q{SELECT k, millrace.finalize('sum(numeric)', s, NULL::numeric) FROM kept ORDER BY k}), $before,
	'and mean the same');

# --- secrets --------------------------------------------------------------------

# Everything that can be made to talk: librdkafka's debugging, the server's, EXPLAIN.
sql(q{CREATE SERVER sasl FOREIGN DATA WRAPPER millrace
		OPTIONS ("bootstrap.servers" '127.0.0.1:1', "security.protocol" 'sasl_plaintext', "sasl.mechanisms" 'PLAIN', "debug" 'all');
	CREATE USER MAPPING FOR PUBLIC SERVER sasl OPTIONS ("sasl.username" 'kafka_user', "sasl.password" 'hunter2');
	CREATE FOREIGN TABLE guarded (id bigint) SERVER sasl OPTIONS (topic 'guarded');
	GRANT SELECT ON guarded TO PUBLIC; GRANT USAGE ON FOREIGN SERVER sasl TO app});
sql(q{ALTER SYSTEM SET log_min_messages = 'debug5'});
sql('SELECT pg_reload_conf()');
sql(q{SELECT millrace.create_continuous_view('guarded_view', 'SELECT count(*) FROM guarded')});
wait_for($node, q{SELECT last_error <> '' FROM millrace.views WHERE view = 'guarded_view'::regclass});
($rc, $out, $err) = $node->psql('postgres', q{SET client_min_messages = 'debug5'; SET statement_timeout = '2s'; SELECT * FROM guarded});
isnt($rc, 0, 'no broker');
unlike("$out$err", qr/hunter2/, 'no secret in what a client is told, at debug level');
($rc, $out, $err) = $node->psql('postgres', q{SET client_min_messages = 'debug5'; SET ROLE app; SET statement_timeout = '2s';
	SELECT millrace.create_topic('sasl', 't')});
isnt($rc, 0, 'no broker for a topic');
unlike("$out$err", qr/hunter2/, 'no secret there');
sql('ALTER SYSTEM RESET log_min_messages');
sql('SELECT pg_reload_conf()');
unlike(sql('EXPLAIN (ANALYZE OFF, VERBOSE) SELECT * FROM guarded'), qr/hunter2|kafka_user/, 'none in EXPLAIN');
unlike(sql('SELECT string_agg(a::text, chr(10)) FROM pg_stat_activity a WHERE pid <> pg_backend_pid()'), qr/hunter2/,
	'none in pg_stat_activity');
unlike(sql('SELECT string_agg(s::text, chr(10)) FROM pg_foreign_server s'), qr/hunter2/, 'none in pg_foreign_server');
unlike(sql(q{SET ROLE app; SELECT string_agg(m::text, chr(10)) FROM pg_user_mappings m}) . '', qr/hunter2|kafka_user/,
	'none in pg_user_mappings for others');
foreach my $statement (q{ALTER USER MAPPING FOR PUBLIC SERVER sasl OPTIONS (SET "sasl.password" 'hunter2', ADD "nonsense" 'x')},
	q{ALTER SERVER sasl OPTIONS (ADD "sasl.password" 'hunter2')},
	q{CREATE USER MAPPING FOR app SERVER sasl OPTIONS ("ssl.key.pem" 'hunter2', "sasl.username" 'a', "linger.ms" '1')},
	q{ALTER FOREIGN TABLE guarded OPTIONS (ADD "sasl.password" 'hunter2')})
{
	($rc, $out, $err) = $node->psql('postgres', $statement);
	isnt($rc, 0, 'a statement with a secret that is refused');
	$err =~ s/^.*LINE \d+:.*$//mg;
	unlike($err, qr/hunter2/, 'does not show it');
}
unlike(slurp_file($node->logfile), qr/hunter2/, 'none in the log, at debug level');

done_testing();
