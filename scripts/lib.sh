# shellcheck shell=bash
#
# lib.sh - what the scripts share; sourced, never run.

MR_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

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

# Kills what processes_below finds, first politely, then for good.
kill_below() {
	local pids i
	pids=$(processes_below "$1")
	[ -n "$pids" ] || return 0
	# shellcheck disable=SC2086
	kill -QUIT $pids 2>/dev/null
	for i in 1 2 3 4 5 6 7 8 9 10; do
		sleep 0.1
		pids=$(processes_below "$1")
		[ -n "$pids" ] || return 0
	done
	# shellcheck disable=SC2086
	kill -KILL $pids 2>/dev/null
	return 0
}
