# What the supervisor of a database does for views (rows that leave those over tables, contents
# that take the place of others) keeps it from nothing else, even where a view's part of it takes for
# ever: workers are started, and other views have what is theirs.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "millrace.view_timeout = 1s\nmillrace.retry_max_interval = 2s\n");

sub query { return $node->safe_psql('postgres', $_[0]) }

sub create
{
	my ($name, $query, $more) = @_;
	query("SELECT millrace.create_continuous_view('$name', \$\$$query\$\$" . ($more // '') . ')');
}

sub has_failed
{
	my ($view) = @_;
	wait_for($node, qq{SELECT state = 'failed' AND last_error LIKE 'takes longer than 1000 ms%millrace.view_timeout%'
		FROM millrace.views WHERE view = '$view'::regclass});
	return 1;
}

# A new view begins: its worker was started.
my $stream = create_stream($node, 'clicks', 'id bigint');
produce($stream, 0, map { qq({"id": $_}) } 1 .. 3);
my $views = 0;
sub starts_workers
{
	my ($what) = @_;
	my $name = 'view_' . ++$views;
	create($name, 'SELECT count(*) AS n FROM clicks');
	wait_latest($node, $name);
	is(query("SELECT n FROM $name"), '3', "workers are started beside $what");
	query("DROP VIEW $name");
}

# In the supervisor only, for ever.
query(q{CREATE FUNCTION endless(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN
		IF EXISTS (SELECT FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_type = 'millrace supervisor') THEN
			PERFORM pg_sleep(3600);
		END IF;
		RETURN $1;
	END $$});
my $stuck = q{EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'millrace supervisor' AND wait_event = 'PgSleep')};
query(q{CREATE TABLE sales (day date, n int); SELECT millrace.attach_table('sales');
	INSERT INTO sales VALUES ('2001-01-01', 1), ('2001-01-02', 2), (current_date, 3)});

# --- one that follows, and takes what leaves ---------------------------------------

create('daily', 'SELECT day, sum(n) AS n FROM sales GROUP BY day', ', changes => true');
query(q{SELECT millrace.attach_table('daily_changes')});
create('told', 'SELECT sum(endless((old).n)) AS n FROM daily_changes');
create('told_too', 'SELECT count(*) AS n FROM daily_changes');
create('other', 'SELECT day, count(*) AS n FROM sales GROUP BY day', q{, retention => '10 days', retention_column => 'day'});
my $began = query('SELECT clock_timestamp()');
query(q{SELECT millrace.set_retention('daily', '10 days', 'day')});
wait_for($node, "SELECT $stuck AND (SELECT xact_start >= '$began' FROM pg_stat_activity WHERE backend_type = 'millrace supervisor')");
starts_workers('a view that takes what leaves another for ever');
ok(has_failed('told'), 'that view fails');
wait_for($node, "SELECT count(*) = 1 FROM ${\($_)}_mrel") foreach 'daily', 'other';
is(query('SELECT day = current_date, n FROM daily'), 't|3', 'and the rows leave');
is(query('SELECT n FROM told_too'), query('SELECT count(*) FROM daily_changes'), 'another one is told of it');
is(query(q{SELECT string_agg(state, ' ' ORDER BY view::text) FROM millrace.views WHERE view IN ('daily'::regclass, 'other', 'told_too')}),
	'running running running', 'no others have failed');
query(q{DROP VIEW told; DROP VIEW told_too; DROP VIEW daily; DROP VIEW other});

# --- one whose own rows leave, and whose changes are computed for ever -------------

create('daily', 'SELECT day, endless(sum(n)) AS n FROM sales GROUP BY day', ', changes => true');
query(q{SELECT millrace.set_retention('daily', '10 days', 'day')});
ok(has_failed('daily'), 'a view whose own removal does not end fails');
starts_workers('it');
query('DROP VIEW daily');

# --- one that is planned for ever ----------------------------------------------------

query(q{CREATE FUNCTION endless_constant() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT public.endless(1)'});
create('daily', 'SELECT day, count(*) FILTER (WHERE n > endless_constant()) AS n FROM sales GROUP BY day',
	q{, retention => '10 days', retention_column => 'day'});
ok(has_failed('daily'), 'a view whose planning does not end fails');
starts_workers('it');
query('DROP VIEW daily');

# --- one that does not even end when it is canceled ---------------------------------

query(q{CREATE FUNCTION stubborn(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
	BEGIN
		LOOP
			BEGIN
				RETURN public.endless($1);
			EXCEPTION WHEN query_canceled THEN NULL;
			END;
		END LOOP;
	END $$});
create('daily', 'SELECT day, sum(n) AS n FROM sales GROUP BY day', ', changes => true');
query(q{SELECT millrace.attach_table('daily_changes')});
create('told', 'SELECT sum(stubborn((old).n)) AS n FROM daily_changes');
query(q{SELECT millrace.set_retention('daily', '10 days', 'day')});
wait_for($node, q{SELECT state = 'failed' AND last_error LIKE '%does not end when it is canceled%' FROM millrace.views WHERE view = 'told'::regclass});
starts_workers('one that does not end when it is canceled');
wait_for($node, 'SELECT count(*) = 1 FROM daily_mrel');
pass('it fails, and rows leave');
query('DROP VIEW told; DROP VIEW daily');

# --- a rebuild whose changes are computed for ever -----------------------------------

query(q{CREATE FUNCTION endless_here(bigint) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT $1'});
create('summed', 'SELECT id % 2 AS k, endless_here(count(*)) AS n FROM clicks GROUP BY 1', ', changes => true');
wait_latest($node, 'summed');
my $before = query('SELECT * FROM summed ORDER BY 1');
query(q{CREATE OR REPLACE FUNCTION endless_here(bigint) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT public.endless($1)'});
query(q{SELECT millrace.rebuild('summed')});
wait_for($node, q{SELECT last_error LIKE 'rebuild failed: takes longer than 1000 ms%' FROM millrace.views WHERE view = 'summed'::regclass});
starts_workers('a rebuild whose changes take for ever');
is(query('SELECT * FROM summed ORDER BY 1'), $before, 'and the view has its former contents');
is(query(q{SELECT state FROM millrace.views WHERE view = 'summed'::regclass}), 'running', 'and goes on');

query(q{CREATE OR REPLACE FUNCTION endless_here(bigint) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT public.stubborn($1)'});
query(q{SELECT millrace.rebuild('summed')});
wait_for($node, q{SELECT last_error LIKE 'rebuild failed: % does not end when it is canceled%' FROM millrace.views WHERE view = 'summed'::regclass});
starts_workers('a rebuild that does not end when it is canceled');
is(query('SELECT * FROM summed ORDER BY 1'), $before, 'the view has its former contents');

unlike(slurp_file($node->logfile), qr{due to user request}, 'the log tells why views were canceled');

done_testing();
