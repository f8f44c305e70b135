# A later version of the extension, and a later cluster: ALTER EXTENSION UPDATE
# under load, pg_upgrade of the cluster.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $topic = create_stream($node, 'clicks', event_columns(), partitions => 2);
my %query = (
	per_k => 'SELECT k, s, count(*) AS n, avg(v) AS mean, max(id) AS last FROM %s e GROUP BY k, s',
	copied => 'SELECT id, s FROM %s e WHERE k = 1',
	told => 'SELECT k, count(*) AS n FROM %s e GROUP BY k');

my $sunk = 'SELECT id, s FROM %s e WHERE k = 2';

sub all_exact
{
	my ($where, $n, $what) = @_;
	foreach my $view (sort keys %query)
	{
		wait_latest($where, $view);
		is_same($where, $view, sprintf($query{$view}, events($n)), "$what: $view");
	}
	is_told($where, 'told', "$what: the changes of told");
	wait_latest($where, 'sunk');
	is_same($where, 'sunk_rows', sprintf($sunk, events($n)), "$what: a transform");
}

$node->safe_psql('postgres', qq{SELECT millrace.create_continuous_view('$_', \$\$@{[sprintf $query{$_}, 'clicks']}\$\$,
	changes => '$_' = 'told')})
  foreach sort keys %query;
$node->safe_psql('postgres', qq{CREATE TABLE sunk_rows (id bigint UNIQUE, s text);
	SELECT millrace.create_continuous_transform('sunk', \$\$@{[sprintf $sunk, 'clicks']}\$\$, 'sunk_rows')});

# --- the next version of the extension ----------------------------------------

# The script of a version that adds to the catalog, as a real one would.
my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
my $script = "$sharedir/extension/millrace--0.1--0.1.next.sql";
SKIP:
{
	skip 'the extension directory cannot be written', 9 unless -w "$sharedir/extension";
	append_to_file($script, q{
		ALTER TABLE millrace.continuous_view ADD COLUMN note text DEFAULT 'new';
		ALTER TABLE millrace.feed_offset ADD COLUMN more bigint NOT NULL DEFAULT 0;
		CREATE TABLE millrace.extra (view regclass PRIMARY KEY, value text);
		SELECT pg_catalog.pg_extension_config_dump('millrace.extra', '');
		CREATE FUNCTION millrace.next() RETURNS text LANGUAGE sql RETURN 'next';
		CREATE OR REPLACE VIEW millrace.gaps WITH (security_barrier) AS
		  SELECT stream, partition, from_offset, to_offset, reason, detected_at, passed, 'new' AS note
		  FROM millrace.gap WHERE pg_catalog.has_table_privilege(stream, 'SELECT');
	});
	my $load = start_traffic($topic, partitions => 2);
	wait_for($node, 'SELECT sum(n) > 500 FROM per_k');
	my $pid = worker_pid($node, 'clicks');
	$node->safe_psql('postgres', q{ALTER EXTENSION millrace UPDATE TO '0.1.next'});
	is($node->safe_psql('postgres', q{SELECT extversion, millrace.next() FROM pg_extension WHERE extname = 'millrace'}),
		'0.1.next|next', 'the extension is updated under load');
	$load->wait_more(500);
	my $rows = $node->safe_psql('postgres', 'SELECT sum(n) FROM per_k');
	wait_for($node, "SELECT sum(n) > $rows FROM per_k");
	$node->safe_psql('postgres', q{SELECT millrace.rebuild('copied');
		SELECT millrace.create_continuous_view('young', 'SELECT count(*) AS n FROM clicks')});
	my $n = $load->stop;
	all_exact($node, $n, 'through the update');
	wait_latest($node, 'young');
	is($node->safe_psql('postgres', 'SELECT n FROM young'), $n, 'a view that was created after it');
	is($node->safe_psql('postgres', q{SELECT DISTINCT note FROM millrace.continuous_view}), 'new', 'with its new column');
	# one holds all that is there before it has joined the others
	wait_for($node, q{SELECT bool_and(state <> 'catching up') FROM millrace.views});
	is($node->safe_psql('postgres', q{SELECT DISTINCT state FROM millrace.views}), 'running', 'all views run');
	$node->safe_psql('postgres', 'DROP VIEW young');
	unlike(slurp_file($node->logfile), qr/PANIC|cache lookup failed/, 'the log is quiet');
}

# --- a later cluster ----------------------------------------------------------

# The way to a later major version, here with the same one: what counts is that
# OIDs stay, the cluster is another one, and positions come along.
my $n = $node->safe_psql('postgres', 'SELECT coalesce(sum(n), 0) FROM per_k');
produce($topic, $_ % 2, event($_)) foreach $n + 1 .. $n + 100;
$n += 100;
all_exact($node, $n, 'before pg_upgrade');
$node->stop;
my $upgraded = new_node('upgraded', extension => 0, start => 0);
my ($bindir) = run_command([ 'pg_config', '--bindir' ]);
chdir $PostgreSQL::Test::Utils::tmp_check or die;
command_ok([ 'pg_upgrade', '--no-sync', '-d', $node->data_dir, '-D', $upgraded->data_dir, '-b', $bindir, '-B', $bindir,
	'-s', $node->host, '-p', $node->port, '-P', $upgraded->port ], 'pg_upgrade');
chdir $ENV{PWD};
$upgraded->start;
is($upgraded->safe_psql('postgres', q{SELECT DISTINCT state, last_error FROM millrace.views}),
	'paused|the database was restored or copied; millrace.activate() starts ingest here', 'an upgraded cluster is paused');
is_same($upgraded, $_, sprintf($query{$_}, events($n)), "it shows $_ as it was") foreach sort keys %query;
produce($topic, $_ % 2, event($_)) foreach $n + 1 .. $n + 100;
$n += 100;
is($upgraded->safe_psql('postgres', 'SELECT sum(n) FROM per_k'), $n - 100, 'and stands still');
$upgraded->safe_psql('postgres', q{SELECT millrace.activate('clicks')});
all_exact($upgraded, $n, 'activated');
$upgraded->safe_psql('postgres', q{SELECT millrace.rebuild('per_k')});
all_exact($upgraded, $n, 'rebuilt');

END
{
	unlink $script if defined $script;
}

done_testing();
