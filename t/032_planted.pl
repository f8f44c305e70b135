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

my $trap = q{CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ALTER ROLE app SUPERUSER; RETURN NULL; END $$};
my $query = 'SELECT k, count(*) AS n FROM clicks GROUP BY k';

sql(q{CREATE ROLE app; CREATE ROLE other; GRANT CREATE, USAGE ON SCHEMA public TO app, other; GRANT SELECT ON clicks TO app});
sql("SET ROLE app; $trap");

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

done_testing();
