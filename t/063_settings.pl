# Settings for everybody, of the server, the database and the role, that would break
# or bend whoever obeys them: workers keep right.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => q{
shared_preload_libraries = 'millrace, auto_explain, pg_stat_statements'
auto_explain.log_min_duration = 0
auto_explain.log_analyze = on
auto_explain.log_nested_statements = on
pg_stat_statements.track = all
log_min_duration_statement = 0
log_statement = all
log_executor_stats = on
debug_print_plan = on
log_lock_waits = on
log_temp_files = 0
autovacuum = off
millrace.batch_memory = 1MB
millrace.retry_max_interval = 1s
});
my @hostile = ("statement_timeout = '1ms'", "lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'",
	"idle_session_timeout = '1ms'", 'default_transaction_read_only = on', 'default_transaction_isolation = serializable',
	'default_transaction_deferrable = on', 'row_security = off', 'session_replication_role = replica', 'jit = on',
	'jit_above_cost = 0', 'jit_inline_above_cost = 0', 'jit_optimize_above_cost = 0', "work_mem = '64kB'",
	"temp_buffers = '800kB'", 'enable_hashagg = off', 'enable_sort = off', 'enable_indexscan = off', 'plan_cache_mode = force_generic_plan',
	'synchronous_commit = remote_apply', "search_path = ''", 'quote_all_identifiers = on', 'extra_float_digits = -5',
	"DateStyle = 'SQL, DMY'", "TimeZone = 'Pacific/Apia'", "IntervalStyle = 'sql_standard'", "bytea_output = 'escape'",
	'array_nulls = off', 'transform_null_equals = on', 'standard_conforming_strings = off', 'commit_delay = 1000',
	'min_parallel_table_scan_size = 0', 'parallel_setup_cost = 0', 'max_parallel_workers_per_gather = 4');
my $major = $node->pg_version =~ s/\..*//r;
push @hostile, $major >= 16 ? 'debug_parallel_query = on' : 'force_parallel_mode = on';
# On the server it would let no client in: the clock runs while it connects, before its own options count.
my @in_database = $major >= 17 ? "transaction_timeout = '1ms'" : ();

# what a session of ours must undo to be of use
$ENV{PGOPTIONS} = join ' ', map { "-c $_" } 'statement_timeout=0', 'lock_timeout=0', 'idle_session_timeout=0',
  'idle_in_transaction_session_timeout=0', 'default_transaction_read_only=off', 'default_transaction_isolation=read\ committed',
  'search_path=public', 'synchronous_commit=off', 'session_replication_role=origin', 'row_security=on', 'jit=off',
  'extra_float_digits=1', 'standard_conforming_strings=on', ($major >= 17 ? ('transaction_timeout=0', 'max_parallel_workers_per_gather=0', 'max_parallel_maintenance_workers=0') : ());

my $topic = create_stream($node, 'clicks', event_columns(), partitions => 2);
my %query = (
	per_k => 'SELECT k, count(*) AS n, sum(id) AS ids, avg(v) AS v FROM %s e GROUP BY k',
	joined => 'SELECT name, min(s) AS s, count(*) AS n FROM %s e JOIN names USING (k) GROUP BY name',
	per_id => 'SELECT id, max(s) AS s FROM %s e GROUP BY id');
$node->safe_psql('postgres', q{CREATE TABLE names (k integer, name text);
	INSERT INTO names SELECT i, 'name ' || i % 3 FROM generate_series(0, 6) i});
sub create
{
	my ($view, $name) = @_;
	$node->safe_psql('postgres', "SELECT millrace.create_continuous_view('$view', \$\$" . sprintf($query{$name}, 'clicks') . '$$)');
}
my $load = start_traffic($topic, partitions => 2);
create($_, $_) foreach sort keys %query;

foreach my $place ('ALTER SYSTEM', 'ALTER DATABASE postgres', 'ALTER ROLE ' . $node->safe_psql('postgres', 'SELECT current_user'))
{
	$node->safe_psql('postgres', "$place SET $_") foreach @hostile, $place eq 'ALTER SYSTEM' ? () : @in_database;
	$node->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'}) if $place eq 'ALTER SYSTEM';
	$node->restart;
	my $first = $load->sent;
	$load->wait_more(1000);
	(my $view = lc "under $place") =~ s/\W/_/g;
	create($view, 'per_k');
	wait_latest($node, $_) foreach sort(keys %query), $view;
	wait_for($node, "SELECT max(id) > $first FROM per_id");
	wait_for($node, q{SELECT bool_and(state = 'running' AND last_error IS NULL) FROM millrace.views});
	pass("$place: all views run");
	wait_for($node, "SELECT sum(n) > $first FROM $view");
	$node->safe_psql('postgres', "SELECT millrace.rebuild('joined')");
	wait_for($node, q{SELECT rebuild IS NULL FROM millrace.views WHERE view = 'joined'::regclass});
	pass("$place: a rebuild ends");
	local $ENV{PGOPTIONS} = "$ENV{PGOPTIONS} -c session_replication_role=replica";
	$node->safe_psql('postgres', "DROP VIEW $view");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM millrace.continuous_view v WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = v.view)}),
		0, "$place: a dropped view leaves nothing behind");
	$node->safe_psql('postgres', "$place RESET ALL");
}

