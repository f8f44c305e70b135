# What a user without privileges may and may not.

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
	ok($rc != 0, $name) or return;
	like($err, $like, "$name: message");
}

sql(q{
	CREATE ROLE app; CREATE ROLE other; CREATE ROLE stranger;
	CREATE SCHEMA app AUTHORIZATION app; CREATE SCHEMA other AUTHORIZATION other;
	GRANT USAGE ON SCHEMA app TO other;
	CREATE TABLE secret (k integer, word text); INSERT INTO secret VALUES (1, 'word')});

# --- what it takes to create --------------------------------------------------

refused('app', "CREATE FOREIGN TABLE app.own (id bigint) SERVER kafka OPTIONS (topic '$topic')", qr/permission denied/,
	'a stream needs USAGE on the server');
refused('app', "SELECT millrace.create_topic('kafka', '" . topic_name('denied') . "')", qr/permission denied/,
	'so does a topic');
refused('app', q{SELECT millrace.create_continuous_view('app.v', 'SELECT count(*) FROM clicks')}, qr/permission denied/,
	'a view needs SELECT on the stream');
sql('GRANT SELECT ON clicks TO app');
refused('app', q{SELECT millrace.create_continuous_view('app.v',
	'SELECT count(*) FROM clicks JOIN secret USING (k)')}, qr/permission denied.*secret/, 'and on what is joined');
refused('app', q{SELECT millrace.create_continuous_view('app.v',
	'SELECT count(*) FROM clicks WHERE k IN (SELECT k FROM secret)')}, qr/permission denied.*secret/, 'and in a subquery');
refused('app', q{SELECT millrace.create_continuous_view('other.v', 'SELECT count(*) FROM clicks')}, qr/permission denied/,
	'and CREATE on the schema');
sql(q{SET ROLE app; SELECT millrace.create_continuous_view('app.v', 'SELECT k, count(*) AS n FROM clicks GROUP BY k')});
is(sql(q{SELECT relowner::regrole FROM pg_class WHERE oid = 'app.v'::regclass}), 'app', 'the creator owns the view');

# properties that run or read something on the server
sql('GRANT USAGE ON FOREIGN SERVER kafka TO app; GRANT USAGE ON FOREIGN DATA WRAPPER millrace TO app');
foreach my $option ('ssl.ca.location', 'ssl.key.location', 'ssl.keystore.location', 'sasl.kerberos.kinit.cmd',
	'plugin.library.paths', 'ssl.certificate.location', 'ssl.crl.location', 'sasl.kerberos.keytab')
{
	refused('app', qq{CREATE SERVER mine FOREIGN DATA WRAPPER millrace
		OPTIONS ("bootstrap.servers" 'localhost:1', "$option" '/etc/passwd')}, qr/superuser|permission denied|Only|only/,
		"$option is for superusers");
}
foreach my $secret ('sasl.password', 'ssl.key.password', 'ssl.key.pem')
{
	my ($rc, $out, $err) = $node->psql('postgres', qq{CREATE SERVER leak FOREIGN DATA WRAPPER millrace
		OPTIONS ("bootstrap.servers" 'localhost:1', "$secret" 'hunter2')});
	isnt($rc, 0, "$secret belongs into a user mapping");
	unlike($err, qr/hunter2/, 'and is not shown');
}

# --- who may control ----------------------------------------------------------

sql('GRANT SELECT ON app.v TO other');
foreach my $call ("millrace.deactivate('app.v')", "millrace.activate('app.v')",
	"millrace.truncate_continuous_view('app.v')", "millrace.wait_for_latest('app.v', timeout => '1s')",
	"millrace.wait_for_offset('app.v', 0, 0, timeout => '1s')", "millrace.explain_view('app.v')")
{
	refused('other', "SELECT $call", qr/must be owner|permission denied/, "$call needs ownership");
}
refused('app', q{SELECT millrace.deactivate('clicks')}, qr/must be owner|permission denied/, "so does a stream");
refused('other', 'DROP VIEW app.v', qr/must be owner/, 'so does DROP VIEW');
sql(q{SET ROLE app; SELECT millrace.deactivate('app.v'); SELECT millrace.activate('app.v');
	SELECT millrace.explain_view('app.v')});
pass('the owner may');
foreach my $table (split /\n/, sql(q{SELECT c.oid::regclass FROM pg_class c
	WHERE relnamespace = 'millrace'::regnamespace AND relkind = 'r'}))
{
	refused('app', "DELETE FROM $table", qr/permission denied/, "$table is not written by users");
}
my $part = sql(q{SELECT oid::regclass FROM pg_class WHERE relnamespace = 'app'::regnamespace AND relkind = 'r' LIMIT 1});
foreach my $write ("DELETE FROM $part", "TRUNCATE $part", "DROP TABLE $part", "ALTER TABLE $part RENAME TO x")
{
	my ($rc) = $node->psql('postgres', "SET ROLE app; $write");
	isnt($rc, 0, "not even the owner: " . (split / /, $write)[0]);
}

