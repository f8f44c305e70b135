# Views' queries in the sessions of others: who inserts into an attached table, or replays a stream's
# dead letters, decides neither what the functions of a view's owner find nor what they do.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

sub attempt
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "SET ROLE mallory; $sql");
	return $err;
}

# What runs as somebody else leaves a trace.
sub nobody_ran
{
	my ($what) = @_;
	is(sql('SELECT string_agg(DISTINCT who, $$, $$) FROM proof'), '', "$what: nothing of the session's ran as the owner");
	sql('TRUNCATE proof');
}

sql(q{
	CREATE ROLE victim; CREATE ROLE mallory;
	CREATE SCHEMA victim AUTHORIZATION victim;
	CREATE SCHEMA "Odd, ""Schema" AUTHORIZATION victim;
	GRANT USAGE ON SCHEMA victim, "Odd, ""Schema" TO mallory;
	CREATE TABLE orders (id int, customer int, amount int);
	GRANT INSERT ON orders TO mallory; GRANT SELECT, TRIGGER ON orders TO victim;
	CREATE TABLE proof (who text); GRANT INSERT ON proof TO PUBLIC;
	CREATE FUNCTION evil() RETURNS int LANGUAGE plpgsql SECURITY INVOKER AS $$
		BEGIN
			INSERT INTO public.proof SELECT current_user WHERE current_user <> 'mallory';
			RETURN 1000;
		END $$;
	-- the planner runs what it takes for a constant
	CREATE FUNCTION constant_evil() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN public.evil(); END';
	SELECT millrace.attach_table('orders');
	SET ROLE victim;
	CREATE TABLE victim.rates (customer int, rate int); GRANT SELECT ON victim.rates TO mallory;
	CREATE TABLE "Odd, ""Schema".rates (customer int, rate int);
	INSERT INTO victim.rates SELECT i, i FROM generate_series(1, 5) i;
	INSERT INTO "Odd, ""Schema".rates SELECT i, 10 * i FROM generate_series(1, 5) i;
	CREATE FUNCTION victim.rate(c int) RETURNS int LANGUAGE plpgsql STABLE AS
		$$ BEGIN RETURN (SELECT rate FROM rates WHERE customer = c); END $$;
	CREATE FUNCTION victim.sql_rate(c int) RETURNS int LANGUAGE sql STABLE STRICT AS
		'SELECT rate FROM rates WHERE customer = c';
	CREATE FUNCTION victim.own_path(c int) RETURNS int LANGUAGE plpgsql STABLE SET search_path = victim AS
		$$ BEGIN RETURN (SELECT rate FROM rates WHERE customer = c); END $$;
	CREATE FUNCTION victim.no_path(c int) RETURNS int LANGUAGE plpgsql STABLE SET search_path = '' AS
		$$ BEGIN RETURN (SELECT rate FROM victim.rates WHERE customer = c); END $$});

my %oracle = (
	plain => [ q{"$user", public}, 'victim.rate', 1 ],
	in_sql => [ q{"$user", public}, 'victim.sql_rate', 1 ],
	odd => [ q{"Odd, ""Schema", public}, 'victim.rate', 10 ],
	named_first => [ q{pg_temp, victim}, 'victim.rate', 1 ],
	own_path => [ q{''}, 'victim.own_path', 1 ],
	no_path => [ q{''}, 'victim.no_path', 1 ]);

foreach my $view (sort keys %oracle)
{
	my ($path, $function) = @{ $oracle{$view} };
	sql(qq{SET ROLE victim; SET search_path = $path;
		SELECT millrace.create_continuous_view('victim.$view',
			'SELECT customer, sum(amount * $function(customer)) AS total FROM public.orders GROUP BY customer')});
}

sub all_exact
{
	my ($what) = @_;
	foreach my $view (sort keys %oracle)
	{
		is_same($node, "victim.$view", "SELECT customer, sum(amount * customer * $oracle{$view}[2]) AS total FROM orders GROUP BY customer",
			"$what: $view");
	}
	nobody_ran($what);
}

my $insert = 'INSERT INTO orders SELECT i, i % 5 + 1, i FROM generate_series(1, 20) i;';
is(attempt($insert), '', 'an honest session');
all_exact('honest');

# --- temporary relations ------------------------------------------------------------

# Plans, of functions that the session calls before, are the session's.
my $call = 'SELECT victim.rate(1), victim.sql_rate(1), victim.own_path(1), victim.no_path(1);';
my %planted = (
	'a temporary table' => 'CREATE TEMP TABLE rates AS SELECT i AS customer, 1000 AS rate FROM generate_series(1, 5) i;',
	'a temporary view' => 'CREATE TEMP VIEW rates AS SELECT i AS customer, public.evil() AS rate FROM generate_series(1, 5) i;',
	'a constant view' => 'CREATE TEMP VIEW rates AS SELECT i AS customer, public.constant_evil() AS rate FROM generate_series(1, 5) i;');
