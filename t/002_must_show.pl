# Six views over 200,000 messages, half of them before and half after an
# immediate shutdown; memory; freshness.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "shared_buffers = 32MB\nmillrace.batch_memory = 16MB\n");
my $topic = create_stream($node, 'clicks',
	'id bigint, user_id integer, url text, price numeric, latency double precision, ts timestamptz',
	partitions => 3);

$node->safe_psql('postgres', q{
	CREATE TABLE users (user_id integer PRIMARY KEY, country text);
	INSERT INTO users SELECT i, (ARRAY['HU', 'AT', NULL, 'DE'])[i % 4 + 1] FROM generate_series(0, 700) i;
	CREATE TABLE events AS
	SELECT i::bigint AS id, nullif(i * 7919 % 1000, 5)::integer AS user_id,
		'/page/' || i * 104729 % 37 AS url,
		CASE WHEN i % 11 <> 0 THEN ((i * 15485863) % 100000007)::numeric / 10000 END AS price,
		(i % 257)::double precision / 4 AS latency,
		timestamptz '2025-03-30 00:00+01' + i * interval '0.05 s' AS ts
	FROM generate_series(1::bigint, 200000::bigint) i});

my %views = (
	with_having => q{SELECT user_id, count(*) AS hits, max(latency) AS worst FROM clicks
		GROUP BY user_id HAVING max(id) % 3 = 0 AND count(*) >= 200},
	with_join => q{SELECT country, url, count(*) AS hits, count(price) AS priced, min(ts) AS first
		FROM clicks JOIN users USING (user_id)
		GROUP BY country, url},
	with_window => q{SELECT date_trunc('hour', ts) AS hour, url, count(*) AS hits,
			rank() OVER (PARTITION BY date_trunc('hour', ts) ORDER BY count(*) DESC, url) AS place,
			sum(count(*)) OVER (ORDER BY date_trunc('hour', ts), url) AS running
		FROM clicks GROUP BY 1, 2},
	with_numeric => q{SELECT id % 100 AS bucket, sum(price) AS total, avg(price) AS mean, min(price), max(price),
			count(price) AS priced, sum(price) * 1.27 AS gross, var_pop(price) AS spread FROM clicks GROUP BY 1},
	with_filter => q{SELECT url, count(*) FILTER (WHERE latency > 32) AS slow,
			avg(latency) FILTER (WHERE user_id IS NOT NULL AND id % 2 = 0) AS even,
			bool_or(price IS NULL) AS unpriced FROM clicks WHERE user_id IS DISTINCT FROM 7 GROUP BY url},
	without_group => q{SELECT count(*) AS n, count(user_id) AS users, sum(id) AS ids, min(ts) AS first,
			max(ts) AS last, max(url) AS url FROM clicks});

sub produce_events
{
	my ($from, $to) = @_;
	my @lines = split /\n/, $node->safe_psql('postgres',
		"SELECT row_to_json(e) FROM events e WHERE id BETWEEN $from AND $to ORDER BY id");
	my $i = $from;
	my $client = client();
	$client->send($topic, $i++ % 3, $_) foreach @lines;
	$client->flush;
	note "produced up to $to";
}

produce_events(1, 50_000);
foreach my $view (sort keys %views)
{
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('$view', \$\$$views{$view}\$\$)");
}
note 'created';
produce_events(50_001, 100_000);
wait_for($node, 'SELECT n > 30000 FROM without_group');
note 'stopping';
$node->stop('immediate');
$node->start;
produce_events(100_001, 200_000);

foreach my $view (sort keys %views)
{
	wait_latest($node, $view);
	(my $query = $views{$view}) =~ s/\bclicks\b/events/g;
	is_same($node, $view, $query, "$view equals its query over all messages");
}
is($node->safe_psql('postgres', 'SELECT n, ids FROM without_group'), '200000|20000100000', 'all of them');
is( $node->safe_psql('postgres', 'SELECT count(*) > 100 FROM with_having'), 't', 'there is something to compare');

