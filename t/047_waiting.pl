# Feeds that wait for each other: which one the others wait for, what an error is worth meanwhile, and
# who has the places of those that catch up.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "millrace.retry_max_interval = 2s\n");

sub query { return $node->safe_psql('postgres', $_[0]) }

sub create { query("SELECT millrace.create_continuous_view('$_[0]', \$\$$_[1]\$\$" . ($_[2] // '') . ')') }

sub send_ids
{
	my ($topic, $partition, @ids) = @_;
	produce($topic, $partition, map { qq({"id": $_}) } @ids);
}

sub is_count
{
	my ($view, $where, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_latest($node, $view);
	is(query("SELECT n, s FROM $view"), query("SELECT count(*), sum(id) FROM generate_series(1, 1000) id WHERE $where"), $name);
}

sub sum_of { return "SELECT count(*) AS n, sum(id) AS s FROM $_[0]" }

# --- errors while a feed catches up -------------------------------------------

# The ends of quiet partitions, which it finds before the first message, are no success.
my $topic = create_stream($node, 'uneven', 'id bigint', partitions => 4);
create('even', sum_of('uneven'));
send_ids($topic, 3, 1 .. 20);
is_count('even', 'id <= 20', 'a view of a stream whose partitions are quiet, but for one');
query(q{CREATE FUNCTION breaks(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN IF $1 % 10 = 0 THEN RAISE 'broken' USING ERRCODE = 'XX000'; END IF; RETURN $1; END $$});
create('breaks', 'SELECT count(*) AS n, sum(breaks(id)) AS s FROM uneven');
is_count('breaks', 'id <= 20 AND id % 10 > 0', 'an internal error comes again and again, and is isolated');
is(query(q{SELECT count(*) FROM millrace.dead_letters WHERE view = 'breaks'::regclass}), '2', 'in two dead letters');
query('DROP VIEW breaks');

# --- which feed is the live one -----------------------------------------------

query('CREATE TABLE held AS SELECT 1 AS one');
create('behind', 'SELECT count(*) AS n, sum(id) AS s FROM uneven JOIN held ON true');
is_count('behind', 'id <= 20', 'another one');
query(q{SELECT millrace.deactivate('behind')});
send_ids($topic, 3, 21 .. 25);
is_count('even', 'id <= 25', 'which is behind now');
my $session = open_transaction($node, 'LOCK TABLE held IN ACCESS EXCLUSIVE MODE');
query(q{SELECT millrace.activate('behind')});
wait_for($node, q{SELECT state = 'retrying' FROM millrace.views WHERE view = 'behind'::regclass});
query(q{BEGIN; SELECT millrace.deactivate('even'); SELECT millrace.activate('even'); COMMIT});
send_ids($topic, 3, 26 .. 30);
is_count('even', 'id <= 30', 'activated, a view does not wait for one that is behind it');
$session->end;
is_count('behind', 'id <= 30', 'which comes after');
wait_joined($node, 'uneven');
query('DROP VIEW behind, even');

$topic = create_stream($node, 'stops', 'id bigint', options => { on_error => 'stop' });
send_ids($topic, 0, 1 .. 5);
produce($topic, 0, 'no JSON');
create('after', sum_of('stops'), ", start_at => 'latest'");
send_ids($topic, 0, 7 .. 10);
is_count('after', 'id BETWEEN 7 AND 10', 'a view that begins behind a message that cannot be decoded');
create('before', sum_of('stops'));
wait_state($node, 'view', 'before', 'stopped');
query(q{SELECT millrace.deactivate('after')});
query(q{SELECT millrace.activate('after')});
send_ids($topic, 0, 11 .. 20);
is_count('after', 'id BETWEEN 7 AND 20', 'nor for one that has stopped');
query('DROP VIEW after, before');

# --- who has the places -------------------------------------------------------

# views of streams whose live feeds stand before a gap; more of them than could have had the place in the time that one
# of them rests, and than there are slots for
my @stands = map { "stands_$_" } 1 .. 6;
my %stands;
foreach my $stream (@stands)
{
	$stands{$stream} = create_stream($node, $stream, 'id bigint');
	send_ids($stands{$stream}, 0, 1 .. 5);
	create("first_$stream", sum_of($stream));
}
is_count("first_$_", 'id <= 5', 'a view') foreach @stands;
query("SELECT millrace.deactivate('first_$_')") foreach @stands;
foreach my $stream (@stands)
{
	send_ids($stands{$stream}, 0, 6 .. 10);
	client()->command('truncate', $stands{$stream}, 0, 8);
	query("SELECT millrace.activate('first_$stream')");
	wait_state($node, 'view', "first_$stream", 'stopped');
}
my $more = create_stream($node, 'goes_on', 'id bigint');
create('goes', sum_of('goes_on'));
send_ids($more, 0, 1 .. 5);
is_count('goes', 'id <= 5', 'and one of another stream');
query('ALTER SYSTEM SET max_worker_processes = 5');
query('ALTER SYSTEM SET millrace.catchup_workers = 1');
$node->restart;
create("waits_$_", sum_of($_)) foreach @stands;
wait_for($node, q{SELECT count(*) = 1 FROM millrace.workers WHERE stream::text LIKE 'stands%' AND state = 'catching up' AND batches > 1});
create('comes', sum_of('goes_on'));
is_count('comes', 'id <= 5', 'those that can only wait let others have their place, by turns');
query('ALTER SYSTEM RESET max_worker_processes');
query('ALTER SYSTEM RESET millrace.catchup_workers');
$node->restart;
query("SELECT millrace.activate('first_$_')") foreach @stands;
foreach my $stream (@stands)
{
	is_count("waits_$stream", 'id BETWEEN 9 AND 10', 'and go on when they can');
	is_count("first_$stream", 'id <= 5 OR id BETWEEN 9 AND 10', 'as does the one that they waited for');
}
query('DROP VIEW goes, comes, ' . join(', ', map { "first_$_, waits_$_" } @stands));

# --- another log --------------------------------------------------------------

# Who joins has read the new log up to an offset that the live feed has of the old one, and its worker
# has not noticed yet.
$topic = create_stream($node, 'renewed', 'id bigint', options => { on_gap => 'earliest' });
create('old', sum_of('renewed'));
send_ids($topic, 0, 1 .. 20);
is_count('old', 'id <= 20', 'a view');
my ($worker) = worker_pid($node, 'renewed');
kill 'STOP', $worker;
client()->command('delete', $topic);
create_topic($topic);
send_ids($topic, 0, 101 .. 120);
create('new', sum_of('renewed'));
wait_for($node, q{SELECT count(*) = 1 FROM new WHERE n = 20});
wait_for($node, q{SELECT sum(batches) > 3 FROM millrace.workers WHERE stream = 'renewed'::regclass AND pid IS NOT NULL
	AND feed NOT IN (SELECT id FROM millrace.feed WHERE live)});
kill 'CONT', $worker;
wait_for($node, 'SELECT n = 40 FROM old');	# without anybody waking it
is_count('new', 'id BETWEEN 101 AND 120', 'a view that has read a log that is new to the others');
send_ids($topic, 0, 121 .. 125);
is_count('new', 'id BETWEEN 101 AND 125', 'it takes nothing twice');
is_count('old', 'id <= 20 OR id BETWEEN 101 AND 125', 'nor do those that it has joined');

done_testing();
