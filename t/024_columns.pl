# Which columns views read.  A dump numbers the columns of a table anew when some were dropped
# before: views go on reading the right ones, whatever they are called by then.  Whole rows have
# columns that come later, too.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $n = 0;

sub sql
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

my $topic = create_stream($node, 'clicks', 'gone integer, past text, id bigint, k integer, "Odd ""Name" text');
sql(q{
	ALTER FOREIGN TABLE clicks DROP COLUMN gone, DROP COLUMN past;
	SELECT millrace.create_continuous_view('clicked', 'SELECT k, count(*) AS n, max("Odd ""Name") AS odd FROM clicks GROUP BY k');
	CREATE TABLE orders (gone integer, past text, id bigint, k integer, note text);
	ALTER TABLE orders DROP COLUMN gone, DROP COLUMN past;
	CREATE TYPE pair AS (gone integer, k integer, m integer);
	ALTER TYPE pair DROP ATTRIBUTE gone;
	CREATE TABLE pairs OF pair;
	SELECT millrace.attach_table('orders');
	SELECT millrace.attach_table('pairs');
	SELECT millrace.create_continuous_view('ordered', 'SELECT k, count(*) AS n FROM orders GROUP BY k');
	SELECT millrace.create_continuous_view('paired', 'SELECT k, count(*) AS n FROM pairs GROUP BY k');});
my %query = (
	ordered => 'SELECT %s AS k, count(*) AS n FROM orders GROUP BY 1',
	paired => 'SELECT %s AS k, count(*) AS n FROM pairs GROUP BY 1');

# each view, in a database where its column has this name
sub all_exact
{
	my ($column, $what, $database) = @_;
	foreach my $view (sort keys %query)
	{
		is_same($node, $view, sprintf($query{$view}, $column), "$what: $view", $database);
	}
	wait_latest($node, 'clicked', undef, $database);
	is_same($node, 'clicked', "SELECT i % 3 AS k, count(*) AS n, max('x' || i) AS odd FROM generate_series(1, $n) i GROUP BY 1",
		"$what: clicked", $database);
}

sub send_more
{
	my ($database) = @_;
	produce($topic, 0, sprintf '{"id": %d, "k": %d, "Odd \"Name": "x%d"}', ++$n, $n % 3, $n) foreach 1 .. 3;
	sql(qq{INSERT INTO orders SELECT i, i % 3, 'note' FROM generate_series(1, $n) i;
		INSERT INTO pairs SELECT i % 3, i FROM generate_series(1, $n) i}, $database);
}

sub restore
{
	my ($from, $to) = @_;
	my ($out, $err);
	system_or_bail('pg_dump', '-d', $node->connstr($from), '-Fc', '-f', "$dir/$from");
	sql("CREATE DATABASE $to");
	my $ok = IPC::Run::run([ 'pg_restore', '-d', $node->connstr($to), "$dir/$from" ], '<', \undef, '>', \$out, '2>', \$err);
	ok($ok && $err eq '', "$from is restored into $to") or diag $err;
	sql(q{SELECT millrace.activate('clicks')}, $to);
}

send_more();
all_exact('k', 'before');
restore('postgres', 'restored');
send_more('restored');
all_exact('k', 'restored', 'restored');

sql(q{ALTER TABLE orders RENAME COLUMN k TO renamed; ALTER TYPE pair RENAME ATTRIBUTE k TO renamed CASCADE;
	ALTER FOREIGN TABLE clicks RENAME COLUMN "Odd ""Name" TO odd;
	ALTER FOREIGN TABLE clicks ALTER COLUMN odd OPTIONS (ADD path 'Odd "Name')}, 'restored');
send_more('restored');
all_exact('renamed', 'renamed', 'restored');
sql('ALTER TABLE orders DROP COLUMN id', 'restored');
restore('restored', 'again');
sql('ALTER TABLE orders ADD COLUMN id bigint; ALTER TABLE orders ALTER COLUMN note TYPE text', 'again');
produce($topic, 0, sprintf '{"id": %d, "k": %d, "Odd \"Name": "x%d"}', ++$n, $n % 3, $n);
sql('INSERT INTO orders (renamed) VALUES (1), (NULL); INSERT INTO pairs VALUES (1, 2)', 'again');
all_exact('renamed', 'restored once more', 'again');

sub whole_rows
{
	my ($what, $database) = @_;
	wait_latest($node, 'per_paper', undef, $database);
	is_same($node, $_->[0], "SELECT to_jsonb(r) AS doc, count(*) AS n FROM $_->[1] r GROUP BY 1",
		"whole rows, $what: $_->[0]", $database)
	  foreach [ 'per_doc', 'docs' ], [ 'per_paper', 'papers' ];
}

my $papers = create_stream($node, 'papers', 'a integer');
sql(q{
	CREATE TABLE docs (a integer);
	SELECT millrace.attach_table('docs');
	SELECT millrace.create_continuous_view('per_doc', 'SELECT to_jsonb(d) AS doc, count(*) AS n FROM docs d GROUP BY 1');
	SELECT millrace.create_continuous_view('per_paper', 'SELECT to_jsonb(p) AS doc, count(*) AS n FROM papers p GROUP BY 1');
	ALTER TABLE docs ADD COLUMN b integer DEFAULT 7;
	ALTER FOREIGN TABLE papers ADD COLUMN b integer;
	INSERT INTO docs VALUES (1, DEFAULT), (2, 3)});
produce($papers, 0, '{"a": 1, "b": 2}', '{"a": 3}');
whole_rows('a column was added');
restore('postgres', 'whole');
sql(q{SELECT millrace.activate('papers'); ALTER TABLE docs RENAME COLUMN b TO c; ALTER TABLE docs ADD COLUMN d text;
	DELETE FROM docs; SELECT millrace.rebuild('per_doc'); INSERT INTO docs VALUES (1, 2, 'three')}, 'whole');
produce($papers, 0, '{"a": 5, "b": 6}');
whole_rows('restored', 'whole');

done_testing();
