# What the monitoring views show is there and true.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $topic = create_stream($node, 'clicks', event_columns(), partitions => 3);

my %columns = (
	streams => [ qw(stream topic format state last_error last_error_at messages bytes dead_letters) ],
	views => [ qw(view stream kind state query groups_estimate rows_in rows_out last_error) ],
	partitions => [ qw(view stream partition next_offset low_watermark high_watermark lag lag_seconds) ],
	workers => [ qw(pid stream state batches messages batch_messages_avg decode_ms aggregate_ms merge_ms commit_ms) ],
	dead_letters => [ qw(id stream view partition message_offset message_timestamp key value headers
		  sqlstate error failed_at) ],
	gaps => [ qw(stream partition from_offset to_offset reason detected_at) ]);
foreach my $view (sort keys %columns)
{
	my %has = map { $_ => 1 } split /\n/, $node->safe_psql('postgres',
		"SELECT attname FROM pg_attribute WHERE attrelid = 'millrace.$view'::regclass AND attnum > 0");
	is(join(' ', grep { !$has{$_} } @{ $columns{$view} }), '', "millrace.$view has its columns");
}
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT atttypid::regtype::text, ',') FROM pg_attribute
	WHERE attname IN ('stream', 'view') AND attrelid IN ('millrace.streams'::regclass, 'millrace.views'::regclass,
		'millrace.partitions'::regclass, 'millrace.dead_letters'::regclass)}), 'regclass', 'relations are regclass');

# before any view
is($node->safe_psql('postgres', q{SELECT stream, topic, format, messages, bytes, dead_letters, state NOT IN ('failed', 'retrying')
	FROM millrace.streams}), "clicks|$topic|json|0|0|0|t", 'a stream without a view');

my $query = 'SELECT k, count(*) AS n FROM clicks WHERE id > 10 GROUP BY k';
my $quoted = '"Odd view"';
$node->safe_psql('postgres', qq{
	SELECT millrace.create_continuous_view('per_k', \$\$$query\$\$);
	SELECT millrace.create_continuous_view('$quoted', 'SELECT count(*) FROM clicks')});
my @messages = map { event($_) } 1 .. 100;
produce($topic, $_ % 2, $messages[$_]) foreach 0 .. 99;
wait_latest($node, 'per_k');

is($node->safe_psql('postgres', q{SELECT view, stream, kind, state, query, last_error FROM millrace.views
	WHERE view = 'per_k'::regclass}), "per_k|clicks|view|running|$query|", 'millrace.views');
is($node->safe_psql('postgres', qq{SELECT view, stream, kind FROM millrace.views WHERE view = '$quoted'::regclass}),
	"$quoted|clicks|view", 'a view with an odd name');
# counters come after the commit
wait_for($node, q{SELECT messages = 100 AND bytes > 0 AND state = 'running' AND last_error IS NULL AND dead_letters = 0
	FROM millrace.streams WHERE stream = 'clicks'::regclass});
my $bytes = 0;
$bytes += length foreach @messages;
is($node->safe_psql('postgres', q{SELECT bytes FROM millrace.streams WHERE stream = 'clicks'::regclass}), $bytes,
	'bytes are those of the values');
wait_for($node, q{SELECT rows_out > 0 AND rows_in >= 90 FROM millrace.views WHERE view = 'per_k'::regclass});
pass('rows in and out');
wait_for($node, q{SELECT sum(messages) = 100 AND sum(batches) BETWEEN 1 AND 100 AND bool_and(batch_messages_avg >= 0)
	AND bool_and(decode_ms >= 0 AND aggregate_ms >= 0 AND merge_ms >= 0 AND commit_ms >= 0) AND sum(commit_ms) > 0
	FROM millrace.workers WHERE stream = 'clicks'::regclass});
pass('millrace.workers');
is($node->safe_psql('postgres', q{SELECT partition, next_offset, low_watermark, high_watermark, lag, lag_seconds
	FROM millrace.partitions WHERE view = 'per_k'::regclass ORDER BY 1}),
	"0|50|0|50|0|0\n1|50|0|50|0|0\n2|0|0|0|0|0", 'millrace.partitions');

