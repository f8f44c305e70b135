# Fewer processes and connections than there should be: whoever goes without says
# why, the others go on, and it heals by itself.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

# One slot is the server's own (logical replication), one the launcher's, one the
# supervisor's: there are two for workers.
my $node = new_node('main', conf => "max_worker_processes = 5\nmax_connections = 10\n");
my $query = 'SELECT count(*) AS n, sum(id) AS ids FROM %s e';
my @streams = map { "stream_$_" } 1 .. 12;
my %topic = map { $_ => create_stream($node, $_, event_columns()) } @streams;
my $shortage = "last_error LIKE 'no background worker slot is free%max_worker_processes%'";

sub view { return $_[0] =~ s/stream/view/r }
sub create
{
	$node->safe_psql('postgres', sprintf q{SELECT millrace.create_continuous_view('%s', $$%s$$)}, view($_), sprintf $query, $_)
	  foreach @_;
}

create(@streams[ 0, 1 ]);
wait_state($node, 'view', view($_), 'running') foreach @streams[ 0, 1 ];
create(@streams[ 2 .. 11 ]);
produce($topic{$_}, 0, map { event($_) } 1 .. 100) foreach @streams;

# More streams than there are slots, of the server's and of ours
foreach my $what ('view', 'stream')
{
	wait_for($node, qq{SELECT count(*) = 10 AND bool_and($shortage) FROM millrace.${what}s WHERE state = 'retrying'});
	is($node->safe_psql('postgres', qq{SELECT count(*) FROM millrace.${what}s WHERE state = 'running' AND last_error IS NULL}),
		2, "$what: those that have a process run");
}
pass('those that have none say why');
my $warnings = () = slurp_file($node->logfile) =~ /WARNING:  no background worker slot is free/g;
is($warnings, 1, 'the log is not filled with it');
foreach my $left (reverse 1 .. 12)
{
	my $running = q{SELECT min(view::text) FROM millrace.views WHERE state = 'running' AND last_error IS NULL};
	wait_for($node, "SELECT ($running) IS NOT NULL");
	my $view = $node->safe_psql('postgres', $running);
	wait_latest($node, $view);
	is_same($node, $view, sprintf $query, events(100));
	$node->safe_psql('postgres', "DROP VIEW $view");
}
pass('each has its turn when others leave');

# No connection is free, or may be made
create('stream_12');
my $load = start_traffic($topic{stream_12}, from => 101);
my @sessions = map { open_transaction($node, 'SELECT 1') } 1 .. 7;
$node->safe_psql('postgres', q{CREATE ROLE nobody LOGIN; ALTER DATABASE postgres CONNECTION LIMIT 0});
my ($rc, $out, $err) = $node->psql('postgres', 'SELECT 1', extra_params => [ '-U', 'nobody' ]);
like($err, qr/too many connections|remaining connection slots/, 'ordinary users find no connection');
foreach my $type ('worker', 'supervisor', 'launcher')
{
	$node->safe_psql('postgres',
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'millrace $type'");
	$load->wait_more(100);
	wait_latest($node, 'view_12');
	pass("the $type does, when it starts anew");
}
$node->safe_psql('postgres', 'ALTER DATABASE postgres CONNECTION LIMIT -1');
$_->end foreach @sessions;
my $n = $load->stop;
wait_latest($node, 'view_12');
is_same($node, 'view_12', sprintf($query, events($n)));

# Not even a supervisor
$node->safe_psql('postgres', 'ALTER SYSTEM SET max_worker_processes = 2');
$node->restart;
wait_for($node, "SELECT state = 'retrying' AND $shortage FROM millrace.views WHERE view = 'view_12'::regclass");
wait_for($node, "SELECT state = 'retrying' AND $shortage FROM millrace.streams WHERE stream = 'stream_12'::regclass");
pass('without a supervisor the views say why');
produce($topic{stream_12}, 0, map { event($n + $_) } 1 .. 10);
$node->safe_psql('postgres', 'ALTER SYSTEM RESET max_worker_processes');
$node->restart;
wait_latest($node, 'view_12');
is_same($node, 'view_12', sprintf($query, events($n + 10)));

done_testing();
