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
} 0 .. 19987;
@zeroes = @zeroes[0 .. 29];
foreach my $i (0 .. $#junk)
{
	splice @messages, 1000 * $i + 500, 0, $junk[$i];
	push @rejected, 1000 * $i + 500;
}
is(scalar(@messages), 20000, 'enough messages') or BAIL_OUT('not enough');
produce($mixed, 0, @messages);
my $began = Time::HiRes::time();
# at once: what only the second one reads would not be junk for the first
my @both = map { sprintf $_, 'mixed' } $ratios, $sums;
$node->safe_psql('postgres', "BEGIN; SELECT millrace.create_continuous_view('ratios', \$\$$both[0]\$\$);
	SELECT millrace.create_continuous_view('sums', \$\$$both[1]\$\$); COMMIT");
wait_latest($node, 'ratios');
wait_latest($node, 'sums');
cmp_ok(Time::HiRes::time() - $began, '<', patience(10), '20,000 messages with 42 bad ones took less than 10 s');
my $events = q{(SELECT i AS id, CASE WHEN i % 666 = 17 THEN 0 ELSE i % 9 + 1 END AS d,
	timestamptz '2025-01-01 00:00:00Z' AS at, 'n' || i % 5 AS name FROM generate_series(0, 19987) i) e};
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


# One message in ten: the cost is bounded, and the totals are right.
my $divided = 'SELECT id % 100 AS k, count(*) AS n, sum(1000 / d) AS s FROM %s GROUP BY 1';
sub take_divided
{
	my ($stream, $prefix, $d) = @_;
	my $topic = create_stream($node, $stream, 'id integer, d integer', partitions => 2);
	foreach my $chunk (0 .. 9)
	{
		produce($topic, $chunk % 2, map { sprintf '{"id": %d, "d": %d}', $_, $d->($_) } 2000 * $chunk + 1 .. 2000 * $chunk + 2000);
	}
	my $began = Time::HiRes::time();
	create("${prefix}divided", sprintf $divided, $stream);
	create("${prefix}undivided", "SELECT count(*) AS n, sum(d) AS s FROM $stream");
	create("${prefix}appended", "SELECT id, 1000 / d AS q FROM $stream");
	wait_latest($node, "$prefix$_") foreach 'divided', 'undivided', 'appended';
	return Time::HiRes::time() - $began;
}
my $without = take_divided('healthy', 'healthy_', sub { $_[0] % 10 + 1 });
my $with = take_divided('poisoned', '', sub { $_[0] % 10 });
note(sprintf '20,000 messages into three views, one in ten refused by two of them: %.1f s, %.1f times as long as without', $with, $with / $without);
cmp_ok($with, '<', patience(30), 'one bad message in ten costs no more than it may');
my $numbers = '(SELECT i AS id, i % 10 AS d FROM generate_series(1, 20000) i) e';
is_same($node, 'divided', sprintf($divided, $numbers) =~ s/GROUP/WHERE d <> 0 GROUP/r, 'one in ten is left out of one view');
is_same($node, 'undivided', "SELECT count(*), sum(d) FROM $numbers", 'not of another');
is_same($node, 'appended', "SELECT id, 1000 / d FROM $numbers WHERE d <> 0", 'each row of a third once');
is($node->safe_psql('postgres', q{SELECT view, count(*), count(DISTINCT (partition, message_offset)),
		bool_and(convert_from(value, 'UTF8')::json ->> 'd' = '0')
	FROM millrace.dead_letters WHERE stream = 'poisoned'::regclass GROUP BY view ORDER BY view::text}),
	"appended|2000|2000|t\ndivided|2000|2000|t", 'with a dead letter for each');

# Joined to a table without an index, and to the same with one
$node->safe_psql('postgres', q{CREATE TABLE factor AS SELECT k, k % 50 AS f FROM generate_series(1, 20000) k;
	CREATE TABLE indexed AS TABLE factor; CREATE UNIQUE INDEX ON indexed (k); ANALYZE factor; ANALYZE indexed});
my $factored = create_stream($node, 'factored', 'id integer');
my $joined = 'SELECT id % 10 AS k, count(*) AS n, sum(id / f) AS s FROM %s JOIN %s ON k = id GROUP BY 1';
produce($factored, 0, map { qq({"id": $_}) } 1 .. 3000);
create("by_$_", sprintf $joined, 'factored', $_) foreach 'factor', 'indexed';
wait_latest($node, "by_$_") foreach 'factor', 'indexed';
is_same($node, "by_$_", sprintf($joined, '(SELECT generate_series(1, 3000) AS id) e', 'factor') =~ s/GROUP/WHERE f <> 0 GROUP/r,
	"joined to $_, all but those that cannot be taken") foreach 'factor', 'indexed';
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT message_offset), bool_and(message_offset % 50 = 49)
	FROM millrace.dead_letters WHERE stream = 'factored'::regclass}), '120|60|t', 'which are dead letters of each');

