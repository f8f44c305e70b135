# Messages that somebody has made to do harm: all that can be taken are taken,
# the others are dead letters, and nothing falls over or stands still.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $columns = q{id integer, t text, j jsonb, doc json, a integer[], ip inet, nested text OPTIONS (path 'x.y.z')};
my $topic = create_stream($node, 'hostile', $columns, config => { 'max.message.bytes' => 10485760 });

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

sub crashes { return scalar(() = slurp_file($node->logfile) =~ /was terminated by signal|PANIC/g) }

sql(q{SELECT millrace.create_continuous_view('all_of_them',
		'SELECT count(*) AS n, sum(id) AS ids, max(length(t)) AS longest FROM hostile');
	SELECT millrace.create_continuous_view('each', 'SELECT id, t, j, doc::text AS doc, a, host(ip) AS ip, nested FROM hostile');
	CREATE TABLE good (id integer)});
# what only the second one reads is to be junk for the first as well
wait_joined($node, 'hostile');

# What is sent is either good, by the id that it has, or bad, by its name.
my ($good, @bad) = (0);

sub good
{
	my ($fields) = @_;
	$good++;
	sql("INSERT INTO good VALUES ($good)");
	produce($topic, 0, qq({"id": $good$fields}));
}

sub bad
{
	my ($name, $value) = @_;
	push @bad, $name;
	produce($topic, 0, $value);
}

sub check
{
	my ($what) = @_;
	wait_latest($node, $_) foreach 'all_of_them', 'each';
	is(sql('SELECT n, ids FROM all_of_them'), join('|', $good, $good * ($good + 1) / 2), "$what: the good ones are counted");
	is_same($node, '(SELECT id FROM each) e', 'SELECT id FROM good', "$what: each of them once");
	is(sql(q{SELECT count(*) FROM millrace.dead_letters WHERE stream = 'hostile'::regclass}), scalar @bad, "$what: the others are dead letters");
	is(sql(q{SELECT count(*) FROM millrace.dead_letters WHERE octet_length(error) > 1000}), '0', "$what: with reasons that can be read");
}

# --- depth ----------------------------------------------------------------------

foreach my $depth (100, 900)
{
	good(', "j": ' . '[' x $depth . ']' x $depth . ', "doc": ' . '{"a":' x $depth . '1' . '}' x $depth);
}
foreach my $depth (2_000, 50_000, 100_000)
{
	bad("j $depth", '{"id": 1, "j": ' . '[' x $depth . ']' x $depth . '}');
	bad("doc $depth", '{"id": 1, "doc": ' . '{"a":' x $depth . '1' . '}' x $depth . '}');
	bad("array $depth", '{"id": 1, "a": ' . '[' x $depth . ']' x $depth . '}');
	bad("unfinished $depth", '{"id": 1, "t": ' . '[' x $depth);
	bad("path $depth", '{"x":' x $depth);
}
bad('dimensions', '{"id": 1, "a": ' . '[' x 7 . '1' . ']' x 7 . '}');
# A field that nobody reads is stepped over, whatever is in it.
good(', "unread": ' . '[' x 500 . ']' x 500);
check('depth');

# --- keys -----------------------------------------------------------------------

# Many keys, many times the same one, keys that are alike, where a decoder, json
# and jsonb would each keep a table.
good(', ' . join(', ', map { qq("key$_": $_) } 1 .. 40_000));
good(', ' . join(', ', map { qq("t": "t$_") } 1 .. 40_000));
good(', "j": {' . join(', ', map { qq("key$_": $_) } 1 .. 40_000) . '}');
good(', "j": {' . join(', ', map { qq("same": $_) } 1 .. 40_000) . '}');
good(', "x": {"y": {' . join(', ', map { sprintf '"%s": 1', 'z' x ($_ % 60 + 2) } 1 .. 10_000) . ', "z": "end"}}');
good(', "' . 'k' x 900_000 . '": 1');
good(', "\\u0074": "by an escape"');
good(', "": 1, "' . "\xc3\xa9" x 1000 . '": 2');
check('keys');
is(sql(q{SELECT t FROM each WHERE id = 5}), 't40000', 'the last of many keys wins');
is(sql(q{SELECT j FROM each WHERE id = 7}), '{"same": 40000}', 'in jsonb as well');
is(sql(q{SELECT nested FROM each WHERE id = 8}), 'end', 'at the end of a path');
is(sql(q{SELECT t FROM each WHERE id = 10}), 'by an escape', 'a name with an escape is the name');

