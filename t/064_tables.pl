# Tables whose INSERTs are streams: the tests of views once more, over tables; kills under
# load; dump and restore; rows that leave.  Views are compared with their query over the table.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $dir = PostgreSQL::Test::Utils::tempdir();

sub sql
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

# --- what tests of views say of streams holds for tables --------------------------

# What a regression test prints, with attached tables in the place of streams.
sub over_tables
{
	my ($name) = @_;
	my $out;
	sql("DROP DATABASE IF EXISTS regression");
	sql("CREATE DATABASE regression");
	sql('CREATE EXTENSION millrace', 'regression');
	IPC::Run::run([ 'psql', '-X', '-a', '-q', '-v', 'over_tables=1', '-d', $node->connstr('regression') ],
		'<', "sql/$name.sql", '>', \$out, '2>&1');
	return $out;
}

$ENV{PGTZ} = 'America/Los_Angeles';
$ENV{PGDATESTYLE} = 'Postgres, MDY';
$ENV{PGOPTIONS} = '-c intervalstyle=postgres_verbose';
foreach my $name (qw(view_aggregates view_clauses view_joins view_union view_combine view_time view_ordered))
{
	my @expected = map { slurp_file($_) } grep { -e } map { "expected/$name$_.out" } '', map { "_$_" } 1 .. 9;
	my $out = over_tables($name);
	ok((grep { $_ eq $out } @expected), "$name, over tables") or diag(diff($expected[0], $out));
}
delete @ENV{qw(PGTZ PGDATESTYLE PGOPTIONS)};

# The lines that two texts do not share.
sub diff
{
	my ($expected, $out) = @_;
	append_to_file("$dir/expected", $expected);
	append_to_file("$dir/out", $out);
	my $result;
	IPC::Run::run([ 'diff', "$dir/expected", "$dir/out" ], '>', \$result);
	unlink "$dir/expected", "$dir/out";
	return substr $result, 0, 4000;
}

# --- kills ------------------------------------------------------------------------

my %query = (
	per_k => 'SELECT k, count(*) AS n, sum(amount) AS total, max(id) AS last FROM orders GROUP BY k',
	everything => 'SELECT count(*) AS n, sum(amount) AS total FROM orders',
	copied => 'SELECT id, note FROM orders WHERE k = 1',
	named => 'SELECT name, count(*) AS n FROM orders LEFT JOIN names USING (k) GROUP BY name',
	united => 'SELECT k, count(*) AS n FROM (SELECT k FROM orders UNION ALL SELECT k FROM refunds) u GROUP BY k',
	refunded => 'SELECT k, sum(amount) AS total FROM refunds GROUP BY k',
	per_part => 'SELECT k % 10 AS part, count(*) AS n FROM parted GROUP BY 1');

sub all_exact
{
	my ($what, $database) = @_;
	is_same($node, $_, $query{$_}, "$what: $_", $database) foreach sort keys %query;
}

sql(q{
	CREATE TABLE names (k int PRIMARY KEY, name text);
	INSERT INTO names SELECT i, 'name ' || i FROM generate_series(1, 40) i;
	CREATE TABLE orders (id bigserial PRIMARY KEY, k int, amount numeric, note text);
	CREATE TABLE refunds (k int, amount numeric);
	CREATE TABLE parted (k int) PARTITION BY RANGE (k);
	CREATE TABLE parted_0 PARTITION OF parted FOR VALUES FROM (MINVALUE) TO (25);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (25) TO (MAXVALUE);
	INSERT INTO orders (k, amount) SELECT i % 50, i FROM generate_series(1, 1000) i;
	SELECT millrace.attach_table('orders'), millrace.attach_table('refunds'), millrace.attach_table('parted');});
sql(qq{SELECT millrace.create_continuous_view('$_', \$\$$query{$_}\$\$)}) foreach sort keys %query;
all_exact('filled');

my %script = (
	one => q{INSERT INTO orders (k, amount, note) VALUES (:k, 1.5, 'one');},
	two => q{BEGIN;
		INSERT INTO orders (k, amount) VALUES (:k, 2), (:k + 1, 3);
		SAVEPOINT s;
		INSERT INTO refunds VALUES (:k, 1000);
		ROLLBACK TO s;
		INSERT INTO refunds VALUES (:k, 2);
		COMMIT;},
	owt => q{BEGIN;
		INSERT INTO refunds SELECT i, 1 FROM generate_series(1, :k) i;
		INSERT INTO orders (k, amount) SELECT i, 1 FROM generate_series(1, :k) i;
		INSERT INTO parted SELECT generate_series(1, :k);
		INSERT INTO parted_1 VALUES (:k + 25);
		COMMIT;},
	none => q{BEGIN; INSERT INTO orders (k, amount) VALUES (:k, 77); INSERT INTO parted_0 VALUES (8); ROLLBACK;},
	rr => q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM names;
		INSERT INTO orders (k, amount) VALUES (:k, 5); COMMIT;});
