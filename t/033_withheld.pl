# Errors show values.  One that came up in a view's query shows some of tables that others
# may not read, however it reaches them.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $withheld = 'withheld for want of privilege SELECT on the view';

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# Who may read the view reads the error, who may only read the stream that there is one.
sub shown
{
	my ($query, $like, $name) = @_;
	like(sql("SET ROLE app; $query"), $like, "$name: its owner reads it");
	like(sql("SET ROLE friend; $query"), $like, "$name: so does who may read the view");
	is(sql("SET ROLE stranger; $query"), $withheld, "$name: others do not");
}

sql(q{
	CREATE ROLE app; CREATE ROLE friend; CREATE ROLE stranger;
	CREATE SCHEMA app AUTHORIZATION app;
	GRANT USAGE ON SCHEMA app TO friend;
	GRANT CREATE ON SCHEMA public TO stranger;
	CREATE TABLE secret (k integer, word text);
	INSERT INTO secret VALUES (0, '10'), (1, '11'), (2, '12'), (3, 'topsecret3');
	GRANT SELECT ON secret TO app;
	ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA app GRANT SELECT ON TABLES TO friend;
	CREATE FUNCTION app.sum_of(text) RETURNS integer LANGUAGE sql STABLE AS 'SELECT $1::integer'});

my %topics;
foreach my $stream ('clicks', 'stops', 'passing')
{
	$topics{$stream} = create_stream($node, $stream, event_columns(), $stream eq 'stops' ? (options => { on_error => 'stop' }) : ());
	sql(qq{GRANT SELECT ON $stream TO app, friend, stranger});
}
my $joins = 'SELECT k, sum(word::integer) AS s FROM %s JOIN secret USING (k) GROUP BY k';

# --- a message that the view cannot take ------------------------------------------

my $cast = qr/invalid input syntax for type integer: "topsecret3"/;
sql("SET ROLE app; SELECT millrace.create_continuous_view('app.v', '" . sprintf($joins, 'clicks') . "')");
produce($topics{clicks}, 0, map { event($_) } 1 .. 3);
wait_for($node, 'SELECT count(*) = 1 FROM millrace.dead_letters');
shown('SELECT error FROM millrace.dead_letters', $cast, 'a dead letter of a view');
produce($topics{clicks}, 0, '{"k": "nonsense"}');
wait_for($node, 'SELECT count(*) = 2 FROM millrace.dead_letters');
like(sql('SET ROLE stranger; SELECT error FROM millrace.dead_letters WHERE view IS NULL'), qr/nonsense/,
	"one that cannot be decoded is the stream's, and readable with it");

# --- a view that failed ---------------------------------------------------------------

sql('ALTER TABLE secret RENAME TO topsecret; ALTER TABLE topsecret RENAME COLUMN word TO words; REVOKE SELECT ON topsecret FROM app');
produce($topics{clicks}, 0, event(1));
wait_state($node, 'view', 'app.v', 'failed');
is(sql("SELECT state FROM millrace.streams WHERE stream = 'clicks'::regclass"), 'failed', 'all views of the stream have failed');
shown(q{SELECT last_error FROM millrace.streams WHERE stream = 'clicks'::regclass}, qr/permission denied for table topsecret/, "a failed view's, in streams");
sql('ALTER TABLE topsecret RENAME TO secret; ALTER TABLE secret RENAME COLUMN words TO word; GRANT SELECT ON secret TO app');

# A view of his own, failed as well, he reads about.
sql(q{CREATE TABLE labels (k integer); GRANT SELECT ON labels TO stranger; SET ROLE stranger;
	SELECT millrace.create_continuous_view('own', 'SELECT count(*) FROM clicks JOIN labels USING (k)')});
wait_latest($node, 'own');
sql('REVOKE SELECT ON labels FROM stranger');
produce($topics{clicks}, 0, event(1));
wait_state($node, 'view', 'own', 'failed');
like(sql(q{SET ROLE stranger; SELECT last_error FROM millrace.streams WHERE stream = 'clicks'::regclass}), qr/permission denied for table labels/,
	'of two, the one that he may read');
sql('SET ROLE stranger; DROP VIEW own');

# --- a stream that stops -------------------------------------------------------------

sql("SET ROLE app; SELECT millrace.create_continuous_view('app.halts', '" . sprintf($joins, 'stops') . q{');
	SET ROLE stranger; SELECT millrace.create_continuous_view('beside', 'SELECT count(*) AS n FROM stops')});
