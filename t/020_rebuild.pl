# rebuild(): contents are computed again beside the old ones, which stay until
# the new ones take their place at once.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $topic = create_stream($node, 'clicks', event_columns(), partitions => 2);
my $query = 'SELECT k, s, count(*) AS n, sum(v) AS total, max(id) AS last FROM %s e GROUP BY k, s';
my $all = 'SELECT count(*) AS n, sum(id) AS ids FROM %s e';
my $n = 0;

sub sql
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

sub refused
{
	my ($sql, $expected, $name) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return like($err, $expected, $name);
}

sub send_more
{
	my ($more) = @_;
	produce($topic, $_ % 2, event($_)) foreach $n + 1 .. $n + $more;
	$n += $more;
}

sub swapped
{
	my ($view) = @_;
	wait_for($node, "SELECT rebuild IS NULL FROM millrace.views WHERE view = '$view'::regclass");
}

sub files
{
	return sql(q{SELECT string_agg(pg_relation_filenode(oid)::text, ' ' ORDER BY oid) FROM pg_class
		WHERE relname ~ '^per_k_mrel'});
}

# --- under load ---------------------------------------------------------------

sql(qq{SELECT millrace.create_continuous_view('per_k', \$\$@{[sprintf $query, 'clicks']}\$\$);
	SELECT millrace.create_continuous_view('in_all', \$\$@{[sprintf $all, 'clicks']}\$\$);
	CREATE ROLE reader; GRANT SELECT ON per_k TO reader; COMMENT ON VIEW per_k IS 'precious';
	CREATE INDEX by_last ON per_k_mrel (last DESC) WHERE k > 2; COMMENT ON TABLE per_k_mrel IS 'states';
	CREATE VIEW above AS SELECT k, sum(n) AS n FROM per_k GROUP BY k;
	CREATE PROCEDURE watch(view regclass) LANGUAGE plpgsql AS \$\$
		DECLARE last numeric := 0; now numeric;
		BEGIN
			LOOP
				EXECUTE format('SELECT coalesce(sum(n), 0) FROM %s', view) INTO now;
				IF now < last THEN RAISE 'a hole: % after %', now, last; END IF;
				last := now;
				COMMIT;
				EXIT WHEN to_regclass('stop_watching') IS NOT NULL;
			END LOOP;
		END \$\$;});
