#!/usr/bin/env bash
#
# demo.sh - millrace on an empty machine, in one command.
#
# Installs what is missing, builds millrace into a private copy of PostgreSQL in a
# scratch directory, starts that server and a real Kafka on loopback, streams page
# views into a topic, shows three continuous views move, kills an ingest worker
# with kill -9 in the middle, compares the views with the same SELECTs over a plain
# table, and cleans up.  The exit code tells whether the views were exact.
#
# usage: scripts/demo.sh [EVENTS]        (600000)
#
# Without a terminal it prints the same lines one below the other.

set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PG_MAJOR=${PG_MAJOR:-15}
EVENTS=${1:-600000}
PARTS=60						# portions that the events are sent in
PORT=5432						# only names the socket; nothing listens on TCP

[[ $EVENTS =~ ^[0-9]+$ ]] && [ "$EVENTS" -ge "$PARTS" ] || die "EVENTS must be a number of at least $PARTS"

if [ -t 1 ]; then
	bold=$(tput bold 2>/dev/null) plain=$(tput sgr0 2>/dev/null) redraw=1
else
	bold='' plain='' redraw=
fi

headline() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# --- set-up ------------------------------------------------------------------

"$MR_ROOT/scripts/setup.sh" || exit 1

S=$(mktemp -d /tmp/millrace-demo.XXXXXX)
chmod 755 "$S"
feeder=
cleanup() {
	trap '' INT TERM
	[ -z "$feeder" ] || kill "$feeder" 2>/dev/null
	kill_below "$S"
	cd / && rm -rf "$S"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

as=()
if [ "$(id -u)" = 0 ]; then
	as=(runuser -u postgres --)
	chown postgres "$S"
fi

build() {
	copy_sources "$S/src" && private_server "$S" && cd "$S/src" &&
		make -s -j2 PG_CONFIG="$BIN/pg_config" && make -s install PG_CONFIG="$BIN/pg_config"
}

start_postgres() {
	"${as[@]}" "$BIN/initdb" -D "$S/data" -A trust --no-sync -E UTF8 --locale=C.UTF-8 &&
		cat >>"$S/data/postgresql.conf" <<-CONF &&
			shared_preload_libraries = 'millrace'
			listen_addresses = ''
			unix_socket_directories = '$S'
			port = $PORT
			fsync = off
			max_wal_size = 4GB
			autovacuum_naptime = 10s
		CONF
		"${as[@]}" "$BIN/pg_ctl" -D "$S/data" -l "$S/postgresql.log" -w start
}

step() {
	printf '%-52s' "$1"
	if "${@:2}" >"$S/step.log" 2>&1 </dev/null; then
		echo "done"
	else
		echo "FAILED"
		tail -n 30 "$S/step.log"
		exit 1
	fi
}

headline "1. Setting up"
step "building millrace" build
step "starting a scratch PostgreSQL $PG_MAJOR" start_postgres
step "starting a real Apache Kafka" "${as[@]}" "$MR_ROOT/scripts/kafka.sh" start "$S/kafka"
BROKER=$(cat "$S/kafka/bootstrap")

sql() { "$BIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$S" -p "$PORT" -U "$([ ${#as[@]} -gt 0 ] && echo postgres || id -un)" -d postgres "$@"; }

# --- streams and views ---------------------------------------------------------

headline "2. A topic, a stream, three continuous views"
cat >"$S/views.sql" <<SQL
CREATE EXTENSION millrace;

CREATE SERVER kafka FOREIGN DATA WRAPPER millrace
  OPTIONS ("bootstrap.servers" '$BROKER');
SELECT FROM millrace.create_topic('kafka', 'page_views', partitions => 4);

CREATE FOREIGN TABLE page_views (
  ts timestamptz, user_id bigint, url text, latency double precision,
  country text OPTIONS (path 'geo.country')
) SERVER kafka OPTIONS (topic 'page_views');

SELECT FROM millrace.create_continuous_view('views_per_minute', \$\$
  SELECT date_trunc('minute', ts) AS minute, count(*) AS hits,
         count(DISTINCT_COUNTRY) AS with_country, avg(latency) AS avg_latency, max(latency) AS worst
  FROM page_views GROUP BY 1
\$\$);
SELECT FROM millrace.create_continuous_view('top_pages', \$\$
  SELECT url, count(*) AS hits, count(*) FILTER (WHERE latency > 400) AS slow
  FROM page_views GROUP BY url HAVING count(*) > 10
\$\$);
SELECT FROM millrace.create_continuous_view('totals', \$\$
  SELECT count(*) AS hits, sum(latency) AS latency, min(ts) AS first, max(ts) AS last FROM page_views
\$\$);
SQL
sed -i 's/count(DISTINCT_COUNTRY)/count(country)/' "$S/views.sql"
sed 's/^/    /' "$S/views.sql"
sql -o /dev/null -f "$S/views.sql" || exit 1

# --- events --------------------------------------------------------------------

# The same events in a plain table: what the views are compared with in the end.
sql <<SQL || exit 1
CREATE TABLE events AS
  SELECT i AS n, timestamptz '2026-01-01 00:00:00+00' + i * interval '3 ms' AS ts, i * 7919::bigint % 5000 AS user_id,
         '/page/' || (i * 31::bigint % 97) AS url, (i * 104729::bigint % 4000) / 8.0::float8 AS latency,
         CASE WHEN i % 10 > 0 THEN (ARRAY['HU', 'SE', 'JP', 'BR'])[i % 4 + 1] END AS country
  FROM generate_series(1, $EVENTS) i;
SQL
mkdir "$S/events"
sql -At -c "COPY (SELECT json_build_object('ts', ts, 'user_id', user_id, 'url', url, 'latency', latency,
	'geo', json_build_object('country', country)) FROM events ORDER BY n) TO STDOUT" |
	split -n "r/$PARTS" -a 3 - "$S/events/" || exit 1