# Errors in the merge, and codes of users' own.
$node->safe_psql('postgres', q{
	CREATE FUNCTION fussy_add(bigint, bigint) RETURNS bigint LANGUAGE plpgsql AS $$
		BEGIN IF $2 = 13 THEN RAISE EXCEPTION 'no %', $2 USING ERRCODE = 'MY001'; END IF; RETURN $1 + $2; END $$;
	CREATE FUNCTION fussy_combine(bigint, bigint) RETURNS bigint LANGUAGE plpgsql AS $$
		BEGIN IF $2 >= 1000000 THEN RAISE EXCEPTION 'too much: %', $2; END IF; RETURN $1 + $2; END $$;
	CREATE AGGREGATE fussy (bigint) (sfunc = fussy_add, stype = bigint, combinefunc = fussy_combine, initcond = 0);
	ALTER FUNCTION fussy_add STABLE; ALTER FUNCTION fussy_combine STABLE});
my $fussed = create_stream($node, 'fussed', 'id bigint, k integer');
my @fussy = (1 .. 12, 14 .. 30);
produce($fussed, 0, map { qq({"id": $_, "k": @{[$_ % 2]}}) } @fussy);
create('fussiest', 'SELECT k, fussy(id) AS s, count(*) AS n FROM fussed GROUP BY k');
wait_latest($node, 'fussiest');
produce($fussed, 0, map { qq({"id": $_, "k": @{[$_ % 2]}}) } 13, 31, 2000001, 32, 0, 33, 2000002, 13);
wait_latest($node, 'fussiest');
is_same($node, 'fussiest', q{SELECT k, sum(id)::bigint, count(*) FROM (SELECT i::bigint AS id, i % 2 AS k
	FROM generate_series(0, 33) i WHERE i <> 13) e GROUP BY k}, 'errors of combine functions are isolated, too');
is(letters('fussed', 'view, message_offset, sqlstate, error'), join("\n", 'fussiest|29|MY001|no 13',
		'fussiest|31|P0001|too much: 2000001', 'fussiest|35|P0001|too much: 2000002', 'fussiest|36|MY001|no 13'),
	'whatever code they have');

# What belongs to a message beside its value: in the letter as it came, and for the views when it is fed once more.
$node->safe_psql('postgres', q{CREATE TYPE colour AS ENUM ('red'); CREATE TABLE share (by integer PRIMARY KEY, parts integer);
	INSERT INTO share VALUES (0, 0), (1, 2), (2, 3)});
my @beside = (q{key text OPTIONS (metadata 'key')}, q{raw bytea OPTIONS (metadata 'key')}, q{part integer OPTIONS (metadata 'partition')},
	q{off bigint OPTIONS (metadata 'offset')}, q{at timestamptz OPTIONS (metadata 'timestamp')}, q{extra jsonb OPTIONS (metadata 'headers')});
my $posted = create_stream($node, 'posted', join(', ', 'id bigint', 'by integer', 'c colour', @beside), partitions => 2);
create_stream($node, 'posted_bare', 'id bigint, by integer', topic => $posted);
my %views = (
	rows => 'SELECT id, c, key, raw, part, off, at, extra, 60 / parts AS q FROM %s JOIN share USING (by)',
	buckets => q{SELECT date_bin('7 minutes', at, '2001-01-01') AS bucket, part, key, extra ->> 'h' AS h, count(*) AS n,
		sum(60 / parts) AS q, max(off) AS off, min(at) AS at FROM %s JOIN share USING (by) GROUP BY 1, 2, 3, 4},
	latest => 'SELECT DISTINCT ON (key) key, off, at, extra, 60 / parts AS q FROM %s JOIN share USING (by) ORDER BY key, at DESC, off DESC, part');
my $sliding = 'SELECT by, count(*) AS n, sum(60 / parts) AS q, sum(id) AS ids FROM %s JOIN share USING (by) GROUP BY by';
create("posted_$_", sprintf $views{$_}, 'posted') foreach sort keys %views;
$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('${_}_sliding', \$\$" . sprintf($sliding, $_)
	  . "\$\$, sliding_window => '1 day', step => '1 hour')") foreach 'posted', 'posted_bare';
