# A full disk: ingest waits, says so, makes no dead letters, and goes on when there
# is room again.  Where the write-ahead log is on it the server itself ends.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $disk = $ENV{MILLRACE_SMALL_DISK};
plan skip_all => 'needs a small disk to fill: check.sh mounts one as root' unless $disk;

# Takes up room, all but so many MB.
sub fill_disk
{
	my ($left) = @_;
	my ($free) = `df -Pk $disk` =~ /\n\S+\s+\d+\s+\d+\s+(\d+)/;
	open my $file, '>', "$disk/ballast" or die "could not create ballast: $!\n";
	syswrite $file, 'x' x 1024 foreach 1 .. $free - 1024 * $left;
	close $file;
}

sub free_disk { unlink "$disk/ballast" or die "could not remove ballast: $!\n" }

# a tablespace
mkdir "$disk/$_" or die "could not create $disk/$_: $!\n" foreach 'tablespace', 'wal';
my $node = new_node('main', conf => "millrace.retry_max_interval = 500ms\nautovacuum = off\n");
$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$disk/tablespace'");
my $topic = create_stream($node, 'clicks', 'id bigint, pad text');
my %query = (
	wide => 'SELECT id, pad, count(*) AS n FROM %s e GROUP BY id, pad',
	listed => 'SELECT id, pad FROM %s e',
	total => 'SELECT count(*) AS n, sum(id) AS ids FROM %s e');
foreach my $view (sort keys %query)
{
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('$view', \$\$" . sprintf($query{$view}, 'clicks') . '$$)');
	wait_latest($node, $view);
}
$node->safe_psql('postgres', "ALTER TABLE ${_}_mrel SET TABLESPACE small") foreach 'wide', 'listed';
my $n = 10_000;
sub messages
{
	my ($to) = @_;
	return "(SELECT i AS id, repeat(md5(i::text), 16) AS pad FROM generate_series(1::bigint, $to) i)";
}
sub send_messages
{
	my ($node, $from, $to) = @_;
	$node->safe_psql('postgres', "INSERT INTO clicks SELECT * FROM " . messages($to) . " m WHERE id >= $from");
}

fill_disk(4);
send_messages($node, 1, $n);
foreach my $view ('wide', 'listed')
{
	wait_for($node, qq{SELECT state = 'retrying' AND last_error ~ 'No space left on device' FROM millrace.views
		WHERE view = '$view'::regclass});
	pass("$view waits, and says why");
}
wait_latest($node, 'total');
is_same($node, 'total', sprintf($query{total}, messages($n)), 'a view that lies elsewhere goes on');
free_disk();
foreach my $view (sort keys %query)
{
	wait_latest($node, $view);
	is_same($node, $view, sprintf($query{$view}, messages($n)));
	wait_state($node, 'view', $view, 'running');
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM millrace.dead_letters'), 0, 'no dead letters');
$node->safe_psql('postgres', 'DROP VIEW wide, listed');
$node->stop;

# the write-ahead log, of which no checkpoint may remove anything
my $other = new_node('wal', init => [ extra => [ '--waldir', "$disk/wal", '--wal-segsize', '1' ] ],
	conf => "checkpoint_timeout = 1d\nmin_wal_size = 2MB\nwal_init_zero = on\nautovacuum = off\n");
create_stream($other, 'clicks', 'id bigint, pad text', topic => $topic);
$other->safe_psql('postgres', "SELECT millrace.create_continuous_view('listed', \$\$" . sprintf($query{listed}, 'clicks') . '$$)');
wait_latest($other, 'listed');
fill_disk(0);
my $from = -s $other->logfile;
client()->send($topic, 0, sprintf '{"id": %d, "pad": "%s"}', $_, 'x' x 512) foreach $n + 1 .. 2 * $n;
client()->flush;
foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if slurp_file($other->logfile, $from) =~ /PANIC: .*No space left on device/;
	select undef, undef, undef, 0.1;
}
like(slurp_file($other->logfile, $from), qr/PANIC: .*No space left on device/, 'the server has ended');
free_disk();
$other->stop('immediate', fail_ok => 1);
restart_server($other);
wait_latest($other, 'listed');
is_same($other, 'listed', 'SELECT * FROM ' . messages($n) . " m UNION ALL SELECT i, repeat('x', 512)
	FROM generate_series($n + 1::bigint, 2 * $n) i", 'nothing was lost or doubled');
$other->stop;
remove_tree("$disk/tablespace", "$disk/wal");

sub remove_tree { system('rm', '-rf', @_) }

done_testing();
