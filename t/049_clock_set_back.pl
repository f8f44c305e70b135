# The system's clock is set back by hours while the server runs.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'its runtime wants to be preloaded alone' if ($ENV{MILLRACE_UNDER} // '') eq 'asan';

my $node = new_node('main', start => 0, conf => "millrace.catchup_workers = 1\n");
my ($clock, $library) = map { "$PostgreSQL::Test::Utils::tmp_check/$_" } 'clock', 'clock.so';
system('cc', '-std=gnu99', '-O1', '-shared', '-fPIC', '-o', $library, 't/lib/clock.c') == 0 or die "could not build clock.so\n";

# by so many seconds
sub put_clock
{
	append_to_file("$clock.new", "$_[0]\n");
	rename "$clock.new", $clock or die "$clock: $!\n";
}

sub send_ids
{
	my ($topic, $partition, @ids) = @_;
	produce($topic, $partition, map { qq({"id": $_}) } @ids);
}

sub is_count
{
	my ($view, $where, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for($node, "SELECT n = (SELECT count(*) FROM generate_series(1, 1000) id WHERE $where) FROM $view");
	is_same($node, $view, "SELECT count(*), sum(id) FROM generate_series(1, 1000) id WHERE $where", $name);
}

{
	local @ENV{qw(LD_PRELOAD CLOCK_OFFSET)} = ($library, $clock);
	$node->start;
}
create_server($node, 'postgres');
my $topic = create_stream($node, 'events', 'id bigint');
$node->safe_psql('postgres', q{SELECT millrace.create_continuous_view('first', 'SELECT count(*) AS n, sum(id) AS s FROM events')});
send_ids($topic, 0, 1 .. 10);
is_count('first', 'id <= 10', 'before');

put_clock(-2 * 3600);
is($node->safe_psql('postgres', q{SELECT pg_postmaster_start_time() > now() + interval '1 hour'}), 't', 'the clock is set back');
send_ids($topic, 0, 11 .. 20);
is_count('first', 'id <= 20', 'messages are taken as ever');
wait_latest($node, 'first');
$node->safe_psql('postgres', q{SELECT millrace.create_continuous_view('second', 'SELECT count(*) AS n, sum(id) AS s FROM events')});
is_count('second', 'id <= 20', 'a view catches up');
wait_joined($node, 'events');
client()->command('partitions', $topic, 2);
send_ids($topic, 1, 21 .. 30);
is_count('first', 'id <= 30', 'new partitions are found');
my ($worker) = worker_pid($node, 'events');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
put_clock(-4 * 3600);
send_ids($topic, 1, 31 .. 40);
is_count('first', 'id <= 40', 'a worker is started again');
is_count('second', 'id <= 40', 'for all views');

done_testing();
