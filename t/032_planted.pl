# Code that a role puts on tables of ours, to have it run with the rights of the
# extension's owner.

use strict;
use warnings;

use lib 't/lib';
use MillraceTest;
use MillraceLoad;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $topic = create_stream($node, 'clicks', event_columns() . q{, at timestamptz OPTIONS (metadata 'timestamp')});

sub sql
{
	my ($sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

# Fails, with a message that matches.
sub refused
{
	my ($sql, $like, $name, $database) = @_;
	my ($rc, $out, $err) = $node->psql($database // 'postgres', $sql);
	isnt($rc, 0, $name) or return;
	like($err, $like, "$name: message");
}

sub is_superuser { return sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'app'") }

# How many messages each k of a view has.
sub contents { return sql("SELECT string_agg(k || '|' || n, ' ' ORDER BY k) FROM $_[0]") }

my $trap = q{CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ALTER ROLE app SUPERUSER; RETURN NULL; END $$};
my $query = 'SELECT k, count(*) AS n FROM clicks GROUP BY k';

sql(q{CREATE ROLE app; CREATE ROLE other; GRANT CREATE, USAGE ON SCHEMA public TO app, other; GRANT SELECT ON clicks TO app});
sql("SET ROLE app; $trap; SELECT millrace.create_continuous_view('v', '$query', changes => true)");
produce($topic, 0, map { event($_) } 1 .. 10);
wait_latest($node, 'v');

# --- a grant that nobody thought about ------------------------------------------

my $ours = qr/cannot create a trigger on table .*, which belongs to extension millrace.*rights of the extension's owner.*HINT/s;
my $referred = qr/cannot create a foreign key that refers to table .*, which belongs to extension millrace/;
sql('GRANT ALL ON ALL TABLES IN SCHEMA public, millrace TO app');
foreach my $table ('v_mrel', 'v_changes', 'millrace.continuous_view', 'millrace.feed_offset', 'millrace.dead_letter')
{
	refused("SET ROLE app; CREATE TRIGGER t BEFORE TRUNCATE ON $table EXECUTE FUNCTION trap()", $ours, "a trigger on $table");
	refused("SET ROLE app; CREATE CONSTRAINT TRIGGER t AFTER INSERT OR DELETE ON $table DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trap()",
		$ours, "a constraint trigger on $table");
	refused("CREATE TRIGGER t AFTER INSERT ON $table EXECUTE FUNCTION trap()", $ours, "a superuser's on $table");
	refused("CREATE RULE r AS ON DELETE TO $table DO ALSO SELECT 1", qr/cannot (replace "v_|create a rule of table)/, "a rule of $table");
}
foreach my $reference ('k integer REFERENCES v_mrel (k) ON DELETE CASCADE', 'id bigint REFERENCES v_changes ON DELETE CASCADE',
	'id bigint REFERENCES millrace.dead_letter ON DELETE CASCADE', 'view regclass, FOREIGN KEY (view) REFERENCES millrace.continuous_view ON DELETE CASCADE')
{
	refused("SET ROLE app; CREATE TABLE child ($reference)", $referred, "a foreign key: $reference");
	refused("SET ROLE app; CREATE SCHEMA AUTHORIZATION app CREATE TABLE child ($reference)", qr/permission denied for database|$referred/,
		"a foreign key in a new schema: $reference");
}
sql('SET ROLE app; CREATE TABLE child (k integer)');
refused('SET ROLE app; ALTER TABLE child ADD FOREIGN KEY (k) REFERENCES v_mrel (k) ON DELETE CASCADE', $referred, 'a foreign key that is added');
refused('SET ROLE app; ALTER TABLE child ADD COLUMN l integer REFERENCES v_mrel (k)', $referred, 'one with its column');
refused(q{BEGIN; SELECT millrace.rebuild('v'); GRANT ALL ON ALL TABLES IN SCHEMA millrace TO app;
	SELECT format('SET ROLE app; CREATE TRIGGER t BEFORE TRUNCATE ON %s EXECUTE FUNCTION trap()', view) FROM millrace.continuous_view
	WHERE rebuilds IS NOT NULL \gexec}, $ours, 'a trigger on a shadow');
sql(q{SET ROLE app; SELECT millrace.truncate_continuous_view('v')});
is(is_superuser(), 'f', 'app is what it was');
sql('SET ROLE app; CREATE TABLE own (id integer PRIMARY KEY);
	CREATE TABLE own_child (id integer REFERENCES own);
	CREATE TRIGGER t BEFORE TRUNCATE ON own EXECUTE FUNCTION trap()');
pass('tables of its own are its own affair');

# --- where nothing refused it ------------------------------------------------------

# Event triggers can be disabled.  Then it is not run, or is an error.
my @planted = ('CREATE TRIGGER t BEFORE TRUNCATE ON v_mrel EXECUTE FUNCTION trap()',
	'ALTER TABLE child ADD CONSTRAINT t FOREIGN KEY (k) REFERENCES v_mrel (k) ON DELETE CASCADE NOT VALID');
my @mended = ('DROP TRIGGER t ON v_mrel', 'ALTER TABLE child DROP CONSTRAINT t');
my $found = qr/table "\w+" of extension millrace has a trigger, a rule, or a foreign key that refers to it/;
foreach my $i (0 .. 1)
{
	produce($topic, 0, map { event($_) } 1 .. 7);
	wait_latest($node, 'v');
	my $before = contents('v');
	sql("ALTER EVENT TRIGGER millrace_on_ddl_end DISABLE; SET ROLE app; $planted[$i]; RESET ROLE;
		ALTER EVENT TRIGGER millrace_on_ddl_end ENABLE ALWAYS");
	refused(q{SET ROLE app; SELECT millrace.truncate_continuous_view('v')}, $found, "truncate: $planted[$i]");
	produce($topic, 0, map { event($_) } 1 .. 7);
	wait_state($node, 'view', 'v', 'failed');
	like(sql(q{SELECT last_error FROM millrace.views WHERE view = 'v'::regclass}), qr/$found.*HINT: .*Drop it/s, 'the view takes no more');
	is(contents('v'), $before, 'and stays as it is');
	sql("$mended[$i]; SET ROLE app; SELECT millrace.activate('v')");
	wait_latest($node, 'v');
	isnt(contents('v'), $before, 'once it is gone, the view goes on');
}
is(is_superuser(), 'f', 'app is what it was');

# Rows that leave by age leave no trace that a trigger could see.
sql(q{SET ROLE app; SELECT millrace.create_continuous_view('aged',
	'SELECT date_trunc(''second'', at) AS second, count(*) AS n FROM clicks GROUP BY 1', 'latest', changes => true);
	CREATE TABLE aged_child (second timestamptz)});
sql('GRANT ALL ON aged_mrel, aged_changes TO app');
produce($topic, 0, event(1));
wait_latest($node, 'aged');
sql(q{ALTER EVENT TRIGGER millrace_on_ddl_end DISABLE; SET ROLE app;
	CREATE TRIGGER a BEFORE DELETE ON aged_mrel FOR EACH ROW EXECUTE FUNCTION trap();
	CREATE CONSTRAINT TRIGGER b AFTER DELETE ON aged_mrel DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trap();
	CREATE TRIGGER c AFTER DELETE ON aged_mrel EXECUTE FUNCTION trap();
	CREATE TRIGGER a BEFORE DELETE ON aged_changes FOR EACH ROW EXECUTE FUNCTION trap();
	RESET ROLE; ALTER EVENT TRIGGER millrace_on_ddl_end ENABLE ALWAYS});
sql('DROP TRIGGER a ON aged_changes');
sql(q{SET ROLE app; SELECT millrace.set_retention('aged', '1 second', 'second')});
wait_for($node, 'SELECT count(*) = 0 FROM aged_mrel');
is(sql('SELECT count(*) FROM aged_changes WHERE new IS NULL'), '1', 'the row that left is told of');
is(is_superuser(), 'f', 'and app is what it was');
sql('ALTER EVENT TRIGGER millrace_on_ddl_end DISABLE; SET ROLE app;
	CREATE TRIGGER a BEFORE DELETE ON aged_changes FOR EACH ROW EXECUTE FUNCTION trap(); RESET ROLE;
	ALTER EVENT TRIGGER millrace_on_ddl_end ENABLE ALWAYS');
sql(q{SET ROLE app; SELECT millrace.set_changes_retention('aged', '0')});
wait_for($node, 'SELECT count(*) = 0 FROM aged_changes');
is(is_superuser(), 'f', 'so do changes that are too old');
sql('SET ROLE app; DROP VIEW aged');

# The catalog.
sql('ALTER EVENT TRIGGER millrace_on_ddl_end DISABLE; SET ROLE app;
	CREATE TRIGGER t AFTER INSERT ON millrace.continuous_view EXECUTE FUNCTION trap(); RESET ROLE;
	ALTER EVENT TRIGGER millrace_on_ddl_end ENABLE ALWAYS');
refused("SET ROLE app; SELECT millrace.create_continuous_view('w', '$query')", $found, 'nothing is written into a table with a trigger');
refused(q{SET ROLE app; SELECT millrace.deactivate('v')}, $found, 'nor changed there');
refused('SET ROLE app; DROP VIEW v', $found, 'nor removed');
sql('DROP TRIGGER t ON millrace.continuous_view');
sql(q{SET ROLE app; SELECT millrace.deactivate('v'); SELECT millrace.activate('v')});
is(is_superuser(), 'f', 'app is what it was');
sql('REVOKE ALL ON ALL TABLES IN SCHEMA public, millrace FROM app; GRANT SELECT ON clicks TO app');

# --- default privileges -----------------------------------------------------------

sql(q{ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO other, PUBLIC;
	ALTER DEFAULT PRIVILEGES IN SCHEMA millrace GRANT ALL ON TABLES TO other;
	SET ROLE app;
	SELECT millrace.create_continuous_view('w', '} . $query . q{', changes => true)});
my $grantees = q{SELECT relname, array_agg(DISTINCT grantee::regrole ORDER BY grantee::regrole) FROM pg_class, aclexplode(relacl)
	WHERE relname IN ('w_mrel', 'w_changes', 'w_rebuild') GROUP BY 1 ORDER BY 1};
is(sql($grantees), "w_changes|{postgres,app}\nw_mrel|{postgres,app}", 'give nobody anything on the parts of a view');
foreach my $table ('w_mrel', 'w_changes')
{
	refused("SET ROLE other; SELECT * FROM $table", qr/permission denied/, "$table is not readable");
	refused("SET ROLE other; DELETE FROM $table", qr/permission denied/, 'nor writable');
	refused("SET ROLE other; CREATE TRIGGER t AFTER INSERT ON $table EXECUTE FUNCTION trap()", qr/permission denied/, 'nor anything else');
}
is(sql("BEGIN; SET ROLE app; SELECT FROM millrace.rebuild('w'); RESET ROLE; $grantees; ROLLBACK"),
	"w_changes|{postgres,app}\nw_mrel|{postgres,app}", 'nor on a shadow');
is(sql(q{SELECT count(*) FROM pg_shdepend WHERE refobjid = 'other'::regrole AND objid IN ('w_mrel'::regclass, 'w_changes'::regclass)}), '0',
	'and the role does not hang on them');

# What they give before the extension is there.
sql('CREATE DATABASE early');
sql(q{ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO app, "Odd ""Name""", PUBLIC;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO app, PUBLIC;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO app;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO app;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO app, PUBLIC;
	GRANT CREATE, USAGE ON SCHEMA public TO app} =~ s/^/CREATE ROLE "Odd ""Name"""; /r, 'early');
create_server($node, 'early');
my $strange = q{
	SELECT string_agg(name || ' ' || acl::text, ', ') FROM
	(SELECT relname::text, relacl FROM pg_class WHERE relnamespace = 'millrace'::regnamespace
	 UNION ALL SELECT nspname, nspacl FROM pg_namespace WHERE nspname = 'millrace'
	 UNION ALL SELECT proname, proacl FROM pg_proc WHERE pronamespace = 'millrace'::regnamespace
	 UNION ALL SELECT typname, typacl FROM pg_type WHERE typnamespace = 'millrace'::regnamespace) o (name, acl),
	LATERAL (SELECT bool_or(grantee NOT IN (0, 'postgres'::regrole) OR grantee = 0 AND privilege_type NOT IN ('USAGE', 'EXECUTE', 'SELECT'))
		FROM aclexplode(acl)) a (strange) WHERE strange};
is(sql($strange, 'early'), '', 'give nobody anything in the extension');
my $privileges = q{SELECT string_agg(format('%s %s', name, p), ', ' ORDER BY name::text, p) FROM
	(SELECT c.oid::regclass::text, p FROM pg_class c, unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p
	 WHERE relnamespace = 'millrace'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege('app', c.oid, p)
	 UNION ALL SELECT c.oid::regclass::text, p FROM pg_class c, unnest('{SELECT,USAGE,UPDATE}'::text[]) p
	 WHERE relnamespace = 'millrace'::regnamespace AND relkind = 'S' AND has_sequence_privilege('app', c.oid, p)
	 UNION ALL SELECT p.oid::regprocedure::text, 'EXECUTE' FROM pg_proc p
	 WHERE pronamespace = 'millrace'::regnamespace AND has_function_privilege('app', p.oid, 'EXECUTE')
	 UNION ALL SELECT t.oid::regtype::text, 'USAGE' FROM pg_type t
	 WHERE typnamespace = 'millrace'::regnamespace AND has_type_privilege('app', t.oid, 'USAGE')
	 UNION ALL SELECT 'schema', p FROM unnest('{CREATE,USAGE}'::text[]) p WHERE has_schema_privilege('app', 'millrace', p)) o (name, p)};
is(sql($privileges, 'early'), sql($privileges), 'a role may do there what it may do elsewhere');
refused("SET ROLE app; $trap; CREATE TRIGGER t AFTER INSERT ON millrace.continuous_view EXECUTE FUNCTION trap()", qr/permission denied/,
	'no trigger on the catalog', 'early');
sql(qq{CREATE FOREIGN TABLE clicks (k integer) SERVER kafka OPTIONS (topic '$topic'); GRANT SELECT ON clicks TO app;
	SET ROLE app; SELECT millrace.create_continuous_view('v', '$query')}, 'early');
produce($topic, 0, event(1));
wait_for($node, 'SELECT count(*) > 0 FROM v', 't', 'early');
is(is_superuser(), 'f', 'app is what it was');
sql('DROP OWNED BY "Odd ""Name"""; DROP ROLE "Odd ""Name"""', 'early');
pass('a role that was given nothing can be dropped');

# --- the schema -----------------------------------------------------------------------

sql('CREATE DATABASE squatted');
sql('GRANT CREATE ON DATABASE squatted TO app; SET ROLE app; CREATE SCHEMA millrace', 'squatted');
refused('CREATE EXTENSION millrace', qr/schema "millrace" exists and does not belong to a superuser.*HINT/s, "the extension does not move into somebody's schema",
	'squatted');
sql('DROP SCHEMA millrace; CREATE SCHEMA millrace; CREATE EXTENSION millrace', 'squatted');
pass("a superuser's is fine");

done_testing();
