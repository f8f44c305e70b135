# shellcheck shell=bash
#
# valgrind.sh - some of the tests under valgrind's memcheck, on Debian's server.
#
# Sourced by check.sh --under valgrind.  It finds what depends on memory that was never
# written, which AddressSanitizer does not.  A report in whose stack there is code of
# ours fails the target; --results DIR gets them.  What concerns the server alone is
# not ours to judge.
#
# Suppressed is what PostgreSQL's own list names (src/tools/valgrind.supp: padding that is
# written to disk or summed up, and the like); nothing of ours.  Debian's server has no symbols for the
# static functions which that list goes by, so valgrind.supp, here, says some of it again.
#
# Only a server built with USE_VALGRIND tells valgrind about palloc's chunks, and Debian's is not.
# Here a chunk is a piece of a malloc'd block, and a read behind its end is not seen; --under asan is for that.
# A chunk that is used for the second time counts as written, too.
#
# All is some thirty times slower, the whole takes an hour or two; MILLRACE_TIMEOUT (here 7200) has to be enough for the
# slowest test, and all regression tests count as one.  The rest of t/ would take hours more; --only names what is wanted.

VALGRIND_SUPPRESSIONS=$MILLRACE_CACHE/valgrind-$PG_MAJOR.supp

under_packages=(valgrind libc6-dbg dpkg-dev bzip2)
# Our sources get a name that does not depend on where they were built, for under_report.
# shellcheck disable=SC2016
under_make=(PROFILE='-g -O1 -fno-omit-frame-pointer -fdebug-prefix-map=$(CURDIR)=/millrace')
# All of sql/ but what computes much (sketches, view_ordered, view_own_aggregates), what goes by the clock
# (view_window waits for moments that have passed by then), and what is about other people's libraries
# (view_extensions, view_postgis: tdigest's states have padding that was never written).
# Of t/ what every message passes through: first steps, kills, catching up, workers, transactions, errors, gaps.
under_only=(001_first 002_must_show 003_kills 004_catchup 005_workers 006_transactions 007_broker 008_errors 009_gaps
	aggregates stream_insert stream_options streams table_streams transform transform_constraints transform_stream
	view_aggregates view_chained view_changes view_clauses view_combine view_create view_dead_letters
	view_distinct view_grouping view_joins view_lifecycle view_names view_rare view_refuse view_retention view_settings
	view_states view_time view_types view_union)
TIMEOUT=${MILLRACE_TIMEOUT:-7200}

under_prepare() {
	local tmp
	[ -x "$PG_REAL/bin/pg_config" ] || die "no PostgreSQL $PG_MAJOR in $PG_REAL"
	[ ! -s "$VALGRIND_SUPPRESSIONS" ] || return 0
	tmp=$(mktemp -d /tmp/millrace-valgrind.XXXXXX)
	fetch_source bookworm "postgresql-$PG_MAJOR" "$tmp/source" &&
		mkdir -p "$MILLRACE_CACHE" && cp "$tmp/source/src/tools/valgrind.supp" "$VALGRIND_SUPPRESSIONS"
	rm -rf "$tmp"
	[ -s "$VALGRIND_SUPPRESSIONS" ] || die "could not fetch PostgreSQL's suppressions"
}

# The server runs under valgrind, what makes a cluster does not.
under_installed() {
	mkdir -p "$S/valgrind/all" "$S/valgrind/results"
	mv "$BIN/postgres" "$BIN/postgres.bin"
	cat >"$BIN/postgres" <<-WRAPPER
		#!/bin/sh
		case " \$1 " in
			" -V " | " --version " | " -C " | " --boot " | " --check " | " --single " | " --describe-config ")
				exec "$BIN/postgres.bin" "\$@" ;;
		esac
		exec valgrind --quiet --leak-check=no --num-callers=40 --fullpath-after= --error-limit=no \\
			--suppressions="$VALGRIND_SUPPRESSIONS" --suppressions="$S/src/scripts/under/valgrind.supp" \\
			--log-file="$S/valgrind/all/%p" \\
			"$BIN/postgres.bin" "\$@"
	WRAPPER
	chmod +x "$BIN/postgres"
	export MILLRACE_STOP=fast PG_TEST_TIMEOUT_DEFAULT=1800
}

# A report is a line that says what, and its stacks, up to an empty line.  The same one is
# shown once, wherever it was in memory.
under_report() {
	local reports=$S/valgrind/results/valgrind.txt
	cat "$S"/valgrind/all/* 2>/dev/null | sed -E 's/^==[0-9]+== ?//; s/0x[0-9A-F]+/0x/g' |
		awk -v RS= -v ours=/millrace/src/ 'index($0, ours) && !seen[$0]++ { print $0 "\n" }' |
		sed "s|/millrace/src/|src/|g" >"$reports"
	show "valgrind" "$reports" 400
	[ ! -s "$reports" ]
	result $? valgrind
}
