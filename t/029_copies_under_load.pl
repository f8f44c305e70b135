# Copies that are made while messages come in: dumps of one database and of all,
# and a base backup that runs beside its original, with a transform into a stream
# that both believe to be theirs.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

# small batches, so that what is slow moves on now and then
my $node = new_node('main', init => [ allows_streaming => 1 ], conf => "millrace.batch_messages = 500\n");
my $dir = PostgreSQL::Test::Utils::tempdir();
my $topic = create_stream($node, 'clicks', event_columns(), partitions => 2);
my %query = (
	per_k => 'SELECT k, s, count(*) AS n, avg(v) AS mean, max(id) AS last FROM %s e GROUP BY k, s',
	told => 'SELECT k, s, count(*) AS n, min(v) AS least FROM %s e GROUP BY k, s HAVING count(*) > 2',
	copied => 'SELECT id, s FROM %s e WHERE k = 1',
	choosy => 'SELECT k, count(*) AS n, sum(100 / (id % 100)) AS parts FROM %s e GROUP BY k',
	slow => 'SELECT k, count(*) AS n, sum(slowly(id)) AS ids FROM %s e GROUP BY k');
my $sunk = 'SELECT id, s FROM %s e WHERE k = 2';
# what a view cannot take
my %taken = (choosy => 'id % 100 <> 0');

sub sql
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

sub slowly
{
	my ($seconds) = @_;
	return "CREATE OR REPLACE FUNCTION slowly(id bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep($seconds); RETURN id; END'";
}

# The messages before the position of a view: message i is at offset (i - 1) / 2 of partition i % 2.
sub held
{
	my ($view, $to) = @_;
	return qq{(SELECT e.* FROM @{[events($to)]} e JOIN millrace.feed_offset o ON o.partition = e.id % 2 AND (e.id - 1) / 2 < o.next_offset
		JOIN millrace.view_stream USING (feed) WHERE view = '$view'::regclass)};
}

