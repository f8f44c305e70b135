# Topics that are not just messages: transactions, control records, compaction.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');

sub create
{
	my ($view, $query) = @_;
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('$view', \$\$$query\$\$)");
}

# An empty topic
create_stream($node, 'empty', event_columns(), partitions => 3);
create('empty_all', 'SELECT count(*) AS n, sum(v) AS total FROM empty');
create('empty_groups', 'SELECT k, count(*) AS n FROM empty GROUP BY k');
wait_latest($node, 'empty_all');
wait_latest($node, 'empty_groups');
is($node->safe_psql('postgres', 'SELECT * FROM empty_all'), '0|', 'one row before the first message');
is($node->safe_psql('postgres', 'SELECT count(*) FROM empty_groups'), '0', 'no group');

# Commits and aborts, interleaved with messages outside of transactions
my $topic = create_stream($node, 'clicks', event_columns(), partitions => 2);
my $query = 'SELECT k, count(*) AS n, sum(id) AS ids FROM %s e GROUP BY k';
create('per_k', sprintf $query, 'clicks');
my (@kept, $i);
foreach my $round (1 .. 8)
{
	my @ids = map { ++$i } 1 .. 25;
	my $end = $round % 2 ? 'commit' : 'abort';
	produce_transaction($end, $topic, $round % 3 ? 0 : 1, map { event($_) } @ids);
	push @kept, @ids if $end eq 'commit';
	next if $round % 4;
	push @kept, ++$i;
	produce($topic, 1, event($i));
}
sub expected { return sprintf $query, '(SELECT e.* FROM ' . events($i) . ' e WHERE id IN (' . join(', ', @kept) . '))' }

wait_latest($node, 'per_k');
is_same($node, 'per_k', expected(), 'what was committed, and nothing else');
produce_transaction('abort', $topic, 0, map { event($_) } 1 .. 10);
wait_latest($node, 'per_k', 20);
is_same($node, 'per_k', expected(), 'an abort at the end of the topic');
is($node->safe_psql('postgres', q{SELECT count(*), sum(lag) FROM millrace.partitions WHERE view = 'per_k'::regclass}),
	'2|0', 'no lag after control records');
my $pid = worker_pid($node, 'clicks');
kill_process($pid);
wait_new_worker($node, 'clicks', $pid);
wait_latest($node, 'per_k', 20);
is_same($node, 'per_k', expected(), 'the same after a crash');

# A view that begins there, at control records
create('late', sprintf $query, 'clicks');
$node->safe_psql('postgres', qq{SELECT millrace.create_continuous_view('at_end', \$\$@{[sprintf $query, 'clicks']}\$\$,
	start_at => 'latest')});
wait_latest($node, 'late', 20);
wait_latest($node, 'at_end', 20);
is_same($node, 'late', expected(), 'a view created afterwards');
is($node->safe_psql('postgres', 'SELECT count(*) FROM at_end'), '0', 'one that begins at the end');

# nothing but aborted messages
my $void = create_stream($node, 'void', event_columns());
produce_transaction('abort', $void, 0, map { event($_) } 1 .. 10);
create('void_all', 'SELECT count(*) AS n FROM void');
wait_latest($node, 'void_all', 20);
is($node->safe_psql('postgres', 'SELECT n FROM void_all'), '0', 'a topic of aborted messages');

# An open transaction holds back what follows it, for every reader alike.
my $open = producer(undef, 'transactional.id' => topic_name('open'));
$open->begin;
my @open = map { ++$i } 1 .. 5;
$open->send($topic, 0, event($_)) foreach @open;
$open->flush;
my @behind = map { ++$i } 1 .. 5;
produce($topic, 0, map { event($_) } @behind);
my @other = map { ++$i } 1 .. 5;
produce($topic, 1, map { event($_) } @other);
push @kept, @other;
wait_latest($node, 'per_k', 20);
is_same($node, 'per_k', expected(), 'an open transaction is not seen');
$open->commit;
push @kept, @open, @behind;
wait_latest($node, 'per_k', 20);
is_same($node, 'per_k', expected(), 'until it commits');

