# Databases come and go, are closed and opened: none takes anything from the others, and each is
# looked after as soon as it can be.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

# one slot is the server's own, one the launcher's, one the supervisor's of a database
my $node = new_node('main', extension => 0, conf => "max_worker_processes = 5\n");
my $topic = create_topic(topic_name('clicks'));
my $n = 0;

sub sql
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

sub send_one { produce($topic, 0, event(++$n)) }

sub create_database
{
	my ($database) = @_;
	sql("CREATE DATABASE $database");
	create_server($node, $database);
	create_stream($node, 'clicks', event_columns(), topic => $topic, database => $database);
	sql(q{SELECT millrace.create_continuous_view('total', 'SELECT count(*) AS n FROM clicks')}, $database);
}

# wait_for_latest would ask for a look
sub holds_all
{
	my ($database, $what) = @_;
	wait_for($node, "SELECT n = $n FROM total", 't', $database);
	pass("$what: the view holds all");
}

send_one();
foreach my $i (1 .. 6)
{
	create_database("passing_$i");
	holds_all("passing_$i", "database $i");
	sql("DROP DATABASE passing_$i");
}
is(sql('SELECT count(*) FROM pg_database WHERE datname LIKE $$passing%$$'), 0, 'workers of dropped databases keep no slot');
create_database('again');
holds_all('again', 'before DROP EXTENSION');
sql('SET client_min_messages = error; DROP EXTENSION millrace CASCADE', 'again');
create_database('closed');
holds_all('closed', 'after DROP EXTENSION elsewhere');

# Closed while the server starts
foreach my $how ([ 'ALLOW_CONNECTIONS false', 'ALLOW_CONNECTIONS true' ], [ 'IS_TEMPLATE true', 'IS_TEMPLATE false' ])
{
	sql("ALTER DATABASE closed $how->[0]");
	$node->restart;
	wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'millrace launcher' AND wait_event_type = 'Extension'});
	sql("ALTER DATABASE closed $how->[1]");
	send_one();
	holds_all('closed', $how->[1]);
}

# A supervisor looks after workers that another one has started.  Returns after how many seconds
# there was another process.
sub terminate
{
	my ($type) = @_;
	my $pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace $type'");
	my (undef, $ended) = split /\|/, sql("SELECT pg_terminate_backend($pid), clock_timestamp()");
	wait_for($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'millrace $type' AND pid <> $pid AND wait_event_type = 'Extension'");
	return sql("SELECT extract(epoch FROM backend_start - '$ended') FROM pg_stat_activity WHERE backend_type = 'millrace $type'");
}
terminate('supervisor');
cmp_ok(terminate('worker'), '<=', patience(6), 'a worker that was terminated is started again, by a new supervisor');

# What an interrupted DROP DATABASE leaves cannot be connected to.
sql('CREATE DATABASE broken');
sql(q{UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'broken'});
sql('CREATE DATABASE behind');
my $log = -s $node->logfile;
$node->restart;
send_one();
holds_all('closed', 'beside an invalid database');
create_server($node, 'behind');
create_stream($node, 'clicks', event_columns(), topic => $topic, database => 'behind');
sql('DROP DATABASE closed');
sql(q{SELECT millrace.create_continuous_view('total', 'SELECT count(*) AS n FROM clicks')}, 'behind');
holds_all('behind', 'another one beside it');
unlike(slurp_file($node->logfile, $log), qr/FATAL.*broken/, 'nobody tries to connect to that');

# A supervisor that has found no extension is asked on its way out.
my ($rc) = $node->psql('postgres', q{
	CREATE FUNCTION failpoint_arm(text, text, text, integer) RETURNS void LANGUAGE C AS 'millrace', 'mr_failpoint_arm'}, on_error_stop => 1);
if ($rc == 0)
{
	sql('DROP DATABASE behind');
	sql(q{SELECT failpoint_arm('supervise-looked', 'wait', '00000', 1)});
	sql('CREATE DATABASE late');
	wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'millrace supervisor' AND datname = 'late' AND wait_event = 'Extension'});
	sql(qq{BEGIN; CREATE EXTENSION millrace;
		CREATE SERVER kafka FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" '@{[bootstrap()]}');
		CREATE FOREIGN TABLE clicks (id bigint) SERVER kafka OPTIONS (topic '$topic');
		SELECT millrace.create_continuous_view('total', 'SELECT count(*) AS n FROM clicks'); COMMIT}, 'late');
	sql(q{SELECT failpoint_arm('', 'error', '00000', 0)});
	holds_all('late', 'created all at once');

	# Two slots are free, and two other databases are looked at first, slowly.
	sql(q{SELECT failpoint_arm('supervise-looked', 'wait', '00000', 1)});
	sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'millrace supervisor' AND datname = 'late'});
	my $others = q{(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace supervisor' AND datname IN ('postgres', 'again'))};
	wait_for($node, "SELECT $others = 2");
	sql(qq{DO \$\$ BEGIN
		PERFORM failpoint_arm('', 'error', '00000', 0);
		WHILE $others > 0 LOOP PERFORM pg_stat_clear_snapshot(); END LOOP;
		PERFORM failpoint_arm('supervise-looked', 'wait', '00000', 1);
	END \$\$});
	wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'millrace supervisor' AND datname = 'late'});
	pass('a database that found no slot comes first afterwards');
	sql(q{SELECT failpoint_arm('', 'error', '00000', 0)});
	send_one();
	holds_all('late', 'once it has got one');
}

done_testing();
