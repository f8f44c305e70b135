# Views that are not where the others are: created, stopped and started in the
# middle of traffic, begun at the end or at a time, and many of them.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $topic = create_stream($node, 'clicks',
	event_columns() . q{, off bigint OPTIONS (metadata 'offset'), part integer OPTIONS (metadata 'partition')},
	partitions => 2);
my $query = 'SELECT k, count(*) AS n, sum(v) AS total FROM %s e GROUP BY k';
my $stream_query = sprintf $query, 'clicks';

sub create
{
	my ($view, $sql, $more) = @_;
	$more //= '';
	return "SELECT millrace.create_continuous_view('$view', \$\$$sql\$\$$more);\n";
}

# A view from the middle of traffic; its history is longer than what it misses.
produce($topic, $_ % 2, event($_)) foreach 1 .. 50;
$node->safe_psql('postgres', create('early', $stream_query));
my $load = start_traffic($topic, partitions => 2, from => 51);
$load->wait_more(5000);
$node->safe_psql('postgres', create('middle', $stream_query));
$load->wait_more(500);

# several at the same time
my @sessions = map { background($node, create("same_time_$_", $stream_query)) } 1 .. 4;
ok((($_->finish)[0]), 'view created while others are') foreach @sessions;
$load->wait_more(500);

# one transaction, with something else in it; and one that is taken back
$node->safe_psql('postgres', 'BEGIN;' . create('together_1', $stream_query)
	  . create('together_2', $stream_query) . 'CREATE TABLE bystander(); COMMIT');
$node->safe_psql('postgres', 'BEGIN;' . create('taken_back', $stream_query) . 'ROLLBACK');
is($node->safe_psql('postgres', q{SELECT to_regclass('taken_back') IS NULL}), 't', 'creation can be rolled back');

# deactivated and activated again, a view and then the stream
$node->safe_psql('postgres', q{SELECT millrace.deactivate('middle')});
is($node->safe_psql('postgres', q{SELECT state FROM millrace.views WHERE view = 'middle'::regclass}), 'paused',
	'a deactivated view is paused');
my $held = $node->safe_psql('postgres', 'SELECT sum(n) FROM middle');
$load->wait_more(500);
is($node->safe_psql('postgres', 'SELECT sum(n) FROM middle'), $held, 'and stands still');
$node->safe_psql('postgres', q{SELECT millrace.activate('middle')});
$load->wait_more(200);
foreach (1 .. 3)
{
	$node->safe_psql('postgres', q{SELECT millrace.deactivate('clicks')});
	$load->wait_more(200);
	$node->safe_psql('postgres', q{SELECT millrace.activate('clicks')});
	$load->wait_more(200);
}

# from the end: everything after the call, nothing from long before, no hole
$load->wait_more(200);
my $before = $load->sent + 50;
$node->safe_psql('postgres', create('from_end',
	'SELECT part, count(*) AS n, min(off) AS first, max(off) AS last, min(id) AS first_id FROM clicks GROUP BY part',
	q{, start_at => 'latest'}));
my $after = $load->sent + 51;
$load->wait_more(500);

my $n = $load->stop;
foreach my $view (qw(early middle together_1 together_2), map { "same_time_$_" } 1 .. 4)
{
	wait_latest($node, $view);
	is_same($node, $view, sprintf($query, events($n)), "$view holds every message");
}
wait_latest($node, 'from_end');
is($node->safe_psql('postgres', 'SELECT count(*), bool_and(n = last - first + 1) FROM from_end'), '2|t',
	'no hole in the view from the end');
is($node->safe_psql('postgres', "SELECT bool_and(first_id > $before AND first_id <= $after + 150) FROM from_end"), 't',
	'it begins at the end');
# each partition has every other event, and is complete from its own first one on
is($node->safe_psql('postgres', "SELECT bool_and(n = ($n - first_id) / 2 + 1) FROM from_end"), 't',
	'and holds all from there') or diag($node->safe_psql('postgres', "SELECT *, $n FROM from_end"));

# The end is resolved before the call returns: nothing may slip in between.
my $quiet = create_stream($node, 'quiet', q{id bigint, at timestamptz OPTIONS (metadata 'timestamp')},
	config => { 'retention.ms' => -1 });
my $hour = 3_600_000;
my $t0 = 1_700_000_000_000;
produce($quiet, 0, map { { timestamp => $t0 + $_ * $hour, value => qq({"id": $_}) } } 1 .. 10);
my $since = $node->safe_psql('postgres', "SELECT to_timestamp(($t0 + 7 * $hour) / 1000)");
$node->safe_psql('postgres',
	create('latest', 'SELECT id FROM quiet', q{, start_at => 'latest'})
	  . create('since', 'SELECT id, at FROM quiet', qq{, start_at => '$since'})
	  . create('future', 'SELECT id FROM quiet', q{, start_at => '2100-01-01 00:00+00'})
	  . create('whole', 'SELECT id FROM quiet'));
produce($quiet, 0, map { { timestamp => $t0 + $_ * $hour, value => qq({"id": $_}) } } 11 .. 12);
wait_latest($node, $_) foreach qw(latest since future whole);
is_same($node, 'latest', 'SELECT i::bigint FROM generate_series(11, 12) i', 'latest');
is_same($node, 'since', "SELECT i::bigint, to_timestamp(($t0 + i * $hour\::bigint) / 1000.0)
	FROM generate_series(7, 12) i", 'a timestamp');
is_same($node, 'whole', 'SELECT i::bigint FROM generate_series(1, 12) i', 'earliest');
my ($rc, $out, $err) = $node->psql('postgres', create('nonsense', 'SELECT id FROM quiet', q{, start_at => 'soon'}));
isnt($rc, 0, 'start_at is checked');
like($err, qr/soon/, 'and the message shows it');

# A hundred views on one stream, created while it runs.
$load = start_traffic($topic, partitions => 2, from => $n + 1, pause => 0.05);
$node->safe_psql('postgres', qq{
	DO \$do\$ BEGIN FOR i IN 1 .. 100 LOOP
		PERFORM millrace.create_continuous_view('many_' || i, \$\$$stream_query\$\$);
	END LOOP; END \$do\$});
$load->wait_more(300);
$n = $load->stop;
$node->safe_psql('postgres', qq{
	SELECT millrace.wait_for_latest(format('many_%s', i)::regclass, timeout => '@{[patience(60)]}s') FROM generate_series(1, 100) i});
is_same($node, 'many_1', sprintf($query, events($n)), 'one of a hundred views');
my $union = join ' UNION ALL ', map { "SELECT $_ AS i, * FROM many_$_" } 1 .. 100;
is_same($node, "($union) u", "SELECT i, q.* FROM generate_series(1, 100) i, many_1 q", 'all of them are the same');
is($node->safe_psql('postgres', q{SELECT count(DISTINCT next_offset) FROM millrace.partitions
		WHERE stream = 'clicks'::regclass AND view::text LIKE 'many%' AND partition = 0}), '1', 'at one position');

done_testing();
