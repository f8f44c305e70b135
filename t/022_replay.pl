# Dead letters fed once more, exactly once: among other replays, under load,
# through crashes.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "millrace.retry_max_interval = 500ms\n");

sub create
{
	my ($view, $query) = @_;
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('$view', \$\$$query\$\$)");
}

sub query { return $node->safe_psql('postgres', $_[0]) }

# Rates of key k are missing at first: those messages cannot be taken.
query('CREATE TABLE rate (k integer PRIMARY KEY, r numeric); INSERT INTO rate SELECT k, nullif(k, 3) FROM generate_series(0, 6) k;
	CREATE FUNCTION rated(bigint, numeric) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
	BEGIN IF $2 IS NULL THEN RAISE EXCEPTION \'no rate for %\', $1 USING ERRCODE = \'22004\'; END IF; RETURN $1 * $2; END $$');
my $rated = 'SELECT s, count(*) AS n, sum(rated(id, r)) AS v FROM %s JOIN rate USING (k) GROUP BY s';
my $listed = 'SELECT id, rated(id, r) AS v FROM %s JOIN rate USING (k)';
my $plain = 'SELECT k, count(*) AS n, sum(id) AS v FROM %s GROUP BY k';
my $topic = create_stream($node, 'sales', event_columns(), partitions => 3, options => { workers => 2 });
create('rated_sales', sprintf $rated, 'sales');
create('listed_sales', sprintf $listed, 'sales');
create('plain_sales', sprintf $plain, 'sales');
wait_joined($node, 'sales');

# While messages keep coming, with workers killed in the middle of it
my $load = start_traffic($topic, partitions => 3);
$load->wait_more(2000);
foreach (1 .. 3)
{
	my $pid = worker_pid($node, 'sales');
	kill_process($pid);
	wait_new_worker($node, 'sales', $pid);
	$load->wait_more(1000);
}
wait_for($node, q{SELECT count(*) > 500 FROM millrace.dead_letters});
query('UPDATE rate SET r = 30 WHERE k = 3');
my @sessions = map { background($node, q{SELECT millrace.replay('sales')}) } 1 .. 4;
my @replayed = map { my ($ok, $out, $err) = $_->finish; $ok ? $out : "failed: $err" } @sessions;
is(scalar(grep { /^\d+$/ } @replayed), 4, 'replays at the same time get along') or diag("@replayed");
$load->wait_more(1000);
my $pid = worker_pid($node, 'sales');
kill_process($pid);
wait_new_worker($node, 'sales', $pid);
my $n = $load->stop;
wait_latest($node, $_) foreach 'rated_sales', 'listed_sales', 'plain_sales';
query(q{SELECT millrace.replay('sales')});
is(query('SELECT count(*) FROM millrace.dead_letters'), '0', 'all of them could be taken in the end');
my $events = events($n) . ' e';
my $source = $events;
is_same($node, 'rated_sales', sprintf($rated, $source), 'what was missed was made up for, once');
is_same($node, 'listed_sales', sprintf($listed, $source), 'row by row as well');
is_same($node, 'plain_sales', sprintf($plain, $source), 'a view that missed nothing got nothing');

# A session that replays is killed, and so is the server.
query('UPDATE rate SET r = NULL WHERE k = 3');
produce($topic, 0, map { event($_) } $n + 1 .. $n + 700);
wait_latest($node, $_) foreach 'rated_sales', 'listed_sales', 'plain_sales';
my $letters = query('SELECT count(*) FROM millrace.dead_letters');
is($letters, '200', 'there are dead letters again');
query('UPDATE rate SET r = 30 WHERE k = 3');
foreach my $what ('backend', 'server')
{
	my $session = background($node, q{BEGIN; SELECT millrace.replay('sales'); SELECT 'replayed'; SELECT pg_sleep(600)});
	wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND wait_event = 'PgSleep'
		AND pid <> pg_backend_pid()});
	if ($what eq 'backend')
	{
		kill_process(query(q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'}));
	}
	else
	{
		kill_server($node);
		restart_server($node);
	}
	$session->finish;
	wait_for($node, 'SELECT true');
	is(query('SELECT count(*) FROM millrace.dead_letters'), $letters, "killed with the $what, a replay has done nothing");
}

# Of replays at the same time each letter goes to one.
@sessions = map { background($node, q{SELECT millrace.replay('sales')}) } 1 .. 3;
my $sum = 0;
$sum += ($_->finish)[1] foreach @sessions;
is($sum, $letters, 'each letter is replayed by one session');
is(query(q{SELECT millrace.replay('sales')}), '0', 'another finds nothing left');
produce($topic, 1, map { event($_) } $n + 701 .. $n + 800);
wait_latest($node, $_) foreach 'rated_sales', 'listed_sales', 'plain_sales';
$source = events($n + 800) . ' e';
is_same($node, 'rated_sales', sprintf($rated, $source), 'exact after crashes');
is_same($node, 'listed_sales', sprintf($listed, $source), 'row by row as well');
is_same($node, 'plain_sales', sprintf($plain, $source), 'and where nothing was missed');

# Nothing happens when an error is no message's fault.
query('UPDATE rate SET r = NULL WHERE k = 3');
produce($topic, 0, map { event($_) } $n + 801 .. $n + 870);
wait_latest($node, $_) foreach 'rated_sales', 'listed_sales', 'plain_sales';
$letters = query('SELECT count(*) FROM millrace.dead_letters');
my $blocker = background($node, q{BEGIN; LOCK TABLE rate IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)});
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
my ($rc, $out, $err) = $node->psql('postgres', q{SET lock_timeout = '200ms'; SELECT millrace.replay('sales')});
like($err, qr/lock timeout/, 'a lock timeout ends a replay');
query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
$blocker->finish;
is(query('SELECT count(*) FROM millrace.dead_letters'), $letters, 'and changes nothing');

