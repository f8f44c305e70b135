# Brokers that refuse, lie, are slow or cannot be found: a state with a message
# that says what to check, no CPU meanwhile, a prompt stop, and nothing to do
# once the cause is gone.  TLS, mutual TLS, SASL and access control with a real
# broker.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $pki = "$PostgreSQL::Test::Utils::tmp_check/pki";
mkdir $pki or die;

# keys and certificates; subject alternative names for the broker's
sub certify
{
	my ($name, $ca) = @_;
	my @subject = ('-subj', "/CN=$name", '-nodes', '-newkey', 'rsa:2048', '-keyout', "$pki/$name.key");
	if (!$ca)
	{
		system_or_bail('openssl', 'req', '-x509', '-days', 2, @subject, '-out', "$pki/$name.pem");
		return;
	}
	system_or_bail('openssl', 'req', '-new', @subject, '-out', "$pki/$name.csr");
	append_to_file("$pki/$name.ext", "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
	system_or_bail('openssl', 'x509', '-req', '-days', 2, '-in', "$pki/$name.csr", '-CA', "$pki/$ca.pem",
		'-CAkey', "$pki/$ca.key", '-CAcreateserial', '-extfile', "$pki/$name.ext", '-out', "$pki/$name.pem");
}

sub pem { return slurp_file("$pki/$_[0]") }

certify($_) foreach 'ca', 'other_ca';
certify($_, 'ca') foreach 'broker', 'client';
append_to_file("$pki/keystore.pem", pem('broker.key') . pem('broker.pem') . pem('ca.pem'));

my %port = map { $_ => PostgreSQL::Test::Cluster::get_free_port() } qw(TLS MUTUAL SASL);
my $module = 'org.apache.kafka.common.security';
my $broker = own_broker(
	listeners => join(',', 'PLAINTEXT://127.0.0.1:@PORT@', 'CONTROLLER://127.0.0.1:@CONTROLLER@',
		map { "$_://127.0.0.1:$port{$_}" } sort keys %port),
	'advertised.listeners' => join(',', 'PLAINTEXT://127.0.0.1:@PORT@',
		map { "$_://127.0.0.1:$port{$_}" } sort keys %port),
	'listener.security.protocol.map' => 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,MUTUAL:SSL,SASL:SASL_PLAINTEXT',
	'ssl.keystore.type' => 'PEM', 'ssl.keystore.location' => "$pki/keystore.pem",
	'ssl.truststore.type' => 'PEM', 'ssl.truststore.location' => "$pki/ca.pem",
	'listener.name.mutual.ssl.client.auth' => 'required',
	'listener.name.sasl.sasl.enabled.mechanisms' => 'PLAIN,SCRAM-SHA-256',
	'listener.name.sasl.plain.sasl.jaas.config' => "$module.plain.PlainLoginModule required user_app=\"hunter2\";",
	'listener.name.sasl.scram-sha-256.sasl.jaas.config' => "$module.scram.ScramLoginModule required;",
	'authorizer.class.name' => 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
	'super.users' => 'User:ANONYMOUS;User:CN=client;User:scram',
	format => '--add-scram SCRAM-SHA-256=[name=scram,password=hunter2]');

my $node = new_node('main', broker => $broker->bootstrap, conf => "millrace.retry_max_interval = 1s\n");
my $query = 'SELECT count(*) AS n, sum(id) AS ids FROM %s e';
my $topic = create_stream($node, 'plain', event_columns(), broker => $broker);
my $sent = 100;
produce([ $topic, $broker ], 0, map { event($_) } 1 .. $sent);

# a server at one of the broker's doors, and a stream and a view that use it
sub enter
{
	my ($name, $address, $options, $mapping) = @_;
	my $list = sub { join ', ', map { qq{"$_" '$_[0]{$_}'} } sort keys %{ $_[0] } };
	$node->safe_psql('postgres', qq{CREATE SERVER $name FOREIGN DATA WRAPPER millrace OPTIONS (@{[
			$list->({ 'bootstrap.servers' => $address, %{ $options // {} } })]})});
	$node->safe_psql('postgres', "CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (@{[$list->($mapping)]})") if $mapping;
	create_stream($node, "s_$name", event_columns(), server => $name, topic => $topic);
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('v_$name', \$\$" . sprintf($query, "s_$name") . "\$\$)");
}

sub set_mapping
{
	my ($name, $verb, $option, $value) = @_;
	$node->safe_psql('postgres', qq{ALTER USER MAPPING FOR PUBLIC SERVER $name OPTIONS ($verb "$option" '$value')});
}

sub is_in
{
	my ($name, $what) = @_;
	wait_latest($node, "v_$name");
	is_same($node, "v_$name", sprintf($query, events($sent)), "$what: all messages are there");
	wait_state($node, 'view', "v_$name", 'running');
}

# Retrying with such a message, in both views, and idle
sub is_out
{
	my ($name, $regex, $what) = @_;
	my $error = "state = 'retrying' AND last_error ~ '$regex'";
	wait_for($node, "SELECT $error FROM millrace.views WHERE view = 'v_$name'::regclass");
	wait_for($node, "SELECT $error AND last_error_at IS NOT NULL FROM millrace.streams WHERE stream = 's_$name'::regclass");
	pass("$what: retrying, and says what to check");
	# One that starts again and again would have another process each time; once it may, where a
	# consumer does not come to its end, which is a fault of librdkafka before 2.2.
	my $share;
	foreach (1 .. 2)
	{
		my $pid = worker_pid($node, "s_$name");
		$share = eval {
			my $before = cpu_seconds($pid);
			my $began = time;
			$node->safe_psql('postgres', 'SELECT pg_sleep(3)');
			(cpu_seconds($pid) - $before) / (time - $began);
		};
		last if defined $share;
		note($@);
	}
	die "$what: no process stays\n" if !defined $share;
	note(sprintf '%s: %.1f%% of a CPU', $what, 100 * $share);
	cmp_ok($share, '<', patience(0.1), "$what: costs no CPU");
	my $log = slurp_file($node->logfile);
	unlike($log, qr/hunter2|PRIVATE KEY/, "$what: no secret in the log");
}

# user and system time of a process
sub cpu_seconds
{
	my ($pid) = @_;
	my @fields = split ' ', (slurp_file("/proc/$pid/stat") =~ s/^.*\) //r);
	return ($fields[11] + $fields[12]) / 100;
}

# Waits until a process has so many connections.
sub wait_connections
{
	my ($pid, $number) = @_;
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my %sockets = map { (readlink($_) // '') =~ /^socket:\[(\d+)\]/ ? ($1 => 1) : () } glob "/proc/$pid/fd/*";
		my @established = grep { my @field = split; $field[3] eq '01' && $sockets{ $field[9] } }
		  split /\n/, slurp_file("/proc/$pid/net/tcp");
		return if @established >= $number;
		select undef, undef, undef, 0.1;
	}
	die "process $pid has not opened $number connections\n";
}

sub stops_promptly
{
	my ($what) = @_;
	my $began = time;
	$node->stop('fast');
	my $took = time - $began;
	note(sprintf '%s: stopped in %.1f s', $what, $took);
	cmp_ok($took, '<', patience(10), "$what: a fast shutdown is prompt");
	$node->start;
}

sub send_more
{
	produce([ $topic, $broker ], 0, map { event($sent + $_) } 1 .. 10);
	$sent += 10;
}

# TLS
my %tls = ('security.protocol' => 'ssl');
enter('tls', "127.0.0.1:$port{TLS}", { %tls, 'ssl.ca.pem' => pem('other_ca.pem') });
is_out('tls', 'certificate verify failed.*ssl.ca.pem', 'a certificate of somebody else');
$node->safe_psql('postgres', qq{ALTER SERVER tls OPTIONS (SET "ssl.ca.pem" '@{[pem('ca.pem')]}')});
is_in('tls', 'TLS');
is($node->safe_psql('postgres', 'SELECT count(*) FROM s_tls'), $sent, 'a session reads by TLS');
$node->safe_psql('postgres', 'INSERT INTO s_tls (id, k, v) VALUES (101, 3, 25.25)');
$sent++;
is_in('tls', 'after an INSERT by TLS');

# mutual TLS
enter('mutual', "127.0.0.1:$port{MUTUAL}", \%tls, { 'ssl.ca.pem' => pem('ca.pem') });
is_out('mutual', 'bad certificate.*user mapping|certificate required.*user mapping', 'without a certificate of its own');
set_mapping('mutual', 'ADD', 'ssl.certificate.pem', pem('client.pem'));
set_mapping('mutual', 'ADD', 'ssl.key.pem', pem('client.key'));
is_in('mutual', 'mutual TLS');

# SASL PLAIN, and who may read
my %sasl = ('security.protocol' => 'sasl_plaintext', 'sasl.mechanism' => 'PLAIN');
enter('sasl', "127.0.0.1:$port{SASL}", \%sasl, { 'sasl.username' => 'app', 'sasl.password' => 'wrong' });
is_out('sasl', 'sasl.mechanism.*credentials', 'a wrong password');
stops_promptly('a wrong password');
my ($rc, $out, $err) = $node->psql('postgres', 'INSERT INTO s_sasl (id) VALUES (1)');
like($err, qr/ERROR: +could not begin a Kafka transaction: .*Invalid username or password[^;]*\nHINT: +Check "security.protocol"/,
	'a wrong password: INSERT fails, with what to check in the hint');
set_mapping('sasl', 'SET', 'sasl.password', 'hunter2');
is_out('sasl', 'access control.*READ', 'a topic that may not be read');
stops_promptly('a topic that may not be read');
($rc, $out, $err) = $node->psql('postgres', 'SELECT count(*) FROM s_sasl');
like($err, qr/uthorization.*access control/s, 'a session is refused with a hint');
($rc, $out, $err) = $node->psql('postgres', 'INSERT INTO s_sasl (id) VALUES (1)');
like($err, qr/ERROR: +could not begin a Kafka transaction: .*Transactional Id authorization failed.*\nHINT: +Check the access control lists: producing needs WRITE/,
	'so is one that may not produce, with the rights that it takes');
client($broker)->command('allow', 'User:app', $topic);
is_in('sasl', 'SASL PLAIN with the right to read');
client($broker)->command('forbid', 'User:app', $topic);
send_more();
is_out('sasl', 'access control.*READ', 'a right that was taken away');
client($broker)->command('allow', 'User:app', $topic);
is_in('sasl', 'the right is back');

# SCRAM, which older versions of librdkafka fail
enter('scram', "127.0.0.1:$port{SASL}", { %sasl, 'sasl.mechanism' => 'SCRAM-SHA-256' },
	{ 'sasl.username' => 'scram', 'sasl.password' => 'hunter2' });
wait_for($node, q{SELECT state = 'running' OR last_error IS NOT NULL FROM millrace.streams WHERE stream = 's_scram'::regclass});
if ($node->safe_psql('postgres', q{SELECT state FROM millrace.streams WHERE stream = 's_scram'::regclass}) eq 'running')
{
	is_in('scram', 'SASL SCRAM');
}
else
{
	is_out('scram', '2\.6\.1', 'SCRAM with an old librdkafka');
	($rc, $out, $err) = $node->psql('postgres', 'SELECT count(*) FROM s_scram');
	like($err, qr/HINT:.*2\.6\.1/, 'a session has the hint, too');
}
$node->safe_psql('postgres', 'DROP SERVER scram CASCADE');

# not a TLS port, and no port
enter('wrong', $broker->bootstrap, { %tls, 'ssl.ca.pem' => pem('ca.pem') });
is_out('wrong', 'security.protocol|bootstrap.servers', 'TLS where there is none');
$node->safe_psql('postgres', q{ALTER SERVER wrong OPTIONS (SET "security.protocol" 'plaintext', DROP "ssl.ca.pem")});
is_in('wrong', 'without TLS');
$node->safe_psql('postgres', q{ALTER SERVER wrong OPTIONS (SET "bootstrap.servers" '127.0.0.1:1')});
is_out('wrong', 'refused.*bootstrap.servers', 'a refused connection');
my $asked = time;
($rc, $out, $err) = $node->psql('postgres', 'INSERT INTO s_wrong (id) VALUES (1)');
like($err, qr/could not begin a Kafka transaction.*refused/, 'a refused connection: INSERT fails when it commits');
cmp_ok(time - $asked, '<', patience(12), 'soon');
$node->safe_psql('postgres', q{ALTER SERVER wrong OPTIONS (SET "bootstrap.servers" 'nowhere.invalid:9092')});
is_out('wrong', 'resolve.*bootstrap.servers', 'a name that does not exist');
stops_promptly('a name that does not exist');
$node->safe_psql('postgres', qq{ALTER SERVER wrong OPTIONS (SET "bootstrap.servers" '@{[$broker->bootstrap]}')});
is_in('wrong', 'the right address');

# paused, and slow
$broker->pause;
is_out('wrong', 'bootstrap.servers|imed out', 'a paused broker');
stops_promptly('a paused broker');
is_out('wrong', 'bootstrap.servers|imed out', 'a broker that is paused from the start');
$asked = time;
($rc, $out, $err) = $node->psql('postgres', q{SET statement_timeout = '500ms'; INSERT INTO s_wrong (id) VALUES (1)});
like($err, qr/canceling statement due to statement timeout/, 'a paused broker: statement_timeout is for the commit of an INSERT, too');
cmp_ok(time - $asked, '<', patience(10), 'soon');
my ($canceled, $gone) = ('', '');
my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'INSERT INTO s_wrong (id) VALUES (1)' ],
	'<', \undef, '>', \$gone, '2>', \$canceled);
wait_for($node, q{SELECT coalesce(bool_or(pg_cancel_backend(pid)), false) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO s\_wrong%' AND query_start < clock_timestamp() - interval '1 s'});
$session->finish;
like($canceled, qr/canceling statement due to user request/, 'and it can be canceled');
$broker->resume;
is_in('wrong', 'it goes on');
my $load = start_traffic($topic, broker => $broker, from => $sent + 1);
foreach (1 .. 5)
{
	$broker->pause;
	$node->safe_psql('postgres', 'SELECT pg_sleep(0.5)');
	$broker->resume;
	$load->wait_more(50);
}
$sent = $load->stop;
is_in($_, 'a slow broker') foreach qw(wrong tls mutual sasl);

# a message larger than may be received
$node->safe_psql('postgres', q{ALTER SERVER wrong OPTIONS (ADD "receive.message.max.bytes" '1000000',
	ADD "fetch.max.bytes" '900000', ADD "fetch.message.max.bytes" '800000', ADD "message.max.bytes" '800000')});
is_in('wrong', 'small messages');
my $large = create_topic(topic_name('large'), broker => $broker, config => { 'max.message.bytes' => 10_000_000 });
create_stream($node, 's_large', 'id bigint, pad text', server => 'wrong', topic => $large);
$node->safe_psql('postgres', q{SELECT millrace.create_continuous_view('v_large', 'SELECT id, length(pad) AS length FROM s_large')});
# one broker of several, and one with another connection, are not "all brokers down"
my ($pid) = worker_pid($node, 's_large');
wait_connections($pid, 2);
my $producer = producer($broker, 'message.max.bytes' => 9_000_000);
$producer->send($large, 0, qq({"id": 1, "pad": "@{['x' x 4_000_000]}"}));
$producer->flush;
is_out('large', 'receive.message.max.bytes', 'a message that is too large');
stops_promptly('a message that is too large');
is_in('wrong', 'another stream of the server goes on');
$node->safe_psql('postgres', q{ALTER SERVER wrong OPTIONS (SET "receive.message.max.bytes" '100000000')});
wait_latest($node, 'v_large');
is($node->safe_psql('postgres', 'SELECT length FROM v_large'), 4_000_000, 'with room for it, it is there');

# a topic that is deleted while it is read
client($broker)->command('delete', $large);
is_out('large', 'does not exist', 'a topic that was deleted');
stops_promptly('a topic that was deleted');

done_testing();
