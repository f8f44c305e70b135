# Offsets of another log: a topic created again, one that has lost its last
# messages, fewer partitions, another cluster.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $query = 'SELECT count(*) AS n, sum(id) AS ids, min(id) AS first, max(id) AS last FROM %s e';
my %topics;
my %keep = ('retention.ms' => -1);	# old timestamps, too

sub stream
{
	my ($name, %opt) = @_;
	$topics{$name} = create_stream($node, $name, event_columns(), config => \%keep, %opt);
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('${name}_view', \$\$"
		  . sprintf($query, $name) . "\$\$)");
}

sub send_events
{
	my ($name, $partition, @ids) = @_;
	produce($topics{$name}, $partition, map { event($_) } @ids);
}

# with timestamps of their own, so that the same messages can be written twice
sub send_dated
{
	my ($name, @ids) = @_;
	produce($topics{$name}, 0, map { { value => event($_), timestamp => 1_600_000_000_000 + $_ } } @ids);
}

sub create_again
{
	my ($name, %opt) = @_;
	client()->command('delete', $topics{$name});
	create_topic($topics{$name}, config => \%keep, %opt);
}

sub gaps
{
	my ($stream) = @_;
	return $node->safe_psql('postgres', "SELECT partition, from_offset, to_offset FROM millrace.gaps
		WHERE stream = '$stream'::regclass ORDER BY 1, 2, 3");
}

sub reason_like
{
	my ($stream, $regex, $name) = @_;
	like($node->safe_psql('postgres', "SELECT reason FROM millrace.gaps WHERE stream = '$stream'::regclass LIMIT 1"),
		$regex, $name);
}

sub is_part
{
	my ($view, $where, $name) = @_;
	wait_latest($node, $view);
	is_same($node, $view, sprintf($query, '(SELECT e.* FROM ' . events(10000) . " e WHERE $where)"), $name);
}

# Created again, and longer than it was: the offset is there, its message is not.
stream('longer', options => { on_gap => 'earliest' });
stream('longer_latest', options => { on_gap => 'latest' });
stream('longer_stops');
stream('longer_alive', options => { on_gap => 'earliest' });
stream('untouched');
foreach my $name (qw(longer longer_latest longer_stops longer_alive untouched))
{
	send_events($name, 0, 1 .. 50);
	is_part("${name}_view", 'id <= 50', "$name: as it was");
}
create_again('longer_alive');
send_events('longer_alive', 0, 101 .. 180);
is_part('longer_alive_view', 'id <= 50 OR id BETWEEN 101 AND 180', 'while running: from its beginning');
is(gaps('longer_alive'), '0|50|0', 'and recorded');
reason_like('longer_alive', qr/created again/, 'with the reason');

$node->stop('fast');
foreach my $name (qw(longer longer_latest longer_stops))
{
	create_again($name);
	send_events($name, 0, 101 .. 180);
}
$node->start;
is_part('longer_view', 'id <= 50 OR id BETWEEN 101 AND 180', 'while the server was down: from its beginning');
is(gaps('longer'), '0|50|0', 'and recorded');
send_events('longer_latest', 0, 181 .. 190);
wait_latest($node, 'longer_latest_view');
my ($to) = gaps('longer_latest') =~ /^0\|50\|(\d+)$/;
ok(defined $to && $to >= 80 && $to <= 90, 'latest: it goes on at the end') or diag gaps('longer_latest');
is_part('longer_latest_view', "id <= 50 OR id BETWEEN 101 + $to AND 190", 'with what came after it');
wait_state($node, 'stream', 'longer_stops', 'stopped');
is(gaps('longer_stops'), '0|50|0', 'stop: recorded');
is_same($node, 'longer_stops_view', sprintf($query, events(50)), 'and nothing taken');
like($node->safe_psql('postgres', q{SELECT last_error FROM millrace.streams WHERE stream = 'longer_stops'::regclass}),
	qr/created again.*activate.*offset 0/, 'the error says where it would go on');
$node->safe_psql('postgres', q{SELECT millrace.deactivate('longer_stops'); SELECT millrace.activate('longer_stops')});
is_part('longer_stops_view', 'id <= 50 OR id BETWEEN 101 AND 180', 'once it is told to');
is_part('untouched_view', 'id <= 50', 'another stream is not concerned');
is(gaps('untouched'), '', 'at all');

# The last messages are lost, and others written in their place: as many, fewer, or none.  Nothing is taken twice,
# whatever on_gap says, and whether or not anybody was looking.
my %log = (rewritten => [ 1 .. 30, 131 .. 150 ], short => [ 1 .. 30, 131 .. 135 ], cut => [ 1 .. 30 ]);
my @lost = map { my $way = $_; map { my $log = $_; map { "${log}_${way}_$_" } 'down', 'up' } sort keys %log } qw(earliest latest stop);
foreach my $name (@lost)
{
	my ($log, $way) = split /_/, $name;
	stream($name, options => { on_gap => $way });
	send_dated($name, 1 .. 20);
}
wait_latest($node, "${_}_view") foreach @lost;
send_dated($_, 21 .. 40) foreach @lost;
is_part("${_}_view", 'id <= 40', "$_: as it was") foreach @lost;

sub lose
{
	my ($when) = @_;
	foreach my $name (grep { /_$when/ } @lost)
	{
		create_again($name);
		send_dated($name, @{ $log{ $name =~ s/_.*//r } });
	}
}

# in the eyes of workers that do not see how it is done
wait_joined($node, $_) foreach grep { /_up/ } @lost;
my @workers = map { worker_pid($node, $_) } grep { /_up/ } @lost;
kill 'STOP', @workers;
lose('up');
kill 'CONT', @workers;
wait_for($node, "SELECT count(*) > 0 FROM millrace.gaps WHERE stream = '$_'::regclass") foreach grep { /_up/ } @lost;
$node->stop('fast');
lose('down');
$node->start;
foreach my $name (@lost)
{
	my ($log, $way) = split /_/, $name;
	my $last = @{ $log{$log} };
	wait_for($node, "SELECT count(*) > 0 FROM millrace.gaps WHERE stream = '$name'::regclass");
	like(gaps($name), $log eq 'rewritten' ? qr/^0\|([1-9]|1\d|20)\|40$/ : $log eq 'short' ? qr/^0\|([1-9]|1\d|20|40)\|$last$/ : qr/^0\|40\|$last$/,
		"$name: the gap ends where reading goes on, and begins where the log is known to be the same, or where the view stood");
	reason_like($name, qr/unclean leader election/, 'with the reason');
	if ($way eq 'stop')
	{
		wait_state($node, 'stream', $name, 'stopped');
		is_same($node, "${name}_view", sprintf($query, events(40)), 'nothing is taken');
		$node->safe_psql('postgres', "SELECT millrace.activate('$name')");
	}
	send_dated($name, 151 .. 155);
	is_part("${name}_view", 'id <= 40 OR id BETWEEN 151 AND 155' . ($log eq 'rewritten' ? ' OR id BETWEEN 141 AND 150' : ''),
		'nothing is taken twice, and nothing else is missing');
}
$node->safe_psql('postgres', 'DROP FOREIGN TABLE ' . join(', ', @lost) . ' CASCADE');

# Once more, before anything new was taken
stream('twice');
send_dated('twice', 1 .. 20);
wait_latest($node, 'twice_view');
send_dated('twice', 21 .. 40);
is_part('twice_view', 'id <= 40', 'twice: as it was');
foreach my $end (30, 25)
{
	create_again('twice');
	send_dated('twice', 1 .. $end);
	wait_state($node, 'stream', 'twice', 'stopped');
	$node->safe_psql('postgres', q{SELECT millrace.activate('twice')});
	wait_state($node, 'stream', 'twice', 'running');
	is_part('twice_view', 'id <= 40', "twice: nothing is taken again ($end)");
}
is(gaps('twice'), "0|30|25\n0|40|30", 'and both losses are recorded');
send_dated('twice', 151 .. 155);
is_part('twice_view', 'id <= 40 OR id BETWEEN 151 AND 155', 'twice: it goes on');

# At once after its worker has opened the stream anew, to take in another view
stream('soon', options => { on_gap => 'earliest' });
send_events('soon', 0, 1 .. 20);
is_part('soon_view', 'id <= 20', 'soon: as it was');
$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('soon_too', \$\$" . sprintf($query, 'soon') . "\$\$)");
wait_joined($node, 'soon');
create_again('soon');
send_events('soon', 0, 101 .. 130);
is_part($_, 'id <= 20 OR id BETWEEN 101 AND 130', "soon: $_") foreach qw(soon_view soon_too);
is(gaps('soon'), '0|20|0', 'soon: and recorded');

# A view of two streams, one of which has stopped, that cannot take messages of the other: it leaves the others there
# only, and accepts nothing here.
stream($_) foreach qw(stood went);
create_trouble($node, 'bigint');
$node->safe_psql('postgres',
  q{SELECT millrace.create_continuous_view('both_view', 'SELECT count(*) AS n, sum(troubled(id)) AS ids, min(id) AS first,
	max(id) AS last FROM (SELECT id FROM stood UNION ALL SELECT id FROM went) e')});
send_events('stood', 0, 1 .. 20);
send_events('went', 0, 201 .. 210);
is_part('both_view', 'id <= 20 OR id BETWEEN 201 AND 210', 'both: as it was');
create_again('stood');
send_events('stood', 0, 101 .. 130);
wait_state($node, 'stream', 'stood', 'stopped');
$node->safe_psql('postgres', 'UPDATE trouble SET here = true');
send_events('went', 0, 211 .. 220);
is_part('went_view', 'id BETWEEN 201 AND 220', 'both: the others of the stream that goes on have left it behind');
$node->safe_psql('postgres', 'UPDATE trouble SET here = false');
wait_for($node, 'SELECT n = 40 FROM both_view');
is_same($node, 'both_view', sprintf($query, '(SELECT e.* FROM ' . events(10000) . ' e WHERE id <= 20 OR id BETWEEN 201 AND 220)'),
	'both: it follows them later, and takes nothing of a log that nobody has accepted');
is($node->safe_psql('postgres', q{SELECT count(DISTINCT feed) FROM millrace.view_stream WHERE stream = 'stood'::regclass}), 1,
	'both: where it stays with those that stand');
$node->safe_psql('postgres', q{SELECT millrace.activate('stood')});
is_part('both_view', 'id <= 20 OR id BETWEEN 101 AND 130 OR id BETWEEN 201 AND 220', 'both: until it is told to');

# The very same messages are the same log, whoever wrote them.
stream('copied');
send_dated('copied', 1 .. 20);
wait_latest($node, 'copied_view');
$node->stop('fast');
create_again('copied');
send_dated('copied', 1 .. 30);
$node->start;
is_part('copied_view', 'id <= 30', 'a faithful copy goes on');
is(gaps('copied'), '', 'without a gap');

# The last message is gone, which is no reason to doubt.
stream('expired');
stream('compacted', config => { 'cleanup.policy' => 'compact', 'segment.ms' => 100,
	'min.cleanable.dirty.ratio' => '0.01', 'max.compaction.lag.ms' => 100 });
$node->safe_psql('postgres', qq{CREATE FOREIGN TABLE offsets (off bigint OPTIONS (metadata 'offset'))
	SERVER kafka OPTIONS (topic '$topics{compacted}')});
send_events('expired', 0, 1 .. 20);
produce($topics{compacted}, 0, map { [ 'a', event($_) ] } 1 .. 20);
wait_latest($node, $_) foreach qw(expired_view compacted_view);
$node->safe_psql('postgres', q{SELECT millrace.deactivate('compacted_view')});
my $last = 20;
foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	produce($topics{compacted}, 0, [ 'a', event(++$last) ]);
	last if $node->safe_psql('postgres', 'SELECT min(off) > 19 FROM offsets') eq 't';
	select undef, undef, undef, 0.1;
}
is($node->safe_psql('postgres', 'SELECT min(off) > 19 FROM offsets'), 't', 'message 20 was compacted away');
$node->stop('fast');
client()->command('truncate', $topics{expired}, 0, 20);
send_events('expired', 0, 21 .. 30);
$node->start;
$node->safe_psql('postgres', q{SELECT millrace.activate('compacted_view')});
is_part('expired_view', 'id <= 30', 'expired: it goes on');
is(gaps('expired'), '', 'without a gap');
send_events('expired', 0, 31);
is_part('expired_view', 'id <= 31', 'and on');
wait_latest($node, 'compacted_view');
is($node->safe_psql('postgres', 'SELECT last FROM compacted_view'), $last, 'compacted: it goes on');
is(gaps('compacted'), '', 'without a gap');

# Fewer partitions
stream('fewer', partitions => 3, options => { on_gap => 'earliest' });
stream('fewer_stops', partitions => 3, options => { workers => 2 });
foreach my $name (qw(fewer fewer_stops))
{
	send_events($name, $_ - 1, $_ * 10 - 9 .. $_ * 10) foreach 1 .. 3;
	is_part("${name}_view", 'id <= 30', "$name: as it was");
}
foreach my $name (qw(fewer fewer_stops))
{
	create_again($name, partitions => 2);
	send_events($name, 0, 101 .. 120);
}
wait_for($node, q{SELECT count(*) = 3 FROM millrace.gaps WHERE stream = 'fewer'::regclass});
is_part('fewer_view', 'id <= 30 OR id BETWEEN 101 AND 120', 'fewer partitions: the topic is read from its beginning');
is(gaps('fewer'), "0|10|0\n1|10|0\n2|10|0", 'all partitions begin anew');
reason_like('fewer', qr/fewer partitions/, 'with the reason');
client()->command('partitions', $topics{fewer}, 3);
send_events('fewer', 2, 121 .. 125);
is_part('fewer_view', 'id <= 30 OR id BETWEEN 101 AND 125', 'and the third when it is there again');
$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('fewer_new', \$\$" . sprintf($query, 'fewer') . "\$\$)");
is_part('fewer_new', 'id BETWEEN 101 AND 125', 'a new view');
wait_state($node, 'view', 'fewer_new', 'running');
wait_state($node, 'stream', 'fewer_stops', 'stopped');
is_same($node, 'fewer_stops_view', sprintf($query, events(30)), 'stop: nothing is taken');
$node->safe_psql('postgres', q{SELECT millrace.activate('fewer_stops')});
is_part('fewer_stops_view', 'id <= 30 OR id BETWEEN 101 AND 120', 'until it is told to');

# A view that knew partitions which the others never met joins them.
stream('shrunk', partitions => 3, options => { on_gap => 'earliest' });
send_events('shrunk', $_ - 1, $_ * 10 - 9 .. $_ * 10) foreach 1 .. 3;
is_part('shrunk_view', 'id <= 30', 'shrunk: as it was');
$node->safe_psql('postgres', q{SELECT millrace.deactivate('shrunk_view')});
create_again('shrunk', partitions => 2);
send_events('shrunk', 0, 101 .. 120);
$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('shrunk_new', \$\$" . sprintf($query, 'shrunk') . "\$\$)");
is_part('shrunk_new', 'id BETWEEN 101 AND 120', 'shrunk: a view that never knew more partitions');
$node->safe_psql('postgres', q{SELECT millrace.activate('shrunk_view')});
wait_joined($node, 'shrunk');
is_part('shrunk_view', 'id <= 30 OR id BETWEEN 101 AND 120', 'is joined by one that did');

# Several workers find out one after the other: the first has gone on by then.
stream('halved', partitions => 4, options => { on_gap => 'earliest', workers => 2 });
send_events('halved', $_ - 1, $_ * 10 - 9 .. $_ * 10) foreach 1 .. 4;
is_part('halved_view', 'id <= 40', 'halved: as it was');
my $second = q{FROM millrace.workers WHERE stream = 'halved'::regclass AND shard = 1};
create_again('halved', partitions => 2);
wait_for($node, "SELECT state = 'retrying' $second");
my $since = $node->safe_psql('postgres', "SELECT last_error_at $second");
wait_for($node, "SELECT state = 'retrying' AND last_error_at > timestamptz '$since' + '1s' $second");	# it has opened anew
my $second_pid = $node->safe_psql('postgres', "SELECT pid $second");
kill 'STOP', $second_pid;
send_events('halved', 0, 101 .. 120);
wait_for($node, q{SELECT count(*) = 4 FROM millrace.gaps WHERE stream = 'halved'::regclass});
wait_for($node, 'SELECT n = 60 FROM halved_view');
kill 'CONT', $second_pid;
wait_for($node, "SELECT state = 'running' $second");
send_events('halved', 1, 121 .. 130);
is_part('halved_view', 'id <= 40 OR id BETWEEN 101 AND 130', 'halved: nothing is taken twice');
is(gaps('halved'), join("\n", map { "$_|10|0" } 0 .. 3), 'halved: nor recorded');

# A view that was to begin further on, and has not looked yet
stream('due', options => { on_gap => 'earliest' });
send_events('due', 0, 1 .. 50);
is_part('due_view', 'id <= 50', 'due: as it was');
$node->safe_psql('postgres', "BEGIN; SELECT millrace.create_continuous_view('due_new', \$\$" . sprintf($query, 'due') . "\$\$, start_at => 'latest');
	SELECT millrace.deactivate('due_new'); COMMIT");
create_again('due');
send_events('due', 0, 101 .. 120);
wait_for($node, q{SELECT count(*) = 1 FROM millrace.gaps WHERE stream = 'due'::regclass});
is_part('due_view', 'id <= 50 OR id BETWEEN 101 AND 120', 'due: from its beginning');
$node->safe_psql('postgres', q{SELECT millrace.activate('due_new')});
is_part('due_new', 'id BETWEEN 101 AND 120', 'due: and for a view that had not begun');

# A view does not join a live one that waits before a gap.
stream('waits');
send_events('waits', 0, 1 .. 20);
wait_latest($node, 'waits_view');
create_again('waits');
send_events('waits', 0, 101 .. 140);
wait_state($node, 'stream', 'waits', 'stopped');
$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('waits_new', \$\$" . sprintf($query, 'waits') . "\$\$)");
wait_for($node, 'SELECT n = 20 FROM waits_new');
$node->safe_psql('postgres', q{SELECT millrace.activate('waits_view')});
is_part('waits_view', 'id <= 20 OR id BETWEEN 101 AND 140', 'the live view goes on at the beginning');
is_part('waits_new', 'id BETWEEN 101 AND 140', 'the one that waited for it takes nothing twice');

# A view that began in the midst of the former log begins anew in the next one.
foreach my $on_gap (qw(earliest stop))
{
	my $name = "midst_$on_gap";
	stream($name, options => { on_gap => $on_gap });
	send_events($name, 0, 1 .. 50);
	wait_latest($node, "${name}_view");
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('${name}_late', \$\$"
		  . sprintf($query, $name) . "\$\$, start_at => 'latest')");
	send_events($name, 0, 51 .. 60);
	is_part("${name}_late", 'id BETWEEN 51 AND 60', "$on_gap: a view that begins late");
	create_again($name);
	send_events($name, 0, 101 .. 140);
	if ($on_gap eq 'stop')
	{
		wait_state($node, 'stream', $name, 'stopped');
		$node->safe_psql('postgres', "SELECT millrace.activate('$name')");
	}
	is_part("${name}_late", 'id BETWEEN 51 AND 60 OR id BETWEEN 101 AND 140', "$on_gap: it has all of the topic that was created again");
	is_part("${name}_view", 'id <= 60 OR id BETWEEN 101 AND 140', "$on_gap: as have others");
}

# So does one that was not active meanwhile, though it stands further on than the live one, and has nothing to take before.
stream('absent', options => { on_gap => 'earliest' });
send_events('absent', 0, 1 .. 50);
wait_latest($node, 'absent_view');
$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('absent_late', \$\$"
	  . sprintf($query, 'absent') . "\$\$, start_at => 'latest')");
wait_latest($node, 'absent_late');
wait_joined($node, 'absent');
$node->safe_psql('postgres', q{SELECT millrace.deactivate('absent_late')});
create_again('absent');
send_events('absent', 0, 101 .. 105);
is_part('absent_view', 'id <= 50 OR id BETWEEN 101 AND 105', 'the live view has begun with the new log');
$node->safe_psql('postgres', q{SELECT millrace.activate('absent_late')});
wait_joined($node, 'absent');
send_events('absent', 0, 106 .. 140);
is_part('absent_late', 'id BETWEEN 101 AND 140', 'a view that joins it does not miss the beginning');
is_part('absent_view', 'id <= 50 OR id BETWEEN 101 AND 140', 'nor has the other one missed anything');

# Rebuilt, a view takes what there is, though its offset in the former log was higher, and the stream
# has no end where that would be seen.
stream('busy', options => { on_gap => 'earliest' });
send_events('busy', 0, 1 .. 50);
wait_latest($node, 'busy_view');
$node->safe_psql('postgres', q{SELECT millrace.deactivate('busy_view');
	CREATE TABLE held AS SELECT 1 AS one;
	SELECT millrace.create_continuous_view('busy_live', 'SELECT count(*) AS n FROM busy JOIN held ON true')});
wait_for($node, 'SELECT n = 50 FROM busy_live');
create_again('busy');
send_events('busy', 0, 101 .. 120);
wait_for($node, 'SELECT n = 70 FROM busy_live');
my $holder = open_transaction($node, 'LOCK TABLE held IN ACCESS EXCLUSIVE MODE');
send_events('busy', 0, 121 .. 130);
$node->safe_psql('postgres', q{SELECT millrace.rebuild('busy_view')});
wait_for($node, q{SELECT n = 20 FROM busy_view});
is($node->safe_psql('postgres', q{SELECT rebuild IS NULL FROM millrace.views WHERE view = 'busy_view'::regclass}), 't',
	'rebuilt as far as the live view is, in another log');
$holder->end;
is_part('busy_view', 'id BETWEEN 101 AND 130', 'and goes on with it');

# The same range is lost of a topic, and of the one that comes after it.
stream('lost_again', options => { on_gap => 'earliest' });
wait_latest($node, 'lost_again_view');
foreach my $first (100, 200)
{
	$node->safe_psql('postgres', q{SELECT millrace.deactivate('lost_again_view')});
	send_events('lost_again', 0, $first + 1 .. $first + 10);
	client()->command('truncate', $topics{lost_again}, 0, 10);
	send_events('lost_again', 0, $first + 11 .. $first + 15);
	$node->safe_psql('postgres', q{SELECT millrace.activate('lost_again_view')});
	is_part('lost_again_view', "id BETWEEN 111 AND 115 OR id BETWEEN $first + 11 AND $first + 15", 'what is left is taken');
	last if $first == 200;
	create_again('lost_again');
	wait_for($node, q{SELECT count(*) = 2 FROM millrace.gaps WHERE stream = 'lost_again'::regclass});
}
is(gaps('lost_again'), "0|0|10\n0|0|10\n0|15|0", 'each loss is recorded');

done_testing();