# A worker's memory does not grow with the backlog: 100,000 messages of 4 kB
# each, which the worker finds waiting.
my $fat = create_stream($node, 'fat', 'id bigint, pad text');
my $client = producer(undef, 'linger.ms' => '5');
my $pad = 'x' x 4000;
$client->send($fat, 0, qq({"id": $_, "pad": "$pad$_"})) foreach 1 .. 100_000;
$client->flush;
$node->safe_psql('postgres', q{SELECT millrace.create_continuous_view('fat_view',
	'SELECT id % 50 AS b, count(*) AS n, max(pad) AS pad FROM fat GROUP BY 1')});
my %peak;
my $waiting = background($node, "SELECT millrace.wait_for_latest('fat_view', timeout => '@{[patience(120)]}s')");
do
{
	foreach my $pid (split /\n/, $node->safe_psql('postgres',
		"SELECT pid FROM millrace.workers WHERE stream = 'fat'::regclass"))
	{
		my ($hwm) = (eval { slurp_file("/proc/$pid/status") } // '') =~ /^VmHWM:\s+(\d+) kB/m or next;
		$peak{$pid} = $hwm if $hwm > ($peak{$pid} // 0);
	}
} while $node->safe_psql('postgres', 'SELECT coalesce(sum(n), 0) < 100000 FROM fat_view') eq 't';
$waiting->finish;
is_same($node, 'fat_view', "SELECT i % 50 AS b, count(*) AS n, max(repeat('x', 4000) || i) AS pad
	FROM generate_series(1::bigint, 100000::bigint) i GROUP BY 1", 'fat messages');
ok(%peak > 0, 'seen a worker');
# a sanitizer's or valgrind's own memory would count
foreach my $pid ($ENV{MILLRACE_UNDER} ? () : sort keys %peak)
{
	# batch_memory, shared buffers, and a constant for everything else: code,
	# catalog caches, 64 MB that librdkafka may queue, and what malloc keeps
	note sprintf "peak %d MB", $peak{$pid} / 1024;
	cmp_ok($peak{$pid} / 1024, '<', 16 + 32 + 192, "memory of worker $pid is bounded (MB)");
}

# Freshness: from the timestamp that the producer gave to a committed result,
# measured by a session that looks every millisecond.
my $idle = create_stream($node, 'idle', q{id bigint, arrived timestamptz OPTIONS (metadata 'timestamp')});
$node->safe_psql('postgres', q{
	SELECT millrace.create_continuous_view('idle_view', 'SELECT count(*) AS n, max(arrived) AS last FROM idle');
	CREATE FUNCTION watch(times integer) RETURNS double precision LANGUAGE plpgsql AS $$
	DECLARE
		lags double precision[] := '{}';
		seen record;
	BEGIN
		FOR i IN 1 .. times LOOP
			LOOP
				SELECT n, last INTO seen FROM idle_view;
				EXIT WHEN seen.n > i;
				PERFORM pg_sleep(0.001);
			END LOOP;
			lags := lags || extract(epoch FROM clock_timestamp() - seen.last)::double precision * 1000;
		END LOOP;
		RAISE NOTICE 'ms: %', lags;
		RETURN (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY lag) FROM unnest(lags) lag);
	END $$});

# The first one is not measured: connections are made and plans built.  On a busy machine it may
# take some attempts until everybody gets his turn in time.
my $median;
my $give_up = time + patience(60);
produce($idle, 0, '{"id": 0}');
wait_latest($node, 'idle_view');
for (my $attempt = 1; $attempt <= 3 || time < $give_up; $attempt++)
{
	$node->safe_psql('postgres', "SELECT millrace.truncate_continuous_view('idle_view')") if $attempt > 1;
	produce($idle, 0, '{"id": 0}') if $attempt > 1;
	wait_for($node, 'SELECT n = 1 FROM idle_view');
	my $watch = background($node, 'SELECT watch(9)');
	wait_for($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'SELECT watch(9)' AND state = 'active'});
	foreach my $i (1 .. 9)
	{
		produce($idle, 0, qq({"id": $i}));
		wait_for($node, "SELECT n > $i FROM idle_view");
	}
	(my $ok, $median, my $err) = $watch->finish;
	note $err;
	last if $ok && $median <= patience(50);
}
cmp_ok($median, '<=', patience(50), 'an idle stream shows a new message within 50 ms (median)');

done_testing();
