#!/usr/bin/env bash
#
# check.sh - every test there is.
#
# Copies the sources to a scratch directory, builds them there with warnings as
# errors, installs them into a private copy of the server (so that the machine's
# own stays as it is, and several runs do not meet), starts one real Kafka, and
# runs the layer and indent checks, pg_regress, isolation and TAP tests, two
# jobs at a time.  As root the tests run as user postgres.  Nothing is left
# behind, also after Ctrl-C.  The last line is "N passed, N failed".
#
# usage: scripts/check.sh [--no-setup] [--no-static] [--results DIR] [--under TOOL] [--only NAME...]
#
#   --no-setup    everything is installed already
#   --no-static   without the checks of layers and indentation
#   --results     where to leave what regression and isolation tests printed, to
#                 become expected/ once it is right
#   --under       build and run under a tool, such as coverage; see the file of that
#                 name in scripts/under/
#   --only        just these: names of sql/, specs/, t/ files, or layers, indent
#
# PG_MAJOR (15) picks the server.  MILLRACE_BOOTSTRAP, when set, is a broker
# that runs already.  MILLRACE_OLD_MAJOR is an older PostgreSQL, installed as well, to
# upgrade from.  MILLRACE_JOBS (2) jobs at a time, MILLRACE_TIMEOUT (900) seconds for
# each.  MILLRACE_KEEP=1 keeps the scratch directory.  What tests wait for they wait for
# as long as PG_TEST_TIMEOUT_DEFAULT (180) says, the measure of the server's own test kit.
#
# A test finds the broker's address in MILLRACE_BOOTSTRAP, and for isolation
# specs in the setting test.bootstrap; these scripts in MILLRACE_SCRIPTS; as root a
# disk of 48 MB that it may fill in MILLRACE_SMALL_DISK; in MILLRACE_UNDER the tool that it
# runs under, if any.

set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PG_MAJOR=${PG_MAJOR:-15}
PG_REAL=/usr/lib/postgresql/$PG_MAJOR
JOBS=${MILLRACE_JOBS:-2}
TIMEOUT=${MILLRACE_TIMEOUT:-900}

# --- what a file in scripts/under/ may define otherwise ------------------------

under_packages=()				# to be installed
under_make=()					# make's arguments
under_only=()					# the tests, when none are named
under_prepare() { [ -x "$PG_REAL/bin/pg_config" ] || die "no PostgreSQL $PG_MAJOR in $PG_REAL"; }
under_server() { private_server "$S"; }
under_installed() { :; }		# the extension is installed, nothing runs yet
under_report() { :; }			# all tests have run

# --- outside: scratch directory, user, cleaning up ---------------------------

