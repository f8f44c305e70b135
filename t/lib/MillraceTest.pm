# MillraceTest - what the TAP tests share: servers with the extension, topics
# and producers on a real Kafka, brokers of a test's own, and the oracle.
#
#   use lib 't/lib';
#   use MillraceTest;
#
#   my $node = new_node('main');
#   my $topic = create_stream($node, 'clicks', 'id bigint, url text', partitions => 2);
#   produce($topic, 0, '{"id": 1}', '{"id": 2}', ['key', '{"id": 3}']);
#   $node->safe_psql('postgres', q{SELECT millrace.create_continuous_view(...)});
#   wait_latest($node, 'v');
#   is_same($node, 'v', 'SELECT ... FROM clicks', 'v holds every message');
#
# Everything here dies when it fails, except is_same, which is a test.  Servers
# log into tmp_check/log; brokers of a test's own live and die with it.  With
# MILLRACE_STOP=fast in the environment servers are shut down that way at the end.

package MillraceTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  new_node create_server topic_name create_topic create_stream
  bootstrap client producer produce produce_transaction watermarks
  patience wait_for psql_if_alive wait_latest is_same differences_told is_told worker_pid kill_process own_broker
);

my @brokers;
my @nodes;
my %clients;
my $shared;
my $run = sprintf '%x_%x', time, $$;

# Kafka's address: the one that check.sh started, or one for this test alone.
sub bootstrap
{
	return $ENV{MILLRACE_BOOTSTRAP} if $ENV{MILLRACE_BOOTSTRAP};
	$shared //= own_broker();
	return $shared->bootstrap;
}