# A producer that dies: the broker aborts for it.
my $dies = producer(undef, 'transactional.id' => topic_name('dies'), 'transaction.timeout.ms' => 2000);
$dies->begin;
$dies->send($topic, 0, event(1));
$dies->flush;
@behind = (++$i);
produce($topic, 0, event($i));
$dies->crash;
push @kept, @behind;
wait_for($node, 'SELECT sum(n) = ' . @kept . ' FROM per_k');
wait_latest($node, 'per_k', 20);
is_same($node, 'per_k', expected(), 'a producer that died');

# ROLLBACK of our own inserts
$node->safe_psql('postgres', 'BEGIN; INSERT INTO clicks (id, k) VALUES (1, 1); ROLLBACK');
$node->safe_psql('postgres', q{
	BEGIN; INSERT INTO clicks (id, k) VALUES (900001, 1);
	SAVEPOINT s; INSERT INTO clicks (id, k) VALUES (900002, 1); ROLLBACK TO s;
	INSERT INTO clicks (id, k) VALUES (900003, 1); COMMIT});
wait_latest($node, 'per_k', 20);
is_same($node, 'per_k', 'SELECT k, count(*) AS n, sum(id) AS ids FROM (SELECT k, id FROM '
	  . events($i) . ' e WHERE id IN (' . join(', ', @kept) . ')
	UNION ALL VALUES (1, 900001), (1, 900003)) e GROUP BY k', 'inserts that were rolled back');

# Compaction leaves holes, also at the end; tombstones are no messages.
my $compacted = create_stream($node, 'compacted', "id bigint, name text OPTIONS (metadata 'key')",
	config => {
		'cleanup.policy' => 'compact', 'segment.ms' => 1000, 'min.cleanable.dirty.ratio' => 0.01,
		'max.compaction.lag.ms' => 1000, 'delete.retention.ms' => 100
	});
create('live', 'SELECT name, count(*) AS n, sum(id) AS ids FROM compacted GROUP BY name');
produce($compacted, 0, map { [ 'key' . $_ % 10, qq({"id": $_}) ] } 1 .. 200);
wait_latest($node, 'live');
produce($compacted, 0, map { [ "key$_", undef ] } 0 .. 4);
wait_latest($node, 'live');
is_same($node, 'live', q{SELECT 'key' || i % 10, count(*), sum(i::bigint) FROM generate_series(1, 200) i GROUP BY 1},
	'tombstones are skipped');
is($node->safe_psql('postgres', 'SELECT count(*) FROM millrace.dead_letters'), '0', 'and are no errors');
# Only closed segments are cleaned, and a segment is closed by a later message.  What is left is
# the last word of five keys, without five that were deleted.  The view takes each filler before
# the next one makes it one that may be removed.
my ($fillers, $left) = (0, '');
foreach (1 .. 2 * $PostgreSQL::Test::Utils::timeout_default)
{
	produce($compacted, 0, [ 'filler', qq({"id": 1}) ]);
	$fillers++;
	wait_latest($node, 'live');
	$left = $node->safe_psql('postgres', q{SELECT count(*), sum(id) FROM compacted WHERE name <> 'filler'});
	last if $left eq '5|985';
	select undef, undef, undef, 0.5;
}
is($left, '5|985', 'the topic was compacted');
create('afterwards', q{SELECT name, count(*) AS n, sum(id) AS ids FROM compacted WHERE name <> 'filler' GROUP BY name});
wait_latest($node, 'afterwards', 20);
is_same($node, 'afterwards', q{SELECT 'key' || i % 10, count(*), sum(i::bigint) FROM generate_series(195, 199) i GROUP BY 1},
	'a view on a compacted topic');
wait_latest($node, 'live', 20);
is_same($node, 'live', qq{SELECT 'key' || i % 10, count(*), sum(i::bigint) FROM generate_series(1, 200) i GROUP BY 1
	UNION ALL SELECT 'filler', $fillers, $fillers}, 'and the one that was there before');
is($node->safe_psql('postgres', 'SELECT count(*) FROM millrace.gaps'), '0', 'compaction is no gap');

done_testing();
