# MillraceLoad - traffic while a test does something else, and SQL in sessions
# of its own.
#
#   my $load = start_traffic($topic, partitions => 4);
#   ... kill something ...
#   my $n = $load->stop;
#   is_same($node, 'v', 'SELECT ... FROM ' . events($n) . ' e', '...');
#
# Message i is {"id": i, "k": i % 7, "v": i / 4, "s": "s<i % 13>"}, for i from 1
# on, each in the topic exactly once, whatever happens to the broker.  With
# partitions, message i goes into partition i % partitions.

package MillraceLoad;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use POSIX ();
use PostgreSQL::Test::Utils;
use MillraceTest;

our @EXPORT = qw(start_traffic events event event_columns background open_transaction wait_new_worker
  kill_server restart_server wait_state wait_joined create_trouble);

my $number = 0;

# When a test dies its traffic must go first: it holds pipes that others wait for.
my $test = $$;
my @running;
END { kill 'KILL', @running if $$ == $test }

# The columns of a stream that takes the traffic.
sub event_columns { return 'id bigint, k integer, v numeric, s text' }

sub event
{
	my ($i) = @_;
	return sprintf '{"id": %d, "k": %d, "v": %s, "s": "s%d"}', $i, $i % 7, $i / 4, $i % 13;
}

# The same events, as something to select from.
sub events
{
	my ($to, $from) = @_;
	$from //= 1;
	return qq{(SELECT i AS id, (i % 7)::integer AS k, round(i / 4.0, 2)::numeric AS v, 's' || i % 13 AS s
		FROM generate_series($from\::bigint, $to\::bigint) i)};
}

# Options: broker, partitions (1), chunk (messages at a time, 50), pause
# (seconds between chunks, 0.01), from (the first id, 1).
sub start_traffic
{
	my ($topic, %opt) = @_;
	my $self = bless {
		owner => $$,
		from => $opt{from} // 1,
		file => "$PostgreSQL::Test::Utils::tmp_check/traffic_" . $number++
	}, __PACKAGE__;

	MillraceTest::Client::build();
	append_to_file($self->{file}, '');
	$self->{pid} = fork // die "could not fork: $!\n";
	if ($self->{pid})
	{
		push @running, $self->{pid};
		return $self;
	}

	# Nothing of ours may run the parent's END blocks.
	eval { run_traffic($self, $topic, %opt); 1 } or do
	{
		print STDERR "traffic: $@";
		POSIX::_exit(1);
	};
	POSIX::_exit(0);
}

sub run_traffic
{
	my ($self, $topic, %opt) = @_;
	my $partitions = $opt{partitions} // 1;
	my $i = $self->{from};
	my $stop = 0;
	local $SIG{TERM} = sub { $stop = 1 };
	# One request at a time: librdkafka may fail with "out of order sequence number"
	# when a broker is killed with several on their way.
	my $client = producer($opt{broker}, 'enable.idempotence' => 'true', 'max.in.flight.requests.per.connection' => 1);

	open my $file, '+<', $self->{file} or die "could not open $self->{file}: $!\n";
	while (!$stop && getppid == $self->{owner})
	{
		foreach (1 .. $opt{chunk} // 50)
		{
			$client->send($topic, $i % $partitions, event($i));
			$i++;
		}
		$client->flush;
		sysseek $file, 0, 0;
		syswrite $file, sprintf '%12d', $i - $self->{from};
		select undef, undef, undef, $opt{pause} // 0.01;
	}
	$client->finish;
}

# How many messages the broker has acknowledged so far.
sub sent
{
	my ($self) = @_;
	return (slurp_file($self->{file}) || 0) + 0;
}

# Waits until so many more messages were acknowledged.
sub wait_more
{
	my ($self, $more) = @_;
	my $target = $self->sent + $more;
	foreach (1 .. 100 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if $self->sent >= $target;
		die "the traffic has ended at " . $self->sent . " messages\n" if waitpid($self->{pid}, POSIX::WNOHANG()) > 0;
		select undef, undef, undef, 0.01;
	}
	die "the traffic stalled at " . $self->sent . " messages\n";
}

# Ends the traffic; returns the last id.
sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return $self->{last};
	@running = grep { $_ != $pid } @running;
	kill 'TERM', $pid;
	waitpid $pid, 0;
	die "the traffic failed\n" if $? != 0;
	return $self->{last} = $self->{from} + $self->sent - 1;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);
	return if $self->{owner} != $$ || !$self->{pid};
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	@running = grep { $_ != $self->{pid} } @running;
}

