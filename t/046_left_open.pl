# Transactions that somebody leaves open hold up only what needs the locks that they have: the other
# views of a stream go on, and when the transaction has ended everything is exact.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "millrace.view_timeout = 1s\nmillrace.retry_max_interval = 1s\n");

sub query { return $node->safe_psql('postgres', $_[0]) }

sub create
{
	my ($name, $query, $more) = @_;
	query("SELECT millrace.create_continuous_view('$name', \$\$$query\$\$" . ($more // '') . ')');
}

# --- replay(), beside a view that is to join over the letters ---------------------

my $clicks = create_stream($node, 'clicks', 'id bigint', partitions => 3);
my $sent = 0;

# One in ten is junk.
sub click
{
	my ($n) = @_;
	my @messages = ([], [], []);
	foreach my $id ($sent + 1 .. $sent + $n)
	{
		push @{ $messages[ $id % 3 ] }, $id % 10 == 0 ? 'junk' : qq({"id": $id});
	}
	produce($clicks, $_, @{ $messages[$_] }) foreach 0 .. 2;
	$sent += $n;
}

sub clicked { return "SELECT id FROM generate_series(1, $sent) id WHERE id % 10 <> 0" }

create('total', 'SELECT count(*) AS n FROM clicks');
click(300);
wait_latest($node, 'total');
my $open = open_transaction($node, q{SELECT millrace.replay('clicks')});
create('later', 'SELECT id % 7 AS k, count(*) AS n, sum(id) AS s, millrace.array_agg(id, id) AS ids FROM clicks GROUP BY 1',
	', changes => true');
my $waits = q{EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE a.backend_type = 'millrace catch-up worker' AND NOT l.granted AND l.classid = 'millrace.dead_letter'::regclass)};
wait_for($node, "SELECT $waits");
foreach (1 .. 5)
{
	click(100);
	wait_latest($node, 'total');
}
is_same($node, 'total', 'SELECT count(*) FROM (' . clicked() . ') c',
	'a view goes on beside a replay that is not committed, and a view that waits for that');
$open->end('COMMIT');
wait_latest($node, 'later');
wait_joined($node, 'clicks');
click(100);
wait_latest($node, 'later');
is_same($node, 'later',
	'SELECT id % 7, count(*), sum(id), array_agg(id ORDER BY id) FROM (' . clicked() . ') c GROUP BY 1',
	'which has each message once when it is');
is(query(q{SELECT count(*), count(DISTINCT (partition, message_offset)) FROM millrace.dead_letters WHERE stream = 'clicks'::regclass}),
	join('|', ($sent / 10) x 2), 'each letter is there once');
query('DROP VIEW total; DROP VIEW later');

# --- replay(), beside rows that leave a view by age -----------------------------------

my $visits = create_stream($node, 'visits', 'id bigint, at timestamptz');
query(q{CREATE FUNCTION picky(bigint) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1 / $1'});
create('daily', q{SELECT date_trunc('day', at) AS day, sum(picky(id)) AS n FROM visits GROUP BY 1},
	q{, retention => '1000 days', retention_column => 'day'});
create('visited', 'SELECT count(*) AS n FROM visits');
my $now = query(q{SELECT to_char(now(), 'YYYY-MM-DD"T"HH24:MI:SSOF')});
produce($visits, 0, map { qq({"id": $_, "at": "$now"}) } 1, 0, 1);
wait_latest($node, $_) foreach 'daily', 'visited';
wait_joined($node, 'visits');
query(q{CREATE OR REPLACE FUNCTION picky(bigint) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT $1'});
$open = open_transaction($node, q{SELECT millrace.replay('visits')});
# each batch is followed by a look for such rows
foreach my $n (4 .. 6)
{
	produce($visits, 0, qq({"id": 5, "at": "$now"}));
	wait_for($node, "SELECT n = $n FROM visited");
}
pass('others go on beside a replay that is not committed');
$open->end('COMMIT');
wait_latest($node, $_) foreach 'daily', 'visited';
is(query('SELECT n FROM daily'), '17', 'and nothing is missing or double when it is');
query('DROP VIEW daily; DROP VIEW visited');

# --- set_retention() ---------------------------------------------------------------------

create('monthly', q{SELECT date_trunc('month', at) AS month, count(*) AS n FROM visits GROUP BY 1});
create('visited', 'SELECT count(*) AS n FROM visits');
wait_latest($node, $_) foreach 'monthly', 'visited';
wait_joined($node, 'visits');
$open = open_transaction($node, q{SELECT millrace.set_retention('monthly', '1000 days', 'month')});
produce($visits, 0, qq({"id": 5, "at": "$now"}));
wait_latest($node, 'visited');
is(query('SELECT n FROM visited'), '7', 'others go on beside a set_retention() that is not committed');
$open->end('COMMIT');
wait_latest($node, 'monthly');
is(query('SELECT n FROM monthly'), '7', 'and nothing is missing when it is');
query('DROP VIEW monthly; DROP VIEW visited');

# --- and those who wait in theirs for ingest, which waits for them ------------------------

create('stays', 'SELECT count(*) AS n FROM visits');
create('goes', 'SELECT max(id) AS m FROM visits');
wait_latest($node, $_) foreach 'stays', 'goes';
wait_joined($node, 'visits');
my $visited = query('SELECT n FROM stays');
foreach my $what ('DROP VIEW goes', q{SELECT millrace.deactivate('goes')})
{
	wait_joined($node, 'visits');
	$open = open_transaction($node, $what);
	produce($visits, 0, qq({"id": 1, "at": "$now"}));
	$visited++;
	eval { $open->end(q{SELECT millrace.wait_for_latest('stays')}) };
	like($open->{err}, qr/ERROR:  cannot wait for continuous view "stays" in a transaction that its worker waits for.*HINT:  Commit first/s,
		"nobody waits for himself after $what");
	wait_latest($node, 'stays');
	is(query('SELECT n FROM stays'), $visited, 'and ingest goes on');
}

# Where only another view needs the lock, ingest goes on without that one.
query('CREATE TABLE names (id bigint)');
query('DROP VIEW goes');
create('joins', 'SELECT count(*) AS n FROM visits JOIN names USING (id)');
wait_latest($node, 'joins');
wait_joined($node, 'visits');
$open = open_transaction($node, 'LOCK TABLE names');
produce($visits, 0, qq({"id": 1, "at": "$now"}));
$visited++;
eval { $open->end(q{SELECT 'waited ' || millrace.wait_for_latest('stays')}) };
like($open->{out}, qr/waited true/, 'who waits for a view that does not need his locks has it');

# A view that is alone with a lock that somebody has, and one that joins it
wait_latest($node, $_) foreach 'stays', 'joins';
query('DROP VIEW stays');
wait_joined($node, 'visits');
$open = open_transaction($node, 'LOCK TABLE names');
produce($visits, 0, qq({"id": 1, "at": "$now"}));
$visited++;
wait_for($node, q{SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE a.backend_type = 'millrace worker' AND NOT l.granted AND l.relation = 'names'::regclass)});
create('stays', 'SELECT count(*) AS n FROM visits');
wait_latest($node, 'stays');
is(query('SELECT n FROM stays'), $visited, 'a view does not wait with one that waits for a lock');
$open->end('ROLLBACK');
wait_latest($node, 'joins');
query('DROP VIEW stays; DROP VIEW joins');

# The same where neither has taken any message yet; and the state of the one that waits does not change.
my $fresh = create_stream($node, 'fresh', 'id bigint');
create('joins', 'SELECT count(*) AS n FROM fresh JOIN names USING (id)');
wait_latest($node, 'joins');
$open = open_transaction($node, 'LOCK TABLE names');
produce($fresh, 0, '{"id": 1}');
wait_for($node, q{SELECT state = 'retrying' AND last_error ~ 'names' FROM millrace.views WHERE view = 'joins'::regclass});
is(query(q{CREATE TEMPORARY TABLE seen AS SELECT state FROM millrace.views LIMIT 0;
	DO $$
		DECLARE until timestamptz := clock_timestamp() + '12 s';
		BEGIN
			WHILE clock_timestamp() < until LOOP
				INSERT INTO seen SELECT state FROM millrace.views WHERE view = 'joins'::regclass;
				PERFORM pg_sleep(0.1);
			END LOOP;
		END $$;
	SELECT string_agg(DISTINCT state, ' ') FROM seen}), 'retrying', 'what waits alone says so all the time');
create('stays', 'SELECT count(*) AS n FROM fresh');
wait_latest($node, 'stays');
is(query('SELECT n FROM stays'), '1', 'another view has the first message');
$open->end('ROLLBACK');
wait_latest($node, 'joins');
query('DROP VIEW stays; DROP VIEW joins');


# --- DROP VIEW of what is to become live --------------------------------------------------

create('first', 'SELECT count(*) AS n FROM visits');
wait_latest($node, 'first');
sub enable
{
	$node->append_conf('postgresql.conf', "millrace.enabled = $_[0]");
	$node->reload;
	wait_for($node, 'SHOW millrace.enabled', $_[0]);
}
enable('off');
create('second', 'SELECT count(*) AS n FROM visits');
query(q{SELECT millrace.deactivate('first')});
$open = open_transaction($node, 'DROP VIEW second');
create('elsewhere', 'SELECT count(*) AS n FROM clicks');
enable('on');
wait_latest($node, 'elsewhere');
is_same($node, 'elsewhere', 'SELECT count(*) FROM (' . clicked() . ') c', 'a DROP VIEW that is not committed holds up no other streams');
$open->end('ROLLBACK');
wait_latest($node, 'second');
is(query('SELECT n FROM second'), query('SELECT count(*) FROM visits'), 'and where it is rolled back the view goes on');
query('DROP VIEW first; DROP VIEW second; DROP VIEW elsewhere');

# --- one that has the contents of a view that follows another ------------------------

my $sales = create_stream($node, 'sales', 'id bigint, day date');
create('told', 'SELECT day, sum(id) AS s FROM sales GROUP BY day', ', changes => true');
query(q{SELECT millrace.attach_table('told_changes')});
create('follows', 'SELECT count(*) AS n FROM told_changes', ', changes => true');
create('sold', 'SELECT count(*) AS n FROM sales');
produce($sales, 0, map { qq({"id": $_, "day": "2001-01-0$_"}) } 1 .. 3);
wait_latest($node, $_) foreach 'told', 'sold';
wait_joined($node, 'sales');
$open = open_transaction($node, q{SELECT millrace.set_changes_retention('follows', '1 day')});
produce($sales, 0, '{"id": 4, "day": "2001-01-04"}');
wait_for($node, q{SELECT bool_or(last_error LIKE 'waits longer than 1000 ms for a lock%') FROM millrace.workers WHERE stream = 'sales'::regclass});
wait_latest($node, 'sold');
is(query('SELECT n FROM sold'), '4', 'others go on beside a transaction that has the contents of a view that follows one of them');
wait_for($node, q{SELECT state = 'retrying' FROM millrace.views WHERE view = 'told'::regclass});
isnt(query(q{SELECT state FROM millrace.views WHERE view = 'follows'::regclass}), 'failed', 'a view that waits for its contents has not failed');
$open->end('COMMIT');
wait_latest($node, 'told');
is(query('SELECT count(*), sum(s) FROM told'), '4|10', 'and when it has them nothing is missing');
is(query('SELECT n FROM follows'), '4', 'nor in the one that follows');
wait_joined($node, 'sales');

# --- and one that meets errors that may pass ---------------------------------------------

query(q{CREATE TABLE down (); CREATE FUNCTION picks(numeric) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
	BEGIN
		IF to_regclass('public.down') IS NOT NULL AND $1 > 5 THEN
			RAISE 'no connection, with a secret' USING ERRCODE = 'connection_failure';
		END IF;
		RETURN $1;
	END $$});
create('picky', 'SELECT sum(picks((new).s)) AS s FROM told_changes');
produce($sales, 0, '{"id": 6, "day": "2001-01-06"}');
wait_latest($node, 'sold');
is(query('SELECT n FROM sold'), '5', 'others go on also where one that follows meets an error that may pass');
wait_for($node, q{SELECT state = 'retrying' AND last_error LIKE '%"picky", which follows it%' FROM millrace.views WHERE view = 'told'::regclass});
query('DROP TABLE down');
wait_latest($node, 'told');
is(query('SELECT count(*), sum(s) FROM told'), '5|16', 'and when it has passed nothing is missing');
is(query('SELECT s FROM picky'), query('SELECT sum((new).s) FROM told_changes'), 'nor in the one that follows');

# --- the same, for what the supervisor does, and for who is failed by it --------------

query(q{CREATE TABLE visits_by_day (day date, n int); SELECT millrace.attach_table('visits_by_day');
	INSERT INTO visits_by_day VALUES ('2001-01-01', 1), (current_date, 3)});
create('by_day', 'SELECT day, sum(n) AS n FROM visits_by_day GROUP BY day', ', changes => true');
query(q{SELECT millrace.attach_table('by_day_changes')});
create('follows_too', 'SELECT count(*) AS n FROM by_day_changes', ', changes => true');
$open = open_transaction($node, q{SELECT millrace.set_changes_retention('follows_too', '1 day')});
query(q{SELECT millrace.set_retention('by_day', '10 days', 'day')});
create('meanwhile', 'SELECT count(*) AS n FROM clicks');
wait_latest($node, 'meanwhile');
is_same($node, 'meanwhile', 'SELECT count(*) FROM (' . clicked() . ') c', 'the supervisor starts workers meanwhile');
is(query('SELECT count(*) FROM by_day_mrel'), '2', 'rows stay where those that follow cannot take it');
$open->end('COMMIT');
wait_for($node, 'SELECT count(*) = 1 FROM by_day_mrel');
is(query('SELECT n FROM follows_too'), query('SELECT count(*) FROM by_day_changes'), 'and leave when they can');
is(query(q{SELECT string_agg(DISTINCT state, ' ') FROM millrace.views}), 'running', 'no view has failed');

done_testing();
