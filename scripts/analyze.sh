#!/usr/bin/env bash
#
# analyze.sh - the sources under clang's warnings and its static analyser.
#
# gcc's warnings are errors in every build that check.sh makes; here clang's are, too,
# and so is what its analyser finds by following paths through each function: null
# pointers, values that were never set, dead stores, sizes that do not fit.  Nothing is
# suppressed in the sources.  The server's headers and simdjson's count as the
# system's, whose findings are not shown.  It takes two seconds of CPU per file.
#
# Called by make analyze, which knows the flags: CFLAGS, CXXFLAGS, CPPFLAGS.
# CLANG (clang-14) is the compiler.
#
# usage: scripts/analyze.sh FILE...

set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export CLANG=${CLANG:-clang-14} CFLAGS CXXFLAGS CPPFLAGS
command -v "$CLANG" >/dev/null || "$MR_ROOT/scripts/setup.sh" "$CLANG" || exit
out=$(mktemp -d /tmp/millrace-analyze.XXXXXX)
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# One file; says nothing unless there is something to say.
analyze() {
	local file=$1 language
	case $file in
		*.cpp) language="-x c++ $CXXFLAGS" ;;
		*) language="-x c $CFLAGS" ;;
	esac
	# shellcheck disable=SC2086
	"$CLANG" $language $CPPFLAGS -Werror -fsyntax-only "$file" 2>&1
	# shellcheck disable=SC2086
	"$CLANG" $language $CPPFLAGS --analyze -Xclang -analyzer-werror -Xclang -analyzer-output=text "$file" 2>&1
}
export -f analyze

export out
printf '%s\0' "$@" | xargs -0 -n 1 -P "${MILLRACE_JOBS:-2}" bash -c 'analyze "$1" >"$out/${1//\//_}"' analyze
cat "$out"/*
found=$(cat "$out"/* | grep -cE '(error|warning): ')
echo "analyze: $# files, $found findings"
[ "$found" = 0 ] && [ "$(find "$out" -type f | wc -l)" = $# ]
