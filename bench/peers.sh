# shellcheck shell=bash
# shellcheck disable=SC2154	# S, BROKER, CONNINFO, EVENTS and the like are run.sh's
#
# peers.sh - what people use instead of millrace; sourced by run.sh.
#
# Owns how each peer is installed, run and checked.  Nothing of it is needed for anything
# else: packages come from PyPI and Maven Central into the cache, when somebody asks for
# that peer by name.  A peer's table is called "peer"; run.sh compares it with the truth.

VENV=$MILLRACE_CACHE/bench-venv
STREAMS_VERSION=4.1.0
FLINK_VERSION=2.0.0				# with the newest connector for JDBC
# the server has a socket only, and so the driver needs one
JDBC_JARS="org.postgresql:postgresql:42.7.8 com.kohlschutter.junixsocket:junixsocket-common:2.10.1
	com.kohlschutter.junixsocket:junixsocket-native-common:2.10.1 org.slf4j:slf4j-simple:1.7.36"
STREAMS_JARS="org.apache.kafka:kafka-streams:$STREAMS_VERSION $JDBC_JARS"
FLINK_JARS="org.apache.flink:flink-clients:$FLINK_VERSION org.apache.flink:flink-json:$FLINK_VERSION
	org.apache.flink:flink-table-api-java-bridge:$FLINK_VERSION org.apache.flink:flink-table-runtime:$FLINK_VERSION
	org.apache.flink:flink-table-planner-loader:$FLINK_VERSION org.apache.flink:flink-connector-base:$FLINK_VERSION
	org.apache.flink:flink-connector-kafka:4.0.1-2.0 org.apache.flink:flink-connector-jdbc-core:4.0.0-2.0
	org.apache.flink:flink-connector-jdbc-postgres:4.0.0-2.0 $JDBC_JARS"

# --- installing --------------------------------------------------------------------

# shellcheck disable=SC2086
jars_of() {
	case $1 in
		ks) echo $STREAMS_JARS ;;
		flink) echo $FLINK_JARS ;;
	esac
}

# Could this workload run at once?  One that is no peer can.
peer_installed() {
	case $1 in
		py-*) [ -e "$VENV/.complete" ] ;;
		ks-* | flink-*) command -v javac >/dev/null &&
			have_jars "$MILLRACE_CACHE/bench-${1%-*}" "$(jars_of "${1%-*}")" ;;
	esac
}

# Installs what a peer needs; ends the run when that cannot be had.
install_peer() {
	local kind=${1%-*}
	say "fetching what $1 needs into the cache"
	if [ "$kind" = py ]; then
		install_python || die "could not install $1's packages"
		return
	fi
	command -v javac >/dev/null || die "$1 needs a JDK: install openjdk-17-jdk-headless"
	command -v mvn >/dev/null || die "$1 needs Maven: install maven"
	# shellcheck disable=SC2046
	fetch_jars "$MILLRACE_CACHE/bench-$kind" "$(jars_of "$kind")" $(jars_of "$kind") || die "could not fetch $1's jars"
}

install_python() {
	rm -rf "$VENV" && mkdir -p "$MILLRACE_CACHE" && /usr/bin/env python3 -m venv "$VENV" &&
		timeout 120 "$VENV/bin/python" -m pip install -q confluent-kafka orjson psycopg2-binary >&2 &&
		touch "$VENV/.complete"
}

# --- running -----------------------------------------------------------------------

# A client's seconds and the server's CPU for it: WORKLOAD COMMAND...
measure_peer() {
	local workload=$1 before began ended rc=0
	shift
	before=$(wal_position)
	start_sampler "$workload" '\[local\]|COPY|CREATE TABLE'
	began=$(date +%s%N)
	"$@" >"$S/peer.out" 2>"$S/peer.err" </dev/null || rc=$?
	ended=$(date +%s%N)
	stop_sampler "$workload" server_
	case $rc in
		0) ;;
		124) failed "$workload" "it did not end in time"; return ;;
		*) failed "$workload" "$(error_in "$S/peer.err")"; return ;;
	esac
	grep -q '^seconds ' "$S/peer.out" ||
		printf 'messages %d\nseconds %.6f\n' "$EVENTS" "$(awk "BEGIN {print ($ended - $began) / 1e9}")" >>"$S/peer.out"
	record_file "$workload" '' "$S/peer.out"
	record_wal "$workload" "$before"
}

