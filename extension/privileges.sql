
------------------------------------------------------------------------------
-- Privileges.  Last, since this is about all that was made above.
------------------------------------------------------------------------------

-- What ALTER DEFAULT PRIVILEGES has given on it to others than the owner is taken back: with
-- TRIGGER on a table of the catalog, or CREATE on the schema, a role could have the owner,
-- a superuser, run its functions.  What everybody may do with functions and types stays.
REVOKE ALL ON SCHEMA millrace FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA millrace FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA millrace FROM PUBLIC;

DO LANGUAGE plpgsql $$
DECLARE
  given record;
BEGIN
  FOR given IN
    WITH object (name, acl) AS
      (SELECT 'SCHEMA millrace', n.nspacl FROM pg_catalog.pg_namespace n WHERE n.nspname = 'millrace'
       UNION ALL
       SELECT pg_catalog.format('%s millrace.%I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.relname), c.relacl
       FROM pg_catalog.pg_class c WHERE c.relnamespace = 'millrace'::regnamespace AND c.relkind IN ('r', 'v', 'S')
       UNION ALL
       SELECT pg_catalog.format('ROUTINE %s', p.oid::regprocedure), p.proacl
       FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'millrace'::regnamespace
       UNION ALL
       SELECT pg_catalog.format('TYPE millrace.%I', t.typname), t.typacl
       FROM pg_catalog.pg_type t WHERE t.typnamespace = 'millrace'::regnamespace)
    SELECT DISTINCT o.name, a.grantee
    FROM object o, LATERAL pg_catalog.aclexplode(o.acl) a
    WHERE a.grantee NOT IN (0::oid, a.grantor)
  LOOP
    EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM %s', given.name, given.grantee::regrole);
  END LOOP;
END
$$;

GRANT USAGE ON SCHEMA millrace TO PUBLIC;
GRANT SELECT ON millrace.workers, millrace.views, millrace.streams, millrace.partitions,
                millrace.dead_letters, millrace.gaps TO PUBLIC;
