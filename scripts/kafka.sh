#!/usr/bin/env bash
#
# kafka.sh - a real single-node Apache Kafka in a directory of its own.
#
#   start DIR [PORT]   start it and wait until it answers a metadata request.
#                      A directory that has a broker's data goes on with it, on
#                      the same port.  Without PORT free ones are chosen.
#   stop DIR           shut it down
#   kill DIR           kill -9; start takes it up again
#   restart DIR        stop and start
#   pause DIR          stop answering (SIGSTOP), resume DIR: go on
#   status DIR         print "running", "paused" or "stopped"; 0 if running
#   prepare            fill the cache that makes a start fast; done by setup.sh
#
# DIR/bootstrap holds 127.0.0.1:PORT and DIR/log what the broker said.  Lines of
# DIR/extra.properties, where that file exists at the first start, come last in
# the broker's configuration; @PORT@ and @CONTROLLER@ in them stand for its two
# ports.  DIR/format.options has options for the storage tool.  The broker runs as the calling user and holds
# none of the caller's descriptors.  KAFKA_HEAP (256m) sets its heap, KAFKA_SESSION_MS (2000) how long
# its controller hears nothing of it before it is fenced, and after a kill until it can be registered again.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

JARS=$MILLRACE_CACHE/kafka
TEMPLATE=$MILLRACE_CACHE/broker
START_TIMEOUT=${KAFKA_START_TIMEOUT:-90}

usage() {
	sed -n 's/^#   \([a-z]* *\(DIR\( \[PORT\]\)\?\)\? .*\)/  \1/p' "$0" >&2
	exit 2
}

# Two free ports below the range that outgoing connections take theirs from.
free_ports() {
	perl -MIO::Socket::INET -e '
		my @open;
		for (1 .. 1000)
		{
			my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1,
				LocalPort => 15000 + int(rand(15000))) or next;
			push @open, $s;
			last if @open == 2;
		}
		@open == 2 or die "no free port\n";
		print join(" ", map { $_->sockport } @open), "\n";'
}

port_is_free() {
	perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(
		LocalAddr => "127.0.0.1", LocalPort => $ARGV[0], Listen => 1, ReuseAddr => 1)' "$1"
}

