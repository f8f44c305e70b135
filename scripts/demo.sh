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
# On a terminal the views are redrawn in place; without one, or on a very small
# one, each look at them is a line.

set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PG_MAJOR=${PG_MAJOR:-15}
EVENTS=${1:-600000}
PARTS=60						# portions that the events are sent in

if [ $# -gt 1 ] || [[ $EVENTS = -* ]]; then
	sed -n 's/^# usage: /usage: /p' "$0" >&2
	exit 2
fi
[[ $EVENTS =~ ^[0-9]+$ ]] && [ "$EVENTS" -ge "$PARTS" ] || die "EVENTS must be a number of at least $PARTS"

bold='' plain='' redraw=
if [ -t 1 ]; then
	bold=$(tput bold 2>/dev/null) plain=$(tput sgr0 2>/dev/null)
	[ "$(tput lines 2>/dev/null || echo 0)" -lt 24 ] || [ "$(tput cols 2>/dev/null || echo 0)" -lt 80 ] || redraw=1
fi

thousands() { sed ':a; s/\B[0-9]\{3\}\>/,&/; ta' <<<"$1"; }
headline() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# --- set-up ------------------------------------------------------------------

"$MR_ROOT/scripts/setup.sh" || exit 1

make_scratch millrace-demo

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
step "building millrace" build_scratch
step "starting a scratch PostgreSQL $PG_MAJOR" start_scratch "fsync = off" "max_wal_size = 4GB" "autovacuum_naptime = 10s"
step "starting a real Apache Kafka" start_scratch_kafka
BROKER=$(cat "$S/kafka/bootstrap")

export PGTZ=UTC
sql() { scratch_sql "$@"; }

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
         count(country) AS with_country,
         avg(latency) AS avg_latency, max(latency) AS worst
  FROM page_views GROUP BY 1
\$\$);
SELECT FROM millrace.create_continuous_view('top_pages', \$\$
  SELECT url, count(*) AS hits,
         count(*) FILTER (WHERE latency > 400) AS slow
  FROM page_views GROUP BY url HAVING count(*) > 10
\$\$);
SELECT FROM millrace.create_continuous_view('totals', \$\$
  SELECT count(*) AS hits, sum(latency) AS latency,
         min(ts) AS first, max(ts) AS last
  FROM page_views
\$\$);
SQL
sed 's/^/    /' "$S/views.sql"
sql -o /dev/null -f "$S/views.sql" || exit 1

headline "3. $(thousands "$EVENTS") events, and a kill -9 in the middle"

# --- events --------------------------------------------------------------------

# The same events in a plain table: what the views are compared with in the end.
sql <<SQL || exit 1
CREATE TABLE events AS
  SELECT i AS n, timestamptz '2026-01-01 00:00:00+00' + (i - 1) * interval '3 ms' AS ts, i * 7919::bigint % 5000 AS user_id,
         '/page/' || (i * 31::bigint % 97) AS url, (i * 104729::bigint % 4000) / 8.0::float8 AS latency,
         CASE WHEN i % 10 > 0 THEN (ARRAY['HU', 'SE', 'JP', 'BR'])[i % 4 + 1] END AS country
  FROM generate_series(1, $EVENTS) i;
SQL
mkdir "$S/events"
sql -At -c "COPY (SELECT json_build_object('ts', ts, 'user_id', user_id, 'url', url, 'latency', latency,
	'geo', json_build_object('country', country)) FROM events ORDER BY n) TO STDOUT" |
	split -l $(((EVENTS + PARTS - 1) / PARTS)) -a 3 - "$S/events/" || exit 1

