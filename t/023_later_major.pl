# pg_upgrade to a later major version: views of all kinds, transforms, attached
# tables, changes, dead letters, gaps and a rebuild under way.  Where they read topics
# they are paused after it, and go on exactly when they are activated; what follows
# tables goes on by itself.  Needs an older server's programs, with millrace.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old_bindir = $ENV{MILLRACE_OLD_BINDIR};
plan skip_all => 'an older PostgreSQL with millrace is needed: scripts/matrix.sh has one, or its programs are in MILLRACE_OLD_BINDIR'
  unless $old_bindir;

my $paused = 'paused|the database was restored or copied; millrace.activate() starts ingest here';
my @conf = (conf => "millrace.retry_max_interval = 500ms\n", init => [ extra => ['--data-checksums'] ]);
my $old = new_node('old', @conf, install_path => $old_bindir =~ s{/bin/?$}{}r);
my ($new_bindir) = run_command([ 'pg_config', '--bindir' ]);
my $new = new_node('new', @conf, extension => 0, start => 0);
my $node = $old;
my $old_major = int($old->safe_psql('postgres', 'SHOW server_version_num') / 10000);
my $topic = create_stream($old, 'clicks', event_columns(), partitions => 2);
my $visits = create_stream($old, 'visits', event_columns());
my $lossy = create_stream($old, 'lossy', event_columns(), options => { on_gap => 'earliest' });
my $copies = create_stream($old, 'copies', 'id bigint, doubled numeric');
my $n = 0;

sub sql { return $node->safe_psql('postgres', $_[0]) }

my %query = (
	per_k => 'SELECT k, s, count(*) AS n, avg(v) AS mean, max(id) AS last FROM %s e GROUP BY k, s',
	states => q{SELECT k, sum(id) AS ids, avg(id) AS mid, sum(v) AS v, stddev(v) AS deviation, var_pop(id) AS variance, avg(id::integer) AS i4,
		avg(id::smallint) AS i2, sum(v::float8) AS f8, avg(v::float4) AS f4, regr_count(v::float8, k::float8) AS pairs, bool_and(id > 3) AS yes,
		bit_xor(id) AS bits, min(s) AS least, max((DATE '2024-01-01' + k)) AS day FROM %s e GROUP BY k},
	in_all => 'SELECT count(*) AS n, sum(id) AS ids, avg(v) FILTER (WHERE k = 3) AS mean FROM %s e',
	lists => q{SELECT k, count(DISTINCT s) AS d, array_agg(DISTINCT s) AS ds, array_agg(id ORDER BY id) AS ids, sorted(array_agg(v)) AS vs,
		string_agg(s, ',' ORDER BY id) AS so, sorted(string_to_array(string_agg(s, ','), ',')) AS ss, jsonb_agg(id ORDER BY id) AS j,
		percentile_cont(0.5) WITHIN GROUP (ORDER BY v::float8) AS median, mode() WITHIN GROUP (ORDER BY s) AS mode,
		rank(50) WITHIN GROUP (ORDER BY id) AS r, sorted(array_agg(DISTINCT mood_of(k))) AS moods FROM %s e GROUP BY k},
	own => q{SELECT k, millrace.first(s, id) AS f, millrace.last(v, id) AS l, millrace.set_agg(s) AS set, millrace.count_distinct(s) AS d,
		millrace.last(id, id, 3) AS l3, millrace.last(mood_of(k + 1), id) AS mood, millrace.jsonb_object_agg(s, to_jsonb(id), id) AS o FROM %s e GROUP BY k},
	sketches => q{SELECT k, millrace.approx_count_distinct(id) AS d, millrace.approx_percentile(v::float8, 0.9) AS p,
		millrace.topk(k, 3) AS t, millrace.hll_cardinality(millrace.hll_agg(s)) AS h, millrace.dist_quantile(millrace.dist_agg(v::float8), 0.5) AS q,
		millrace.cmsketch_frequency(millrace.cmsketch_agg(s), 's3'::text) AS f, millrace.bloom_contains(millrace.bloom_agg(s), 's5'::text) AS b
		FROM %s e GROUP BY k},
	totals => 'SELECT k, s, GROUPING(k, s) AS g, count(*) AS n, avg(v) AS mean FROM %s e GROUP BY CUBE (k, s)',
	latest => 'SELECT DISTINCT ON (k) k, id, s FROM %s e ORDER BY k, id DESC',
	sliding => 'SELECT k, count(*) AS n, avg(v) AS mean FROM %s e GROUP BY k',
	kept => q{SELECT timestamptz '2024-01-01 00:00+00' + k * interval '1 day' AS day, count(*) AS n FROM %s e GROUP BY 1},
	told => 'SELECT k, s, count(*) AS n, min(v) AS least FROM %s e GROUP BY k, s HAVING count(*) > 2',
	copied => 'SELECT id, s FROM %s e WHERE k = 1',
	joined => 'SELECT owner, sum(id / factor) AS n FROM %s e JOIN hosts h USING (k) GROUP BY owner',
	'odd."A View"' => 'SELECT k, count(*) AS n, sum(id) AS ids FROM (SELECT k, id FROM %s c UNION ALL SELECT k, id FROM visits v) u GROUP BY k');
