--
-- Streams joined to ordinary tables, views and continuous views.
--
\i sql/setup.inc

CREATE TABLE common.users (user_id int PRIMARY KEY, name text, team int, boss int);
INSERT INTO common.users SELECT i, 'user ' || i, nullif(i % 4, 0), nullif(i / 2, 0) FROM generate_series(1, 20) i;
CREATE TABLE common.teams (team int, title text, since date);
INSERT INTO common.teams SELECT i, 'team ' || i, date '2024-01-01' + i FROM generate_series(1, 5) i;
INSERT INTO common.teams VALUES (1, 'one again', NULL), (NULL, 'nobody', NULL);
CREATE VIEW common.members AS SELECT user_id, name, title FROM common.users LEFT JOIN common.teams USING (team) WHERE user_id < 15;
CREATE VIEW common.sizes AS SELECT team, count(*) AS members, array_agg(user_id ORDER BY user_id) AS ids FROM common.users GROUP BY team;
CREATE MATERIALIZED VIEW common.frozen AS SELECT team, max(name) AS last FROM common.users GROUP BY team;
CREATE TABLE common.rates (code text, day date, rate numeric) PARTITION BY RANGE (day);
CREATE TABLE common.rates_1 PARTITION OF common.rates FOR VALUES FROM ('2024-01-01') TO ('2024-01-04');
CREATE TABLE common.rates_2 PARTITION OF common.rates FOR VALUES FROM ('2024-01-04') TO ('2024-02-01');
INSERT INTO common.rates SELECT c, date '2024-01-01' + i, i + 0.25 FROM unnest(ARRAY['EUR', 'HUF']) c, generate_series(0, 8) i;
CREATE FUNCTION common.digits(n int) RETURNS TABLE (pos int, digit int) LANGUAGE sql IMMUTABLE
  AS $$ SELECT i, substr(n::text, i, 1)::int FROM generate_series(1, length(n::text)) i $$;

CREATE TABLE plain.events (id int, user_id int, amount numeric, code text, day date, tags text[], doc jsonb);
SELECT create_stream('events', partitions => 2);
CREATE FUNCTION rows(first int, last int) RETURNS text LANGUAGE sql RETURN format($$
  SELECT id, nullif(id %% 25, 0), (id %% 40) * 0.5, (ARRAY['EUR', 'HUF', 'XXX', NULL])[id %% 4 + 1], date '2024-01-01' + id %% 11,
    CASE WHEN id %% 5 > 0 THEN ARRAY['t' || id %% 3, 't' || id %% 2, NULL] END,
    jsonb_build_object('items', (SELECT coalesce(jsonb_agg(jsonb_build_object('sku', 's' || i, 'qty', i)), '[]') FROM generate_series(1, id %% 4) i))
  FROM generate_series(%s, %s) id$$, first, last);
SELECT feed('events', rows(1, 200));

