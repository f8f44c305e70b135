# shellcheck shell=bash
#
# lib.sh - what the scripts share; sourced, never run.

MR_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

# Other users (postgres, for one) must be able to read what we make.
umask 022

# The cache holds what is expensive to fetch or build: Kafka's jars, a class
# data archive, chroots.  It lies outside the checkout, and where root made it
# everybody can read it, because the tests run as user postgres.
if [ -z "${MILLRACE_CACHE:-}" ]; then
	if [ "$(id -u)" = 0 ] || [ -r /var/cache/millrace/kafka/.complete ]; then
		MILLRACE_CACHE=/var/cache/millrace
	else
		MILLRACE_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/millrace
	fi
fi
export MILLRACE_CACHE

# Are there jars in DIR, and those of this version?
have_jars() { [ "$(cat "$1/.complete" 2>/dev/null)" = "$2" ]; }

# DIR VERSION GROUP:ARTIFACT:VERSION...: fetches these with all that they need from
# Maven Central, and puts them into DIR, below the cache.  On failure DIR is as it was.
fetch_jars() (
	dir=$1 version=$2
	shift 2
	mkdir -p "$MILLRACE_CACHE" && tmp=$(mktemp -d "$MILLRACE_CACHE/fetch.XXXXXX") || exit
	trap 'rm -rf "$tmp"' EXIT
	trap 'exit 1' INT TERM HUP
	{
		echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
		echo '<groupId>millrace</groupId><artifactId>jars</artifactId><version>1</version><dependencies>'
		printf '%s\n' "$@" | awk -F : '{printf "<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n", $1, $2, $3}'
		echo '</dependencies></project>'
	} >"$tmp/pom.xml"
	cd "$tmp" || exit
	MAVEN_OPTS="${MAVEN_OPTS:-} -XX:-UsePerfData" mvn -q -B -Dmaven.repo.local="$tmp/repository" \
		org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies -DincludeScope=runtime \
		-DoutputDirectory="$tmp/libs" </dev/null >"$tmp/log" 2>&1 || { tail -n 20 "$tmp/log" >&2; exit 1; }
	echo "$version" >"$tmp/libs/.complete"
	chmod -R a+rX,go-w "$tmp/libs"
	chmod a+rx "$MILLRACE_CACHE"
	rm -rf "$dir" && mv "$tmp/libs" "$dir"
)

# The Debian mirror this machine's own apt uses.
mirror() {
	local m
	# shellcheck disable=SC2016
	m=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 2>/dev/null |
		sed -n 's/^Debian|Debian|\(.*\)$/\1/p' | head -n 1)
	[ -n "$m" ] || m=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
		/etc/apt/sources.list.d/*.sources 2>/dev/null |
		sed -nE 's/^(URIs:|deb( \[[^]]*\])?) +([^ ]*\/debian)\/?( .*)?$/\3/p' | head -n 1)
	[ -n "$m" ] || die "no Debian mirror in this machine's apt sources"
	echo "${m%/}"
}

# SUITE PACKAGE DIR: fetches the sources of a Debian package, with Debian's patches, into DIR,
# which must not exist yet; the machine's own package lists stay as they are.
fetch_source() (
	suite=$1 package=$2 dir=$3
	url=$(mirror) && tmp=$(mktemp -d /tmp/millrace-source.XXXXXX) || exit
	trap 'rm -rf "$tmp"' EXIT
	trap 'exit 1' INT TERM HUP
	chmod 755 "$tmp"
	mkdir -p "$tmp/lists/partial" "$tmp/archives/partial" "$tmp/get"
	echo "deb-src $url $suite main" >"$tmp/sources.list"
	options=(-q -o Dir::Etc::SourceList="$tmp/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$tmp/lists"
		-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Dir::Cache::Archives="$tmp/archives" -o Acquire::Languages=none
		-o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=)
	cd "$tmp/get" || exit
	{ apt-get "${options[@]}" update && apt-get "${options[@]}" --download-only source "$package" &&
		dpkg-source --no-check -x ./*.dsc "$tmp/source"; } </dev/null >"$tmp/log" 2>&1 || { tail -n 20 "$tmp/log" >&2; exit 1; }
	mv "$tmp/source" "$dir"
)

# Copies the tree as it stands, without what git ignores.
copy_sources() {
	local to=$1 list=(git -c safe.directory="$MR_ROOT" -C "$MR_ROOT" ls-files -z -co --exclude-standard)
	mkdir -p "$to"
	if "${list[@]}" >/dev/null 2>&1; then
		"${list[@]}" | (
			cd "$MR_ROOT" || exit
			while IFS= read -r -d '' f; do [ ! -e "$f" ] || printf '%s\0' "$f"; done |
				tar -c --null -T - -f -
		) | tar -x -C "$to" -f -
	else
		tar -c -C "$MR_ROOT" --exclude=.git --exclude='*.[od]' --exclude='*.so' -f - . | tar -x -C "$to" -f -
	fi
	chmod -R a+rX "$to"
}

# Closes every descriptor but the standard ones.  A daemon that is started
# from here must not hold a lock or a pipe of whoever called us.
close_inherited_fds() {
	local fd
	for fd in /proc/"$BASHPID"/fd/*; do
		fd=${fd##*/}
		[ "$fd" -le 2 ] || eval "exec $fd>&-" 2>/dev/null
	done
}