# Runs SQL in a session of its own; finish waits for its end and returns (true
# when all went well, output, errors).
sub background
{
	my ($node, $sql, $database) = @_;
	my $file = "$PostgreSQL::Test::Utils::tmp_check/session_" . $number++;
	my $self = bless { file => $file }, 'MillraceLoad::Session';
	append_to_file("$file.sql", $sql);
	$self->{harness} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database // 'postgres'), '-f', "$file.sql" ],
		'<', \undef, '>', "$file.out", '2>', "$file.err");
	return $self;
}

# A transaction that is left open after this SQL: pid is its process, end (SQL, COMMIT)
# ends it and the session.
my @open;
END { $$ == $test and $_->{harness}->signal('KILL') foreach @open }

sub open_transaction
{
	my ($node, $sql, $database) = @_;
	my $self = bless { in => "BEGIN;\n$sql;\nSELECT 'is open', pg_backend_pid();\n", out => '', err => '' },
	  'MillraceLoad::Transaction';
	$self->{harness} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database // 'postgres') ],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err});
	push @open, $self;
	IPC::Run::pump($self->{harness}) until $self->{out} =~ /is open\|(\d+)/ || $self->{err} =~ /ERROR|FATAL/;
	die "$sql: $self->{err}" if $self->{err} =~ /ERROR|FATAL/;
	$self->{pid} = $1;
	return $self;
}

# Waits until a stream has a worker that is none of these processes.
sub wait_new_worker
{
	my ($node, $stream, @old) = @_;
	my $old = join ', ', @old;
	wait_for($node, "SELECT count(*) > 0 FROM millrace.workers
		WHERE stream = '$stream'::regclass AND pid NOT IN ($old)");
}

# Kills a postmaster.
sub kill_server
{
	my ($node) = @_;
	my $pid = (split /\n/, slurp_file($node->data_dir . "/postmaster.pid"))[0];
	$node->kill9;
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return unless kill 0, $pid;
		select undef, undef, undef, 0.1;
	}
	die "the postmaster is still there\n";
}

# Starts it again, once its children are gone.
sub restart_server
{
	my ($node) = @_;
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if $node->start(fail_ok => 1);
		select undef, undef, undef, 0.1;
	}
	die "the server did not start\n";
}

# Waits until a view, or a stream, is in a state.
sub wait_state
{
	my ($node, $what, $name, $state) = @_;
	wait_for($node, "SELECT state FROM millrace.${what}s WHERE $what = '$name'::regclass", $state);
}

# A function troubled(type) that returns its argument, but while the table trouble says so it fails with an
# error that may pass.
sub create_trouble
{
	my ($node, $type) = @_;
	$node->safe_psql('postgres', qq{CREATE TABLE trouble (here boolean); INSERT INTO trouble VALUES (false);
		CREATE FUNCTION troubled($type) RETURNS $type STABLE LANGUAGE plpgsql AS \$\$ BEGIN
			IF (SELECT here FROM public.trouble) THEN RAISE 'trouble' USING ERRCODE = '57000'; END IF; RETURN \$1; END \$\$});
}

# Waits until all views of a stream follow its live feed, and the workers that have brought them
# there are gone: those that are left do not end by themselves.
sub wait_joined
{
	my ($node, $stream) = @_;
	wait_for($node, "SELECT count(*) > 0 AND bool_and(coalesce(f.live OR f.apart, false)) FROM
		(SELECT feed FROM millrace.view_stream WHERE stream = '$stream'::regclass
		UNION ALL SELECT feed FROM millrace.workers WHERE stream = '$stream'::regclass AND pid IS NOT NULL) s
		LEFT JOIN millrace.feed f ON f.id = s.feed");
}

package MillraceLoad::Transaction;

sub pid { return $_[0]{pid} }

sub end
{
	my ($self, $how) = @_;
	$self->{in} .= ($how // 'COMMIT') . ";\n\\q\n";
	IPC::Run::finish($self->{harness});
	@open = grep { $_ != $self } @open;
}

package MillraceLoad::Session;

sub finish
{
	my ($self) = @_;
	my $ok = IPC::Run::finish($self->{harness});
	my ($out, $err) = map { PostgreSQL::Test::Utils::slurp_file("$self->{file}.$_") } qw(out err);
	chomp $out;
	return wantarray ? ($ok, $out, $err) : $ok;
}

1;