# groups_estimate is about the number of groups
$node->safe_psql('postgres', 'ANALYZE');
is($node->safe_psql('postgres', q{SELECT groups_estimate BETWEEN 7 AND 7 * 2 FROM millrace.views WHERE view = 'per_k'::regclass}), 't',
	'groups_estimate');

# Lag is what is missing: of a view that stands still, exactly.
$node->safe_psql('postgres', q{SELECT millrace.deactivate('per_k')});
produce($topic, 2, map { event($_) } 101 .. 142);
produce($topic, 0, event(143));
wait_latest($node, $quoted);
is($node->safe_psql('postgres', q{SELECT partition, lag, lag_seconds > 0 AND lag_seconds < 600 FROM millrace.partitions
	WHERE view = 'per_k'::regclass AND partition <> 2 ORDER BY 1}), "0|1|t\n1|0|f", 'lag of a view that stands still');
is($node->safe_psql('postgres', q{SELECT lag, next_offset FROM millrace.partitions
	WHERE view = 'per_k'::regclass AND partition = 2}), '42|0', 'where it has nothing yet');
is($node->safe_psql('postgres', qq{SELECT sum(lag) FROM millrace.partitions WHERE view = '$quoted'::regclass}), '0',
	'the other has none');
$node->safe_psql('postgres', q{SELECT millrace.activate('per_k')});

# Under traffic: whenever the lag is 0 in a snapshot, the view holds everything
# that was acknowledged before; when it holds less, there is a lag.
# The traffic leaves a worker the time to get to the end, and who looks the time to ask the
# broker: more of it where they need more.
my ($n, $zero, $wrong) = (143, 0, 0);
foreach my $pause (0.05, 0.5, 5)
{
	my $load = start_traffic($topic, from => $n + 1, chunk => 5, pause => patience($pause));
	my $give_up = time + patience(60);
	while ($zero < 10 && time < $give_up)
	{
		my $sent = $load->sent;
		my ($lag, $count) = split /\|/, $node->safe_psql('postgres', qq{
			BEGIN ISOLATION LEVEL REPEATABLE READ;
			SELECT (SELECT sum(lag) FROM millrace.partitions WHERE view = '$quoted'::regclass), count FROM $quoted; COMMIT});
		$zero++ if $lag == 0;
		$wrong++ if $lag == 0 && $count < $n + $sent || $lag < 0;
	}
	$n = $load->stop;
	last if $zero > 0;
}
cmp_ok($zero, '>=', 1, 'seen without lag');
is($wrong, 0, 'lag is 0 only when the view holds everything');
wait_latest($node, 'per_k');
is_same($node, 'per_k', "SELECT k, count(*) AS n FROM @{[events($n)]} e WHERE id > 10 GROUP BY k");
is($node->safe_psql('postgres', q{SELECT sum(lag) FROM millrace.partitions}), '0', 'no lag in the end');

# pg_stat_activity shows a worker with its stream and what it does.
wait_joined($node, 'clicks');
my $pid = worker_pid($node, 'clicks');
my ($type, $name, $doing) = split /\|/, $node->safe_psql('postgres', qq{
	SELECT backend_type, application_name, query FROM pg_stat_activity WHERE pid = $pid});
like($type, qr/millrace/, 'backend_type');
like("$type $name $doing", qr/clicks/, 'the stream');
wait_for($node, qq{SELECT application_name || ' ' || query ~ '(wait|idle|poll|read|fetch)' FROM pg_stat_activity
	WHERE pid = $pid});
pass('the phase');
wait_for($node, qq{SELECT wait_event <> '' FROM pg_stat_activity WHERE pid = $pid});
pass('a wait event');
is($node->safe_psql('postgres', q{SELECT count(*) >= 1 FROM pg_stat_activity WHERE backend_type ~ 'millrace'
	AND backend_type ~ 'launcher'}), 't', 'the launcher');

# states
is($node->safe_psql('postgres', q{SELECT count(*) FROM millrace.views WHERE state NOT IN
	('starting', 'running', 'catching up', 'retrying', 'stopped', 'failed', 'paused')}), '0', 'known states only');
$node->safe_psql('postgres', q{SELECT millrace.deactivate('clicks')});
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT state, ',') FROM millrace.views}), 'paused', 'paused views');
is($node->safe_psql('postgres', q{SELECT state FROM millrace.streams}), 'paused', 'paused stream');
wait_for($node, 'SELECT count(*) = 0 FROM millrace.workers');
pass('no worker');
$node->safe_psql('postgres', q{SELECT millrace.activate('clicks')});
wait_state($node, 'stream', 'clicks', 'running');

