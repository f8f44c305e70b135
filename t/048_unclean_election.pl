# Three brokers, and a leader that was not in sync: the topic has lost its last messages.
# t/040_another_log.pl has the cases, of logs that look as if; these are logs that are.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

# Broker 1 is the controller, 2 and 3 hold the topics.
my $controller = own_broker('auto.leader.rebalance.enable' => 'false', 'unclean.leader.election.interval.ms' => 1000);
my $properties = slurp_file("$controller->{dir}/server.properties");
my ($quorum) = $properties =~ /^(controller\.quorum\.voters=.*)$/m;
my ($cluster) = slurp_file("$controller->{dir}/data/meta.properties") =~ /^cluster\.id=(.*)$/m;
my %brokers = map { $_ => own_broker(
	'process.roles' => 'broker', 'node.id' => $_, 'listeners' => 'PLAINTEXT://127.0.0.1:@PORT@',
	(split /=/, $quorum, 2), 'replica.lag.time.max.ms' => 5000, format => "-t $cluster") } 2, 3;
my $bootstrap = join ',', map { $_->bootstrap } $controller, @brokers{ 2, 3 };

my $node = new_node('main', broker => $bootstrap);
my $query = 'SELECT count(*) AS n, sum(id) AS ids, min(id) AS first, max(id) AS last FROM %s e';
my %topics = map { $_ => create_topic(topic_name($_), replicas => '2:3', broker => $bootstrap,
	config => { 'unclean.leader.election.enable' => 'true', 'min.insync.replicas' => 1 }) } qw(cut rewritten);

# What reads: awake when it happens; with workers that do not see it; or not active then.
my %streams = (map { my $on_gap = $_; ("cut_$on_gap" => $on_gap, "rewritten_$on_gap" => $on_gap) } qw(earliest latest stop));
$streams{"${_}_away"} = 'earliest' foreach keys %topics;
foreach my $name (sort keys %streams)
{
	create_stream($node, $name, event_columns(), topic => $topics{ $name =~ s/_.*//r }, options => { on_gap => $streams{$name} });
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('${name}_view', \$\$" . sprintf($query, $name) . "\$\$)");
}

sub send_events
{
	my ($log, @ids) = @_;
	produce([ $topics{$log}, $bootstrap ], 0, map { event($_) } @ids);
}

sub are_part
{
	my ($where, $name) = @_;
	foreach my $stream (sort keys %streams)
	{
		wait_latest($node, "${stream}_view");
		is_same($node, "${stream}_view", sprintf($query, '(SELECT e.* FROM ' . events(1000) . " e WHERE $where)"), "$stream: $name");
	}
}

sub wait_replicas
{
	my ($expected) = @_;
	foreach my $topic (values %topics)
	{
		my $found = '';
		foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
		{
			$found = client($bootstrap)->command('replicas', $topic, 0);
			last if $found =~ $expected;
			select undef, undef, undef, 0.1;
		}
		$found =~ $expected or die "leader and replicas in sync of $topic are $found\n";
	}
}

sub gaps
{
	return $node->safe_psql('postgres', q{SELECT stream::text, partition, from_offset, to_offset FROM millrace.gaps ORDER BY 1, 2, 3});
}

wait_replicas(qr/^2 (2:3|3:2)$/);
foreach my $ids ([ 1 .. 20 ], [ 21 .. 40 ])
{
	send_events($_, @$ids) foreach keys %topics;
	are_part("id <= $ids->[-1]", 'as it was');
}

# One in sync takes over.
$brokers{2}->kill;
wait_replicas(qr/^3 3$/);
send_events($_, 41 .. 50) foreach keys %topics;
are_part('id <= 50', 'another leader');
$brokers{2}->start;
wait_replicas(qr/^3 (2:3|3:2)$/);
send_events($_, 51 .. 60) foreach keys %topics;
are_part('id <= 60', 'with both brokers');
is(gaps(), '', 'nothing is lost');

# Messages that 2 does not get, and then it leads.
$brokers{2}->kill;
wait_replicas(qr/^3 3$/);
send_events($_, 61 .. 80) foreach keys %topics;
are_part('id <= 80', 'one broker alone');
wait_joined($node, $_) foreach keys %streams;
$node->safe_psql('postgres', "SELECT millrace.deactivate('${_}_away')") foreach keys %topics;
my @workers = map { worker_pid($node, "rewritten_$_") } qw(earliest latest stop);
kill 'STOP', @workers;
$brokers{3}->kill;
$brokers{2}->start;
wait_replicas(qr/^2 2$/);
send_events('rewritten', 161 .. 200);
kill 'CONT', @workers;
$node->safe_psql('postgres', "SELECT millrace.activate('${_}_away')") foreach keys %topics;

foreach my $stream (sort keys %streams)
{
	my $log = $stream =~ s/_.*//r;
	wait_for($node, "SELECT count(*) > 0 FROM millrace.gaps WHERE stream = '$stream'::regclass");
	my $gap = $node->safe_psql('postgres', "SELECT from_offset, to_offset, reason FROM millrace.gaps WHERE stream = '$stream'::regclass");
	like($gap, $log eq 'cut' ? qr/^80\|60\|.*has lost its last messages \(unclean leader election\)$/
		: qr/^([1-9]|1\d|20)\|80\|.*others were written \(unclean leader election\)$/, "$stream: the gap");
	next if $streams{$stream} ne 'stop';
	wait_state($node, 'stream', $stream, 'stopped');
	is_same($node, "${stream}_view", sprintf($query, events(80)), "$stream: nothing is taken");
	$node->safe_psql('postgres', "SELECT millrace.activate('$stream')");
}
send_events('cut', 181 .. 200);
are_part('id <= 80 OR id BETWEEN 181 AND 200', 'nothing is taken twice, and nothing else is missing');

# The other broker cuts its log, too.
my $gaps = gaps();
$brokers{3}->start;
wait_replicas(qr/^2 (2:3|3:2)$/);
send_events($_, 201 .. 210) foreach keys %topics;
are_part('id <= 80 OR id BETWEEN 181 AND 210', 'with both brokers again');
$brokers{2}->kill;
wait_replicas(qr/^3 3$/);
send_events($_, 211 .. 220) foreach keys %topics;
are_part('id <= 80 OR id BETWEEN 181 AND 220', 'and the one that was cut off leads');
is(gaps(), $gaps, 'no further gap');

done_testing();
