# Locks that others hold for long, and commands that need a table for themselves:
# only what needs the lock waits, says what it waits for, and goes on by itself.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "millrace.retry_max_interval = 1s\nautovacuum = off\nmillrace.catchup_workers = 1\n");
my %topic = map { $_ => create_stream($node, $_, event_columns(), partitions => 2) } qw(clicks others);
my ($no_failpoints) = $node->psql('postgres', q{CREATE FUNCTION failpoint_arm(text, text, text, integer) RETURNS void LANGUAGE C AS 'millrace', 'mr_failpoint_arm';
	CREATE FUNCTION failpoint_waiting() RETURNS integer LANGUAGE C AS 'millrace', 'mr_failpoint_waiting'}, on_error_stop => 1);
sub stop_at { $node->safe_psql('postgres', "SELECT failpoint_arm('$_[0]', 'wait', '00000', 1)") }
sub go_on { $node->safe_psql('postgres', q{SELECT failpoint_arm('', 'error', '00000', 0)}) }

# Drops views while ingest, stopped where it is, has locked what they need, and then lets it go on.
sub drop_meanwhile
{
	my ($views, $what, $meanwhile) = @_;
	my $drop = background($node, "DROP VIEW $views");
	wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^DROP VIEW $views' AND wait_event_type = 'Lock'", '1');
	$meanwhile->() if $meanwhile;
	go_on();
	my ($ok, $out, $err) = $drop->finish;
	ok($ok, "DROP VIEW $what") or diag $err;
}

# The supervisor makes one feed of those that wait, without waiting for those that others have.  Who
# has waited for feeds that the views have left by then gives them back before he waits for others.
SKIP:
{
	skip 'no failpoints', 1 if $no_failpoints;
	my %first = (first_1 => 'clicks', first_2 => 'others', first_3 => 'others', first_4 => 'clicks');
	stop_at('catchup-views-moved');
	$node->safe_psql('postgres', join ' ', 'BEGIN;',
		(map { "SELECT millrace.create_continuous_view('$_', 'SELECT count(*) AS n FROM $first{$_}');" } sort keys %first), 'COMMIT');
	wait_for($node, 'SELECT failpoint_waiting() = 1');
	drop_meanwhile('first_2, first_4', 'of views on two streams, while the supervisor merges feeds of both', sub {
		stop_at('drop-feed-rows-locked');
		wait_for($node, 'SELECT failpoint_waiting() = 1');
		# it does not wait for them, but looks again
		my $then = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
		wait_for($node, qq{SELECT state = 'idle' AND state_change > '$then' FROM pg_stat_activity
			WHERE backend_type = 'millrace supervisor' AND datname = current_database()});
	});
	wait_latest($node, $_) foreach 'first_1', 'first_3';
	$node->safe_psql('postgres', 'DROP VIEW first_1, first_3');
}

my %query = (
	per_k => 'SELECT k, count(*) AS n, sum(id) AS ids FROM %s e GROUP BY k',
	joined => 'SELECT name, count(*) AS n FROM %s e JOIN names USING (k) GROUP BY name',
	told => 'SELECT id %% 100 AS g, count(*) AS n FROM %s e GROUP BY 1',
	total => 'SELECT count(*) AS n, sum(v) AS v FROM %s e');
$node->safe_psql('postgres', q{CREATE TABLE names (k integer PRIMARY KEY, name text);
	INSERT INTO names SELECT i, 'name ' || i % 3 FROM generate_series(0, 6) i;
	CREATE TABLE labels (g bigint PRIMARY KEY, label text);
	INSERT INTO labels SELECT i, 'label ' || i % 7 FROM generate_series(0, 99) i;
	CREATE VIEW all_labels AS SELECT * FROM labels});
