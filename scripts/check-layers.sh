#!/usr/bin/env bash
#
# check-layers.sh - proves that the sources keep to their layers.
#
#   - A file includes headers of its own folder and of folders above it in the
#     list below, never of one underneath.  The top of src/ is above them all;
#     of its files only init.c, launcher.c and supervisor.c, which start
#     everything, may include everything, and nobody below includes them.
#   - A foreign library has one border: librdkafka is src/kafka's, simdjson is
#     src/format/json.cpp's, and src/compat.h alone knows PG_VERSION_NUM.
#   - A quoted include names a header of ours, by its path below src/ or, in
#     the same folder, by its name.  Otherwise this check would miss it.
#
# usage: scripts/check-layers.sh [DIR]      DIR: the tree, default this one

set -u
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}" || exit 2

files=$(find src -name '*.[ch]' -o -name '*.cpp' | sort)
if [ -z "$files" ]; then
	echo "check-layers: no sources"
	exit 0
fi

# shellcheck disable=SC2086
awk '
BEGIN {
	n = split(". aggregate kafka format stream view sink ingest", order, " ")
	for (i = 1; i <= n; i++)
		layer[order[i]] = i
}

function complain(text) {
	printf "%s:%d: %s\n", FILENAME, FNR, text
	bad++
}

# Folder of a path below src: "." for the top.
function folder(path) {
	return path ~ /\// ? substr(path, 1, index(path, "/") - 1) : "."
}

function exists(path,	line, ok) {
	ok = (getline line < ("src/" path)) >= 0
	close("src/" path)
	return ok
}

FNR == 1 {
	me = substr(FILENAME, 5)
	mine = folder(me)
	if (!(mine in layer))
		complain("folder src/" mine " has no layer")
	checked++
}

/PG_VERSION_NUM/ && me != "compat.h" {
	complain("PG_VERSION_NUM outside src/compat.h")
}

/^[ \t]*#[ \t]*include/ {
	if (!match($0, /[<"][^>"]*[>"]/)) {
		complain("an include that this check cannot read")
		next
	}
	quoted = substr($0, RSTART, 1) == "\""
	name = substr($0, RSTART + 1, RLENGTH - 2)

	if (name ~ /rdkafka/) {
		if (mine != "kafka")
			complain("librdkafka outside src/kafka")
		next
	}
	if (name ~ /simdjson/) {
		if (me != "format/json.cpp")
			complain("simdjson outside src/format/json.cpp")
		next
	}
	if (name ~ /(^|\/)\.\.\//) {
		complain("include \"" name "\" by its path below src/")
		next
	}

	# Which header of ours is it, if any?
	if (exists(name))
		target = name
	else if (quoted && mine != "." && exists(mine "/" name))
		target = mine "/" name
	else
		next

	if (target == "init.h" || (target == "launcher.h" || target == "supervisor.h") && mine != ".")
		complain(target " is included by nobody")
	if (me == "init.c" || me == "launcher.c" || me == "supervisor.c")
		next
	theirs = folder(target)
	if (layer[theirs] > layer[mine])
		complain("src/" (mine == "." ? "" : mine "/") " includes \"" target "\", which lies below it")
}

END {
	printf "check-layers: %d files, %d violations\n", checked, bad
	exit bad > 0
}
' $files
