# Another Kafka cluster at the address of the one that was read.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my ($old, $new) = (own_broker(), own_broker());
my $node = new_node('main', broker => $old->bootstrap, conf => "millrace.retry_max_interval = 1s\n");
my $query = 'SELECT count(*) AS n, sum(id) AS ids, min(id) AS first, max(id) AS last FROM %s e';
my $topic = topic_name('clicks');

# with timestamps, so that both clusters can have the same message
sub send_events
{
	my ($broker, $partition, @ids) = @_;
	produce([ $topic, $broker ], $partition,
		map { { value => event($_), timestamp => 1_600_000_000_000 + $_ } } @ids);
}

sub point_to
{
	my ($broker) = @_;
	$node->safe_psql('postgres', qq{ALTER SERVER kafka OPTIONS (SET "bootstrap.servers" '@{[$broker->bootstrap]}')});
}

sub is_part
{
	my ($view, $where, $name) = @_;
	wait_latest($node, $view);
	is_same($node, $view, sprintf($query, '(SELECT e.* FROM ' . events(1000) . " e WHERE $where)"), $name);
}

create_topic($topic, partitions => $_->[0], config => { 'retention.ms' => -1 }, broker => $_->[1]) foreach [ 3, $old ], [ 5, $new ];
create_stream($node, 'clicks', event_columns(), topic => $topic, options => { on_gap => 'earliest', workers => 2 });
$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('per', \$\$" . sprintf($query, 'clicks') . "\$\$)");
send_events($old, 0, 1 .. 10);
send_events($old, 1, 11 .. 20);
is_part('per', 'id <= 20', 'the first cluster');
is($node->safe_psql('postgres', q{SELECT count(*) FROM millrace.feed WHERE cluster <> ''}), 1, 'is remembered');

# the new one has a copy of partition 0, others in partition 1, and in one more the rest of what there was
send_events($new, 0, 1 .. 10, 101 .. 105);
send_events($new, 1, 111 .. 130);
send_events($new, 2, 131 .. 135);
send_events($new, 4, 901 .. 905);
client($new)->command('truncate', $topic, 4, 5);
point_to($new);
wait_state($node, 'stream', 'clicks', 'stopped');
wait_state($node, 'view', 'per', 'stopped');
my $error = $node->safe_psql('postgres', q{SELECT last_error FROM millrace.views});
like($error, qr/another Kafka cluster/, 'another cluster stops a stream, whatever on_gap says');
like($error, qr/bootstrap\.servers.*activate/, 'and says what to do');
is_same($node, 'per', sprintf($query, events(20)), 'nothing is taken from it');
my ($rc, $out, $err) = $node->psql('postgres', q{SELECT millrace.wait_for_latest('per', timeout => '60s')});
like($err, qr/has stopped.*another Kafka cluster/s, 'waiting is of no use');
is($node->safe_psql('postgres', 'SELECT count(*) FROM millrace.gaps'), 0, 'nothing is lost yet');

# a mistake
point_to($old);
$node->safe_psql('postgres', q{SELECT millrace.activate('per')});
send_events($old, 1, 21 .. 30);
is_part('per', 'id <= 30', 'back at the first cluster nothing has happened');
is($node->safe_psql('postgres', 'SELECT count(*) FROM millrace.gaps'), 0, 'nor is there a gap');

# meant
point_to($new);
wait_state($node, 'stream', 'clicks', 'stopped');
$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('fresh', \$\$" . sprintf($query, 'clicks') . "\$\$)");
$node->safe_psql('postgres', q{SELECT millrace.activate('clicks')});
is_part('per', 'id <= 30 OR id BETWEEN 101 AND 105 OR id BETWEEN 111 AND 135', 'accepted: copies go on, others begin');
is_part('fresh', 'id <= 10 OR id BETWEEN 101 AND 105 OR id BETWEEN 111 AND 135', 'a view that was created meanwhile');
is($node->safe_psql('postgres', 'SELECT partition, from_offset, to_offset, passed FROM millrace.gaps ORDER BY partition'),
	"1|20|0|t\n4|0|5|t", 'the partition that is no copy has a gap, as has one that has lost its beginning');
like($node->safe_psql('postgres', 'SELECT reason FROM millrace.gaps WHERE partition = 1'), qr/another Kafka cluster/, 'with the reason');
wait_state($node, 'stream', 'clicks', 'running');

# the same address: the old cluster's broker makes room for another one while the stream is alive
send_events($new, 1, 136 .. 140);
is_part('per', 'id <= 30 OR id BETWEEN 101 AND 105 OR id BETWEEN 111 AND 140', 'at the second cluster');
$new->stop;
my $third = own_broker(port => ($new->bootstrap =~ /(\d+)$/)[0]);
create_topic($topic, partitions => 5, config => { 'retention.ms' => -1 }, broker => $third);
send_events($third, $_, 501 .. 600) foreach 0 .. 2;
wait_state($node, 'stream', 'clicks', 'stopped');
is_same($node, 'per', sprintf($query, '(SELECT e.* FROM ' . events(1000) . ' e
	WHERE id <= 30 OR id BETWEEN 101 AND 105 OR id BETWEEN 111 AND 140)'), 'nothing is taken from a stranger at the same address');
$node->safe_psql('postgres', q{SELECT millrace.activate('clicks')});
wait_latest($node, 'per');
is_same($node, 'per', sprintf($query, '(SELECT e.* FROM ' . events(1000) . ' e, generate_series(1, 3) partition
	WHERE partition = 1 AND (id <= 30 OR id BETWEEN 101 AND 105 OR id BETWEEN 111 AND 140) OR id BETWEEN 501 AND 600)'), 'until it is accepted');

done_testing();