# A running server with the extension, and a foreign server "kafka" in database
# postgres.  Options: conf (text), init (for the init method, as [allows_streaming
# => 1]), broker (address), extension => 0 for a server without it, start => 0,
# install_path (of another PostgreSQL, which has programs in bin/).
sub new_node
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, map { $_ => $opt{$_} } grep { defined $opt{$_} } 'install_path');

	push @nodes, $node;
	$node->init(@{ $opt{init} // [] });
	$node->append_conf('postgresql.conf',
		slurp_file($ENV{MILLRACE_TEST_CONF} // 'test.conf'));
	# The test framework switches this off; a server in use has it on.
	$node->append_conf('postgresql.conf', "restart_after_crash = on\nlog_statement = none\n");
	$node->append_conf('postgresql.conf', $opt{conf}) if defined $opt{conf};
	return $node if defined $opt{start} && !$opt{start};
	$node->start;
	create_server($node, 'postgres', $opt{broker} // bootstrap())
	  unless defined $opt{extension} && !$opt{extension};
	return $node;
}

# The extension and the foreign server "kafka" in a database.
sub create_server
{
	my ($node, $database, $broker) = @_;
	$broker //= bootstrap();
	$node->safe_psql($database, qq{
		CREATE EXTENSION IF NOT EXISTS millrace;
		CREATE SERVER kafka FOREIGN DATA WRAPPER millrace
			OPTIONS ("bootstrap.servers" '$broker');});
}

# A topic name that no other run uses.
sub topic_name
{
	my ($base) = @_;
	return "${base}_$run";
}

# Options: partitions (1), replicas (1; or on which brokers: '2:3'), config ({}), broker.
# Returns when it can be used.
sub create_topic
{
	my ($topic, %opt) = @_;
	client($opt{broker})->command('create', $topic, $opt{partitions} // 1, $opt{replicas} // 1, %{ $opt{config} // {} });
	return $topic;
}

# A topic and a stream on it; returns the topic's name.  Options: those of
# create_topic; topic (name; then it must exist), options (hash, of the foreign
# table), database, server.
sub create_stream
{
	my ($node, $name, $columns, %opt) = @_;
	my $topic = $opt{topic} // create_topic(topic_name($name), %opt);
	my %options = (topic => $topic, %{ $opt{options} // {} });
	my $options = join ', ', map { qq{$_ '$options{$_}'} } sort keys %options;
	$node->safe_psql($opt{database} // 'postgres',
		"CREATE FOREIGN TABLE $name ($columns) SERVER "
		  . ($opt{server} // 'kafka') . " OPTIONS ($options)");
	return $topic;
}

# The client for a broker that is shared by all calls without one of their own.
sub client
{
	my ($broker) = @_;
	$broker = $broker->bootstrap if ref $broker;
	$broker //= bootstrap();
	return $clients{$broker} //= MillraceTest::Client->new($broker);
}

# A client of one's own: producer($broker, 'compression.type' => 'zstd',
# 'transactional.id' => 'a').  $broker undef: the shared one.
sub producer
{
	my ($broker, %properties) = @_;
	$broker = $broker->bootstrap if ref $broker;
	return MillraceTest::Client->new($broker // bootstrap(), %properties);
}

# Produces messages and waits until the broker has them.  $topic may also be
# [topic, broker].  $partition undef: the partitioner's choice.  A message is
# its value, or [key, value], or a hash with key, value, timestamp (ms) and
# headers ([name => value, ...]).
sub produce
{
	my ($topic, $partition, @messages) = @_;
	my $broker;
	($topic, $broker) = @$topic if ref $topic;
	my $client = client($broker);
	$client->send($topic, $partition, $_) foreach @messages;
	return $client->flush;
}

# One transaction of its own; the first argument is 'commit' or 'abort'.
sub produce_transaction
{
	my ($end, $topic, $partition, @messages) = @_;
	my $client = $clients{transactions} //=
	  MillraceTest::Client->new(bootstrap(), 'transactional.id' => topic_name("t$$"));
	$client->begin;
	$client->send($topic, $partition, $_) foreach @messages;
	# An abort would purge what is still queued.
	$client->flush;
	$client->command($end);
}

# (first, next) offset of a partition, as a reader of committed messages sees it.
sub watermarks
{
	my ($topic, $partition, $broker) = @_;
	return split / /, client($broker)->command('watermarks', $topic, $partition // 0);
}

# How much time, in whatever unit, something may take that takes less than so much in an
# ordinary test run.  PG_TEST_TIMEOUT_DEFAULT (180) is the measure, which the test framework
# itself waits by; scripts/under/ sets it for tools that make the server slow.
sub patience
{
	my ($time) = @_;
	return $time * $PostgreSQL::Test::Utils::timeout_default / 180;
}

# Waits until a query returns a value, 't' by default; dies after the timeout of
# the test framework.
sub wait_for
{
	my ($node, $query, $expected, $database) = @_;
	$node->poll_query_until($database // 'postgres', $query, $expected // 't')
	  or die "timed out waiting for: $query\n";
}

# Like psql of the node.  A server that dies while the session begins ends psql before it has
# read its input, which IPC::Run throws; that is a failed query as well.
sub psql_if_alive
{
	my ($node, @query) = @_;
	my @result = eval { $node->psql(@query) };
	return @result if @result;
	die $@ if $@ !~ /Broken pipe/;
	return (2, '', $@);
}

# Waits until a view holds all that is in its topic now, for as many seconds (60) as patience()
# makes of these; through a crash of the server, which somebody may just have caused.
sub wait_latest
{
	my ($node, $view, $timeout, $database) = @_;
	$timeout = patience($timeout // 60) . 's';
	my $query = "SELECT millrace.wait_for_latest('$view', timeout => '$timeout')";
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($rc, $out, $err) = psql_if_alive($node, $database // 'postgres', $query, on_error_stop => 1);
		return if $rc == 0 && $out eq 't';
		die "view $view did not reach the end of its topic in $timeout: $err\n"
		  if $rc == 0 || $rc == 3;
		select undef, undef, undef, 0.1;	# no connection
	}
	die "could not connect to wait for view $view\n";
}

# The oracle: a test that a view's rows are exactly those of a query.
sub is_same
{
	my ($node, $view, $query, $name, $database) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$database //= 'postgres';
	$name //= "$view is the same as its query over all messages";
	my $differences = $node->safe_psql($database, qq{
		WITH shown AS MATERIALIZED (SELECT * FROM $view),
			expected AS MATERIALIZED (SELECT * FROM ($query) q)
		(SELECT 'unexpected' AS row, * FROM
			(SELECT * FROM shown EXCEPT ALL SELECT * FROM expected) d LIMIT 20)
		UNION ALL
		(SELECT 'missing', * FROM
			(SELECT * FROM expected EXCEPT ALL SELECT * FROM shown) d LIMIT 20)});
	return is($differences, '', $name);
}

# The oracle of change feeds, a query: what replaying all changes of a view from
# nothing gives, compared with the view, as of one snapshot.  No rows: the same.
sub differences_told
{
	my ($view) = @_;
	my $changes = $view =~ s/("?)$/_changes$1/r;
	return qq{
		WITH told_steps AS MATERIALIZED
			(SELECT id, id * 2 AS at, old::text AS r, -1 AS d FROM $changes WHERE old IS DISTINCT FROM NULL
			UNION ALL SELECT id, id * 2 + 1, new::text, 1 FROM $changes WHERE new IS DISTINCT FROM NULL),
		told_rows AS (SELECT r, sum(d) AS n FROM told_steps GROUP BY r HAVING sum(d) <> 0),
		shown_rows AS (SELECT v::text AS r, count(*) AS n FROM $view v GROUP BY 1)
		SELECT 'told ' || coalesce(t.n, 0) || ' times, shown ' || coalesce(s.n, 0) || ' times: ' || coalesce(r, '')
			FROM told_rows t FULL JOIN shown_rows s USING (r) WHERE s.n IS DISTINCT FROM t.n
		UNION ALL SELECT 'went without having come: ' || r FROM
			(SELECT r, sum(d) OVER (PARTITION BY r ORDER BY at) AS there FROM told_steps) s WHERE there < 0
		UNION ALL SELECT 'numbers have holes' FROM $changes HAVING max(id) <> count(*) OR max(batch) <> count(DISTINCT batch)};
}

# A test that the changes tell exactly what the view shows.
sub is_told
{
	my ($node, $view, $name, $database) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($node->safe_psql($database // 'postgres', 'SELECT * FROM (' . differences_told($view) . ') d LIMIT 20'),
		'', $name // "the changes of $view tell what it shows");
}

# The process that ingests a stream.
sub worker_pid
{
	my ($node, $stream, $database) = @_;
	wait_for($node,
		"SELECT count(*) > 0 FROM millrace.workers WHERE stream = '$stream'::regclass AND pid IS NOT NULL",
		't', $database);
	my @pids = split /\n/, $node->safe_psql($database // 'postgres',
		"SELECT pid FROM millrace.workers WHERE stream = '$stream'::regclass ORDER BY pid");
	return wantarray ? @pids : $pids[0];
}

# kill -9, and waits until it is gone.
sub kill_process
{
	my ($pid) = @_;
	kill 'KILL', $pid or die "could not kill process $pid: $!\n";
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return unless kill 0, $pid;
		select undef, undef, undef, 0.1;
	}
	die "process $pid is still there\n";
}

# A broker of the test's own, with methods bootstrap, start, stop, kill,
# restart, pause, resume.  Properties go into the broker's configuration; port
# is the one to listen on, format has options for formatting its storage.
sub own_broker
{
	my (%properties) = @_;
	my $broker = MillraceTest::Broker->new(scalar @brokers, %properties);
	push @brokers, $broker;
	# one that knows another cluster at this address would mistake this one's topics for that one's
	delete $clients{ $broker->bootstrap };
	return $broker;
}

END
{
	my $status = $?;
	# The test framework ends servers without letting their processes exit.
	foreach my $node ($ENV{MILLRACE_STOP} ? @nodes : ())
	{
		$node->stop($ENV{MILLRACE_STOP}, fail_ok => 1) if $node->{_pid};
	}
	%clients = ();
	$_->destroy foreach @brokers;
	$? = $status;
}

package MillraceTest::Broker;

sub new
{
	my ($class, $number, %properties) = @_;
	my $self = bless {
		dir => "$PostgreSQL::Test::Utils::tmp_check/broker_$number",
		owner => $$
	}, $class;

	$self->{port} = delete $properties{port};
	mkdir $self->{dir} or die "could not create $self->{dir}: $!\n";
	my $format = delete $properties{format};
	PostgreSQL::Test::Utils::append_to_file("$self->{dir}/format.options", $format) if defined $format;
	if (%properties)
	{
		PostgreSQL::Test::Utils::append_to_file("$self->{dir}/extra.properties",
			join '', map { "$_=$properties{$_}\n" } sort keys %properties);
	}
	$self->start;
	return $self;
}

sub script
{
	my ($self, $action, @arguments) = @_;
	my $scripts = $ENV{MILLRACE_SCRIPTS} // 'scripts';
	my ($out, $err);
	IPC::Run::run([ "$scripts/kafka.sh", $action, $self->{dir}, @arguments ], '<', \undef, '>', \$out, '2>', \$err)
	  or die "could not $action the broker in $self->{dir}: $err\n";
}

sub start { $_[0]->script('start', $_[0]{port} // ()) }
sub stop { $_[0]->script('stop') }
sub kill { $_[0]->script('kill') }
sub restart { $_[0]->script('restart') }
sub pause { $_[0]->script('pause') }
sub resume { $_[0]->script('resume') }

sub bootstrap
{
	my ($self) = @_;
	my $address = PostgreSQL::Test::Utils::slurp_file("$self->{dir}/bootstrap");
	chomp $address;
	return $address;
}

sub destroy
{
	my ($self) = @_;
	return if $self->{owner} != $$;
	eval { $self->script('kill') };
	eval { $self->script('stop') };
	system('rm', '-rf', "$self->{dir}/data");
}

package MillraceTest::Client;

# Drives kafka_client.c, which says what the commands are.

use IPC::Open2;

my $program;

sub build
{
	return if $program;
	my $dir = $PostgreSQL::Test::Utils::tmp_check;
	my ($source) = grep { -f } map { "$_/kafka_client.c" } 't/lib', @INC;
	mkdir $dir unless -d $dir;
	system('cc', '-std=gnu99', '-O1', '-o', "$dir/kafka_client", $source, '-lrdkafka') == 0
	  or die "could not build kafka_client\n";
	$program = "$dir/kafka_client";
}

sub new
{
	my ($class, $broker, %properties) = @_;
	build();
	my $self = bless { owner => $$, sent => 0 }, $class;
	$self->{pid} = open2($self->{out}, $self->{in}, $program, $broker,
		map { "$_=$properties{$_}" } sort keys %properties);
	binmode $_ foreach $self->{out}, $self->{in};
	$self->answer('start');
	return $self;
}

sub field
{
	my ($value) = @_;
	return '\\N' unless defined $value;
	utf8::encode($value) if utf8::is_utf8($value);
	$value =~ s/([\\\t\n\r\0])/sprintf '\\x%02x', ord $1/ge;
	return $value;
}

sub write
{
	my ($self, @fields) = @_;
	local $SIG{PIPE} = 'IGNORE';
	print { $self->{in} } join("\t", map { field($_) } @fields), "\n";
}

sub answer
{
	my ($self, $what) = @_;
	my $line = readline $self->{out};
	die "kafka_client died at $what\n" unless defined $line;
	chomp $line;
	$line =~ s/^ok ?// or die "$what: $line\n";
	return $line;
}

# Any command that is answered; returns the answer.
sub command
{
	my ($self, @fields) = @_;
	$self->write(@fields);
	$self->{in}->flush;
	return $self->answer("$fields[0] " . ($fields[1] // ''));
}

sub send
{
	my ($self, $topic, $partition, $message) = @_;
	$message =
	    ref $message eq 'ARRAY' ? { key => $message->[0], value => $message->[1] }
	  : ref $message eq 'HASH' ? $message
	  : { value => $message };
	$self->write('send', $topic, $partition // -1, $message->{timestamp} // 0,
		$message->{key}, $message->{value}, @{ $message->{headers} // [] });
}

# Waits for the broker's acknowledgements; returns their number.
sub flush { $_[0]->command('flush') }
sub begin { $_[0]->command('begin') }
sub commit { $_[0]->command('commit') }
sub abort { $_[0]->command('abort') }

# Ends the client without ending its transaction, as a crash would.
sub crash
{
	my ($self) = @_;
	kill 'KILL', $self->{pid};
	$self->finish;
}

sub finish
{
	my ($self) = @_;
	return unless $self->{pid};
	close $self->{in};
	close $self->{out};
	waitpid delete $self->{pid}, 0;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);
	$self->finish if $self->{owner} == $$;
}

1;
