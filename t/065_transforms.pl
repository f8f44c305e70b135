# Transforms into tables: exactly once through kills, whatever a row violates is a
# dead letter of the transform alone, and what becomes of the target.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use List::Util 'shuffle';
use Test::More;
use Time::HiRes ();

my $seed = $ENV{MILLRACE_SEED} // time;
srand $seed;
note "MILLRACE_SEED=$seed";

my $node = new_node('main', conf => "millrace.dead_letter_limit = -1\n");
my $topic = create_stream($node, 'clicks', event_columns(), partitions => 2, options => { workers => 2 });

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub transform
{
	my ($name, $query, $target) = @_;
	sql(qq{SELECT millrace.create_continuous_transform('$name', \$\$$query\$\$, '$target')});
}

# --- kills --------------------------------------------------------------------

# A row that came twice would be refused, and be a dead letter.  Rows fan out, and a
# trigger writes what is seen in the same transaction.
sql(q{CREATE TABLE copies (id bigint UNIQUE, nr bigserial, k integer, doubled numeric);
	CREATE TABLE parts (id bigint, part integer, s text) PARTITION BY HASH (id);
	CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (modulus 2, remainder 0);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (modulus 2, remainder 1);
	CREATE TABLE seen (id bigint);
	CREATE FUNCTION note_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (NEW.id); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER note_it AFTER INSERT ON copies DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note_it()});
my $copy = 'SELECT id, k, v * 2 AS doubled FROM %s e WHERE k <> 3';
my $split = 'SELECT id, generate_series(1, k) AS part, s FROM %s e';
transform('copy', sprintf($copy, 'clicks'), 'copies');
transform('split', sprintf($split, 'clicks'), 'parts');
sql(q{SELECT millrace.create_continuous_view('in_all', 'SELECT count(*) AS n, sum(id) AS ids FROM clicks')});

sub exact
{
	my ($n, $what) = @_;
	wait_latest($node, $_) foreach 'copy', 'split', 'in_all';
	is_same($node, '(SELECT id, k, doubled FROM copies) c', sprintf($copy, events($n)), "$what: rows");
	is_same($node, 'parts', sprintf($split, events($n)), "$what: rows of sets");
	is_same($node, 'seen', sprintf('SELECT id FROM (%s) x', sprintf($copy, events($n))), "$what: triggers");
	is_same($node, 'in_all', sprintf('SELECT count(*) AS n, sum(id) AS ids FROM %s e', events($n)), "$what: a view beside them");
	is(sql('SELECT count(*) FROM millrace.dead_letters'), '0', 'no row came twice');
}

wait_joined($node, 'clicks');
my $from = 1;
my $n;
foreach my $victim (shuffle('worker', 'worker', 'postmaster', 'worker', 'postmaster'))
{
	my $load = start_traffic($topic, partitions => 2, from => $from);
	$load->wait_more(300);
	select undef, undef, undef, rand 0.3;
	if ($victim eq 'worker')
	{
		my @pids = worker_pid($node, 'clicks');
		my $pid = $pids[ rand @pids ];
		kill_process($pid);
		wait_new_worker($node, 'clicks', @pids);
	}
	else
	{
		kill_server($node);
		restart_server($node);
	}
	$load->wait_more(300);
	$n = $load->stop;
	$from = $n + 1;
	exact($n, "a kill of the $victim");
}

# --- one message in ten is refused ---------------------------------------------

my $poisoned = create_stream($node, 'poisoned', 'id integer, d integer', partitions => 2);
my %violated = (
	checked => 'CHECK (d <> 0)',
	referring => 'REFERENCES digits DEFERRABLE INITIALLY DEFERRED');
sql('CREATE TABLE digits (d integer PRIMARY KEY); INSERT INTO digits SELECT generate_series(1, 9)');
produce($poisoned, $_ % 2, map { sprintf '{"id": %d, "d": %d}', $_, $_ % 10 } 1000 * $_ + 1 .. 1000 * $_ + 1000) foreach 0 .. 9;
foreach my $table (sort keys %violated)
{
	sql("CREATE TABLE $table (id integer, d integer $violated{$table})");
	my $began = Time::HiRes::time();
	transform("into_$table", 'SELECT id, d FROM poisoned', $table);
	wait_latest($node, "into_$table");
	my $took = Time::HiRes::time() - $began;
	note sprintf '%s: 10,000 messages in %.1f s', $table, $took;
	cmp_ok($took, '<', patience(60), "$table: the cost is bounded");
	is_same($node, $table, 'SELECT i, i % 10 FROM generate_series(1, 10000) i WHERE i % 10 <> 0', "$table: all others are in");
	is(sql(qq{SELECT count(*), count(DISTINCT (partition, message_offset)), bool_and(convert_from(value, 'UTF8')::json ->> 'd' = '0')
		FROM millrace.dead_letters WHERE view = 'into_$table'::regclass}), '1000|1000|t', "$table: with a dead letter for each");
}

# mended, and once more
sql('ALTER TABLE checked DROP CONSTRAINT checked_d_check; INSERT INTO digits VALUES (0)');
is(sql(q{SELECT millrace.replay('poisoned')}), '2000', 'all are replayed');
is_same($node, $_, 'SELECT i, i % 10 FROM generate_series(1, 10000) i', "$_: and in") foreach sort keys %violated;
is(sql(q{SELECT count(*) FROM millrace.dead_letters}), '0', 'no dead letter is left');

# A storm ends: the transform fails, and the view beside it goes on.
sql(q{ALTER SYSTEM SET millrace.dead_letter_limit = 100; SELECT pg_reload_conf()});
sql(q{CREATE TABLE refuses (id integer CHECK (id < 0));
	SELECT millrace.create_continuous_view('beside', 'SELECT count(*) AS n FROM poisoned')});