# Each view is exactly what its messages give, all of them or those before its position.
sub all_exact
{
	my ($where, $n, $what, %opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $database = $opt{database};
	foreach my $view (sort(keys %query, 'sunk'))
	{
		wait_latest($where, $view, undef, $database) unless $opt{held};
		my $events = $opt{held} ? held($view, $n) : events($n);
		$events = "(SELECT * FROM $events t WHERE $taken{$view})" if $taken{$view};
		is_same($where, $view eq 'sunk' ? '(SELECT id, s FROM sunk_rows) r' : $view,
			sprintf($query{$view} // $sunk, $events), "$what: $view", $database);
	}
	is_told($where, 'told', "$what: its changes", $database);
	my $events = $opt{held} ? held('choosy', $n) : events($n);
	is_same($where, q{(SELECT (convert_from(value, 'UTF8')::json->>'id')::bigint FROM millrace.dead_letters WHERE view = 'choosy'::regclass) l},
		"SELECT id FROM $events e WHERE id % 100 = 0", "$what: dead letters", $database);
}

sub is_paused
{
	my ($where, $database, $what) = @_;
	my $paused = 'paused|the database was restored or copied; millrace.activate() starts ingest here';
	is($where->safe_psql($database, q{SELECT DISTINCT state, last_error FROM millrace.views}), $paused, "$what is paused");
	is($where->safe_psql($database, q{SELECT DISTINCT state, last_error FROM millrace.streams}), $paused, 'so is its stream');
	is($where->safe_psql($database, 'SELECT count(*) FROM millrace.workers'), '0', 'it has no worker');
}

sql('SET client_min_messages = warning; ' . slowly(0.002));
foreach my $view (grep { $_ ne 'slow' } sort keys %query)
{
	my $changes = $view eq 'told' ? ', changes => true' : '';
	sql(qq{SELECT millrace.create_continuous_view('$view', \$\$@{[sprintf $query{$view}, 'clicks']}\$\$$changes)});
}
sql(qq{CREATE TABLE sunk_rows (nr bigserial, id bigint UNIQUE, s text);
	SELECT millrace.create_continuous_transform('sunk', \$\$@{[sprintf $sunk, 'clicks']}\$\$, 'sunk_rows')});
sql('CREATE DATABASE second');
create_server($node, 'second');
create_stream($node, 'clicks', event_columns(), topic => $topic, database => 'second');
sql(qq{SELECT millrace.create_continuous_view('per_k', \$\$@{[sprintf $query{per_k}, 'clicks']}\$\$)}, 'second');

# --- a dump of one database ---------------------------------------------------

my $load = start_traffic($topic, partitions => 2, pause => 0.05);
$load->wait_more(1000);
wait_for($node, 'SELECT sum(n) > 500 FROM per_k');

# a view that is far behind, and a rebuild that cannot end
sql(qq{SELECT millrace.create_continuous_view('slow', \$\$@{[sprintf $query{slow}, 'clicks']}\$\$)});
my $hold = open_transaction($node, 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql(q{SELECT millrace.rebuild('per_k')});
wait_for($node, 'SELECT sum(n) > 0 FROM slow');
system_or_bail('pg_dump', '-d', $node->connstr('postgres'), '-Fd', '-j', '2', '-f', "$dir/one");
$hold->end;
sql(slowly(0));
sql('CREATE DATABASE restored');
my ($out, $err);
my $ok = IPC::Run::run([ 'pg_restore', '-d', $node->connstr('restored'), "$dir/one" ], '<', \undef, '>', \$out, '2>', \$err);
ok($ok && $err eq '', 'a dump that was made under load is restored') or diag $err;
is_paused($node, 'restored', 'a restored database');
is(sql(q{SELECT rebuild FROM millrace.views WHERE view = 'per_k'::regclass}, 'restored'), 'paused', 'a rebuild is under way');
sql(slowly(0), 'restored');
all_exact($node, $load->sent, 'it shows what was before its positions', database => 'restored', held => 1);
cmp_ok(sql(q{SELECT sum(n) FROM slow}, 'restored'), '<', sql('SELECT sum(n) FROM per_k', 'restored'), 'one view was behind');
sql(q{SELECT millrace.activate('clicks')}, 'restored');
$load->wait_more(500);
my $n = $load->stop;
all_exact($node, $n, 'activated under load', database => 'restored');
is(sql('SELECT count(*) FROM millrace.continuous_view WHERE rebuilds IS NOT NULL', 'restored'), '0', 'and rebuilt');
all_exact($node, $n, 'the original');
sql('DROP DATABASE restored');

# --- a dump of all --------------------------------------------------------------

$load = start_traffic($topic, partitions => 2, from => $n + 1, pause => 0.05);
$load->wait_more(300);
system_or_bail('pg_dumpall', '-d', $node->connstr('postgres'), '-f', "$dir/all");
# not a copy of a template, which has the same system identifier
my $elsewhere = new_node('elsewhere', extension => 0, init => [ force_initdb => 1 ]);
IPC::Run::run([ 'psql', '-Xq', '-d', $elsewhere->connstr('postgres'), '-f', "$dir/all" ], '<', \undef, '>', \$out, '2>', \$err);
is(join("\n", grep { !/role ".*" already exists$/ } split /\n/, $err), '', 'a dump of all databases is restored into another cluster');
is_paused($elsewhere, $_, "$_ in another cluster") foreach 'postgres', 'second';
all_exact($elsewhere, $n + $load->sent, 'another cluster shows what was before its positions', held => 1);
is_same($elsewhere, 'per_k', sprintf($query{per_k}, held('per_k', $n + $load->sent)), 'so does its second database', 'second');
$elsewhere->safe_psql($_, q{SELECT millrace.activate('clicks')}) foreach 'postgres', 'second';
$load->wait_more(500);
$n = $load->stop;
all_exact($elsewhere, $n, 'activated there under load');
wait_latest($elsewhere, 'per_k', undef, 'second');
is_same($elsewhere, 'per_k', sprintf($query{per_k}, events($n)), 'and in its second database', 'second');
all_exact($node, $n, 'beside the original');
$elsewhere->stop;

# --- a base backup beside its original --------------------------------------------

# Both have the same producer and the same group: one ends what the other has begun, and goes on behind
# what it has produced.
create_stream($node, 'echoes', q{id bigint, k integer}, partitions => 2);
my $echo = 'SELECT id, k FROM %s e WHERE k <> 0';
sql(qq{SELECT millrace.create_continuous_transform('echo', \$\$@{[sprintf $echo, 'clicks']}\$\$, 'echoes')});
$load = start_traffic($topic, partitions => 2, from => $n + 1);
$load->wait_more(300);
$node->backup('base');
my $twin = PostgreSQL::Test::Cluster->new('twin');
$twin->init_from_backup($node, 'base', has_streaming => 0, standby => 0);
$twin->start;
my @both = ($node, $twin);
my $began = Time::HiRes::time();
foreach my $round (1 .. 3)
{
	my $more = $load->sent;
	$load->wait_more(3000);
	wait_for($_, "SELECT sum(n) > $n + $more FROM per_k") foreach @both;
	wait_for($_, "SELECT next_offset > ($n + $more) / 2 FROM millrace.feed_offset JOIN millrace.view_stream USING (feed)
		WHERE view = 'echo'::regclass AND partition = 0") foreach @both;
}
$n = $load->stop;
foreach my $where (@both)
{
	my $name = $where->name;
	all_exact($where, $n, "$name beside its copy");
	wait_latest($where, 'echo');
	wait_for($where, sprintf 'SELECT (SELECT count(*) FROM echoes) >= (SELECT count(*) FROM %s e WHERE k <> 0)', events($n));
	is_same($where, 'echoes', sprintf($echo, events($n)), "$name: what both have produced is there once");
	wait_for($where, q{SELECT bool_and(state = 'running') FROM millrace.views});
	# Each wait is twice as long as the one before, whatever goes well between: all but the last are over.
	my $fenced = () = slurp_file($where->logfile) =~ /worker ERROR:  could not (?:commit|abort|begin|send offsets|produce to topic "echoes)/g;
	my $seconds = Time::HiRes::time() - $began;
	cmp_ok($fenced, '>', 0, "$name: the other one has gone on instead");
	cmp_ok(0.1 * (2 ** ($fenced - 1) - 1), '<', $seconds, "$name: but not again and again") or diag "$fenced times in $seconds s";
}

done_testing();
