# Transforms into streams: exactly once for readers of committed messages, through
# kills, outages and a server that has lost commits; chains; copies.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use List::Util 'shuffle';
use Test::More;
use Time::HiRes ();

my $seed = $ENV{MILLRACE_SEED} // time;
srand $seed;
note "MILLRACE_SEED=$seed";

my $broker = own_broker();
my $node = new_node('main', broker => $broker->bootstrap, init => [ allows_streaming => 1 ],
	conf => "millrace.retry_max_interval = 500ms\n");
my $topic = create_stream($node, 'clicks', event_columns(), broker => $broker, partitions => 2);
my $copies = create_stream($node, 'copies', q{id bigint, doubled numeric, s text, owner text OPTIONS (metadata 'key'),
	part integer OPTIONS (metadata 'partition'), at timestamptz OPTIONS (metadata 'timestamp'), extra jsonb OPTIONS (metadata 'headers')},
	broker => $broker, partitions => 3, config => { 'retention.ms' => '-1' });

sub sql { return $node->safe_psql('postgres', $_[0]) }

# --- kills: a chain of a transform and a view ------------------------------------

# What is refused is a dead letter, once.
my $copy = q{SELECT id, v * 2 AS doubled, s, 'k' || k AS owner, (id % 3 + 0 / (id % 500))::integer AS part,
	timestamptz '2025-01-01 00:00Z' + id * interval '1 s' AS at, jsonb_build_object('no', id::text) AS extra
	FROM clicks WHERE k <> 3};
sql(qq{SELECT millrace.create_continuous_transform('copy', \$\$$copy\$\$, 'copies');
	SELECT millrace.create_continuous_view('landed', 'SELECT id, doubled, s, owner, part, at, extra FROM copies');
	SELECT millrace.create_continuous_view('in_all', 'SELECT count(*) AS n, sum(id) AS ids FROM clicks')});
is(sql(q{SELECT kind, target FROM millrace.views WHERE view = 'copy'::regclass}), 'transform|copies', 'it is a transform');

sub expected
{
	my ($n) = @_;
	return qq{SELECT id, v * 2 AS doubled, s, 'k' || k AS owner, (id % 3)::integer AS part,
		timestamptz '2025-01-01 00:00Z' + id * interval '1 s' AS at, jsonb_build_object('no', id::text) AS extra
		FROM @{[events($n)]} e WHERE k <> 3 AND id % 500 <> 0};
}

sub exact
{
	my ($where, $n, $what) = @_;
	wait_latest($where, $_) foreach 'copy', 'landed', 'in_all';
	is_same($where, 'landed', expected($n), "$what: each message is there once");
	is_same($where, 'in_all', sprintf('SELECT count(*) AS n, sum(id) AS ids FROM %s e', events($n)), "$what: a view beside it");
	is($where->safe_psql('postgres', q{SELECT count(*) || ' ' || count(DISTINCT (partition, message_offset)) FROM millrace.dead_letters
			WHERE view = 'copy'::regclass AND sqlstate = '22012'}),
		join(' ', (scalar grep { $_ % 500 == 0 && $_ % 7 != 3 } 1 .. $n) x 2), "$what: what it cannot take is a dead letter, once");
}

my $from = 1;
my $n;
my %kill = (
	worker => sub {
		my @pids = worker_pid($node, 'clicks');
		kill_process($pids[ rand @pids ]);
		wait_new_worker($node, 'clicks', @pids);
	},
	postmaster => sub {
		kill_server($node);
		restart_server($node);
	},
	broker => sub {
		$broker->kill;
		select undef, undef, undef, rand 0.3;
		$broker->start;
	});
foreach my $victim ('worker', shuffle('worker', 'worker', 'postmaster', 'broker', 'postmaster'))
{
	my $load = start_traffic($topic, broker => $broker, partitions => 2, from => $from);
	$load->wait_more(300);
	select undef, undef, undef, rand 0.3;
	$kill{$victim}->();
	$load->wait_more(300);
	$n = $load->stop;
	$from = $n + 1;
	exact($node, $n, "a kill of the $victim");
}
wait_for($node, q{SELECT bool_and(state = 'running') FROM millrace.views});
pass('all run');
is(sql(q{SELECT count(*) FROM millrace.feed WHERE stream = 'clicks'::regclass}), '2', 'with a feed of its own');

# --- an outage ------------------------------------------------------------------

my $load = start_traffic($topic, broker => $broker, partitions => 2, from => $from);
$load->wait_more(100);
$broker->pause;
my $began = Time::HiRes::time();
$node->stop('fast');
cmp_ok(Time::HiRes::time() - $began, '<', patience(10), 'a fast shutdown is fast while the broker does not answer');
$broker->resume;
$node->start;
$load->wait_more(100);
$n = $load->stop;
$from = $n + 1;
exact($node, $n, 'an outage');

# --- too large for the topic -----------------------------------------------------------

# What only the broker knows: a message that is too large for the topic, one that is not when it is compressed, and
# batches of small ones.
create_stream($node, 'narrow', 'id bigint, fat text', broker => $broker, partitions => 2, config => { 'max.message.bytes' => '20000' });
sql(q{CREATE FUNCTION noise(id bigint, n integer) RETURNS text LANGUAGE sql IMMUTABLE
	RETURN (SELECT string_agg(md5((id * 10000 + i)::text), '') FROM generate_series(1, n) i);
	ALTER SERVER kafka OPTIONS (ADD "compression.type" 'lz4')});
sql(q{SELECT millrace.create_continuous_transform('squeeze',
	$$ SELECT id, CASE id % 3000 WHEN 7 THEN noise(id, 1500) WHEN 27 THEN repeat('x', 100000) ELSE noise(id, 10) END AS fat FROM clicks WHERE id % 20 = 7 $$, 'narrow')});