feed() {
	local f
	for f in "$S"/events/*; do
		kcat -q -P -b "$BROKER" -t page_views -X partitioner=random -X topic.partitioner=random <"$f" >/dev/null 2>&1 ||
			exit 1
		sleep 0.1
	done
}

show() {
	local title=$1
	if [ -n "$redraw" ]; then printf '\033[H\033[2J'; fi
	headline "$title"
	sql -c "SELECT to_char(hits, '999,999,999') AS all_hits, latency AS sum_of_latencies, last AS last_event FROM totals" \
		-c "SELECT minute, hits, with_country, round(avg_latency::numeric, 2) AS avg_latency, worst
		    FROM views_per_minute ORDER BY minute DESC LIMIT 4" \
		-c "SELECT url, hits, slow FROM top_pages ORDER BY hits DESC, url LIMIT 4" 2>&1
}

wait_for_server() {
	local i
	for ((i = 0; i < 300; i++)); do
		sql -c 'SELECT 1' >/dev/null 2>&1 && return
		sleep 0.1
	done
	die "PostgreSQL did not come back"
}

headline "3. $EVENTS events, and a kill -9 in the middle"
feed &
feeder=$!
killed=
frames=0
while kill -0 "$feeder" 2>/dev/null; do
	show "3. Views while events flow${killed:+   (an ingest worker was killed: kill -9)}"
	frames=$((frames + 1))
	if [ -z "$killed" ] && [ $frames -ge 6 ]; then
		pid=$(sql -At -c "SELECT pid FROM millrace.workers LIMIT 1")
		[ -n "$pid" ] && "${as[@]}" kill -9 "$pid" && killed=$pid
		wait_for_server
	fi
	sleep 0.5
done
wait "$feeder" || die "could not feed the topic"
feeder=

# --- the truth -------------------------------------------------------------------

for view in views_per_minute top_pages totals; do
	[ "$(sql -At -c "SELECT millrace.wait_for_latest('$view', timeout => '60s')")" = t ] ||
		die "$view did not get everything in time"
done
show "4. Everything is in"

check() {
	local view=$1 query=$2 rows
	rows=$(sql -At -c "SELECT count(*) FROM ((TABLE $view EXCEPT ALL $query)
		UNION ALL ($query EXCEPT ALL TABLE $view)) AS difference") || return
	printf '    %-20s %s rows, %s differences\n' "$view" "$(sql -At -c "SELECT count(*) FROM $view")" "$rows"
	[ "$rows" = 0 ]
}

headline "5. The views and the same SELECTs over a plain table of the events"
exact=0
check views_per_minute "SELECT date_trunc('minute', ts), count(*), count(country), avg(latency), max(latency)
	FROM events GROUP BY 1" || exact=1
check top_pages "SELECT url, count(*), count(*) FILTER (WHERE latency > 400) FROM events GROUP BY url
	HAVING count(*) > 10" || exact=1
check totals "SELECT count(*), sum(latency), min(ts), max(ts) FROM events" || exact=1

headline "6. How fast: a new view takes in the whole topic"
began=$(date +%s%N)
sql -o /dev/null -c "SELECT millrace.create_continuous_view('per_user', 'SELECT user_id, count(*) AS hits,
	avg(latency) AS latency FROM page_views GROUP BY user_id')" \
	-c "SELECT millrace.wait_for_latest('per_user', timeout => '60s')" || exact=1
ms=$((($(date +%s%N) - began) / 1000000))
check per_user "SELECT user_id, count(*), avg(latency) FROM events GROUP BY user_id" || exact=1
printf '    %s events in %s ms: %s messages/s, starting the worker included\n' "$EVENTS" "$ms" $((EVENTS * 1000 / ms))

if [ -z "$killed" ]; then
	headline "No worker could be killed while events flowed"
	exact=1
fi
if [ "$exact" = 0 ]; then
	headline "Exact, through a kill -9."
else
	headline "NOT EXACT"
fi
exit $exact
