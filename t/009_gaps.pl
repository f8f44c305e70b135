# Messages that the broker deleted before they were read.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "millrace.retry_max_interval = 2s\n");
my $query = 'SELECT count(*) AS n, sum(id) AS ids, min(id) AS first, max(id) AS last FROM %s e';
my %topics;

sub stream
{
	my ($name, %options) = @_;
	$topics{$name} = create_stream($node, $name, event_columns(), options => \%options);
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('${name}_view', \$\$"
		  . sprintf($query, $name) . "\$\$)");
}

sub gaps
{
	my ($stream) = @_;
	return $node->safe_psql('postgres', "SELECT partition, from_offset, to_offset FROM millrace.gaps
		WHERE stream = '$stream'::regclass AND reason <> '' AND detected_at > now() - interval '1 hour' ORDER BY 2, 3");
}

sub is_part
{
	my ($view, $where, $name) = @_;
	is_same($node, $view, sprintf($query, '(SELECT e.* FROM ' . events(1000) . " e WHERE $where)"), $name);
}

# Lost while the server was down.  Message i has the offset i - 1.
stream('stops');
stream('from_earliest', on_gap => 'earliest');
stream('from_latest', on_gap => 'latest');
stream('untouched');
my @all = map { event($_) } 1 .. 200;
foreach my $name (sort keys %topics)
{
	produce($topics{$name}, 0, @all[ 0 .. 99 ]);
	wait_latest($node, "${name}_view");
}
# what was deleted after it was taken is no loss
client()->command('truncate', $topics{$_}, 0, 100) foreach sort keys %topics;
$node->stop('fast');
foreach my $name (sort keys %topics)
{
	produce($topics{$name}, 0, @all[ 100 .. 199 ]);
	client()->command('truncate', $topics{$name}, 0, 150) if $name ne 'untouched';
}
$node->start;

wait_latest($node, 'untouched_view');
is_part('untouched_view', 'id <= 200', 'nothing lost, nothing missing');
is(gaps('untouched'), '', 'and no gap');

wait_latest($node, 'from_earliest_view');
is_part('from_earliest_view', 'id <= 100 OR id BETWEEN 151 AND 200', 'earliest goes on with what is left');
is(gaps('from_earliest'), '0|100|150', 'the gap is what was lost');

produce($topics{from_latest}, 0, map { event($_) } 201 .. 210);
wait_latest($node, 'from_latest_view');
my ($partition, $from, $to) = split /\|/, gaps('from_latest');
is("$partition|$from", '0|100', 'latest: the gap begins where the view was');
ok($to >= 200 && $to <= 210, 'and ends at the end') or diag($to);
is_part('from_latest_view', "id <= 100 OR id BETWEEN $to + 1 AND 210", 'the view holds all but the gap');

wait_state($node, 'stream', 'stops', 'stopped');
wait_state($node, 'view', 'stops_view', 'stopped');
is(gaps('stops'), '0|100|150', 'stop: the gap is recorded');
like($node->safe_psql('postgres', q{SELECT last_error FROM millrace.streams WHERE stream = 'stops'::regclass}), qr/100/,
	'and shown as an error');
is_part('stops_view', 'id <= 100', 'nothing is taken behind it');
my ($rc) = $node->psql('postgres', q{SELECT millrace.wait_for_latest('stops_view', timeout => '60s')}, timeout => patience(20));
isnt($rc, 0, 'there is no use in waiting');
$node->restart;
wait_state($node, 'stream', 'stops', 'stopped');
is_part('stops_view', 'id <= 100', 'also after a restart');
is(gaps('stops'), '0|100|150', 'recorded once');
$node->safe_psql('postgres', q{
	ALTER FOREIGN TABLE stops OPTIONS (ADD on_gap 'earliest'); SELECT millrace.activate('stops')});
wait_latest($node, 'stops_view');
is_part('stops_view', 'id <= 100 OR id BETWEEN 151 AND 200', 'it goes on when it is told to');

# Lost while a view was inactive; the live one has it all.
$node->safe_psql('postgres', qq{
	SELECT millrace.create_continuous_view('sleeper', \$\$@{[sprintf $query, 'from_earliest']}\$\$);});
wait_latest($node, 'sleeper');
is_part('sleeper', 'id BETWEEN 151 AND 200', 'a new view begins with what is left');
is(gaps('from_earliest'), '0|100|150', 'without a gap of its own');
$node->safe_psql('postgres', q{SELECT millrace.deactivate('sleeper')});
produce($topics{from_earliest}, 0, map { event($_) } 201 .. 300);
wait_latest($node, 'from_earliest_view');
client()->command('truncate', $topics{from_earliest}, 0, 280);
$node->safe_psql('postgres', q{SELECT millrace.activate('sleeper')});
wait_latest($node, 'sleeper');
is_part('sleeper', 'id BETWEEN 151 AND 200 OR id BETWEEN 281 AND 300', 'an inactive view misses what was deleted');
is_part('from_earliest_view', 'id <= 100 OR id BETWEEN 151 AND 300', 'the live one does not');
is(gaps('from_earliest'), "0|100|150\n0|200|280", 'its gap');

# Many, over several partitions and two workers
$topics{many} = create_stream($node, 'many', event_columns(), partitions => 3,
	options => { on_gap => 'earliest', workers => 2 });
$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('many_view', \$\$" . sprintf($query, 'many') . "\$\$)");
produce($topics{many}, $_ - 1, map { event($_) } $_ * 4000 - 3999 .. $_ * 4000 - 3000) foreach 1 .. 3;
wait_latest($node, 'many_view');
$node->stop('fast');
produce($topics{many}, $_ - 1, map { event($_) } $_ * 4000 - 2999 .. $_ * 4000) foreach 1 .. 3;
client()->command('truncate', $topics{many}, 1, 4000);
$node->start;
wait_latest($node, 'many_view');
is($node->safe_psql('postgres', q{SELECT partition, from_offset, to_offset, passed FROM millrace.gaps
	WHERE stream = 'many'::regclass}), '1|1000|4000|t', '3,000 expired messages are a gap with these bounds');
is_same($node, 'many_view', sprintf($query, '(SELECT e.* FROM ' . events(12000) . ' e WHERE id NOT BETWEEN 5001 AND 8000)'),
	'and nothing else is missing');

# Partitions that were added while the server was down, and have lost their first messages
stream('grown', on_gap => 'earliest', workers => 2);
$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('grown_away', \$\$" . sprintf($query, 'grown') . "\$\$)");
produce($topics{grown}, 0, map { event($_) } 1 .. 10);
wait_latest($node, $_) foreach qw(grown_view grown_away);
$node->safe_psql('postgres', q{SELECT millrace.deactivate('grown_away')});
$node->stop('fast');
client()->command('partitions', $topics{grown}, 3);
produce($topics{grown}, $_, map { event($_) } 100 * $_ + 1 .. 100 * $_ + 20) foreach 1, 2;
client()->command('truncate', $topics{grown}, $_, 5) foreach 1, 2;
$node->start;
wait_latest($node, 'grown_view');
is_part('grown_view', 'id <= 10 OR id BETWEEN 106 AND 120 OR id BETWEEN 206 AND 220', 'partitions that were added meanwhile');
wait_for($node, q{SELECT count(*) = 2 FROM millrace.gaps WHERE stream = 'grown'::regclass});
is(gaps('grown'), "1|0|5\n2|0|5", 'what they have lost is a gap');
client()->command('truncate', $topics{grown}, 2, 15);
$node->safe_psql('postgres', q{SELECT millrace.activate('grown_away')});
wait_latest($node, 'grown_away');
is_part('grown_away', 'id <= 10 OR id BETWEEN 106 AND 120 OR id BETWEEN 216 AND 220', 'and of a view that was not active then');
is(gaps('grown'), "1|0|5\n2|0|5\n2|0|15", 'what it has missed');
$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('grown_late', \$\$" . sprintf($query, 'grown') . "\$\$)");
wait_latest($node, 'grown_late');
is(gaps('grown'), "1|0|5\n2|0|5\n2|0|15", 'a new view misses nothing');

# What is lost of partitions that were met by workers whose first steps fail
create_trouble($node, 'bigint');
my $troubled = 'SELECT count(*) AS n, sum(troubled(id)) AS total FROM %s';
sub troubled_view
{
	my ($name) = @_;
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('${name}_troubled', '" . sprintf($troubled, $name) . "')");
}
sub is_troubled
{
	my ($name, $where, $text) = @_;
	is_same($node, "${name}_troubled", sprintf($troubled, '(SELECT e.* FROM ' . events(1000) . " e WHERE $where) e"), $text);
}
$topics{added} = create_stream($node, 'added', event_columns(), options => { on_gap => 'earliest', workers => 2 });
troubled_view('added');
produce($topics{added}, 0, map { event($_) } 1 .. 10);
wait_latest($node, 'added_troubled');
$node->safe_psql('postgres', 'UPDATE trouble SET here = true');
$topics{begun} = create_stream($node, 'begun', event_columns(), options => { on_gap => 'earliest' });
produce($topics{begun}, 0, map { event($_) } 1 .. 10);
troubled_view('begun');
client()->command('partitions', $topics{added}, 3);
produce($topics{added}, $_, map { event($_) } 100 * $_ + 1 .. 100 * $_ + 20) foreach 1, 2;
wait_for($node, "SELECT partitions = 3 FROM millrace.feed WHERE stream = 'added'::regclass");
wait_for($node, "SELECT partitions = 1 FROM millrace.feed WHERE stream = 'begun'::regclass");
client()->command('truncate', $topics{added}, $_, 5) foreach 1, 2;
client()->command('truncate', $topics{begun}, 0, 5);
$node->safe_psql('postgres', 'UPDATE trouble SET here = false');
wait_for($node, q{SELECT count(*) = 3 FROM millrace.gaps WHERE stream IN ('added'::regclass, 'begun'::regclass)});
wait_latest($node, "${_}_troubled") foreach qw(added begun);
is_troubled('added', 'id <= 10 OR id BETWEEN 106 AND 120 OR id BETWEEN 206 AND 220', 'added partitions, while steps failed');
is(gaps('added'), "1|0|5\n2|0|5", 'what they have lost is a gap');
is_troubled('begun', 'id BETWEEN 6 AND 10', 'a view whose first step failed');
is(gaps('begun'), '0|0|5', 'what it has missed since it looked first is a gap');

# Retention instead of an administrator
my $retained = create_stream($node, 'retained', event_columns(),
	config => { 'retention.bytes' => 1, 'segment.bytes' => 1048576 }, options => { on_gap => 'earliest' });
$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('retained_view', \$\$"
	  . sprintf($query, 'retained') . "\$\$)");
produce($retained, 0, @all[ 0 .. 9 ]);
wait_latest($node, 'retained_view');
$node->stop('fast');
my $filler = 'x' x 100_000;
produce($retained, 0, map { qq({"id": $_, "s": "$filler"}) } 11 .. 40);
my $low = 0;
foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	($low) = watermarks($retained, 0);
	last if $low > 10;
	select undef, undef, undef, 0.1;
}
cmp_ok($low, '>', 10, 'retention deleted messages');
$node->start;
produce($retained, 0, event(41));
wait_latest($node, 'retained_view');
my ($gap_from, $gap_to) = (split /\|/, gaps('retained'))[ 1, 2 ];
is($gap_from, 10, 'the gap begins with the first message that was not taken');
cmp_ok($gap_to, '>=', $low, 'and ends with the first that was left');
is_same($node, 'retained_view', "SELECT count(*), sum(i), min(i), max(i) FROM generate_series(1::bigint, 41::bigint) i
	WHERE i <= 10 OR i > $gap_to", 'the rest is there');

# A topic deleted and created again, shorter than it was
stream('again', on_gap => 'earliest');
stream('again_stops');
foreach my $name (qw(again again_stops))
{
	produce($topics{$name}, 0, @all[ 0 .. 49 ]);
	wait_latest($node, "${name}_view");
}
$node->stop('fast');
foreach my $name (qw(again again_stops))
{
	client()->command('delete', $topics{$name});
	create_topic($topics{$name});
	produce($topics{$name}, 0, @all[ 100 .. 129 ]);
}
$node->start;
wait_latest($node, 'again_view');
is_part('again_view', 'id <= 50 OR id BETWEEN 101 AND 130', 'a topic created again is read from its beginning');
isnt(gaps('again'), '', 'with a note of it');
wait_state($node, 'stream', 'again_stops', 'stopped');
is_part('again_stops_view', 'id <= 50', 'or not at all');
isnt(gaps('again_stops'), '', 'with a note of it');
is($node->safe_psql('postgres', q{SELECT next_offset > high_watermark, lag IS NULL, lag_seconds IS NULL
	FROM millrace.partitions WHERE view = 'again_stops_view'::regclass}), 't|t|t', 'how far it is behind nobody knows');

# While the worker is alive, but behind: held by a lock that its only view needs (only_), or one of two views, which
# leaves the other (two_).  Where another view comes meanwhile (late_), the held worker begins anew, and that view may
# have to go on at an offset that the live feed has yet to reach.
$node->safe_psql('postgres', qq{CREATE TABLE dim AS SELECT generate_series(0, 6) AS k;
	CREATE SERVER frugal FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" '@{[bootstrap()]}',
		"queued.max.messages.kbytes" '2', "queued.min.messages" '1', "fetch.message.max.bytes" '2000')});