# Monitoring shows what one may read.
is(sql('SET ROLE stranger; SELECT (SELECT count(*) FROM millrace.streams) + (SELECT count(*) FROM millrace.views)
	+ (SELECT count(*) FROM millrace.partitions) + (SELECT count(*) FROM millrace.workers)'), '0', 'a stranger sees nothing');
is(sql('SET ROLE app; SELECT count(*) FROM millrace.views'), '1', 'the owner sees the view');
produce($topic, 0, 'secret junk');
wait_for($node, 'SELECT count(*) = 1 FROM millrace.dead_letters');
is(sql('SET ROLE stranger; SELECT count(*) FROM millrace.dead_letters'), '0', 'nobody sees messages of streams that are not his');

# --- as whom a query runs -----------------------------------------------------

# A function of the owner's runs as the owner, and not as the worker.
sql(q{
	SET ROLE app;
	CREATE FUNCTION app.who(integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
	BEGIN
		RETURN current_user;
	END $$;
	SELECT millrace.create_continuous_view('app.as_whom', 'SELECT app.who(k) AS who, count(*) AS n FROM clicks GROUP BY 1')});
produce($topic, 0, event(1));
wait_latest($node, 'app.as_whom');
is(sql('SELECT who, n FROM app.as_whom'), 'app|1', 'the query runs as its owner');

# Planted: the function that the owner's view calls tries to become more, or to change views while one takes
# messages.  A volatile one inside, which may execute anything.
wait_joined($node, 'clicks');
sql(q{
	SET ROLE app;
	CREATE TABLE app.facts (k integer);
	INSERT INTO app.facts VALUES (1), (2);
	SELECT millrace.attach_table('app.facts');
	SELECT millrace.create_continuous_view('app.idle', 'SELECT count(*) AS n FROM app.facts');
	SELECT millrace.deactivate('app.idle');
	CREATE FUNCTION app.tries() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
	DECLARE
		got text := '';
		attempt text;
	BEGIN
		FOREACH attempt IN ARRAY ARRAY['RESET ROLE', 'SET ROLE postgres', 'RESET SESSION AUTHORIZATION',
			'SET SESSION AUTHORIZATION postgres', 'ALTER ROLE app SUPERUSER', 'SELECT FROM public.secret',
			'CREATE TEMP TABLE planted ()', 'COPY (SELECT 1) TO PROGRAM ''true''',
			'DECLARE kept CURSOR WITH HOLD FOR SELECT public.nobodys()', 'SELECT millrace.deactivate(''public.clicks'')',
			'SELECT millrace.activate(''app.idle'')', 'SELECT millrace.deactivate(''app.as_whom'')',
			'SELECT millrace.truncate_continuous_view(''app.as_whom'')', 'SELECT millrace.replay(''app.as_whom'')',
			'SELECT millrace.set_retention(''app.idle'', ''1 day'', ''n'')', 'SELECT millrace.rebuild(''app.as_whom'')',
			'SELECT millrace.detach_table(''app.facts'')']
		LOOP
			BEGIN
				EXECUTE attempt;
				got := got || '+' || attempt;
			EXCEPTION WHEN OTHERS THEN NULL; END;
		END LOOP;
		RETURN current_user || got;
	END $$;
	CREATE OR REPLACE FUNCTION app.who(integer) RETURNS text LANGUAGE plpgsql STABLE AS $$
	BEGIN
		RETURN app.tries();
	END $$});
produce($topic, 0, event(2));
wait_latest($node, $_) foreach 'app.v', 'app.as_whom';
is(sql(q{SELECT who, n FROM app.as_whom}), 'app|2', 'and cannot become more');
is(sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'app'}), 'f', 'nobody became superuser');
is(sql(q{SELECT state FROM millrace.views WHERE view = 'app.idle'::regclass}), 'paused', 'nor change views');

# the same where a session fills a view
my ($rc, $out, $err) = $node->psql('postgres', q{SET ROLE app; CREATE FUNCTION app.activates(integer) RETURNS integer
	LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM millrace.activate('app.idle'); RETURN $1; END $$;
	SELECT millrace.create_continuous_view('app.activating', 'SELECT k, sum(app.activates(k)) AS n FROM app.facts GROUP BY k')});
like($err, qr/cannot execute activate\(\) within security-restricted operation/, 'which is refused there');
sql('DROP VIEW app.as_whom, app.idle; DROP TABLE app.facts');

# Objects planted in front of a superuser's view: what the query means was
# decided when it was created.
sql(q{
	CREATE SCHEMA front AUTHORIZATION app;
	ALTER DATABASE postgres SET search_path = front, public;
	SELECT millrace.create_continuous_view('public.superusers', 'SELECT lower(s) AS low, count(*) AS n FROM public.clicks GROUP BY 1')});
sql(q{
	SET ROLE app;
	CREATE FUNCTION front.lower(text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
		BEGIN ALTER ROLE app SUPERUSER; RETURN 'planted'; END $$;
	CREATE FUNCTION front.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$
		BEGIN ALTER ROLE app SUPERUSER; RETURN true; END $$;
	CREATE OPERATOR front.= (LEFTARG = text, RIGHTARG = text, FUNCTION = front.eq);
	CREATE FUNCTION front.int8pl(bigint, bigint) RETURNS bigint LANGUAGE plpgsql AS $$
		BEGIN ALTER ROLE app SUPERUSER; RETURN 0; END $$;
	CREATE OPERATOR front.+ (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = front.int8pl)});
$node->restart;
produce($topic, 0, event(3), event(4), event(17));
wait_latest($node, 'superusers');
is_same($node, 'superusers', "SELECT 's' || i % 13 AS low, count(*) AS n FROM unnest(ARRAY[1, 2, 3, 4, 17]) i GROUP BY 1",
	"a superuser's view is what it was");
is(sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'app'}), 'f', 'still nobody became superuser');
sql('ALTER DATABASE postgres RESET search_path');

