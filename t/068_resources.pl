# Sessions that get no more threads or descriptors: their statements fail, the server goes on, and
# what Kafka has committed is committed.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'prlimit is needed' if system('prlimit --version >/dev/null 2>&1') != 0;

my $node = new_node('main');
create_stream($node, 'words', 'id integer');
$node->safe_psql('postgres', 'INSERT INTO words VALUES (0)');
my @expected = (0);

# A session under a limit; what it does before it is.
sub limited
{
	my ($limit, @before) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_safe($_) foreach @before;
	system_or_bail('prlimit', '--pid', $pid, "--$limit");
	return $session;
}

# The statement's error, or ''; the session, and so the server, must be there afterwards.
sub error_of
{
	my ($session, $sql) = @_;
	$session->query($sql);
	my $error = $session->{stderr};
	$session->{stderr} = '';
	is($session->query_safe(q{SELECT 'alive'}), 'alive', "$sql: no crash");
	return $error;
}

# A new client cannot begin.
foreach my $limit ('nproc=1:1', 'nofile=9:9')
{
	foreach my $sql ('SELECT count(*) FROM words', 'INSERT INTO words VALUES (-1)',
		"SELECT millrace.create_topic('kafka', 'never_made')")
	{
		my $session = limited($limit);
		like(error_of($session, $sql), qr/could not start a thread|could not create pipe/, "$limit: it is an error");
		$session->quit;
	}
}

# One that is there already can commit, and then nothing is left that may fail.
my $id = 0;
foreach my $limit ('nproc=1:1', 'nofile=9:9')
{
	my $session = limited($limit, 'INSERT INTO words VALUES (' . ++$id . ')');
	push @expected, $id++;
	push @expected, $id if error_of($session, "INSERT INTO words VALUES ($id)") eq '';
	$session->quit;
}
wait_for($node, "SELECT count(*) >= @{[scalar @expected]} FROM words");
is($node->safe_psql('postgres', q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM words}), "@expected",
	'what was committed is there, what was an error is not');

done_testing();
