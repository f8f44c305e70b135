# Ingest does not depend on its surroundings: settings of the database, locks,
# terminated processes, large messages, worker slots.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "max_worker_processes = 8\nmillrace.batch_memory = 1MB\n");
my $topic = create_stream($node, 'clicks', event_columns(), partitions => 2);
my $query = 'SELECT k, count(*) AS n, sum(id) AS ids FROM %s e GROUP BY k';

sub create
{
	my ($view, $sql) = @_;
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('$view', \$\$$sql\$\$)");
}

create('per_k', sprintf $query, 'clicks');
create('in_all', 'SELECT count(*) AS n FROM clicks');
my $load = start_traffic($topic, partitions => 2);
$load->wait_more(200);

# One snapshot shows all views of a stream at one position, once they have joined.
wait_state($node, 'view', $_, 'running') foreach 'per_k', 'in_all';
foreach my $workers (1, 2)
{
	$node->safe_psql('postgres', "ALTER FOREIGN TABLE clicks OPTIONS (ADD workers '2')") if $workers == 2;
	my $apart = 0;
	foreach (1 .. 20)
	{
		$apart++ if $node->safe_psql('postgres',
			'SELECT (SELECT coalesce(sum(n), 0) FROM per_k) = (SELECT n FROM in_all)') ne 't';
	}
	is($apart, 0, "all views are at one position, workers '$workers'");
}

# What was acknowledged before the call is there after it.
my $early = 0;
foreach (1 .. 10)
{
	my $sent = $load->sent;
	wait_latest($node, 'in_all');
	$early++ if $node->safe_psql('postgres', 'SELECT n FROM in_all') < $sent;
}
is($early, 0, 'wait_for_latest does not return early');

# Settings for sessions are not for workers.  Ours get them out of the way.
{
	my @hostile = ("statement_timeout = '1ms'", "lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'",
		'default_transaction_read_only = on', 'default_transaction_isolation = serializable', 'row_security = off',
		'session_replication_role = replica', "search_path = ''", 'quote_all_identifiers = on',
		'extra_float_digits = -5', 'enable_hashagg = off', "client_encoding = 'LATIN1'", 'array_nulls = off',
		'transform_null_equals = on', 'role = nobody');
	$node->safe_psql('postgres', 'CREATE ROLE nobody');
	$node->safe_psql('template1', "ALTER DATABASE postgres SET $_") foreach @hostile;
	$node->safe_psql('template1',
		q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type ~ 'millrace (worker|supervisor)'});
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_" } 'statement_timeout=0', 'lock_timeout=0',
	  'default_transaction_read_only=off', 'search_path=public', 'role=postgres', 'client_encoding=UTF8';
	my $n = $load->sent;
	wait_for($node, "SELECT n > $n FROM in_all");
	create('under_settings', sprintf $query, 'clicks');
	wait_latest($node, 'under_settings');
	pass('settings of the database are not in the way');
	$node->safe_psql('template1', 'ALTER DATABASE postgres RESET ALL');
}

# Whatever is terminated comes back.
foreach my $type ('worker', 'supervisor', 'launcher', 'worker')
{
	$node->safe_psql('postgres',
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'millrace $type'");
	my $n = $load->sent;
	wait_for($node, "SELECT n > $n FROM in_all");
	pass("after termination of the $type");
}

# A lock holds up ingest, and nothing else.
$node->safe_psql('postgres', 'CREATE TABLE release ()');
my $locking = background($node, q{
	DO $$ BEGIN
		LOCK TABLE per_k_mrel IN ACCESS EXCLUSIVE MODE;
		WHILE NOT EXISTS (SELECT FROM release) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END $$});
wait_for($node, q{SELECT count(*) > 0 FROM pg_locks
	WHERE relation = 'per_k_mrel'::regclass AND mode = 'AccessExclusiveLock' AND granted});
$load->wait_more(500);
$node->safe_psql('postgres', 'INSERT INTO release DEFAULT VALUES');
ok(scalar $locking->finish, 'a lock');

my $n = $load->stop;
wait_latest($node, $_) foreach qw(per_k in_all under_settings);
is_same($node, 'per_k', sprintf($query, events($n)), 'nothing was lost through all this');
is_same($node, 'under_settings', sprintf($query, events($n)), 'nor in the other view');
is($node->safe_psql('postgres', 'SELECT n FROM in_all'), $n, 'nor in the third');

# Messages larger than batch_memory
my $large = create_stream($node, 'large', 'id bigint, pad text', config => { 'max.message.bytes' => 10_000_000 });
create('large_view', 'SELECT id, length(pad) AS length FROM large');
my $client = producer(undef, 'message.max.bytes' => 9_000_000);
$client->send($large, 0, qq({"id": $_, "pad": "@{['x' x 4_000_000]}"})) foreach 1 .. 3;
$client->flush;
wait_latest($node, 'large_view');
is_same($node, 'large_view', 'SELECT i::bigint, 4000000 FROM generate_series(1, 3) i', 'large messages');

# More streams than worker slots: those that wait say so, and go on when there is room.
foreach my $i (1 .. 7)
{
	produce(create_stream($node, "stream_$i", event_columns()), 0, event(1));
	create("view_$i", "SELECT count(*) AS n FROM stream_$i");
}
wait_for($node, q{SELECT count(*) > 0 FROM millrace.views WHERE state = 'retrying' AND last_error ~ 'max_worker_processes'});
pass('a stream without a worker says why');
$node->safe_psql('postgres', 'DROP VIEW per_k, in_all, under_settings, large_view, view_1, view_2');
foreach my $i (3 .. 7)
{
	wait_for($node, "SELECT n = 1 FROM view_$i");
	$node->safe_psql('postgres', "DROP VIEW view_$i");
}
pass('each has its turn');

done_testing();
