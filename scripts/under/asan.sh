# shellcheck shell=bash
#
# asan.sh - the tests under AddressSanitizer and UndefinedBehaviorSanitizer, on a
# PostgreSQL that checks itself.
#
# Sourced by check.sh --under asan.  The server is PostgreSQL 18 from Debian's
# source package, built once, with assertions and injection points, and kept
# in the cache.  It is instrumented as well, so that a bad pointer which we hand to one of its
# functions is found there, and it marks the memory of its own allocator for
# AddressSanitizer (asan/valgrind/memcheck.h): reads behind a palloc'd chunk are found, and
# of one that was freed.
#
# A report of a sanitizer or a failed assertion, anywhere in any process, fails
# the target; --results DIR gets the reports.  Nothing is suppressed; three
# things are switched off:
#
# - detect_leaks: a backend's memory is freed by its end; PostgreSQL never does it by hand.
# - detect_stack_use_after_return: PostgreSQL measures its stack's depth by the
#   address of a variable, which that option puts elsewhere.
# - vptr (of UndefinedBehaviorSanitizer) would need run-time type information of
#   simdjson's library, which Debian builds without.
#
# All is some three times slower; MILLRACE_TIMEOUT (here 3600) has to be enough for the slowest
# test, and all regression tests count as one.

PG_MAJOR=18
ASAN_SUITE=sid
ASAN_PREFIX=usr/lib/postgresql/$PG_MAJOR
TIMEOUT=${MILLRACE_TIMEOUT:-3600}
under_packages=(bison flex bzip2 dpkg-dev libicu-dev libxml2-dev perl pkg-config zlib1g-dev)
under_make=(PROFILE="-fsanitize=undefined -fno-sanitize=vptr -g -O1")

asan_build() {
	local source=$1/source stage=$1/stage part
	fetch_source "$ASAN_SUITE" "postgresql-$PG_MAJOR" "$source" || return
	cd "$source" || return
	./configure --quiet --prefix="/$ASAN_PREFIX" --datadir="/usr/share/postgresql/$PG_MAJOR" \
		--includedir=/usr/include/postgresql --disable-rpath --enable-cassert --enable-debug \
		--enable-tap-tests --enable-injection-points --with-libxml --without-readline \
		CC=gcc CXX=g++ CPPFLAGS="-DUSE_VALGRIND -I$MR_ROOT/scripts/under/asan" \
		CFLAGS="-fsanitize=address -fno-omit-frame-pointer -g -O1" \
		CXXFLAGS="-fsanitize=address -fno-omit-frame-pointer -g -O1" LDFLAGS=-fsanitize=address || return
	for part in . contrib/amcheck contrib/auto_explain contrib/pg_stat_statements contrib/test_decoding src/test/modules/injection_points; do
		make -s -j2 -C "$part" && make -s -C "$part" install DESTDIR="$stage" || return
	done
	tar -c -z -C "$stage" -f "$ASAN_SERVER.new" usr && mv "$ASAN_SERVER.new" "$ASAN_SERVER"
}

# A change of how it is built is another server.
ASAN_SERVER=$MILLRACE_CACHE/asan-$PG_MAJOR-$({ declare -f asan_build; cat "$MR_ROOT"/scripts/under/asan/valgrind/*.h; } |
	cksum | cut -d' ' -f1).tar.gz

under_prepare() (
	[ ! -s "$ASAN_SERVER" ] || exit 0
	mkdir -p "$MILLRACE_CACHE" && tmp=$(mktemp -d /tmp/millrace-asan.XXXXXX) || exit
	trap 'rm -rf "$tmp" "$ASAN_SERVER.new"' EXIT
	trap 'exit 1' INT TERM HUP
	say "asan: building PostgreSQL $PG_MAJOR, some ten minutes"
	if ! (ASAN_OPTIONS=detect_leaks=0 asan_build "$tmp") >"$tmp/log" 2>&1 </dev/null; then
		tail -n 30 "$tmp/log" >&2
		die "could not build PostgreSQL $PG_MAJOR"
	fi
)

under_server() {
	mkdir -p "$S/asan/results"
	export LD_LIBRARY_PATH=$S/$ASAN_PREFIX/lib MILLRACE_STOP=fast PG_TEST_TIMEOUT_DEFAULT=600
	export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=1:disable_coredump=1:log_path=$S/asan/results/asan
	export UBSAN_OPTIONS=print_stacktrace=1:log_path=$S/asan/results/ubsan
	tar -x -z -C "$S" -f "$ASAN_SERVER" || return
	BIN=$S/$ASAN_PREFIX/bin
	PGXS_SRC=$(dirname "$("$BIN/pg_config" --pgxs)")/..
}

# initdb is slow under AddressSanitizer: once is enough.
under_installed() {
	"$BIN/initdb" --auth=trust --no-sync --no-instructions --lc-messages=C "$S/template" &&
		export INITDB_TEMPLATE=$S/template
}

under_report() {
	local f
	grep -rhE --include='*.log' '^TRAP: ' "$S" >"$S/asan/results/assertions" 2>/dev/null
	for f in "$S"/asan/results/*; do
		[ -s "$f" ] || { rm -f "$f"; continue; }
		printf -- '--- %s\n' "$(basename "$f")"
		head -n 60 "$f"
	done
	[ -z "$(ls "$S/asan/results")" ]
	result $? asan
}
