#!/usr/bin/env bash
#
# run.sh - how fast millrace is, beside a bare consumer of the same topic.
#
# Builds millrace into a private copy of PostgreSQL in a scratch directory, starts
# that server and a real Kafka on loopback, fills topics once, and measures the
# workloads in interleaved rounds: a bare librdkafka consumer (bare_consumer.c),
# the workload, the bare consumer again, the next workload.  Prints Markdown,
# writes JSON, cleans up.  Exits with 0 when every workload ran and its view held
# every message.
#
# usage: bench/run.sh [--quick] [--rounds N] [--messages N] [--json FILE]
#                     [--perf DIR] [WORKLOAD...]
#
#   --quick    fewer messages, one round, about two minutes
#   --rounds   how often each workload runs (3)
#   --messages how many in the topics (2000000; for C 5000000 whatever is said here)
#   --json     where the figures go (bench/results/latest.json)
#   --perf     profile the worker's main thread in each workload with perf record,
#              reports go there; the figures suffer
#
# Messages of 130 bytes of JSON in 4 partitions, see message.h.  Workloads:
#
#   N     count(*) only
#   L     (minute, url): count, avg, max; about 6,000 groups
#   H     (minute, user): count, sum, max; almost 600,000 groups
#   J     L joined to a table of 10,000 rows
#   W     20 aggregates over 10 columns by 5 keys, 157-byte messages
#   M     five different views at once
#   C     a new view catches up on 5 million messages while others are live
#   F     freshness: produce to visible, at 10, 1,000, 10,000 and 100,000 messages/s
#   U     updates of 10,000 hot groups at 50,000/s, for ten minutes (quick: one)
#   copy  peer: COPY of the same events into a table, then L's query once
#   py-L, py-H    peer: a consumer in Python by hand, with exact offsets
#
# Rates are from create_continuous_view to the end of wait_for_latest.

set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

PG_MAJOR=${PG_MAJOR:-15}
BENCH=$MR_ROOT/bench
PORT=5432						# only names the socket; nothing listens on TCP
ALL=(N L H J W M copy py-L py-H C F U)

quick=
rounds=
messages=
json=$BENCH/results/latest.json
perf=
workloads=()
while [ $# -gt 0 ]; do
	case $1 in
		--quick) quick=1 ;;
		--rounds) rounds=${2:?}; shift ;;
		--messages) messages=${2:?}; shift ;;
		--json) json=${2:?}; shift ;;
		--perf) perf=${2:?}; shift ;;
		-*) sed -n 's/^# usage: /usage: /p' "$0" >&2; exit 2 ;;
		*)
			[[ " ${ALL[*]} " == *" $1 "* ]] || die "no workload named \"$1\""
			workloads+=("$1")
			;;
	esac
	shift
