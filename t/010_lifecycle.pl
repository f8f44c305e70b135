# DDL while messages flow: all of it works or is refused, and leaves nothing
# behind.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $topic = create_topic(topic_name('clicks'), partitions => 2);
my $query = 'SELECT k, count(*) AS n, sum(id) AS ids FROM %s e GROUP BY k';
my $columns = event_columns();

sub sql
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

sub set_up
{
	my ($schema, $database) = @_;
	my $prefix = $schema ? "$schema." : '';
	sql(qq{
		CREATE FOREIGN TABLE ${prefix}clicks ($columns) SERVER kafka OPTIONS (topic '$topic');
		SELECT millrace.create_continuous_view('${prefix}per_k', \$\$@{[sprintf $query, "${prefix}clicks"]}\$\$);
		SELECT millrace.create_continuous_view('${prefix}copied', 'SELECT id, s FROM ${prefix}clicks WHERE k = 1');
	}, $database);
	wait_for($node, "SELECT sum(n) > 50 FROM ${prefix}per_k", 't', $database);
}

# Everything in the database that is not PostgreSQL's, and the contents of our
# own tables.
sub inventory
{
	my ($database) = @_;
	return sql(q{
		SELECT 'relation ' || c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
			WHERE nspname NOT LIKE 'pg\_toast%' AND nspname <> 'information_schema' AND c.oid >= 16384
		UNION ALL SELECT 'routine ' || oid::regprocedure FROM pg_proc WHERE oid >= 16384
		UNION ALL SELECT 'type ' || oid::regtype FROM pg_type WHERE oid >= 16384 AND typtype <> 'b'
		UNION ALL SELECT format('%s rows in %s',
				(xpath('//c/text()', query_to_xml('SELECT count(*) AS c FROM ' || c.oid::regclass, true, true, '')))[1],
				c.oid::regclass)
			FROM pg_class c WHERE relnamespace = 'millrace'::regnamespace AND relkind = 'r'
		ORDER BY 1}, $database);
}

sub nothing_left
{
	my ($before, $what) = @_;
	wait_for($node, q{SELECT count(*) = 0 FROM millrace.workers});
	is(inventory(), $before, "$what leaves nothing behind");
}

my $empty = inventory();
my $load = start_traffic($topic, partitions => 2, pause => 0.05);

# --- dropping -----------------------------------------------------------------

set_up();
my $pid = worker_pid($node, 'clicks');
sql('DROP VIEW per_k');
is(sql(q{SELECT count(*) FROM millrace.views}), '1', 'the other view is still there');
my $rows = sql('SELECT count(*) FROM copied');
wait_for($node, "SELECT count(*) > $rows FROM copied");
sql('DROP VIEW copied');
wait_for($node, q{SELECT count(*) = 0 FROM millrace.workers});
pass('without views no worker');
sql('DROP FOREIGN TABLE clicks');
nothing_left($empty, 'DROP VIEW and FOREIGN TABLE');

set_up();
my ($rc, $out, $err) = $node->psql('postgres', 'DROP FOREIGN TABLE clicks');
isnt($rc, 0, 'a stream with views is not dropped without CASCADE');
like($err, qr/per_k/, 'and the views are named');
($rc, $out, $err) = $node->psql('postgres', 'DROP TABLE per_k_mrel');
isnt($rc, 0, 'nor is what belongs to a view');
sql('BEGIN; DROP FOREIGN TABLE clicks CASCADE; ROLLBACK');
$rows = sql('SELECT sum(n) FROM per_k');
wait_for($node, "SELECT sum(n) > $rows FROM per_k");
pass('a drop that is rolled back');
sql('DROP FOREIGN TABLE clicks CASCADE');
nothing_left($empty, 'DROP FOREIGN TABLE CASCADE');

set_up();
sql('DROP VIEW per_k, copied; DROP FOREIGN TABLE clicks');
nothing_left($empty, 'dropping several views at once');

my $broker = bootstrap();
sql(qq{CREATE SERVER second FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" '$broker');
	CREATE FOREIGN TABLE clicks ($columns) SERVER second OPTIONS (topic '$topic');
	SELECT millrace.create_continuous_view('per_k', \$\$@{[sprintf $query, 'clicks']}\$\$)});
wait_for($node, 'SELECT sum(n) > 50 FROM per_k');
sql('DROP SERVER second CASCADE');
nothing_left($empty, 'DROP SERVER CASCADE');

sql('CREATE SCHEMA "odd Name"');
set_up('"odd Name"');
sql('DROP SCHEMA "odd Name" CASCADE');
nothing_left($empty, 'DROP SCHEMA CASCADE');

sql('CREATE ROLE app; GRANT USAGE ON FOREIGN SERVER kafka TO app; CREATE SCHEMA app AUTHORIZATION app');
sql(qq{SET ROLE app;
	CREATE FOREIGN TABLE app.clicks ($columns) SERVER kafka OPTIONS (topic '$topic');
	SELECT millrace.create_continuous_view('app.per_k', \$\$@{[sprintf $query, 'app.clicks']}\$\$)});