# A rebuilt view has what it can take now, and its own dead letters.
query('UPDATE rate SET r = 30 WHERE k = 3');
query(q{SELECT millrace.rebuild('rated_sales')});
wait_for($node, q{SELECT count(*) = 0 FROM millrace.views WHERE view = 'rated_sales'::regclass AND rebuild IS NOT NULL});
wait_latest($node, 'rated_sales');
is(query(q{SELECT count(*) FROM millrace.dead_letters WHERE view = 'rated_sales'::regclass}), '0', 'a rebuilt view misses nothing');
query(q{SELECT millrace.replay('sales')});
$source = events($n + 870) . ' e';
is_same($node, 'rated_sales', sprintf($rated, $source), 'and gets nothing twice');
is_same($node, 'listed_sales', sprintf($listed, $source), 'the other one gets it by replay');
is(query('SELECT count(*) FROM millrace.dead_letters'), '0', 'nothing is left');

# Errors that pass, and those of the definition, never make dead letters.
query(q{CREATE TABLE side (x integer)});
query(q{CREATE FUNCTION moody(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$ DECLARE code text;
	BEGIN SELECT sqlstate INTO code FROM mood; IF code IS NOT NULL THEN RAISE EXCEPTION 'mood' USING ERRCODE = code; END IF;
	RETURN $1; END $$; CREATE TABLE mood (sqlstate text)});
my $moods = create_stream($node, 'moods', 'id bigint');
create('moody_view', 'SELECT count(*) AS n, sum(moody(id)) AS s FROM moods');
create('calm_view', 'SELECT count(*) AS n, sum(id) AS s FROM moods');
my $sent = 0;
foreach my $state (qw(53200 53100 40P01 40001 55P03 57014 58030 08006))
{
	query("INSERT INTO mood VALUES ('$state')");
	produce($moods, 0, map { $sent++; qq({"id": $sent}) } 1 .. 3);
	wait_for($node, q{SELECT state = 'retrying' AND last_error LIKE '%mood%' FROM millrace.views WHERE view = 'moody_view'::regclass});
	query('DELETE FROM mood');
	wait_latest($node, 'moody_view');
}
is(query('SELECT n, s FROM moody_view'), "$sent|" . $sent * ($sent + 1) / 2, 'errors that pass are waited for');
is(query('SELECT count(*) FROM millrace.dead_letters'), '0', 'and make no dead letters');
query('DROP TABLE mood');
produce($moods, 0, map { $sent++; qq({"id": $sent}) } 1 .. 3);
wait_for($node, q{SELECT state = 'retrying' AND last_error LIKE 'relation "mood" does not exist%'
	FROM millrace.views WHERE view = 'moody_view'::regclass});
wait_latest($node, 'calm_view');
is(query('SELECT count(*) FROM millrace.dead_letters'), '0', 'nor does a table that was dropped');
query('CREATE TABLE mood (sqlstate text)');
wait_latest($node, 'moody_view');
is(query('SELECT n, s FROM moody_view'), "$sent|" . $sent * ($sent + 1) / 2, 'it is waited for, too');
query(q{ALTER TABLE mood RENAME sqlstate TO gone});
produce($moods, 0, map { $sent++; qq({"id": $sent}) } 1 .. 3);
wait_state($node, 'view', 'moody_view', 'failed');
is(query('SELECT count(*) FROM millrace.dead_letters'), '0', 'a column that is not there is no message\'s fault either');
query(q{ALTER TABLE mood RENAME gone TO sqlstate; SELECT millrace.activate('moody_view')});
wait_latest($node, 'moody_view');
is(query('SELECT n, s FROM moody_view'), "$sent|" . $sent * ($sent + 1) / 2, 'nothing is missing afterwards');

# Where all views are in trouble none is the one to leave the others: all say so, and wait.
query(q{CREATE FUNCTION remote(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN RAISE EXCEPTION 'remote is down' USING ERRCODE = '08006'; END $$});
my $far = create_stream($node, 'far', 'id bigint');
my @far = map { "far_$_" } 1 .. 4;
create($_, 'SELECT count(*) AS n, sum(remote(id)) AS s FROM far') foreach @far;
wait_joined($node, 'far');
my $feeds = query('SELECT last_value FROM millrace.feed_id_seq');
produce($far, 0, map { qq({"id": $_}) } 1 .. 10);
wait_for($node, q{SELECT count(*) = 4 FROM millrace.views WHERE stream = 'far'::regclass AND state = 'retrying' AND last_error LIKE 'remote is down%'});
cmp_ok(query('SELECT last_value FROM millrace.feed_id_seq') - $feeds, '<=', 20, 'they come and go now and then, not all the time');
query(q{CREATE OR REPLACE FUNCTION remote(bigint) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT $1'});
wait_latest($node, $_) foreach @far;
is(query("SELECT n, s FROM $_"), '10|55', "$_ is exact afterwards") foreach @far;

# An internal error is tried again first; then the messages that cause it are found.
query(q{CREATE OR REPLACE FUNCTION moody(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN IF $1 % 10 = 0 THEN RAISE EXCEPTION 'odd' USING ERRCODE = 'XX000'; END IF; RETURN $1; END $$});
produce($moods, 0, map { $sent++; qq({"id": $sent}) } 1 .. 20);
wait_latest($node, 'moody_view');
is(query(q{SELECT count(*), min(sqlstate), min(error) FROM millrace.dead_letters WHERE view = 'moody_view'::regclass}), '2|XX000|odd',
	'internal errors of single messages are isolated in the end');

# A storm
query(q{ALTER SYSTEM SET millrace.dead_letter_limit = 300});
query(q{SELECT pg_reload_conf()});
my $storm = create_stream($node, 'storm', 'id bigint, d bigint');
create('calm', 'SELECT count(*) AS n FROM storm');
create('stormy', 'SELECT count(*) AS n, sum(id / d) AS s FROM storm');
produce($storm, 0, map { qq({"id": $_, "d": 1}) } 1 .. 200);
wait_latest($node, 'stormy');
produce($storm, 0, map { qq({"id": $_, "d": 0}) } 201 .. 400);
wait_latest($node, 'stormy');
is(query(q{SELECT count(*) FROM millrace.dead_letters WHERE view = 'stormy'::regclass}), '200', 'below the limit it goes on');
create('another', 'SELECT count(*) AS n FROM storm');
wait_latest($node, 'another');
wait_for($node, q{SELECT count(*) = 1 FROM millrace.workers WHERE stream = 'storm'::regclass});
produce($storm, 0, map { qq({"id": $_, "d": 0}) } 401 .. 1000);
wait_state($node, 'view', 'stormy', 'failed');
wait_latest($node, 'calm');
is(query('SELECT n FROM calm'), '1000', 'a storm in one view is not another\'s');
like(query(q{SELECT last_error FROM millrace.views WHERE view = 'stormy'::regclass}),
	qr/stormy cannot take outnumber.*300.*division by zero.*HINT.*activate/s, 'the view says what it was, and what to do');
cmp_ok(query(q{SELECT count(*) FROM millrace.dead_letters WHERE stream = 'storm'::regclass}), '<=', 300,
	'there are not too many, though ingest began anew meanwhile');
query(q{ALTER SYSTEM SET millrace.dead_letter_limit = -1});
query(q{SELECT pg_reload_conf(); SELECT millrace.activate('stormy')});
wait_latest($node, 'stormy');
is(query('SELECT n FROM stormy'), '200', 'without a limit it goes on');
is(query(q{SELECT count(*) FROM millrace.dead_letters WHERE view = 'stormy'::regclass}), '800', 'with all its dead letters');

query(q{ALTER SYSTEM SET millrace.dead_letter_limit = 300});
query(q{SELECT pg_reload_conf()});
produce($storm, 0, map { qq({"id": $_, "d": 0}) } 1 .. 100);
wait_latest($node, 'stormy');
is(query(q{SELECT count(*) FROM millrace.dead_letters WHERE view = 'stormy'::regclass}), '900', 'which do not count afterwards');

# Nor does one of junk fill the table unnoticed.
my $junk = create_stream($node, 'junk', 'id bigint');
create('sorted', 'SELECT count(*) AS n FROM junk');
produce($junk, 0, (map { qq({"id": $_}) } 1 .. 100), map { "junk $_" } 1 .. 800);
wait_state($node, 'stream', 'junk', 'stopped');
like(query(q{SELECT last_error FROM millrace.streams WHERE stream = 'junk'::regclass}), qr/outnumber.*300.*offset \d+.*junk/s,
	'a storm of junk stops the stream');
cmp_ok(query(q{SELECT dead_letters FROM millrace.streams WHERE stream = 'junk'::regclass}), '<=', 400, 'in time');
query(q{ALTER SYSTEM SET millrace.dead_letter_limit = -1});
query(q{SELECT pg_reload_conf(); SELECT millrace.activate('junk')});
wait_latest($node, 'sorted');
is(query(q{SELECT n, (SELECT dead_letters FROM millrace.streams WHERE stream = 'junk'::regclass) FROM sorted}), '100|800',
	'without a limit it goes on');

# What a transform writes may set off anything, but not this.
my $told = create_stream($node, 'told', 'id bigint');
query(q{CREATE TABLE heard (id bigint);
	CREATE FUNCTION retell() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM millrace.replay('told'); RETURN NEW; END$$;
	CREATE TRIGGER retell BEFORE INSERT ON heard FOR EACH ROW WHEN (NEW.id % 2 = 0) EXECUTE FUNCTION retell();
	SELECT millrace.create_continuous_transform('listen', 'SELECT id FROM told', 'heard')});
produce($told, 0, map { qq({"id": $_}) } 1 .. 4);
wait_state($node, 'view', 'listen', 'failed');
like(query(q{SELECT last_error FROM millrace.views WHERE view = 'listen'::regclass}),
	qr/cannot replay dead letters while messages are taken/, 'a trigger cannot replay');
query(q{DROP TRIGGER retell ON heard; SELECT millrace.activate('listen')});
wait_latest($node, 'listen');
is(query('SELECT string_agg(id::text, $$,$$ ORDER BY id) FROM heard'), '1,2,3,4', 'without it all are taken');

# Plans that fail over no rows at all: of the letters in hand, those of others are nothing to look through.
my $gated = create_stream($node, 'gated', 'id bigint');
query(q{CREATE TABLE shut AS SELECT 'a' AS gate;
	CREATE FUNCTION pass(text) RETURNS integer LANGUAGE plpgsql STABLE AS $$
	BEGIN IF EXISTS (SELECT FROM shut WHERE gate = $1) THEN RAISE 'gate % is shut', $1; END IF; RETURN 1; END $$});
create("gate_$_", "SELECT count(*) AS n, sum(id) AS s FROM pass('$_') AS p JOIN gated ON true") foreach 'a', 'b';
wait_joined($node, 'gated');
produce($gated, 0, map { qq({"id": $_}) } 1 .. 4);
wait_latest($node, "gate_$_") foreach 'a', 'b';
query(q{UPDATE shut SET gate = 'b'});
produce($gated, 0, map { qq({"id": $_}) } 5 .. 8);
wait_latest($node, "gate_$_") foreach 'a', 'b';
is(query(q{SELECT string_agg(view || ':' || message_offset, ' ' ORDER BY id) FROM millrace.dead_letters WHERE stream = 'gated'::regclass}),
	join(' ', (map { "gate_a:$_" } 0 .. 3), map { "gate_b:$_" } 4 .. 7), 'each view misses what came before its gate was open');
is(query(q{SELECT millrace.replay('gated')}), '4', 'one of them can take them now');
is(query(q{SELECT (SELECT n FROM gate_a), (SELECT n FROM gate_b), (SELECT dead_letters FROM millrace.streams WHERE stream = 'gated'::regclass)}),
	'8|4|4', 'the other one keeps its letters');
query('TRUNCATE shut');
is(query(q{SELECT millrace.replay('gated')}), '4', 'until it can');
is(query('SELECT n FROM gate_b'), '8', 'and has all');

done_testing();
