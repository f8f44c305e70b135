# A broker that is fenced by its controller for a moment, because it was too slow: its
# partitions have no leader, and librdkafka from 2.5 on may lose sight of them for good.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $broker = own_broker('broker.session.timeout.ms' => 2000, 'broker.heartbeat.interval.ms' => 500);
my $node = new_node('main', broker => $broker->bootstrap, conf => "millrace.retry_max_interval = 1s\n");
my $topic = topic_name('clicks');
my $query = 'SELECT k, count(*) AS n, sum(id) AS ids FROM %s e GROUP BY k';
create_topic($topic, partitions => 3, broker => $broker);
create_stream($node, 'clicks', event_columns(), topic => $topic);
$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('per_k', \$\$" . sprintf($query, 'clicks') . '$$)');
wait_latest($node, 'per_k');

# with a client made anew, which has no such memory
my $n = 0;
sub send_events
{
	my $producer = producer($broker);
	$producer->send($topic, $_ % 3, event($_)) foreach $n + 1 .. $n + 30;
	$producer->flush;
	$n += 30;
}

foreach my $round (1 .. 5)
{
	send_events();
	$broker->pause;
	# nothing else tells the time by which the controller takes it for dead
	sleep 2 + $round;
	$broker->resume;
	send_events();
	wait_for($node, "SELECT sum(n) = $n FROM per_k");
	is_same($node, 'per_k', sprintf($query, events($n)), "fenced for the ${round}th time: nothing is missing");
	wait_state($node, 'view', 'per_k', 'running');
}

done_testing();