my $load = start_traffic($topic, partitions => 2);
wait_for($node, 'SELECT sum(n) > 2000 FROM per_k');
my $watch = background($node, q{CALL watch('per_k')});
my $watch_all = background($node, q{CALL watch('in_all')});
my $oid = sql(q{SELECT 'per_k_mrel'::regclass::oid});
foreach my $view (qw(per_k in_all))
{
	my $before = sql("SELECT pg_relation_filenode('${view}_mrel')");
	is(sql("SELECT millrace.rebuild('$view')"), '', "rebuild of $view returns at once");
	is(sql("SELECT rebuild IS NOT NULL OR pg_relation_filenode(matrel) <> $before FROM millrace.views
		WHERE view = '$view'::regclass"), 't', 'and can be seen');
	swapped($view);
	isnt(sql("SELECT pg_relation_filenode('${view}_mrel')"), $before, "$view has new contents");
}
my $files = files();
sql(q{SELECT millrace.rebuild('per_k')});
wait_latest($node, 'per_k');
my @old = split / /, $files;
my @new = split / /, files();
is(scalar(grep { my $f = $_; grep { $f == $_ } @old } @new), 0, 'tables and indexes have new files');
sql('CREATE TABLE stop_watching ()');
foreach ($watch, $watch_all)
{
	my ($ok, $out, $err) = $_->finish;
	ok($ok, 'a reader saw no hole') or diag $err;
}
sql('DROP TABLE stop_watching');
$n = $load->stop;
wait_latest($node, $_) foreach qw(per_k in_all);
is_same($node, 'per_k', sprintf($query, events($n)), 'rebuilt under load: exact');
is_same($node, 'in_all', sprintf($all, events($n)), 'so is a view of one row');
is(sql(q{SELECT 'per_k_mrel'::regclass::oid}), $oid, 'the table is the same');
is(sql(q{SELECT has_table_privilege('reader', 'per_k', 'SELECT'), obj_description('per_k'::regclass),
	obj_description('per_k_mrel'::regclass)}), 't|precious|states', 'so are grants and comments');
is_same($node, 'above', "SELECT k, count(*)::numeric AS n FROM @{[events($n)]} e GROUP BY k", 'and a view on the view');
is(sql(q{SET enable_seqscan = off; SET enable_bitmapscan = off;
	SELECT count(*) FROM per_k_mrel WHERE k > 2 AND last > 0}),
	sql(q{SELECT count(*) FROM per_k WHERE k > 2}), 'an index of the user has the new contents');
is(sql(q{SELECT count(*) FROM pg_class WHERE relnamespace = 'millrace'::regnamespace AND relname ~ 'rebuild$'}), '0',
	'nothing is left of the rebuild');
is(sql(q{SELECT count(*) FROM pg_class t JOIN pg_class c ON t.oid = c.reltoastrelid
	WHERE c.relname = 'per_k_mrel' AND t.relname = 'pg_toast_' || c.oid}), '1', 'the TOAST table is called as ever');
is(sql(q{CREATE EXTENSION IF NOT EXISTS amcheck; SELECT count(*) FROM (SELECT bt_index_check(indexrelid, true)
	FROM pg_index WHERE indrelid = 'per_k_mrel'::regclass) c}), '2', 'indexes fit the table');

# --- readers in the way -------------------------------------------------------

my $old_snapshot = $node->background_psql('postgres');
$old_snapshot->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM in_all;');
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN; SELECT count(*) FROM per_k;');
$files = files();
sql(q{SELECT millrace.rebuild('per_k')});
wait_for($node, q{SELECT count(*) = 2 FROM millrace.view_stream s JOIN millrace.feed f ON f.id = s.feed
	JOIN millrace.continuous_view v USING (view) WHERE f.live AND 'per_k'::regclass IN (v.view, v.rebuilds)});
send_more(100);
is(sql(q{SELECT coalesce(millrace.wait_for_latest('per_k', '1s'), false)}), 'f', 'open transactions delay the exchange');
is(files(), $files, 'the old contents are in use');
wait_for($node, "SELECT sum(n) = $n FROM per_k");
is_same($node, 'per_k', sprintf($query, events($n)), 'and maintained');
refused(q{BEGIN; SELECT count(*) FROM per_k; SELECT millrace.wait_for_latest('per_k')}, qr/55000.*in a transaction that has read it/s,
	'nobody waits for himself');
my $seen = $old_snapshot->query_safe('SELECT sum(n) FROM per_k;');
is($seen, $n - 100, 'an old snapshot sees all that there was');
$old_snapshot->query_safe('COMMIT;');
is(sql(q{SELECT coalesce(millrace.wait_for_latest('per_k', '1s'), false)}), 'f', 'one reader is left');
$reader->query_safe('COMMIT;');
wait_latest($node, 'per_k');
isnt(files(), $files, 'then the contents are exchanged');
is_same($node, 'per_k', sprintf($query, events($n)), 'with nothing missing');
$_->quit foreach $old_snapshot, $reader;

# --- failed, deactivated, killed ----------------------------------------------

sql(q{CREATE TABLE divisors (k integer, d numeric); INSERT INTO divisors SELECT i, 1 FROM generate_series(0, 6) i;
	SELECT millrace.create_continuous_view('divided',
		'SELECT k, count(*) AS n, sum(id / d) AS q FROM clicks JOIN divisors USING (k) GROUP BY k')});
my $divided = 'SELECT k, count(*) AS n, sum(id / 1::numeric) AS q FROM %s e GROUP BY k';
wait_latest($node, 'divided');
is_same($node, 'divided', sprintf($divided, events($n)), 'a view that may fail');
sql(q{UPDATE divisors SET d = 2});
sql(q{SELECT millrace.rebuild('divided')});
wait_latest($node, 'divided');
is_same($node, 'divided', "SELECT k, count(*) AS n, sum(id / 2::numeric) AS q FROM @{[events($n)]} e GROUP BY k",
	'joined tables count with their present values');

sql(q{SELECT millrace.deactivate('divided')});
send_more(50);
is(sql(q{SELECT state FROM millrace.views WHERE view = 'divided'::regclass}), 'paused', 'deactivated');
sql(q{UPDATE divisors SET d = 1; SELECT millrace.rebuild('divided')});
wait_latest($node, 'divided');
is_same($node, 'divided', sprintf($divided, events($n)), 'rebuilt, a deactivated view runs again');
wait_for($node, q{SELECT state, last_error FROM millrace.views WHERE view = 'divided'::regclass}, 'running|');
pass('and says so');
send_more(50);
wait_latest($node, 'divided');
is_same($node, 'divided', sprintf($divided, events($n)), 'and goes on');

sql(q{SELECT millrace.rebuild('divided'); SELECT millrace.deactivate('divided')});
is(sql(q{SELECT state, rebuild FROM millrace.views WHERE view = 'divided'::regclass}), 'paused|paused',
	'deactivate() stops the rebuild, too');
refused(q{SELECT millrace.wait_for_latest('divided')}, qr/55000.*is not active/s, 'which is not waited for');
send_more(50);
my $rows = sql('SELECT sum(n) FROM divided');
sql(q{SELECT millrace.activate('divided')});
wait_latest($node, 'divided');
is_same($node, 'divided', sprintf($divided, events($n)), 'activate() lets both go on');
is(sql(q{SELECT rebuild IS NULL FROM millrace.views WHERE view = 'divided'::regclass}), 't', 'to the end');

foreach my $victim (qw(worker postmaster))
{
	my $load = start_traffic($topic, partitions => 2, from => $n + 1);
	$load->wait_more(300);
	sql(q{ALTER SYSTEM SET millrace.batch_messages = 2; SELECT pg_reload_conf(); SELECT millrace.rebuild('per_k')});
	wait_for($node, q{SELECT count(*) > 0 FROM millrace.workers WHERE state = 'catching up' AND batches > 1});
	if ($victim eq 'worker')
	{
		kill_process($_) foreach split /\n/, sql(q{SELECT pid FROM millrace.workers WHERE state = 'catching up'});
	}
	else
	{
		kill_server($node);
		restart_server($node);
	}
	wait_for($node, 'SELECT sum(n) > 0 FROM per_k');
	sql('ALTER SYSTEM RESET millrace.batch_messages; SELECT pg_reload_conf()');
	$n = $load->stop;
	wait_latest($node, 'per_k');
	is_same($node, 'per_k', sprintf($query, events($n)), "a rebuild goes on after a kill of the $victim");
	wait_latest($node, 'divided');
	is_same($node, 'divided', sprintf($divided, events($n)), 'as do the others');
}

# a stream's only view, while its topic never rests
{
	my $busy_topic = create_stream($node, 'busy', event_columns(), partitions => 2);
	my $load = start_traffic($busy_topic, partitions => 2, chunk => 1);
	sql("SELECT millrace.create_continuous_view('busy_k', \$\$" . sprintf($query, 'busy') . '$$)');
	$load->wait_more(100);
	sql(q{SELECT millrace.deactivate('busy_k')});
	sql(q{SELECT millrace.rebuild('busy_k')});
	wait_for($node, q{SELECT state = 'running' AND rebuild IS NULL FROM millrace.views WHERE view = 'busy_k'::regclass});
	pass('rebuilt, a view that nobody else is with runs again');
	my $sent = $load->stop;
	wait_latest($node, 'busy_k');
	is_same($node, 'busy_k', sprintf($query, events($sent)), 'and holds all');
}

# One that fails: the old contents stay, and it can go on.
sql(q{CREATE ROLE poor; GRANT SELECT ON clicks, divisors TO poor; GRANT ALL ON SCHEMA public TO poor; SET ROLE poor;
	SELECT millrace.create_continuous_view('poor_divided',
		'SELECT k, count(*) AS n, sum(id / d) AS q FROM clicks JOIN divisors USING (k) GROUP BY k')});
wait_latest($node, 'poor_divided');
sql(q{REVOKE SELECT ON divisors FROM poor; SELECT millrace.rebuild('poor_divided')});
wait_for($node, q{SELECT rebuild = 'failed' FROM millrace.views WHERE view = 'poor_divided'::regclass});
wait_for($node, q{SELECT state, last_error FROM millrace.views WHERE view = 'poor_divided'::regclass},
	'running|rebuild failed: permission denied for table divisors');
pass('a rebuild that fails does not harm the view');
is_same($node, 'poor_divided', sprintf($divided, events($n)), 'which keeps its contents');
refused(q{SELECT millrace.wait_for_latest('poor_divided')}, qr/55000.*the rebuild of continuous view "poor_divided" has failed/s,
	'who waits for it hears of it');
sql(q{GRANT SELECT ON divisors TO poor; SELECT millrace.activate('poor_divided')});
wait_latest($node, 'poor_divided');
is_same($node, 'poor_divided', sprintf($divided, events($n)), 'activate() lets it go on');
# a view that has failed recovers
sql(q{REVOKE SELECT ON divisors FROM poor});
send_more(50);
wait_state($node, 'view', 'poor_divided', 'failed');
sql(q{GRANT SELECT ON divisors TO poor; SET ROLE poor; SELECT millrace.rebuild('poor_divided', start_at => 'latest');
	SELECT millrace.cancel_rebuild('poor_divided'); SELECT millrace.rebuild('poor_divided')});
wait_latest($node, 'poor_divided');
is_same($node, 'poor_divided', sprintf($divided, events($n)), 'rebuild() of a failed view');
wait_for($node, q{SELECT state, last_error FROM millrace.views WHERE view = 'poor_divided'::regclass}, 'running|');
pass('which runs again');

# --- what else may happen meanwhile -------------------------------------------

# Nothing can be exchanged while this transaction is open.
my $hold = $node->background_psql('postgres');
sub hold { $hold->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM divisors;') }
sub let_go { $hold->query_safe('COMMIT;') }

hold();
sql(q{SELECT millrace.rebuild('per_k')});
is(sql(q{SELECT millrace.cancel_rebuild('per_k')}), 't', 'cancelled');
is(sql(q{SELECT millrace.cancel_rebuild('per_k')}), 'f', 'nothing to cancel');
sql(q{SELECT millrace.rebuild('per_k', start_at => 'latest'); SELECT millrace.rebuild('per_k')});
sql('CREATE SCHEMA other; CREATE ROLE keeper; GRANT ALL ON SCHEMA other TO keeper; GRANT SELECT ON clicks TO keeper;
	ALTER VIEW per_k RENAME TO "Per K"; ALTER VIEW "Per K" SET SCHEMA other; ALTER VIEW other."Per K" OWNER TO keeper;
	ALTER SCHEMA other RENAME TO another; CREATE INDEX by_n ON another."Per K_mrel" (n);');
is(sql(q{SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'Per K'}), 'keeper', 'the owner has changed');
send_more(50);
let_go();
wait_latest($node, 'another."Per K"');
is_same($node, 'another."Per K"', sprintf($query, events($n)), 'renamed, moved and given away while it was rebuilt');
is(sql(q{SELECT count(*) FROM (SELECT bt_index_check(indexrelid, true)
	FROM pg_index WHERE indrelid = 'another."Per K_mrel"'::regclass) c}), '3', 'a new index was built');
sql('ALTER SCHEMA another RENAME TO other; ALTER VIEW other."Per K" SET SCHEMA public; ALTER VIEW "Per K" RENAME TO per_k');

hold();
sql(q{SELECT millrace.rebuild('per_k'); SELECT millrace.truncate_continuous_view('per_k')});
my $from = $n + 1;
send_more(50);
let_go();
wait_latest($node, 'per_k');
is_same($node, 'per_k', sprintf($query, events($n, $from)), 'a view that is emptied stays so');
sql(q{SELECT millrace.rebuild('per_k')});
wait_latest($node, 'per_k');
is_same($node, 'per_k', sprintf($query, events($n)), 'until it is rebuilt');

my $relations = q{SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
	WHERE oid >= 16384 AND relkind IN ('r', 'v') AND relnamespace IN ('public'::regnamespace, 'millrace'::regnamespace)};
my $catalog = q{SELECT (SELECT count(*) FROM millrace.continuous_view), (SELECT count(*) FROM millrace.view_stream)};
my $before = sql($relations) . sql($catalog);
hold();
sql(qq{SELECT millrace.create_continuous_view('short', \$\$@{[sprintf $all, 'clicks']}\$\$)});
wait_latest($node, 'short');
sql(q{SELECT millrace.rebuild('short'); DROP VIEW short});
is(sql($relations) . sql($catalog), $before, 'DROP VIEW takes the rebuild along');
sql(q{BEGIN; SELECT millrace.rebuild('per_k'); ROLLBACK});
is(sql($relations) . sql($catalog), $before, 'ROLLBACK, too');
refused(q{DROP TABLE millrace.per_k_rebuild}, qr/42P01/, 'no such table');
sql(q{SELECT millrace.rebuild('per_k')});
refused(q{DROP TABLE millrace.per_k_rebuild}, qr/2BP01/, 'it is not dropped alone');
refused(q{SELECT millrace.rebuild('millrace.per_k_rebuild')}, qr/42809/, 'it is no view');
let_go();
$hold->quit;
wait_latest($node, 'per_k');

# --- where it starts ----------------------------------------------------------

sql(qq{SELECT millrace.create_continuous_view('later', \$\$@{[sprintf $all, 'clicks']}\$\$, start_at => 'latest')});
$from = $n + 1;
send_more(50);
wait_latest($node, 'later');
sql(q{SELECT millrace.rebuild('later')});
wait_latest($node, 'later');
is_same($node, 'later', sprintf($all, events($n, $from)), 'without start_at where it began');
sql(q{SELECT millrace.rebuild('later', start_at => 'earliest')});
wait_latest($node, 'later');
is_same($node, 'later', sprintf($all, events($n)), 'from the beginning');
is(sql(q{SELECT start_at FROM millrace.views WHERE view = 'later'::regclass}), 'earliest', 'which is kept');
sql(q{SELECT millrace.rebuild('later', start_at => 'latest')});
$from = $n + 1;
send_more(50);
wait_latest($node, 'later');
is_same($node, 'later', sprintf($all, events($n, $from)), 'from the end');
send_more(50);
wait_latest($node, 'later');
is_same($node, 'later', sprintf($all, events($n, $from)), 'and on');

# --- several streams, and no aggregates ---------------------------------------

my $other_topic = create_stream($node, 'visits', event_columns());
produce($other_topic, 0, map { event($_) } 1 .. 500);
my $both = 'SELECT k, count(*) AS n, sum(id) AS ids FROM (SELECT k, id FROM %s c UNION ALL SELECT k, id FROM %s v) u GROUP BY k';
sql(qq{SELECT millrace.create_continuous_view('in_both', \$\$@{[sprintf $both, 'clicks', 'visits']}\$\$);
	SELECT millrace.create_continuous_view('copied', 'SELECT id, repeat(s, 3000) AS long FROM visits WHERE k = 1')});
wait_latest($node, 'in_both');
sql(q{SELECT millrace.rebuild('in_both'); SELECT millrace.rebuild('copied')});
wait_latest($node, $_) foreach qw(in_both copied);
is_same($node, 'in_both', sprintf($both, events($n), events(500)), 'a view over two streams');
is_same($node, 'copied', "SELECT id, repeat(s, 3000) AS long FROM @{[events(500)]} e WHERE k = 1", 'rows that are only appended');
send_more(50);
produce($other_topic, 0, map { event($_) } 501 .. 600);
wait_latest($node, $_) foreach qw(in_both copied);
is_same($node, 'in_both', sprintf($both, events($n), events(600)), 'goes on in both');
is_same($node, 'copied', "SELECT id, repeat(s, 3000) AS long FROM @{[events(600)]} e WHERE k = 1", 'and so do they');
# nobody else is on the streams
sql(q{DROP VIEW above, per_k, in_all, divided, poor_divided, later, copied; SELECT millrace.deactivate('in_both')});
sql(q{SELECT millrace.rebuild('in_both')});
wait_latest($node, 'in_both');
is_same($node, 'in_both', sprintf($both, events($n), events(600)), 'with no live feed to join');

# --- several who wait ---------------------------------------------------------

my $third_topic = create_stream($node, 'gated', event_columns());
produce($third_topic, 0, map { event($_) } 1 .. 50);
sql(q{CREATE FUNCTION gate(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN $1; END $$});
foreach my $view (qw(gated_1 gated_2))
{
	sql("SELECT millrace.create_continuous_view('$view', 'SELECT count(*) AS n, sum(gate(id)) AS ids FROM gated')");
	wait_latest($node, $view);
}
wait_joined($node, 'gated');
my $gate = open_transaction($node, 'SELECT pg_advisory_lock(7)');
sql("SELECT millrace.rebuild('$_')") foreach qw(gated_1 gated_2);
refused(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT millrace.wait_for_latest('gated_1')},
	qr/55000.*cannot wait for the rebuild of continuous view "gated_1" in a transaction with a snapshot of its own/s,
	'who would wait for himself is told');
my @waiting = map { background($node, "SELECT millrace.wait_for_latest('$_')") } qw(gated_1 gated_2);
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT millrace.wait\_for%' AND wait_event_type = 'Extension'}, '2');
$gate->end;
ok(scalar $_->finish, 'two who wait for different rebuilds do not wait for each other') foreach @waiting;
is_same($node, $_, "SELECT count(*) AS n, sum(id)::numeric AS ids FROM @{[events(50)]} e") foreach qw(gated_1 gated_2);

# --- who may, and what not ----------------------------------------------------

refused(q{SET ROLE reader; SELECT millrace.rebuild('in_both')}, qr/42501/, 'only the owner');
refused(q{SET ROLE reader; SELECT millrace.cancel_rebuild('in_both')}, qr/42501/, 'cancels as well');
refused(q{SELECT millrace.rebuild(NULL)}, qr/22004/, 'no view');
refused(q{SELECT millrace.rebuild('clicks')}, qr/42809/, 'a stream is none');
refused(q{SELECT millrace.rebuild('divisors')}, qr/42809/, 'a table neither');
refused(q{SELECT millrace.rebuild('in_both', start_at => 'whenever')}, qr/22007/, 'no time to start at');
refused(q{BEGIN READ ONLY; SELECT millrace.rebuild('in_both')}, qr/25006/, 'not in a read-only transaction');

done_testing();