my %options = (
	sliding => q{, sliding_window => '1 day'},
	kept => q{, retention => '100 years', retention_column => 'day'},
	told => q{, changes => true});
my $told = 'SELECT (coalesce(new, old)).k, sum(coalesce((new).n, 0) - coalesce((old).n, 0)) AS n FROM told_changes GROUP BY 1';
my $orders = 'SELECT customer, count(*) AS n, avg(amount) AS mean, millrace.last(amount, id) AS last FROM orders GROUP BY customer';

sub send_more
{
	my ($more) = @_;
	produce($topic, $_ % 2, event($_)) foreach $n + 1 .. $n + $more;
	$n += $more;
}

# What the views show; "joined" lacks the messages of k = 5 until they are replayed.
sub shows_all
{
	my ($what, $joined) = @_;
	foreach my $view (sort keys %query)
	{
		my $events = events($n);
		$events = "(SELECT * FROM $events e WHERE k <> 5)" if $view eq 'joined' && !$joined;
		is_same($node, $view, $query{$view} =~ s/%s/$events/r, "$what: $view");
	}
	is_told($node, 'told', "$what: its changes");
	is_same($node, 'from_changes', $told, "$what: a view of changes");
	is_same($node, 'per_customer', $orders, "$what: a view of a table");
	is_same($node, 'written', sprintf('SELECT id, s FROM %s e WHERE k = 2', events($n)), "$what: a transform into a table");
	is_same($node, 'landed', sprintf('SELECT id, v * 2 AS doubled FROM %s e WHERE k = 4', events($n)), "$what: a transform into a stream");
	is_same($node, 'above', sprintf('SELECT k, avg(v) AS mean FROM %s e GROUP BY k', events($n)), "$what: combined further");
}

sub all_exact
{
	my ($what, $joined) = @_;
	wait_latest($node, $_) foreach sort keys %query;
	wait_latest($node, $_) foreach 'copy', 'landed', 'write';
	shows_all($what, $joined);
}

# --- the old server -------------------------------------------------------------

sql(q{CREATE SCHEMA odd; CREATE ROLE keeper; GRANT ALL ON SCHEMA odd TO keeper; GRANT SELECT ON clicks, visits TO keeper;
	CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
	CREATE FUNCTION mood_of(integer) RETURNS mood LANGUAGE sql IMMUTABLE AS $$ SELECT (enum_range(NULL::mood))[$1 % 3 + 1] $$;
	CREATE FUNCTION sorted(anyarray) RETURNS anyarray LANGUAGE sql IMMUTABLE AS $$ SELECT array_agg(x ORDER BY x) FROM unnest($1) x $$;
	CREATE TABLE hosts (k integer PRIMARY KEY, owner text, factor integer);
	INSERT INTO hosts SELECT k, 'o' || k % 3, CASE WHEN k = 5 THEN 0 ELSE 1 END FROM generate_series(0, 6) k;
	CREATE TABLE orders (id serial, customer integer, amount numeric);
	SELECT millrace.attach_table('orders')});
