-- The change feed: <view>_changes tells every visible change of a view, and replaying it
-- from nothing gives the view.

\i sql/setup.inc

CREATE TABLE plain.events (id int, g int, s text, x numeric, ts timestamptz);
CREATE TABLE plain.more (LIKE plain.events);
SELECT create_stream('events', 2);
SELECT create_stream('more');

CREATE FUNCTION rows(first int, last int) RETURNS text LANGUAGE sql AS $$
  SELECT format($q$ SELECT i, nullif(i %% 5, 0), CASE WHEN i %% 7 > 0 THEN 's' || i %% 3 END, i / 4.0,
    timestamptz '2024-01-01 00:00+00' + i * interval '7 minutes' FROM generate_series(%s, %s) i $q$, first, last) $$;

-- A view and an ordinary one as the oracle, as create_view() does; with its changes.
CREATE FUNCTION create_told(name text, query text, extra text DEFAULT '') RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	PERFORM set_config('search_path', 'plain, common', true);
	EXECUTE format('CREATE VIEW plain.%I AS %s', name, query);
	PERFORM set_config('search_path', 'live, common', true);
	EXECUTE format('SELECT millrace.create_continuous_view(%L, %L, changes => true %s)', format('live.%I', name), query, extra);
	INSERT INTO tools.made (name) VALUES (name);
	RETURN name || ': created';
END $$;

CREATE FUNCTION changes_of(name text) RETURNS regclass LANGUAGE sql AS $$
	SELECT changes FROM millrace.views WHERE view = format('live.%I', name)::regclass $$;

