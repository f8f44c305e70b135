# MillraceFailpoint - every place of the code where a test can make it fail, one after the
# other: an error, and kill -9 of the process.
#
#   use MillraceFailpoint;
#   walk('batch');		# or 'commands'
#
# Each place is reached by what its area is about, under load, and compared with the oracle
# afterwards; what was interrupted is done again.  A place that nobody here knows how to get to
# fails the test.  MILLRACE_FAILPOINTS: only those that match this pattern.

package MillraceFailpoint;

use strict;
use warnings;

use Exporter 'import';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

our @EXPORT = qw(walk);

# ---------- what is there all the time ----------

my ($node, $load, $letters, @points);
my $letter = 0;					# letters sent; those of them that cannot be decoded
my $bad = 0;
my $number = 0;					# rows inserted
my $copies = 0;					# streams that were transformed into
my %query = (
	per_k => 'SELECT k, count(*) AS n, sum(v) AS total, max(id) AS last FROM %s e GROUP BY k',
	total => 'SELECT count(*) AS n, sum(id) AS ids FROM %s e',
	joined => 'SELECT name, count(*) AS n FROM %s e JOIN names USING (k) GROUP BY name');

sub prepare
{
	$node = new_node('main', conf => "millrace.retry_max_interval = 200ms\n");
	my ($rc) = $node->psql('postgres', q{
		CREATE FUNCTION failpoint_names() RETURNS SETOF text LANGUAGE C AS 'millrace', 'mr_failpoint_names';
		CREATE FUNCTION failpoint_arm(text, text, text, integer) RETURNS void LANGUAGE C AS 'millrace', 'mr_failpoint_arm';
		CREATE FUNCTION failpoint_waiting() RETURNS integer LANGUAGE C AS 'millrace', 'mr_failpoint_waiting';},
		on_error_stop => 1);
	plan skip_all => 'needs a library that was made with FAILPOINTS=1' if $rc;

	my $pattern = $ENV{MILLRACE_FAILPOINTS} // '.';
	@points = grep { /$pattern/ } split /\n/,
	  $node->safe_psql('postgres', 'SELECT DISTINCT n FROM failpoint_names() n ORDER BY n');
	note(scalar(@points) . ' places');

	$node->safe_psql('postgres', q{CREATE TABLE names (k integer PRIMARY KEY, name text);
		INSERT INTO names SELECT i, 'name ' || i % 3 FROM generate_series(0, 6) i;
		CREATE TABLE divisors (k integer PRIMARY KEY, d integer);
		INSERT INTO divisors SELECT i, 2 FROM generate_series(0, 6) i;
		CREATE TABLE sent (id bigint PRIMARY KEY, k integer)});
	my $clicks = create_stream($node, 'clicks', event_columns(), partitions => 2);
	$letters = create_stream($node, 'letters', 'id bigint, k integer');
	create_stream($node, 'inserted', 'id bigint, k integer');
	my $dated = create_stream($node, 'dated', 'id bigint, day timestamptz');
	create('all_rows', 'SELECT id, k, v, s FROM clicks');
	create($_, sprintf($query{$_}, 'clicks'), $_ eq 'per_k' ? ', changes => true' : '') foreach sort keys %query;
	create('quotients', 'SELECT k, sum(100 / d) AS q, count(*) AS n FROM letters JOIN divisors USING (k) GROUP BY k');
	create('numbers', 'SELECT k, count(*) AS n, sum(id) AS ids FROM inserted GROUP BY k');
	produce($dated, 0, map { sprintf '{"id": %d, "day": "%d-01-01"}', $_, 1950 + $_ } 1 .. 70);
	$load = start_traffic($clicks, partitions => 2, chunk => 4, pause => 0.02);
}

# SQL that may come while the server goes down: whoever is armed to kill may do so at once.
sub sql
{
	my ($sql) = @_;
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($rc, $out, $err) = psql($sql, on_error_stop => 1);
		return $out if $rc == 0;
		die "$sql: $err\n" if $rc != 2;
		sleep 0.1;		# no connection
	}
	die "could not connect for: $sql\n";
}

