# A standby shows the views and has no workers; promoted, it goes on where it
# stands.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', init => [ allows_streaming => 1 ]);
my $topic = create_stream($node, 'clicks', event_columns(), partitions => 2);
my $query = 'SELECT k, count(*) AS n, sum(id) AS ids FROM %s e GROUP BY k';
$node->safe_psql('postgres', qq{
	SELECT millrace.create_continuous_view('per_k', \$\$@{[sprintf $query, 'clicks']}\$\$)});
my $load = start_traffic($topic, partitions => 2);
$load->wait_more(500);
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;

my $sent = $load->sent;
wait_for($standby, "SELECT sum(n) > $sent FROM per_k");
pass('a standby shows what comes in');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^millrace .*worker'}), '0',
	'it has no worker');
foreach my $view (qw(streams views partitions workers dead_letters gaps))
{
	my ($rc, $out, $err) = $standby->psql('postgres', "SELECT * FROM millrace.$view");
	is($rc, 0, "millrace.$view can be read") or diag $err;
}
my ($rc, $out, $err) = $standby->psql('postgres', q{SELECT millrace.deactivate('per_k')});
ok($rc != 0 && $err =~ /read-only|recovery/, 'nothing can be changed');

$node->stop('immediate');
$standby->promote;
$load->wait_more(500);
my $n = $load->stop;
wait_latest($standby, 'per_k');
is_same($standby, 'per_k', sprintf($query, events($n)), 'promoted, it has lost nothing and takes nothing twice');

done_testing();
