# Reading a topic that changes while a scan of it is under way.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use Test::More;

my $MESSAGES = 5000;
my $node = new_node('main');

# Small fetches: most of a topic is still at the broker while a cursor rests.
my $broker = bootstrap();
$node->safe_psql('postgres', qq{CREATE SERVER sips FOREIGN DATA WRAPPER millrace OPTIONS ("bootstrap.servers" '$broker',
	"fetch.message.max.bytes" '20000', "fetch.max.bytes" '20000', "queued.max.messages.kbytes" '20')});

sub messages { return map { sprintf '{"id": %d, "filler": "%s"}', $_, 'x' x 200 } 1 .. $_[0] }

# A session whose cursor has read 500 messages of a new topic; and the topic.
sub begin_scan
{
	my ($name) = @_;
	my $topic = create_stream($node, $name, 'id integer', server => 'sips');
	produce($topic, 0, messages($MESSAGES));
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe("BEGIN; DECLARE c CURSOR FOR SELECT id FROM $name");
	is($session->query_safe('MOVE 500 FROM c; FETCH 1 FROM c'), '501', "$name: a scan has begun");
	return ($session, $topic);
}

sub create_again
{
	my ($topic, $messages) = @_;
	client()->command('delete', $topic);
	create_topic($topic);
	produce($topic, 0, messages($messages));
}

my ($session, $topic) = begin_scan('expired');
client()->command('truncate', $topic, 0, $MESSAGES - 10);
my @rows = split /\n/, $session->query_safe('FETCH ALL FROM c');
is($rows[-1], $MESSAGES, 'a scan goes on behind messages that were removed');
cmp_ok(scalar(@rows), '<', $MESSAGES - 501, '... which it does not show');
$session->quit;

foreach my $size (100, $MESSAGES - 1000)
{
	($session, $topic) = begin_scan("again_$size");
	create_again($topic, $size);
	$session->query('FETCH ALL FROM c');
	# a client may have noticed that the topic was deleted, and not yet that it is there again
	like($session->{stderr}, qr/topic "\Q$topic\E" of stream public.again_$size (has become another while it was read|does not exist)/,
		"a topic that was created again with $size messages is an error");
	$session->quit;
}

done_testing();
