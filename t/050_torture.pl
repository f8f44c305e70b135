# Torture: random kills and random operations, on random views, under load.
#
# A round takes traffic into a stream, while views are created, dropped, renamed,
# rebuilt, deactivated and activated, tables are vacuumed, settings, workers and
# partitions change, and divisors are zero for a while; meanwhile two victims are
# killed, most of them while such an operation is under way.  After the round the
# views must be what their queries give over the messages sent, dead letters must
# be those messages that a view cannot take, and nothing else may be wrong.
#
# Everything random is drawn when a round begins, from the seed and the number of
# the round: the same seed gives the same views, operations and victims, whatever
# the timing.  The seed and each round's plan are in the test's log, and shown
# when it fails.
#
#   MILLRACE_TORTURE_SEED=n      the seed; the time, if left out
#   MILLRACE_TORTURE_ROUNDS=n    how many rounds (6, which is 12 kills)
#
# The long run, of 1,000 kills:
#
#   MILLRACE_TORTURE_ROUNDS=500 MILLRACE_TIMEOUT=36000 scripts/check.sh --no-setup --only 050_torture

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use MillraceGrammar;
use PostgreSQL::Test::Utils;
use List::Util 'shuffle';
use Test::More;

my $seed = $ENV{MILLRACE_TORTURE_SEED} // time;
my $rounds = $ENV{MILLRACE_TORTURE_ROUNDS} // 6;
note "MILLRACE_TORTURE_SEED=$seed";

my $broker = own_broker();
my $node = new_node('main', broker => $broker->bootstrap, conf => "millrace.retry_max_interval = 1s\n");
# A transaction of a backend that died is ended by the broker.
$node->safe_psql('postgres', q{ALTER SERVER kafka OPTIONS ("transaction.timeout.ms" '3000')} . ';' . grammar_objects());

# --- what there is -------------------------------------------------------------

# Streams are replaced after so many rounds, lest comparing take ever longer.
my $rounds_per_stream = 20;
my ($stream, $topic, $partitions, $last);	# $last: id of the last message sent
my %views;									# name => query, refused, active
my $view_number = 0;
my ($inserted, $batch, %acknowledged, $inserting);
my @bag;
my @planned;								# the round's steps, in words

sub active { return grep { $views{$_}{active} } sort keys %views }
sub paused { return grep { !$views{$_}{active} } sort keys %views }

sub new_streams
{
	my ($number) = @_;
	my $workers = choose(1, 1, 2, 3);
	($stream, $inserted) = ("clicks_$number", "inserted_$number");
	$partitions = choose(1, 2, 4);
	$topic = create_stream($node, $stream, event_columns(), broker => $broker, partitions => $partitions,
		options => { workers => $workers });
	create_stream($node, $inserted, 'batch bigint, id bigint', broker => $broker);
	note "stream $stream with $partitions partitions, $workers workers";
	($last, $batch, %acknowledged) = (0, 0);
	insist({ sql => "SELECT millrace.create_continuous_view('per_batch',
		'SELECT batch, count(*) AS n, sum(id) AS ids FROM $inserted GROUP BY batch')" });
	insist(create($_)) foreach 'plain', 'zero', 'rated';
}

sub drop_streams
{
	insist({ sql => "DROP FOREIGN TABLE $stream, $inserted CASCADE", done => "SELECT to_regclass('$stream') IS NULL" });
	%views = ();
	is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM millrace.continuous_view), (SELECT count(*) FROM millrace.view_stream),
		(SELECT count(*) FROM millrace.feed), (SELECT count(*) FROM millrace.dead_letter),
		(SELECT count(*) FROM pg_class WHERE relname ~ '_(mrel|def)$')}), '0|0|0|0|0', 'nothing is left of streams that were dropped');
}

# --- operations -----------------------------------------------------------------

# Each changes what there will be, and returns a step: sql that may be repeated
# after a crash, unless done is a query that says that it took effect.  alone:
# not in a transaction block.

sub create
{
	my ($kind) = @_;
	my $name = 'v' . ++$view_number;
	my $view = random_view($kind);
	# Half of those whose rows are made of one group each keep their changes: no ranks, no
	# groups of groups, no grouping set that is there several times.
	my $told = $view->{query} !~ /rank\(\)|\) q GROUP BY|SETS \(\(\d+\), \(\d+\)|, CUBE \(1\)/ && rand() < 0.5;
	$views{$name} = { %$view, active => 1, told => $told };
	return { sql => "SELECT millrace.create_continuous_view('$name', \$view\$" . over($view->{query}, $stream) . '$view$'
		  . ($told ? ', changes => true)' : ')'),
		done => "SELECT to_regclass('$name') IS NOT NULL" };
}

