# The change feed: whatever happens, and at any moment, the changes of a view
# tell what it shows; each commit is notified of once; logical decoding reads
# them as any table.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', init => [ allows_streaming => 1 ], conf => "wal_level = logical\n");
my $topic = create_stream($node, 'clicks', event_columns(), partitions => 2, options => { workers => 2 });
my %query = (
	per_k => 'SELECT k, s, count(*) AS n, sum(v) AS total, max(id) AS last FROM %s e GROUP BY k, s',
	coarse => 'SELECT k, count(*) / 10 AS tens FROM %s e GROUP BY k HAVING count(*) % 20 < 10',
	in_all => 'SELECT count(*) AS n, sum(id) AS ids FROM %s e',
	copied => 'SELECT id, s FROM %s e WHERE k = 1 AND id % 5 = 0');
my @views = sort keys %query;
my $n = 0;

# A view over a view's changes is what the same query is over the table of them.
my $chained = 'SELECT (coalesce(new, old)).k, count(*) AS n, sum(coalesce((new).n, 0) - coalesce((old).n, 0)) AS messages FROM per_k_changes GROUP BY 1';

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# All views are exact, and so are their changes.
sub all_exact
{
	my ($what) = @_;
	foreach my $view (@views)
	{
		wait_latest($node, $view);
		is_same($node, $view, $query{$view} =~ s/%s/events($n)/er, "$what: $view");
		is_told($node, $view, "$what: the changes of $view");
	}
	wait_latest($node, 'chained');
	is_same($node, 'chained', $chained, "$what: a view over changes");
	is_told($node, 'chained', "$what: and its changes");
	is(sql('SELECT count(*) FROM (SELECT k, sum(n) FROM per_k GROUP BY k EXCEPT ALL SELECT k, messages FROM chained) d'),
		'0', "$what: which sum up to the view");
}

sub create
{
	my ($view) = @_;
	sql(qq{SELECT millrace.create_continuous_view('$view', \$\$@{[$query{$view} =~ s/%s/clicks/r]}\$\$, changes => true)});
}

# --- at every moment, under load ----------------------------------------------

sql(q{CREATE PROCEDURE watch(query text) LANGUAGE plpgsql AS $$
	DECLARE difference text; n int := 0;
	BEGIN
		LOOP
			EXECUTE query || ' LIMIT 1' INTO difference;
			IF difference IS NOT NULL THEN RAISE '%', difference; END IF;
			n := n + 1;
			COMMIT;
			EXIT WHEN to_regclass('stop_watching') IS NOT NULL;
		END LOOP;
		RAISE NOTICE 'looked % times', n;
	END $$});
create($_) foreach grep { $_ ne 'coarse' } @views;
my $load = start_traffic($topic, partitions => 2, chunk => 20, pause => 0.02);
wait_for($node, 'SELECT n > 500 FROM in_all');
create('coarse');	# catches up on history
sql(qq{SELECT millrace.attach_table('per_k_changes'); SELECT millrace.create_continuous_view('chained', '$chained', changes => true)});
my %watch = map { ($_ => background($node, 'CALL watch($q$' . differences_told($_) . '$q$)')) } @views, 'chained';
sql(q{SELECT millrace.deactivate('per_k')});
$load->wait_more(200);
sql(q{SELECT millrace.activate('per_k')});
$load->wait_more(400);
sql('CREATE TABLE stop_watching ()');
foreach my $view (@views, 'chained')
{
	my ($ok, $out, $err) = $watch{$view}->finish;
	ok($ok && $err =~ /looked [1-9]/, "the changes told what $view showed at every moment") or diag $err;
}
wait_joined($node, 'clicks');
foreach (1 .. 2)
{
	my @old = worker_pid($node, 'clicks');
	$load->wait_more(100);
	kill_process($old[0]);
	wait_new_worker($node, 'clicks', @old);
	is_told($node, $_, "after a worker was killed, under load: $_") foreach @views, 'chained';
}
$n = $load->stop;
all_exact('after workers were killed');

$load = start_traffic($topic, partitions => 2, from => $n + 1, chunk => 20);
$load->wait_more(300);
kill_server($node);
restart_server($node);
$load->wait_more(100);
$n = $load->stop;
all_exact('after the server was killed');

# --- notifications ------------------------------------------------------------

