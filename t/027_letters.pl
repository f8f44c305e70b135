# Dead letters of several views: while others read the same messages, are dropped, or replay; and views that
# follow others, which have no place of their own in the stream.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use List::Util 'sum';
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "millrace.view_timeout = 2s\nmillrace.retry_max_interval = 10s\n");

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub view
{
	my ($name, $query, $more) = @_;
	sql("SELECT millrace.create_continuous_view('$name', \$\$$query\$\$" . ($more // '') . ')');
}

# all views follow the stream together
sub one_feed
{
	wait_latest($node, $_[0]);
	wait_for($node, "SELECT count(DISTINCT feed) = 1 FROM millrace.view_stream WHERE stream = '$_[0]'::regclass AND feed <> 0");
}

sub stop_at { sql("SELECT failpoint_arm('$_[0]', 'wait', '00000', 1)") }
sub go_on { sql(q{SELECT failpoint_arm('', 'error', '00000', 0)}) }
sub is_there { wait_for($node, 'SELECT failpoint_waiting() = 1') }

sub limit
{
	sql("ALTER SYSTEM SET millrace.dead_letter_limit = $_[0]");
	sql('SELECT pg_reload_conf()');
}

sql(q{CREATE FUNCTION failpoint_arm(text, text, text, integer) RETURNS void LANGUAGE C AS 'millrace', 'mr_failpoint_arm';
	CREATE FUNCTION failpoint_waiting() RETURNS integer LANGUAGE C AS 'millrace', 'mr_failpoint_waiting'});

# A column that no view reads any more
my $topic = create_stream($node, 'read', event_columns());
view('by_id', 'SELECT count(*) AS n, sum(id) AS ids FROM read');
view('by_k', 'SELECT sum(k) AS ks FROM read');
one_feed('read');
sql(q{SELECT millrace.deactivate('by_k')});
produce($topic, 0, '{"id": 1, "k": 1}');
wait_latest($node, 'by_id');
sql('DROP VIEW by_k');
produce($topic, 0, '{"id": 2, "k": "bad"}');
wait_latest($node, 'by_id');
is(sql('SELECT n, (SELECT count(*) FROM millrace.dead_letters) FROM by_id'), '2|0', 'it is not looked at');

# A replay, and a view that comes to miss the letter meanwhile
$topic = create_stream($node, 'late', event_columns());
view('first', 'SELECT count(*) AS n FROM late');
view('strict', 'SELECT sum(k) AS ks FROM late');
one_feed('late');
produce($topic, 0, '{"id": 1, "k": "bad"}');
wait_latest($node, $_) foreach 'first', 'strict';
sql(q{SELECT millrace.deactivate('strict')});
wait_latest($node, 'first');
stop_at('step-decoded');
view('second', 'SELECT count(*) AS n FROM late');
is_there();
my $dropped = background($node, 'DROP VIEW strict');
my $replay = background($node, q{SELECT millrace.replay('late')});
go_on();
foreach ($dropped, $replay)
{
	my ($ok, undef, $error) = $_->finish;
	ok($ok, 'whatever waits for whom, it ends') or diag($error);
}
wait_latest($node, 'second');
sql(q{SELECT millrace.replay('late')});
is(sql('SELECT f.n, s.n, (SELECT count(*) FROM millrace.dead_letters) FROM first f, second s'), '1|1|0', 'every view has it, once');

# Letters of many, met in another order than they were written in
limit(-1);
foreach my $what ([ 'drop', 'DROP VIEW drop_2' ], [ 'truncate', q{SELECT millrace.truncate_continuous_view('truncate_2')} ],
	[ 'replay', q{SELECT millrace.replay('replay')} ])
{
	my ($name, $command) = @$what;
	$topic = create_stream($node, $name, event_columns(), partitions => 2);
	view("${name}_$_", "SELECT count(*) AS n, sum(id + $_) AS ids FROM $name") foreach 1, 2;
	one_feed($name);
	foreach my $partition (1, 0)
	{
		produce($topic, $partition, map { qq({"id": "bad $_"}) } 1 .. 3000);
		wait_latest($node, "${name}_1");
	}
	stop_at('step-decoded');
	view("${name}_3", "SELECT count(*) AS n, sum(id) AS ids FROM $name");
	is_there();
	my $session = background($node, $command);
	go_on();
	my ($ok, undef, $error) = $session->finish;
	ok($ok, "$name beside a view that catches up") or diag($error);
	wait_latest($node, "${name}_3");
}

# Many letters, and a view that comes to miss some of them after others, while no other is ahead of it
sql(q{CREATE TYPE mood AS ENUM ('old')});
$topic = create_stream($node, 'behind', 'id bigint, m mood');
my $moods = 'SELECT count(*) AS n, sum(id) AS ids, max(m) AS last FROM behind';
view("behind_$_", $moods) foreach 1, 2;
one_feed('behind');
produce($topic, 0, map { qq({"id": $_, "m": "new"}) } 1 .. 100);
wait_latest($node, "behind_$_") foreach 1, 2;
sql(q{SELECT millrace.deactivate('behind_2')});
produce($topic, 0, map { $_ % 2 ? qq({"id": "bad $_"}) : qq({"id": $_, "m": "old"}) } 101 .. 300);
wait_latest($node, 'behind_1');
sql(q{SELECT millrace.deactivate('behind_1')});
stop_at('reject-recorded');
sql(q{SELECT millrace.activate('behind_2')});
is_there();
is(sql(q{SELECT live FROM millrace.views WHERE view = 'behind_2'::regclass}), 't', 'one that is behind, and alone');
sql(q{ALTER TYPE mood ADD VALUE 'new'});
my $mended = background($node, q{SELECT millrace.replay('behind')});
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT millrace.replay%' AND wait_event_type = 'Lock'});
go_on();
my ($ok, $fed, $error) = $mended->finish;
is("$ok $fed", '1 100', 'what is mended is fed') or diag($error);
wait_latest($node, 'behind_2');
is(sql('TABLE behind_2'), join('|', 200, sum(1 .. 100, map { 2 * $_ } 51 .. 150), 'new'), 'once');
is(sql('SELECT b = c FROM behind_1 b, behind_2 c'), 't', 'into both');
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'nobody waits for each other');

# Messages that were counted once are not counted again for a view that reads them later.
limit(3);
$topic = create_stream($node, 'twice', event_columns());
view('once', 'SELECT count(*) AS n, sum(id) AS ids FROM twice');
wait_latest($node, 'once');
produce($topic, 0, map { qq({"id": "bad $_"}) } 1 .. 3);
wait_latest($node, 'once');
view('again', 'SELECT count(*) AS n, sum(id) AS ids FROM twice');
wait_latest($node, 'again');
is(sql(q{SELECT count(*) FROM millrace.dead_letters WHERE stream = 'twice'::regclass AND missed @> ARRAY['once', 'again']::regclass[]}), '3',
	'both miss the same letters');
limit(10000);

# A view that follows another one's changes has no feed to leave for.
sql(q{CREATE TABLE knobs (down boolean, naps float8); INSERT INTO knobs VALUES (false, 0);
	CREATE FUNCTION knob(bigint) RETURNS bigint STABLE LANGUAGE plpgsql AS $$
	DECLARE k record;
	BEGIN
		SELECT * INTO k FROM public.knobs;
		IF k.down THEN RAISE EXCEPTION 'server is down' USING ERRCODE = '08006'; END IF;
		PERFORM pg_catalog.pg_sleep(k.naps);
		RETURN $1;
	END $$});
foreach my $trouble ('down', 'slow')
{
	$topic = create_stream($node, $trouble, event_columns());
	view("${trouble}_v", "SELECT k, count(*) AS n FROM $trouble GROUP BY k", ', changes => true');
	view("${trouble}_w", "SELECT count(*) AS n FROM $trouble");
	sql("SELECT millrace.attach_table('${trouble}_v_changes')");
	view("${trouble}_f", "SELECT sum(knob((new).n)) AS n FROM ${trouble}_v_changes");
	produce($topic, 0, '{"id": 1, "k": 1}');
	one_feed($trouble);
	sql($trouble eq 'down' ? 'UPDATE knobs SET down = true' : 'UPDATE knobs SET down = false, naps = 3600');
	produce($topic, 0, '{"id": 2, "k": 2}');
	if ($trouble eq 'down')
	{
		wait_for($node, qq{SELECT state = 'retrying' AND last_error LIKE 'server is down%' FROM millrace.views WHERE view = '${trouble}_w'::regclass});
		sql('UPDATE knobs SET down = false');
	}
	else
	{
		wait_latest($node, "${trouble}_w");
		is(sql("SELECT n FROM ${trouble}_w"), '2', 'one that is slow does not hold up the stream');
		like(sql("SELECT state, last_error FROM millrace.views WHERE view = '${trouble}_f'::regclass"), qr/^failed\|takes longer than/,
			'it fails alone');
		sql("UPDATE knobs SET naps = 0; SELECT millrace.activate('${trouble}_f')");
	}
	wait_latest($node, $_) foreach "${trouble}_v", "${trouble}_w", "${trouble}_f";
	is(sql("SELECT n FROM ${trouble}_f"), '2', "$trouble: it is exact afterwards");
}

done_testing();
