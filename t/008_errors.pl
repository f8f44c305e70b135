# Messages that cannot be used, and views that fail.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');

sub create
{
	my ($view, $query) = @_;
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('$view', \$\$$query\$\$)");
}

# Junk among messages, and what it becomes
my $topic = create_stream($node, 'clicks', 'id integer, at timestamptz, name text, unread integer', partitions => 2,
	config => { 'retention.ms' => -1 });
create('per_name', 'SELECT name, count(*) AS n, sum(id) AS ids, max(at) AS last FROM clicks GROUP BY name');
create('in_all', 'SELECT count(*) AS n FROM clicks');

my @junk = (
	[ 'not json', 'hello', '22P02', qr/./ ],
	[ 'cut off', '{"id": 1, "name": "a"', '22P02', qr/./ ],
	[ 'an array', '[1, 2]', undef, qr/object/ ],
	[ 'trailing garbage', '{"id": 1} x', '22P02', qr/./ ],
	[ 'out of range', '{"id": 2147483648}', '22003', qr/id.*2147483648|2147483648.*id/s ],
	[ 'no integer', '{"id": "seven"}', '22P02', qr/id.*seven|seven.*id/s ],
	[ 'no timestamp', '{"id": 1, "at": "yesterday-ish"}', '22007', qr/yesterday-ish/ ],
	[ 'invalid UTF-8', qq({"id": 1, "name": "\xff\xfe"}), '22021', qr/./ ],
	[ 'a zero character', '{"id": 1, "name": "a\u0000b"}', '22P05', qr/name/ ],
	[ 'a lone surrogate', '{"id": 1, "name": "\ud800"}', undef, qr/./ ],
	[ 'nothing', '', '22P02', qr/./ ]);
my $good = 0;
sub good { $good++; return qq({"id": $good, "at": "2025-01-01T00:00:00Z", "name": "n@{[$good % 3]}"}) }