done
[ ${#workloads[@]} -gt 0 ] || workloads=("${ALL[@]}")
if [ -n "$quick" ]; then
	EVENTS=400000 HISTORY=1000000 FRESH_SECONDS=4 LIVE_SECONDS=8 HOT_SECONDS=60
else
	EVENTS=2000000 HISTORY=5000000 FRESH_SECONDS=20 LIVE_SECONDS=25 HOT_SECONDS=600
fi
EVENTS=${messages:-$EVENTS}
[[ $EVENTS =~ ^[1-9][0-9]*$ ]] || die "--messages needs a number"
rounds=${rounds:-${quick:+1}}
rounds=${rounds:-3}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || die "--rounds needs a number"
mkdir -p "$(dirname "$json")" || exit 1

# --- set-up --------------------------------------------------------------------

"$MR_ROOT/scripts/setup.sh" || exit 1

S=$(mktemp -d /tmp/millrace-bench.XXXXXX)
chmod 755 "$S"
background=()					# processes to end with us, by process id
cleanup() {
	local pid
	trap '' INT TERM
	for pid in "${background[@]}"; do kill "$pid" 2>/dev/null; done
	kill_below "$S"
	cd / && rm -rf "$S"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

as=()
user=$(id -un)
if [ "$(id -u)" = 0 ]; then
	as=(runuser -u postgres --)
	user=postgres
	chown postgres "$S"
fi
CONNINFO="host=$S port=$PORT user=$user dbname=postgres"

build() {
	local program
	copy_sources "$S/src" && private_server "$S" && cd "$S/src" &&
		make -s -j2 PG_CONFIG="$BIN/pg_config" ${perf:+PROFILE="-g -fno-omit-frame-pointer"} &&
		make -s install PG_CONFIG="$BIN/pg_config" || return
	for program in bare_consumer produce freshness; do
		gcc -O2 -Wall -std=gnu99 -I"$("$BIN/pg_config" --includedir)" -o "$S/$program" "$BENCH/$program.c" \
			-lrdkafka -lpq -pthread || return
	done
}

start_postgres() {
	"${as[@]}" "$BIN/initdb" -D "$S/data" -A trust --no-sync -E UTF8 --locale=C.UTF-8 &&
		cat >>"$S/data/postgresql.conf" <<-CONF &&
			shared_preload_libraries = 'millrace'
			listen_addresses = ''
			unix_socket_directories = '$S'
			port = $PORT
			shared_buffers = 512MB
			max_wal_size = 16GB
			checkpoint_timeout = 30min
			timezone = 'UTC'
		CONF
		"${as[@]}" "$BIN/pg_ctl" -D "$S/data" -l "$S/postgresql.log" -w start
}

sql() { "$BIN/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$S" -p "$PORT" -U "$user" -d postgres "$@"; }

step() {
	say "$1"
	if ! "${@:2}" >"$S/step.log" 2>&1 </dev/null; then
		tail -n 30 "$S/step.log" >&2
		die "failed: $1"
	fi
}

step "building" build
step "starting PostgreSQL" start_postgres
# The heap that the tests use makes the broker the slowest of all.
step "starting Kafka" "${as[@]}" env KAFKA_HEAP=512m "$MR_ROOT/scripts/kafka.sh" start "$S/kafka"
BROKER=$(cat "$S/kafka/bootstrap")
POSTMASTER=$(head -n 1 "$S/data/postmaster.pid")
sql -o /dev/null -c "CREATE EXTENSION millrace" \
	-c "CREATE SERVER kafka FOREIGN DATA WRAPPER millrace OPTIONS (\"bootstrap.servers\" '$BROKER')" || exit 1

# --- records -------------------------------------------------------------------

round=0
failures=0

record() { printf '%s\t%s\t%s\t%s\n' "$round" "$1" "$2" "$3" >>"$S/records"; }

# NAME VALUE lines of a file
record_file() {
	local workload=$1 prefix=$2 file=$3 name value
	while read -r name value; do record "$workload" "$prefix$name" "$value"; done <"$file"
}

failed() {
	say "  $1: $2"
	record "$1" note "$2"
	failures=$((failures + 1))
	return 1
}

describe_run() {
	record run rounds "$rounds"
	record run machine "$(nproc) CPUs ($(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)), $(awk '/^MemTotal/ {printf "%.0f GB", $2 / 1048576}' /proc/meminfo) of memory, everything on it: broker, server, clients"
	record run versions "PostgreSQL $("$BIN/pg_config" --version | cut -d ' ' -f 2), librdkafka $(dpkg-query -W -f '${Version}' librdkafka1 2>/dev/null), Apache Kafka $(cat "$MILLRACE_CACHE/kafka/.complete")"
	record run settings "$EVENTS messages in 4 partitions; shared_buffers 512MB, fsync on, everything of millrace at its default"
	record run load "$(cut -d ' ' -f 1 /proc/loadavg)"
	[ -z "$perf" ] || record run note "under perf: the figures are not to be used"
}

# --- topics and streams ----------------------------------------------------------

declare -A have_topic=()

# NAME KIND COUNT: made and filled when first asked for
topic() {
	[ -z "${have_topic[$1]:-}" ] || return 0
	have_topic[$1]=1
	sql -o /dev/null -c "SELECT millrace.create_topic('kafka', '$1', partitions => 4)" || exit 1
	[ "$3" = 0 ] && return
	say "filling topic $1: $3 messages"
	"$S/produce" "$BROKER" "$1" "$2" "$3" || die "could not fill topic $1"
}

EVENT_COLUMNS="ts timestamptz, user_id bigint, url text, latency double precision, country text, agent text,
	seq bigint, part integer OPTIONS (metadata 'partition')"
WIDE_COLUMNS="k0 text, k1 text, k2 integer, k3 integer, k4 text, c0 integer, c1 integer, c2 integer, c3 integer,
	c4 integer, c5 double precision, c6 double precision, c7 double precision, c8 double precision, c9 double precision"

# A stream of its own for each measurement, so that its worker is a new one.
stream() {
	local topic=$1 columns=$EVENT_COLUMNS
	[ "$topic" != wide ] || columns=$WIDE_COLUMNS
	sql -c "CREATE FOREIGN TABLE stream ($columns) SERVER kafka OPTIONS (topic '$topic')" || exit 1
}

# Drops the stream with its views and waits until no worker is left.
drop_stream() {
	local i
	sql -c "SET client_min_messages = error" -c "DROP FOREIGN TABLE stream CASCADE"
	for ((i = 0; i < 100; i++)); do
		[ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace worker'")" != 0 ] || return 0
		sleep 0.1
	done
	die "workers of a dropped stream do not end"
}

# --- measuring ---------------------------------------------------------------------

bare() {
	local workload=$1 topic=$2
	"$S/bare_consumer" "$BROKER" "$topic" 4 >"$S/bare.out" || failed "$workload" "the bare consumer failed"
	record_file "$workload" bare_ "$S/bare.out"
}

sampler=
start_sampler() {
	local workload=$1 regex=$2 command=()
	if [ -n "$perf" ] && [ "$regex" = "$WORKERS" ]; then
		command=(perf record -q -g -e cpu-clock -F 997 -t %p -o "$S/$workload.perf")
	fi
	rm -f "$S/sample.ready"
	"$BENCH/sample.pl" "$S/sample.ready" "$POSTMASTER" "$regex" "${command[@]}" >"$S/sample.out" &
	sampler=$!
	background[sampler]=$sampler
	until [ -e "$S/sample.ready" ]; do
		kill -0 "$sampler" 2>/dev/null || die "the sampler does not start"
		sleep 0.01
	done
}

stop_sampler() {
	local workload=$1 prefix=${2:-}
	kill -TERM "$sampler"
	wait "$sampler"
	unset "background[$sampler]"
	record_file "$workload" "$prefix" "$S/sample.out"
	[ -s "$S/$workload.perf" ] || return 0
	mkdir -p "$perf"
	# Functions that have no symbol are one line for each library.
	perf report -i "$S/$workload.perf" --stdio --no-children -g none --sort dso,sym 2>/dev/null |
		awk '/^ *[0-9.]+%/ {name = $4 ~ /^0x/ ? "(no symbol)" : $4; for (i = 5; i <= NF; i++) name = name " " $i
			sum[$2 " " name] += $1; dso[$2] += $1}
			END {for (d in dso) printf "%7.2f%% all of %s\n", dso[d], d; for (s in sum) printf "%7.2f%% %s\n", sum[s], s}' |
		sort -rn >"$perf/$workload.flat.txt"
	perf report -i "$S/$workload.perf" --stdio --no-children -g caller,0.5,callee --percent-limit 1 \
		>"$perf/$workload.callers.txt" 2>/dev/null
}

WORKERS='millrace worker'

wal_position() {
	sql -F ' ' -c "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, wal_bytes FROM pg_stat_wal"
}

record_wal() {
	local workload=$1 before=$2
	local was stat is is_stat
	read -r was stat <<<"$before"
	read -r is is_stat < <(wal_position)
	record "$workload" wal $((is - was))
	record "$workload" wal_stat $((is_stat - stat))
}

record_worker() {
	local name value
	sql -F ' ' -c "SELECT sum(messages), sum(decode_ms), sum(aggregate_ms), sum(merge_ms), sum(commit_ms),
		sum(decode_ms + aggregate_ms + merge_ms + commit_ms), sum(batches) FROM millrace.workers" >"$S/worker.out"
	read -r -a value <"$S/worker.out"
	for name in worker_messages decode_ms aggregate_ms merge_ms commit_ms step_ms batches; do
		record "$1" $name "${value[0]:-0}"
		value=("${value[@]:1}")
	done
}

# fails when the view does not get everything in time
wait_sql() { echo "SELECT FROM (SELECT 1 / millrace.wait_for_latest('$1', timeout => '300s')::int) AS waited;"; }

view_sql() { printf "SELECT FROM millrace.create_continuous_view('%s', \$\$ %s \$\$);\n" "$1" "$2"; }

# WORKLOAD TOPIC COUNT, views by name in the array of the caller: how long from
# creating them to having it all.  The first view must hold COUNT messages by its
# column hits, exactly.
measure_views() {
	local workload=$1 topic=$2 count=$3 name began ended before
	local -n of=$4
	{
		echo "SET client_min_messages = error; SELECT extract(epoch FROM clock_timestamp()); BEGIN;"
		for name in "${!of[@]}"; do view_sql "$name" "${of[$name]}"; done
		echo "COMMIT;"
		for name in "${!of[@]}"; do
			wait_sql "$name"
		done
		echo "SELECT extract(epoch FROM clock_timestamp());"
	} >"$S/measure.sql"
	stream "$topic"
	before=$(wal_position)
	start_sampler "$workload" "$WORKERS"
	if sql -f "$S/measure.sql" >"$S/measure.out" 2>"$S/measure.err"; then
		read -r began ended < <(grep . "$S/measure.out" | tr '\n' ' ')
		record "$workload" messages "$count"
		record "$workload" seconds "$(awk "BEGIN {print $ended - $began}")"
		say "  $(awk "BEGIN {printf \"%s: %.0f messages/s\", \"$workload\", $count / ($ended - $began)}")"
	else
		failed "$workload" "$(tail -n 1 "$S/measure.err")"
	fi
	stop_sampler "$workload"
	record_worker "$workload"
	record_wal "$workload" "$before"
}

# The view's hits add up to the topic's messages, or the workload has failed.
check_hits() {
	local workload=$1 count=$2 view=$3 hits
	hits=$(sql -c "SELECT sum(hits) FROM $view")
	[ "$hits" = "$count" ] || failed "$workload" "$view holds $hits of $count messages"
}

run_views() {
	local workload=$1 topic=$2 count=$3 array=$4 check=$5
	measure_views "$workload" "$topic" "$count" "$array"
	check_hits "$workload" "$count" "$check"
	drop_stream
}

# --- workloads -----------------------------------------------------------------------

L_QUERY="SELECT date_trunc('minute', ts) AS minute, url, count(*) AS hits, avg(latency) AS mean, max(latency) AS worst
	FROM stream GROUP BY 1, 2"
H_QUERY="SELECT date_trunc('minute', ts) AS minute, user_id, count(*) AS hits, sum(latency) AS total,
	max(latency) AS worst FROM stream GROUP BY 1, 2"

run_N() {
	# shellcheck disable=SC2034
	local -A views=([n]="SELECT count(*) AS hits FROM stream")
	run_views N events "$EVENTS" views n
}

run_L() {
	# shellcheck disable=SC2034
	local -A views=([l]=$L_QUERY)
	run_views L events "$EVENTS" views l
}

run_H() {
	# shellcheck disable=SC2034
	local -A views=([h]=$H_QUERY)
	run_views H events "$EVENTS" views h
}

run_J() {
	# shellcheck disable=SC2034
	local -A views=([j]="SELECT date_trunc('minute', ts) AS minute, url, count(*) AS hits, avg(latency) AS mean,
		max(latency * weight) AS worst FROM stream JOIN users USING (user_id) GROUP BY 1, 2")
	sql -c "CREATE TABLE IF NOT EXISTS users (user_id bigint PRIMARY KEY, weight double precision)" \
		-c "INSERT INTO users SELECT i, i % 7 / 2.0 FROM generate_series(0, 9999) i ON CONFLICT DO NOTHING" \
		-c "ANALYZE users" 2>/dev/null
	run_views J events "$EVENTS" views j
}

run_W() {
	# shellcheck disable=SC2034
	local -A views=([w]="SELECT k0, k1, k2, k3, k4, count(*) AS hits, sum(c0) AS s0, max(c0) AS x0, min(c1) AS n1,
		avg(c1) AS a1, sum(c2) AS s2, max(c2) AS x2, count(c3) AS c3, avg(c3) AS a3, min(c4) AS n4, max(c4) AS x4,
		sum(c5) AS s5, max(c5) AS x5, min(c6) AS n6, avg(c6) AS a6, sum(c7) AS s7, min(c7) AS n7, max(c8) AS x8,
		avg(c8) AS a8, sum(c9) AS s9 FROM stream GROUP BY 1, 2, 3, 4, 5")
	run_views W wide "$EVENTS" views w
}

run_M() {
	# shellcheck disable=SC2034
	local -A views=([m1]=$L_QUERY [m2]="SELECT count(*) AS hits, min(ts) AS since, max(ts) AS until FROM stream"
		[m3]="SELECT country, count(*) AS hits, avg(latency) AS mean FROM stream GROUP BY 1"
		[m4]="SELECT user_id, count(*) AS hits, max(latency) AS worst FROM stream GROUP BY 1"
		[m5]="SELECT url, count(*) FILTER (WHERE latency > 400) AS slow, count(*) AS hits FROM stream GROUP BY 1")
	run_views M events "$EVENTS" views m1
}

# A client's seconds and the server's CPU for it: WORKLOAD COMMAND...
measure_peer() {
	local workload=$1 before began
	shift
	before=$(wal_position)
	start_sampler "$workload" '\[local\]|COPY|CREATE TABLE'
	began=$(date +%s%N)
	if "$@" >"$S/peer.out" 2>"$S/peer.err"; then
		record "$workload" messages "$EVENTS"
		grep -q '^seconds ' "$S/peer.out" ||
			record "$workload" seconds "$(awk "BEGIN {print ($(date +%s%N) - $began) / 1e9}")"
		stop_sampler "$workload" server_
		record_wal "$workload" "$before"
	else
		stop_sampler "$workload" server_
		failed "$workload" "$(tail -n 1 "$S/peer.err")"
	fi
}

peer_copy() {
	sql -c "CREATE UNLOGGED TABLE IF NOT EXISTS nothing ()" -c "DROP TABLE IF EXISTS raw, raw_l" \
		-c "CREATE TABLE raw (ts timestamptz, user_id bigint, url text, latency double precision, country text)" 2>/dev/null
	"$S/produce" - - csv "$EVENTS" | sql -c "\\copy raw FROM STDIN (FORMAT csv)" \
		-c "CREATE TABLE raw_l AS ${L_QUERY/FROM stream/FROM raw}"
}

run_copy() {
	measure_peer copy peer_copy
	record copy main_cpu "$(awk '$1 == "main_cpu" {print $2}' "$S/sample.out")"
	record copy guarantee "COPY of the columns, no Kafka and no JSON, and L's query run once; durable, but every further answer reads the whole table again, and what a crash leaves half done the client has to find out; CPU is the server's"
}

# A virtual environment in the cache; 1 when it cannot be made.
python_peer() {
	PYTHON=$MILLRACE_CACHE/bench-venv/bin/python
	[ ! -e "$MILLRACE_CACHE/bench-venv/.complete" ] || return 0
	[ -z "${python_failed:-}" ] || return 1
	say "fetching the Python peer's packages"
	if rm -rf "$MILLRACE_CACHE/bench-venv" && mkdir -p "$MILLRACE_CACHE" &&
		/usr/bin/env python3 -m venv "$MILLRACE_CACHE/bench-venv" &&
		timeout 120 "$PYTHON" -m pip install -q confluent-kafka orjson psycopg2-binary &&
		touch "$MILLRACE_CACHE/bench-venv/.complete"; then
		return 0
	fi >"$S/venv.log" 2>&1
	python_failed=1
	return 1
}

run_python() {
	local workload=$1 kind=$2
	if ! python_peer; then
		record "$workload" note "skipped, its packages could not be installed: $(tail -n 1 "$S/venv.log")"
		say "  $workload: skipped"
		return
	fi
	measure_peer "$workload" "$PYTHON" "$BENCH/peer_consumer.py" "$BROKER" events "$kind" "$CONNINFO"
	record_file "$workload" '' "$S/peer.out"
	record "$workload" guarantee "confluent-kafka, orjson, a dictionary, upserts and offsets in one transaction every 100,000 messages: exact; CPU is the Python process's alone"
}

run_py-L() { run_python py-L L; }
run_py-H() { run_python py-H H; }

# --- workloads that run once ---------------------------------------------------------

SEEN_QUERY="SELECT part, max(seq) AS seq, count(*) AS hits, avg(latency) AS mean FROM stream GROUP BY part"

measure_freshness() {
	local workload=$1 topic=$2 rate=$3 seconds=$4
	"$S/freshness" "$BROKER" "$topic" "$CONNINFO" "SELECT part, seq FROM seen" "$rate" "$seconds" >"$S/fresh.out" ||
		failed "$workload" "not every message was seen"
	record_file "$workload" '' "$S/fresh.out"
}

run_F() {
	local rate topic
	for rate in 10 1000 10000 100000; do
		topic=fresh_$rate
		topic $topic event 0
		stream $topic
		{ view_sql seen "$SEEN_QUERY"; view_sql l "$L_QUERY"; } | sql -o /dev/null
		sql -o /dev/null -c "SELECT millrace.wait_for_latest('seen', timeout => '30s')"
		measure_freshness "F $rate/s" $topic $rate "$FRESH_SECONDS"
		drop_stream
	done
}

# Two views are live, and fed and watched, while a third takes in everything.
run_C() {
	local pid before began ended
	stream history
	{ view_sql seen "$SEEN_QUERY"; view_sql l "$L_QUERY"; } | sql -o /dev/null
	sql -o /dev/null -c "SELECT millrace.wait_for_latest('seen', timeout => '300s')"
	measure_freshness "C live" history 10000 "$LIVE_SECONDS" &
	pid=$!
	background[pid]=$pid
	sleep 1
	before=$(wal_position)
	start_sampler C "$WORKERS"
	began=$(date +%s%N)
	{
		view_sql late "${L_QUERY//minute/hour}"
		wait_sql late
	} | sql -o /dev/null || failed C "the new view did not catch up"
	ended=$(date +%s%N)
	record C messages "$HISTORY"
	record C seconds "$(awk "BEGIN {print ($ended - $began) / 1e9}")"
	record C note "CPU and WAL are those of the live views, which take 10,000 messages/s, too; their freshness meanwhile is \"C live\""
	stop_sampler C
	record_wal C "$before"
	wait "$pid"
	unset "background[$pid]"
	sql -o /dev/null -c "SELECT millrace.wait_for_latest('late', timeout => '30s')"
	[ "$(sql -c "SELECT sum(hits) = (SELECT sum(hits) FROM seen) FROM late")" = t ] ||
		failed C "the view that caught up differs from the live one"
	drop_stream
}

percentile() { sort -n | awk -v p="$1" '{v[NR] = $1} END {i = int(NR * p / 100 + 0.5); print NR ? v[i < 1 ? 1 : i] / 1000 : 0}'; }

run_U() {
	local feeder reader matrel_max=0 size before began
	stream hot
	view_sql hot "SELECT user_id, count(*) AS hits, avg(latency) AS mean, max(latency) AS worst FROM stream
		GROUP BY user_id" | sql -o /dev/null
	printf '\\set u random(0, 9999)\nSELECT * FROM hot WHERE user_id = :u;\n' >"$S/point.sql"
	echo "SELECT sum(hits), max(worst) FROM hot;" >"$S/scan.sql"
	before=$(wal_position)
	start_sampler U "$WORKERS"
	"$S/produce" "$BROKER" hot event $((HOT_SECONDS * 50000)) 50000 &
	feeder=$!
	(cd "$S" && exec "$BIN/pgbench" -n -h "$S" -p "$PORT" -U "$user" -f point.sql@9 -f scan.sql@1 -R 50 \
		-T "$HOT_SECONDS" -l --log-prefix="$S/reads" postgres) >"$S/pgbench.out" 2>&1 &
	reader=$!
	background[feeder]=$feeder background[reader]=$reader
	while kill -0 "$feeder" 2>/dev/null; do
		size=$(sql -c "SELECT pg_total_relation_size('hot_mrel')")
		[ "$size" -le "$matrel_max" ] || matrel_max=$size
		sleep 1
	done
	wait "$feeder" || failed U "the producer failed"
	began=$(date +%s%N)
	[ "$(sql -c "SELECT millrace.wait_for_latest('hot', timeout => '120s')")" = t ] || failed U "the view is behind"
	record U end_lag_ms $((($(date +%s%N) - began) / 1000000))
	wait "$reader"
	unset "background[$feeder]" "background[$reader]"
	record U messages $((HOT_SECONDS * 50000))
	record U seconds "$HOT_SECONDS"
	stop_sampler U
	record_worker U
	record_wal U "$before"
	record U paced 1
	bare U hot
	check_hits U $((HOT_SECONDS * 50000)) hot
	record U groups "$(sql -c "SELECT count(*) FROM hot")"
	record U matrel_bytes "$(sql -c "SELECT pg_total_relation_size('hot_mrel')")"
	record U matrel_bytes_max "$matrel_max"
	sql -c "CREATE TABLE hot_live (LIKE hot_mrel INCLUDING INDEXES)" -c "INSERT INTO hot_live TABLE hot_mrel" 2>/dev/null
	record U live_bytes "$(sql -c "SELECT pg_total_relation_size('hot_live')")"
	sql -c "DROP TABLE hot_live"
	record U hot_percent "$(sql -c "SELECT coalesce(100.0 * n_tup_hot_upd / nullif(n_tup_upd, 0), 0)
		FROM pg_stat_user_tables WHERE relname = 'hot_mrel'")"
	record U autovacuums "$(sql -c "SELECT autovacuum_count FROM pg_stat_user_tables WHERE relname = 'hot_mrel'")"
	record U point_p50_ms "$(awk '$4 == 0 {print $3}' "$S"/reads.* | percentile 50)"
	record U point_p99_ms "$(awk '$4 == 0 {print $3}' "$S"/reads.* | percentile 99)"
	record U scan_p50_ms "$(awk '$4 == 1 {print $3}' "$S"/reads.* | percentile 50)"
	record U scan_p99_ms "$(awk '$4 == 1 {print $3}' "$S"/reads.* | percentile 99)"
	drop_stream
}

# --- the run -------------------------------------------------------------------------

wanted() { [[ " ${workloads[*]} " == *" $1 "* ]]; }

topic_of() {
	case $1 in
		W) echo "wide wide $EVENTS" ;;
		C) echo "history event $HISTORY" ;;
		U) echo "hot event 0" ;;
		F) ;;
		*) echo "events event $EVENTS" ;;
	esac
}

describe_run
for workload in "${ALL[@]}"; do
	wanted "$workload" || continue
	read -r name kind count < <(topic_of "$workload")
	[ -z "$name" ] || topic "$name" "$kind" "$count"
done
# The first reader of a topic finds the broker cold.
[ -z "${have_topic[events]:-}" ] || "$S/bare_consumer" "$BROKER" events 4 >/dev/null

for ((round = 1; round <= rounds; round++)); do
	for workload in N L H J W M copy py-L py-H; do
		wanted "$workload" || continue
		say "round $round of $rounds: $workload"
		read -r name _ < <(topic_of "$workload")
		bare "$workload" "$name"
		"run_$workload"
	done
done
round=1
for workload in C F U; do
	wanted "$workload" || continue
	say "$workload"
	[ "$workload" != C ] || bare C history
	"run_$workload"
done

"$BENCH/report.pl" "$S/records" "$json" || failures=$((failures + 1))
[ "$failures" = 0 ] || say "$failures failure(s)"
[ "$failures" = 0 ]