# Prints the broker's process id, if it is alive and really ours.
broker_pid() {
	local pid
	pid=$(cat "$DIR/pid" 2>/dev/null) || return 1
	[ -n "$pid" ] || return 1
	{ tr "\0" "\n" <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qxF "$DIR/server.properties" || return 1
	# A zombie that nobody waits for is dead all the same.
	! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null || return 1
	echo "$pid"
}

wait_gone() {
	local pid=$1 tenths=$2
	while [ "$tenths" -gt 0 ]; do
		[ "$(broker_pid)" = "$pid" ] || return 0
		sleep 0.1
		tenths=$((tenths - 1))
	done
	return 1
}

write_properties() {
	local port=$1 controller=$2
	cat >"$DIR/server.properties" <<-PROPERTIES
		process.roles=broker,controller
		node.id=1
		controller.quorum.voters=1@127.0.0.1:$controller
		listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
		advertised.listeners=PLAINTEXT://127.0.0.1:$port
		controller.listener.names=CONTROLLER
		listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
		log.dirs=$DIR/data
		auto.create.topics.enable=false
		num.partitions=1
		default.replication.factor=1
		offsets.topic.replication.factor=1
		offsets.topic.num.partitions=1
		transaction.state.log.replication.factor=1
		transaction.state.log.min.isr=1
		transaction.state.log.num.partitions=1
		transaction.abort.timed.out.transaction.cleanup.interval.ms=500
		share.coordinator.state.topic.replication.factor=1
		share.coordinator.state.topic.min.isr=1
		share.coordinator.state.topic.num.partitions=1
		group.initial.rebalance.delay.ms=0
		broker.session.timeout.ms=${KAFKA_SESSION_MS:-2000}
		broker.heartbeat.interval.ms=500
		log.cleaner.dedupe.buffer.size=2097152
		log.cleaner.backoff.ms=500
		log.retention.check.interval.ms=500
		log.initial.task.delay.ms=500
		log.segment.delete.delay.ms=500
		num.network.threads=2
		num.io.threads=4
		num.recovery.threads.per.data.dir=1
		message.max.bytes=10485760
	PROPERTIES
	if [ -f "$DIR/extra.properties" ]; then
		sed "s/@PORT@/$port/g; s/@CONTROLLER@/$controller/g" "$DIR/extra.properties" >>"$DIR/server.properties"
	fi
}

java_version() {
	readlink -f "$(command -v java)" | sum | cut -d' ' -f1
}

# Gives the data directory its identity.  The storage tool takes two seconds
# for it; a prepared copy with an id of its own, none.
format() {
	local id
	id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | cut -c 1-22)
	if [ -r "$TEMPLATE/.complete" ] && [ ! -f "$DIR/extra.properties" ]; then
		cp -r "$TEMPLATE/data" "$DIR/data"
		sed -i "s/^cluster\.id=.*/cluster.id=$id/" "$DIR/data/meta.properties"
	else
		# shellcheck disable=SC2046
		java -Xmx128m -XX:-UsePerfData -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$JARS/*" \
			kafka.tools.StorageTool format -t "$id" -c "$DIR/server.properties" \
			$(cat "$DIR/format.options" 2>/dev/null) >"$DIR/format.log" 2>&1 ||
			{ tail -n 20 "$DIR/format.log" >&2; die "could not format $DIR"; }
	fi
}

answers() {
	if command -v kcat >/dev/null; then
		kcat -X security.protocol=plaintext -L -b "$1" -m 2 2>/dev/null </dev/null |
			grep -q '^ *1 brokers:\|^ *[1-9][0-9]* brokers:'
	else
		java -Xmx64m -XX:-UsePerfData -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$JARS/*" \
			org.apache.kafka.tools.TopicCommand --bootstrap-server "$1" --list >/dev/null 2>&1
	fi
}

# Starts the broker with extra options for the virtual machine.
launch() {
	local archive=$TEMPLATE/classes-$(java_version).jsa share=()
	[ ! -r "$archive" ] || share=(-XX:SharedArchiveFile="$archive")
	(
		close_inherited_fds
		exec setsid java -Xms64m -Xmx"${KAFKA_HEAP:-256m}" -XX:+UseSerialGC \
			-XX:TieredStopAtLevel=1 -Xshare:auto "${share[@]}" "$@" -Xlog:disable \
			-XX:-UsePerfData -Djava.io.tmpdir="$DIR" \
			-Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
			-Dorg.slf4j.simpleLogger.showDateTime=true \
			-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS \
			-cp "$JARS/*" kafka.Kafka "$DIR/server.properties" \
			</dev/null >>"$DIR/log" 2>&1
	) &
	echo $! >"$DIR/pid"
	disown $! 2>/dev/null || true
}

# Waits until the broker answers; 1 when it died, 2 when it takes too long.
wait_ready() {
	local bootstrap=$1 end=$((SECONDS + START_TIMEOUT))
	while [ $SECONDS -lt $end ]; do
		# Without a listener kcat would only wait for its own retry.
		if (exec 3<>"/dev/tcp/${bootstrap%:*}/${bootstrap#*:}") 2>/dev/null; then
			! answers "$bootstrap" || return 0
		fi
		kill -0 "$(cat "$DIR/pid")" 2>/dev/null || return 1
		sleep 0.1
	done
	return 2
}

start() {
	local port=${1:-} first controller attempt rc
	[ -e "$JARS/.complete" ] || die "no Kafka in $JARS: run scripts/setup.sh"
	mkdir -p "$DIR"
	! broker_pid >/dev/null || die "already running in $DIR"

	if [ -f "$DIR/bootstrap" ] && [ -f "$DIR/data/meta.properties" ]; then
		local old
		old=$(cat "$DIR/bootstrap")
		[ -z "$port" ] || [ "$port" = "${old#*:}" ] || die "the broker in $DIR has port ${old#*:}"
		launch
		wait_ready "$old" || { rc=$?; give_up $rc; }
		return 0
	fi

	for attempt in 1 2 3; do
		rm -rf "$DIR/data" "$DIR/bootstrap"
		read -r first controller < <(free_ports)
		[ -z "$port" ] || port_is_free "$port" || die "port $port is taken"
		write_properties "${port:-$first}" "$controller"
		format
		launch
		rc=0
		wait_ready "127.0.0.1:${port:-$first}" || rc=$?
		if [ $rc = 0 ]; then
			echo "127.0.0.1:${port:-$first}" >"$DIR/bootstrap"
			return 0
		fi
		# Somebody may have taken a port in between.
		[ $rc = 1 ] && grep -q 'Address already in use\|BindException' "$DIR/log" && [ $attempt -lt 3 ] ||
			give_up $rc
	done
}

give_up() {
	local pid
	tail -n 30 "$DIR/log" >&2
	! pid=$(broker_pid) || kill -KILL "$pid" 2>/dev/null || true
	[ "$1" = 1 ] || die "the broker did not answer within $START_TIMEOUT s"
	die "the broker could not start"
}

stop() {
	local pid
	if pid=$(broker_pid); then
		kill -CONT "$pid" 2>/dev/null || true
		kill -TERM "$pid" 2>/dev/null || true
		wait_gone "$pid" 150 || kill -KILL "$pid" 2>/dev/null || true
		wait_gone "$pid" 50 || die "could not stop process $pid"
	fi
	rm -f "$DIR/pid"
}

# Fills the cache: a formatted data directory, and an archive of the broker's
# loaded classes, which halves the time of a start.
prepare() {
	[ ! -e "$TEMPLATE/.complete" ] || return 0
	say "kafka: preparing fast starts in $TEMPLATE"
	rm -rf "$TEMPLATE"
	mkdir -p "$TEMPLATE"
	local target=$TEMPLATE
	DIR=$(mktemp -d "$MILLRACE_CACHE/prepare.XXXXXX")
	# shellcheck disable=SC2064
	trap "stop; rm -rf '$DIR'" EXIT
	local port controller
	read -r port controller < <(free_ports)
	write_properties "$port" "$controller"
	format
	cp -r "$DIR/data" "$target/data"
	launch -XX:ArchiveClassesAtExit="$target/classes-$(java_version).jsa"
	wait_ready "127.0.0.1:$port" || give_up $?
	stop
	[ -s "$target/classes-$(java_version).jsa" ] || say "kafka: no class archive, starts will be slower"
	touch "$target/.complete"
	chmod -R a+rX "$target"
}

[ $# -ge 1 ] || usage
action=$1
shift
if [ "$action" = prepare ]; then
	prepare
	exit 0
fi
[ $# -ge 1 ] || usage
[ -d "$1" ] || [ "$action" = start ] || die "no such directory: $1"
mkdir -p "$1"
DIR=$(cd "$1" && pwd)
shift

case $action in
	start) start "$@" ;;
	stop) stop ;;
	kill)
		pid=$(broker_pid) || die "not running in $DIR"
		kill -KILL "$pid"
		wait_gone "$pid" 100 || die "could not kill process $pid"
		rm -f "$DIR/pid"
		;;
	restart) stop; start "$@" ;;
	pause) pid=$(broker_pid) || die "not running in $DIR"; kill -STOP "$pid" ;;
	resume) pid=$(broker_pid) || die "not running in $DIR"; kill -CONT "$pid" ;;
	status)
		if ! pid=$(broker_pid); then
			echo stopped
			exit 1
		elif grep -q '^State:[[:space:]]*T' "/proc/$pid/status"; then
			echo paused
			exit 1
		fi
		echo running
		;;
	*) usage ;;
esac
