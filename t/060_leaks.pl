# Nothing piles up: threads, descriptors and memory of a session after a thousand
# statements that failed, and of a worker after ten thousand batches.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# A chunk of statements warms up, and another one memory; the rest of them must cost nothing.
my $CHUNK = 100;
my $CHUNKS = 10;
# kB that may go to malloc's own ways; more of them where statements are canceled, whose clients'
# threads end later, and many at once on a busy machine
my $SLACK = 1536;
my $SLACK_CANCELED = 6144;
my $FILES = 30;
# A worker has a second client from the first time on that messages come after a pause: threads, and kB.
my $CLIENT = 8;
my $CLIENT_MEMORY = 2048;

my $node = new_node('main', conf => "millrace.batch_messages = 1\n");
$node->safe_psql('postgres', q{CREATE SERVER nowhere FOREIGN DATA WRAPPER millrace
	OPTIONS ("bootstrap.servers" '127.0.0.1:1', "socket.timeout.ms" '100', "transaction.timeout.ms" '1000',
		"message.timeout.ms" '1000');
	CREATE FOREIGN TABLE unreachable (id bigint) SERVER nowhere OPTIONS (topic 'unreachable');
	CREATE FOREIGN TABLE missing (id bigint) SERVER kafka OPTIONS (topic 'no_such_topic');
	CREATE TABLE plain (id bigint)});
my $topic = create_stream($node, 'events', 'id bigint, v integer', partitions => 2,
	options => { on_error => 'dead_letter' });
client()->send($topic, $_ % 2, qq({"id": $_, "v": 1})) foreach 1 .. 100;
client()->flush;

# A client that was thrown away ends its threads by itself: they are waited for.
my $usage = q{
	DO $$ BEGIN
		FOR i IN 1 .. 600 LOOP
			EXIT WHEN (SELECT count(*) FROM pg_ls_dir('/proc/self/task')) = 1;
			PERFORM pg_sleep(0.05);
		END LOOP;
	END $$;
	SELECT 'usage', (SELECT count(*) FROM pg_ls_dir('/proc/self/task')),
		(SELECT count(*) FROM pg_ls_dir('/proc/self/fd')),
		substring(pg_read_file('/proc/self/status') FROM 'RssAnon:\s+(\d+)');};

# At the end as after the first chunk, which warmed up?  The server keeps some files open
# that it has met, some more or less from one moment to the next; what leaks comes in hundreds.
sub is_flat
{
	my ($what, $slack, @usage) = @_;
	my ($first, $last) = @usage[ 1, -1 ];
	note(join '; ', map { "threads $_->[0] descriptors $_->[1] RssAnon $_->[2] kB" } @usage);
	cmp_ok($last->[0] - $first->[0], '<=', $what =~ /^a worker/ ? $CLIENT : 0, "$what: no more threads");
	cmp_ok($last->[1] - $first->[1], '<', $FILES, "$what: no more descriptors");
	$slack += $CLIENT_MEMORY if $last->[0] > $usage[2][0];
	# a sanitizer keeps what was freed for a while; malloc's arenas fill up more slowly than the rest, and not evenly
	my $warm = (sort { $b <=> $a } map { $_->[2] } @usage[ 1, 2 ])[0];
	cmp_ok($last->[2] - $warm, '<', $slack, "$what: no more memory") unless $ENV{MILLRACE_UNDER};
}