# Our own processes come in all the same.
if (@in_database)
{
	my $session = $node->background_psql('postgres');
	my $wait = sub {
		my ($query) = @_;
		foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
		{
			return 1 if $session->query_safe($query) eq 't';
			select undef, undef, undef, 0.1;
		}
		return 0;
	};
	my $pids = $session->query_safe(q{SELECT string_agg(pid::text, ', ') FROM pg_stat_activity WHERE backend_type LIKE 'millrace %'});
	$session->query_safe("ALTER SYSTEM SET $in_database[0]");
	$session->query_safe('SELECT pg_reload_conf()');
	$session->query_safe("SELECT pg_terminate_backend(p) FROM unnest(ARRAY[$pids]) p");
	my $first = $load->sent;
	ok($wait->("SELECT count(*) >= 3 FROM pg_stat_activity WHERE backend_type LIKE 'millrace %' AND pid NOT IN ($pids)"),
		'transaction_timeout: launcher, supervisor and worker start again');
	ok($wait->("SELECT sum(n) > $first FROM per_k"), 'transaction_timeout: and go on');
	$session->query_safe('ALTER SYSTEM RESET ALL');
	$session->query_safe('SELECT pg_reload_conf()');
	$session->quit;
}

# Whoever waits long between two attempts hears that he should not any more.
create_trouble($node, 'integer');
$node->safe_psql('postgres', $_) foreach 'UPDATE trouble SET here = true', q{ALTER SYSTEM SET millrace.retry_max_interval = '1h'}, 'SELECT pg_reload_conf()';
my $patient_topic = create_stream($node, 'patient', event_columns());
produce($patient_topic, 0, event(1));
$node->safe_psql('postgres', q{SELECT millrace.create_continuous_view('waiting', 'SELECT troubled(k) AS k, count(*) AS n FROM patient GROUP BY 1')});
wait_for($node, q{SELECT clock_timestamp() - last_error_at > '5s' FROM millrace.workers WHERE stream = 'patient'::regclass AND state = 'retrying'});
my $took = $node->safe_psql('postgres', q{UPDATE trouble SET here = false;
	ALTER SYSTEM SET millrace.retry_max_interval = '100ms';
	SELECT clock_timestamp() AS told, pg_reload_conf() AS reloaded \gset
	DO $$ BEGIN
		FOR i IN 1 .. 6000 LOOP
			EXIT WHEN (SELECT n = 1 FROM waiting);
			PERFORM pg_sleep(0.01);
		END LOOP;
	END $$;
	SELECT extract(epoch FROM clock_timestamp() - :'told')});
wait_for($node, 'SELECT n = 1 FROM waiting');
cmp_ok($took, '<=', patience(3), 'a shorter retry_max_interval takes effect at once');
$node->safe_psql('postgres', $_) foreach 'ALTER SYSTEM RESET millrace.retry_max_interval', 'SELECT pg_reload_conf()', 'DROP VIEW waiting';

# Not to be set aside: a limit that an administrator has put.  What a batch cannot do without
# passing it is tried again, and no message's fault.
$node->safe_psql('postgres', $_) foreach 'ALTER SYSTEM SET temp_file_limit = 0', 'ALTER SYSTEM SET millrace.enabled = off',
  'SELECT pg_reload_conf()';
wait_for($node, 'SELECT count(*) = 0 FROM millrace.workers WHERE pid IS NOT NULL');
$load->wait_more(10_000);
$node->safe_psql('postgres', $_) foreach 'ALTER SYSTEM RESET millrace.enabled', 'SELECT pg_reload_conf()';
wait_for($node, q{SELECT state = 'retrying' AND last_error ~ 'temp_file_limit' FROM millrace.views WHERE view = 'per_id'::regclass});
pass('temp_file_limit: the view that passes it says so');
wait_latest($node, $_) foreach 'joined', 'per_k';
pass('temp_file_limit: the others go on');
$node->safe_psql('postgres', $_) foreach 'ALTER SYSTEM RESET temp_file_limit', 'SELECT pg_reload_conf()';

my $n = $load->stop;
foreach my $view (sort keys %query)
{
	wait_latest($node, $view);
	is_same($node, $view, sprintf($query{$view}, events($n)));
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM millrace.dead_letters'), 0, 'no dead letters');

done_testing();
