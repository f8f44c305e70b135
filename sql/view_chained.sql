-- Views over another view's changes: they take each change in the transaction that makes it.

\i sql/setup.inc

CREATE TABLE plain.events (id int, g int, s text, x numeric);
SELECT create_stream('events', 2);
CREATE FUNCTION rows(first int, last int) RETURNS text LANGUAGE sql AS $$
  SELECT format($q$ SELECT i, nullif(i %% 5, 0), 's' || i %% 3, i / 4.0 FROM generate_series(%s, %s) i $q$, first, last) $$;

-- A view over changes is what the same query is over the table of changes.
CREATE TABLE tools.chained (name text, query text);
CREATE FUNCTION chain(name text, query text, extra text DEFAULT '') RETURNS text
LANGUAGE plpgsql SET search_path = live, common, tools AS $$
BEGIN
	EXECUTE format('SELECT millrace.create_continuous_view(%L, %L %s)', format('live.%I', name), query, extra);
	INSERT INTO chained VALUES (name, query);
	RETURN name || ': created';
END $$;
CREATE FUNCTION check_chains() RETURNS SETOF text LANGUAGE plpgsql SET search_path = live, common, tools AS $$
DECLARE
	c chained;
	n bigint;
BEGIN
	FOR c IN SELECT * FROM chained LOOP
		IF NOT millrace.wait_for_latest(format('live.%I', c.name)::regclass, tools.patience()) THEN
			RETURN NEXT c.name || ': not there in time';
		END IF;
		EXECUTE format('SELECT count(*) FROM ((SELECT * FROM live.%1$I EXCEPT ALL SELECT * FROM (%2$s) q)
			UNION ALL (SELECT * FROM (%2$s) q EXCEPT ALL SELECT * FROM live.%1$I)) d', c.name, c.query) INTO n;
		RETURN NEXT c.name || CASE WHEN n = 0 THEN ': equal' ELSE format(': %s differences', n) END;
	END LOOP;
END $$;

SELECT feed('events', rows(1, 20));
SELECT create_view('untold', 'SELECT g, s, count(*) AS n FROM events GROUP BY g, s');
SELECT millrace.create_continuous_view('live.per_g', 'SELECT g, s, count(*) AS n, sum(x) AS x FROM live.events GROUP BY g, s', changes => true);
SELECT millrace.wait_for_latest('live.per_g', tools.patience());
SELECT chain('early', 'SELECT count(*) AS n FROM per_g_changes');
SELECT millrace.attach_table('live.per_g_changes');
-- With what was told before, or only what comes.
SELECT chain('large', 'SELECT count(*) AS n FROM per_g_changes c WHERE (c.new).n > 2');
SELECT chain('by_g', 'SELECT (new).g, count(*) AS n, max((new).n) AS most, min(id) AS first FROM per_g_changes GROUP BY 1');
SELECT chain('rolled_up', 'SELECT (coalesce(new, old)).s, sum(coalesce((new).n, 0) - coalesce((old).n, 0)) AS n,
  sum(coalesce((new).x, 0) - coalesce((old).x, 0)) AS x FROM per_g_changes GROUP BY 1', ', changes => true');
SELECT millrace.attach_table('live.rolled_up_changes');
SELECT chain('listed', 'SELECT id, old, new FROM per_g_changes WHERE (new).g = 1');
SELECT chain('above', 'SELECT (new).s, count(*) AS n FROM rolled_up_changes GROUP BY 1');
SELECT chain('both', 'SELECT t, count(*) AS n FROM (SELECT ''g'' AS t FROM per_g_changes UNION ALL SELECT ''r'' FROM rolled_up_changes) u GROUP BY t');
SELECT millrace.create_continuous_view('live.later', 'SELECT count(*) AS n, min(id) AS first FROM live.per_g_changes', start_at => 'latest');
SELECT max(id) AS before FROM live.per_g_changes \gset
SELECT check_chains();
SELECT feed('events', rows(21, 40));
SELECT check_chains();
SELECT n > 0 AS some, first = :before + 1 AS next FROM live.later;
-- The roll-up is that of the view.
SELECT count(*) FROM (SELECT s, sum(n), sum(x) FROM live.per_g GROUP BY s EXCEPT ALL TABLE live.rolled_up) d;
-- Whatever changes it.
SELECT millrace.truncate_continuous_view('live.per_g');
SELECT check_chains();
SELECT * FROM live.rolled_up ORDER BY 1;
SELECT millrace.rebuild('live.per_g');
SELECT millrace.wait_for_latest('live.per_g', tools.patience());
SELECT check_chains();
SELECT count(*) FROM (SELECT s, sum(n), sum(x) FROM live.per_g GROUP BY s EXCEPT ALL TABLE live.rolled_up) d;
BEGIN;
SELECT millrace.truncate_continuous_view('live.per_g');
ROLLBACK;
SELECT check_chains();
SELECT view, stream, state FROM millrace.views WHERE view::text ~ 'large|above|by_g' ORDER BY view::text;
SELECT stream, format, state FROM millrace.streams WHERE stream::text ~ 'changes' ORDER BY stream::text;

-- One that fails is alone in that; activated, it is computed from what the table has.
SELECT millrace.create_continuous_view('live.broken', 'SELECT (new).g, sum(1 / ((new).n - 100)) AS q FROM live.per_g_changes GROUP BY 1');
SELECT feed('events', 'SELECT 500 + i, 500, ''s'', 1.0 FROM generate_series(1, 100) i');
SELECT wait_until($$ (SELECT state = 'failed' FROM millrace.views WHERE view = 'live.broken'::regclass) $$);
SELECT last_error FROM millrace.views WHERE view = 'live.broken'::regclass;
SELECT check_view('untold');
SELECT check_chains();
SELECT n FROM live.per_g WHERE g = 500;
SELECT millrace.wait_for_latest('live.broken', '1s');
SELECT millrace.activate('live.broken');
SELECT feed('events', rows(41, 41));
SELECT check_chains();
SELECT state FROM millrace.views WHERE view = 'live.broken'::regclass;
DROP VIEW live.broken;

-- Names, rights, and the end.
ALTER VIEW live.per_g RENAME TO per_group;
ALTER VIEW live.per_group RENAME n TO many;
SELECT feed('events', rows(42, 50));
SELECT millrace.wait_for_latest('live.large', tools.patience());
SELECT (SELECT n FROM live.large) = (SELECT count(*) FROM live.per_group_changes WHERE (new).many > 2) AS equal;
SELECT millrace.detach_table('live.per_group_changes');
CREATE ROLE test_reader;
GRANT USAGE, CREATE ON SCHEMA live TO test_reader;
GRANT SELECT ON live.per_group_changes TO test_reader;
SET ROLE test_reader;
SELECT millrace.create_continuous_view('live.not_mine', 'SELECT count(*) AS n FROM live.per_group_changes');
RESET ROLE;
DROP OWNED BY test_reader;
DROP ROLE test_reader;
DROP VIEW live.per_group;
DROP VIEW live.rolled_up;
DROP VIEW live.per_group CASCADE;
SELECT view FROM millrace.views ORDER BY 1;
SELECT count(*) FROM pg_class WHERE relnamespace = 'live'::regnamespace AND relname ~ 'rolled|large|per_g|above|both|by_g|listed|later';

\i sql/teardown.inc
