# MillraceGrammar - random queries for continuous views over the traffic of
# MillraceLoad, and what goes with them: by rand, so that srand decides.
#
#   $node->safe_psql('postgres', grammar_objects());
#   my $view = random_view();
#   ... over($view->{query}, 'clicks') is a view's query,
#   over($view->{query}, events($n)) the oracle's.
#
# Results do not depend on the order of messages.  Some queries divide by zero
# for every 97th message: $view->{refused} then is a query that counts those that
# the view cannot take, and the oracle is to be asked about the others.
# Others divide by what the table divisor has for a message's k, which is k + 1
# unless a test made it 0.

package MillraceGrammar;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(choose grammar_objects over random_view);

# What the queries need beside the stream.
sub grammar_objects
{
	return q{
		CREATE TABLE names (k integer, name text);
		INSERT INTO names VALUES (0, 'zero'), (1, 'one'), (1, 'uno'), (2, NULL), (4, 'four'), (6, 'six'), (7, 'seven');
		CREATE TABLE divisor (k integer PRIMARY KEY, d numeric NOT NULL);
		INSERT INTO divisor SELECT k, k + 1 FROM generate_series(0, 6) k;
		CREATE FUNCTION largest(bigint[], bigint[]) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS
			'SELECT array(SELECT x FROM unnest($1 || $2) x ORDER BY x DESC LIMIT 3)';
		CREATE FUNCTION add_largest(bigint[], bigint) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS
			'SELECT CASE WHEN $2 < $1[3] THEN $1 ELSE largest($1, array[$2]) END';
		CREATE AGGREGATE top3(bigint) (SFUNC = add_largest, STYPE = bigint[], COMBINEFUNC = largest, INITCOND = '{}');};
}

# A query over a relation.
sub over
{
	my ($query, $source) = @_;
	return $query =~ s/\bSOURCE\b/$source/gr;
}

sub choose { return $_[ int rand @_ ] }

# Some of these, at least so many, at most so many, in the order given.
sub some
{
	my ($least, $most, @all) = @_;
	my %taken;
	my $number = $least + int rand($most - $least + 1);
	$taken{ int rand @all } = 1 while keys %taken < $number;
	return @all[ sort { $a <=> $b } keys %taken ];
}

my @keys = ('e.k', 'e.s', 'e.id % 5 AS m', 'nullif(e.k, 3) AS nk', 'e.v > 100 AS big', 'length(e.s) AS len',
	'floor(e.v / 50) AS bin', q{CASE WHEN e.k < 3 THEN e.s ELSE 'other' END AS kind});

my @aggregates = ('count(*) AS n', 'count(nullif(e.k, 3)) AS nk3', 'sum(e.id) AS ids', 'sum(e.v) AS vs', 'avg(e.v) AS av',
	'avg(e.k) AS ak', 'avg(e.id) AS aid', 'stddev(e.v) AS sv', 'var_pop(e.k) AS vk', 'variance(e.id) AS vid',
	'min(e.s) AS first', 'max(e.id) AS last', 'min(e.v) AS least', 'max(e.s || e.k) AS label', 'bool_or(e.k = 3) AS three',
	'bit_or(e.k) AS bits', 'bit_xor(e.id) AS odd', 'top3(e.id) AS top', 'top3(-e.id) AS bottom',
	'sum(e.v) FILTER (WHERE e.k <> 2) AS fv', q{count(*) FILTER (WHERE e.s LIKE '%1') AS ones},
	'sum(e.v) / count(*) AS ratio', 'coalesce(max(e.id) FILTER (WHERE e.id % 11 = 0), 0) AS last11');

my @filters = ('e.k <> 2', q{e.s LIKE '%1'}, 'e.v > 10', 'e.id % 3 = 0', 'e.k IN (1, 3, 5)', 'length(e.s) = 2 AND e.k < 5',
	'EXISTS (SELECT FROM names x WHERE x.k = e.k)', 'NOT EXISTS (SELECT FROM names x WHERE x.k = e.k AND x.name IS NULL)');