# millrace.enabled = off stops all ingest
$node->append_conf('postgresql.conf', 'millrace.enabled = off');
$node->reload;
wait_for($node, 'SELECT count(*) = 0 FROM millrace.workers');
wait_state($node, 'stream', 'clicks', 'stopped');
produce($topic, 0, event($n + 1));
is($node->safe_psql('postgres', q{SELECT sum(lag) FROM millrace.partitions WHERE view = 'per_k'::regclass}), '1',
	'lag while ingest is off');
$node->append_conf('postgresql.conf', 'millrace.enabled = on');
$node->reload;
wait_for($node, "SELECT sum(n) = $n + 1 - 10 FROM per_k");
pass('ingest goes on by itself');

# --- what cannot be told ----------------------------------------------------------

# Failed and retrying always say why, to whoever sees it.
sub states_say_why
{
	my ($role, $name) = @_;
	is($node->safe_psql('postgres', "SET ROLE $role; " . join(' UNION ALL ', map {
		"SELECT '$_', to_jsonb(v) - 'query' FROM millrace.$_ v WHERE state IN ('failed', 'retrying') AND last_error IS NULL" }
		'views', 'streams', 'workers')), '', "$name: a state that needs it has its error");
}

# A server that becomes unusable in one way after the other takes nothing from others.
$node->safe_psql('postgres', qq{
	CREATE ROLE reader;
	CREATE SERVER fragile FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" '@{[bootstrap()]}');
	CREATE FOREIGN TABLE broken (id bigint) SERVER fragile OPTIONS (topic '$topic');
	SELECT millrace.create_continuous_view('of_broken', 'SELECT count(*) AS n FROM broken');
	GRANT SELECT ON of_broken TO reader});
wait_latest($node, 'of_broken');
my $watermarks = q{SELECT view, bool_and(high_watermark IS NULL), bool_and(low_watermark IS NULL), bool_and(lag IS NULL), bool_and(lag_seconds IS NULL)
	FROM millrace.partitions WHERE view IN ('of_broken'::regclass, 'per_k'::regclass) GROUP BY view ORDER BY view::text};
is($node->safe_psql('postgres', $watermarks), "of_broken|f|f|f|f\nper_k|f|f|f|f", 'lag is known of both');
foreach my $ruin (
	[ q{ADD "security.protocol" 'SASL_PLAINTEXT', ADD "sasl.mechanisms" 'PLAIN'}, qr/could not create a Kafka client/, 'no credentials',
		'DROP "security.protocol", DROP "sasl.mechanisms"' ],
	[ q{ADD "security.protocol" 'SSL', ADD "ssl.ca.location" '/nonexistent'}, qr/ssl\.ca\.location/, 'no CA file',
		'DROP "security.protocol", DROP "ssl.ca.location"' ],
	[ q{DROP "bootstrap.servers"}, qr/has no option "bootstrap\.servers"/, 'no brokers', q{ADD "bootstrap.servers" '127.0.0.1:1'} ],
	[ q{SET "bootstrap.servers" '127.0.0.1:1'}, qr/could not read topic/, 'no answer', q{SET "bootstrap.servers" '127.0.0.1:1'} ])
{
	my ($options, $reason, $name, $undo) = @$ruin;
	$node->safe_psql('postgres', "ALTER SERVER fragile OPTIONS ($options)");
	my ($rc, $out, $err) = $node->psql('postgres', $watermarks);
	is("$rc $out", "0 of_broken|t|t|t|t\nper_k|f|f|f|f", "$name: unknown of that stream alone");
	like($err, qr/WARNING:\s+could not get the watermarks of stream "broken": .*$reason/, "$name: a warning says why");
	wait_state($node, 'view', 'of_broken', 'retrying');
	states_say_why($_, $name) foreach 'reader', 'postgres';
	my $seen = '';
	my $until = time + patience(60);
	# its worker may just be starting again
	$seen = $node->safe_psql('postgres', q{SET ROLE reader; SELECT state, last_error FROM millrace.views WHERE view = 'of_broken'::regclass})
	  while $seen !~ /^retrying/ && time < $until;
	is($seen, 'retrying|withheld for want of privilege SELECT on the stream', "$name: nothing of the stream's errors for whoever may not read it");
	$node->safe_psql('postgres', "ALTER SERVER fragile OPTIONS ($undo)");
}
my ($rc, $out, $err) = $node->psql('postgres', "SET statement_timeout = '300ms'; $watermarks");
like($err, qr/canceling statement due to statement timeout/, 'but a cancel is one');
isnt($rc, 0, 'and fails the statement');
$node->safe_psql('postgres', 'DROP VIEW of_broken');