foreach my $what (sort keys %planted)
{
	foreach my $path (q{public}, q{pg_temp, victim, public}, q{victim, public, pg_temp}, q{''})
	{
		my $sql = $insert =~ s/orders/public.orders/r;
		is(attempt("$planted{$what} GRANT SELECT ON rates TO PUBLIC; SET search_path = $path; $sql $sql"), '', "$what, $path");
		attempt("$planted{$what} GRANT SELECT ON rates TO PUBLIC; SET search_path = $path; $call $sql $call $sql $call");
	}
	all_exact($what);
}

# One that nothing else is called like is refused.
sql(q{SET ROLE victim;
	CREATE TABLE victim.later (customer int, rate int);
	CREATE FUNCTION victim.late(c int) RETURNS int LANGUAGE plpgsql STABLE AS
		$$ BEGIN RETURN (SELECT rate FROM later WHERE customer = c); END $$;
	CREATE FUNCTION victim.turns(c int) RETURNS int LANGUAGE plpgsql STABLE AS
		$$ BEGIN PERFORM set_config('search_path', 'victim', true); RETURN (SELECT rate FROM rates WHERE customer = c); END $$;
	SELECT millrace.create_continuous_view('victim.late_view', 'SELECT sum(victim.late(customer)) AS total FROM orders');
	DROP TABLE victim.later});
my $refused = qr/cannot use temporary relation "later" where a continuous view's query is run/;
like(attempt("CREATE TEMP TABLE later AS SELECT 1 AS customer, 1 AS rate; GRANT SELECT ON later TO PUBLIC; $insert"), $refused,
	'a table that is gone');
foreach my $evil ('evil', 'constant_evil')
{
	like(attempt("CREATE TEMP VIEW later AS SELECT 1 AS customer, public.$evil() AS rate; GRANT SELECT ON later TO PUBLIC; $insert"),
		$refused, "a view in its place, $evil()");
}
sql('DROP VIEW victim.late_view');
all_exact('what is gone');

# A function that sets a search_path itself, with a plan that was made in the session before
sql(q{SET ROLE victim;
	CREATE DOMAIN victim.money_t AS int;
	CREATE FUNCTION victim.as_money(c int) RETURNS int LANGUAGE plpgsql STABLE AS
		$$ BEGIN PERFORM set_config('search_path', 'victim', true); RETURN c::money_t; END $$;
	SELECT millrace.create_continuous_view('victim.turned',
		'SELECT sum(victim.turns(customer)) AS total, sum(victim.as_money(customer)) AS money FROM orders')});
sub turned_is_exact { is_same($node, 'victim.turned', 'SELECT sum(customer) AS total, sum(customer) AS money FROM orders', $_[0]) }
foreach my $what (sort keys %planted)
{
	is(attempt("$planted{$what} GRANT SELECT ON rates TO PUBLIC; SELECT victim.turns(1) FROM generate_series(1, 9); $insert"),
		'', "$what, and a search_path that is set later");
	turned_is_exact("$what, and a search_path that is set later");
}
is(attempt("CREATE DOMAIN pg_temp.money_t AS int CHECK (public.evil() > 0); $_ $insert"), '', 'a temporary domain')
  foreach '', 'SELECT victim.as_money(1) FROM generate_series(1, 9);';
turned_is_exact('a temporary domain');
sql('DROP VIEW victim.turned');
all_exact('a search_path that is set later');

# Parallel workers do not know in whose guise they act.
sql(q{SET ROLE victim;
	CREATE FUNCTION victim.own_safe(c int) RETURNS int LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = victim AS
		$$ BEGIN RETURN (SELECT rate FROM rates WHERE customer = c); END $$;
	CREATE FUNCTION victim.outside(c int) RETURNS bigint LANGUAGE plpgsql STABLE AS
		$$ BEGIN RETURN (SELECT sum(victim.own_safe(customer)) FROM victim.rates WHERE customer = c); END $$;
	CREATE TABLE victim.secret AS SELECT 'hush' AS text;
	SELECT millrace.create_continuous_view('victim.parallel', 'SELECT sum(victim.outside(customer)) AS total FROM orders');
	RESET ROLE;
	CREATE FUNCTION peek() RETURNS int LANGUAGE plpgsql AS $$
		BEGIN
			IF current_user <> 'mallory' THEN RAISE NOTICE 'ran as %: %', current_user, (SELECT text FROM victim.secret); END IF;
			RETURN 1000;
		END $$});