my %operation = (
	create => sub { return keys %views < 8 ? create() : undef },
	drop => sub {
		my $name = choose(active());
		return undef if active() < 4;
		delete $views{$name};
		return { sql => "DROP VIEW $name", done => "SELECT to_regclass(@{[literal($name)]}) IS NULL" };
	},
	rename => sub {
		my $old = choose(sort keys %views);
		my $new = 'v' . ++$view_number;
		$new = qq{"View ${view_number}'s"} if rand() < 0.5;
		$views{$new} = delete $views{$old};
		return { sql => "ALTER VIEW $old RENAME TO $new", done => "SELECT to_regclass(@{[literal($new)]}) IS NOT NULL" };
	},
	rebuild => sub {
		my $name = choose(sort keys %views);
		$views{$name}{active} = 1;
		return { sql => "SELECT millrace.rebuild(@{[literal($name)]})" };
	},
	deactivate => sub {
		my $name = choose(active());
		return undef if active() < 3;
		$views{$name}{active} = 0;
		return { sql => "SELECT millrace.deactivate(@{[literal($name)]})" };
	},
	activate => sub {
		my $name = choose(paused()) // return undef;
		$views{$name}{active} = 1;
		return { sql => "SELECT millrace.activate(@{[literal($name)]})" };
	},
	vacuum => sub {
		my $table = choose(sort keys %views) =~ s/("?)$/_mrel$1/r;
		return { sql => choose('VACUUM (FULL, ANALYZE)', 'VACUUM', 'REINDEX TABLE') . " $table", alone => 1 };
	},
	workers => sub { return { sql => "ALTER FOREIGN TABLE $stream OPTIONS (SET workers '" . choose(1, 2, 3) . q{')} } },
	partitions => sub {
		return undef if $partitions >= 6;
		return { sql => '-- another partition', partitions => ++$partitions };
	},
	setting => sub {
		my ($name, @values) = @{ choose([ 'batch_messages', 50, 1000, 1000000 ], [ 'commit_interval', q{'10ms'}, q{'100ms'}, q{'1s'} ],
			[ 'executor_aggregation', 'on', 'off' ], [ 'batch_memory', q{'1MB'}, q{'128MB'} ], [ 'catchup_workers', 1, 2 ]) };
		return { sql => "ALTER SYSTEM SET millrace.$name = " . choose(@values) . ";\nSELECT pg_reload_conf()", alone => 1 };
	},
	break => sub { return { sql => 'UPDATE divisor SET d = 0 WHERE k = ' . int rand 7 } },
	mend => sub { return mend() },
	replay => sub { return { sql => "SELECT millrace.replay('$stream')" } });

sub mend { return { sql => 'UPDATE divisor SET d = k + 1 WHERE d = 0' } }

sub literal
{
	my ($name) = @_;
	return "'" . $name =~ s/'/''/gr . "'";
}

# Operations that take long, or change much, come more often.
my @operations = (sort(keys %operation), qw(create rebuild rebuild deactivate activate activate break replay));

sub random_operation
{
	my (@not) = @_;
	while (1)
	{
		my $kind = choose(@operations);
		next if grep { $_ eq $kind } @not;
		my $step = $operation{$kind}->();
		return $step if $step;
	}
}

# Runs a step, through crashes.
sub insist
{
	my ($step) = @_;
	return client($broker)->command('partitions', $topic, $step->{partitions}) if $step->{partitions};
	foreach my $attempt (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($rc, $out, $err) = (0, 'f', '');
		($rc, $out, $err) = $node->psql('postgres', $step->{done}) if $step->{done} && ($attempt > 1 || $step->{tried});
		return if $rc == 0 && $out eq 't';
		($rc, $out, $err) = $node->psql('postgres', $step->{sql}) if $rc == 0;
		return if $rc == 0;
		die "$step->{sql}: $err\n" if $rc == 3;
		select undef, undef, undef, 0.1;	# no connection
	}
	die "could not connect for $step->{sql}\n";
}

# --- victims --------------------------------------------------------------------

sub moment { select undef, undef, undef, $_[0] }

# kill -9 of one of the processes that a query gives; what it gives may be gone by then.
sub slay
{
	my ($which, $query) = @_;
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($rc, $out) = $node->psql('postgres', $query);
		my @pids = $rc == 0 ? split /\n/, $out : ();
		return if @pids && eval { kill_process($pids[ $which % @pids ]); 1 };
		select undef, undef, undef, 0.1;
	}
	die "there is nothing to kill: $query\n";
}

# A session that is killed while it runs something.
sub slay_session
{
	my ($step, $sql) = @_;
	my $session = background($node, $sql);
	my $query = q{SELECT pid FROM pg_stat_activity WHERE query LIKE '%victim%' AND state = 'active' AND pid <> pg_backend_pid()
		AND backend_type = 'client backend'};
	wait_for($node, "SELECT count(*) > 0 FROM ($query) q");
	moment($step->{delay});
	slay(0, $query);
	my ($ok, $out) = $session->finish;
	die "a session was not killed\n" if $ok;
	return $out;
}

my $ingest = q{FROM millrace.workers WHERE pid IS NOT NULL};
my %kill = (
	'worker' => sub { slay($_[0]{which}, "SELECT pid $ingest ORDER BY pid") },
	'worker of the stream' => sub { slay($_[0]{which}, "SELECT pid $ingest AND stream = '$stream'::regclass ORDER BY pid") },
	'terminated workers' => sub { insist({ sql => "SELECT pg_terminate_backend(pid) $ingest" }) },
	'supervisor' => sub {
		slay($_[0]{which}, q{SELECT pid FROM pg_stat_activity WHERE backend_type IN ('millrace supervisor', 'millrace launcher')
			ORDER BY backend_type});
	},
	'reader' => sub {
		slay_session($_[0], q{DO $victim$ DECLARE v regclass; n bigint;
			BEGIN
				LOOP
					FOR v IN SELECT view FROM millrace.continuous_view WHERE rebuilds IS NULL LOOP
						BEGIN
							EXECUTE format('SELECT count(q) FROM %s q', v) INTO n;
						EXCEPTION WHEN OTHERS THEN NULL;	-- dropped or renamed meanwhile
						END;
						COMMIT;
					END LOOP;
				END LOOP;
			END $victim$});
	},
	'inserter' => sub {
		my @batches = map { $batch + $_ } 1 .. 400;
		$batch += 400;
		$inserting = 1;
		my $out = slay_session($_[0], join '', map {
			"INSERT INTO $inserted SELECT $_, i FROM generate_series(1, 50) i /* victim */;\n\\echo $_\n" } @batches);
		$acknowledged{$_} = 1 foreach split /\n/, $out;
	},
	'postmaster' => sub {
		kill_server($node);
		moment($_[0]{delay});
		restart_server($node);
	},
	'server, immediately' => sub { $node->stop('immediate'); restart_server($node) },
	'server, fast' => sub { $node->stop('fast'); restart_server($node) },
	'broker' => sub {
		$broker->kill;
		moment($_[0]{delay});
		$broker->start;
	},
	'broker, orderly' => sub { $broker->restart },
	'broker and worker' => sub {
		$broker->kill;
		slay($_[0]{which}, "SELECT pid $ingest ORDER BY pid");
		moment($_[0]{delay});
		$broker->start;
	});

# --- rounds ---------------------------------------------------------------------

# Two kills and some operations, in random order.
sub plan_round
{
	my @steps;
	foreach my $what (shuffle(('kill') x 2, ('operation') x (1 + int rand 4)))
	{
		if ($what eq 'operation')
		{
			push @steps, random_operation();
			next;
		}
		# All kinds of victims, before one comes again.
		@bag = shuffle(sort keys %kill) unless @bag;
		my $step = { victim => shift @bag, delay => rand 0.3, before => rand 0.2, which => int rand 100 };
		$step->{during} = random_operation('partitions') if rand() < 0.7;
		# held open for a while, to be killed in the middle
		$step->{hold} = rand() < 0.5 && !$step->{during}{alone} if $step->{during};
		push @steps, $step;
	}
	return @steps;
}

sub describe
{
	my ($step) = @_;
	return $step->{sql} unless $step->{victim};
	return "kill the $step->{victim}" . ($step->{during} ? ' during ' . ($step->{hold} ? 'BEGIN; ' : '') . $step->{during}{sql} : '');
}

sub strike
{
	my ($step) = @_;
	my $during = $step->{during};
	my $session;
	if ($during)
	{
		$session = background($node, $step->{hold} ? "BEGIN; $during->{sql}; SELECT pg_sleep(0.2); COMMIT" : $during->{sql});
		moment($step->{before});
	}
	$kill{ $step->{victim} }->($step);
	wait_for($node, 'SELECT true');
	# What was cut off may have taken effect or not; afterwards it has.
	insist({ %$during, tried => 1 }) if $session && !$session->finish;
}

# Everything is as it should be, once all divisors are in order and what was refused for their sake was fed again.
sub compare
{
	my ($round) = @_;
	insist(mend());
	wait_latest($node, $_ =~ s/'/''/gr) foreach active();
	insist({ sql => "SELECT millrace.replay('$stream')" });
	foreach my $name (active())
	{
		my $view = $views{$name};
		my $taken = $view->{refused} ? "(SELECT * FROM @{[events($last)]} t WHERE id % 97 <> 0)" : events($last);
		is_same($node, $name, over($view->{query}, $taken), "round $round: $name is exact") or diag $view->{query};
		is_told($node, $name, 'and so are its changes') or diag $view->{query} if $view->{told};
		my $refused = $view->{refused} ? over($view->{refused}, events($last)) : 'SELECT 0';
		is($node->safe_psql('postgres', "SELECT count(*) - ($refused) FROM millrace.dead_letters WHERE view = @{[literal($name)]}::regclass"),
			'0', 'with the dead letters that there must be') or diag $view->{query};
	}
	is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM millrace.dead_letters WHERE view IS NULL),
		(SELECT count(*) FROM millrace.gaps)}),
		'0|0', 'and nothing else');
	wait_for($node, q{SELECT bool_and(state = 'paused' OR state = 'running' AND rebuild IS NULL) FROM millrace.views});
}