wait_for($node, q{SELECT count(*) = 2 FROM millrace.views WHERE stream = 'stops'::regclass AND live});
produce($topics{stops}, 0, map { event($_) } 1 .. 3);
wait_state($node, 'view', 'app.halts', 'stopped');
shown(q{SELECT last_error FROM millrace.streams WHERE stream = 'stops'::regclass}, $cast, "a stopped stream's");
is(sql(q{SET ROLE stranger; SELECT state, last_error FROM millrace.views WHERE view = 'beside'::regclass}), "stopped|$withheld",
	'the same, in views, for others that follow');
like(sql(q{SET ROLE app; SELECT last_error FROM millrace.views WHERE view = 'app.halts'::regclass}), $cast, 'and for the view itself');
my ($rc, $out, $err) = $node->psql('postgres', q{SET ROLE stranger; SELECT millrace.wait_for_latest('beside', timeout => '1min')});
isnt($rc, 0, 'waiting for it');
like($err, qr/has stopped.*\Q$withheld/s, 'does not tell either');
unlike($err, qr/topsecret3/, 'not even a part of it');
sql(q{UPDATE secret SET word = '13' WHERE k = 3; SELECT millrace.activate('stops')});
wait_latest($node, $_) foreach 'app.halts', 'beside';
is(sql(q{SELECT blamed IS NULL FROM millrace.feed WHERE stream = 'stops'::regclass AND live}), 't', 'and it is over');

# --- a worker that tries again -----------------------------------------------------

sql(q{SET ROLE app;
	CREATE TABLE app.trouble ();
	CREATE FUNCTION app.number(k integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$
	BEGIN
		IF EXISTS (SELECT FROM app.trouble) THEN
			RAISE EXCEPTION 'no room for topsecret3' USING ERRCODE = 'disk_full';
		END IF;
		RETURN k;
	END $$;
	SELECT millrace.create_continuous_view('app.tries', 'SELECT app.number(k) AS k, count(*) AS n FROM passing GROUP BY 1');
	INSERT INTO app.trouble DEFAULT VALUES});
produce($topics{passing}, 0, event(1));
wait_state($node, 'view', 'app.tries', 'retrying');
my $room = qr/no room for topsecret3/;
shown(q{SELECT DISTINCT last_error FROM millrace.workers WHERE stream = 'passing'::regclass}, $room, 'in workers');
shown(q{SELECT DISTINCT last_error FROM millrace.worker_slots() WHERE stream = 'passing'::regclass}, $room, 'in what workers shows');
shown(q{SELECT last_error FROM millrace.streams WHERE stream = 'passing'::regclass}, $room, 'in streams');

# Beside another view it leaves for a feed of its own.
sql(q{SET ROLE app; DELETE FROM app.trouble});
wait_latest($node, 'app.tries');
sql(q{SET ROLE stranger; SELECT millrace.create_continuous_view('goes_on', 'SELECT count(*) AS n FROM passing')});
wait_for($node, q{SELECT count(*) = 2 FROM millrace.views WHERE stream = 'passing'::regclass AND live});
sql(q{SET ROLE app; INSERT INTO app.trouble DEFAULT VALUES});
produce($topics{passing}, 0, event(1));
wait_latest($node, 'goes_on');
wait_for($node, q{SELECT last_error LIKE '%topsecret3%' FROM millrace.workers w WHERE stream = 'passing'::regclass AND state = 'retrying'});
is(sql(q{SET ROLE stranger; SELECT count(*) FROM millrace.workers WHERE last_error LIKE '%topsecret%'}), '0', 'there neither');
like(sql(q{SET ROLE app; SELECT last_error FROM millrace.views WHERE view = 'app.tries'::regclass}), $room, 'its owner reads it');

# A rebuild's error is that of its view.
sql(q{SET ROLE app; DELETE FROM app.trouble});
wait_latest($node, 'app.tries');
sql(q{SET ROLE app; INSERT INTO app.trouble DEFAULT VALUES; SELECT millrace.rebuild('app.tries')});
wait_for($node, q{SELECT last_error LIKE 'rebuild: %topsecret3%' FROM millrace.views WHERE view = 'app.tries'::regclass});
like(sql(q{SET ROLE app; SELECT last_error FROM millrace.views WHERE view = 'app.tries'::regclass}), qr/^rebuild: $room/, "a rebuild's, too");
is(sql(q{SET ROLE stranger; SELECT count(*) FROM millrace.workers WHERE last_error LIKE '%topsecret%'}), '0', 'and nobody else');
sql(q{SET ROLE app; DELETE FROM app.trouble});

# --- of nobody ---------------------------------------------------------------------

is(sql(q{SET ROLE stranger; SELECT millrace.readable_error(NULL, 'app.v'::regclass) IS NULL AND millrace.readable_error('x', NULL) = 'x'
	AND millrace.readable_error('x', 4294967295) <> 'x'} =~ s/'app\.v'::regclass/1/r), 't', 'no error, no view, a view that is gone');

done_testing();
