# Producers of sessions.  A commit that is canceled while the broker decides: the transaction follows the
# broker's answer, if that comes soon.  And a producer that has rested until the broker has forgotten it.

use strict;
use warnings;

use lib 't/lib';
use IO::Select;
use IO::Socket::INET;
use MillraceLoad;
use MillraceTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;

# A listener of the broker's is behind a proxy, which keeps the answer to a request to end a
# transaction as long as there is this file, and then makes the other one.
my $hold = "$PostgreSQL::Test::Utils::tmp_check/hold";
my $held = "$PostgreSQL::Test::Utils::tmp_check/held";
my $END_TXN = 26;
my $proxy = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 10) or die "could not listen: $!\n";
my $address = '127.0.0.1:' . $proxy->sockport;
my $behind = PostgreSQL::Test::Cluster::get_free_port();

# of the requests that have come in full, is one to end a transaction?
sub ends_transaction
{
	my ($requests) = @_;
	my $result = 0;
	while (length $$requests >= 6)
	{
		my ($size, $key) = unpack 'N n', $$requests;
		last if length $$requests < 4 + $size;
		$result = 1 if $key == $END_TXN;
		substr($$requests, 0, 4 + $size) = '';
	}
	return $result;
}

sub serve
{
	my (%other, %requests, %kept);
	my $select = IO::Select->new($proxy);
	for (;;)
	{
		if (!-e $hold)
		{
			$select->add(values %kept);
			%kept = ();
		}
		foreach my $socket ($select->can_read(0.02))
		{
			if ($socket == $proxy)
			{
				my $client = $proxy->accept or next;
				my $broker = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$behind") or next;
				@other{$client, $broker} = ($broker, $client);
				$requests{$client} = '';
				$select->add($client, $broker);
				next;
			}
			next if $kept{$socket};
			my $to = $other{$socket} or next;
			my $n = sysread $socket, my $bytes, 65536;
			if (!$n)
			{
				$select->remove($_), delete $other{$_}, delete $kept{$_}, close $_ foreach $socket, $to;
				next;
			}
			if (defined $requests{$socket})
			{
				$requests{$socket} .= $bytes;
				if (ends_transaction(\$requests{$socket}) && -e $hold)
				{
					$kept{$to} = $to;
					$select->remove($to);
					append_to_file($held, 'x');
				}
			}
			syswrite $to, $bytes;
		}
	}
}

my $child = fork // die "could not fork: $!\n";
if ($child == 0)
{
	$SIG{PIPE} = 'IGNORE';
	eval { serve() };
	POSIX::_exit(0);
}
END { kill 'KILL', $child if $child }

my $broker = own_broker(
	listeners => "PLAINTEXT://127.0.0.1:\@PORT\@,CONTROLLER://127.0.0.1:\@CONTROLLER\@,BEHIND://127.0.0.1:$behind",
	'advertised.listeners' => "PLAINTEXT://127.0.0.1:\@PORT\@,BEHIND://$address",
	'listener.security.protocol.map' => 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,BEHIND:PLAINTEXT',
	'transactional.id.expiration.ms' => 2000, 'transaction.remove.expired.transaction.cleanup.interval.ms' => 500);
my $node = new_node('main', broker => $broker->bootstrap);
my $topic = create_stream($node, 'words', 'id integer', broker => $broker);
$node->safe_psql('postgres', qq{CREATE SERVER proxy FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" '$address');
	CREATE FOREIGN TABLE through (id integer) SERVER proxy OPTIONS (topic '$topic');
	CREATE TABLE done (id integer);
	INSERT INTO through VALUES (0)});

# A session whose commit has been given to the broker, and was canceled then.
sub canceled
{
	my ($id) = @_;
	unlink $held;
	append_to_file($hold, 'x');
	my $session = background($node, "BEGIN; INSERT INTO through VALUES ($id); INSERT INTO done VALUES ($id); COMMIT");
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if -e $held;
		select undef, undef, undef, 0.1;
	}
	die "no end of a transaction has come\n" if !-e $held;
	$node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COMMIT%'});
	wait_for($node, "SELECT count(*) = 1 FROM words WHERE id = $id");
	return $session;
}

my $session = canceled(1);
unlink $hold;
$session->finish;
is($node->safe_psql('postgres', 'SELECT id FROM done'), '1', 'a cancel that the commit overtakes comes too late');

$session = canceled(2);
my ($ok, $out, $err) = $session->finish;
like($err, qr/canceling statement/, 'who has no answer for long does not wait for it');
unlink $hold;

# Ten times as long as its transactions may take.
$node->safe_psql('postgres', qq{CREATE SERVER brief FOREIGN DATA WRAPPER millrace
	OPTIONS ("bootstrap.servers" '@{[$broker->bootstrap]}', "transaction.timeout.ms" '1000');
	CREATE FOREIGN TABLE rare (id integer) SERVER brief OPTIONS (topic '$topic')});
my $resting = $node->background_psql('postgres');
my $pid = $resting->query_safe('INSERT INTO rare VALUES (3) RETURNING pg_backend_pid()');
wait_for($node, "SELECT now() - state_change > interval '11 s' FROM pg_stat_activity WHERE pid = $pid");
$resting->query_safe('INSERT INTO rare VALUES (4)');
wait_for($node, 'SELECT count(*) = 1 FROM words WHERE id = 4');
pass('a session that has not inserted for long can do it again');

done_testing();