BEGIN;
SELECT create_view('inner_using', $$ SELECT name, count(*), sum(amount) FROM events JOIN users USING (user_id) GROUP BY name $$);
SELECT create_view('inner_on', $$ SELECT u.team, t.title, count(*) AS n FROM events e JOIN users u ON u.user_id = e.user_id JOIN teams t ON t.team = u.team GROUP BY 1, 2 $$);
SELECT create_view('inner_comma', $$ SELECT u.team, max(amount) FROM users u, events e WHERE e.user_id = u.user_id AND u.user_id > 3 GROUP BY u.team HAVING count(*) > 5 $$);
SELECT create_view('functional_dependency', $$ SELECT u.user_id, u.name, count(*) FROM events JOIN users u USING (user_id) GROUP BY u.user_id $$);
SELECT create_view('natural_join', $$ SELECT name, sum(amount) FROM events NATURAL JOIN users GROUP BY name $$);
SELECT create_view('cross_join', $$ SELECT team, sum(amount) FROM events CROSS JOIN teams GROUP BY team $$);
SELECT create_view('theta_join', $$ SELECT t.title, count(*) FROM events e JOIN teams t ON e.day >= t.since AND e.id % 5 <> t.team GROUP BY 1 $$);
SELECT create_view('left_join', $$ SELECT u.team, count(*), count(u.user_id) AS known, sum(e.amount) FROM events e LEFT JOIN users u USING (user_id) GROUP BY u.team $$);
SELECT create_view('left_join_on', $$ SELECT name, count(*) FROM events e LEFT JOIN users u ON u.user_id = e.user_id AND e.amount > 10 GROUP BY name $$);
SELECT create_view('left_join_chain', $$ SELECT t.title, count(*), count(t.title) AS c FROM events e LEFT JOIN (users u JOIN teams t USING (team)) USING (user_id) GROUP BY t.title $$);
SELECT create_view('anti_by_left', $$ SELECT e.user_id, count(*) FROM events e LEFT JOIN users u USING (user_id) WHERE u.user_id IS NULL GROUP BY 1 $$);
SELECT create_view('semi_exists', $$ SELECT code, count(*), sum(amount) FROM events e WHERE EXISTS (SELECT FROM users u WHERE u.user_id = e.user_id AND u.team = 2) GROUP BY code $$);
SELECT create_view('semi_in', $$ SELECT code, count(*) FROM events WHERE user_id IN (SELECT boss FROM users) GROUP BY code $$);
SELECT create_view('semi_any', $$ SELECT count(*) FROM events WHERE amount > ANY (SELECT rate FROM rates) $$);
SELECT create_view('anti_exists', $$ SELECT code, count(*) FROM events e WHERE NOT EXISTS (SELECT FROM users u WHERE u.user_id = e.user_id) GROUP BY code $$);
SELECT create_view('anti_in', $$ SELECT code, count(*) FROM events WHERE user_id NOT IN (SELECT user_id FROM users) GROUP BY code $$);
SELECT create_view('anti_in_null', $$ SELECT count(*) FROM events WHERE user_id NOT IN (SELECT boss FROM users) $$);
SELECT create_view('all_of', $$ SELECT count(*) FROM events WHERE amount >= ALL (SELECT rate FROM rates) $$);
SELECT create_view('scalar_subquery', $$ SELECT code, sum(amount * (SELECT max(rate) FROM rates r WHERE r.code = e.code)) AS s FROM events e GROUP BY code $$);
SELECT create_view('self_join', $$ SELECT b.name AS boss, count(*) FROM events JOIN users u USING (user_id) LEFT JOIN users b ON b.user_id = u.boss GROUP BY b.name $$);
SELECT create_view('lateral_function', $$ SELECT digit, count(*) FROM events, digits(events.id) GROUP BY digit $$);
SELECT create_view('lateral_series', $$ SELECT i, count(*), sum(amount) FROM events CROSS JOIN LATERAL generate_series(1, id % 4) i GROUP BY i $$);
SELECT create_view('lateral_unnest', $$ SELECT tag, n, count(*) FROM events e LEFT JOIN LATERAL unnest(e.tags) WITH ORDINALITY AS t(tag, n) ON true GROUP BY tag, n $$);
SELECT create_view('lateral_json', $$ SELECT item ->> 'sku' AS sku, sum((item ->> 'qty')::int) FROM events, jsonb_array_elements(doc -> 'items') item GROUP BY 1 $$);
SELECT create_view('lateral_record', $$ SELECT sku, sum(qty) FROM events, jsonb_to_recordset(doc -> 'items') AS x(sku text, qty int) GROUP BY sku $$);
SELECT create_view('lateral_subquery', $$ SELECT r.rate, count(*) FROM events e LEFT JOIN LATERAL (SELECT rate FROM rates WHERE rates.code = e.code AND rates.day <= e.day
  ORDER BY rates.day DESC LIMIT 1) r ON true GROUP BY r.rate $$);
SELECT create_view('lateral_aggregate', $$ SELECT s.n, count(*) FROM events e, LATERAL (SELECT count(*) AS n FROM rates WHERE rates.code = e.code AND rates.day < e.day) s GROUP BY s.n $$);
SELECT create_view('lateral_rows', $$ SELECT f, g, count(*) FROM events e, ROWS FROM (generate_series(1, e.id % 3), unnest(e.tags)) AS r(f, g) GROUP BY f, g $$);
SELECT create_view('join_view', $$ SELECT title, count(*), sum(amount) FROM events JOIN members USING (user_id) GROUP BY title $$);
SELECT create_view('join_aggregate_view', $$ SELECT s.team, s.members, count(*) FROM events e JOIN users u USING (user_id) JOIN sizes s ON s.team IS NOT DISTINCT FROM u.team AND e.user_id = ANY (s.ids) GROUP BY 1, 2 $$);
SELECT create_view('join_subquery', $$ SELECT s.code, s.top, count(*) FROM events e JOIN (SELECT code, max(rate) AS top FROM rates GROUP BY code) s USING (code) GROUP BY 1, 2 $$);
SELECT create_view('join_matview', $$ SELECT last, count(*) FROM events JOIN users USING (user_id) JOIN frozen USING (team) GROUP BY last $$);
SELECT create_view('join_partitioned', $$ SELECT code, sum(amount * rate) AS value, count(*) FROM events JOIN rates USING (code, day) GROUP BY code $$);
SELECT create_view('join_values', $$ SELECT v.label, count(*) FROM events JOIN (VALUES ('EUR', 'euro'), ('HUF', 'forint'), ('EUR', 'again')) v(code, label) USING (code) GROUP BY 1 $$);
SELECT create_view('join_union', $$ SELECT k, count(*) FROM events JOIN (SELECT user_id AS k FROM users WHERE team = 1 UNION ALL SELECT boss FROM users UNION SELECT 7) s ON s.k = events.user_id GROUP BY k $$);
SELECT create_view('join_cte', $$ WITH t AS MATERIALIZED (SELECT user_id FROM users WHERE team = 3) SELECT user_id, count(*) FROM events JOIN t USING (user_id) GROUP BY 1 $$);
SELECT create_view('join_recursive', $$ WITH RECURSIVE t(user_id, depth) AS (SELECT user_id, 0 FROM users WHERE boss IS NULL UNION ALL
  SELECT u.user_id, depth + 1 FROM users u JOIN t ON t.user_id = u.boss) SELECT depth, count(*) FROM events JOIN t USING (user_id) GROUP BY depth $$);
