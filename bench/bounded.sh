#!/usr/bin/env bash
#
# bounded.sh - how much memory ingest and sessions take, and how long things take where there are many of them.
#
# Builds millrace into a private copy of PostgreSQL in a scratch directory, starts that server and
# a real Kafka on loopback, and runs the cases below, one after the other, each with views of its
# own.  Prints Markdown: the largest sum of RssAnon of millrace's processes and the largest of one (or of
# the session that does it), looked at ten times a second, and seconds.  Every case is compared with plain SQL; exits with 0
# when all were right and no process was larger than millrace.batch_memory (128 MB) plus LIMIT_MB.
#
# usage: bench/bounded.sh [CASE...]
#
#   large       2,000 messages of 1 MB that compress well, aggregated and appended by length
#   plain       1,000 messages of 1 MB, not compressed
#   groups      1,000,000 messages that are as many groups, in one batch where it has room
#   views       500 views on one stream, 100,000 messages
#   streams     50 streams with a view each, 2,000 messages in each
#   partitions  200 partitions, 1,000,000 messages
#
# and of sessions:
#
#   reading     SELECT over the messages of large and of plain
#   writing     INSERT of 1,000 rows of 1 MB into a stream, and of 1,000,000 small ones
#   replaying   replay() of 500 dead letters of 1 MB
#   copying     COPY of 1,000,000 rows into an attached table that a view of 1,000 groups follows, and one of
#               1,000,000

set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