my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN "public.per_k"');
my $before = sql('SELECT max(batch) FROM per_k_changes');
$load = start_traffic($topic, partitions => 2, from => $n + 1);
$load->wait_more(500);
$n = $load->stop;
wait_latest($node, 'per_k');
my $committed = sql(qq{SELECT string_agg(batch::text, ' ' ORDER BY batch) FROM (SELECT DISTINCT batch FROM per_k_changes WHERE batch > $before) b});
my @batches;
foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	# notifications come after the commit
	push @batches, $listener->query_safe('SELECT 1') =~ /"public\.per_k" with payload "\{"view": "public\.per_k", "batch": (\d+)\}"/g;
	last if @batches && $committed =~ /\b$batches[-1]$/;
	select undef, undef, undef, 0.1;
}
is(join(' ', @batches), $committed, 'each commit is notified of once, in order');
ok(@batches > 0, 'there were some');

# --- what else changes a view -------------------------------------------------

# Exchanged, while messages come: only what differs.
sql(q{SELECT millrace.truncate_continuous_view('per_k'); SELECT millrace.truncate_continuous_view('in_all')});
is_told($node, $_, "$_ was emptied") foreach qw(per_k in_all);
$load = start_traffic($topic, partitions => 2, from => $n + 1, chunk => 20);
$load->wait_more(100);
sql("SELECT millrace.rebuild('$_')") foreach @views;
$load->wait_more(200);
wait_for($node, 'SELECT count(*) FROM millrace.views WHERE rebuild IS NOT NULL', '0');
$n = $load->stop;
all_exact('rebuilt under load');
my $last = sql('SELECT max(id) FROM per_k_changes');
sql(q{SELECT millrace.rebuild('per_k')});
wait_latest($node, 'per_k');
is(sql('SELECT max(id) FROM per_k_changes'), $last, 'a rebuild that changes nothing tells of nothing');

# Messages that a view cannot take, and take them after all.
sql(q{CREATE TABLE divisors AS SELECT k, 0 AS d FROM generate_series(0, 6) k WHERE k = 3;
	INSERT INTO divisors SELECT k, 1 FROM generate_series(0, 6) k WHERE k <> 3});
$query{divided} = 'SELECT k, count(*) AS n, sum(id / d) AS q FROM %s e JOIN divisors USING (k) GROUP BY k';
create('divided');
push @views, 'divided';
wait_latest($node, 'divided');
is_told($node, 'divided', 'careful steps: the changes of divided');
cmp_ok(sql(q{SELECT count(*) FROM millrace.dead_letters WHERE view = 'divided'::regclass}), '>', 100, 'messages were refused');
sql(q{UPDATE divisors SET d = 1; SELECT millrace.replay('clicks')});
all_exact('replayed');
is(sql(q{SELECT count(*) FROM (SELECT batch FROM divided_changes GROUP BY batch HAVING bool_or((new).k = 3)) b}), '1',
	'a replay is one batch');

# Rows of a view over a table that are too old go, also when one that follows cannot take that.
sql(q{CREATE TABLE hits (at timestamptz, k integer); SELECT millrace.attach_table('hits')});
sql(q{SELECT millrace.create_continuous_view('aged', 'SELECT at, count(*) AS n FROM hits GROUP BY at',
	retention => '10 seconds', retention_column => 'at', changes => true)});
sql(q{SELECT millrace.attach_table('aged_changes')});
sql(q{SELECT millrace.create_continuous_view('takes', 'SELECT count(*) AS n, count((new).at) AS came FROM aged_changes')});
sql(q{SELECT millrace.create_continuous_view('cannot', 'SELECT sum(1 / coalesce((new).n, 0)) AS n FROM aged_changes')});
sql(q{INSERT INTO hits VALUES (now(), 1)});
is(sql('SELECT came FROM takes'), '1', 'views follow the changes of a view over a table');
wait_state($node, 'view', 'cannot', 'failed');
like(sql(q{SELECT last_error FROM millrace.views WHERE view = 'cannot'::regclass}), qr/division by zero/,
	'the one that cannot take a removal has failed');
wait_for($node, 'SELECT count(*) FROM aged_mrel', '0');
is_told($node, 'aged', 'the row is gone, and that is told');
is(sql('SELECT n, came FROM takes'), '2|1', 'to who can take it');
sql('DROP VIEW takes, cannot, aged; DROP TABLE hits');

