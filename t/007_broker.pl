# A broker that is down, away, silent or elsewhere, and a topic that does not
# exist yet.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $broker = own_broker();
my $node = new_node('main', broker => $broker->bootstrap, conf => "millrace.retry_max_interval = 1s\n");
my $topic = create_stream($node, 'clicks', event_columns(), broker => $broker);
my $query = 'SELECT k, count(*) AS n, sum(id) AS ids FROM %s e GROUP BY k';

sub create
{
	my ($view, $stream) = @_;
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('$view', \$\$"
		  . sprintf($query, $stream) . "\$\$)");
}

sub check
{
	my ($view, $n, $when) = @_;
	wait_latest($node, $view);
	is_same($node, $view, sprintf($query, events($n)), $when);
}

# Retrying, and says why
sub is_retrying
{
	my ($view, $stream, $when) = @_;
	wait_for($node, "SELECT state = 'retrying' AND last_error <> '' FROM millrace.views WHERE view = '$view'::regclass");
	wait_for($node, "SELECT state = 'retrying' AND last_error <> '' AND last_error_at IS NOT NULL
		FROM millrace.streams WHERE stream = '$stream'::regclass");
	pass("retrying $when");
}

# nothing listens on port 1; what comes of it is looked at in the end
$node->safe_psql('postgres', qq{
	CREATE SERVER nowhere FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" '127.0.0.1:1');
	CREATE FOREIGN TABLE lost (id bigint) SERVER nowhere OPTIONS (topic '$topic')});
my $lost;

create('per_k', 'clicks');
produce([ $topic, $broker ], 0, map { event($_) } 1 .. 100);
check('per_k', 100, 'while the broker is there');

# gone for a while
$broker->kill;
is_retrying('per_k', 'clicks', 'while the broker is gone');
is_same($node, 'per_k', sprintf($query, events(100)), 'readers do not mind');
is($node->safe_psql('postgres', q{SELECT count(*) FROM millrace.partitions}) >= 0, 1, 'nor does monitoring');
$broker->start;
produce([ $topic, $broker ], 0, map { event($_) } 101 .. 200);
check('per_k', 200, 'after it came back');
wait_state($node, 'view', 'per_k', 'running');
wait_state($node, 'stream', 'clicks', 'running');

# down at start
$node->stop('fast');
$broker->stop;
$node->start;
is_retrying('per_k', 'clicks', 'without a broker at start');
# a view can be created meanwhile, where nothing need be asked
create('created_down', 'clicks');
my ($rc, $out, $err) = $node->psql('postgres', qq{SET statement_timeout = '2s';
	SELECT millrace.create_continuous_view('latest_down', 'SELECT id FROM clicks', start_at => 'latest')});
isnt($rc, 0, 'one that begins at the end cannot');
# what needs no broker works
$node->safe_psql('postgres', q{SELECT millrace.deactivate('per_k'); SELECT millrace.activate('per_k')});
$broker->start;
produce([ $topic, $broker ], 0, map { event($_) } 201 .. 300);
check('per_k', 300, 'heals by itself');
check('created_down', 300, 'the view created meanwhile too');

# silent
$broker->pause;
$rc = $node->safe_psql('postgres', q{SELECT millrace.wait_for_offset('per_k', 0, 1000, timeout => '500ms')});
is($rc, 'f', 'waiting for an offset ends at its timeout');
my $session = background($node, q{SET statement_timeout = '1s'; SELECT count(*) FROM clicks});
(my $ok, $out, $err) = $session->finish;
like($err, qr/statement timeout/, 'a scan can be cancelled');
# no statement_timeout covers a commit
$session = background($node, q{INSERT INTO clicks (id) VALUES (1)});
my $inserting = q{FROM pg_stat_activity WHERE query LIKE 'INSERT INTO clicks%' AND state = 'active'};
wait_for($node, "SELECT count(*) > 0 $inserting");
my $began = time;
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) $inserting");
($ok, $out, $err) = $session->finish;
ok(!$ok && $err =~ /cancel/, 'so can an insert') or diag $err;
cmp_ok(time - $began, '<', patience(10), 'at once');
$began = time;
$node->stop('fast');
cmp_ok(time - $began, '<', patience(15), 'a fast shutdown does not wait for the broker');
$node->start;
$broker->resume;
# The cancelled insert may have reached the broker; its transaction did not commit.
produce([ $topic, $broker ], 0, map { event($_) } 301 .. 400);
check('per_k', 400, 'after a pause');

$lost = background($node, 'INSERT INTO lost VALUES (1)');