# What was inserted: each transaction as a whole or not at all, and all of those that were acknowledged.
sub compare_inserted
{
	# An unfinished transaction hides what comes after it.
	$batch++;
	insist({ sql => "INSERT INTO $inserted SELECT $batch, i FROM generate_series(1, 50) i" });
	wait_for($node, "SELECT count(*) > 0 FROM per_batch WHERE batch = $batch");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM per_batch WHERE n <> 50 OR ids <> 1275'), '0', 'no part of a transaction');
	my %seen = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', 'SELECT batch FROM per_batch');
	is(join(' ', grep { !$seen{$_} } sort keys %acknowledged), '', 'no acknowledged transaction is missing');
	is_same($node, 'per_batch', "SELECT batch, count(*) AS n, sum(id) AS ids FROM $inserted GROUP BY batch",
		'the view shows what the topic holds');
}

sub round
{
	my ($round) = @_;
	my $load_partitions = $partitions;
	my @steps = plan_round();
	@planned = map { "round $round: " . describe($_) } @steps;
	note $_ foreach @planned;
	my $load = start_traffic($topic, broker => $broker, partitions => $load_partitions, from => $last + 1, chunk => 20, pause => 0.02);
	$load->wait_more(100);
	$inserting = 0;
	foreach my $step (@steps)
	{
		if ($step->{victim}) { strike($step) } else { insist($step) }
	}
	$load->wait_more(100);
	$last = $load->stop;
	compare($round);
	compare_inserted() if $inserting;
}

# What may help to understand a failure.
sub show_state
{
	my ($round) = @_;
	diag "MILLRACE_TORTURE_SEED=$seed, round $round, $last messages";
	diag $_ foreach @planned;
	diag(($node->psql('postgres', $_))[1]) foreach 'SELECT view, stream, state, rebuild, last_error FROM millrace.views',
	  'SELECT * FROM millrace.workers', 'SELECT view, partition, next_offset, high_watermark FROM millrace.partitions',
	  'SELECT view, error, count(*) FROM millrace.dead_letters GROUP BY 1, 2', 'SELECT * FROM millrace.gaps';
}

foreach my $round (1 .. $rounds)
{
	srand($seed + 1000003 * $round);
	@planned = ();
	my $passed = eval {
		if ($round % $rounds_per_stream == 1)
		{
			drop_streams() if $round > 1;
			new_streams($round);
		}
		round($round);
		Test::More->builder->is_passing;
	};
	next if $passed;
	my $error = $@;
	show_state($round);
	die $error if $error;
	last;
}
if (Test::More->builder->is_passing)
{
	insist({ sql => "SELECT millrace.activate('$stream')" });
	$views{$_}{active} = 1 foreach paused();
	compare('the end');
	drop_streams();
}

done_testing();