append_to_file("$dir/$_.pgbench", "\\set k random(1, 50)\n$script{$_}\n") foreach keys %script;

sub start_load
{
	my ($seconds) = @_;
	my $h = IPC::Run::start(
		[ 'pgbench', '-n', '-c', '5', '-j', '5', '-T', $seconds, '-M', 'prepared',
			(map { ('-f', "$dir/$_.pgbench") } sort keys %script), '-d', $node->connstr('postgres') ],
		'<', \undef, '>', "$dir/pgbench.out", '2>', "$dir/pgbench.err");
	return $h;
}

my $clients = q{FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()};

# Waits until the load has inserted more.
sub wait_more
{
	my ($min) = @_;
	my $now = sql('SELECT max(id) FROM orders');
	wait_for($node, "SELECT max(id) > $now + $min FROM orders");
}

foreach my $round (1 .. 3)
{
	my $load = start_load(600);
	wait_more(300);
	if ($round == 2)
	{
		kill_process(sql("SELECT pid $clients LIMIT 1"));
		$node->poll_query_until('postgres', 'SELECT true');
	}
	else
	{
		kill_server($node);
		restart_server($node);
	}
	$load->finish;
	all_exact("round $round");
}

# DDL under load
my $load = start_load(600);
wait_more(100);
sql(qq{SELECT millrace.create_continuous_view('young', \$\$$query{per_k}\$\$)});
wait_more(50);
sql(q{SELECT millrace.rebuild('per_k'); SELECT millrace.deactivate('everything'); SELECT millrace.activate('everything')});
wait_more(50);
sql(q{DROP VIEW refunded; CREATE TABLE parted_more (k int); ALTER TABLE orders ADD more int});
delete $query{refunded};
wait_more(50);
$load->signal('TERM');
$load->finish;
wait_for($node, "SELECT count(*) = 0 $clients");
unlike(slurp_file("$dir/pgbench.err"), qr/ERROR/, 'no transaction failed for it');
$query{young} = $query{per_k};
all_exact('DDL under load');

# --- dump and restore ---------------------------------------------------------------

sql(q{DELETE FROM orders WHERE id % 2 = 0});
my %shown = map { $_ => sql("SELECT v::text FROM $_ v ORDER BY 1") } keys %query;
system_or_bail('pg_dump', '-d', $node->connstr('postgres'), '-Fc', '-f', "$dir/dump");
sql('CREATE DATABASE restored');
my ($out, $err);
my $ok = IPC::Run::run([ 'pg_restore', '-d', $node->connstr('restored'), "$dir/dump" ],
	'<', \undef, '>', \$out, '2>', \$err);
ok($ok && $err eq '', 'a dump is restored without a word') or diag $err;
is(sql("SELECT v::text FROM $_ v ORDER BY 1", 'restored'), $shown{$_}, "$_ holds what was dumped") foreach sort keys %query;
sql(q{DO $$ BEGIN DROP TABLE orders, refunds, parted CASCADE; ASSERT (SELECT count(*) = 0 FROM millrace.continuous_view); RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN NULL; END $$}, 'restored');
pass('before any is opened they can be dropped with their tables');
is(sql('SELECT DISTINCT state FROM millrace.views', 'restored'), 'running', 'the views need no activate()');
sql($_, 'restored') foreach 'CREATE TABLE before AS TABLE per_k',
	q{INSERT INTO orders (k, amount) VALUES (1, 100), (1000, 1)}, 'INSERT INTO parted_1 VALUES (30), (40)';
is(sql('SELECT 1 FROM per_k JOIN before b USING (k, n) WHERE k = 1', 'restored'), '', 'they take new rows');
is(sql('SELECT v.n - b.n, (v.total - b.total)::int FROM per_k v JOIN before b USING (k) WHERE k = 1', 'restored'), '1|100', 'each once');
is_same($node, 'per_part', $query{per_part}, 'partitions are followed, too', 'restored');
sql('SELECT millrace.rebuild(view) FROM millrace.views', 'restored');
all_exact('computed anew', 'restored');
sql('DROP TABLE orders, refunds, parted CASCADE', 'restored');
is(sql('SELECT count(*) FROM millrace.continuous_view', 'restored'), '0', 'and go with their tables');
sql('CREATE DATABASE copied TEMPLATE restored');
sql('DROP DATABASE copied');