# Prints the process ids whose executable or command line lies below DIR; valgrind's
# executable is its own, as Java's is.
processes_below() {
	local dir=$1 p pid
	for p in /proc/[0-9]*; do
		pid=${p#/proc/}
		[ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ] && continue
		case "$(readlink "$p/exe" 2>/dev/null)" in
			"$dir"/*) echo "$pid"; continue ;;
			*/java* | */memcheck*)
				case "$(tr '\0' ' ' <"$p/cmdline" 2>/dev/null)" in
					*"$dir"/*) echo "$pid" ;;
				esac ;;
		esac
	done
}

# Ends what processes_below finds: PostgreSQL by an immediate shutdown, so that
# it takes its shared memory along, and Java, which has none, at once.
kill_below() {
	local pid i
	for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
		for pid in $(processes_below "$1"); do
			case "$i $(readlink "/proc/$pid/exe" 2>/dev/null)" in
				1\ */java | 12\ *) kill -KILL "$pid" 2>/dev/null ;;
				1\ *) kill -QUIT "$pid" 2>/dev/null ;;
			esac
		done
		[ -n "$(processes_below "$1")" ] || return 0
		sleep 0.1
	done
	return 0
}

# A copy of the server, below DIR, that finds all its files relative to where it
# lies, so that what we build can be installed without touching the machine's own.
# Sets BIN and PGXS_SRC.
private_server() {
	local dir=$1 v=${PG_MAJOR:-15} real
	real=/usr/lib/postgresql/$v
	mkdir -p "$dir/usr/lib/postgresql/$v" "$dir/usr/share/postgresql" "$dir/usr/include"
	cp -a "$real/bin" "$dir/usr/lib/postgresql/$v/bin" &&
		cp -as "$real/lib" "$dir/usr/lib/postgresql/$v/lib" &&
		cp -as "/usr/share/postgresql/$v" "$dir/usr/share/postgresql/$v" &&
		ln -s /usr/include/postgresql "$dir/usr/include/postgresql" || return
	# What may be installed on the machine must not stand in for what we built.
	rm -f "$dir/usr/lib/postgresql/$v"/lib/millrace.so \
		"$dir/usr/share/postgresql/$v"/extension/millrace*
	BIN=$dir/usr/lib/postgresql/$v/bin
	# shellcheck disable=SC2034
	PGXS_SRC=$(dirname "$("$BIN/pg_config" --pgxs)")/..
}

# --- a scratch server with millrace: demo.sh, bench/run.sh ---------------------

# NAME: makes a scratch directory S, which goes when the script ends, with all that
# runs from it and with the processes in the array background, by process id.
# "${as[@]}" before a command runs it as the server's user, whose name is pg_user.
make_scratch() {
	local name
	for name in "${!PG@}"; do
		case $name in PG_*) ;; *) unset "$name" ;; esac
	done
	PORT=5432						# only names the socket; nothing listens on TCP
	background=()
	S=$(mktemp -d "/tmp/$1.XXXXXX") || exit
	trap remove_scratch EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	chmod 755 "$S"
	as=() pg_user=$(id -un)
	if [ "$(id -u)" = 0 ]; then
		as=(runuser -u postgres --) pg_user=postgres
		chown postgres "$S"
	fi
}

remove_scratch() {
	local pid
	trap '' INT TERM HUP
	for pid in "${background[@]}"; do kill "$pid" 2>/dev/null; done
	kill_below "$S"
	cd / && rm -rf "$S"
}

# [make's arguments]: builds millrace below S and installs it into a server of its own.
build_scratch() {
	copy_sources "$S/src" && private_server "$S" && cd "$S/src" &&
		make -s -j2 PG_CONFIG="$BIN/pg_config" "$@" && make -s install PG_CONFIG="$BIN/pg_config"
}

# SETTING...: makes a cluster with millrace and these lines of postgresql.conf, and starts it.
start_scratch() {
	"${as[@]}" "$BIN/initdb" -D "$S/data" -A trust --no-sync -E UTF8 --locale=C.UTF-8 &&
		printf '%s\n' "shared_preload_libraries = 'millrace'" "listen_addresses = ''" \
			"unix_socket_directories = '$S'" "port = $PORT" "$@" >>"$S/data/postgresql.conf" &&
		{ "${as[@]}" "$BIN/pg_ctl" -D "$S/data" -l "$S/postgresql.log" -w start || {
			cat "$S/postgresql.log"
			return 1
		}; }
}

# The copy of kafka.sh: user postgres may have no way into the checkout, in /root for one.
start_scratch_kafka() {
	"${as[@]}" env KAFKA_HEAP="${1:-256m}" "$S/src/scripts/kafka.sh" start "$S/kafka"
}

scratch_sql() { "$BIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$S" -p "$PORT" -U "$pg_user" -d postgres "$@"; }