sub create
{
	my ($view, $sql, $more) = @_;
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('$view', \$\$$sql\$\$@{[$more // '']})");
}
create($_, (sprintf $query{$_}, 'clicks'), $_ eq 'told' ? ', changes => true' : '') foreach sort keys %query;
create('other_total', sprintf $query{total}, 'others');

# Views that follow what another view tells, and each other
my %follows = (
	labelled => 'SELECT label, sum(coalesce((new).n, 0) - coalesce((old).n, 0)) AS n FROM told_changes JOIN all_labels ON g = (coalesce(new, old)).g GROUP BY label',
	in_all => 'SELECT sum(coalesce((new).n, 0) - coalesce((old).n, 0)) AS n FROM labelled_changes');
sub follow
{
	$node->safe_psql('postgres', q{SELECT millrace.attach_table('told_changes')});
	create('labelled', $follows{labelled}, ', changes => true');
	$node->safe_psql('postgres', q{SELECT millrace.attach_table('labelled_changes')});
	create('in_all', $follows{in_all});
}
follow();
my $load = start_traffic($topic{clicks}, partitions => 2);
my $other_load = start_traffic($topic{others}, partitions => 2);
wait_latest($node, $_) foreach keys %query, 'other_total';
wait_state($node, 'view', $_, 'running') foreach keys %query;

# All messages sent so far reach a view while something is in the way of others.
sub goes_on
{
	my ($view, $what) = @_;
	($view eq 'other_total' ? $other_load : $load)->wait_more(50);
	wait_latest($node, $view);
	pass("$view goes on: $what");
}

# A view whose lock somebody has leaves the others, waits alone, and comes back.
foreach my $case ([ per_k => 'LOCK TABLE per_k_mrel IN ACCESS EXCLUSIVE MODE', 'per_k_mrel', 'a lock on a matrel' ],
	[ joined => 'ALTER TABLE names ADD more text', 'names', 'an ALTER TABLE of a joined table that is not committed' ],
	[ told => 'LOCK TABLE labelled_mrel IN ACCESS EXCLUSIVE MODE', 'labelled_mrel', 'a lock on the matrel of a view that follows' ],
	[ told => 'DROP VIEW in_all', 'in_all', 'a DROP VIEW, not committed, of one that follows that' ],
	[ told => 'ALTER TABLE labels ADD more text', 'labels', 'an ALTER TABLE of a table that a view that follows joins' ])
{
	my ($view, $sql, $relation, $what) = @$case;
	my $session = open_transaction($node, $sql);
	wait_for($node, qq{SELECT state = 'retrying' AND last_error ~ 'waiting for .*$relation.* process @{[$session->pid]}'
		FROM millrace.views WHERE view = '$view'::regclass AND NOT live});
	pass("$what: the view says what it waits for, and who has it");
	wait_for($node, qq{SELECT state = 'retrying' AND last_error ~ '$relation' FROM millrace.streams WHERE stream = 'clicks'::regclass});
	goes_on($_, $what) foreach grep { $_ ne $view } sort keys %query;
	goes_on('other_total', $what);
	create('new_one', sprintf $query{total}, 'clicks');
	wait_latest($node, 'new_one');
	wait_state($node, 'view', 'new_one', 'running');
	pass("$what: another view catches up, with one catch-up worker");
	$node->safe_psql('postgres', 'DROP VIEW new_one');
	$session->end('ROLLBACK');
	goes_on($view, "after $what");
	wait_state($node, 'view', $view, 'running');
}

# What holds up a whole stream, other streams do not notice.
foreach my $case ([ "SELECT millrace.deactivate('per_k')", 'feed', 'a deactivate() that is not committed' ],
	[ 'ALTER FOREIGN TABLE clicks ADD more text', 'clicks', 'an ALTER FOREIGN TABLE that is not committed' ])
{
	my ($sql, $relation, $what) = @$case;
	my $session = open_transaction($node, $sql);
	wait_for($node, qq{SELECT state = 'retrying' AND last_error ~ 'waiting for .*$relation.* process @{[$session->pid]}'
		FROM millrace.streams WHERE stream = 'clicks'::regclass});
	pass("$what: the stream says what it waits for, and who has it");
	goes_on('other_total', $what);
	$session->end('ROLLBACK');
	goes_on($_, "after $what") foreach sort keys %query;
}
wait_state($node, 'stream', 'clicks', 'running');

# A worker that starts while a joined table is locked
{
	my $session = open_transaction($node, 'LOCK TABLE names IN ACCESS EXCLUSIVE MODE');
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type ~ 'millrace .*worker'});
	goes_on($_, 'a worker that starts beside a lock') foreach qw(per_k total);
	$session->end();
	goes_on('joined', 'after the lock');
}

# Whoever drops views that follow each other waits for a step, and a step for him, but not both.
foreach my $round (1 .. 5)
{
	$load->wait_more(20);
	wait_for($node, 'SELECT n > 0 FROM in_all');
	my ($failed, $out, $err) = $node->psql('postgres', 'DROP VIEW in_all, labelled, told', on_error_stop => 1);
	is($failed, 0, "round $round: DROP VIEW of a view and those that follow it, under load") or diag $err;
	create('told', (sprintf $query{told}, 'clicks'), ', changes => true');
	follow();
}
SKIP:
{
	skip 'no failpoints', 1 if $no_failpoints;
	wait_latest($node, 'told');
	wait_state($node, 'view', 'told', 'running');
	wait_for($node, q{SELECT count(DISTINCT feed) FROM millrace.view_stream WHERE stream = 'clicks'::regclass}, '1');
	stop_at('step-fed');
	wait_for($node, 'SELECT failpoint_waiting() = 2');	# the workers of both streams
	drop_meanwhile('in_all, labelled, told', 'of a view and those that follow it, before a step commits');
	create('told', (sprintf $query{told}, 'clicks'), ', changes => true');
	follow();
}
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'nobody met in a deadlock');

