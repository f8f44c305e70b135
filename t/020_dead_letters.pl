# Messages that one view cannot take: its dead letters, and nobody else's.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $node = new_node('main', conf => "millrace.dead_letter_limit = 500\n");

sub create
{
	my ($view, $query) = @_;
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('$view', \$\$$query\$\$)");
}

sub letters
{
	my ($stream, $columns) = @_;
	return $node->safe_psql('postgres', "SELECT $columns FROM millrace.dead_letters
		WHERE stream = '$stream'::regclass ORDER BY view::text NULLS FIRST, partition, message_offset");
}

# 12 kinds of junk and 30 divisions by zero among 20,000 messages
my @junk = ('hello', '{"id": 1', '[1, 2]', '{"id": 1} x', '{"id": 2147483648, "d": 1}', '{"id": "seven"}',
	'{"id": 1.5}', '{"id": 1, "at": "yesterday-ish"}', qq({"id": 1, "name": "\xff\xfe"}),
	'{"id": 1, "name": "a\u0000b"}', '{"id": 1, "name": "\ud800"}', '');
my $mixed = create_stream($node, 'mixed', 'id integer, d integer, at timestamptz, name text');
my $ratios = 'SELECT name, count(*) AS n, sum(1000000 / d) AS s FROM %s GROUP BY name';
my $sums = 'SELECT name, count(*) AS n, sum(id) AS s, max(at) AS at FROM %s GROUP BY name';
my (@zeroes, @rejected);
my @messages = map {
	my $zero = $_ % 666 == 17;
	push @zeroes, $_ if $zero;
	sprintf '{"id": %d, "d": %d, "at": "2025-01-01T00:00:00Z", "name": "n%d"}', $_, $zero ? 0 : $_ % 9 + 1, $_ % 5
} 0 .. 19957;
@zeroes = @zeroes[0 .. 29];
foreach my $i (0 .. $#junk)
{
	splice @messages, 1000 * $i + 500, 0, $junk[$i];
	push @rejected, 1000 * $i + 500;
}
is(scalar(@messages), 19970, 'enough messages') or BAIL_OUT('not enough');
produce($mixed, 0, @messages);
my $began = Time::HiRes::time();
create('ratios', sprintf $ratios, 'mixed');
create('sums', sprintf $sums, 'mixed');
wait_latest($node, 'ratios');
wait_latest($node, 'sums');
cmp_ok(Time::HiRes::time() - $began, '<', 10, '20,000 messages with 42 bad ones took less than 10 s');
my $events = q{(SELECT i AS id, CASE WHEN i % 666 = 17 THEN 0 ELSE i % 9 + 1 END AS d,
	timestamptz '2025-01-01 00:00:00Z' AS at, 'n' || i % 5 AS name FROM generate_series(0, 19957) i) e};
is_same($node, 'ratios', sprintf($ratios, $events) =~ s/GROUP/WHERE d <> 0 GROUP/r, 'all that can be divided is');
is_same($node, 'sums', sprintf($sums, $events), 'the other view has all that can be decoded');
is($node->safe_psql('postgres', q{SELECT string_agg(message_offset::text, ' ' ORDER BY message_offset)
	FROM millrace.dead_letters WHERE stream = 'mixed'::regclass AND view IS NULL}), "@rejected",
	'junk is nobody\'s');
is($node->safe_psql('postgres', q{SELECT string_agg(convert_from(value, 'UTF8')::json ->> 'id', ' ' ORDER BY message_offset)
	FROM millrace.dead_letters WHERE stream = 'mixed'::regclass AND view = 'ratios'::regclass AND sqlstate = '22012'
	AND error = 'division by zero'}), "@zeroes", 'divisions by zero are the one view\'s');
is($node->safe_psql('postgres', q{SELECT dead_letters FROM millrace.streams WHERE stream = 'mixed'::regclass}),
	42, 'no other');

done_testing();
