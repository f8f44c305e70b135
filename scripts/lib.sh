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

# Prints the process ids whose executable or command line lies below DIR.
processes_below() {
	local dir=$1 p pid
	for p in /proc/[0-9]*; do
		pid=${p#/proc/}
		[ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ] && continue
		case "$(readlink "$p/exe" 2>/dev/null)" in
			"$dir"/*) echo "$pid"; continue ;;
			*/java*)
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