wait_joined($node, $_) foreach 'posted', 'posted_bare';

# a third of them cannot be divided, some are blue; every fifth has no place in the window
my $now = int(time / 60) * 60;
my @sent;
foreach my $i (1 .. 60)
{
	my ($part, $second) = ($i % 2, $i % 5 == 4 ? $now - 3 * 86400 + $i : $now - 137 * $i);
	my $key = $i % 4 == 3 ? undef : "key " . $i % 7;
	my @headers = $i % 6 == 5 ? () : (h => "v$i", nothing => undef, bytes => "\xff$i");
	my $colour = $i % 10 == 7 ? 'blue' : 'red';
	produce($posted, $part, { key => $key, value => sprintf('{"id": %d, "by": %d, "c": "%s"}', $i, $i % 3, $colour),
		timestamp => 1000 * $second + $i, headers => \@headers });
	push @sent, sprintf q{(%d, %d, '%s', %s, %d, %d, to_timestamp(%d) + %d * interval '1 ms', %s)}, $i, $i % 3, $colour,
	  defined $key ? "'$key'" : 'NULL', $part, int(($i - 1) / 2), $second, $i,
	  @headers ? sprintf(q{'{"h": "v%d", "nothing": null, "bytes": "\xff%s"}'}, $i, unpack 'H*', $i) =~ s/\\/\\\\/r : 'NULL';
}
$node->safe_psql('postgres', 'CREATE TABLE sent (id bigint, by integer, c text, key text, part integer, off bigint, at timestamptz, extra jsonb);
	INSERT INTO sent VALUES ' . join ', ', @sent);
my $source = '(SELECT id, by, c::colour, key, convert_to(key, \'UTF8\') AS raw, part, off, at, extra FROM sent WHERE %s) e';

sub posted_are
{
	my ($when, $of_posted, $of_bare) = @_;
	wait_latest($node, $_) foreach 'posted', 'posted_bare';
	is_same($node, "posted_$_", sprintf($views{$_}, sprintf $source, $of_posted), "$when: $_") foreach sort keys %views;
	is_same($node, 'posted_sliding', sprintf($sliding, sprintf $source, "$of_posted AND at > now() - interval '1 day'"), "$when: sliding");
	is_same($node, 'posted_bare_sliding', sprintf($sliding, sprintf $source, "$of_bare AND at > now() - interval '1 day'"), "$when: sliding, by no column");
}

posted_are('without what cannot be taken', q{by <> 0 AND c = 'red'}, 'by <> 0');
my $letter = "SELECT %s::regclass, part, off, at, key, jsonb_build_object('id', id, 'by', by, 'c', c), extra, '%s' FROM sent WHERE %s";
sub letters_are
{
	my ($name, $of_posted, @more) = @_;
	is_same($node, q{(SELECT view, partition, message_offset, message_timestamp, convert_from(key, 'UTF8') AS key,
			convert_from(value, 'UTF8')::jsonb AS value, headers, sqlstate
		FROM millrace.dead_letters WHERE stream IN ('posted'::regclass, 'posted_bare'::regclass)) l},
		join(' UNION ALL ', (map { sprintf $letter, "'posted_$_'", '22012', $of_posted } sort(keys %views), 'sliding'),
			sprintf($letter, q{'posted_bare_sliding'}, '22012', 'by = 0'), @more), $name);
}

letters_are('letters of each view, and of nobody in particular, are as the messages came', q{by = 0 AND c = 'red'},
	sprintf($letter, 'NULL', '22P02', q{c = 'blue'}));
$node->safe_psql('postgres', q{ALTER TYPE colour ADD VALUE 'blue'});
$node->safe_psql('postgres', "SELECT millrace.replay('$_')") foreach 'posted', 'posted_bare';
posted_are('with what can be decoded by now', 'by <> 0', 'by <> 0');
letters_are('so are those that become letters of a view then', 'by = 0');
$node->safe_psql('postgres', q{UPDATE share SET parts = 5 WHERE by = 0});
$node->safe_psql('postgres', "SELECT millrace.replay('$_')") foreach 'posted', 'posted_bare';
is($node->safe_psql('postgres', q{SELECT count(*) FROM millrace.dead_letters WHERE stream IN ('posted'::regclass, 'posted_bare'::regclass)}), '0',
	'none is left');
posted_are('with all of them', 'true', 'true');

done_testing();