# A view: query, refused.  kind is plain, zero, rated, or left out.
sub random_view
{
	my ($kind) = @_;
	$kind //= choose('plain', 'plain', 'plain', 'zero', 'rated');
	my $from = 'FROM SOURCE e';
	my $join = $kind eq 'rated' ? 'divisor' : choose('', '', 'names', 'left');
	$from .= ' JOIN divisor d ON d.k = e.k' if $join eq 'divisor';
	$from .= ' JOIN names j ON j.k = e.k' if $join eq 'names';
	$from .= ' LEFT JOIN names j ON j.k = e.k + 2' if $join eq 'left';
	my @where = some(0, 2, @filters);
	my $clauses = $from . (@where ? ' WHERE ' . join ' AND ', map { "($_)" } @where : '');
	my $view = { query => random_query($kind, $clauses, $join =~ /names|left/ ? (@keys, 'j.name', 'upper(j.name) AS loud') : @keys) };
	$view->{refused} = "SELECT count(DISTINCT e.id) $from WHERE " . join ' AND ', map { "($_)" } @where, 'e.id % 97 = 0'
	  if $kind eq 'zero';
	return $view;
}

# One row of each group; the order is one of all that is shown.
sub chosen_rows
{
	my ($clauses, $divided, @columns) = @_;
	my @shown = ($divided // (), some(2, 4, @columns), 'e.id');
	my @keys = 1 .. 1 + int rand(@shown - 1);
	my @order = map { $_ . choose('', ' DESC', ' NULLS FIRST', ' DESC NULLS LAST') } 1 .. @shown;
	return 'SELECT DISTINCT ON (' . join(', ', @keys) . ') ' . join(', ', @shown) . " $clauses ORDER BY " . join ', ', @order;
}

# Ordinals of so many columns, one in four times as sets.
sub group_by
{
	my ($n) = @_;
	my $all = join ', ', 1 .. $n;
	return $all if rand() < 0.75;
	return choose("ROLLUP ($all)", "CUBE ($all)", "GROUPING SETS (($all), (1), ())", "GROUPING SETS (($n), ($n), ROLLUP ($all))",
		$n > 1 ? "1, CUBE (" . join(', ', 2 .. $n) . ')' : 'ROLLUP (1), CUBE (1)');
}

sub random_query
{
	my ($kind, $clauses, @keys) = @_;
	my $shape = $kind eq 'plain' ? choose(('groups') x 5, 'rows', 'distinct', 'nested', 'chosen') : choose(('groups') x 4, 'rows', 'chosen');
	my %division = (zero => 'e.k / (e.id % 97)', rated => 'e.id / d.d');
	my $divided = $division{$kind};

	return chosen_rows($clauses, $divided && "$divided AS q", @keys) if $shape eq 'chosen';
	return 'SELECT DISTINCT ' . join(', ', some(1, 3, @keys)) . " $clauses" if $shape eq 'distinct';
	return 'SELECT ' . join(', ', 'e.id', some(1, 3, @keys), $divided ? "$divided AS q" : ()) . " $clauses"
	  if $shape eq 'rows';
	return "SELECT k, count(*) AS n, min(s) AS lo, sum(m) AS ms FROM (SELECT DISTINCT e.k, e.s, e.id % 3 AS m $clauses) q GROUP BY k"
	  if $shape eq 'nested';

	my @group = some(0, 3, @keys);
	my @results = (some(1, 5, @aggregates), $divided ? choose('sum', 'avg', 'max') . "($divided) AS q" : ());
	push @results, 'rank() OVER (ORDER BY max(e.id), count(*)) AS place' if @group && rand() < 0.2;
	my $query = 'SELECT ' . join(', ', @group, @results) . " $clauses";
	$query .= ' GROUP BY ' . group_by(scalar @group) if @group;
	$query .= ' HAVING ' . choose('count(*) > 5', 'sum(e.id) % 2 = 0', 'max(e.id) > 50') if rand() < 0.2;
	return $query;
}

1;