my @offsets = (0, 0);
my @expected;
foreach my $i (0 .. $#junk)
{
	my $partition = $i % 2;
	produce($topic, $partition, good(), good());
	$offsets[$partition] += 2;
	produce($topic, $partition,
		{ key => "key $i", value => $junk[$i][1], timestamp => 1_700_000_000_000 + $i, headers => [ h => "v$i" ] });
	push @expected, "$partition|$offsets[$partition]|key $i|" . unpack('H*', $junk[$i][1])
	  . "|t|{\"h\": \"v$i\"}|t";
	$offsets[$partition]++;
	produce($topic, $partition, good());
	$offsets[$partition]++;
}
# what nobody reads is not looked at; missing and null are NULL; a tombstone is nothing
produce($topic, 0, '{"id": 1000, "name": "odd", "unread": "not a number", "more": [1, {"x": null}]}',
	'{"id": null}', '{}', [ 'tombstone', undef ]);
wait_latest($node, 'per_name');
my $same = qq{SELECT 'n' || i % 3, count(*), sum(i), timestamptz '2025-01-01T00:00:00Z'
	FROM generate_series(1, $good) i GROUP BY 1
	UNION ALL VALUES ('odd', 1::bigint, 1000::bigint, NULL::timestamptz), (NULL, 2, NULL, NULL)};
is_same($node, 'per_name', $same, 'every message that can be used');
is($node->safe_psql('postgres', q{
		SELECT partition, message_offset, convert_from(key, 'UTF8'), encode(value, 'hex'),
			message_timestamp = to_timestamp(1700000000) + substr(convert_from(key, 'UTF8'), 5)::integer * interval '1 ms',
			headers, failed_at > now() - interval '10 minutes'
		FROM millrace.dead_letters WHERE stream = 'clicks'::regclass AND view IS NULL
		ORDER BY substr(convert_from(key, 'UTF8'), 5)::integer}),
	join("\n", @expected), 'the others are dead letters, as they came');
foreach my $i (0 .. $#junk)
{
	my ($name, $value, $state, $text) = @{ $junk[$i] };
	my ($sqlstate, $error) = split /\|/, $node->safe_psql('postgres',
		"SELECT sqlstate, replace(error, E'\\n', ' ') FROM millrace.dead_letters
		WHERE key = convert_to('key $i', 'UTF8')"), 2;
	like($sqlstate // '', defined $state ? qr/^$state$/ : qr/^22/, "$name: SQLSTATE");
	like($error // '', $text, "$name: text");
}
is($node->safe_psql('postgres', q{SELECT dead_letters FROM millrace.streams WHERE stream = 'clicks'::regclass}),
	scalar(@junk), 'they are counted');
is($node->safe_psql('postgres', q{SELECT state FROM millrace.streams WHERE stream = 'clicks'::regclass}), 'running',
	'and hold up nothing');
my $pid = worker_pid($node, 'clicks');
kill_process($pid);
wait_new_worker($node, 'clicks', $pid);
produce($topic, 0, '{"id": "once more"}');
wait_latest($node, 'per_name');
is($node->safe_psql('postgres', 'SELECT count(*) FROM millrace.dead_letters'), @junk + 1, 'each once, also after a crash');
is_same($node, 'per_name', $same, 'the view is as it was');

# on_error skip
my $skipped = create_stream($node, 'skipping', 'id integer', options => { on_error => 'skip' });
create('skipping_view', 'SELECT count(*) AS n, sum(id) AS ids FROM skipping');
produce($skipped, 0, '{"id": 1}', 'junk', '{"id": 2}');
wait_latest($node, 'skipping_view');
is($node->safe_psql('postgres', 'SELECT * FROM skipping_view'), '2|3', 'skip goes on');
is($node->safe_psql('postgres', q{SELECT count(*) FROM millrace.dead_letters WHERE stream = 'skipping'::regclass}), '0',
	'and keeps nothing');

# on_error stop
my $stopped = create_stream($node, 'stopping', 'id integer', options => { on_error => 'stop' });
create('stopping_view', 'SELECT count(*) AS n, sum(id) AS ids FROM stopping');
produce($stopped, 0, '{"id": 1}', '{"id": 2}', 'junk', '{"id": 3}');
wait_state($node, 'stream', 'stopping', 'stopped');
wait_state($node, 'view', 'stopping_view', 'stopped');
like($node->safe_psql('postgres', q{SELECT last_error FROM millrace.streams WHERE stream = 'stopping'::regclass}), qr/./,
	'stop says why');
is($node->safe_psql('postgres', 'SELECT * FROM stopping_view'), '2|3', 'what was before is there, what is behind is not');
my ($rc, $out, $err) = $node->psql('postgres', q{SELECT millrace.wait_for_latest('stopping_view', timeout => '60s')},
	timeout => patience(20));
isnt($rc, 0, 'there is no use in waiting for it');
$node->safe_psql('postgres', q{SELECT millrace.activate('stopping')});
wait_state($node, 'stream', 'stopping', 'stopped');
is($node->safe_psql('postgres', 'SELECT * FROM stopping_view'), '2|3', 'it stops again at the same message');
$node->safe_psql('postgres', q{
	ALTER FOREIGN TABLE stopping OPTIONS (SET on_error 'dead_letter'); SELECT millrace.activate('stopping')});
wait_latest($node, 'stopping_view');
is($node->safe_psql('postgres', 'SELECT * FROM stopping_view'), '3|6', 'another on_error and activate() make it go on');
is($node->safe_psql('postgres', q{SELECT message_offset FROM millrace.dead_letters WHERE stream = 'stopping'::regclass}), '2',
	'with the message as a dead letter');

# A view that fails is alone with it.  Here it fails at its first dead letter.
$node->append_conf('postgresql.conf', 'millrace.dead_letter_limit = 0');
$node->reload;
my $divided = create_stream($node, 'divided', 'id integer, by integer');
$node->safe_psql('postgres', 'CREATE TABLE divisor (by integer PRIMARY KEY, value integer);
	INSERT INTO divisor VALUES (1, 10), (2, 0)');
my $failing = 'SELECT count(*) AS n, sum(id / value) AS parts FROM %s JOIN divisor USING (by)';
create('failing', sprintf $failing, 'divided');
create('healthy', 'SELECT count(*) AS n, sum(id) AS ids FROM divided');
produce($divided, 0, map { qq({"id": $_, "by": 1}) } 1 .. 50);
wait_latest($node, 'failing');
produce($divided, 0, '{"id": 51, "by": 2}', map { qq({"id": $_, "by": 1}) } 52 .. 100);
wait_state($node, 'view', 'failing', 'failed');
wait_latest($node, 'healthy');
is($node->safe_psql('postgres', 'SELECT * FROM healthy'), '100|5050', 'the other view goes on');
like($node->safe_psql('postgres', q{SELECT last_error FROM millrace.views WHERE view = 'failing'::regclass}),
	qr/division by zero/, 'the view says why it failed');
wait_state($node, 'view', 'healthy', 'running');
isnt($node->safe_psql('postgres', q{SELECT state FROM millrace.streams WHERE stream = 'divided'::regclass}), 'failed',
	'so does the stream');
my $began = time;
($rc, $out, $err) = $node->psql('postgres', q{SELECT millrace.wait_for_latest('failing', timeout => '60s')});
isnt($rc, 0, 'waiting for a failed view is an error');
like($err, qr/failing.*division by zero|division by zero.*failing/s, 'with its error');
cmp_ok(time - $began, '<', patience(10), 'at once');
is($node->safe_psql('postgres', 'SELECT n FROM failing'), '50', 'what it held is still to be seen');

# A waiting session learns of the failure, too, and of deactivation.
$node->safe_psql('postgres', q{SELECT millrace.deactivate('healthy')});
($rc, $out, $err) = $node->psql('postgres', q{SELECT millrace.wait_for_latest('healthy', timeout => '60s')});
ok($rc != 0 && $err =~ /healthy/, 'waiting for an inactive view is an error');
($rc, $out, $err) = $node->psql('postgres', q{SELECT millrace.wait_for_offset('healthy', 0, 100, timeout => '60s')});
ok($rc != 0 && $err =~ /healthy/, 'also for an offset');
$node->safe_psql('postgres', q{SELECT millrace.activate('healthy')});
my $waiting = background($node, q{SELECT millrace.wait_for_offset('healthy', 0, 1000, timeout => '60s')});
wait_for($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'SELECT millrace.wait_for_offset(%'
	AND wait_event IS NOT NULL AND state = 'active'});
$node->safe_psql('postgres', q{SELECT millrace.deactivate('healthy')});
(my $ok, $out, $err) = $waiting->finish;
ok(!$ok && $err =~ /healthy/, 'deactivation ends a wait');
$node->safe_psql('postgres', q{SELECT millrace.activate('healthy')});

# Mended
$node->safe_psql('postgres', q{SELECT millrace.activate('failing')});
wait_state($node, 'view', 'failing', 'failed');
$node->safe_psql('postgres', q{UPDATE divisor SET value = 5 WHERE by = 2; SELECT millrace.activate('failing')});
produce($divided, 0, '{"id": 101, "by": 1}');
wait_latest($node, 'failing');
is_same($node, 'failing', sprintf($failing, '(SELECT i AS id, CASE i WHEN 51 THEN 2 ELSE 1 END AS by
	FROM generate_series(1, 101) i) e'), 'after mending and activate() nothing is missing');
wait_state($node, 'view', 'failing', 'running');
is($node->safe_psql('postgres', q{SELECT last_error FROM millrace.views WHERE view = 'failing'::regclass}),
	'', 'the error is forgotten');
wait_latest($node, 'healthy');
is($node->safe_psql('postgres', 'SELECT * FROM healthy'), '101|5151', 'the other view as well');

# Nor is the limit on messages that cannot be decoded softened by good ones that come with them, before or after.
my $mixed = create_stream($node, 'mixed', 'id integer');
produce($mixed, 0, (map { qq({"id": $_}) } 1 .. 20), 'junk', map { qq({"id": $_}) } 21 .. 40);
create('mixed_view', 'SELECT count(*) AS n, sum(id) AS ids FROM mixed');
wait_state($node, 'stream', 'mixed', 'stopped');
is($node->safe_psql('postgres', 'SELECT * FROM mixed_view'), '20|210', 'with a limit of 0 the first one stops the stream');
like($node->safe_psql('postgres', q{SELECT last_error FROM millrace.streams WHERE stream = 'mixed'::regclass}),
	qr/by more than 0: partition 0, offset 20: /, 'which says so');

# One is one, however many ways of decoding reject it.
sub create_dated
{
	my ($on_error) = @_;
	my $stream = "dated_$on_error";
	my $topic = create_stream($node, $stream, 'id integer, d date', options => { on_error => $on_error });
	produce($topic, 0, map({ qq({"id": $_, "d": "2025-01-01"}) } 1 .. 10), map({ qq({"id": 0, "d": "$_"}) } '13/01/2025', '01/13/2025', 'never'),
		map { qq({"id": $_, "d": "2025-01-02"}) } 11 .. 20);
	$node->safe_psql('postgres', 'BEGIN;' . join(' ', map { qq{SET LOCAL DateStyle = 'ISO, $_';
		SELECT millrace.create_continuous_view('${stream}_$_', 'SELECT count(*) AS n, sum(id) AS ids, max(d) AS d FROM $stream');} } 'DMY', 'MDY') . 'COMMIT');
}

sub dead_letter_limit
{
	my ($limit) = @_;
	$node->append_conf('postgresql.conf', "millrace.dead_letter_limit = $limit");
	$node->reload;
}

my $letters = q{SELECT string_agg(message_offset::text, ',' ORDER BY message_offset) FROM millrace.dead_letters WHERE stream = 'dated_dead_letter'::regclass};
dead_letter_limit(2);
create_dated('dead_letter');
wait_state($node, 'stream', 'dated_dead_letter', 'stopped');
is($node->safe_psql('postgres', $letters), '10,11', 'the stream stops before the message that exceeds the limit');
is($node->safe_psql('postgres', "SELECT n FROM dated_dead_letter_$_"), '10', "... for $_") foreach 'DMY', 'MDY';
$node->safe_psql('postgres', q{SELECT millrace.activate('dated_dead_letter')});
wait_latest($node, "dated_dead_letter_$_") foreach 'DMY', 'MDY';
is($node->safe_psql('postgres', $letters), '10,11,12', 'activate() counts anew');
is($node->safe_psql('postgres', "SELECT * FROM dated_dead_letter_$_"), '20|210|2025-01-02', "... for $_") foreach 'DMY', 'MDY';
dead_letter_limit(3);
create_dated('skip');
wait_latest($node, "dated_skip_$_") foreach 'DMY', 'MDY';
is($node->safe_psql('postgres', q{SELECT skipped, dead_letters FROM millrace.streams WHERE stream = 'dated_skip'::regclass}), '3|0',
	'each one is skipped once');

done_testing();
