# Without shared_preload_libraries: what needs the workers says so.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', start => 0);
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
create_server($node, 'postgres');
pass('CREATE EXTENSION and CREATE SERVER work');
my $topic = create_stream($node, 'clicks', event_columns());
produce($topic, 0, map { event($_) } 1 .. 10);
is_same($node, 'clicks', "SELECT * FROM @{[events(10)]} e", 'a topic can be read');
$node->safe_psql('postgres', q{INSERT INTO clicks VALUES (11, 4, 2.75, 's11')});
is_same($node, 'clicks', "SELECT * FROM @{[events(11)]} e", 'and written');

my $create = q{SELECT millrace.create_continuous_view('per_k', 'SELECT k, count(*) AS n FROM clicks GROUP BY k')};
sub says_so
{
	my ($call) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $call);
	isnt($rc, 0, "refused: $call");
	like($err, qr/HINT:.*shared_preload_libraries/s, 'with a hint');
}
says_so($create);
is($node->safe_psql('postgres', 'SELECT count(*) FROM millrace.views'), '0', 'nothing was created');

# The monitoring views answer, or say the same, but do not crash.
foreach my $view (qw(streams views partitions workers dead_letters gaps))
{
	my ($rc, $out, $err) = $node->psql('postgres', "SELECT * FROM millrace.$view");
	ok($rc == 0 || $err =~ /shared_preload_libraries/, "millrace.$view");
}

# A server that lost the setting keeps its views; with it they go on.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'millrace'");
$node->restart;
$node->safe_psql('postgres', $create);
wait_latest($node, 'per_k');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is($node->safe_psql('postgres', 'SELECT sum(n) FROM per_k'), '11', 'a view can be read without the workers');
produce($topic, 0, event(12));
says_so($_) foreach
  q{SELECT millrace.wait_for_latest('per_k', timeout => '5s')},
  q{SELECT millrace.wait_for_offset('per_k', 0, 11, timeout => '5s')};
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'millrace'");
$node->restart;
wait_latest($node, 'per_k');
is_same($node, 'per_k', "SELECT k, count(*) AS n FROM @{[events(12)]} e GROUP BY k", 'it goes on');

done_testing();
