# Several workers on a stream, and partitions that come while it runs.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $topic = create_stream($node, 'clicks', event_columns() . q{, part integer OPTIONS (metadata 'partition')},
	partitions => 4, options => { workers => 2 });
my %queries = (
	per_k => 'SELECT k, s, count(*) AS n, sum(v) AS total, min(id) AS first FROM %s e GROUP BY k, s',
	in_all => 'SELECT count(*) AS n, sum(id) AS ids FROM %s e',
	copied => 'SELECT id, v FROM %s e WHERE k = 3');

sub running
{
	my ($workers) = @_;
	wait_for($node, "SELECT count(DISTINCT pid) FROM millrace.workers
		WHERE stream = 'clicks'::regclass AND pid IS NOT NULL", $workers);
}

sub all_same
{
	my ($n, $when) = @_;
	foreach my $view (sort keys %queries)
	{
		wait_latest($node, $view);
		is_same($node, $view, sprintf($queries{$view}, events($n)), "$view $when");
	}
}

foreach my $view (sort keys %queries)
{
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('$view', \$\$"
		  . sprintf($queries{$view}, 'clicks') . "\$\$)");
}
wait_joined($node, 'clicks');
running(2);
my $load = start_traffic($topic, partitions => 4);
$load->wait_more(2000);
my @pids = worker_pid($node, 'clicks');
kill_process($pids[1]);
wait_new_worker($node, 'clicks', @pids);
$load->wait_more(500);
running(2);
all_same($load->stop, 'with two workers, one of them killed');

$load = start_traffic($topic, partitions => 4, from => $load->stop + 1);
foreach my $change ([ "SET workers '4'", 4 ], [ "SET workers '1'", 1 ], [ 'DROP workers', 1 ], [ "ADD workers '3'", 3 ])
{
	my ($options, $workers) = @$change;
	$load->wait_more(300);
	$node->safe_psql('postgres', "ALTER FOREIGN TABLE clicks OPTIONS ($options)");
	running($workers);
}
$load->wait_more(300);
all_same($load->stop, 'through changes of the number of workers');

foreach my $bad ('0', '-1', 'two', '')
{
	my ($rc, $out, $err) = $node->psql('postgres', "ALTER FOREIGN TABLE clicks OPTIONS (SET workers '$bad')");
	ok($rc != 0 && $err =~ /workers/, "workers '$bad' is refused");
}

# Partitions 4 and 5 come while messages flow into the others.
my $n = $load->stop;
$load = start_traffic($topic, partitions => 4, from => $n + 1);
$load->wait_more(200);
client()->command('partitions', $topic, 6);
$load->wait_more(200);
$n = $load->stop;
my $last = $n + 400;
produce($topic, 4 + $_ % 2, event($_)) foreach $n + 1 .. $last;
all_same($last, 'with new partitions');
is($node->safe_psql('postgres', q{SELECT count(*) FROM millrace.partitions
		WHERE view = 'per_k'::regclass AND lag = 0}), '6', 'all partitions are monitored');

# They are found without anybody waiting for them.
client()->command('partitions', $topic, 7);
produce($topic, 6, event($last + 1));
wait_for($node, "SELECT n = $last + 1 FROM in_all");
all_same($last + 1, 'with a partition that nobody asked for');

# more workers than partitions
$node->safe_psql('postgres', q{ALTER FOREIGN TABLE clicks OPTIONS (SET workers '9')});
produce($topic, $_ % 7, event($_)) foreach $last + 2 .. $last + 20;
all_same($last + 20, 'with more workers than partitions');

done_testing();
