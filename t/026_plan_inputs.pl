# What changes while views are open, or are just being opened: plans follow.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');

sub sql { return $node->safe_psql('postgres', @_) }

# A domain without constraints does not cost anything, until it gets one.
my $topic = create_stream($node, 'clicks', event_columns());
sql(q{
	CREATE DOMAIN small AS integer;
	CREATE TABLE sink (id bigint, k small);
	SELECT millrace.create_continuous_transform('to_sink', 'SELECT id, k FROM clicks', 'sink');
	CREATE DOMAIN even AS integer;
	CREATE TABLE orders (id bigint, k integer);
	SELECT millrace.attach_table('orders');
	SELECT millrace.create_continuous_view('ordered', 'SELECT k::even AS k, count(*) AS n FROM orders GROUP BY 1')});
produce($topic, 0, map { qq({"id": $_, "k": $_}) } 1 .. 5);
wait_latest($node, 'to_sink');
sql(q{DELETE FROM sink WHERE k > 2; ALTER DOMAIN small ADD CHECK (VALUE < 3)});
produce($topic, 0, map { sprintf '{"id": %d, "k": %d}', $_, $_ - 5 } 6 .. 10);
wait_latest($node, 'to_sink');
is(sql(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM sink}), '1 2 6 7', 'a transform heeds a new constraint of a domain');
is(sql(q{SELECT string_agg(message_offset || ' ' || sqlstate, ', ' ORDER BY message_offset) FROM millrace.dead_letters}),
	'7 23514, 8 23514, 9 23514', '... and the others are dead letters');
my ($rc, $out, $err) = $node->psql('postgres', q{INSERT INTO orders VALUES (1, 2);
	ALTER DOMAIN even ADD CHECK (VALUE % 2 = 0);
	INSERT INTO orders VALUES (2, 4);
	INSERT INTO orders VALUES (3, 5)});
like($err, qr/value for domain even violates check constraint/, 'so does the COMMIT of an INSERT into a table');
is_same($node, 'ordered', 'SELECT k::even AS k, count(*) AS n FROM orders GROUP BY 1', 'the view has what is in the table');

# A session keeps its views open, but not those that are gone.
is((split /\n/, sql('SELECT 1;' . join('', map { qq{
	SELECT millrace.create_continuous_view('passing_$_', 'SELECT count(*) AS n FROM orders') IS NULL;
	INSERT INTO orders VALUES ($_, 2); DROP VIEW passing_$_;} } 1 .. 8) . q{
	INSERT INTO orders VALUES (9, 2); SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'millrace local view'}))[-1],
	'1', 'a session forgets views that were dropped');

# PL/pgSQL keeps the types of a table's columns for as long as a process lives.
my $rated = create_stream($node, 'rated', event_columns());
sql(q{
	CREATE TABLE rates (k integer, rate integer);
	INSERT INTO rates SELECT i, i FROM generate_series(0, 9) i;
	CREATE FUNCTION rate_of(integer) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
		DECLARE r public.rates; BEGIN SELECT * INTO r FROM public.rates WHERE k = $1; RETURN r.rate * 2; END $$;
	SELECT millrace.create_continuous_view('rated_too', 'SELECT count(*) AS n FROM rated');
	SELECT millrace.create_continuous_view('by_rate', 'SELECT count(*) AS n, sum(rate_of(k)) AS rate FROM rated')});
produce($rated, 0, map { event($_) } 1 .. 20);
wait_latest($node, $_) foreach 'by_rate', 'rated_too';
wait_joined($node, 'rated');
produce($rated, 0, map { event($_) } 21 .. 30);
wait_latest($node, 'by_rate');
sql('ALTER TABLE rates ALTER rate TYPE numeric');
produce($rated, 0, map { event($_) } 31 .. 40);
wait_latest($node, $_) foreach 'by_rate', 'rated_too';
is_same($node, 'by_rate', 'SELECT count(*) AS n, sum((i % 7) * 2) AS rate FROM generate_series(1, 40) i', 'a function that reads an altered table');

