#!/usr/bin/env bash
#
# run.sh - how fast millrace is, beside a bare consumer of the same topic.
#
# Builds millrace into a private copy of PostgreSQL in a scratch directory, starts
# that server and a real Kafka on loopback, fills topics once, and measures the
# workloads in interleaved rounds: a bare librdkafka consumer (bare_consumer.c),
# the workload, the bare consumer again, the next workload.  Prints Markdown,
# writes JSON, cleans up.  Exits with 0 when every workload ran and its view held
# every message; L, H and the peers are compared group by group with a plain table.
#
# usage: bench/run.sh [--quick] [--rounds N] [--messages N] [--json FILE]
#                     [--perf DIR] [WORKLOAD...]
#
#   --quick    fewer messages, one round, about two minutes
#   --rounds   how often each workload runs (3)
#   --messages how many in the topics (2000000; C, R and S have their own numbers)
#   --json     where the figures go (bench/results/latest.json)
#   --perf     profile the worker's main thread in each workload with perf record,
#              reports go there; the figures suffer
#
# Messages of 130 bytes of JSON in 4 partitions, see message.h.  Workloads:
#
#   N     count(*) only
#   L     (minute, url): count, avg, max; about 6,000 groups
#   H     (minute, user): count, sum, max; almost 600,000 groups
#   Lc    L with a change feed
#   Hc    H with a change feed
#   J     L joined to a table of 10,000 rows
#   W     20 aggregates over 10 columns by 5 keys, 157-byte messages
#   M     five different views at once
#   C     a new view catches up on 5 million messages while others are live
#   F     freshness: produce to visible, at 10, 1,000, 10,000 and 100,000 messages/s
#   U     updates of 10,000 hot groups at 50,000/s, for ten minutes (quick: 45 s)
#   W2    W by one worker and by two, one after the other
#   R     reading: a view of a million groups beside a table of the same contents
#   S     restart of the server to the first commit, with a view of 5 million groups
#   copy  peer: COPY of the same events into a table, then L's query once
#   py-L, py-H        peer: a consumer in Python by hand
#   ks-L, ks-H        peer: Kafka Streams
#   flink-L, flink-H  peer: Flink SQL
#
# Peers other than copy are fetched into the cache when they are asked for by name, and
# otherwise left out where they are not there; the two in Java also with --quick.
#
# Rates are from create_continuous_view to the end of wait_for_latest; those of the peers in
# Java from their first message on.

set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

PG_MAJOR=${PG_MAJOR:-15}
BENCH=$MR_ROOT/bench
ALL=(N L Lc H Hc J W W2 M copy py-L py-H ks-L ks-H flink-L flink-H C F U R S)

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
if [ -n "$quick" ]; then
	EVENTS=400000 HISTORY=1000000 FRESH_SECONDS=4 LIVE_SECONDS=8 HOT_SECONDS=45
	READ_GROUPS=100000 RESTART_GROUPS=500000
else
	EVENTS=2000000 HISTORY=5000000 FRESH_SECONDS=20 LIVE_SECONDS=25 HOT_SECONDS=600
	READ_GROUPS=1000000 RESTART_GROUPS=5000000
fi
EVENTS=${messages:-$EVENTS}
[[ $EVENTS =~ ^[1-9][0-9]*$ ]] || die "--messages needs a number"
rounds=${rounds:-${quick:+1}}
rounds=${rounds:-3}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || die "--rounds needs a number"
mkdir -p "$(dirname "$json")" || exit 1

# --- set-up --------------------------------------------------------------------

"$MR_ROOT/scripts/setup.sh" || exit 1