my $mode = 'SET force_parallel_mode = on; SET parallel_leader_participation = off;';
$mode =~ s/force_parallel_mode/debug_parallel_query/ if sql('SHOW server_version_num') >= 160000;
$mode .= 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;';
is(attempt(qq{CREATE TEMP VIEW rates AS SELECT i AS customer, public.peek() AS rate FROM generate_series(1, 5) i; GRANT SELECT ON rates TO PUBLIC;
	$mode $_ $insert}), '', 'parallel workers') foreach '', 'SELECT victim.outside(1) FROM generate_series(1, 9);';
is_same($node, 'victim.parallel', 'SELECT sum(customer) AS total FROM orders', 'they are none, so nothing of the session is seen');
sql('DROP VIEW victim.parallel');

# --- settings -----------------------------------------------------------------------

my @settings = qw(standard_conforming_strings backslash_quote gin_fuzzy_search_limit array_nulls transform_null_equals
	quote_all_identifiers bytea_output extra_float_digits datestyle intervalstyle timezone xmlbinary xmloption
	default_text_search_config row_security plpgsql.check_asserts session_replication_role);
my $seen = join q{ || ' ' || }, map { "coalesce(current_setting('$_', true), '')" } @settings;
sql(qq{SET ROLE victim; DO 'BEGIN END';
	CREATE FUNCTION victim.seen() RETURNS text LANGUAGE plpgsql STABLE AS \$\$ BEGIN RETURN $seen; END \$\$;
	SELECT millrace.create_continuous_view('victim.settings', 'SELECT victim.seen() AS seen FROM orders GROUP BY 1')});
is(attempt(qq{DO 'BEGIN END'; SET standard_conforming_strings = off; SET backslash_quote = on; SET gin_fuzzy_search_limit = 1;
	SET array_nulls = off; SET transform_null_equals = on; SET quote_all_identifiers = on; SET bytea_output = escape;
	SET extra_float_digits = -5; SET datestyle = 'German'; SET intervalstyle = iso_8601; SET timezone = 'Asia/Tokyo'; SET xmlbinary = hex;
	SET xmloption = document; SET default_text_search_config = 'pg_catalog.german'; SET row_security = off; SET plpgsql.check_asserts = off;
	BEGIN; $insert RESET ROLE; SET session_replication_role = replica; COMMIT}), '', 'a session with settings of its own');
is(sql(q{SELECT count(DISTINCT seen) FROM victim.settings}), '1', 'functions see those of the view only');
sql('DROP VIEW victim.settings');

is(sql(qq{SET search_path = victim, public, pg_temp; SET gin_fuzzy_search_limit = 7; $insert
	CREATE TEMP TABLE mine AS SELECT 1 AS i; SELECT current_setting('search_path'), current_setting('gin_fuzzy_search_limit'), i,
		current_setting('millrace.in_guise') FROM mine}),
	'victim, public, pg_temp|7|1|off', 'the session has its own settings and relations again');
my ($rc, $out, $err) = $node->psql('postgres', 'SET millrace.in_guise = off');
like($err, qr/cannot be changed/, 'and cannot say as whom it acts');
all_exact('settings');

# --- replay -------------------------------------------------------------------------

my $topic = create_stream($node, 'sales', event_columns());
sql(q{ALTER FOREIGN TABLE sales OWNER TO mallory; GRANT USAGE ON FOREIGN SERVER kafka TO mallory;
	GRANT SELECT ON sales TO victim;
	SET ROLE victim;
	SELECT millrace.create_continuous_view('victim.sold', 'SELECT sum(id * victim.rate(k)) / min(victim.rate(k)) AS total FROM sales');
	UPDATE victim.rates SET rate = 0 WHERE customer = 1;
	CREATE OR REPLACE FUNCTION victim.rate(c int) RETURNS int LANGUAGE plpgsql STABLE AS
		$$ BEGIN RETURN (SELECT 1 / rate FROM rates WHERE customer = c); END $$});
produce($topic, 0, map { event($_) } 1, 8, 2);
wait_latest($node, 'victim.sold');
wait_for($node, 'SELECT count(*) = 2 FROM millrace.dead_letters');
sql('UPDATE victim.rates SET rate = 1 WHERE customer = 1');
is(attempt(qq{$planted{'a temporary view'} GRANT SELECT ON rates TO PUBLIC; SELECT millrace.replay('sales')}), '', 'the owner of a stream replays');
is(sql('SELECT count(*) FROM millrace.dead_letters'), '0', 'what could be taken was');
nobody_ran('replay');

$node->stop;
done_testing();