wait_for($node, 'SELECT sum(n) > 50 FROM app.per_k');
sql('CREATE ROLE heir; REASSIGN OWNED BY app TO heir');
is(sql(q{SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ',') FROM pg_class
	WHERE relnamespace = 'app'::regnamespace AND relkind IN ('v', 'f')}), 'heir', 'REASSIGN OWNED takes view and stream along');
($rc, $out, $err) = $node->psql('postgres', q{SET ROLE heir; SELECT * FROM app.per_k});
is($rc, 0, 'the heir sees the view') or diag $err;
# its query runs as the heir now, who owns the stream as well
$rows = sql('SELECT sum(n) FROM app.per_k');
wait_for($node, "SELECT sum(n) > $rows FROM app.per_k");
($rc, $out, $err) = $node->psql('postgres', 'DROP OWNED BY heir');
is($rc, 0, 'DROP OWNED BY') or diag($err), sql('DROP OWNED BY heir CASCADE');
sql('DROP OWNED BY app; DROP ROLE app, heir');
nothing_left($empty, 'DROP OWNED BY');

# --- changing -----------------------------------------------------------------

set_up();
sql('CREATE SCHEMA other; CREATE ROLE keeper; GRANT USAGE, CREATE ON SCHEMA other, public TO keeper;
	GRANT SELECT ON clicks TO keeper');
sub still_runs
{
	my ($view, $stream, $what) = @_;
	my $n = sql("SELECT sum(n) FROM $view");
	wait_for($node, "SELECT sum(n) > $n FROM $view");
	is(sql("SELECT count(*) FROM millrace.views WHERE view = '$view'::regclass AND stream = '$stream'::regclass
		AND state IN ('running', 'catching up', 'starting')"), '1', "$what: goes on");
}
sql('ALTER VIEW per_k RENAME TO renamed');
still_runs('renamed', 'clicks', 'rename of a view');
sql('ALTER VIEW renamed SET SCHEMA other');
still_runs('other.renamed', 'clicks', 'SET SCHEMA of a view');
is(sql(q{SELECT count(*) FROM pg_class WHERE relname LIKE 'per\_k%' OR (relname LIKE 'renamed%'
	AND relnamespace <> 'other'::regnamespace)}), '0', 'its parts go along');
sql('ALTER VIEW other.renamed OWNER TO keeper');
still_runs('other.renamed', 'clicks', 'OWNER TO');
sql('ALTER FOREIGN TABLE clicks RENAME TO hits');
still_runs('other.renamed', 'hits', 'rename of a stream');
sql('ALTER FOREIGN TABLE hits SET SCHEMA other');
still_runs('other.renamed', 'other.hits', 'SET SCHEMA of a stream');
sql('ALTER SCHEMA other RENAME TO another');
still_runs('another.renamed', 'another.hits', 'rename of a schema');
sql('ALTER FOREIGN TABLE another.hits ADD COLUMN extra text');
still_runs('another.renamed', 'another.hits', 'a new column');
($rc) = $node->psql('postgres', 'ALTER FOREIGN TABLE another.hits DROP COLUMN k');
isnt($rc, 0, 'a column in use is not dropped');
sql('ALTER SERVER kafka RENAME TO broker');
still_runs('another.renamed', 'another.hits', 'rename of a server');
sql('ALTER SERVER broker RENAME TO kafka');
wait_latest($node, 'another.renamed');

# a joined table, which is changed while it is read
sql(q{CREATE TABLE names (k integer PRIMARY KEY, name text);
	INSERT INTO names SELECT i, 'name ' || i FROM generate_series(0, 6) i;
	SELECT millrace.create_continuous_view('joined',
		'SELECT name, count(*) AS n, sum(id) AS ids FROM another.hits JOIN names USING (k) GROUP BY name')});
wait_for($node, 'SELECT sum(n) > 50 FROM joined');
foreach my $change ('ALTER TABLE names ADD COLUMN more integer DEFAULT 5', 'ALTER TABLE names RENAME TO labels',
	'ALTER TABLE labels RENAME COLUMN name TO label', 'CREATE INDEX ON labels (label)', 'VACUUM FULL labels',
	'ALTER TABLE labels DROP CONSTRAINT names_pkey', 'ALTER TABLE labels RENAME TO names',
	'ALTER TABLE names RENAME COLUMN label TO name')
{
	sql($change);
	still_runs('joined', 'another.hits', $change);
}
($rc) = $node->psql('postgres', 'ALTER TABLE names DROP COLUMN name');
isnt($rc, 0, 'a joined column is not dropped');
($rc) = $node->psql('postgres', 'ALTER TABLE names ALTER COLUMN name TYPE varchar(10)');
isnt($rc, 0, 'nor does it change its type');

my $n = $load->stop;
wait_latest($node, $_) foreach qw(another.renamed joined copied);
is_same($node, 'another.renamed', sprintf($query, events($n)), 'nothing lost through all this');
is_same($node, 'joined', "SELECT 'name ' || k, count(*), sum(id) FROM @{[events($n)]} e GROUP BY k", 'nor in the join');
is_same($node, 'copied', "SELECT id, s FROM @{[events($n)]} e WHERE k = 1", 'nor in the third');
sql('DROP TABLE names CASCADE; DROP VIEW copied; DROP SCHEMA another CASCADE;
	DROP OWNED BY keeper; DROP ROLE keeper');
nothing_left($empty, 'dropping what was changed');

# --- databases ----------------------------------------------------------------

$load = start_traffic($topic, partitions => 2, from => $n + 1, pause => 0.05);
sql('CREATE DATABASE one');
sql('CREATE DATABASE two');
create_server($node, $_) foreach qw(one two);
set_up('', $_) foreach qw(one two);
# two.per_k is another view than one.per_k
sql('DROP VIEW per_k', 'two');
# A worker in the template would be in the way for ever.
sql(q{SELECT millrace.deactivate('clicks')}, 'one');
wait_for($node, q{SELECT count(*) = 0 FROM millrace.workers}, 't', 'one');
sql('CREATE DATABASE copy TEMPLATE one');
sql(q{SELECT millrace.activate('clicks')}, 'one');
sql('DROP DATABASE two WITH (FORCE)');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'two'}), '0', 'DROP DATABASE ends the workers');
$n = $load->stop;
wait_latest($node, 'per_k', undef, 'one');
is_same($node, 'per_k', sprintf($query, events($n)), 'the template is whole', 'one');
$node->safe_psql('copy', q{SELECT millrace.activate('clicks')});
wait_latest($node, 'per_k', undef, 'copy');
is_same($node, 'per_k', sprintf($query, events($n)), 'so is its copy', 'copy');
# without FORCE, as people do; the workers give way
sql('DROP DATABASE one');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'one'}), '0', 'DROP DATABASE needs no FORCE');
sql('ALTER DATABASE copy RENAME TO renamed');
produce($topic, 0, event(++$n));
wait_latest($node, 'per_k', undef, 'renamed');
is_same($node, 'per_k', sprintf($query, events($n)), 'a renamed database', 'renamed');
sql('DROP DATABASE renamed');