# Keys of groups, and values that are counted, which all hash alike to whoever knows the hash:
# with no random number the former are folded to the same 32 bits, and the latter are the same to
# the server's own hash function.
my %keys = (ordinary => 'i::bigint', crafted => '((i::bigint << 32) | (i # 12345)) - 5305509591434766563', folded => '(i::bigint << 32) | i');
my %hashed = (groups => 'SELECT k, count(*) AS n FROM %s GROUP BY k',
	counters => 'SELECT jsonb_array_length(millrace.topk(k, 10000)) AS n, count(*) AS m FROM %s');

sub time_to_aggregate
{
	my ($view, $keys) = @_;
	my $stream = "${view}_of_$keys";
	create_stream($node, $stream, 'k bigint');
	sql("INSERT INTO $stream SELECT $keys{$keys} FROM generate_series(1, 100000) i;
		SELECT millrace.create_continuous_view('${stream}_view', '" . sprintf($hashed{$view}, $stream) . q{')});
	wait_latest($node, "${stream}_view");
	is(sql("SELECT sum(n) = CASE count(*) WHEN 1 THEN 10000 ELSE 100000 END FROM ${stream}_view"), 't', "$stream: all are there");
	# counters come after the commit
	wait_for($node, "SELECT sum(messages) = 100000 FROM millrace.workers WHERE stream = '$stream'::regclass");
	return sql("SELECT sum(aggregate_ms) FROM millrace.workers WHERE stream = '$stream'::regclass");
}

my %ordinary;
foreach ([ 'groups', 'crafted' ], [ 'groups', 'folded' ], [ 'counters', 'folded' ])
{
	my ($view, $keys) = @$_;
	my $ordinary = $ordinary{$view} //= time_to_aggregate($view, 'ordinary');
	my $time = time_to_aggregate($view, $keys);
	note("$view: $time ms with $keys keys, $ordinary ms with ordinary ones");
	cmp_ok($time, '<', 10 * ($ordinary + 50), "$view: $keys keys take no longer than others");
}

# --- characters -----------------------------------------------------------------

my %sequences = (
	'a zero byte' => "\0", 'overlong /' => "\xc0\xaf", 'overlong zero' => "\xc0\x80", 'overlong, three bytes' => "\xe0\x80\xaf",
	'overlong, four bytes' => "\xf0\x80\x80\xaf", 'a surrogate' => "\xed\xa0\x80", 'a pair of surrogates' => "\xed\xa0\xbd\xed\xb8\x80",
	'beyond Unicode' => "\xf4\x90\x80\x80", 'five bytes' => "\xf8\x88\x80\x80\x80", 'a lone continuation' => "\x80",
	'cut short' => "\xe2\x82", 'a byte that never is' => "\xff");