# SELECT revoked later
sql(q{GRANT SELECT ON secret TO app;
	SET ROLE app; SELECT millrace.create_continuous_view('app.joins',
		'SELECT word, count(*) AS n FROM clicks JOIN secret USING (k) GROUP BY word')});
wait_latest($node, 'app.joins');
is(sql('SELECT * FROM app.joins'), 'word|1', 'a join that is allowed');
sql('REVOKE SELECT ON secret FROM app');
produce($topic, 0, event(8));
wait_state($node, 'view', 'app.joins', 'failed');
like(sql(q{SELECT last_error FROM millrace.views WHERE view = 'app.joins'::regclass}), qr/permission denied.*secret/,
	'a view whose owner lost the privilege fails, and says so');
wait_latest($node, 'app.v');
is_same($node, 'app.v', 'SELECT i % 7, count(*) FROM unnest(ARRAY[1, 2, 3, 4, 17, 8]) i GROUP BY 1', 'the others go on');
sql(q{GRANT SELECT ON secret TO app; SET ROLE app; SELECT millrace.activate('app.joins')});
wait_latest($node, 'app.joins');
is(sql('SELECT * FROM app.joins'), 'word|2', 'granted again, it goes on');

# Row security of a joined table is the owner's.
sql(q{ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
	CREATE POLICY own ON secret TO app USING (word <> 'hidden');
	INSERT INTO secret VALUES (2, 'hidden'), (2, 'shown')});
produce($topic, 0, event(9));
wait_latest($node, 'app.joins');
is(sql('SELECT * FROM app.joins ORDER BY word'), "shown|1\nword|2", 'row security holds');

# --- secrets ------------------------------------------------------------------

sql(q{CREATE SERVER sasl FOREIGN DATA WRAPPER millrace
		OPTIONS ("bootstrap.servers" '127.0.0.1:1', "security.protocol" 'sasl_plaintext', "sasl.mechanisms" 'PLAIN');
	CREATE USER MAPPING FOR PUBLIC SERVER sasl OPTIONS ("sasl.username" 'kafka_user', "sasl.password" 'hunter2');
	CREATE FOREIGN TABLE guarded (id bigint) SERVER sasl OPTIONS (topic 'guarded');
	GRANT SELECT ON guarded TO PUBLIC;
	SELECT millrace.create_continuous_view('guarded_view', 'SELECT count(*) FROM guarded')});
wait_for($node, q{SELECT last_error <> '' FROM millrace.views WHERE view = 'guarded_view'::regclass});
unlike(sql(q{SELECT last_error FROM millrace.views WHERE view = 'guarded_view'::regclass}), qr/hunter2/, 'no secret in an error');
my ($rc, $out, $err) = $node->psql('postgres', q{SET statement_timeout = '2s'; SELECT * FROM guarded});
unlike($err, qr/hunter2/, 'nor in that of a scan');
is(sql(q{SET ROLE stranger; SELECT count(*) FROM pg_user_mappings WHERE array_to_string(umoptions, ' ') ~ 'hunter2'}), '0',
	'nor in a catalog that others read');
unlike(slurp_file($node->logfile), qr/hunter2/, 'nor in the log');
sql('DROP SERVER sasl CASCADE');

done_testing();