# Long readers do not hold up ingest, nor does it hold up them.
my $reader = open_transaction($node, 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM per_k');
goes_on($_, 'a long reader') foreach sort keys %query;
$reader->end();

# Commands that rewrite or rebuild, under load
my $place = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$place'");
my ($index) = $node->safe_psql('postgres', q{SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'per_k_mrel'::regclass});
foreach my $command ('VACUUM per_k_mrel', 'VACUUM FULL per_k_mrel', "CLUSTER per_k_mrel USING $index", 'REINDEX TABLE per_k_mrel',
	'REINDEX TABLE CONCURRENTLY per_k_mrel', 'ALTER TABLE per_k_mrel SET TABLESPACE elsewhere',
	"ALTER INDEX $index SET TABLESPACE elsewhere", 'VACUUM FREEZE per_k_mrel', 'ANALYZE per_k_mrel', 'VACUUM FULL names',
	'VACUUM FULL pg_class', 'VACUUM FULL millrace.feed_offset', 'VACUUM FULL millrace.continuous_view', 'REINDEX SCHEMA millrace',
	'REINDEX SYSTEM postgres')
{
	$node->safe_psql('postgres', $command);
	goes_on($_, $command) foreach qw(per_k joined);
}
SKIP:
{
	skip 'no failpoints', 1 if $no_failpoints;
	# where it is large enough for its index to be used, which stays locked until a step ends
	$node->safe_psql('postgres', 'INSERT INTO millrace.feed_offset (feed, partition, next_offset) SELECT 0, i, 0 FROM generate_series(1, 10000) i');
	$node->safe_psql('postgres', 'ANALYZE millrace.feed_offset');
	goes_on($_, 'an analyzed table of offsets') foreach qw(per_k joined);
	stop_at('step-fed');
	wait_for($node, 'SELECT failpoint_waiting() = 2');
	my $reindex = background($node, 'REINDEX TABLE millrace.feed_offset');
	wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'REINDEX%' AND wait_event_type = 'Lock'});
	go_on();
	my ($ok, undef, $error) = $reindex->finish;
	ok($ok, 'REINDEX in the midst of a step') or diag($error);
	goes_on($_, 'REINDEX in the midst of a step') foreach qw(per_k joined);
	$node->safe_psql('postgres', 'DELETE FROM millrace.feed_offset WHERE feed = 0');
}
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'nor does any of these end in a deadlock');

# A worker without work keeps no snapshot, and nothing from being frozen.
$other_load->stop;
wait_latest($node, 'other_total');
wait_for($node, q{SELECT bool_and(backend_xmin IS NULL AND backend_xid IS NULL) FROM pg_stat_activity
	WHERE backend_type LIKE 'millrace %' AND pid IN
		(SELECT pid FROM millrace.workers WHERE stream = 'others'::regclass
		 UNION ALL SELECT pid FROM pg_stat_activity WHERE backend_type ~ 'millrace (supervisor|launcher)')});
pass('idle processes hold back nothing');
my $xid = $node->safe_psql('postgres', 'SELECT pg_current_xact_id()::xid');
$node->safe_psql('postgres', 'DO $$ BEGIN FOR i IN 1 .. 2000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$');
$node->safe_psql('postgres', 'VACUUM FREEZE');
is($node->safe_psql('postgres', qq{SELECT age(datfrozenxid) < age('$xid'::xid) FROM pg_database WHERE datname = 'postgres'}), 't',
	'ages do not grow while ingest goes on');

my $n = $load->stop;
foreach my $view (sort keys %query)
{
	wait_latest($node, $view);
	is_same($node, $view, sprintf($query{$view}, events($n)));
	wait_state($node, 'view', $view, 'running');
}
is_same($node, $_, $follows{$_}) foreach sort keys %follows;
my $others = $other_load->stop;
is_same($node, 'other_total', sprintf($query{total}, events($others)));
is($node->safe_psql('postgres', 'SELECT count(*) FROM millrace.dead_letters'), 0, 'no dead letters');

done_testing();