PG_MAJOR=${PG_MAJOR:-15}
LIMIT_MB=128
cases=("$@")
[ ${#cases[@]} -gt 0 ] || cases=(large plain groups views streams partitions reading writing replaying copying)

make_scratch millrace-bounded
build_scratch >"$S/build.log" 2>&1 || { tail -n 20 "$S/build.log" >&2; die "could not build"; }
start_scratch_kafka 512m || die "could not start Kafka"
start_scratch "max_worker_processes = 80" "fsync = off" "max_wal_size = 4GB" "shared_buffers = 256MB" "max_locks_per_transaction = 256" \
	>/dev/null || die "could not start the server"
failed=0
watcher=

# SQL: its answer; ends the script when it fails
ask() { scratch_sql -At -c "$1" || die "failed: $1"; }

seconds() { awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }'; }
now() { date +%s.%N; }

# PATTERN: largest RssAnon of one of the processes with such a title, and of all together, in kB, until it is killed.
watch_memory() {
	local postmaster pid kb sum one=0 all=0
	trap 'echo "$one $all" >"$S/memory"; exit 0' TERM
	while :; do
		sum=0
		postmaster=$(head -n 1 "$S/data/postmaster.pid" 2>/dev/null)
		for pid in $(cat "/proc/$postmaster/task/$postmaster/children" 2>/dev/null); do
			grep -q "$1" "/proc/$pid/cmdline" 2>/dev/null || continue
			kb=$(sed -n 's/^RssAnon:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status" 2>/dev/null)
			kb=${kb:-0}
			sum=$((sum + kb))
			[ "$kb" -le "$one" ] || one=$kb
		done
		[ "$sum" -le "$all" ] || all=$sum
		sleep 0.1
	done
}

begin_watching() { watch_memory "${1:-millrace}" & watcher=$!; background+=("$watcher"); }

stop_watching() {
	kill "$watcher"
	wait "$watcher" 2>/dev/null
	read -r one all <"$S/memory"
	watcher=
}

# SQL: in a session that is watched; sets answer and taken
watch_session() {
	local began
	begin_watching '\[local\]'
	began=$(now)
	answer=$(ask "$1") || exit
	taken=$(seconds "$began")
	stop_watching
}

# CASE SECONDS_TO_CREATE SECONDS_TO_TAKE SECONDS_AFTER_RESTART RIGHT
report() {
	[ -z "$watcher" ] || stop_watching
	printf '| %s | %s | %s | %s | %d | %d | %s |\n' "$1" "$2" "$3" "$4" $((one / 1024)) $((all / 1024)) "$5"
	[ "$5" = t ] && [ $((one / 1024)) -le $((128 + LIMIT_MB)) ] || failed=1
}

ingest() { ask "ALTER SYSTEM SET millrace.enabled = $1" && ask "SELECT pg_reload_conf()" >/dev/null; }
view() { ask "SELECT millrace.create_continuous_view('$1', \$\$$2\$\$)" >/dev/null; }
latest() { [ "$(ask "SELECT millrace.wait_for_latest('$1', timeout => '20min')")" = t ] || die "view $1 is not there"; }
all_latest() {
	[ "$(ask "SELECT bool_and(millrace.wait_for_latest(view, timeout => '20min')) FROM millrace.views")" = t ] || die "a view is not there"
}
# NAME COLUMNS [PARTITIONS [SERVER]]
stream() {
	ask "SELECT millrace.create_topic('kafka', '$1', partitions => ${3:-1}, config => '{\"max.message.bytes\": \"10000000\"}');
		CREATE FOREIGN TABLE $1 ($2) SERVER ${4:-kafka} OPTIONS (topic '$1')" >/dev/null
}

# NAME SERVER HUNDREDS: a stream with so many messages of 1 MB, unless it is there
large_stream() {
	[ "$(ask "SELECT to_regclass('$1') IS NULL")" = t ] || return
	stream "$1" 'id bigint, pad text' 1 "$2"
	for i in $(seq 0 $(($3 - 1))); do
		ask "INSERT INTO $1 SELECT i, repeat(md5(i::text), 31250) FROM generate_series($i * 100 + 1, $i * 100 + 100) i"
	done
}

# how long a restarted server needs until a new message, and all else, is in all views
restart() {
	local began
	"${as[@]}" "$BIN/pg_ctl" -D "$S/data" -m fast -w stop >/dev/null
	began=$(now)
	"${as[@]}" "$BIN/pg_ctl" -D "$S/data" -l "$S/postgresql.log" -w start >/dev/null
	ask "$1" >/dev/null
	all_latest
	seconds "$began"
}

# NAME SERVER HUNDREDS
ingest_large() {
	local began n=$(($3 * 100))
	large_stream "$1" "$2" "$3"
	ingest off
	view "$1_total" "SELECT count(*) AS n, sum(length(pad)) AS chars, max(pad) AS last FROM $1"
	view "$1_rows" "SELECT id, length(pad) AS chars FROM $1"
	begin_watching
	began=$(now)
	ingest on
	latest "$1_total"
	latest "$1_rows"
	report "$1" - "$(seconds "$began")" - \
		"$(ask "SELECT n = $n AND chars = $n * 1000000::bigint AND n = (SELECT count(DISTINCT id) FROM $1_rows WHERE chars = 1000000) FROM $1_total")"
	ask "DROP VIEW $1_total, $1_rows"
}

case_large() { ingest_large large kafka 20; }
case_plain() { ingest_large plain uncompressed 10; }

case_groups() {
	local began
	stream groups 'id bigint, v integer'
	ingest off
	ask "INSERT INTO groups SELECT i, i % 10 FROM generate_series(1, 1000000) i"
	view per_id 'SELECT id, count(*) AS n, sum(v) AS v, max(v) AS m FROM groups GROUP BY id'
	begin_watching
	began=$(now)
	ingest on
	latest per_id
	report groups - "$(seconds "$began")" - "$(ask "SELECT count(*) = 1000000 AND sum(n) = 1000000 AND sum(v) = 4500000 FROM per_id")"
	ask 'DROP VIEW per_id'
}

case_views() {
	local began created taken restarted
	stream viewed 'id bigint, k integer, v integer'
	begin_watching
	created=
	for h in 0 100 200 300 400; do
		began=$(now)
		for i in $(seq $((h + 1)) $((h + 100))); do
			echo "SELECT millrace.create_continuous_view('viewed_$i', 'SELECT k, count(*) AS n, sum(v + $i) AS v FROM viewed GROUP BY k');"
		done | scratch_sql -At >/dev/null
		created="$created${created:+ + }$(seconds "$began")"
	done
	all_latest
	began=$(now)
	ask "INSERT INTO viewed SELECT i, i % 10, i % 7 FROM generate_series(1, 100000) i"
	all_latest
	taken=$(seconds "$began")
	restarted=$(restart "INSERT INTO viewed VALUES (100001, 1, 1)")
	report views "$created" "$taken" "$restarted" "$(ask "SELECT bool_and(ok) FROM (
		$(for i in 1 100 250 499 500; do
			echo "SELECT sum(n) = 100001 AND sum(v) = 300000 + 1 + 100001 * $i AS ok FROM viewed_$i UNION ALL"
		done) SELECT true) q")"
	for i in $(seq 1 500); do echo "DROP VIEW viewed_$i;"; done | scratch_sql
}

case_streams() {
	local began created taken restarted
	begin_watching
	began=$(now)
	for i in $(seq 1 50); do
		stream "stream_$i" 'id bigint, k integer'
		view "of_$i" "SELECT k, count(*) AS n FROM stream_$i GROUP BY k"
	done
	created=$(seconds "$began")
	began=$(now)
	for i in $(seq 1 50); do echo "INSERT INTO stream_$i SELECT i, i % 10 FROM generate_series(1, 2000) i;"; done | scratch_sql
	all_latest
	taken=$(seconds "$began")
	restarted=$(restart "INSERT INTO stream_50 VALUES (2001, 1)")
	report streams "$created" "$taken" "$restarted" "$(ask "SELECT bool_and(ok) FROM (
		$(for i in $(seq 1 50); do echo "SELECT sum(n) = 2000 + ($i / 50) AS ok FROM of_$i UNION ALL"; done) SELECT true) q")"
	ask "DROP VIEW $(seq -s ', ' -f 'of_%g' 1 50)"
}

case_partitions() {
	local began created taken restarted
	stream parted 'id bigint, k integer' 200
	begin_watching
	began=$(now)
	view per_k 'SELECT k, count(*) AS n, sum(id) AS ids FROM parted GROUP BY k'
	created=$(seconds "$began")
	began=$(now)
	ask "INSERT INTO parted SELECT i, i % 1000 FROM generate_series(1, 1000000) i"
	latest per_k
	taken=$(seconds "$began")
	restarted=$(restart "INSERT INTO parted VALUES (1000001, 1)")
	report partitions "$created" "$taken" "$restarted" "$(ask "SELECT count(*) = 1000 AND sum(n) = 1000001 AND sum(ids) = 500001500001 FROM per_k")"
	ask 'DROP VIEW per_k'
}

case_reading() {
	local name n
	large_stream large kafka 20
	large_stream plain uncompressed 10
	for name in large plain; do
		watch_session "SELECT count(*), sum(length(pad)) FROM $name"
		[ $name = large ] && n=2000 || n=1000
		report "reading $name" - "$taken" - "$([ "$answer" = "$n|${n}000000" ] && echo t)"
	done
}

case_writing() {
	stream written 'id bigint, pad text'
	watch_session "INSERT INTO written SELECT i, repeat(md5(i::text), 31250) FROM generate_series(1, 1000) i"
	report 'writing, large' - "$taken" - "$(ask "SELECT count(*) = 1000 AND sum(length(pad)) = 1000000000 FROM written")"
	stream written_small 'id bigint, v integer'
	watch_session "INSERT INTO written_small SELECT i, i % 10 FROM generate_series(1, 1000000) i"
	report 'writing, small' - "$taken" - "$(ask "SELECT count(*) = 1000000 AND sum(v) = 4500000 FROM written_small")"
}

case_replaying() {
	stream letters 'id bigint, pad text, n integer'
	view per_letter 'SELECT count(*) AS n, sum(n) AS ids, sum(length(pad)) AS chars FROM letters'
	# until it is taken from elsewhere, n is no number
	ask "ALTER FOREIGN TABLE letters ALTER COLUMN n OPTIONS (ADD path 'pad')"
	for i in 0 1 2 3 4; do
		ask "INSERT INTO letters (id, pad) SELECT i, repeat(md5(i::text), 31250) FROM generate_series($i * 100 + 1, $i * 100 + 100) i"
	done
	latest per_letter
	ask "ALTER FOREIGN TABLE letters ALTER COLUMN n OPTIONS (SET path 'id')"
	[ "$(ask "SELECT count(*) FROM millrace.dead_letters")" = 500 ] || die "no dead letters"
	watch_session "SELECT millrace.replay('letters')"
	report replaying - "$taken" - "$(ask "SELECT n = 500 AND ids = 125250 AND chars = 500000000 AND $answer = 500 FROM per_letter")"
	ask 'DROP VIEW per_letter'
}

case_copying() {
	local groups
	ask "CREATE TABLE copied (id bigint, v integer); SELECT millrace.attach_table('copied');
		COPY (SELECT i, i % 10 FROM generate_series(1, 1000000) i) TO '$S/rows'" >/dev/null
	for groups in 1000 1000000; do
		view per_group "SELECT id % $groups AS g, count(*) AS n, sum(v) AS v FROM copied GROUP BY 1"
		watch_session "COPY copied FROM '$S/rows'"
		report "copying, $groups groups" - "$taken" - "$(ask "SELECT count(*) = $groups AND sum(n) = 1000000 AND sum(v) = 4500000 FROM per_group")"
		ask 'DROP VIEW per_group; TRUNCATE copied'
	done
}

ask "CREATE EXTENSION millrace; CREATE SERVER kafka FOREIGN DATA WRAPPER millrace
	OPTIONS (\"bootstrap.servers\" '$(cat "$S/kafka/bootstrap")', \"message.max.bytes\" '10000000', \"compression.type\" 'lz4');
	CREATE SERVER uncompressed FOREIGN DATA WRAPPER millrace
	OPTIONS (\"bootstrap.servers\" '$(cat "$S/kafka/bootstrap")', \"message.max.bytes\" '10000000')"
echo '| case | s to create | s to take all | s after a restart | MB, largest process | MB, all | right |'
echo '|---|---|---|---|---|---|---|'
for name in "${cases[@]}"; do
	"case_$name" || die "no case named \"$name\""
done
exit $failed