# --- a view of the changes of a view over a topic -------------------------------------

create_stream($node, 'clicks', event_columns());
sql(q{
	SELECT millrace.create_continuous_view('clicked', 'SELECT k, count(*) AS n FROM clicks GROUP BY k', changes => true);
	SELECT millrace.attach_table('clicked_changes');
	SELECT millrace.create_continuous_view('moves', 'SELECT (new).k, count(*) AS n, sum((new).n - coalesce((old).n, 0)) AS clicks
		FROM clicked_changes GROUP BY 1');
	INSERT INTO clicks (id, k) SELECT i, i % 7 FROM generate_series(1, 100) i;
	INSERT INTO clicks (id, k) SELECT i, i % 5 FROM generate_series(1, 100) i;});
wait_latest($node, 'clicked');
is_same($node, 'clicked', 'SELECT k, count(*) AS n FROM clicks GROUP BY k', 'a view over a topic');
is_same($node, 'moves', 'SELECT (new).k, count(*) AS n, sum((new).n - coalesce((old).n, 0)) AS clicks
	FROM clicked_changes GROUP BY 1', 'a view of its changes is as far as it');
is(sql('SELECT sum(clicks) FROM moves'), '200', 'and has counted every message');

sql(q{
	SELECT millrace.create_continuous_view('brittle', 'SELECT sum(1 / ((new).k - 100)) AS s FROM clicked_changes');
	INSERT INTO clicks (id, k) VALUES (1000, 100), (1001, 1);});
wait_latest($node, 'clicked');
is_same($node, 'clicked', 'SELECT k, count(*) AS n FROM clicks GROUP BY k', 'a view goes on');
is_same($node, 'moves', 'SELECT (new).k, count(*) AS n, sum((new).n - coalesce((old).n, 0)) AS clicks
	FROM clicked_changes GROUP BY 1', 'and so does one of its changes');
is(sql(q{SELECT state, last_error FROM millrace.views WHERE view = 'brittle'::regclass}), 'failed|division by zero',
	'where another one fails');

# --- rows that leave ------------------------------------------------------------------

sql(q{
	CREATE TABLE hits (at timestamptz, k int);
	SELECT millrace.attach_table('hits');
	SELECT millrace.create_continuous_view('recent', 'SELECT k, count(*) AS n FROM hits GROUP BY k',
		sliding_window => '1 second', time_column => 'at', step => '100 milliseconds');
	SELECT millrace.create_continuous_view('kept', 'SELECT at, count(*) AS n FROM hits GROUP BY at',
		retention => '1 hour', retention_column => 'at');
	INSERT INTO hits SELECT now() - i * interval '6 minutes', i FROM generate_series(0, 9) i;
	INSERT INTO hits SELECT now(), i FROM generate_series(1, 12000) i;});
is(sql('SELECT count(*) FROM kept'), '11', 'groups that are young enough are there');
wait_for($node, 'SELECT count(*) = 0 FROM recent_mrel');
is(sql('SELECT count(*) FROM recent'), '0', 'what has left a window is removed');
sql(q{SELECT millrace.set_retention('kept', '30 minutes', 'at')});
wait_for($node, 'SELECT count(*) <= 6 FROM kept_mrel');
is_same($node, 'kept', q{SELECT at, count(*) AS n FROM hits WHERE at > now() - interval '30 minutes' GROUP BY at},
	'a shorter retention removes more');

# Who has a view's contents for long keeps the rows of that view only: twice, since the supervisor may look
# at the other one first.
sql(q{
	CREATE TABLE visits (at timestamptz, k int);
	SELECT millrace.attach_table('visits');
	SELECT millrace.create_continuous_view('visited', 'SELECT k, count(*) AS n FROM visits GROUP BY k',
		sliding_window => '1 second', time_column => 'at', step => '100 milliseconds');});
my $rebuild = open_transaction($node, q{SELECT millrace.rebuild('kept')});
foreach my $round (1 .. 2)
{
	sql('INSERT INTO visits SELECT now(), i FROM generate_series(1, 3) i');
	wait_for($node, 'SELECT count(*) = 0 FROM visited_mrel');
	pass("round $round: rows leave a view while another one is rebuilt, not committed");
}
$rebuild->end('ROLLBACK');
sql(q{SELECT millrace.set_retention('kept', '10 minutes', 'at')});
wait_for($node, 'SELECT count(*) <= 3 FROM kept_mrel');
pass('and leave that one afterwards');

done_testing();
