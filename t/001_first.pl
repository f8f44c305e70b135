# A message changes a view, and no crash changes what it holds.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $topic = create_stream($node, 'clicks', event_columns());
my $query = 'SELECT k, count(*) AS n, sum(v) AS total FROM %s e GROUP BY k';

$node->safe_psql('postgres', qq{
	SELECT millrace.create_continuous_view('per_k', \$\$@{[sprintf $query, 'clicks']}\$\$)});
is($node->safe_psql('postgres', 'SELECT count(*) FROM per_k'), '0', 'no message, no group');

produce($topic, 0, event(1));
wait_latest($node, 'per_k');
is($node->safe_psql('postgres', 'SELECT * FROM per_k'), '1|1|0.25', 'one message is in the view');

produce($topic, 0, map { event($_) } 2 .. 1000);
wait_latest($node, 'per_k');
is_same($node, 'per_k', sprintf($query, events(1000)), 'a thousand messages');

# Killed when it is idle.  Commits that were not flushed yet are lost in a crash
# of the server, and come again.
my $old = worker_pid($node, 'clicks');
kill_process($old);
wait_new_worker($node, 'clicks', $old);
wait_latest($node, 'per_k');
is_same($node, 'per_k', sprintf($query, events(1000)), 'a kill of the worker changes nothing');

# killed when it is busy
my $load = start_traffic($topic, from => 1001);
$load->wait_more(2000);
$old = worker_pid($node, 'clicks');
kill_process($old);
wait_new_worker($node, 'clicks', $old);
$load->wait_more(1000);
$node->stop('immediate');
$load->wait_more(500);
$node->start;
$load->wait_more(500);
my $n = $load->stop;
wait_latest($node, 'per_k');
is_same($node, 'per_k', sprintf($query, events($n)),
	'a kill and an immediate shutdown in the middle of traffic');

$node->stop('fast');
$node->start;
produce($topic, 0, event($n + 1));
wait_latest($node, 'per_k');
is_same($node, 'per_k', sprintf($query, events($n + 1)), 'after an orderly restart');

done_testing();