# So do those of a view over a stream, at once, also while messages come that could be at fault.
my $dated = create_stream($node, 'dated', 'id bigint, day date');
sql(q{SELECT millrace.create_continuous_view('daily', 'SELECT day, count(*) AS n FROM dated GROUP BY day', changes => true)});
sql(q{SELECT millrace.attach_table('daily_changes')});
sql(q{SELECT millrace.create_continuous_view('cannot', 'SELECT sum(1 / coalesce((new).n, 0)) AS n FROM daily_changes')});
produce($dated, 0, map { qq({"id": $_, "day": "2001-01-0$_"}) } 1 .. 5);
wait_latest($node, 'daily');
wait_joined($node, 'dated');
my $before = -s $node->logfile;
sql(q{SELECT millrace.set_retention('daily', '10 days', 'day')});
foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	produce($dated, 0, map { qq({"id": 6, "day": "2999-01-01"}) } 1 .. 5);
	last if sql(q{SELECT state FROM millrace.views WHERE view = 'cannot'::regclass}) eq 'failed';
}
wait_state($node, 'view', 'cannot', 'failed');
is(scalar(() = slurp_file($node->logfile, $before) =~ /ERROR:  division by zero/g), 1, 'one that cannot take a removal from a view over a stream fails at once');
wait_for($node, q{SELECT string_agg(day::text, ' ') FROM daily_mrel}, '2999-01-01');
wait_latest($node, 'daily');
is_told($node, 'daily', 'old rows are gone, and that is told');
sql('DROP VIEW cannot, daily; DROP FOREIGN TABLE dated');

# --- logical decoding ---------------------------------------------------------

my $changes = 'FROM pg_logical_slot_peek_changes(%s, NULL, NULL)';
sql(q{SELECT pg_create_logical_replication_slot('decoded', 'test_decoding');
	SELECT pg_create_logical_replication_slot('published', 'pgoutput');
	CREATE PUBLICATION published FOR TABLE per_k_changes});
$last = sql('SELECT max(id) FROM per_k_changes');
$load = start_traffic($topic, partitions => 2, from => $n + 1);
$load->wait_more(300);
$n = $load->stop;
wait_latest($node, 'per_k');
my $expected = sql("SELECT count(*) FROM per_k_changes WHERE id > $last");
wait_for($node, q{SELECT count(*) FROM pg_logical_slot_peek_changes('decoded', NULL, NULL)
	WHERE data LIKE 'table public.per_k_changes: INSERT:%'}, $expected);
is(sql(qq{WITH d AS (SELECT xid::text, substring(data from 'id\\[bigint\\]:(\\d+)')::bigint AS id,
		substring(data from 'batch\\[bigint\\]:(\\d+)')::bigint AS batch,
		substring(data from 'new\\[per_k\\]:''([^'']*)''')::per_k AS new
		FROM pg_logical_slot_peek_changes('decoded', NULL, NULL) WHERE data LIKE 'table public.per_k_changes: INSERT:%')
	SELECT count(*) FROM d JOIN per_k_changes c USING (id) WHERE c.batch = d.batch AND c.new = d.new}), $expected,
	'logical decoding reads what is in the table');
is(sql(q{SELECT count(*) FROM (SELECT xid::text, count(DISTINCT substring(data from 'batch\[bigint\]:(\d+)')) AS n
	FROM pg_logical_slot_peek_changes('decoded', NULL, NULL) WHERE data LIKE 'table public.per_k_changes: INSERT:%'
	GROUP BY 1) x WHERE n > 1}), '0', 'a batch is a transaction');
wait_for($node, q{SELECT count(*) FILTER (WHERE get_byte(data, 0) = ascii('I')) FROM
	pg_logical_slot_peek_binary_changes('published', NULL, NULL, 'proto_version', '1', 'publication_names', 'published')}, $expected);
pass('pgoutput sends them');
sql(q{SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots});

# --- how long they are kept ---------------------------------------------------

$expected = sql('SELECT max(id) FROM copied_changes');
sql(q{SELECT millrace.set_changes_retention(view, '0') FROM millrace.views WHERE view <> 'chained'::regclass});
wait_for($node, "SELECT NOT EXISTS (SELECT FROM $_\_changes)") foreach @views;
produce($topic, $_ % 2, event($_)) foreach $n + 1 .. $n + 100;
$n += 100;
foreach my $view (@views)
{
	wait_latest($node, $view);
	is_same($node, $view, $query{$view} =~ s/%s/events($n)/er, "changes that are removed change nothing in $view");
}
is(sql(q{SELECT last_id >= }. ($expected + 1) . q{ FROM millrace.view_changes WHERE view = 'copied'::regclass}), 't', 'numbers go on');

# --- and its end --------------------------------------------------------------

sql(join '; ', map { "DROP VIEW $_" } 'chained', @views);
is(sql(q{SELECT count(*) FROM pg_class WHERE relname ~ '_(mrel|def|changes)$' AND relnamespace = 'public'::regnamespace}),
	'0', 'nothing is left of the views');

done_testing();