transform('refused', 'SELECT id FROM poisoned', 'refuses');
wait_state($node, 'view', 'refused', 'failed');
like(sql(q{SELECT last_error FROM millrace.views WHERE view = 'refused'::regclass}),
	qr/messages that continuous transform public\.refused cannot take outnumber the others by more than 100/, 'a storm is an error of the transform');
wait_latest($node, 'beside');
is(sql('SELECT n FROM beside'), '10000', 'the view beside it has all');
sql('DROP VIEW refused');

# --- locks and DDL on the target under load --------------------------------------

my $load = start_traffic($topic, partitions => 2, from => $from);
$load->wait_more(100);
sql('BEGIN; LOCK TABLE copies; SELECT pg_sleep(0.2); COMMIT');
sql('ALTER TABLE copies ADD COLUMN more text DEFAULT repeat(\'x\', 3)');
sql('ALTER TABLE copies ALTER COLUMN k TYPE bigint');
sql('VACUUM FULL copies; REINDEX TABLE copies; ANALYZE copies');
sql('BEGIN; ALTER TABLE parts DETACH PARTITION parts_1;
	ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES WITH (modulus 2, remainder 1); COMMIT');
$load->wait_more(100);
$n = $load->stop;
exact($n, 'DDL on the target');
is(sql('SELECT count(*) FROM copies WHERE more IS DISTINCT FROM \'xxx\''), '0', 'with a new column');

# A session that inserts the same keys waits, or makes the transform wait; nobody hangs.
# The next messages are to be ones that the transform takes.
while (($n + 1) % 7 != 4)
{
	$n++;
	produce($topic, $n % 2, event($n));
}
exact($n, 'some more');
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; INSERT INTO copies (id) VALUES (' . ($n + 1) . ');');
produce($topic, ($n + 1) % 2, event($n + 1));
wait_for($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type LIKE 'millrace%' AND wait_event_type = 'Lock'");
$session->query_safe('ROLLBACK;');
exact($n + 1, 'who has waited for a key');
$session->query_safe('BEGIN; INSERT INTO copies (id) VALUES (' . ($n + 2) . ');');
produce($topic, ($n + 2) % 2, event($n + 2));
wait_for($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type LIKE 'millrace%' AND wait_event_type = 'Lock'");
$session->query_safe('COMMIT;');
$session->quit;
wait_latest($node, 'copy');
my $lost = $n + 2;
is(sql(q{SELECT string_agg(sqlstate, ' ') FROM millrace.dead_letters}), ($lost % 7 == 3 ? '' : '23505'), 'who came second is a dead letter');

# What becomes of a partition below a partition is noticed, too.
sql(q{CREATE TABLE deep (id bigint) PARTITION BY RANGE (id);
	CREATE TABLE deeper PARTITION OF deep FOR VALUES FROM (0) TO (1000000000) PARTITION BY RANGE (id);
	CREATE TABLE deepest PARTITION OF deeper FOR VALUES FROM (0) TO (500000000)});
transform('deeply', 'SELECT id FROM clicks', 'deep');
wait_latest($node, 'deeply');
is_same($node, 'deep', sprintf('SELECT id FROM %s e', events($n + 2)), 'partitions of partitions');
sql('ALTER TABLE deepest SET UNLOGGED');
produce($topic, ($n + 3) % 2, event($n + 3));
wait_state($node, 'view', 'deeply', 'failed');
like(sql(q{SELECT last_error FROM millrace.views WHERE view = 'deeply'::regclass}), qr/unlogged/, 'one that would not survive a crash');
sql('ALTER TABLE deepest SET LOGGED');
sql(q{SELECT millrace.activate('deeply')});
wait_latest($node, 'deeply');
sql(q{CREATE FOREIGN DATA WRAPPER dummy; CREATE SERVER elsewhere FOREIGN DATA WRAPPER dummy;
	CREATE FOREIGN TABLE abroad PARTITION OF deeper FOR VALUES FROM (500000000) TO (1000000000) SERVER elsewhere});
produce($topic, ($n + 4) % 2, event($n + 4));
wait_state($node, 'view', 'deeply', 'failed');
like(sql(q{SELECT last_error FROM millrace.views WHERE view = 'deeply'::regclass}), qr/partitioned table "deep" cannot be the target/, 'one that would not commit with us');
sql(q{DROP FOREIGN DATA WRAPPER dummy CASCADE; SELECT millrace.activate('deeply')});
wait_latest($node, 'deeply');
is_same($node, 'deep', sprintf('SELECT id FROM %s e', events($n + 4)), 'and without it, it has all');
sql('DROP VIEW deeply');
$n += 2;

# The server stops at once while a transform waits for a key.
$session = $node->background_psql('postgres');
$session->query_safe('BEGIN; INSERT INTO copies (id) SELECT generate_series(' . ($n + 3) . ', ' . ($n + 4) . ');');
produce($topic, $_ % 2, event($_)) foreach $n + 3, $n + 4;
wait_for($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type LIKE 'millrace%' AND wait_event_type = 'Lock'");
my $began = Time::HiRes::time();
$node->stop('fast');
cmp_ok(Time::HiRes::time() - $began, '<', patience(10), 'a fast shutdown is fast');
eval { $session->{run}->finish };
$node->start;
wait_latest($node, 'copy');
is(sql('SELECT count(*) FROM copies WHERE id > ' . ($n + 2)), scalar(grep { $_ % 7 != 3 } $n + 3, $n + 4), 'and nothing is lost');

done_testing();