. "$BENCH/peers.sh"
skipped=()
if [ ${#workloads[@]} -gt 0 ]; then
	for workload in "${workloads[@]}"; do
		peer_installed "$workload" || install_peer "$workload"
	done
else
	for workload in "${ALL[@]}"; do
		if ! peer_installed "$workload" || [[ -n $quick && $workload = @(ks|flink)-* ]]; then
			skipped+=("$workload")
		else
			workloads+=("$workload")
		fi
	done
	[ ${#skipped[@]} = 0 ] || say "left out, name them to have them run: ${skipped[*]}"
fi

make_scratch millrace-bench
CONNINFO="host=$S port=$PORT user=$pg_user dbname=postgres"

build() {
	local program
	build_scratch ${perf:+PROFILE="-g -fno-omit-frame-pointer"} || return
	for program in bare_consumer produce freshness; do
		gcc -O2 -Wall -std=gnu99 -I"$("$BIN/pg_config" --includedir)" -o "$S/$program" "$BENCH/$program.c" \
			-lrdkafka -lpq -pthread || return
	done
}

sql() { scratch_sql -At "$@"; }

step() {
	say "$1"
	if ! "${@:2}" >"$S/step.log" 2>&1 </dev/null; then
		tail -n 30 "$S/step.log" >&2
		die "failed: $1"
	fi
}

step "building" build
step "starting PostgreSQL" start_scratch "shared_buffers = 512MB" "max_wal_size = 16GB" "checkpoint_timeout = 30min" \
	"timezone = 'UTC'"
# The heap that the tests use makes the broker the slowest of all.
step "starting Kafka" start_scratch_kafka 512m
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

# The line of a program's stderr that tells most; Java's last line says the least.
error_in() {
	grep -m 1 -oE 'ERROR: .*|(Caused by|Exception in thread|Error): .*' "$1" || tail -n 1 "$1"
}

describe_run() {
	record run rounds "$rounds"
	record run machine "$(nproc) CPUs ($(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)), $(awk '/^MemTotal/ {printf "%.0f GB", $2 / 1048576}' /proc/meminfo) of memory, everything on it: broker, server, clients"
	record run versions "PostgreSQL $("$BIN/pg_config" --version | cut -d ' ' -f 2), librdkafka $(dpkg-query -W -f '${Version}' librdkafka1 2>/dev/null), Apache Kafka $(cat "$MILLRACE_CACHE/kafka/.complete")"
	record run settings "$EVENTS messages in 4 partitions; shared_buffers 512MB, fsync on, everything of millrace at its default"
	record run load "$(cut -d ' ' -f 1 /proc/loadavg)"
	[ ${#skipped[@]} = 0 ] || record run skipped "${skipped[*]}"
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

# TOPIC [WORKERS]: a stream of its own for each measurement, so that its workers are new.
stream() {
	local topic=$1 columns=$EVENT_COLUMNS
	[ "$topic" != wide ] || columns=$WIDE_COLUMNS
	sql -c "CREATE FOREIGN TABLE stream ($columns) SERVER kafka OPTIONS (topic '$topic', workers '${2:-1}')" || exit 1
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

# view_options: more arguments
view_sql() { printf "SELECT FROM millrace.create_continuous_view('%s', \$\$ %s \$\$%s);\n" "$1" "$2" "${view_options:-}"; }

# WORKLOAD TOPIC COUNT, views by name in the array of the caller, [WORKERS]: how long
# from creating them to having it all.
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
	stream "$topic" "${5:-1}"
	before=$(wal_position)
	start_sampler "$workload" "$WORKERS"
	if sql -f "$S/measure.sql" >"$S/measure.out" 2>"$S/measure.err"; then
		read -r began ended < <(grep . "$S/measure.out" | tr '\n' ' ')
		record "$workload" messages "$count"
		record "$workload" seconds "$(awk "BEGIN {print $ended - $began}")"
		say "  $(awk "BEGIN {printf \"%s: %.0f messages/s\", \"$workload\", $count / ($ended - $began)}")"
	else
		stop_sampler "$workload"
		failed "$workload" "$(error_in "$S/measure.err")"
		return
	fi
	stop_sampler "$workload"
	record_worker "$workload"
	record_wal "$workload" "$before"
}

# The view's hits add up to the topic's messages, or the workload has failed.
check_hits() {
	local workload=$1 count=$2 view=$3 hits
	hits=$(sql -c "SELECT sum(hits) FROM $view" 2>"$S/check.err") ||
		{ failed "$workload" "$(error_in "$S/check.err")"; return; }
	[ "$hits" = "$count" ] || failed "$workload" "$view holds $hits of $count messages"
}

# L|H: the groups of all events by plain SQL, in the table truth_L or truth_H
make_truth() {
	local query=${1}_QUERY table=truth_$1
	[ -z "$(sql -c "SELECT to_regclass('$table')")" ] || return 0
	if [ -z "$(sql -c "SELECT to_regclass('event')")" ]; then
		sql -c "CREATE UNLOGGED TABLE event (ts timestamptz, user_id bigint, url text, latency double precision,
			country text) WITH (autovacuum_enabled = off)" &&
			"$S/produce" - - csv "$EVENTS" | sql -c "\\copy event FROM STDIN (FORMAT csv)" || exit 1
	fi
	sql -c "SET work_mem = '256MB'" -c "CREATE UNLOGGED TABLE $table WITH (autovacuum_enabled = off)
		AS ${!query/FROM stream/FROM event}" -c CHECKPOINT || exit 1
}

# WORKLOAD L|H RELATION: it holds exactly the groups that it should, or the workload has
# failed.  A peer's table has the sum where L has the average, and its own type of minute.
check_truth() {
	local workload=$1 truth=truth_$2 relation=$3 differ
	make_truth "$2"
	if [ "$relation" = peer ]; then
		relation="(SELECT minute::timestamptz, $([ "$2" = L ] && echo "url, hits, total / hits" || echo "user_id, hits, total"),
			worst FROM peer) AS peer"
	fi
	differ=$(sql -c "SET work_mem = '256MB'" -c "SELECT count(*) FROM ((TABLE $truth EXCEPT ALL SELECT * FROM $relation)
		UNION ALL (SELECT * FROM $relation EXCEPT ALL TABLE $truth)) AS differ" 2>"$S/check.err") ||
		{ failed "$workload" "$(error_in "$S/check.err")"; return; }
	[ "$differ" = 0 ] || failed "$workload" "$differ groups differ from what plain SQL finds"
}

# WORKLOAD TOPIC COUNT, views by name in the array of the caller, the one whose column
# hits must add up to COUNT, [WORKERS]
run_views() {
	local workload=$1 topic=$2 count=$3 array=$4 check=$5
	if measure_views "$workload" "$topic" "$count" "$array" "${6:-1}"; then
		case $workload in
			[LH] | [LH]c) check_truth "$workload" "${workload%c}" "$check" ;;
			*) check_hits "$workload" "$count" "$check" ;;
		esac
	fi
	drop_stream
}

# --- workloads -----------------------------------------------------------------------

L_QUERY="SELECT date_trunc('minute', ts) AS minute, url, count(*) AS hits, avg(latency) AS mean, max(latency) AS worst
	FROM stream GROUP BY 1, 2"
H_QUERY="SELECT date_trunc('minute', ts) AS minute, user_id, count(*) AS hits, sum(latency) AS total,
	max(latency) AS worst FROM stream GROUP BY 1, 2"

W_QUERY="SELECT k0, k1, k2, k3, k4, count(*) AS hits, sum(c0) AS s0, max(c0) AS x0, min(c1) AS n1,
		avg(c1) AS a1, sum(c2) AS s2, max(c2) AS x2, count(c3) AS c3, avg(c3) AS a3, min(c4) AS n4, max(c4) AS x4,
		sum(c5) AS s5, max(c5) AS x5, min(c6) AS n6, avg(c6) AS a6, sum(c7) AS s7, min(c7) AS n7, max(c8) AS x8,
		avg(c8) AS a8, sum(c9) AS s9 FROM stream GROUP BY 1, 2, 3, 4, 5"

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

run_Lc() {
	# shellcheck disable=SC2034
	local -A views=([l]=$L_QUERY)
	local view_options=", changes => true"
	run_views Lc events "$EVENTS" views l
}

run_Hc() {
	# shellcheck disable=SC2034
	local -A views=([h]=$H_QUERY)
	local view_options=", changes => true"
	run_views Hc events "$EVENTS" views h
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
	local -A views=([w]=$W_QUERY)
	run_views W wide "$EVENTS" views w
}

run_W2() {
	# shellcheck disable=SC2034
	local -A views=([w]=$W_QUERY)
	local workers
	for workers in 1 2; do
		[ $workers = 1 ] || bare "W2, 2 workers" wide
		run_views "W2, $workers worker$([ $workers = 1 ] || echo s)" wide "$EVENTS" views w $workers
	done
}

run_M() {
	# shellcheck disable=SC2034
	local -A views=([m1]=$L_QUERY [m2]="SELECT count(*) AS hits, min(ts) AS since, max(ts) AS until FROM stream"
		[m3]="SELECT country, count(*) AS hits, avg(latency) AS mean FROM stream GROUP BY 1"
		[m4]="SELECT user_id, count(*) AS hits, max(latency) AS worst FROM stream GROUP BY 1"
		[m5]="SELECT url, count(*) FILTER (WHERE latency > 400) AS slow, count(*) AS hits FROM stream GROUP BY 1")
	run_views M events "$EVENTS" views m1
}

# --- workloads that run once ---------------------------------------------------------

SEEN_QUERY="SELECT part, max(seq) AS seq, count(*) AS hits, avg(latency) AS mean FROM stream GROUP BY part"

measure_freshness() {
	local workload=$1 topic=$2 rate=$3 seconds=$4
	"$S/freshness" "$BROKER" "$topic" "$CONNINFO" "SELECT part, seq FROM seen" "$rate" "$seconds" >"$S/fresh.out" ||
		return
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
		measure_freshness "F $rate/s" $topic $rate "$FRESH_SECONDS" || failed "F $rate/s" "not every message was seen"
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
	wait "$pid" || failed "C live" "not every message was seen"
	unset "background[$pid]"
	sql -o /dev/null -c "SELECT millrace.wait_for_latest('late', timeout => '30s')"
	[ "$(sql -c "SELECT sum(hits) = (SELECT sum(hits) FROM seen) FROM late")" = t ] ||
		failed C "the view that caught up differs from the live one"
	drop_stream
}

# one client, its times into a log
pgbench_run() { "$BIN/pgbench" -n -l -h "$S" -p "$PORT" -U "$pg_user" "$@" postgres; }

# of a log's microseconds, in ms
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
	(cd "$S" && pgbench_run -f point.sql@9 -f scan.sql@1 -R 50 -T "$HOT_SECONDS" --log-prefix=reads) >"$S/pgbench.out" 2>&1 &
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
	wait "$reader" || failed U "the reader failed: $(tail -n 1 "$S/pgbench.out")"
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

GROUPS_QUERY="SELECT seq AS id, url, count(*) AS hits, avg(latency) AS mean, max(latency) AS worst
	FROM stream GROUP BY 1, 2"

# TOPIC VIEW: a view with a group for each message
grouped_view() {
	stream "$1"
	{ view_sql "$2" "$GROUPS_QUERY"; wait_sql "$2"; } | sql -o /dev/null
}

# NAME QUERY LEAST MOST: the rows that the planner expects of it, which must lie between
# these; the plan is left in plan.out.
check_plan() {
	local rows
	sql -c "EXPLAIN $2" >"$S/plan.out"
	rows=$(sed -n '1s/.* rows=\([0-9]*\) .*/\1/p' "$S/plan.out")
	record R "planned_$1" "${rows:-0}"
	[ "${rows:-0}" -ge "$3" ] && [ "${rows:-0}" -le "$4" ] || failed R "the planner expects ${rows:-?} rows of: $2"
}

read_groups() {
	local relation name number=0
	sql -c "CREATE TABLE groups_table AS TABLE groups" -c "CREATE UNIQUE INDEX ON groups_table (id, url)" \
		-c "VACUUM ANALYZE groups_table" -c "VACUUM ANALYZE groups_mrel"
	for relation in groups groups_table; do
		echo "SELECT url, sum(hits), avg(mean), max(worst) FROM $relation GROUP BY url;" >"$S/read_$relation.sql"
		printf '\\set i random(0, %d)\nSELECT * FROM %s WHERE id = :i;\n' $((READ_GROUPS - 1)) $relation \
			>"$S/point_$relation.sql"
	done
	(cd "$S" && pgbench_run -t 20 -f read_groups.sql -f read_groups_table.sql --log-prefix=whole &&
		pgbench_run -T 4 -f point_groups.sql -f point_groups_table.sql --log-prefix=point) >"$S/pgbench.out" 2>&1 ||
		{ failed R "$(error_in "$S/pgbench.out")"; return; }
	for relation in view table; do
		for name in whole point; do
			record R "${relation}_${name}_ms" "$(awk -v n=$number '$4 == n {print $3}' "$S/$name".* | percentile 50)"
		done
		number=1
	done
	record R groups "$READ_GROUPS"
	check_plan rows "SELECT * FROM groups" $((READ_GROUPS * 9 / 10)) $((READ_GROUPS * 11 / 10))
	check_plan groups "SELECT url, sum(hits) FROM groups GROUP BY url" 90 110
	check_plan point "SELECT * FROM groups WHERE id = 4711" 1 1
	grep -q 'Index.* Scan.*groups_mrel' "$S/plan.out" ||
		failed R "a filter by key does not use the index: $(head -n 1 "$S/plan.out")"
}

# A view and a table of the same rows with the same index, read in turns; and the view's plans.
run_R() {
	if ! grouped_view reading groups; then
		failed R "the view is behind"
	elif check_hits R "$READ_GROUPS" groups; then
		read_groups
	fi
	drop_stream
	sql -c "SET client_min_messages = error" -c "DROP TABLE IF EXISTS groups_table"
}

# The server is stopped, messages come, it is started: until the view shows them.
run_S() {
	local began up more=1000 i
	grouped_view restart big || { failed S "the view is behind"; drop_stream; return; }
	sql -c CHECKPOINT
	"${as[@]}" "$BIN/pg_ctl" -D "$S/data" -w -m fast stop >"$S/step.log" 2>&1 || die "could not stop PostgreSQL"
	"$S/produce" "$BROKER" restart numbered $more || die "could not fill topic restart"
	began=$(date +%s%N)
	"${as[@]}" "$BIN/pg_ctl" -D "$S/data" -l "$S/postgresql.log" -w start >"$S/step.log" 2>&1 || die "could not start PostgreSQL"
	up=$(date +%s%N)
	POSTMASTER=$(head -n 1 "$S/data/postmaster.pid")
	for ((i = 0; i < 3000; i++)); do
		[ "$(sql -c "SELECT hits FROM big WHERE id = $((more - 1))")" != 2 ] || break
		sleep 0.01
	done
	record S up_ms $(((up - began) / 1000000))
	record S first_commit_ms $((($(date +%s%N) - began) / 1000000))
	check_hits S $((RESTART_GROUPS + more)) big
	record S groups "$(sql -c "SELECT count(*) FROM big")"
	drop_stream
}

# --- the run -------------------------------------------------------------------------

wanted() { [[ " ${workloads[*]} " == *" $1 "* ]]; }

topic_of() {
	case $1 in
		W | W2) echo "wide wide $EVENTS" ;;
		C) echo "history event $HISTORY" ;;
		U) echo "hot event 0" ;;
		R) echo "reading numbered $READ_GROUPS" ;;
		S) echo "restart numbered $RESTART_GROUPS" ;;
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
	for workload in N L Lc H Hc J W W2 M copy py-L py-H ks-L ks-H flink-L flink-H; do
		wanted "$workload" || continue
		say "round $round of $rounds: $workload"
		read -r name _ < <(topic_of "$workload")
		bare "${workload/#W2/W2, 1 worker}" "$name"
		"run_$workload"
	done
done
round=1
for workload in C F U R S; do
	wanted "$workload" || continue
	say "$workload"
	[ "$workload" != C ] || bare C history
	"run_$workload"
done

"$BENCH/report.pl" "$S/records" "$json" || failures=$((failures + 1))
[ "$failures" = 0 ] || say "$failures failure(s)"
[ "$failures" = 0 ]