# A stream that only a transform into another follows stops with it.
create_stream($node, 'copied', 'id bigint', partitions => 1);
my $junk = create_stream($node, 'stopping', 'id bigint', options => { on_error => 'stop' });
$node->safe_psql('postgres', q{SELECT millrace.create_continuous_transform('copying', 'SELECT id FROM stopping', target => 'copied')});
produce($junk, 0, '{"id": 1}', '{"id": "junk"}');
wait_state($node, 'view', 'copying', 'stopped');
wait_state($node, 'stream', 'stopping', 'stopped');
like($node->safe_psql('postgres', q{SELECT last_error FROM millrace.streams WHERE stream = 'stopping'::regclass}), qr/"id"/, 'and says why');
$node->safe_psql('postgres', 'GRANT SELECT ON copying TO reader');
is($node->safe_psql('postgres', q{SET ROLE reader; SELECT state, last_error FROM millrace.views WHERE view = 'copying'::regclass}),
	'stopped|withheld for want of privilege SELECT on the stream', 'but not to whoever may not read it');
$node->safe_psql('postgres', 'DROP VIEW copying');

# A table's state is that of its views, as a topic's is.
$node->safe_psql('postgres', q{
	SELECT millrace.create_continuous_view('changing', 'SELECT k, count(*) AS n FROM clicks GROUP BY k', changes => true, start_at => 'latest');
	SELECT millrace.attach_table('changing_changes');
	SELECT millrace.create_continuous_view('sound', 'SELECT count(*) AS n FROM changing_changes');
	SELECT millrace.create_continuous_view('divides', 'SELECT sum(1 / ((new).k - 100)) AS s FROM changing_changes');
	GRANT SELECT ON changing_changes TO reader});
my $of_table = q{SELECT state, last_error, last_error_at IS NOT NULL FROM millrace.streams WHERE stream = 'changing_changes'::regclass};
is($node->safe_psql('postgres', $of_table), 'running||f', 'a table whose views are well');
produce($topic, 0, '{"id": 1, "k": 100}');
wait_state($node, 'view', 'divides', 'failed');
is($node->safe_psql('postgres', $of_table), 'running||f', 'one of two is well');
$node->safe_psql('postgres', 'DROP VIEW sound');
is($node->safe_psql('postgres', $of_table), 'failed|division by zero|t', 'none is well');
is($node->safe_psql('postgres', "SET ROLE reader; $of_table"), 'failed|withheld for want of privilege SELECT on the view|t', 'others do not read it');
states_say_why($_, 'a failed view of a table') foreach 'reader', 'postgres';
$node->safe_psql('postgres', 'DROP VIEW divides');
is($node->safe_psql('postgres', $of_table), 'stopped||f', 'a table without a view');

# --- totals of a stream ------------------------------------------------------------

# Each message counts once, whichever views come, go, fail and are rebuilt.
my $counted = create_stream($node, 'counted', 'id bigint, k integer', partitions => 2);
my ($total, $size) = (0, 0);

sub more
{
	my ($n) = @_;
	foreach my $i (1 .. $n)
	{
		my $message = sprintf '{"id": %d, "k": %d}', ++$total, $total % 3;
		$size += length $message;
		produce($counted, $total % 2, $message);
	}
}

sub totals
{
	my ($name) = @_;
	is($node->safe_psql('postgres', q{SELECT messages, bytes FROM millrace.streams WHERE stream = 'counted'::regclass}), "$total|$size", "totals: $name");
}