-- Replays the changes and compares; says whether there were some since the last time.
CREATE TABLE tools.told (name text PRIMARY KEY, last_id bigint);
CREATE FUNCTION check_changes(name text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	view text := format('live.%I', name);
	n bigint;
	top bigint;
	before bigint := coalesce((SELECT last_id FROM told t WHERE t.name = $1), 0);
BEGIN
	RETURN QUERY EXECUTE format($q$
		WITH steps AS MATERIALIZED
			(SELECT id * 2 AS at, old::text AS r, -1 AS d FROM %1$s WHERE old IS DISTINCT FROM NULL
			 UNION ALL SELECT id * 2 + 1, new::text, 1 FROM %1$s WHERE new IS DISTINCT FROM NULL),
		shown AS (SELECT v::text AS r, count(*) AS n FROM %2$s v GROUP BY 1)
		SELECT '%3$s: went without having come: ' || r
			FROM (SELECT r, sum(d) OVER (PARTITION BY r ORDER BY at) AS there FROM steps) s WHERE there < 0
		UNION ALL SELECT '%3$s: ' || coalesce(r, '') || ' ' || coalesce(s.n, 0) || ' times, not ' || coalesce(c.n, 0)
			FROM (SELECT r, sum(d) AS n FROM steps GROUP BY r HAVING sum(d) <> 0) c FULL JOIN shown s USING (r)
			WHERE s.n IS DISTINCT FROM c.n
		UNION ALL SELECT '%3$s: nothing changed: ' || id FROM %1$s WHERE old IS NOT DISTINCT FROM new AND old::text IS NOT DISTINCT FROM new::text
		UNION ALL SELECT '%3$s: numbers' FROM %1$s HAVING max(id) - min(id) + 1 <> count(*) OR max(batch) - min(batch) + 1 <> count(DISTINCT batch)
		UNION ALL SELECT '%3$s: batches' FROM (SELECT id, batch, lag(batch) OVER (ORDER BY id) AS b FROM %1$s) x WHERE batch < b
		UNION ALL SELECT '%3$s: offsets' FROM (SELECT batch, count(offsets) AS o, count(DISTINCT changed_at) AS t FROM %1$s GROUP BY batch) x
			WHERE o = 0 OR t = 0$q$,
		changes_of(name), view, replace(name, '''', ''''''));
	IF NOT FOUND THEN
		EXECUTE format('SELECT coalesce(max(id), 0), count(*) FILTER (WHERE id > $1) FROM %s', changes_of(name)) INTO top, n USING before;
		INSERT INTO told VALUES (name, top) ON CONFLICT ON CONSTRAINT told_pkey DO UPDATE SET last_id = top;
		RETURN NEXT format('%s: told%s', name, CASE WHEN n = 0 THEN ' of nothing' ELSE '' END);
	END IF;
END $$;
CREATE FUNCTION check_all() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT c FROM (SELECT * FROM made ORDER BY id) m,
	LATERAL (SELECT c FROM check_view(m.name) c WHERE c !~ ': equal' UNION ALL SELECT c FROM check_changes(m.name) c) c $$;

SELECT feed('events', rows(1, 20));
SELECT create_told('per_g', 'SELECT g, count(*) AS n, avg(x) AS mean, max(id) AS last FROM events GROUP BY g');
SELECT create_told('having', 'SELECT g, s, count(*) AS n FROM events GROUP BY g, s HAVING count(*) BETWEEN 2 AND 4 ORDER BY 3');
SELECT create_told('in all', 'SELECT count(*) AS n, sum(x) AS total, count(*) FILTER (WHERE g IS NULL) AS nulls FROM events');
SELECT create_told('at last', 'SELECT count(*) AS n FROM events HAVING count(*) > 30');
SELECT create_told('appended', 'SELECT id, s FROM events WHERE g = 1');
SELECT create_told('kinds', 'SELECT DISTINCT g, s FROM events');
SELECT create_told('coarse', 'SELECT g, count(*) / 5 AS fives FROM events GROUP BY g');
SELECT create_told('nested', 'SELECT m * 2 AS m2, upper(s2) AS s3, to_jsonb(q) AS whole FROM
  (SELECT s AS s2, max(n) AS m FROM (SELECT s, id AS n FROM events) e GROUP BY s) q WHERE m > 8 ORDER BY m DESC');
SELECT create_told('cte', 'WITH c AS (SELECT s, sum(x) AS t FROM events GROUP BY s) SELECT s AS "The S", t + 1 AS t1 FROM c WHERE t < 200');
SELECT create_told('"Weird" ''Name''', 'SELECT g AS "G", count(*) AS "select" FROM events GROUP BY 1');
SELECT create_told('both', 'SELECT s, count(*) AS n FROM (SELECT s FROM events UNION ALL SELECT s FROM more) u GROUP BY s');
SELECT create_told('rolled', 'SELECT GROUPING(g, s) AS level, g, s, count(*) AS n, sum(x) AS t FROM events GROUP BY CUBE (g, s)');
SELECT create_told('newest', 'SELECT DISTINCT ON (g) g, id, s FROM events ORDER BY g, id DESC');
SELECT create_told('strings', 'SELECT g, min(s) AS a, max(repeat(s, 2000)) AS long, bool_or(x > 5) AS some FROM events GROUP BY g');
SELECT check_all();
SELECT feed('events', rows(21, 40));
SELECT check_all();
SELECT feed('more', rows(1, 3));
SELECT feed('events', rows(41, 41));
SELECT check_all();
-- Nothing that can be seen.
SELECT feed('events', 'SELECT 42, NULL::int, ''s1'', 1.0, NULL::timestamptz WHERE false');
SELECT check_changes('kinds');
-- How it looks.
SELECT count(*) FILTER (WHERE old IS NULL) AS appeared, bool_and(old IS NULL = (id = 1)) AS first, max((new).n) FROM live."at last_changes";
SELECT id = batch AS alone, old, new FROM live."at last_changes" ORDER BY id DESC LIMIT 1;
SELECT (new).n, (old).n AS was FROM live.per_g_changes WHERE (new).g = 1 ORDER BY id DESC LIMIT 1;
SELECT batch = min(id) OVER () AS first, regexp_replace(offsets::text, '\d+', 'N', 'g') FROM live.per_g_changes ORDER BY id LIMIT 1;
SELECT jsonb_object_keys(offsets) FROM live.both_changes WHERE id = 1 ORDER BY 1;

-- Emptied, recomputed.
SELECT millrace.truncate_continuous_view('live.per_g'), millrace.truncate_continuous_view('live."in all"'),
  millrace.truncate_continuous_view('live.appended'), millrace.truncate_continuous_view('live.coarse'), millrace.truncate_continuous_view('live.rolled');
SELECT check_changes(name) FROM made WHERE name IN ('per_g', 'in all', 'appended', 'coarse', 'rolled') ORDER BY id;
SELECT old, new FROM live."in all_changes" ORDER BY id DESC LIMIT 1;
SELECT feed('events', rows(42, 43));
SELECT millrace.wait_for_latest(format('live.%I', name)::regclass, tools.patience()) FROM made WHERE name IN ('per_g', 'in all', 'appended', 'coarse', 'rolled');
SELECT check_changes(name) FROM made WHERE name IN ('per_g', 'in all', 'appended', 'coarse', 'rolled') ORDER BY id;
SELECT millrace.rebuild(format('live.%I', name)::regclass) FROM made WHERE name IN ('per_g', 'in all', 'appended', 'coarse', 'rolled', 'newest', 'having', 'strings');
SELECT bool_and(millrace.wait_for_latest(format('live.%I', name)::regclass, tools.patience())) FROM made;
SELECT count(*) FROM millrace.views WHERE rebuild IS NOT NULL;
SELECT check_all();
-- Only what differs.
SELECT count(*) FROM live.having_changes c WHERE id > (SELECT last_id FROM told WHERE name = 'having');

-- Names and schemas follow; columns may be renamed.
ALTER VIEW live.per_g RENAME TO "Per ""G""";
ALTER VIEW live."Per ""G""" RENAME COLUMN n TO "how many";
ALTER VIEW live."Per ""G""" SET SCHEMA common;
SELECT changes FROM millrace.views WHERE view = 'common."Per ""G"""'::regclass;
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'common."Per ""G""_changes"'::regclass;
SELECT feed('events', rows(44, 45));
SELECT millrace.wait_for_latest('common."Per ""G"""', tools.patience());
SELECT (new)."how many" > 0 AS more FROM common."Per ""G""_changes" ORDER BY id DESC LIMIT 1;
SELECT create_told(repeat('long', 16), 'SELECT count(*) AS n FROM events');
SELECT changes_of(left(repeat('long', 16), 63));
DROP TABLE common."Per ""G""_changes";
ALTER TABLE common."Per ""G""_changes" RENAME TO other;
ALTER TABLE common."Per ""G""_changes" SET SCHEMA plain;
DROP VIEW common."Per ""G""";
SELECT to_regclass('common."Per ""G""_changes"');
DELETE FROM made WHERE name = 'per_g' OR name LIKE 'long%';

-- A row that cannot be shown: what brought it about is refused.
SELECT create_told('ratio', 'SELECT g, sum(id) / count(*) FILTER (WHERE id < 900) AS r FROM events GROUP BY g');
SELECT feed('events', 'SELECT 901, 77, NULL::text, 1.0, NULL::timestamptz UNION ALL SELECT 1, 78, NULL, 1.0, NULL');
SELECT millrace.wait_for_latest('live.ratio', tools.patience());
SELECT * FROM live.ratio WHERE g > 70;
SELECT d.sqlstate, d.error FROM millrace.dead_letters d WHERE view = 'live.ratio'::regclass;
SELECT check_changes('ratio');
SELECT feed('events', 'SELECT 2, 77, NULL::text, 1.0, NULL::timestamptz');
SELECT millrace.wait_for_latest('live.ratio', tools.patience());
SELECT millrace.replay('live.events', $$ view = 'live.ratio'::regclass $$);
SELECT * FROM live.ratio WHERE g > 70 ORDER BY 1;
SELECT check_changes('ratio');
SELECT old, new FROM live.ratio_changes WHERE (new).g = 77 ORDER BY id;
DELETE FROM made WHERE name = 'ratio';
DROP VIEW live.ratio;

-- Groups that are too old: they go when they are removed.
CREATE TABLE plain.aged (g int, ts timestamptz, d date);
SELECT create_stream('aged');
SELECT feed('aged', $$ SELECT i, now() - i * interval '1 day', current_date - i FROM generate_series(0, 9) i $$);
SELECT millrace.create_continuous_view('live.kept', 'SELECT ts, count(*) AS n FROM live.aged GROUP BY ts', retention => '5 days 12 hours', retention_column => 'ts', changes => true),
  millrace.create_continuous_view('live.kept2', 'SELECT d, g, count(*) AS n FROM live.aged GROUP BY d, g', changes => true);
SELECT millrace.wait_for_latest('live.kept', tools.patience()), millrace.wait_for_latest('live.kept2', tools.patience());
SELECT count(*) FROM live.kept_changes;
SELECT check_changes('kept');
SELECT millrace.set_retention('live.kept', '2 days 12 hours', 'ts'), millrace.set_retention('live.kept2', '3 days', 'd');
SELECT wait_until('(SELECT count(*) FROM live.kept_changes) = 9 AND (SELECT count(*) FROM live.kept2_changes) > 15');
SELECT check_changes('kept'), check_changes('kept2');
SELECT count(*) FILTER (WHERE new IS NULL) AS gone FROM live.kept_changes;

-- How long.
SELECT changes_retention FROM millrace.views WHERE view = 'live.kept'::regclass;
SELECT millrace.set_changes_retention('live.kept', '0');
SELECT wait_until('NOT EXISTS (SELECT FROM live.kept_changes)');
SELECT millrace.set_changes_retention('live.kept2', NULL);
SELECT view, changes_retention FROM millrace.views WHERE view IN ('live.kept'::regclass, 'live.kept2'::regclass) ORDER BY view::text;
SELECT feed('aged', $$ SELECT 100, now(), NULL::date $$);
SELECT wait_until('(SELECT last_id FROM millrace.view_changes WHERE view = ''live.kept''::regclass) = 10');
SELECT millrace.set_changes_retention('live.kept', '-1 day');
SELECT millrace.set_changes_retention('live.aged', '1 day');
SELECT millrace.set_changes_retention(NULL, '1 day');
SELECT millrace.create_continuous_view('live.untold', 'SELECT count(*) AS n FROM live.aged');
SELECT millrace.set_changes_retention('live.untold', '1 day');

-- Whose.
CREATE ROLE test_owner;
CREATE ROLE test_heir;
CREATE ROLE test_reader;
GRANT CREATE, USAGE ON SCHEMA live TO test_owner, test_heir;
GRANT USAGE ON SCHEMA live TO test_reader;
GRANT SELECT ON live.aged TO test_owner, test_heir;
SET ROLE test_owner;
SELECT millrace.create_continuous_view('live.owned', 'SELECT g, count(*) AS n FROM live.aged GROUP BY g', changes => true);
SELECT millrace.wait_for_latest('live.owned', tools.patience());
SELECT count(*) > 0 AS some FROM live.owned_changes;
INSERT INTO live.owned_changes VALUES (0, 0, now(), NULL, NULL, NULL);
UPDATE live.owned_changes SET old = NULL;
DELETE FROM live.owned_changes;
TRUNCATE live.owned_changes;
ALTER TABLE live.owned_changes ADD COLUMN x int;
GRANT SELECT ON live.owned_changes TO test_reader;
SET ROLE test_reader;
SELECT count(*) > 0 AS some FROM live.owned_changes;
SELECT count(*) FROM live.owned;
SELECT millrace.set_changes_retention('live.owned', '1 day');
RESET ROLE;
ALTER VIEW live.owned OWNER TO test_heir;
SET ROLE test_owner;
SELECT count(*) FROM live.owned_changes;
SET ROLE test_reader;
SELECT count(*) > 0 AS some FROM live.owned_changes;
SET ROLE test_heir;
SELECT count(*) > 0 AS some FROM live.owned_changes;
SELECT millrace.set_changes_retention('live.owned', '1 day');
REVOKE SELECT ON live.owned_changes FROM test_reader;
SET ROLE test_reader;
SELECT count(*) FROM live.owned_changes;
RESET ROLE;
SELECT acl.grantee::regrole, acl.privilege_type, acl.is_grantable FROM pg_class, aclexplode(relacl) acl
  WHERE oid = 'live.owned_changes'::regclass AND acl.grantee <> relowner ORDER BY acl.grantee::regrole::text, acl.privilege_type;
REASSIGN OWNED BY test_heir TO test_owner;
SET ROLE test_owner;
SELECT count(*) > 0 AS some FROM live.owned_changes;
RESET ROLE;
SELECT relname, acl.grantee::regrole, acl.privilege_type, acl.is_grantable FROM pg_class, aclexplode(relacl) acl
  WHERE oid IN ('live.owned_changes'::regclass, 'live.owned_mrel'::regclass) AND acl.grantee <> relowner ORDER BY 1, 2, 3;
DROP OWNED BY test_owner, test_heir, test_reader CASCADE;
DROP ROLE test_owner, test_heir, test_reader;

-- Refused: where a row of the view is not made of one group alone.
CREATE FUNCTION refused(query text, extra text DEFAULT '') RETURNS text LANGUAGE plpgsql SET search_path = live, common AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE format('SELECT millrace.create_continuous_view(%L, %L, changes => true %s)', 'v', query, extra);
	RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN format('%s: %s | %s | %s', sqlstate, sqlerrm, detail, hint);
END $$;
CREATE TABLE common.names (g int, name text);
SELECT refused('SELECT g, count(*) AS n, rank() OVER (ORDER BY count(*)) FROM events GROUP BY g');
SELECT refused('SELECT g, count(*) AS n FROM events GROUP BY g ORDER BY 2 LIMIT 3');
SELECT refused('SELECT g, count(*) AS n FROM events GROUP BY g OFFSET 1');
SELECT refused('SELECT DISTINCT count(*) AS n FROM events GROUP BY g');
SELECT refused('SELECT DISTINCT ON (n) g, n FROM (SELECT g, count(*) AS n FROM events GROUP BY g) q');
SELECT refused('SELECT avg(n) FROM (SELECT g, count(*) AS n FROM events GROUP BY g) q');
SELECT refused('SELECT n FROM (SELECT g, count(*) AS n FROM events GROUP BY g) q GROUP BY n');
SELECT refused('SELECT g, generate_series(1, count(*)) FROM events GROUP BY g');
SELECT refused('SELECT name, n FROM (SELECT g, count(*) AS n FROM events GROUP BY g) q JOIN names USING (g)');
SELECT refused('SELECT g, count(*), (SELECT max(name) FROM names) FROM events GROUP BY g');
SELECT refused('SELECT g, count(*) FROM events GROUP BY g HAVING count(*) > (SELECT count(*) FROM names)');
SELECT refused('SELECT g, max(ts) FROM events GROUP BY g HAVING max(ts) > now() - interval ''1 hour''');
SELECT refused('SELECT g, max(ts) > current_timestamp FROM events GROUP BY g');
SELECT refused('SELECT g, random() < count(*) FROM events GROUP BY g');
SELECT refused('SELECT g, count(*), current_user FROM events GROUP BY g');
SELECT refused('SELECT g, count(*) AS n FROM events GROUP BY g UNION ALL SELECT 0, 0');
SELECT refused('SELECT g, count(*) AS n FROM events GROUP BY g', ', sliding_window => ''1 hour'', time_column => ''ts''');
SELECT refused('SELECT id FROM events', ', sliding_window => ''1 hour'', time_column => ''ts''');
-- Not refused: what decides nothing.
SELECT create_told('ordered', 'SELECT g, count(*) AS n FROM events GROUP BY g ORDER BY rank() OVER (ORDER BY count(*))');
SELECT create_told('unused', 'SELECT g FROM (SELECT g, rank() OVER (ORDER BY count(*)) AS r FROM events GROUP BY g) q');
SELECT check_all();
-- Two refusals show where.
\set VERBOSITY default
SELECT millrace.create_continuous_view('live.v', 'SELECT g, count(*) AS n FROM live.events GROUP BY g LIMIT 3', changes => true);
SELECT millrace.create_continuous_view('live.v', 'SELECT g, max(ts) < now() AS late FROM live.events GROUP BY g', changes => true);
\set VERBOSITY terse
-- Nothing without the argument, or with null.
SELECT millrace.create_continuous_view('live.v', 'SELECT g, count(*) AS n FROM live.events GROUP BY g LIMIT 3', changes => NULL);
SELECT to_regclass('live.v_changes'), changes FROM millrace.views WHERE view = 'live.v'::regclass;

\i sql/teardown.inc
SELECT count(*) FROM millrace.view_changes;
