# Aggregating without the executor's Agg node gives what the Agg node gives: keys of all
# kinds, transition functions of all kinds, groups that do not fit into memory, and
# lookups in the matrel's index that walk, descend, and meet NULLs.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $columns = q{id bigint, i integer, s smallint, b boolean, t text, v varchar(5), c char(4), n numeric, f float8,
	r real, d date, ts timestamp, tz timestamptz, iv interval, u uuid, j jsonb, a integer[], ct text COLLATE "C"};
my $node = new_node('main');
$node->safe_psql('postgres', qq{
	CREATE TABLE events ($columns);
	CREATE TABLE names (i integer, name text);
	INSERT INTO names SELECT k, repeat('name ', k) || k FROM generate_series(0, 40) k;
	CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
	CREATE DOMAIN whole AS bigint CHECK (VALUE >= 0);
	CREATE DOMAIN word AS text CHECK (VALUE <> 'k99');
	CREATE FUNCTION keep_max(anyelement, anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE STRICT
		AS 'SELECT CASE WHEN \$1 > \$2 THEN \$1 ELSE \$2 END';
	CREATE AGGREGATE largest(anyelement) (SFUNC = keep_max, STYPE = anyelement, COMBINEFUNC = keep_max);
	CREATE FUNCTION null_at_seven(integer, integer) RETURNS integer LANGUAGE sql IMMUTABLE STRICT
		AS 'SELECT nullif(\$1 + \$2, 7)';
	CREATE AGGREGATE until_seven(integer) (SFUNC = null_at_seven, STYPE = integer, INITCOND = '0',
		COMBINEFUNC = null_at_seven);});

# What a message holds, many fields missing now and then; id n from generate_series.
sub event_rows
{
	my ($from, $to) = @_;
	return qq{SELECT n AS id, nullif(n % 41, 40)::int AS i, (n % 7)::smallint AS s, n % 3 = 0 AS b,
		nullif('k' || n % 13, 'k5') AS t, left('abc' || n % 11, 5)::varchar(5) AS v, ('c' || n % 5)::char(4) AS c,
		(n % 9)::numeric / 4 AS n, CASE n % 10 WHEN 0 THEN '-0' WHEN 1 THEN 'NaN' WHEN 2 THEN '0' ELSE (n % 4)::text END::float8 AS f,
		(n % 6)::real / 2 AS r, date '2024-02-27' + (n % 6)::int AS d, timestamp '2024-03-31 00:30' + n * interval '11 s' AS ts,
		timestamptz '2024-03-31 00:30+00' + n * interval '700 ms' AS tz, (n % 3) * interval '1 day' AS iv,
		md5((n % 17)::text)::uuid AS u, jsonb_build_object('x', n % 3) AS j, ARRAY[n % 2, n % 3]::int[] AS a,
		CASE n % 3 WHEN 0 THEN 'Abc' WHEN 1 THEN 'abc' ELSE 'xyz' END AS ct
		FROM generate_series($from, $to) n};
}

my %queries = (
	integers => 'SELECT i, s, b, count(*) AS n, count(t) AS nt, sum(i) AS si, sum(s) AS ss, sum(id) AS sid, avg(i) AS ai, avg(id) AS aid FROM %s GROUP BY i, s, b',
	texts => 'SELECT t, v, ct, count(*) AS n, min(t) AS lo, max(v) AS hi, sum(n) AS sn, avg(n) AS an, stddev(n) AS dn FROM %s GROUP BY t, v, ct',
	by_function => 'SELECT c, n, iv, count(*) AS n1, bool_and(b) AS ba, every(b) AS eb, bit_or(i) AS bo FROM %s GROUP BY c, n, iv',
	domains => 'SELECT (id %% 97)::whole AS w, t::word AS wd, i::money AS m, count(*) AS n, max(id) AS last FROM %s GROUP BY 1, 2, 3',
	floats => 'SELECT f, count(*) AS n, min(r) AS lo, max(r) AS hi, sum(r) AS sr FROM %s GROUP BY f',
	others => 'SELECT u, j, a, d, count(*) AS n, max(ts) AS last, min(tz) AS first FROM %s GROUP BY u, j, a, d',
	folded => 'SELECT lower(ct) COLLATE nocase AS k, count(*) AS n FROM %s GROUP BY 1',
	unhashable => 'SELECT money_of(i) AS m, count(*) AS n FROM %s GROUP BY 1',
	by_time => q{SELECT date_trunc('minute', ts) AS m, date_trunc('day', tz) AS day, date_trunc('millisecond', tz) AS ms, count(*) AS n FROM %s GROUP BY 1, 2, 3},
	before_epoch => q{SELECT date_trunc('second', ts - interval '60 years' + interval '0.3 s') AS m, count(*) AS n FROM %s GROUP BY 1},
	filtered => q{SELECT i, count(*) FILTER (WHERE b) AS nb, sum(f) FILTER (WHERE f > 1 AND f < 10) AS sf, max(length(t) + i) AS e FROM %s WHERE s > 1 OR t IS NULL GROUP BY i},
	rare => q{SELECT t, count(*) AS n FROM %s WHERE id %% 997 = 0 GROUP BY t},
	in_all => 'SELECT count(*) AS n, sum(i) AS si, max(t) AS hi, avg(n) AS an, largest(id) AS big FROM %s',
	none => 'SELECT count(*) AS n, sum(i) AS si, max(t) AS hi FROM %s WHERE i > 1000',
	distinct_only => 'SELECT DISTINCT i, t FROM %s',
	own => 'SELECT s, largest(t) AS lt, largest(i) AS li, largest(tz) AS lz FROM %s GROUP BY s',
	keeping => 'SELECT s, millrace.first(t, id) AS f, millrace.last(n, tz) AS l, millrace.count_distinct(i) AS ci, millrace.count_distinct(n) AS cn, millrace.set_agg(t) AS st, millrace.string_agg(v, $q$,$q$, id) AS v, millrace.last(id, r, 3) AS l3 FROM %s GROUP BY s',
	keeping_many => 'SELECT id %% 5000 AS k, millrace.array_agg(t, id) AS a, millrace.count_distinct(ct) AS c, millrace.max_by(t, f) AS m FROM %s GROUP BY 1',
	sketches => 'SELECT s, millrace.hll_agg(id)::text AS h, millrace.approx_count_distinct(t) AS c, millrace.dist_agg(f)::text AS d, millrace.cmsketch_agg(i)::text AS m, millrace.bloom_agg(i, 0.1, 100)::text AS b, millrace.topk(i, 5) AS k FROM %s GROUP BY s',
	sketches_many => 'SELECT id %% 5000 AS k, millrace.hll_agg(i)::text AS h, millrace.approx_percentile(n, 0.5) AS p, millrace.topk(t, 2) AS top FROM %s GROUP BY 1',
	many => 'SELECT id, t, count(*) AS n, avg(n) AS an, max(v) AS hi FROM %s GROUP BY id, t',
	joined => 'SELECT name, e.t, count(*) AS n, max(name || e.v) AS hi, sum(e.n) AS sn FROM %s e JOIN names USING (i) GROUP BY name, e.t',
	outer_joined => 'SELECT coalesce(name, $q$nobody$q$) AS who, count(name) AS n FROM %s e LEFT JOIN names ON names.i = e.i + 20 GROUP BY 1',
	with_exists => 'SELECT s, count(*) AS n FROM %s e WHERE EXISTS (SELECT FROM names WHERE names.i = e.i AND name LIKE $q$%%3$q$) GROUP BY s',
	with_subquery => 'SELECT i, count(*) AS n, max((SELECT max(name) FROM names WHERE names.i <= e.s)) AS hi FROM %s e GROUP BY i',
	chosen => 'SELECT DISTINCT ON (i, t) i, t, id, f, n, j FROM %s ORDER BY i, t, f DESC NULLS LAST, tz DESC, id',
	chosen_by_case => 'SELECT DISTINCT ON (k) lower(ct) COLLATE nocase AS k, id FROM %s ORDER BY k, id DESC',
	chosen_joined => 'SELECT DISTINCT ON (name, s) name, s, e.id, v FROM %s e JOIN names USING (i) WHERE b IS NOT TRUE ORDER BY name, s DESC, v, e.id DESC',
	chosen_counted => 'SELECT v, count(*) AS n, sum(id) AS sid FROM (SELECT DISTINCT ON (t, s) v, id FROM %s ORDER BY t, s, ts) l GROUP BY v',
	rolled_up => 'SELECT i, t, b, count(*) AS n, sum(id) AS sid, avg(n) AS an, min(v) AS lo, GROUPING(i, t, b) AS g FROM %s GROUP BY ROLLUP (i, t, b)',
	cubed => q{SELECT date_trunc('minute', ts) AS m, c, count(*) FILTER (WHERE b) AS nb, stddev(n) AS dn, GROUPING(c) AS g FROM %s GROUP BY CUBE (1, 2)},
	sets => 'SELECT i, t, s, count(t) AS nt, max(t) AS hi, largest(id) AS big FROM %s GROUP BY GROUPING SETS ((i), (t, s), (s), (s), ())',
	set_products => 'SELECT i, s, b, count(*) AS n, sum(f) AS sf FROM %s WHERE f < 5 GROUP BY ROLLUP (i, s), ROLLUP (b, s)',
	sets_many => 'SELECT id, t, count(*) AS n, avg(n) AS an FROM %s GROUP BY CUBE (id, t)',
	sets_joined => 'SELECT name, e.t, count(*) AS n, sum(e.n) AS sn FROM %s e JOIN names USING (i) GROUP BY CUBE (name, e.t)',
	sets_unhashable => 'SELECT money_of(s) AS m, b, count(*) AS n FROM %s GROUP BY ROLLUP (1, 2)',
	sets_only => 'SELECT i, t FROM %s GROUP BY ROLLUP (i, t)',
	sets_in_all => 'SELECT count(*) AS n, max(t) AS hi FROM %s GROUP BY GROUPING SETS ((), ())',
	constant => q{SELECT i, 'x' AS x, count(*) AS n FROM %s WHERE i = 3 GROUP BY 1, 2},
);
$node->safe_psql('postgres', q{CREATE FUNCTION money_of(integer) RETURNS tsvector LANGUAGE sql IMMUTABLE
	AS $$ SELECT to_tsvector('simple', 'w' || $1) $$});
# text search vectors have no hash function, so that only the executor can group by them

sub create_views
{
	my ($stream, $prefix) = @_;
	$node->safe_psql('postgres', join "\n", map {
		"SELECT millrace.create_continuous_view('$prefix$_', \$view\$" . sprintf($queries{$_}, $stream) . '$view$);'
	} sort keys %queries);
}

sub all_same
{
	my ($prefix, $when) = @_;
	foreach my $view (sort keys %queries)
	{
		wait_latest($node, "$prefix$view");
		is_same($node, "$prefix$view", sprintf($queries{$view}, 'events'), "$prefix$view $when");
	}
}

sub setting
{
	my ($name, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $name = $value");
	$node->reload;
}

my $fed = 0;
# so many further events, in an order of ids that jumps about
sub feed
{
	my ($n, $stream) = @_;
	my $rows = event_rows($fed + 1, $fed + $n);
	$node->safe_psql('postgres', "INSERT INTO events SELECT * FROM ($rows) e;
		INSERT INTO $stream SELECT * FROM ($rows) e ORDER BY id * 7919 % 1009, id");
	$fed += $n;
}

create_stream($node, 'direct', $columns, partitions => 2);
create_views('direct', '');
foreach my $n (1, 50, 3000, 200)
{
	feed($n, 'direct');
	all_same('', "after $fed events");
}

# Where memory does not suffice, groups are put aside and combined in the merge.
setting('millrace.batch_memory', "'1MB'");
create_stream($node, 'backlog', $columns, partitions => 2);
$node->safe_psql('postgres', 'INSERT INTO backlog SELECT * FROM events ORDER BY id % 3, id');
create_views('backlog', 'small_');
all_same('small_', 'in 1 MB');
setting('millrace.batch_memory', "'128MB'");

# A transaction takes no more messages than it may, though there is room for them in a portion.
setting('millrace.batch_messages', 60000);
create_stream($node, 'many_ids', 'id integer');
$node->safe_psql('postgres', q{INSERT INTO many_ids SELECT generate_series(1, 250000);
	SELECT millrace.create_continuous_view('ids', 'SELECT id FROM many_ids')});
wait_latest($node, 'ids');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT id) FROM ids'), '250000', 'all of a backlog is taken');
cmp_ok($node->safe_psql('postgres', 'SELECT max(n) FROM (SELECT count(*) AS n FROM ids_mrel GROUP BY xmin) t'), '<=', 60000,
	'by no more messages at a time than batch_messages');
setting('millrace.batch_messages', 1000000);

# The executor's way, into the same matrels.
setting('millrace.executor_aggregation', 'on');
feed(2000, 'direct');
all_same('', 'by the executor');
setting('millrace.executor_aggregation', 'off');
feed(2000, 'direct');
all_same('', 'without it again');

# A strict function that returns NULL: the state stays NULL, as in an Agg node.
create_stream($node, 'sevens', 'k integer, v integer');
$node->safe_psql('postgres', q{
	SELECT millrace.create_continuous_view('until', 'SELECT k, until_seven(v) AS u, count(*) AS n FROM sevens GROUP BY k');
	INSERT INTO sevens VALUES (1, 3), (1, 4), (1, 5), (2, 3), (2, NULL), (2, 5)});
wait_latest($node, 'until');
is($node->safe_psql('postgres', 'SELECT * FROM until ORDER BY k'), "1||3\n2|8|3", 'a state that became NULL stays NULL');

# What a group may collect is bounded: messages that would add to it are dead letters of the view.
setting('millrace.state_memory', "'64kB'");
$node->safe_psql('postgres', q{
	SELECT millrace.create_continuous_view('collected', 'SELECT k, millrace.count_distinct(v) AS n FROM sevens GROUP BY k');
	INSERT INTO sevens SELECT 4, v FROM generate_series(1, 9000) v;
	INSERT INTO sevens SELECT 5, v FROM generate_series(1, 10) v});
wait_latest($node, 'collected');
is($node->safe_psql('postgres', 'SELECT n FROM collected WHERE k = 5'), '10', 'other groups are not concerned');
is($node->safe_psql('postgres', q{SELECT count(*) = 9000 - (SELECT n FROM collected WHERE k = 4), min(sqlstate), min(error), max(error)
	FROM millrace.dead_letters WHERE view = 'collected'::regclass}),
	't|54000|state of an aggregate exceeds the maximum of 64 kB|state of an aggregate exceeds the maximum of 64 kB',
	'a group that is full');
setting('millrace.state_memory', "'1GB'");

# Privileges are looked at in every batch, as the executor does.
$node->safe_psql('postgres', q{
	CREATE ROLE app;
	GRANT CREATE ON SCHEMA public TO app;
	GRANT SELECT ON sevens TO app;
	SET ROLE app;
	SELECT millrace.create_continuous_view('guarded', 'SELECT largest(v) AS v FROM sevens');
	RESET ROLE;
	REVOKE EXECUTE ON FUNCTION keep_max(anyelement, anyelement), largest(anyelement) FROM PUBLIC;
	INSERT INTO sevens VALUES (3, 1)});
wait_for($node, q{SELECT state = 'failed' AND last_error LIKE 'permission denied for %' FROM millrace.views WHERE view = 'guarded'::regclass});
pass('a view whose owner may not call the aggregate any more fails');

$node->stop;
done_testing();