SELECT create_view('join_append', $$ SELECT name, e.* FROM events e LEFT JOIN users USING (user_id) WHERE id % 3 = 0 $$);
SELECT create_view('join_one', $$ SELECT count(*), sum(amount), max(name) FROM events JOIN users USING (user_id) WHERE name LIKE '%1%' $$);
SELECT create_view('join_only', $$ SELECT count(*) FROM events JOIN ONLY rates USING (code) $$);
SELECT create_view('table_in_having', $$ SELECT user_id, count(*) FROM events GROUP BY user_id HAVING EXISTS (SELECT FROM users u WHERE u.user_id = events.user_id AND team = 1) $$);
SELECT create_view('joined_above', $$ SELECT name, n FROM (SELECT user_id, count(*) AS n FROM events GROUP BY user_id) s JOIN users USING (user_id) $$);
COMMIT;
SELECT c FROM check_views() c WHERE c NOT LIKE '%: equal,%';
SELECT feed('events', rows(150, 330));
SELECT check_views();

-- A view in another view's query: at ingest, so the joined one stands still here.
CREATE TABLE plain.visits (user_id int, page text);
SELECT create_stream('visits');
SELECT feed('visits', $$ SELECT i % 10, 'page ' || i % 3 FROM generate_series(1, 60) i $$);
SELECT create_view('visits_of', $$ SELECT user_id, count(*) AS visits FROM visits GROUP BY user_id $$);
SELECT check_view('visits_of');
CREATE VIEW plain.both AS SELECT visits, count(*) AS n, sum(amount) FROM plain.events JOIN plain.visits_of USING (user_id) GROUP BY visits;
SELECT millrace.create_continuous_view('live.both', $$
  SELECT visits, count(*) AS n, sum(amount) FROM live.events JOIN live.visits_of USING (user_id) GROUP BY visits $$);
SELECT check_view('both');

-- An ordinary table's value is the one at ingest.
CREATE TABLE common.prices (code text, price numeric);
INSERT INTO common.prices VALUES ('EUR', 1), ('HUF', 2);
SELECT create_view('valued', $$ SELECT code, sum(amount * price) AS value, count(*) FROM events JOIN prices USING (code) GROUP BY code $$);
SELECT check_view('valued');
CREATE TABLE tools.before AS TABLE plain.valued;
CREATE TABLE tools.seen AS TABLE plain.events;
UPDATE common.prices SET price = 10 WHERE code = 'EUR';
DELETE FROM common.prices WHERE code = 'HUF';
INSERT INTO common.prices VALUES ('XXX', 5), ('XXX', 6);
CREATE VIEW tools.expected AS
  SELECT code, sum(value) AS value, sum(count)::bigint AS count FROM
    (TABLE tools.before
     UNION ALL
     SELECT code, sum(amount * price), count(*) FROM (TABLE plain.events EXCEPT ALL TABLE tools.seen) e JOIN common.prices USING (code) GROUP BY code) s
  GROUP BY code;
SELECT differences('live.valued', 'tools.before');
SELECT feed('events', rows(400, 450));
SELECT millrace.wait_for_latest('live.valued', tools.patience());
SELECT differences('live.valued', 'tools.expected');
-- Altering a joined table is no matter.
ALTER TABLE common.prices RENAME price TO cost;
ALTER TABLE common.prices ADD COLUMN note text, ADD PRIMARY KEY (code, cost);
ALTER TABLE common.prices RENAME TO costs;
ALTER TABLE common.costs SET SCHEMA tools;
DROP VIEW tools.expected;
CREATE VIEW tools.expected AS
  SELECT code, sum(value) AS value, sum(count)::bigint AS count FROM
    (TABLE tools.before
     UNION ALL
     SELECT code, sum(amount * cost), count(*) FROM (TABLE plain.events EXCEPT ALL TABLE tools.seen) e JOIN tools.costs USING (code) GROUP BY code) s
  GROUP BY code;
SELECT feed('events', rows(451, 480));
SELECT millrace.wait_for_latest('live.valued', tools.patience());
SELECT differences('live.valued', 'tools.expected');
DROP VIEW plain.valued;
DROP TABLE tools.costs;

\i sql/teardown.inc