produce($visits, 0, map { event($_) } 1 .. 50);
send_more(300);
foreach my $view (sort keys %query)
{
	my $role = $view =~ /^odd/ ? 'SET ROLE keeper;' : '';
	sql(qq{SET millrace.allow_growing_states = on; $role SELECT millrace.create_continuous_view('$view',
		\$\$@{[$query{$view} =~ s/%s/clicks/r]}\$\$@{[$options{$view} // '']})});
}
sql(qq{SELECT millrace.attach_table('told_changes');
	SELECT millrace.create_continuous_view('from_changes', \$\$$told\$\$);
	SELECT millrace.create_continuous_view('per_customer', \$\$$orders\$\$);
	INSERT INTO orders (customer, amount) SELECT i % 5, i FROM generate_series(1, 100) i;
	CREATE TABLE written (nr bigserial, id bigint UNIQUE, s text);
	SELECT millrace.create_continuous_transform('write', 'SELECT id, s FROM clicks WHERE k = 2', 'written');
	SELECT millrace.create_continuous_transform('copy', 'SELECT id, v * 2 AS doubled FROM clicks WHERE k = 4', 'copies');
	SELECT millrace.create_continuous_view('landed', 'SELECT id, doubled FROM copies');
	ALTER TABLE written DROP COLUMN nr;
	CREATE VIEW above AS SELECT k, millrace.combine(mean) AS mean FROM per_k GROUP BY k});
# its states are others from PostgreSQL 17 on
sql(q{SELECT millrace.create_continuous_view('intervals', $$ SELECT k, avg(id * interval '1 s') AS mean FROM clicks GROUP BY k $$);
	SELECT millrace.create_continuous_view('lost', 'SELECT count(*) AS n FROM lossy')});
produce($topic, 0, '{"id": "bad"}');
produce($lossy, 0, map { event($_) } 1 .. 100);
wait_latest($node, 'lost');
sql(q{SELECT millrace.deactivate('lossy')});
produce($lossy, 0, map { event($_) } 101 .. 200);
client()->command('truncate', $lossy, 0, 150);
sql(q{SELECT millrace.activate('lossy')});
send_more(100);
all_exact('the old server');
wait_latest($node, $_) foreach 'lost', 'intervals';
is(sql(q{SELECT sum(n) FROM lost}), '150', 'there is a gap');
my $facts = q{SELECT 'gap', stream::text, partition::text, from_offset::text, to_offset::text FROM millrace.gaps
	UNION ALL SELECT 'dead letter', coalesce(view::text, 'no view'), partition::text, message_offset::text, encode(value, 'escape') FROM millrace.dead_letters
	UNION ALL SELECT 'view', view::text, stream::text, kind, query FROM millrace.views
	UNION ALL SELECT 'position', view::text, stream::text, partition::text, next_offset::text FROM millrace.partitions WHERE next_offset IS NOT NULL
	ORDER BY 1, 2, 3, 4, 5};
my $before = sql($facts);
# A rebuild that has only begun.
$old->append_conf('postgresql.conf', "millrace.enabled = off\n");
$old->reload;
wait_for($old, q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type LIKE 'millrace worker%')});
sql(q{SELECT millrace.rebuild('states')});
# Some minor releases mark each column with an option of their own, which others cannot restore.
my $marks = q{CREATE TEMPORARY TABLE t (a integer); SELECT attoptions IS NOT NULL FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'a'};
$new->start;
sql(q{SET allow_system_table_mods = on; UPDATE pg_attribute SET attoptions = NULL WHERE attoptions IS NOT NULL})
  if sql($marks) eq 't' && $new->safe_psql('postgres', $marks) eq 'f';
$new->stop;
$old->stop;

# --- pg_upgrade -----------------------------------------------------------------

chdir $PostgreSQL::Test::Utils::tmp_check or die;
command_ok([ 'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $old_bindir, '-B', $new_bindir,
	'-s', $new->host, '-p', $old->port, '-P', $new->port ], 'pg_upgrade');
chdir $ENV{PWD};
$new->start;
$node = $new;
my $new_major = int(sql('SHOW server_version_num') / 10000);
cmp_ok($new_major, '>', $old_major, 'the server is a later one');
is(sql(q{SELECT DISTINCT state, last_error FROM millrace.views v WHERE view NOT IN ('from_changes'::regclass, 'per_customer'::regclass)}),
	$paused, 'all that reads topics is paused');
is(sql(q{SELECT view, state FROM millrace.views WHERE view IN ('from_changes'::regclass, 'per_customer'::regclass) ORDER BY 1::text}),
	"from_changes|running\nper_customer|running", 'what follows tables is not');
is(sql($facts), $before, 'positions, dead letters and gaps are kept');
is(sql(q{SELECT rebuild FROM millrace.views WHERE view = 'states'::regclass}), 'paused', 'so is a rebuild');
shows_all('as it was');
sql('INSERT INTO orders (customer, amount) SELECT i % 6, i FROM generate_series(1, 100) i');
is_same($node, 'per_customer', $orders, 'a table is followed at once');
send_more(50);
my ($rc, $out, $err) = $node->psql('postgres', q{SELECT millrace.wait_for_latest('per_k', '60s')});
like($err, qr/is not active.*restored or copied.*activate/s, 'nobody waits for what is paused');
is(sql('SELECT sum(n) FROM per_k'), $n - 50, 'nor does it go on');

# --- activated ------------------------------------------------------------------

sql(qq{SELECT millrace.activate('$_')}) foreach 'clicks', 'visits', 'lossy', 'copies';
all_exact('activated');
is(sql(q{SELECT rebuild IS NULL, state FROM millrace.views WHERE view = 'states'::regclass}), 't|running', 'the rebuild has ended');
is(sql('SELECT count(*), count(DISTINCT id) FROM copies'), join('|', (scalar grep { $_ % 7 == 4 } 1 .. $n) x 2),
	'each message is produced once');
sql('UPDATE hosts SET factor = 1');
sql(q{SELECT millrace.replay('clicks')});
all_exact('replayed', 1);
is(sql(q{SELECT count(*) FROM millrace.dead_letters}), '1', 'what cannot be decoded stays');

# States that this version has no use for: said, and nobody else is held up.
if ($old_major < 17 && $new_major >= 17)
{
	wait_state($node, 'view', 'intervals', 'failed');
	like(sql(q{SELECT last_error FROM millrace.views WHERE view = 'intervals'::regclass}), qr/columns of table "intervals_mrel" do not fit/,
		'states of another kind are an error');
	($rc, $out, $err) = $node->psql('postgres', 'TABLE intervals');
	like($err, qr/state of aggregate avg\(interval\) is of type millrace.state, not interval\[\].*HINT:.*create/s, 'to readers as well');
	($rc, $out, $err) = $node->psql('postgres', q{SELECT millrace.rebuild('intervals')});
	like($err, qr/do not fit.*HINT:.*Drop the continuous view and create it again/s, 'and what is left to do is said');
	sql(q{DROP VIEW intervals; SELECT millrace.create_continuous_view('intervals', $$ SELECT k, avg(id * interval '1 s') AS mean FROM clicks GROUP BY k $$)});
}
wait_latest($node, 'intervals');
is_same($node, 'intervals', sprintf(q{SELECT k, avg(id * interval '1 s') AS mean FROM %s e GROUP BY k}, events($n)), 'which helps');

# --- rebuilt, and more of everything ------------------------------------------------

sql(qq{SELECT millrace.rebuild('$_')}) foreach grep { $_ ne 'joined' } sort keys %query;
sql(q{SELECT millrace.rebuild('per_customer')});
send_more(50);
sql('INSERT INTO orders (customer, amount) VALUES (7, 7)');
all_exact('rebuilt', 1);
sql(q{SELECT millrace.create_continuous_view('young', 'SELECT count(*) AS n FROM clicks')});
wait_latest($node, 'young');
is(sql('SELECT n FROM young'), $n, 'a new view');
sql('DROP VIEW above, young, intervals, lost, landed, from_changes, per_customer');
sql(qq{DROP VIEW $_}) foreach sort keys %query, 'copy', 'write';
is(sql(q{SELECT count(*) FROM pg_class WHERE relname ~ '_(mrel|def|changes)$' AND relnamespace <> 'millrace'::regnamespace}), '0', 'nothing is left of what is dropped');
wait_for($node, 'SELECT count(*) = 0 FROM millrace.feed');
unlike(slurp_file($node->logfile), qr/PANIC|cache lookup failed|server process .* was terminated/, 'the log is quiet');

done_testing();
