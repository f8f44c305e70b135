#!/usr/bin/env bash
#
# tables.sh - what a continuous view over a table costs those who insert.
#
# Three tables of the same columns: a plain one; one that is attached, with a view of 1,000
# groups (count, sum, max); one with a statement trigger of PostgreSQL's that upserts the same
# into a table by hand.  Single-row transactions by two pgbench clients, then COPY.  Each prints
# transactions or rows per second, and the server's CPU for each: on a busy machine only the
# latter says something.  At the end the view must equal its query, and the table by hand.
#
# usage: bench/tables.sh [--no-setup] [SECONDS [ROWS]]      default 15, 1000000

set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

if [ "${1:-}" = --no-setup ]; then
	shift
else
	"$MR_ROOT/scripts/setup.sh" || exit 1
fi
seconds=${1:-15}
rows=${2:-1000000}

make_scratch millrace-tables
build_scratch >"$S/build.log" 2>&1 || die "could not build; see $S/build.log"
start_scratch "max_connections = 20" "jit = off" "max_wal_size = 4GB" "shared_buffers = 256MB" "autovacuum = off" \
	"synchronous_commit = ${SYNCHRONOUS_COMMIT:-on}" >"$S/start.log" 2>&1 || die "could not start a server"

# CPU seconds of all of the postmaster's processes that have ended
cpu_of_ended() { awk -v hz="$(getconf CLK_TCK)" '{ print ($16 + $17) / hz }' "/proc/$(head -n 1 "$S/data/postmaster.pid")/stat"; }

scratch_sql <<'SQL' >/dev/null
CREATE EXTENSION millrace;
CREATE TABLE plain (id bigserial, k int, amount numeric, ts timestamptz DEFAULT now());
CREATE TABLE attached (LIKE plain INCLUDING ALL);
CREATE TABLE by_hand (LIKE plain INCLUDING ALL);
SELECT millrace.attach_table('attached');
SELECT millrace.create_continuous_view('per_k',
  'SELECT k, count(*) AS n, sum(amount) AS total, max(ts) AS last FROM attached GROUP BY k');
CREATE TABLE sums (k int PRIMARY KEY, n bigint, total numeric, last timestamptz) WITH (fillfactor = 70);
CREATE FUNCTION add_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO sums AS s SELECT k, count(*), sum(amount), max(ts) FROM added GROUP BY k ORDER BY k
  ON CONFLICT (k) DO UPDATE SET n = s.n + excluded.n, total = s.total + excluded.total, last = greatest(s.last, excluded.last);
  RETURN NULL;
END $$;
CREATE TRIGGER add_up AFTER INSERT ON by_hand REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION add_up();
SQL
for table in plain attached by_hand; do
	printf '\\set k random(1, 1000)\nINSERT INTO %s (k, amount) VALUES (:k, 1.5);\n' "$table" >"$S/$table.pgbench"
done
chmod a+r "$S"/*.pgbench

single() {
	local table=$1 before tps done
	"${as[@]}" "$BIN/psql" -X -q -h "$S" -p "$PORT" -U "$pg_user" -d postgres -c CHECKPOINT
	before=$(cpu_of_ended)
	"${as[@]}" "$BIN/pgbench" -n -M prepared -c 2 -j 1 -T "$seconds" -f "$S/$table.pgbench" -h "$S" -p "$PORT" \
		-U "$pg_user" postgres >"$S/pgbench.out" 2>&1 || die "pgbench failed: $(cat "$S/pgbench.out")"
	tps=$(awk '/^tps/ { print $3 }' "$S/pgbench.out")
	done=$(awk '/^number of transactions actually processed/ { print int($6) }' "$S/pgbench.out")
	awk -v t="$table" -v tps="$tps" -v cpu="$(echo "$before $(cpu_of_ended)" | awk '{ print $2 - $1 }')" -v n="$done" \
		'BEGIN { printf "%-10s single rows   %8.0f/s   %6.0f us CPU each\n", t, tps, cpu / n * 1e6 }'
}

bulk() {
	local table=$1
	scratch_sql -At -v table="$table" -v file="$S/rows.csv" <<'SQL' | awk -v t="$1" -v n="$rows" -v hz="$(getconf CLK_TCK)" '
		{ cpu[NR] = ($14 + $15) / hz; wall[NR] = $NF }
		END { printf "%-10s COPY          %8.0f/s   %6.2f us CPU each\n", t, n / (wall[2] - wall[1]), (cpu[2] - cpu[1]) / n * 1e6 }'
SELECT rtrim(pg_read_file('/proc/' || pg_backend_pid() || '/stat', 0, 1000), E'\n') || ' ' || extract(epoch FROM clock_timestamp());
COPY :table (k, amount) FROM :'file' (FORMAT csv);
SELECT rtrim(pg_read_file('/proc/' || pg_backend_pid() || '/stat', 0, 1000), E'\n') || ' ' || extract(epoch FROM clock_timestamp());
SQL
}

awk -v n="$rows" 'BEGIN { srand(1); for (i = 0; i < n; i++) print int(rand() * 1000) + 1 ",1.5" }' >"$S/rows.csv"
chmod a+r "$S/rows.csv"
for table in plain attached by_hand; do single "$table"; done
for table in plain attached by_hand; do bulk "$table"; done

wrong=$(scratch_sql -At -c "
	SELECT (SELECT count(*) FROM (TABLE per_k EXCEPT SELECT k, count(*), sum(amount), max(ts) FROM attached GROUP BY k) d)
	     + (SELECT count(*) FROM (TABLE sums EXCEPT SELECT k, count(*), sum(amount), max(ts) FROM by_hand GROUP BY k) d)")
[ "$wrong" = 0 ] || die "$wrong groups are wrong"
echo "both are exact"