# --- a view that fails while somebody deactivates it --------------------------

set_up();
sql(q{CREATE FUNCTION fails_late(k integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$
	BEGIN PERFORM pg_advisory_xact_lock_shared(1); RAISE 'late' USING ERRCODE = '42703'; END $$;
	SELECT millrace.create_continuous_view('fails', 'SELECT sum(fails_late(k)) FROM clicks', start_at => 'latest')});
wait_joined($node, 'clicks');
my $lock = open_transaction($node, 'SELECT pg_advisory_lock(1)');
produce($topic, 0, event(++$n));
wait_for($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, '1');
my $deactivate = background($node, q{SELECT millrace.deactivate('fails')});
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT millrace.deactivate' AND wait_event_type = 'Lock'}, '1');
$lock->end();
ok(scalar $deactivate->finish, 'a view is deactivated in the middle of a batch that fails');
wait_latest($node, 'per_k');
is(sql(q{SELECT state FROM millrace.views WHERE view = 'fails'::regclass}), 'paused', 'that it is, and has not failed');
sql('DROP VIEW fails, per_k, copied; DROP FOREIGN TABLE clicks; DROP FUNCTION fails_late');

# --- the extension ------------------------------------------------------------

# It locks all that a worker in the middle of a step works with, in another order: the worker has to go first.
set_up();
wait_latest($node, 'per_k');
my ($without) = $node->psql('postgres', q{CREATE FUNCTION failpoint_arm(text, text, text, integer) RETURNS void LANGUAGE C AS 'millrace', 'mr_failpoint_arm';
	CREATE FUNCTION failpoint_waiting() RETURNS integer LANGUAGE C AS 'millrace', 'mr_failpoint_waiting'}, on_error_stop => 1);
if (!$without)
{
	sql(q{SELECT failpoint_arm('step-stored', 'wait', '00000', 1)});
	produce($topic, 0, event(++$n));
	wait_for($node, 'SELECT failpoint_waiting() > 0');
}
sql(q{SET lock_timeout = '20s'; DROP EXTENSION millrace CASCADE});
sql(q{SELECT failpoint_arm('', 'error', '00000', 0); DROP FUNCTION failpoint_arm, failpoint_waiting}) unless $without;
is(sql(q{SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relkind <> 't'}), '0', 'DROP EXTENSION leaves no relation');
is(sql(q{SELECT count(*) FROM pg_proc WHERE oid >= 16384}), '0', 'and no function');
wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type ~ 'millrace'});
sql('DROP SCHEMA IF EXISTS millrace');
create_server($node, 'postgres');
set_up();
wait_latest($node, 'per_k');
is_same($node, 'per_k', sprintf($query, events($n)), 'CREATE EXTENSION again');

done_testing();
