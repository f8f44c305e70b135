# Copies of a database: dumped and restored, made from a template, restored to a
# point in time, promoted.  What the server takes for another database does not
# ingest until it is told to, and then goes on exactly; what it takes for the
# same one goes on by itself.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', init => [ allows_streaming => 1, has_archiving => 1 ]);
my $dir = PostgreSQL::Test::Utils::tempdir();
my $topic = create_stream($node, 'clicks', event_columns(), partitions => 2);
my $other_topic = create_stream($node, 'visits', event_columns());
my $n = 0;
my $visits = 300;
my %query = (
	sliding => 'SELECT k, count(*) AS n, avg(v) AS mean FROM %s e GROUP BY k',
	kept => q{SELECT timestamptz '2024-01-01 00:00+00' + k * interval '1 day' AS day, count(*) AS n FROM %s e GROUP BY 1},
	per_k => 'SELECT k, s, count(*) AS n, avg(v) AS mean, max(id) AS last FROM %s e GROUP BY k, s',
	in_all => 'SELECT count(*) AS n, sum(id) AS ids, stddev(v) AS deviation FROM %s e',
	copied => 'SELECT id, s FROM %s e WHERE k = 1',
	typed => q{SELECT k, millrace.last(l::level, id) AS level, millrace.set_agg(l::level) AS levels
		FROM (SELECT k, id, CASE WHEN id % 3 = 0 THEN 'low' ELSE 'high' END AS l FROM %s e) i GROUP BY k},
	told => 'SELECT k, s, count(*) AS n, min(v) AS least FROM %s e GROUP BY k, s HAVING count(*) > 2',
	'odd."A View"' => 'SELECT k, count(*) AS n, sum(id) AS ids FROM
		(SELECT k, id FROM %s c UNION ALL SELECT k, id FROM %s v) u GROUP BY k');
# a transform, and its target
my $sunk = 'SELECT id, s FROM %s e WHERE k = 2';
my %settings = (
	told => q{, changes => true},
	sliding => q{, sliding_window => '1 day'},
	kept => q{, retention => '100 years', retention_column => 'day'});

sub sql
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

sub send_more
{
	my ($more) = @_;
	produce($topic, $_ % 2, event($_)) foreach $n + 1 .. $n + $more;
	$n += $more;
}

# All views are exactly what the topics hold.
sub all_exact
{
	my ($where, $what, $database, $to) = @_;
	foreach my $view (sort keys %query)
	{
		wait_latest($where, $view, undef, $database) unless defined $to;
		my ($first, $second) = (events($to // $n), events($visits));
		my $oracle = $query{$view} =~ s/%s/$first/r =~ s/%s/$second/r;
		is_same($where, $view, $oracle, "$what: $view", $database);
		is_told($where, $view, "$what: its changes", $database) if $view eq 'told';
	}
	wait_latest($where, 'sunk', undef, $database) unless defined $to;
	is_same($where, '(SELECT id, s FROM sunk_rows) r', sprintf($sunk, events($to // $n)), "$what: a transform", $database);
}

sub dump_database
{
	my ($name, @options) = @_;
	system_or_bail('pg_dump', '-d', $node->connstr('postgres'), '-Fc', '-f', "$dir/$name", @options);
}

# A restore must not say a word.
sub restore
{
	my ($where, $name, $database, @options) = @_;
	my ($out, $err);
	$where->safe_psql('postgres', qq{CREATE DATABASE $database});
	my $ok = IPC::Run::run([ 'pg_restore', '-d', $where->connstr($database), @options, "$dir/$name" ],
		'<', \undef, '>', \$out, '2>', \$err);
	ok($ok && $err eq '', "$name is restored into $database") or diag $err;
}

sub is_paused
{
	my ($where, $database, $what) = @_;
	is($where->safe_psql($database, q{SELECT DISTINCT state, last_error FROM millrace.views}),
		'paused|the database was restored or copied; millrace.activate() starts ingest here', "$what is paused");
	is($where->safe_psql($database, q{SELECT DISTINCT state, last_error FROM millrace.streams}),
		'paused|the database was restored or copied; millrace.activate() starts ingest here', 'so are its streams');
	my ($rc, $out, $err) = $where->psql($database, q{SELECT millrace.wait_for_latest('per_k', '60s')});
	like($err, qr/is not active.*restored or copied.*activate/s, 'nobody waits for it');
}

sub schema_of
{
	my ($where, $database) = @_;
	my ($out, $err);
	IPC::Run::run([ 'pg_dump', '-s', '-d', $where->connstr($database) ], '<', \undef, '>', \$out, '2>', \$err)
	  or die $err;
	$out =~ s/^\\(un)?restrict .*$//mg;
	return $out;
}

sql(q{CREATE TYPE level AS ENUM ('low', 'high')});
sql('CREATE SCHEMA odd; CREATE ROLE keeper; CREATE ROLE reader; GRANT ALL ON SCHEMA odd TO keeper;
	GRANT SELECT ON clicks, visits TO keeper');
foreach my $view (sort keys %query)
{
	my $role = $view =~ /^odd/ ? 'SET ROLE keeper;' : '';
	sql(qq{$role SELECT millrace.create_continuous_view('$view', \$\$@{[$query{$view} =~ s/%s/clicks/r =~ s/%s/visits/r]}\$\$
		@{[$settings{$view} // '']})});
}
sql(qq{CREATE TABLE sunk_rows (nr bigserial, id bigint UNIQUE, s text);
	SELECT millrace.create_continuous_transform('sunk', \$\$@{[sprintf $sunk, 'clicks']}\$\$, 'sunk_rows')});
sql('GRANT SELECT ON per_k TO reader; CREATE VIEW above AS SELECT sum(n) AS n FROM per_k');
send_more(300);
produce($other_topic, 0, map { event($_) } 1 .. $visits);
# what some views do not read is to be junk for all
wait_for($node, q{SELECT bool_and(state = 'running') FROM millrace.views});
produce($topic, 0, '{"id": "bad"}');
all_exact($node, 'the original');

# --- dump and restore ---------------------------------------------------------

dump_database('whole');
my $dumped = $n;
send_more(100);
all_exact($node, 'more in the original');
restore($node, 'whole', 'restored');
is_paused($node, 'restored', 'a restored database');
my ($rc, $out, $err) = $node->psql('restored', 'DROP TABLE sunk_rows');
like($err, qr/view sunk depends on table sunk_rows/, 'the target of a transform is kept');
($rc, $out, $err) = $node->psql('restored', 'DROP TABLE per_k_mrel CASCADE');
like($err, qr/per_k_mrel.* because .*view per_k requires it/, 'a part belongs to its view');
($rc, $out, $err) = $node->psql('restored', q{SET client_min_messages = warning; BEGIN; DROP VIEW above; DROP TABLE sunk_rows CASCADE; DROP FOREIGN TABLE clicks, visits CASCADE;
	SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace OR relname LIKE '%A View%'; ROLLBACK});
is("$rc: $out $err", '0: 0 ', 'all can be dropped as if nothing had been restored') or diag $err;
all_exact($node, 'it shows what was dumped', 'restored', $dumped);
sql(q{SELECT millrace.activate('per_k')}, 'restored');
wait_latest($node, 'per_k', undef, 'restored');
is_same($node, 'per_k', sprintf($query{per_k}, events($n)), 'one view is activated', 'restored');
is(sql(q{SELECT view, state FROM millrace.views WHERE state <> 'running' ORDER BY view::text}, 'restored'),
	join("\n", map { "$_|paused" } grep { $_ ne 'per_k' } sort(keys %query, 'sunk')), 'the others are still paused');
sql(q{SELECT millrace.create_continuous_view('young', 'SELECT count(*) AS n FROM clicks')}, 'restored');
wait_latest($node, 'young', undef, 'restored');
is(sql('SELECT n FROM young', 'restored'), $n, 'a new view runs at once');
sql(q{DROP VIEW young; SELECT millrace.activate('clicks'); SELECT millrace.activate('visits')}, 'restored');
all_exact($node, 'all are activated', 'restored');
is(schema_of($node, 'restored'), schema_of($node, 'postgres'), 'a dump of it is the same');
wait_for($node, q{SELECT count(*) = 2 FROM millrace.feed}, 't', 'restored');
send_more(100);
all_exact($node, 'and go on', 'restored');
all_exact($node, 'as does the original');
is(sql('SELECT n FROM above', 'restored'), $n, 'views on views, too');
is(sql('SELECT count(*) FROM millrace.dead_letters', 'restored'), '1', 'no dead letter is there twice');
produce($topic, 0, '{"id": "worse"}');
wait_for($node, q{SELECT count(*) = 2 AND count(DISTINCT id) = 2 FROM millrace.dead_letters}, 't', 'restored');
pass('sequences go on');
($rc, $out, $err) = $node->psql('restored', 'DROP TABLE per_k_mrel');
like($err, qr/per_k/, 'parts belong to their views again');
($rc, $out, $err) = $node->psql('restored', 'DROP TABLE sunk_rows');
like($err, qr/view sunk depends on table sunk_rows/, 'and transforms to their targets');
sql('DROP VIEW above; DROP VIEW per_k, in_all, copied, sliding, kept, told, typed; DROP TABLE sunk_rows CASCADE; DROP SCHEMA odd CASCADE; DROP FOREIGN TABLE clicks, visits', 'restored');
is(sql(q{SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace}, 'restored'), '0', 'nothing is left of what is dropped');
is(sql(q{SELECT count(*) FROM millrace.feed}, 'restored'), '0', 'nor of its feeds');
sql('DROP DATABASE restored');

# in the middle of a rebuild
my $hold = $node->background_psql('postgres');
$hold->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;');
sql(q{SELECT millrace.rebuild('per_k')});
send_more(50);
wait_latest($node, 'in_all');
dump_database('rebuilding');
$hold->query_safe('COMMIT;');
$hold->quit;
restore($node, 'rebuilding', 'rebuilding', '-j', '2');
is_paused($node, 'rebuilding', 'a dump in the middle of a rebuild');
is(sql(q{SELECT rebuild FROM millrace.views WHERE view = 'per_k'::regclass}, 'rebuilding'), 'paused', 'which is paused');
sql(q{SELECT millrace.activate('clicks'); SELECT millrace.activate('visits')}, 'rebuilding');
all_exact($node, 'it is rebuilt', 'rebuilding');
is(sql(q{SELECT count(*) FROM millrace.continuous_view WHERE rebuilds IS NOT NULL}, 'rebuilding'), '0', 'to the end');
sql('DROP DATABASE rebuilding');

# into the same database, which is not the same after it
restore($node, 'rebuilding', 'same');
sql(q{SELECT millrace.activate('clicks'); SELECT millrace.activate('visits')}, 'same');
all_exact($node, 'a database', 'same');
system_or_bail('pg_dump', '-d', $node->connstr('same'), '-Fc', '-f', "$dir/same");
{
	my ($out, $err);
	my $ok = IPC::Run::run([ 'pg_restore', '--clean', '--if-exists', '-1', '-d', $node->connstr('same'), "$dir/same" ],
		'<', \undef, '>', \$out, '2>', \$err);
	ok(!$ok, 'over a database that has views');
	like($err, qr/cannot replace "\S.*" because continuous view ".*" requires it\nHINT:  .*empty database.*DROP EXTENSION millrace CASCADE/,
		'nothing is restored, which it says');
	all_exact($node, 'and nothing is changed', 'same');
	sql('DROP SCHEMA odd CASCADE; DROP EXTENSION millrace CASCADE; DROP SCHEMA millrace; DROP TABLE sunk_rows; DROP TYPE level', 'same');
	IPC::Run::run([ 'pg_restore', '-d', $node->connstr('same'), "$dir/same" ], '<', \undef, '>', \$out, '2>', \$err);
	is($err, '', 'is restored in its own place');
}
send_more(50);
is_paused($node, 'same', 'it');
all_exact($node, 'it stands still', 'same', $n - 50);
sql(q{SELECT millrace.activate('clicks'); SELECT millrace.activate('visits')}, 'same');
all_exact($node, 'it is activated', 'same');
sql('DROP DATABASE same');

# the definitions alone
dump_database('schema', '-s');
restore($node, 'schema', 'hollow');
is(sql(q{SELECT (SELECT count(*) FROM millrace.views), (SELECT count(*) FROM per_k)}, 'hollow'), '0|0',
	'a schema without data has no continuous views');
sql('DROP DATABASE hollow');

# another cluster, as nobody in particular
my $elsewhere = new_node('elsewhere', extension => 0);
$elsewhere->safe_psql('postgres', 'CREATE ROLE keeper; CREATE ROLE reader; CREATE ROLE plain LOGIN;
	CREATE DATABASE plain OWNER plain');
restore($elsewhere, 'whole', 'elsewhere');
is_paused($elsewhere, 'elsewhere', 'another cluster');
is($elsewhere->safe_psql('elsewhere', q{SELECT count(*) FROM millrace.workers}), '0', 'no worker');
$elsewhere->safe_psql('elsewhere', q{SELECT millrace.activate('clicks'); SELECT millrace.activate('visits')});
all_exact($elsewhere, 'activated there', 'elsewhere');
IPC::Run::run([ 'pg_restore', '-d', $elsewhere->connstr('plain') . ' user=plain', "$dir/whole" ],
	'<', \undef, '>', \$out, '2>', \$err);
like($err, qr/permission denied to create extension "millrace"/, 'who is no superuser is told so');
$elsewhere->stop;

# States that hold hashes of values of a type which has another OID after the restore, as the values have.
sql('CREATE DATABASE moody');
create_server($node, 'moody');
create_stream($node, 'clicks', event_columns(), topic => $topic, database => 'moody');
my $moods = q{SELECT k, millrace.approx_count_distinct((CASE WHEN id % 2 = 0 THEN 'happy' ELSE 'sad' END)::mood) AS moods FROM %s e GROUP BY k};
sql(q{CREATE TYPE mood AS ENUM ('sad', 'happy'); SELECT millrace.create_continuous_view('moods', $$} . $moods =~ s/%s/clicks/r . '$$)', 'moody');
wait_latest($node, 'moods', undef, 'moody');
system_or_bail('pg_dump', '-d', $node->connstr('moody'), '-Fc', '-f', "$dir/moody");
restore($node, 'moody', 'moodier');
($rc, $out, $err) = $node->psql('moodier', 'TABLE moods');
like($err, qr/value is not a state of aggregate millrace.approx_count_distinct.*HINT:.*millrace.rebuild\(\)/s, 'states of another type are not read');
sql(q{SELECT millrace.rebuild('moods')}, 'moodier');
wait_latest($node, 'moods', undef, 'moodier');
my $events = events($n);
is_same($node, 'moods', $moods =~ s/%s/$events/r, 'but computed anew', 'moodier');
sql("DROP DATABASE $_") foreach 'moody', 'moodier';

# --- a template ---------------------------------------------------------------

# of the very database that the session is in
sql('CREATE DATABASE twin TEMPLATE postgres');
send_more(50);
is_paused($node, 'twin', 'a copy of a template');
all_exact($node, 'it stands still', 'twin', $n - 50);
all_exact($node, 'the template does not');
sql(q{SELECT millrace.rebuild('per_k')}, 'twin');
wait_latest($node, 'per_k', undef, 'twin');
is_same($node, 'per_k', sprintf($query{per_k}, events($n)), 'rebuild() is a word, too', 'twin');
sql(q{SELECT millrace.activate('clicks'); SELECT millrace.activate('visits')}, 'twin');
all_exact($node, 'activated', 'twin');
sql('DROP DATABASE twin');

# --- a point in time ----------------------------------------------------------

$node->backup('base');
my $load = start_traffic($topic, partitions => 2, from => $n + 1);
$load->wait_more(500);
my $past = sql('SELECT sum(n) FROM per_k');
sql(q{SELECT pg_create_restore_point('here')});
$load->wait_more(500);
sql('SELECT pg_switch_wal()');
my $restored = PostgreSQL::Test::Cluster->new('pitr');
$restored->init_from_backup($node, 'base', has_restoring => 1, standby => 0);
$restored->append_conf('postgresql.conf', "recovery_target_name = 'here'\nrecovery_target_action = 'promote'\n");
$restored->start;
wait_for($restored, 'SELECT NOT pg_is_in_recovery()');
cmp_ok($restored->safe_psql('postgres', 'SELECT sum(n) FROM per_k'), '>=', $past, 'restored to a point in time');
$n = $load->stop;
all_exact($restored, 'it goes on from its own offsets');
all_exact($node, 'beside the original');
$restored->stop;

# --- a standby that is behind -------------------------------------------------

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

# a transform into a stream, of which the standby knows less than the broker
create_stream($node, 'echoes', 'id bigint, k integer', partitions => 2);
my $echo = 'SELECT id, k FROM %s e WHERE k <> 0';
sql(qq{SELECT millrace.create_continuous_transform('echo', \$\$@{[sprintf $echo, 'clicks']}\$\$, 'echoes')});
$load = start_traffic($topic, partitions => 2, from => $n + 1);
$load->wait_more(300);
wait_for($standby, "SELECT sum(n) > $n + 200 FROM per_k");
$standby->stop('immediate');
my $sent = $load->sent;
$load->wait_more(500);
wait_for($node, "SELECT sum(n) > $n + $sent + 300 FROM per_k");
wait_for($node, "SELECT max(id) > $n + $sent + 300 FROM echoes");
kill_server($node);
$load->wait_more(100);
$standby->start;
my $shown = $standby->safe_psql('postgres', 'SELECT sum(n) FROM per_k');
cmp_ok($shown, '<=', $n + $sent + 300, 'the standby is behind the old primary');
$standby->promote;
$load->wait_more(300);
$n = $load->stop;
all_exact($standby, 'promoted, it has lost nothing and takes nothing twice');
wait_latest($standby, 'echo');
wait_for($standby, sprintf 'SELECT (SELECT count(*) FROM echoes) >= (SELECT count(*) FROM %s e WHERE k <> 0)', events($n));
is_same($standby, '(SELECT id, k FROM echoes) r', sprintf($echo, events($n)), 'nor does it produce twice what the old primary has produced');
wait_for($standby, q{SELECT bool_and(state = 'running') FROM millrace.views});
pass('and nobody had to tell it');

done_testing();