# all of its views at once, so that they are on one feed
sub held_stream
{
	my ($name, $held, @others) = @_;
	my %views = ("${name}_held" => $held ? "dim NATURAL JOIN $name" : $name, map { +"${name}_$_" => $name } @others);
	$topics{$name} = create_stream($node, $name, event_columns(), server => $name =~ /two/ ? 'kafka' : 'frugal',
		options => { on_gap => $name =~ s/.*_//r });
	$node->safe_psql('postgres', join ' ', 'BEGIN;', (map { "SELECT millrace.create_continuous_view('$_', \$\$"
		  . sprintf($query, $views{$_}) . '$$);' } sort keys %views), 'COMMIT');
}

# not as one batch, so that a worker does not fetch all of it at once
sub send_events
{
	my ($name, $first, $last) = @_;
	for (my $i = $first; $i <= $last; $i += 10)
	{
		produce($topics{$name}, 0, map { event($_) } $i .. ($i + 9 < $last ? $i + 9 : $last));
	}
}

sub wait_held
{
	wait_for($node, "SELECT state = 'retrying' AND last_error LIKE '%dim%' FROM millrace.views WHERE view = '${_}_held'::regclass") foreach @_;
}

sub activate { $node->safe_psql('postgres', "SELECT millrace.activate('$_')") foreach @_ }

my @ways = qw(stop earliest latest);
my @behind = map { ("only_$_", "two_$_", "late_$_") } @ways;
held_stream($_, 1, /only/ ? () : 'other') foreach @behind;
send_events($_, 1, 100) foreach @behind;
foreach my $name (@behind)
{
	wait_latest($node, "${name}_held");
	wait_latest($node, "${name}_other") if $name !~ /only/;
	$node->safe_psql('postgres', "SELECT millrace.deactivate('${name}_other')") if $name =~ /late_/;
}
my $locked = open_transaction($node, 'LOCK TABLE dim');
send_events($_, 101, 110) foreach @behind;
wait_held(@behind);
foreach my $name (@behind)
{
	send_events($name, 111, 300);
	wait_latest($node, "${name}_other") if $name =~ /two/;
	client()->command('truncate', $topics{$name}, 0, 270);
}
activate(map { "late_${_}_other" } @ways);
wait_for($node, "SELECT count(*) = 1 FROM millrace.gaps WHERE stream = 'late_$_'::regclass") foreach @ways;
is(gaps("late_$_"), '0|100|' . ($_ eq 'latest' ? 300 : 270), "late_$_: the view that comes meanwhile has a gap") foreach @ways;
$locked->end;
send_events($_, 301, 310) foreach @behind;

foreach my $name (@behind)
{
	my $stops = $name =~ /stop/;
	$stops ? wait_state($node, 'view', "${name}_held", 'stopped') : wait_latest($node, "${name}_held");
	my ($from, $to) = (split /\|/, (split /\n/, gaps($name))[-1])[ 1, 2 ];
	note("$name: $from to $to");
	ok($name =~ /only/ ? $from >= 110 && $from < 270 : $from >= 100 && $from < 270, "$name: the gap begins where the view was") or diag($from);
	ok($name =~ /latest/ ? $to >= 300 && $to <= 310 : $to == 270, 'and ends where it goes on') or diag($to);
	if ($stops)
	{
		is_part("${name}_held", "id <= $from", 'nothing is taken behind it');
		activate($name);
	}
	send_events($name, 311, 320);
	wait_latest($node, "${name}_held");
	is_part("${name}_held", "id <= $from OR id BETWEEN $to + 1 AND 320", 'it holds all but the gap');
	my %gaps = ("0|$from|$to" => 1);
	if ($name !~ /only/)
	{
		my $late = $name =~ /latest/ ? 300 : 270;
		wait_latest($node, "${name}_other");
		is_part("${name}_other", $name =~ /two/ ? 'id <= 320' : "id <= 100 OR id BETWEEN $late + 1 AND 320", 'the other view as well');
		$gaps{"0|100|$late"} = 1 if $name =~ /late_/;
	}
	is(gaps($name), join("\n", sort keys %gaps), 'and nothing else is recorded');
}

# Created again, shorter, while the worker is alive: idle, or behind with messages of the former topic in hand.
my @shorter = map { ("idle_$_", "busy_$_") } @ways;
held_stream($_, /busy/) foreach @shorter;
send_events($_, 1, 50) foreach @shorter;
wait_latest($node, "${_}_held") foreach @shorter;
$locked = open_transaction($node, 'LOCK TABLE dim');
my @busy = grep { /busy/ } @shorter;
send_events($_, 51, 60) foreach @busy;
wait_held(@busy);
send_events($_, 61, 80) foreach @busy;
foreach my $name (@shorter)
{
	client()->command('delete', $topics{$name});
	create_topic($topics{$name});
	# an idle one may look at once, or a little later
	send_events($name, 101, 120) if $name !~ /idle_latest/;
}
$locked->end;
foreach my $name (@shorter)
{
	wait_for($node, "SELECT count(*) > 0 FROM millrace.gaps WHERE stream = '$name'::regclass");
	my ($from, $to) = (split /\|/, gaps($name))[ 1, 2 ];
	note("$name: $from to $to");
	ok($name =~ /busy/ ? $from >= 50 && $from <= 80 : $from == 50, "$name: the gap begins where the view was") or diag($from);
	is($to, $name =~ /busy_latest/ ? 20 : 0, 'and says where the new topic is read');
	if ($name =~ /stop/)
	{
		wait_state($node, 'view', "${name}_held", 'stopped');
		is_part("${name}_held", "id <= $from", 'nothing is taken behind it');
		activate($name);
	}
	send_events($name, $name =~ /idle_latest/ ? 101 : 121, 130);
	wait_latest($node, "${name}_held");
	is_part("${name}_held", "id <= $from OR id BETWEEN 101 + $to AND 130", 'it holds all of that');
	is(gaps($name), "0|$from|$to", 'and nothing else is recorded');
}

done_testing();