# The rest needs to stop processes in the middle of something.
($rc) = $node->psql('postgres', q{
	CREATE FUNCTION failpoint_arm(text, text, text, integer) RETURNS void LANGUAGE C AS 'millrace', 'mr_failpoint_arm';
	CREATE FUNCTION failpoint_waiting() RETURNS integer LANGUAGE C AS 'millrace', 'mr_failpoint_waiting';}, on_error_stop => 1);
if ($rc)
{
	note('needs a library that was made with FAILPOINTS=1');
	done_testing();
	exit;
}

sub stop_at
{
	my ($place) = @_;
	sql("SELECT failpoint_arm('$place', 'wait', '00000', 1)");
}

sub go_on { sql(q{SELECT failpoint_arm('', 'error', '00000', 0)}) }

sub is_there { wait_for($node, 'SELECT failpoint_waiting() = 1') }

# A function that is replaced when the first of two views has been planned
$topic = create_stream($node, 'visits', event_columns());
sql(q{CREATE FUNCTION f(integer) RETURNS integer IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1'});
sql("SELECT millrace.create_continuous_view('$_', 'SELECT f(k) AS k, count(*) AS n FROM visits GROUP BY 1')") foreach 'v1', 'v2';
produce($topic, 0, '{"id": 1, "k": 1}');
wait_latest($node, 'visits');
wait_for($node, q{SELECT count(DISTINCT feed) = 1 FROM millrace.view_stream WHERE stream = 'visits'::regclass});
stop_at('open-view-planned');
sql(q{SELECT pg_terminate_backend(pid) FROM millrace.workers WHERE stream = 'visits'::regclass});
is_there();
sql(q{CREATE OR REPLACE FUNCTION f(integer) RETURNS integer IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 100'});
go_on();
produce($topic, 0, '{"id": 2, "k": 1}');
wait_latest($node, 'visits');
is(sql(qq{SELECT string_agg(k || ' ' || n, ', ' ORDER BY k) FROM $_}), '2 1, 101 1', "a function replaced while views are opened: $_")
  foreach 'v1', 'v2';

# DROP VIEW of a view that the live feed has, while another one is about to join it: both know
# of the same dead letter.
$topic = create_stream($node, 'letters', event_columns());
sql("SELECT millrace.create_continuous_view('$_', 'SELECT sum(id) AS ids FROM letters')") foreach 'stays', 'goes';
produce($topic, 0, '{"id": "bad"}', '{"id": 1}');
wait_latest($node, 'letters');
wait_for($node, q{SELECT count(DISTINCT feed) = 1 FROM millrace.view_stream WHERE stream = 'letters'::regclass});
stop_at('catchup-live-locked');
sql(q{SELECT millrace.create_continuous_view('joins', 'SELECT max(id) AS last FROM letters')});
is_there();
stop_at('step-fed');
is_there();
my $drop = background($node, 'DROP VIEW goes');
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query = 'DROP VIEW goes' AND wait_event_type = 'Lock'});
go_on();
my ($ok, undef, $error) = $drop->finish;
ok($ok, 'a view can be dropped while another one joins') or diag $error;
wait_latest($node, 'letters');
is(sql('SELECT ids, last FROM stays, joins'), '1|1', 'the others have all');

# DROP VIEW of a stream's only view, whose worker is about to say where it begins
$topic = create_stream($node, 'brief', event_columns(), partitions => 2);
stop_at('catchup-looked');
sql(q{SELECT millrace.create_continuous_view('short_lived', 'SELECT count(*) AS n FROM brief')});
is_there();
sql('DROP VIEW short_lived');
wait_for($node, q{SELECT count(*) = 0 FROM millrace.feed WHERE stream = 'brief'::regclass});
go_on();
wait_for($node, q{SELECT count(*) = 0 FROM millrace.workers WHERE stream = 'brief'::regclass AND pid IS NOT NULL});
is(sql('SELECT count(*) FROM millrace.feed_offset WHERE feed NOT IN (SELECT id FROM millrace.feed)'), 0,
	'offsets of a feed that is gone are not written');

unlike(slurp_file($node->logfile), qr/deadlock detected/, 'nobody has met a deadlock');

done_testing();