$node->safe_psql('postgres', q{
	CREATE ROLE app; CREATE SCHEMA app AUTHORIZATION app;
	CREATE TABLE labels (k integer); INSERT INTO labels VALUES (0), (1), (2);
	GRANT SELECT ON counted, labels TO app;
	SET ROLE app;
	SELECT millrace.create_continuous_view('app.labeled', 'SELECT k, count(*) AS n FROM public.counted JOIN public.labels USING (k) GROUP BY k')});
more(20);
wait_latest($node, 'app.labeled');
totals('one view');
$node->safe_psql('postgres', q{SELECT millrace.deactivate('counted')});
wait_for($node, q{SELECT count(*) = 1 FROM millrace.feed WHERE stream = 'counted'::regclass});
totals('deactivated');
$node->safe_psql('postgres', q{SELECT millrace.activate('counted')});
wait_state($node, 'stream', 'counted', 'running');
totals('activated');
more(5);
wait_latest($node, 'app.labeled');
totals('and goes on');
$node->safe_psql('postgres', q{SELECT millrace.create_continuous_view('all_of_them', 'SELECT count(*) AS n FROM counted')});
wait_latest($node, 'all_of_them');
wait_for($node, q{SELECT count(*) = 2 FROM millrace.views WHERE stream = 'counted'::regclass AND live});
totals('a view that has caught up');
$node->safe_psql('postgres', q{SELECT millrace.deactivate('all_of_them')});
more(5);
wait_latest($node, 'app.labeled');
$node->safe_psql('postgres', q{SELECT millrace.activate('all_of_them')});
wait_latest($node, 'all_of_them');
totals('a view that has caught up again');
$node->safe_psql('postgres', 'DROP VIEW all_of_them; REVOKE SELECT ON labels FROM app');
produce($counted, 0, '{}');
wait_state($node, 'view', 'app.labeled', 'failed');
wait_for($node, q{SELECT count(*) = 1 FROM millrace.feed WHERE stream = 'counted'::regclass});
totals('failed');
$node->safe_psql('postgres', q{GRANT SELECT ON labels TO app; SELECT millrace.activate('app.labeled')});
wait_latest($node, 'app.labeled');
$total++;
$size += 2;
totals('activated after a failure');
$node->safe_psql('postgres', q{SELECT millrace.rebuild('app.labeled')});
wait_for($node, q{SELECT rebuild IS NULL FROM millrace.views WHERE view = 'app.labeled'::regclass});
totals('rebuilt');
$node->safe_psql('postgres', q{SELECT millrace.rebuild('app.labeled', start_at => 'latest')});
wait_for($node, q{SELECT rebuild IS NULL FROM millrace.views WHERE view = 'app.labeled'::regclass});
totals('rebuilt from the end');
$node->safe_psql('postgres', q{SELECT millrace.deactivate('app.labeled');
	SELECT millrace.rebuild('app.labeled', start_at => 'latest')});
wait_for($node, q{SELECT rebuild IS NULL FROM millrace.views WHERE view = 'app.labeled'::regclass});
totals('rebuilt from the end while it stands still');
$node->safe_psql('postgres', q{SELECT millrace.deactivate('app.labeled');
	SELECT millrace.create_continuous_view('newest', 'SELECT count(*) AS n FROM counted', start_at => 'latest')});
more(5);
wait_latest($node, 'newest');
totals('a view from the end while the other stands still');
$node->safe_psql('postgres', q{SELECT millrace.activate('app.labeled')});
wait_latest($node, 'app.labeled');
wait_for($node, q{SELECT count(*) = 2 FROM millrace.views WHERE stream = 'counted'::regclass AND live});
totals('both');

# settings are there, with their defaults and contexts
is($node->safe_psql('postgres', q{SELECT string_agg(format('%s=%s%s (%s)', name, boot_val, unit, context), ', ' ORDER BY name)
	FROM pg_settings WHERE name LIKE 'millrace.%' AND name IN ('millrace.enabled', 'millrace.commit_interval',
	'millrace.batch_messages', 'millrace.batch_memory', 'millrace.retry_max_interval', 'millrace.catchup_workers')}),
	'millrace.batch_memory=131072kB (sighup), millrace.batch_messages=1000000 (sighup), millrace.catchup_workers=2 (sighup), '
	  . 'millrace.commit_interval=100ms (sighup), millrace.enabled=on (sighup), millrace.retry_max_interval=30000ms (sighup)',
	'settings');

done_testing();
