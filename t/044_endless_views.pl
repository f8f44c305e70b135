# A view whose query takes for ever holds up nobody for long: not the other views of its stream, not
# those that come later, and not who drops it.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "millrace.view_timeout = 1s\nmillrace.retry_max_interval = 2s\n");
my $sent = 0;

sub query { return $node->safe_psql('postgres', $_[0]) }

sub create { query("SELECT millrace.create_continuous_view('$_[0]', \$\$$_[1]\$\$)") }

sub send_some
{
	my ($topic, $n) = @_;
	produce($topic, 0, map { $sent++; qq({"id": $sent}) } 1 .. $n);
}

query(q{CREATE FUNCTION endless(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN IF $1 > 5 THEN PERFORM pg_sleep(3600); END IF; RETURN $1; END $$});
sub mend { query(q{CREATE OR REPLACE FUNCTION endless(bigint) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT $1'}) }

my $topic = create_stream($node, 'clicks', 'id bigint');
create('bad', 'SELECT count(*) AS n, sum(endless(id)) AS s FROM clicks');
create('good', 'SELECT count(*) AS n FROM clicks');
send_some($topic, 5);
wait_latest($node, $_) foreach 'bad', 'good';
wait_for($node, q{SELECT count(*) = 1 FROM millrace.workers WHERE stream = 'clicks'::regclass});

send_some($topic, 5);
wait_for($node, q{SELECT state = 'retrying' AND last_error LIKE 'takes longer than 1000 ms%millrace.view_timeout%'
	FROM millrace.views WHERE view = 'bad'::regclass});
wait_latest($node, 'good');
is(query('SELECT n FROM good'), '10', 'other views go on');
is(query('SELECT n FROM bad'), '5', 'a batch that was canceled leaves nothing behind');

# Its own worker may take as long as it likes.
my $busy = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace catch-up worker' AND wait_event = 'PgSleep'};
wait_for($node, "SELECT EXISTS ($busy)");
create('later', 'SELECT max(id) AS m FROM clicks');
send_some($topic, 5);
wait_latest($node, $_) foreach 'good', 'later';
is(query('SELECT n, m FROM good, later'), '15|15', 'nor does it keep others from joining');
mend();
query("SELECT pg_terminate_backend(($busy))");
wait_latest($node, 'bad');
is(query('SELECT n, s FROM bad'), '15|120', 'mended, it is exact');

# One that is alone with its stream
query(q{CREATE OR REPLACE FUNCTION endless(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN PERFORM pg_sleep(3600); RETURN $1; END $$});
my $alone = create_stream($node, 'alone', 'id bigint');
create('first', 'SELECT sum(endless(id)) AS s FROM alone');
wait_latest($node, 'first');
send_some($alone, 3);
my $live = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace worker' AND wait_event = 'PgSleep'};
wait_for($node, "SELECT EXISTS ($live)");
create('second', 'SELECT count(*) AS n FROM alone');
wait_latest($node, 'second');
is(query('SELECT n FROM second'), '3', 'one that comes later takes the lead');
wait_for($node, "SELECT EXISTS ($busy)");
query('DROP VIEW first');
pass('who drops it waits, and then it is gone');

# One that is alone, and is followed
my $told = create_stream($node, 'told', 'id bigint');
query(q{SELECT millrace.create_continuous_view('followed', 'SELECT sum(endless(id)) AS s FROM told', changes => true)});
query(q{SELECT millrace.attach_table('followed_changes')});
create('follows', 'SELECT count(*) AS n FROM followed_changes');
wait_latest($node, 'followed');
send_some($told, 3);
wait_for($node, "SELECT EXISTS ($live)");
query('DROP VIEW follows');
pass('who drops the one that follows waits, and then it is gone');
query('DROP VIEW followed');

# Those that follow take what is there when they are created.
query(q{CREATE OR REPLACE FUNCTION endless(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN IF $1 > 5 THEN PERFORM pg_sleep(3600); END IF; RETURN $1; END $$});

# One that is alone, and whose changes somebody locks
my $tells = create_stream($node, 'tells_s', 'id bigint');
query(q{SELECT millrace.create_continuous_view('tells', 'SELECT sum(endless(id)) AS s FROM tells_s', changes => true)});
wait_latest($node, 'tells');
send_some($tells, 3);
wait_for($node, "SELECT EXISTS ($live)");
query('BEGIN; LOCK TABLE tells_changes; COMMIT');
pass('who locks the table of its changes waits, and then has it');
query('DROP VIEW tells');

# One that follows another, which is alone
my $leads = create_stream($node, 'leads_s', 'id bigint');
query(q{SELECT millrace.create_continuous_view('leads', 'SELECT count(*) AS n, max(id) AS m FROM leads_s', changes => true)});
query(q{SELECT millrace.attach_table('leads_changes')});
create('trails', 'SELECT sum(endless((new).m)) AS s FROM leads_changes');
wait_latest($node, 'leads');
produce($leads, 0, '{"id": 10}');
wait_latest($node, 'leads');
is(query('SELECT n, m FROM leads'), '1|10', 'one that is followed by an endless one goes on, also when it is alone');
like(query(q{SELECT state || ': ' || last_error FROM millrace.views WHERE view = 'trails'::regclass}),
	qr/^failed: takes longer than 1000 ms/, 'and that one has failed');
query('DROP VIEW trails');
query('DROP VIEW leads');

# One that catches up over a dead letter, which locks the stream's letters, beside who drops another one
my $letters = create_stream($node, 'letters', 'id bigint');
create('stays', 'SELECT count(*) AS n FROM letters');
create('goes', 'SELECT max(id) AS m FROM letters');
produce($letters, 0, '{"id": 1}', 'junk', '{"id": 10}');
wait_latest($node, $_) foreach 'stays', 'goes';
wait_joined($node, 'letters');
create('catches_up', 'SELECT sum(endless(id)) AS s FROM letters');
my $locks = q{SELECT FROM pg_locks l WHERE l.pid = pg_stat_activity.pid AND locktype = 'object' AND};
wait_for($node, "SELECT EXISTS ($busy AND EXISTS ($locks classid = 'millrace.dead_letter'::regclass AND objid = 'letters'::regclass)
	AND NOT EXISTS ($locks classid = 'millrace.feed'::regclass AND mode = 'ExclusiveLock'))");
query('DROP VIEW goes');
pass('who drops another one waits, and then that is gone');
produce($letters, 0, '{"id": 2}');
wait_latest($node, 'stays');
is(query('SELECT n FROM stays'), '3', 'nor do others stand still meanwhile');
query('DROP VIEW catches_up');
query('DROP VIEW stays');

# One that is planned for ever, in its worker only: who drops it waits, and so do those that need its place.
query(q{CREATE FUNCTION endless_here(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN
		IF EXISTS (SELECT FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_type = 'millrace catch-up worker') THEN
			PERFORM pg_sleep(3600);
		END IF;
		RETURN $1;
	END $$;
	CREATE FUNCTION endless_constant() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT public.endless_here(1)'});
my $planned = 'SELECT count(*) FILTER (WHERE id > endless_constant()) AS n FROM clicks';
create('planned', $planned);
wait_for($node, "SELECT EXISTS ($busy)");
query('DROP VIEW planned');
pass('who drops one that is planned for ever waits, and then it is gone');
$node->append_conf('postgresql.conf', 'millrace.catchup_workers = 1');
$node->reload;
wait_for($node, 'SHOW millrace.catchup_workers', '1');
create('planned', $planned);
wait_for($node, "SELECT EXISTS ($busy)");
create('waits', 'SELECT count(*) AS n FROM clicks');
wait_latest($node, 'waits');
is(query('SELECT n FROM waits'), '15', 'one that needs its place gets it');
query('DROP VIEW planned; DROP VIEW waits');
$node->append_conf('postgresql.conf', 'millrace.catchup_workers = 2');
$node->reload;
wait_for($node, 'SHOW millrace.catchup_workers', '2');

# One that does not even end when it is canceled
query(q{CREATE FUNCTION stubborn(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN
		LOOP
			BEGIN
				IF $1 > 5 THEN PERFORM pg_sleep(3600); END IF;
				RETURN $1;
			EXCEPTION WHEN query_canceled THEN NULL;
			END;
		END LOOP;
	END $$});
my $mixed = create_stream($node, 'mixed', 'id bigint');
create('stubborn', 'SELECT sum(stubborn(id)) AS s FROM mixed');
create('beside', 'SELECT count(*) AS n FROM mixed');
produce($mixed, 0, '{"id": 1}');
wait_latest($node, $_) foreach 'stubborn', 'beside';
wait_joined($node, 'mixed');
produce($mixed, 0, '{"id": 10}');
wait_latest($node, 'beside');
is(query('SELECT n FROM beside'), '2', 'others go on also where a view does not end when it is canceled');
like(query(q{SELECT state || ': ' || last_error FROM millrace.views WHERE view = 'stubborn'::regclass}),
	qr/^(retrying|catching up): .* does not end when it is canceled/, 'and that one says so');
wait_for($node, "SELECT EXISTS ($busy AND NOT EXISTS ($locks classid = 'millrace.feed'::regclass AND mode = 'ExclusiveLock'))");
produce($mixed, 0, '{"id": 2}');
wait_latest($node, 'beside');
is(query('SELECT n FROM beside'), '3', 'nor has it the live feed in hand when it tries again');
query('DROP VIEW stubborn');
pass('who drops it waits, and then it is gone');

# One that takes a cancel for an error of its own, and returns something else then
query(q{CREATE FUNCTION minus_one(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN
		IF $1 = 20 THEN PERFORM pg_sleep(3); END IF;
		RETURN $1;
	EXCEPTION WHEN query_canceled OR others THEN RETURN -1;
	END $$});
create('evasive', 'SELECT count(*) AS n, sum(minus_one(id)) AS s FROM mixed');
wait_latest($node, 'evasive');
wait_joined($node, 'mixed');
produce($mixed, 0, '{"id": 20}', '{"id": 3}');
wait_latest($node, $_) foreach 'evasive', 'beside';
is(query('SELECT n, s FROM evasive'), '5|36', 'a value that depends on a cancel does not count');
query('DROP VIEW evasive');

# And one that takes it for an error of the message, among others that cannot be taken
query(q{CREATE FUNCTION blames(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN
		IF $1 = 30 THEN RAISE division_by_zero; END IF;
		IF $1 = 40 THEN PERFORM pg_sleep(3); END IF;
		RETURN $1;
	EXCEPTION WHEN query_canceled THEN RAISE 'bad value';
	END $$});
create('blames', 'SELECT count(*) AS n, sum(blames(id)) AS s FROM mixed');
wait_latest($node, 'blames');
wait_joined($node, 'mixed');
produce($mixed, 0, '{"id": 30}', '{"id": 40}', '{"id": 4}');
wait_latest($node, $_) foreach 'blames', 'beside';
is(query('SELECT n, s FROM blames'), '7|80', 'a message in whose midst it was canceled is taken, too');
is(query(q{SELECT string_agg(convert_from(value, 'UTF8'), ' ') FROM millrace.dead_letters WHERE view = 'blames'::regclass}), '{"id": 30}',
	'and is no dead letter');
query('DROP VIEW blames');
query('DROP VIEW beside');

# Two that take longer than they may, and longer than those who have left others rest, but come to an end
query(q{CREATE FUNCTION slowly(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN IF $1 = 6 THEN PERFORM pg_sleep(6); END IF; RETURN $1; END $$});
my $twins = create_stream($node, 'twins', 'id bigint');
create("slow_$_", "SELECT $_ AS v, count(*) AS n, sum(slowly(id)) AS s FROM twins") foreach 1, 2;
wait_latest($node, "slow_$_") foreach 1, 2;
wait_joined($node, 'twins');
produce($twins, 0, map { qq({"id": $_}) } 1 .. 10);
wait_latest($node, "slow_$_") foreach 1, 2;
is(query('SELECT * FROM slow_1 UNION ALL SELECT * FROM slow_2'), "1|10|55\n2|10|55", 'two slow views do not cancel each other for ever');
query('DROP VIEW slow_1; DROP VIEW slow_2');

# One that has left others for a lock, and stands where an endless one is alone now
my $met = create_stream($node, 'met', 'id bigint');
query('CREATE TABLE gates AS SELECT 1 AS gate');
create('met_endless', 'SELECT sum(endless(id)) AS s FROM met');
create('met_locked', 'SELECT count(*) AS n FROM met JOIN gates ON true');
produce($met, 0, map { qq({"id": $_}) } 1 .. 3);
wait_latest($node, $_) foreach 'met_endless', 'met_locked';
wait_joined($node, 'met');
my $gate = open_transaction($node, 'LOCK TABLE gates IN ACCESS EXCLUSIVE MODE');
produce($met, 0, '{"id": 10}');
wait_for($node, "SELECT EXISTS ($live)");
wait_for($node, q{SELECT state = 'retrying' AND last_error LIKE 'waited in vain%' FROM millrace.views WHERE view = 'met_locked'::regclass});
$gate->end;
wait_latest($node, 'met_locked');
is(query('SELECT n, s FROM met_locked, met_endless'), '4|6', 'one that has left for a lock makes an endless one go');
query('DROP VIEW met_endless, met_locked');

# Those that catch up take the places of no others for ever.
foreach my $n (1, 2)
{
	create("endless_$n", 'SELECT sum(endless(id)) AS s FROM clicks');
	wait_for($node, "SELECT count(*) = $n FROM ($busy) b");
}
is(query('SHOW millrace.catchup_workers'), '2', 'all places are taken');
create('third', 'SELECT count(*) AS n FROM clicks');
wait_latest($node, 'third');
is(query('SELECT n FROM third'), '15', 'a third view gets one of them');
query("DROP VIEW endless_1, endless_2");

done_testing();