peer_copy() {
	sql -c "SET client_min_messages = error" -c "DROP TABLE IF EXISTS raw, raw_l" \
		-c "CREATE TABLE raw (ts timestamptz, user_id bigint, url text, latency double precision, country text)" &&
		"$S/produce" - - csv "$EVENTS" | sql -c "\\copy raw FROM STDIN (FORMAT csv)" \
			-c "CREATE TABLE raw_l AS ${L_QUERY/FROM stream/FROM raw}"
}

run_copy() {
	measure_peer copy peer_copy && check_truth copy L raw_l
	record copy guarantee "durable once; the client finds out what a crash left"
	record copy how "COPY of the columns, no Kafka and no JSON, and L's query run once; every further answer reads the whole table again; CPU is the server's alone"
}

run_python() {
	local workload=$1
	measure_peer "$workload" "$VENV/bin/python" "$BENCH/peer_consumer.py" "$BROKER" events "${workload#*-}" "$CONNINFO" &&
		check_truth "$workload" "${workload#*-}" peer
	record "$workload" guarantee "exactly once: offsets beside the data"
	record "$workload" how "Python by hand: confluent-kafka, orjson, a dictionary, upserts and offsets in one transaction every 100,000 messages"
}

# WORKLOAD CLASS OPTION...: one of the peers in Java, with options for the virtual machine
run_java() {
	local workload=$1 class=$2 jars=$MILLRACE_CACHE/bench-${1%-*}
	local url="jdbc:postgresql://localhost/postgres?user=$pg_user&reWriteBatchedInserts=true"
	url+="&socketFactory=org.newsclub.net.unix.AFUNIXSocketFactory\$FactoryArg&socketFactoryArg=$S/.s.PGSQL.$PORT"
	shift 2
	[ -e "$S/classes/$class.class" ] || javac -d "$S/classes" -cp "$jars/*" "$BENCH/$class.java" ||
		{ failed "$workload" "$class.java does not compile"; return; }
	mkdir "$S/peer_state"
	measure_peer "$workload" timeout -k 10 600 java "$@" -XX:-UsePerfData -Djava.io.tmpdir="$S" \
		-Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$S/classes:$jars/*" \
		"$class" "$BROKER" events "${workload#*-}" "$url" "$EVENTS" "$S/peer_state" &&
		check_truth "$workload" "${workload#*-}" peer
	rm -rf "$S/peer_state"
}

run_streams() {
	run_java "$1" KafkaStreamsPeer -Xmx1g -XX:+UseParallelGC
	record "$1" guarantee "state exactly once; upserts at least once, exact in the end"
	record "$1" how "Kafka Streams $STREAMS_VERSION, exactly_once_v2, two threads, state in memory, changed groups upserted every second; time and CPU (of the whole JVM) from its first message on"
}

run_flink() {
	run_java "$1" FlinkPeer -Xmx1536m --add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/java.util=ALL-UNNAMED
	record "$1" guarantee "state exactly once; upserts at least once, exact in the end"
	record "$1" how "Flink SQL $FLINK_VERSION, two slots, checkpoints every 10 s, state on the heap, two-phase aggregation in mini-batches; time and CPU (of the whole JVM) from its first message on"
}

run_py-L() { run_python py-L; }
run_py-H() { run_python py-H; }
run_ks-L() { run_streams ks-L; }
run_ks-H() { run_streams ks-H; }
run_flink-L() { run_flink flink-L; }
run_flink-H() { run_flink flink-H; }