# A topic that does not exist yet
my $later = topic_name('later');
create_stream($node, 'later', event_columns(), topic => $later);
create('later_view', 'later');
is_retrying('later_view', 'later', 'without a topic');
check('per_k', 400, 'another stream goes on');
create_topic($later, broker => $broker);
produce([ $later, $broker ], 0, map { event($_) } 1 .. 10);
check('later_view', 10, 'a topic created afterwards');

# Elsewhere
$node->safe_psql('postgres', qq{
	CREATE SERVER elsewhere FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" '127.0.0.1:1');
	CREATE FOREIGN TABLE moved (@{[event_columns()]}) SERVER elsewhere OPTIONS (topic '$topic')});
create('moved_view', 'moved');
is_retrying('moved_view', 'moved', 'at a wrong address');
$node->safe_psql('postgres',
	qq{ALTER SERVER elsewhere OPTIONS (SET "bootstrap.servers" '@{[$broker->bootstrap]}')});
check('moved_view', 400, 'the right address, without a restart');
$node->safe_psql('postgres', q{ALTER SERVER elsewhere OPTIONS (SET "bootstrap.servers" '127.0.0.1:1')});
is_retrying('moved_view', 'moved', 'at a wrong address again');
check('per_k', 400, 'the other server is not concerned');
$node->safe_psql('postgres',
	qq{ALTER SERVER elsewhere OPTIONS (SET "bootstrap.servers" '127.0.0.1:1,@{[$broker->bootstrap]}')});
produce([ $topic, $broker ], 0, event(401));
check('moved_view', 401, 'one of two addresses');
check('per_k', 401, 'both views');

($ok, $out, $err) = $lost->finish;
ok(!$ok && $err =~ /127\.0\.0\.1:1/, 'a transaction that cannot be acknowledged fails') or diag $err;

# A fast shutdown while sessions are in the middle of something with a broker that is silent
my $noise = create_stream($node, 'noise', 'id bigint, s text', broker => $broker);
$node->safe_psql('postgres', qq{CREATE SERVER sipping FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" '@{[$broker->bootstrap]}',
		"queued.max.messages.kbytes" '16', "queued.min.messages" '1', "fetch.message.max.bytes" '16000');
	CREATE FOREIGN TABLE sipped (id bigint, s text) SERVER sipping OPTIONS (topic '$noise')});
my $filler = 'x' x 1000;
produce([ $noise, $broker ], 0, qq({"id": 0, "s": "$filler"})) foreach 1 .. 500;
my $held = open_transaction($node, 'SELECT pg_advisory_xact_lock(1)');
my $then = 'SELECT pg_advisory_lock_shared(1); -- silence';
my %sessions = (
	'the first INSERT' => 'INSERT INTO noise (id) VALUES (1) -- silence',
	'another INSERT' => "INSERT INTO noise (id) VALUES (2); $then\nINSERT INTO noise (id) VALUES (3) -- silence",
	'a scan' => 'SELECT count(*) FROM noise -- silence',
	'a scan that has begun' => "BEGIN; DECLARE c CURSOR FOR SELECT id FROM sipped; FETCH 1 FROM c; $then\nMOVE ALL IN c -- silence",
	'wait_for_latest' => q{SELECT millrace.wait_for_latest('per_k', timeout => '10min') -- silence},
	create_topic => "SELECT millrace.create_topic('kafka', '" . topic_name('silenced') . "') -- silence");
my $silent = q{FROM pg_stat_activity WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()
	AND query LIKE '%-- silence'};
my %running = map { $_ => background($node, $sessions{$_}) } grep { /another|begun/ } keys %sessions;
wait_for($node, "SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event = 'advisory'");
$broker->pause;
$held->end;
$running{$_} = background($node, $sessions{$_}) foreach grep { !/another|begun/ } keys %sessions;
wait_for($node, "SELECT count(*) = @{[scalar keys %sessions]} $silent AND query_start < clock_timestamp() - interval '1 s'");
$began = time;
$node->stop('fast');
my $took = time - $began;
note("stopped in $took s");
cmp_ok($took, '<', patience(15), 'a fast shutdown waits for the broker in no session');
foreach my $what (sort keys %running)
{
	($ok, $out, $err) = $running{$what}->finish;
	ok(!$ok && $err =~ /terminating connection due to administrator command/, "it ends $what") or diag($err);
}
$node->start;
$broker->resume;
produce([ $topic, $broker ], 0, event(402));
check('per_k', 402, 'and ingest goes on');

done_testing();