foreach my $name (sort keys %sequences)
{
	my $bytes = $sequences{$name};

	bad("$name in a value", qq({"id": 1, "t": "a${bytes}b"}));
	bad("$name in a key", qq({"id": 1, "a${bytes}b": 1}));
	bad("$name in what nobody reads", qq({"id": 1, "unread": "a${bytes}b"}));
	bad("$name behind", qq({"id": 1}$bytes));
}
bad($_, qq({"id": 1, "t": "$_"})) foreach '\\u0000', 'x\\u0000', '\\ud800', '\\ud800\\u0041', '\\udc00', '\\u12', '\\x', "tab\there";
bad('a byte order mark', qq(\xef\xbb\xbf{"id": 1}));
bad('UTF-16', join '', map { "$_\0" } split //, '{"id": 1}');
bad('nothing but blanks', ' ' x 1000);
bad("a number $_", qq({"id": $_})) foreach '1e999999999', '-', '0x10', '1_000', '9' x 100_000, '01', '1.', 'NaN', '1e-999999999';
good(', "t": "\\ud83d\\ude00\\u00e9"');
good(', "j": ' . '9' x 1000 . ', "doc": 1e400');
check('characters');

# --- length ---------------------------------------------------------------------

# As long as the broker lets through.
my $client = producer(undef, 'message.max.bytes' => 10_000_000);

sub long_message
{
	my ($value) = @_;
	$client->send($topic, 0, $value);
	$client->flush;
}

$good++;
sql("INSERT INTO good VALUES ($good)");
long_message(qq({"id": $good, "t": ") . 'x' x 9_000_000 . '"}');
push @bad, 'a long integer', 'a long address', 'a long number of nothing';
long_message('{"id": ' . '9' x 9_000_000 . '}');
long_message('{"id": 1, "ip": "' . '1' x 9_000_000 . '"}');
long_message('{"id": 1, "a": "' . '{' x 9_000_000 . '"}');
check('length');
is(sql('SELECT longest FROM all_of_them'), '9000000', 'a long text is there');
like(sql(q{SELECT string_agg(error, ' ') FROM millrace.dead_letters WHERE octet_length(value) > 1000000 AND error ~ 'ip'}), qr/inet/,
	'an input function that shows its input is not shown it all');

# Longer than what librdkafka queues by default, from a session
sql(qq{CREATE SERVER large FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" '@{[bootstrap()]}',
	"message.max.bytes" '110000000', "compression.type" 'lz4')});
create_stream($node, 'large', 'id bigint, t text', server => 'large', config => { 'max.message.bytes' => 110_000_000 });
sql(q{SELECT millrace.create_continuous_view('lengths', 'SELECT id, length(t) AS length FROM large')});
sql(q{INSERT INTO large SELECT 1, repeat('x', 100000000)});
wait_latest($node, 'lengths');
is(sql('SELECT * FROM lengths'), '1|100000000', 'a message of 100 MB');
sql(q{ALTER SERVER large OPTIONS (ADD "queue.buffering.max.kbytes" '1000')});
my ($rc, $out, $err) = $node->psql('postgres', q{INSERT INTO large SELECT 2, repeat('x', 2000000)});
like($err, qr/larger than the producer's queue.*queue\.buffering\.max\.kbytes/s, 'one that does not fit the queue is an error');

# --- time -----------------------------------------------------------------------

# Nanoseconds where milliseconds are meant; and a time whose last 48 bits are those of today
my $times = create_stream($node, 'times', 'id integer', config => { 'message.timestamp.after.max.ms' => '9223372036854775807' });
create_stream($node, 'timed', q{id integer, arrived timestamptz OPTIONS (metadata 'timestamp')}, topic => $times);
my $nanoseconds = '1700000000000000000';
sql(q{SELECT millrace.create_continuous_view('timeless', 'SELECT count(*) AS n, sum(id) AS ids FROM times');
	SELECT millrace.create_continuous_view('sliding', 'SELECT count(*) AS n FROM times', sliding_window => '1 day');
	SELECT millrace.create_continuous_view('arrivals', 'SELECT max(arrived) AS last, sum(id) AS ids FROM timed')});
produce($times, 0, '{"id": 1}', { value => '{"id": 2}', timestamp => time() * 1000 + 2**48 },
	{ value => '{"id": "bad"}', timestamp => $nanoseconds }, { value => '{"id": 3}', timestamp => $nanoseconds });
wait_latest($node, $_) foreach 'timeless', 'sliding', 'arrivals';
is(sql('SELECT n, ids FROM timeless'), '3|6', 'times beyond all bounds are no matter where they are not read');
is(sql('SELECT n FROM sliding'), '1', 'they are not in a window of the last day');
is(sql('SELECT last > now(), ids FROM arrivals'), 't|3', 'who reads them does without those');
my $letters = q{SELECT stream, message_offset, message_timestamp, sqlstate FROM millrace.dead_letters
	WHERE stream IN ('times'::regclass, 'timed'::regclass) ORDER BY 1, 2};
my $refused = "times|2|infinity|22P02\ntimed|2|infinity|22P02\ntimed|3|infinity|22008";
is(sql($letters), $refused, '... and has dead letters');
is(sql(q{SELECT millrace.replay('times') + millrace.replay('timed')}), '0', 'none of them succeeds when it is replayed');
is(sql($letters), $refused, '... and they stay as they are');
is(sql(q{SELECT lag, lag_seconds FROM millrace.partitions WHERE view = 'timeless'::regclass}), '0|0', 'the lag is known');

is(crashes(), 0, 'nothing has crashed');
is(sql(q{SELECT state FROM millrace.streams WHERE stream = 'hostile'::regclass}), 'running', 'ingest goes on');

done_testing();
