# Everything is killed at random moments under load; nothing is lost or twice.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use List::Util 'shuffle';
use Test::More;

my $seed = $ENV{MILLRACE_SEED} // time;
srand $seed;
note "MILLRACE_SEED=$seed";

my $broker = own_broker();
my $node = new_node('main', broker => $broker->bootstrap);
# A transaction of a backend that died is ended by the broker.
$node->safe_psql('postgres', q{ALTER SERVER kafka OPTIONS ("transaction.timeout.ms" '3000')});
my $topic = create_stream($node, 'clicks', event_columns(), broker => $broker, partitions => 2);
my $inserted = create_stream($node, 'inserted', 'batch bigint, id bigint', broker => $broker);

my $query = 'SELECT k, s, count(*) AS n, sum(v) AS total, max(id) AS last FROM %s e GROUP BY k, s';
my $all = 'SELECT count(*) AS n, sum(id) AS ids FROM %s e';
$node->safe_psql('postgres', qq{
	SELECT millrace.create_continuous_view('per_group', \$\$@{[sprintf $query, 'clicks']}\$\$);
	SELECT millrace.create_continuous_view('in_all', \$\$@{[sprintf $all, 'clicks']}\$\$);
	SELECT millrace.create_continuous_view('per_batch',
		'SELECT batch, count(*) AS n, sum(id) AS ids FROM inserted GROUP BY batch')});
wait_latest($node, 'per_group');

my $from = 1;
my $batch = 0;
my %acknowledged;

sub moment
{
	select undef, undef, undef, rand 0.3;
}

my %kill = (
	worker => sub {
		my $old = worker_pid($node, 'clicks');
		kill_process($old);
		wait_new_worker($node, 'clicks', $old);
	},
	backend => sub {
		my $old = worker_pid($node, 'clicks');
		my @batches = map { $batch + $_ } 1 .. 400;
		$batch += 400;
		my $session = background($node, join '', map {
			"INSERT INTO inserted SELECT $_, i FROM generate_series(1, 300) i;\n\\echo $_\n" } @batches);
		wait_for($node, "SELECT count(*) > 1 FROM per_batch WHERE batch >= $batches[0]");
		moment();
		my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE query LIKE 'INSERT INTO inserted%'
			AND backend_type = 'client backend'");
		kill_process($pid);
		my ($ok, $out) = $session->finish;
		ok(!$ok, 'the inserting session was killed in the middle');
		$acknowledged{$_} = 1 foreach split /\n/, $out;
		wait_new_worker($node, 'clicks', $old);
	},
	postmaster => sub {
		kill_server($node);
		moment();
		restart_server($node);
	},
	broker => sub {
		$broker->kill;
		moment();
		$broker->start;
	});

foreach my $victim (shuffle(keys %kill), 'worker')
{
	my $load = start_traffic($topic, broker => $broker, partitions => 2, from => $from);
	$load->wait_more(200);
	moment();
	$kill{$victim}->();
	note "killed the $victim";
	$load->wait_more(200);
	my $n = $load->stop;
	note "sent $n";
	$from = $n + 1;
	wait_latest($node, 'per_group');
	wait_latest($node, 'in_all');
	is_same($node, 'per_group', sprintf($query, events($n)), "groups are exact after a kill of the $victim");
	is_same($node, 'in_all', sprintf($all, events($n)), "so is the total");
}

# What was inserted: each transaction as a whole or not at all, and all of
# those that were acknowledged.
wait_latest($node, 'per_batch');
is($node->safe_psql('postgres', 'SELECT count(*) FROM per_batch WHERE n <> 300 OR ids <> 45150'), '0',
	'no part of a transaction');
my %seen = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', 'SELECT batch FROM per_batch');
is(join(' ', grep { !$seen{$_} } sort keys %acknowledged), '', 'no acknowledged transaction is missing');
cmp_ok(scalar(keys %acknowledged), '>', 0, 'some were acknowledged');
is_same($node, 'per_batch', 'SELECT batch, count(*) AS n, sum(id) AS ids FROM inserted GROUP BY batch',
	'the view shows what the topic holds');

done_testing();