sub create
{
	my ($view, $query, $options) = @_;
	sql(qq{SELECT millrace.create_continuous_view('$view', \$\$$query\$\$} . ($options // '') . ')');
}

# ---------- whatever may be interrupted ----------

sub psql { return psql_if_alive($node, 'postgres', @_) }

# SQL in a session that may be killed; true when it went well
sub attempt
{
	my ($sql) = @_;
	my ($rc, $out, $err) = psql($sql, on_error_stop => 1);
	note($err =~ s/\n.*//sr) if $rc;
	return $rc == 0;
}

# where the log stood when the place was armed that kills, and what it says then
my ($armed_at, $killed);

# until the server takes connections again, if it was killed
sub connected
{
	wait_for_log('all server processes terminated; reinitializing', $armed_at)
	  if $killed && slurp_file($node->logfile, $armed_at) =~ $killed;
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($rc) = psql('SELECT 1');
		return if $rc == 0;
		sleep 0.1;
	}
	die "the server does not come back\n";
}

# like wait_for, through a crash
sub until_true
{
	my ($sql) = @_;
	foreach (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($rc, $out) = psql($sql);
		return if $rc == 0 && $out eq 't';
		sleep 0.05;
	}
	die "timed out waiting for: $sql\n";
}

# Once more when it failed; then the state must be as before, or as after where its commit was
# interrupted.
sub insist
{
	my ($sql, $done) = @_;
	foreach (1 .. 3)
	{
		return if attempt($sql);
		connected();
		return if $done && sql("SELECT $done") eq 't';
	}
	die "fails again and again: $sql\n";
}

sub create_and_drop
{
	my ($wait) = @_;
	my $query = sprintf $query{per_k}, 'clicks';
	insist("SELECT millrace.create_continuous_view('extra', \$\$$query\$\$)", q{to_regclass('extra') IS NOT NULL});
	until_true(q{SELECT state = 'running' FROM millrace.views WHERE view = 'extra'::regclass}) if $wait;
	compare('extra', $query{per_k}) if $wait;
	insist('DROP VIEW extra', q{to_regclass('extra') IS NULL});
}

sub rebuild
{
	insist(q{SELECT millrace.rebuild('per_k')});
	heal();
	until_true(q{SELECT rebuild IS NULL FROM millrace.views WHERE view = 'per_k'::regclass});
}

# messages that a view cannot take, which it can afterwards
sub poison
{
	sql('UPDATE divisors SET d = 0 WHERE k = 3');
	sql("INSERT INTO sent SELECT i, i % 7 FROM generate_series($letter + 1, $letter + 14) i ON CONFLICT DO NOTHING");
	produce($letters, 0, map { sprintf '{"id": %d, "k": %d}', $_, $_ % 7 } $letter + 1 .. $letter + 14);
	$letter += 14;
	wait_latest($node, 'quotients');
	until_true(q{SELECT count(*) = 2 FROM millrace.dead_letters WHERE view = 'quotients'::regclass});
	sql('UPDATE divisors SET d = 2 WHERE k = 3');
}

sub replay
{
	insist(q{SELECT millrace.replay('letters', 'view IS NOT NULL')},
		q{count(*) = 0 FROM millrace.dead_letters WHERE view IS NOT NULL});
	is(sql(q{SELECT count(*) FROM millrace.dead_letters WHERE view IS NOT NULL}), 0, 'all letters were taken');
}

# a transform into a stream, and a view that shows what it has produced
sub copy
{
	create_stream($node, 'copies', 'id bigint, k integer', topic => create_topic(topic_name('copies' . ++$copies)));
	sql(q{SELECT millrace.create_continuous_transform('copy', 'SELECT id, k FROM clicks', 'copies')});
	create('copied', 'SELECT id, k FROM copies');
	wait_latest($node, 'copy');
}

# How to get to the places of an area: before it is armed, and after.
my %batch = (
	step => [ sub { }, sub { } ],
	view => [ sub { }, sub { } ],
	open => [ sub { }, sub { terminate('worker') } ],
	supervise => [ sub { }, sub { terminate('supervisor|worker') } ],
	launch => [ sub { }, sub { terminate('supervisor') } ],
	careful => [ sub { }, sub { poison(); replay() } ],
	replay => [ \&poison, \&replay ],
	reject => [ sub { }, sub { produce($letters, 0, '{"k": "x"}'); $bad++; wait_latest($node, 'quotients') } ],
	catchup => [ sub { }, sub { create_and_drop(1) } ],
	deliver => [ \&copy, sub { terminate('worker') } ],
);
my %commands = (
	create => [ sub { }, sub { create_and_drop(0) } ],
	drop => [ sub { }, sub { create_and_drop(0) } ],
	rename => [ sub { }, sub {
		insist("ALTER VIEW $_->[0] RENAME TO $_->[1]", "to_regclass('$_->[1]') IS NOT NULL")
		  foreach [ 'total', 'renamed' ], [ 'renamed', 'total' ];
	} ],
	deactivate => [ sub { }, sub { insist("SELECT millrace.${_}activate('per_k')") foreach 'de', '' } ],
	activate => [ sub { }, sub { insist("SELECT millrace.${_}activate('clicks')") foreach 'de', '' } ],
	truncate => [ sub { create('emptied', 'SELECT count(*) AS n FROM inserted'); wait_latest($node, 'emptied') }, sub {
		insist(q{SELECT millrace.truncate_continuous_view('emptied')});
		is(sql('SELECT n FROM emptied'), 0, 'it is empty');
		sql('DROP VIEW emptied');
	} ],
	rebuild => [ sub { }, \&rebuild ],
	exchange => [ sub { }, \&rebuild ],
	retention => [ sub {
		create('aging', 'SELECT day, count(*) AS n FROM dated GROUP BY day');
		wait_latest($node, 'aging');
	}, sub {
		insist(q{SELECT millrace.set_retention('aging', '30 years', 'day')});
		until_true(q{SELECT count(*) = 0 FROM aging_mrel WHERE day < now() - interval '30 years'});
		is_same($node, 'aging', q{SELECT d, 1::bigint FROM generate_series(1951, 2020) y, make_timestamptz(y, 1, 1, 0, 0, 0) d
			WHERE d >= now() - interval '30 years'});
		sql('DROP VIEW aging');
	} ],
	produce => [ sub { }, sub {
		insist("INSERT INTO inserted SELECT i, i % 3 FROM generate_series($number + 1, $number + 50) i");
		$number += 50;
		wait_latest($node, 'numbers');
		is_same($node, 'numbers', "SELECT (i % 3)::integer AS k, count(*) AS n, sum(i) AS ids
			FROM generate_series(1::bigint, $number) i GROUP BY 1");
	} ]);

sub terminate
{
	# it may be the one that goes down with a process that is killed at this moment
	insist("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type ~ '^millrace .*($_[0])'");
}

# What failed for good, as it may where an error is not one that passes, goes on when it is told to.
sub heal
{
	insist(q{SELECT millrace.activate(view) FROM millrace.views WHERE state = 'failed' OR rebuild = 'failed'});
}

# ---------- the oracle ----------

# A view against the rows that another one has taken, both at the same position.
sub compare
{
	my ($view, $query) = @_;
	is_same($node, $view, sprintf($query, 'all_rows'), "$view is right");
}

# The same as a query that returns a row when they differ; many psqls take long.
sub difference
{
	my ($view, $query) = @_;
	return qq{SELECT '$view', count(*)::text FROM ((SELECT * FROM $view EXCEPT ALL SELECT * FROM ($query) q)
		UNION ALL (SELECT * FROM ($query) q EXCEPT ALL SELECT * FROM $view)) d HAVING count(*) > 0};
}

# What was produced: of each partition's messages from the first one on, each once.
sub verify_copy
{
	my ($sent) = @_;
	wait_latest($node, $_) foreach 'copy', 'copied';
	is(sql(qq{
		WITH p AS (SELECT id % 2 AS part, count(*) AS n, count(DISTINCT id) AS ids, max(id) AS last FROM copied GROUP BY 1)
		SELECT count(*) = 2 AND bool_and(n = ids AND n = (last + part) / 2) AND sum(n) >= $sent FROM p}),
		't', 'each was produced once');
	sql('DROP FOREIGN TABLE copies CASCADE');
}

sub verify
{
	my $sent = $load->sent;
	heal();
	until_true(q{SELECT bool_and(state = 'running' AND rebuild IS NULL) FROM millrace.views});
	wait_latest($node, 'all_rows');
	verify_copy($sent) if sql(q{SELECT to_regclass('copies') IS NOT NULL}) eq 't';
	# feeds without views go with the supervisor's next look
	until_true(q{SELECT NOT EXISTS (SELECT FROM millrace.feed f WHERE NOT EXISTS (SELECT FROM millrace.view_stream s WHERE s.feed = f.id))});
	is(sql(join "\nUNION ALL ",
		# each message once: those of a partition are numbered without a gap
		qq{SELECT 'all_rows', string_agg(p::text, ' ') FROM
			(SELECT id % 2 AS part, count(*) AS n, count(DISTINCT id) AS ids, max(id) AS last FROM all_rows GROUP BY 1) p
			HAVING NOT (count(*) = 2 AND bool_and(n = ids AND n = (last + part) / 2) AND sum(n) >= $sent)},
		(map { difference($_, sprintf $query{$_}, 'all_rows') } sort keys %query),
		difference('quotients', 'SELECT k, sum(100 / d) AS q, count(*) AS n FROM sent JOIN divisors USING (k) GROUP BY k'),
		qq{SELECT 'dead letters', count(*)::text FROM millrace.dead_letters HAVING count(*) <> $bad},
		# nothing is left over in the catalogs
		q{SELECT 'relation', c.oid::regclass::text FROM pg_class c
			WHERE (c.relname ~ '_(mrel|def)$' OR c.relnamespace = 'millrace'::regnamespace AND c.relkind IN ('r', 'v')
					AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'))
				AND NOT EXISTS (SELECT FROM millrace.continuous_view v WHERE c.oid IN (v.matrel, v.definition))},
		q{SELECT 'view', v.view::text FROM millrace.continuous_view v
			WHERE 3 > (SELECT count(*) FROM pg_class c WHERE c.oid IN (v.view, v.matrel, v.definition)) OR v.rebuilds IS NOT NULL},
		q{SELECT 'offset', o.feed::text FROM millrace.feed_offset o WHERE NOT EXISTS (SELECT FROM millrace.feed f WHERE f.id = o.feed)},
		q{SELECT 'follows', s.view::text FROM millrace.view_stream s
			WHERE NOT EXISTS (SELECT FROM millrace.continuous_view v WHERE v.view = s.view)}),
		'', 'all views are right, and the catalogs in order');
	is_told($node, 'per_k');
}

# ---------- all places ----------

sub wait_for_log
{
	my ($text, $from) = @_;
	foreach (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if slurp_file($node->logfile, $from) =~ /$text/;
		sleep 0.05;
	}
	die "the log does not say: $text\n";
}

sub fail_at
{
	my ($point, $action, $state) = @_;
	my $area = area($point);
	my ($before, $after) = @{ $batch{$area} // $commands{$area} };
	my $began = time;
	my $what = $point . ' ' . ($action eq 'error' ? $state : $action);
	return subtest $what => sub
	{
		$before->();
		$armed_at = -s $node->logfile;
		$killed = qr/failpoint $point\n/ if $action eq 'kill';
		sql("SELECT failpoint_arm('$point', '$action', '$state', 1)");
		$after->();
		wait_for_log("failpoint $point\n", $armed_at);
		connected();
		$killed = undef;
		sql("SELECT failpoint_arm('', 'error', '$state', 0)");
		verify();
		note(sprintf '%s: %.1f s', $what, time - $began);
	};
}

# A process that stays in the middle of a batch: readers do not mind, and DDL on what it has
# locked waits until it goes on.
sub wait_at
{
	my ($point) = @_;
	return subtest "$point wait" => sub
	{
		create('extra', sprintf $query{per_k}, 'clicks');
		wait_latest($node, 'extra');
		until_true(q{SELECT state = 'running' FROM millrace.views WHERE view = 'extra'::regclass});
		sql("SELECT failpoint_arm('$point', 'wait', '00000', 1)");
		until_true('SELECT failpoint_waiting() = 1');
		my $before = sql('SELECT n FROM total');
		my $drop = background($node, 'DROP VIEW extra');
		until_true(q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'DROP VIEW extra' AND wait_event_type = 'Lock'});
		is(sql(q{SET statement_timeout = '60s'; SELECT n FROM total}), $before, 'readers go on, and see nothing of it');
		is(sql('SELECT failpoint_waiting()'), 1, 'it still waits');
		sql("SELECT failpoint_arm('', 'error', '00000', 0)");
		ok(scalar $drop->finish, 'so does who drops a view, until then');
		verify();
	};
}

sub area { return $_[0] =~ /^([a-z]+)-/ ? $1 : '' }

sub walk
{
	my ($what) = @_;
	my $areas = $what eq 'batch' ? \%batch : \%commands;
	prepare();
	$load->wait_more(100);
	verify();
	foreach my $point (@points)
	{
		fail("nobody knows how to get to $point") unless $batch{area($point)} || $commands{area($point)};
		next unless $areas->{area($point)};
		fail_at($point, 'error', '53200');
		# a message's fault, or a bug's, as far as anybody can tell
		fail_at($point, 'error', $_) foreach $point =~ /^view-/ ? ('22012', 'XX000') : ();
		fail_at($point, 'kill', '53200');
	}
	wait_at($_) foreach $what eq 'batch' ? grep { /^step-(taken|stored)$/ } @points : ();
	$load->stop;
	done_testing();
}

1;