feed() {
	local f fed=0
	for f in "$S"/events/*; do
		kcat -q -P -b "$BROKER" -t page_views -X partitioner=random -X topic.partitioner=random <"$f" >/dev/null 2>&1 ||
			exit 1
		fed=$((fed + $(wc -l <"$f")))
		echo "$fed" >"$S/fed"
		sleep 0.1
	done
}

# The three views, as a person would look at them.
tables() {
	printf '%s%s%s\n' "$bold" "$killed" "$plain"
	sql -P footer=off -c '\C totals' \
		-c "SELECT to_char(hits, 'FM999,999,999') || ' of ' || to_char($EVENTS, 'FM999,999,999') AS hits, latency,
			to_char(first, 'HH24:MI:SS') AS first, to_char(last, 'HH24:MI:SS') AS last FROM totals" \
		-c '\C views_per_minute' \
		-c "SELECT to_char(minute, 'HH24:MI') AS minute, hits, with_country, round(avg_latency::numeric, 2) AS avg_latency, worst
			FROM views_per_minute ORDER BY views_per_minute.minute DESC LIMIT 3" \
		-c '\C top_pages' \
		-c "SELECT url, hits, slow FROM top_pages ORDER BY hits DESC, url LIMIT 3" 2>&1
}

line() {
	sql -At -c "SELECT format('    %s hits until %s; the last minute %s; top page %s',
		to_char(hits, '999,999,999'), coalesce(to_char(last, 'HH24:MI:SS'), '-'),
		coalesce((SELECT format('%s (avg. latency %s)', hits, round(avg_latency::numeric, 2))
			FROM views_per_minute ORDER BY minute DESC LIMIT 1), '-'),
		coalesce((SELECT format('%s (%s)', url, hits) FROM top_pages ORDER BY hits DESC, url LIMIT 1), '-')) FROM totals" 2>&1
}

drawn=0
show() {
	local frame
	if [ -z "$redraw" ]; then
		line
		return
	fi
	frame=$(tables)
	# Over the previous frame, and away with what is left of it.
	[ $drawn = 0 ] || printf '\033[%dA' $drawn
	printf '%s\n' "${frame//$'\n'/$'\033[K\n'}"
	printf '\033[J'
	drawn=$(wc -l <<<"$frame")
}

wait_for_server() {
	local i
	for ((i = 0; i < 300; i++)); do
		sql -c 'SELECT 1' >/dev/null 2>&1 && return
		sleep 0.1
	done
	die "PostgreSQL did not come back"
}

# kill -9 of a worker; PostgreSQL then restarts all its processes, as always.
kill_worker() {
	local pid began
	pid=$(sql -At -c "SELECT pid FROM millrace.workers LIMIT 1") && [ -n "$pid" ] || return
	"${as[@]}" kill -9 "$pid" || return
	began=$(date +%s%N)
	sleep 0.1					# that the postmaster has seen it
	wait_for_server
	killed="kill -9 of the ingest worker, at event $(thousands "$(cat "$S/fed")"); server back after $((($(date +%s%N) - began) / 1000000)) ms"
	[ -n "$redraw" ] || printf '    %s\n' "$killed"
}

feed &
feeder=$!
background[feeder]=$feeder
killed=
frames=0
while kill -0 "$feeder" 2>/dev/null; do
	show
	frames=$((frames + 1))
	[ -n "$killed" ] || [ $frames -lt 8 ] || kill_worker
	sleep 0.4
done
wait "$feeder" || die "could not feed the topic"
unset "background[$feeder]"

# --- the truth -------------------------------------------------------------------

for view in views_per_minute top_pages totals; do
	[ "$(sql -At -c "SELECT millrace.wait_for_latest('$view', timeout => '60s')")" = t ] ||
		die "$view did not get everything in time"
done
show

check() {
	local view=$1 query=$2 rows
	rows=$(sql -At -c "SELECT count(*) FROM ((TABLE $view EXCEPT ALL $query)
		UNION ALL ($query EXCEPT ALL TABLE $view)) AS difference") || return
	printf '    %-20s %s rows, %s differences\n' "$view" "$(sql -At -c "SELECT count(*) FROM $view")" "$rows"
	[ "$rows" = 0 ]
}

headline "4. The views and the same SELECTs over a plain table of the events"
exact=0
check views_per_minute "SELECT date_trunc('minute', ts), count(*), count(country), avg(latency), max(latency)
	FROM events GROUP BY 1" || exact=1
check top_pages "SELECT url, count(*), count(*) FILTER (WHERE latency > 400) FROM events GROUP BY url
	HAVING count(*) > 10" || exact=1
check totals "SELECT count(*), sum(latency), min(ts), max(ts) FROM events" || exact=1

headline "5. How fast: a new view takes in the whole topic"
began=$(date +%s%N)
sql -o /dev/null -c "SELECT millrace.create_continuous_view('per_user', 'SELECT user_id, count(*) AS hits,
	avg(latency) AS latency FROM page_views GROUP BY user_id')" \
	-c "SELECT millrace.wait_for_latest('per_user', timeout => '60s')" || exact=1
ms=$((($(date +%s%N) - began) / 1000000))
check per_user "SELECT user_id, count(*), avg(latency) FROM events GROUP BY user_id" || exact=1
printf '    %s events in %s ms: %s messages/s, starting the worker included\n' \
	"$(thousands "$EVENTS")" "$ms" "$(thousands $((EVENTS * 1000 / ms)))"

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