cleanup() {
	local pids
	trap '' INT TERM
	if [ -n "${inside:-}" ]; then
		pids=$(ps -o pid= -s "$inside" 2>/dev/null)
		# shellcheck disable=SC2086
		[ -z "$pids" ] || kill -TERM $pids 2>/dev/null
	fi
	kill_below "$scratch"
	if [ -n "$results" ]; then
		mkdir -p "$results"
		cp "$scratch"/*/results/* "$results/" 2>/dev/null
	fi
	if [ -n "${inside:-}" ]; then
		pids=$(ps -o pid= -s "$inside" 2>/dev/null)
		# shellcheck disable=SC2086
		[ -z "$pids" ] || kill -KILL $pids 2>/dev/null
	fi
	cd /
	! mountpoint -q "$scratch/small" || umount -l "$scratch/small"
	if [ -n "${MILLRACE_KEEP:-}" ]; then
		say "kept $scratch"
	else
		rm -rf "$scratch"
	fi
}

outside() {
	local as=()
	if [ -z "$no_setup" ]; then
		"$MR_ROOT/scripts/setup.sh" "${under_packages[@]}" || exit 1
	fi
	under_prepare || exit

	scratch=$(mktemp -d /tmp/millrace-check.XXXXXX)
	chmod 755 "$scratch"
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	copy_sources "$scratch/src" || die "could not copy the sources"
	if [ "$(id -u)" = 0 ]; then
		# a disk that can be filled
		mkdir "$scratch/small"
		mount -t tmpfs -o size=48m tmpfs "$scratch/small" 2>/dev/null || rmdir "$scratch/small"
		chown -R postgres "$scratch"
		as=(runuser -u postgres --)
	fi
	# In a session of its own, so that Ctrl-C comes to us and we end it all.
	setsid "${as[@]}" env HOME="$scratch" MILLRACE_CACHE="$MILLRACE_CACHE" \
		"$BASH" "$scratch/src/scripts/check.sh" --inside "$scratch" "${args[@]}" </dev/null &
	inside=$!
	wait "$inside"
	exit $?
}

# --- inside: build and test --------------------------------------------------

passed=0
skipped=0
failed=0

# Counts and prints one result; a failure is shown with what follows.
result() {
	local ok=$1 name=$2
	if [ "$ok" = 0 ]; then
		passed=$((passed + 1))
		printf 'ok      %s\n' "$name"
	else
		failed=$((failed + 1))
		printf 'FAILED  %s\n' "$name"
	fi
}

show() {
	local title=$1 file=$2 lines=$3
	[ -s "$file" ] || return 0
	printf -- '--- %s\n' "$title"
	tail -n "$lines" "$file"
}

finish() {
	[ -z "${kafka:-}" ] || scripts/kafka.sh stop "$kafka" 2>/dev/null
	[ "$skipped" = 0 ] || printf '%d skipped\n' "$skipped"
	printf '%d passed, %d failed\n' "$passed" "$failed"
	[ "$failed" = 0 ] && [ $((passed + skipped)) -gt 0 ]
	exit $?
}

# Was this test asked for?  Prints the names among the files that were.
wanted() {
	local suffix=$1 f name
	shift
	for f in "$@"; do
		[ -e "$f" ] || continue
		name=$(basename "$f" "$suffix")
		if [ ${#only[@]} = 0 ] || grep -qxF -- "$name" <<<"$(printf '%s\n' "${only[@]}")"; then
			echo "$name"
		fi
	done
}

build() {
	make -j"$JOBS" WERROR=1 FAILPOINTS=1 PG_CONFIG="$BIN/pg_config" "${under_make[@]}" &&
		make install PG_CONFIG="$BIN/pg_config" "${under_make[@]}" && under_installed
}

# The same for the older server, in a copy of its own.
build_old() (
	PG_MAJOR=$MILLRACE_OLD_MAJOR
	private_server "$S/old" && copy_sources "$S/old/src" && cd "$S/old/src" &&
		make -j"$JOBS" PG_CONFIG="$BIN/pg_config" && make install PG_CONFIG="$BIN/pg_config"
)

# One suite of pg_regress or pg_isolation_regress; its output goes to a file.
run_regress() {
	local kind=$1 program=$2 name
	shift 2
	mkdir -p "$S/$kind" expected
	for name in "$@"; do
		# pg_regress ends at the first test that expects nothing.
		[ -e "expected/$name.out" ] || : >"expected/$name.out"
	done
	timeout -k 10 "$TIMEOUT" "$PGXS_SRC/test/$program" --inputdir=. --outputdir="$S/$kind" \
		--bindir="$BIN" --temp-instance="$S/$kind/instance" --temp-config="$S/test.conf" \
		--load-extension=millrace --dbname=contrib_regression "$@" >"$S/$kind/out" 2>&1
}

# One file of t/.
run_tap() {
	local name=$1 dir=$S/tap/$1
	mkdir -p "$dir"
	TESTDIR=$dir TESTDATADIR=$dir/tmp_check TESTLOGDIR=$dir/tmp_check/log \
		PATH="$BIN:$PATH" PGPORT=65432 PG_TEST_PORT_DIR="$S/portlock" \
		PG_REGRESS="$PGXS_SRC/test/regress/pg_regress" \
		timeout -k 10 "$TIMEOUT" prove -I "$PGXS_SRC/test/perl" -I . -I t/lib \
		"t/$name.pl" >"$dir/out" 2>&1
}

report_regress() {
	local kind=$1 seconds=$2 name
	shift 2
	for name in "$@"; do
		grep -Eq "^(test|ok +[0-9]+ +[-+]) +$name +(\.\.\. ok +)?[0-9]+ ms|^test $name +\.\.\. ok" "$S/$kind/out"
		result $? "$kind/$name"
	done
	printf '        (%s: %d s)\n' "$kind" "$seconds"
	if [ "$failed" -gt "$failed_before" ]; then
		show "$kind: regression.diffs" "$S/$kind/regression.diffs" 300
		[ -s "$S/$kind/regression.diffs" ] || show "$kind: output" "$S/$kind/out" 40
		show "$kind: server log" "$S/$kind/log/postmaster.log" 60
		[ -s "$S/$kind/log/postmaster.log" ] || show "$kind: initdb" "$S/$kind/log/initdb.log" 20
	fi
}

report_tap() {
	local rc=$1 seconds=$2 name=$3 f
	# A file whose tests were all skipped proves nothing, but does not fail.
	if [ "$rc" = 0 ] && grep -q ' skipped: ' "$S/tap/$name/out"; then
		skipped=$((skipped + 1))
		printf 'skipped tap/%s: %s\n' "$name" "$(sed -n 's/.* skipped: //p' "$S/tap/$name/out" | head -n 1)"
		return
	fi
	result "$rc" "tap/$name ($seconds s)"
	if [ "$rc" != 0 ]; then
		show "tap/$name" "$S/tap/$name/out" 60
		for f in "$S/tap/$name"/tmp_check/log/*; do
			show "tap/$name: $(basename "$f")" "$f" 40
		done
	fi
}

# Runs the jobs, a few at a time, and reports each as it ends.  A job is a kind
# and its names.
run_jobs() {
	local -A job=() began=()
	local pid rc next=0 kind names
	while [ $next -lt ${#jobs[@]} ] || [ ${#job[@]} -gt 0 ]; do
		while [ $next -lt ${#jobs[@]} ] && [ ${#job[@]} -lt "$JOBS" ]; do
			read -r kind names <<<"${jobs[next]}"
			# shellcheck disable=SC2086
			case $kind in
				regress) run_regress regress regress/pg_regress $names & ;;
				isolation) run_regress isolation isolation/pg_isolation_regress $names & ;;
				tap) run_tap $names & ;;
			esac
			job[$!]=${jobs[next]}
			began[$!]=$SECONDS
			next=$((next + 1))
		done
		rc=0
		wait -n -p pid || rc=$?
		[ -n "${pid:-}" ] && [ -n "${job[$pid]:-}" ] || continue
		read -r kind names <<<"${job[$pid]}"
		failed_before=$failed
		# shellcheck disable=SC2086
		case $kind in
			tap) report_tap "$rc" $((SECONDS - began[$pid])) $names ;;
			*) report_regress "$kind" $((SECONDS - began[$pid])) $names ;;
		esac
		unset "job[$pid]"
	done
}

inside() {
	local name rc
	S=$1
	cd "$S/src" || exit 1
	for name in "${!PG@}"; do
		case $name in PG_*) ;; *) unset "$name" ;; esac
	done
	unset LC_ALL LANGUAGE
	mkdir -p "$S/t"				# short: sockets go there
	export PG_MAJOR MILLRACE_UNDER=$under LANG=C.UTF-8 TMPDIR=$S/t MILLRACE_SCRIPTS=$S/src/scripts

	mapfile -t regress < <(wanted .sql sql/*.sql)
	mapfile -t isolation < <(wanted .spec specs/*.spec)
	mapfile -t tap < <(wanted .pl t/*.pl)
	statics=()
	for name in layers indent; do
		if [ -z "$no_static" ] && { [ ${#only[@]} = 0 ] || [[ " ${only[*]} " == *" $name "* ]]; }; then
			statics+=("$name")
		fi
	done
	for name in "${only[@]}"; do
		[[ " ${statics[*]} ${regress[*]} ${isolation[*]} ${tap[*]} " == *" $name "* ]] ||
			die "no test named \"$name\""
	done

	for name in "${statics[@]}"; do
		make -s "check-$name" PG_CONFIG="$PG_REAL/bin/pg_config" >"$S/$name.out" 2>&1
		rc=$?
		result $rc "$name"
		[ $rc = 0 ] || show "$name" "$S/$name.out" 200
	done

	jobs=()
	[ ${#regress[@]} = 0 ] || jobs+=("regress ${regress[*]}")
	[ ${#isolation[@]} = 0 ] || jobs+=("isolation ${isolation[*]}")
	for name in "${tap[@]}"; do jobs+=("tap $name"); done
	[ ${#jobs[@]} -gt 0 ] || finish

	under_server || { failed=$((failed + 1)); say "could not copy the server"; finish; }
	began=$SECONDS
	if ! build >"$S/build.log" 2>&1; then
		grep -E '(error|warning): ' "$S/build.log" | head -n 40
		show "build" "$S/build.log" 40
		printf 'FAILED  build\n'
		failed=$((failed + ${#regress[@]} + ${#isolation[@]} + ${#tap[@]}))
		finish
	fi
	if [ -n "${MILLRACE_OLD_MAJOR:-}" ] && [[ " ${tap[*]} " == *" 023_later_major "* ]]; then
		if build_old >"$S/build_old.log" 2>&1; then
			export MILLRACE_OLD_BINDIR=$S/old/usr/lib/postgresql/$MILLRACE_OLD_MAJOR/bin
		else
			show "build for PostgreSQL $MILLRACE_OLD_MAJOR" "$S/build_old.log" 40
			result 1 "build for PostgreSQL $MILLRACE_OLD_MAJOR"
		fi
	fi
	printf '        (build: %d s)\n' $((SECONDS - began))

	if [ -z "${MILLRACE_BOOTSTRAP:-}" ]; then
		kafka=$S/kafka
		# Nobody kills it, but on a busy machine it may be silent for a while.
		if ! KAFKA_SESSION_MS=60000 scripts/kafka.sh start "$kafka"; then
			printf 'FAILED  kafka\n'
			failed=$((failed + ${#regress[@]} + ${#isolation[@]} + ${#tap[@]}))
			finish
		fi
		MILLRACE_BOOTSTRAP=$(cat "$kafka/bootstrap")
	fi
	export MILLRACE_BOOTSTRAP
	! mountpoint -q "$S/small" || export MILLRACE_SMALL_DISK=$S/small
	{
		cat test.conf
		echo "test.bootstrap = '$MILLRACE_BOOTSTRAP'"
		echo "test.patience = '$((${PG_TEST_TIMEOUT_DEFAULT:-180} / 3))s'"
	} >"$S/test.conf"
	export MILLRACE_TEST_CONF=$S/test.conf

	run_jobs
	under_report
	finish
}

# --- options -----------------------------------------------------------------

args=("$@")
within=
no_setup=
no_static=
results=
under=
only=()
while [ $# -gt 0 ]; do
	case $1 in
		--inside) within=$2; shift ;;
		--no-setup) no_setup=1 ;;
		--no-static) no_static=1 ;;
		--results) results=${2:?}; shift ;;
		--under) under=${2:?}; shift ;;
		--only)
			shift
			[ $# -gt 0 ] || die "--only needs the names of tests"
			for name in "$@"; do
				name=${name##*/}
				name=${name%.sql}
				name=${name%.spec}
				name=${name%.pl}
				only+=("${name#check-}")
			done
			break
			;;
		*) sed -n 's/^# usage: /usage: /p' "$0" >&2; exit 2 ;;
	esac
	shift
done

if [ -n "$under" ]; then
	[ -r "$MR_ROOT/scripts/under/$under.sh" ] || die "no tool named \"$under\""
	# shellcheck source=/dev/null
	. "$MR_ROOT/scripts/under/$under.sh"
	[ ${#only[@]} -gt 0 ] || only=("${under_only[@]}")
fi
if [ -n "$within" ]; then
	inside "$within"
else
	outside
fi