sub squeezed
{
	my ($where, $n, $what) = @_;
	my $bad = scalar grep { $_ % 3000 == 7 } 1 .. $n;
	my $good = (scalar grep { $_ % 20 == 7 } 1 .. $n) - $bad;
	wait_latest($where, 'squeeze');
	wait_for($where, "SELECT count(*) >= $good FROM narrow");
	is($where->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE length(fat) = 100000) FROM narrow'),
		join('|', $good, $good, scalar grep { $_ % 3000 == 27 } 1 .. $n), "$what: what fits the topic is produced, once");
	is($where->safe_psql('postgres', q{SELECT sqlstate, count(*), count(DISTINCT (partition, message_offset)), bool_and((convert_from(value, 'UTF8')::json->>'id')::int % 3000 = 7)
			FROM millrace.dead_letters WHERE view = 'squeeze'::regclass GROUP BY 1}),
		"54000|$bad|$bad|t", "$what: what does not is a dead letter, once");
}
squeezed($node, $n, 'too large');

# --- positions that were lost ------------------------------------------------------

# A base backup is a server that has lost what was committed after it.
$node->backup('before');
$load = start_traffic($topic, broker => $broker, partitions => 2, from => $from);
$load->wait_more(2000);
$n = $load->stop;
$from = $n + 1;
exact($node, $n, 'after the backup');
squeezed($node, $n, 'too large, after the backup');
my $letters = sql('SELECT count(*) FROM millrace.dead_letters');
$node->stop('immediate');
my $behind = PostgreSQL::Test::Cluster->new('behind');
$behind->init_from_backup($node, 'before', has_streaming => 0, standby => 0);
$behind->start;
exact($behind, $n, 'a server that was set back steps over what was produced');
squeezed($behind, $n, 'too large, produced before');
is($behind->safe_psql('postgres', 'SELECT count(*) FROM millrace.dead_letters'), $letters, 'and has the dead letters again');
$load = start_traffic($topic, broker => $broker, partitions => 2, from => $from);
$load->wait_more(500);
$n = $load->stop;
$from = $n + 1;
exact($behind, $n, 'and goes on');
$behind->stop;

# The former one comes back: it steps over what its successor has produced.
$node->start;
exact($node, $n, 'the former server');
squeezed($node, $n, 'too large, the former server');
wait_for($node, q{SELECT state = 'running' FROM millrace.views WHERE view = 'squeeze'::regclass});
sql('DROP VIEW squeeze; ALTER SERVER kafka OPTIONS (DROP "compression.type")');

# --- refusals of the target ----------------------------------------------------------

my $picky = create_stream($node, 'picky', q{id bigint, fat text, part integer OPTIONS (metadata 'partition')}, broker => $broker, partitions => 2);
sql(q{SELECT millrace.create_continuous_transform('pick',
	$$ SELECT id, CASE WHEN id % 100 = 0 THEN -1 WHEN id % 100 = 50 THEN 7 ELSE 1 END AS part,
		CASE WHEN id % 100 = 70 THEN repeat('x', 2000000) END AS fat FROM clicks WHERE id <= 1000 $$, 'picky')});
wait_latest($node, 'pick');
wait_for($node, 'SELECT count(*) >= 970 FROM picky');
is(sql('SELECT count(*), count(DISTINCT id), min(part), max(part) FROM picky'), '970|970|1|1', 'what can be encoded is produced');
is(sql(q{SELECT sqlstate, count(*) FROM millrace.dead_letters WHERE view = 'pick'::regclass GROUP BY 1 ORDER BY 1}), "22023|20\n54000|10",
	'what cannot is a dead letter of the transform');
sql('DROP VIEW pick');

# --- paused, activated, dropped --------------------------------------------------------

sql(q{SELECT millrace.deactivate('copy')});
produce([ $topic, $broker ], $_ % 2, event($_)) foreach $from .. $from + 99;
$n = $from + 99;
$from = $n + 1;
wait_latest($node, 'in_all');
my $landed = sql('SELECT count(*) FROM landed');
is(sql(q{SELECT state FROM millrace.views WHERE view = 'copy'::regclass}), 'paused', 'it is paused');
sql(q{SELECT millrace.activate('copy')});
exact($node, $n, 'activated again');
cmp_ok(sql('SELECT count(*) FROM landed'), '>', $landed, 'it has produced what came meanwhile');

# --- a restored database does not produce ------------------------------------------------

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
system_or_bail('pg_dump', '-d', $node->connstr('postgres'), '-Fc', '-f', $dump);
sql('CREATE DATABASE restored');
system_or_bail('pg_restore', '-d', $node->connstr('restored'), $dump);
is($node->safe_psql('restored', q{SELECT DISTINCT state FROM millrace.views}), 'paused', 'a restored database is paused');
produce([ $topic, $broker ], $_ % 2, event($_)) foreach $from .. $from + 99;
$n = $from + 99;
$from = $n + 1;
exact($node, $n, 'beside a restored database');
sql('ALTER DATABASE restored RENAME TO other');
$node->safe_psql('other', q{SELECT millrace.activate('copy')});
wait_latest($node, 'copy', undef, 'other');
my $again = scalar grep { $_ % 7 != 3 && $_ % 500 != 0 } $n - 99 .. $n;
wait_latest($node, 'landed');
is(sql('SELECT count(*) - count(DISTINCT id) FROM landed'), $again, 'activated, it produces what came after the dump, as a database of its own');
sql('DROP DATABASE other');

done_testing();