# Runs a statement, which must fail with such an error each time, in one session.
sub fails_without_a_trace
{
	my ($what, $statement, $error, $prepare) = @_;
	my $script = join "\n", '\set VERBOSITY sqlstate', $usage,
	  map { $prepare // '', (map { $statement } 1 .. $CHUNK), 'RESET statement_timeout;', $usage } 1 .. $CHUNKS;
	my ($rc, $out, $err) = $node->psql('postgres', $script, on_error_stop => 0, timeout => patience(600));
	my $errors = () = $err =~ /ERROR:  $error$/mg;
	is($errors, $CHUNK * $CHUNKS, "$what: fails each time") or diag(substr $err, 0, 2000);
	is_flat($what, defined $prepare ? $SLACK_CANCELED : $SLACK, map { [ (split /\|/)[ 1 .. 3 ] ] } grep { /^usage/ } split /\n/, $out);
}

fails_without_a_trace('SELECT from a topic that does not exist', 'SELECT * FROM missing;', 'HV00.');
fails_without_a_trace('SELECT that fails half-way', 'SELECT 1 / (id - 50) FROM events;', '22012');
# on a busy machine they may be found to refuse just before that
fails_without_a_trace('SELECT that is canceled while it waits for brokers', 'SELECT * FROM unreachable;', '(?:57014|HV00N)',
	q{SET statement_timeout = '10ms';});
fails_without_a_trace('INSERT that fails', 'INSERT INTO events SELECT i, 1 / (i - 50) FROM generate_series(1, 100) i;', '22012');
fails_without_a_trace('INSERT that fails at the commit', 'INSERT INTO missing VALUES (1);', 'HV00.');
fails_without_a_trace('a view that is refused',
	q{SELECT millrace.create_continuous_view('w', 'SELECT v FROM events FOR UPDATE');}, '0A000');
fails_without_a_trace('a view whose start cannot be found',
	q{SELECT millrace.create_continuous_view('w', 'SELECT count(*) FROM unreachable', start_at => 'latest');}, '(?:57014|HV00N)',
	q{SET statement_timeout = '10ms';});

# A worker; threads of a client that it has just thrown away are waited for.
sub worker_usage
{
	my ($pid, $threads) = @_;
	foreach (1 .. 600)
	{
		last if !defined $threads || @{ [ glob "/proc/$pid/task/*" ] } <= $threads + $CLIENT;
		select undef, undef, undef, 0.05;
	}
	my ($memory) = slurp_file("/proc/$pid/status") =~ /RssAnon:\s+(\d+)/;
	return [ scalar(@{ [ glob "/proc/$pid/task/*" ] }), scalar(@{ [ glob "/proc/$pid/fd/*" ] }), $memory ];
}

my $query = 'SELECT id %% 10 AS k, count(*), sum(v), max(id) FROM %s e GROUP BY 1';
$node->safe_psql('postgres', q{SELECT millrace.create_continuous_view('v', '} . sprintf($query, 'events') . q{')});
wait_latest($node, 'v');
my $pid = worker_pid($node, 'events');
my $sent = 100;
my @usage = worker_usage($pid);
foreach my $chunk (1 .. 5)
{
	# every tenth is one that cannot be decoded
	client()->send($topic, $_ % 2, $_ % 10 ? qq({"id": $_, "v": 1}) : '{"id": "x"}') foreach $sent + 1 .. $sent + 2000;
	client()->flush;
	$sent += 2000;
	wait_latest($node, 'v', 300);
	push @usage, worker_usage($pid, $usage[0][0]);
}
my $batches = $node->safe_psql('postgres', q{SELECT batches FROM millrace.workers WHERE stream = 'events'::regclass});
cmp_ok($batches, '>=', 10_000, 'a worker has taken ten thousand batches');
is(worker_pid($node, 'events'), $pid, 'it is still the same');
is_flat('a worker', $SLACK, @usage);
is($node->safe_psql('postgres', 'SELECT count(*) FROM millrace.dead_letters'), 1000, 'all dead letters are there');
my $events = "(SELECT i AS id, 1 AS v FROM generate_series(1, $sent) i WHERE i <= 100 OR i % 10 > 0)";
is_same($node, 'v', sprintf($query, $events));

# definitions that change: the worker opens everything anew each time
@usage = worker_usage($pid);
foreach my $chunk (1 .. 5)
{
	foreach my $on_error (('skip', 'dead_letter') x 10)
	{
		$node->safe_psql('postgres', "ALTER FOREIGN TABLE events OPTIONS (SET on_error '$on_error')");
		produce($topic, 0, sprintf '{"id": %d, "v": 1}', ++$sent);
		wait_latest($node, 'v');
	}
	push @usage, worker_usage($pid, $usage[0][0]);
}
is_flat('a worker whose stream was altered a hundred times', $SLACK, @usage);
$events = "(SELECT i AS id, 1 AS v FROM generate_series(1, $sent) i WHERE i <= 100 OR i % 10 > 0 OR i > 10100)";
is_same($node, 'v', sprintf($query, $events));

done_testing();
