#!/usr/bin/env bash
#
# matrix.sh - the test suite on the later PostgreSQL versions.
#
# PostgreSQL 17 comes from Debian trixie and 18 from sid, each in a chroot that
# is made once and kept as a tarball in the cache.  The chroot is unpacked for
# a run, lives in its own mount and process namespaces, and is gone after it.
# Kafka runs on the host; the chroot shares loopback, and borrows the host's
# Java and jars for the tests that start a broker of their own, and its PostgreSQL,
# to upgrade from.
#
# usage: scripts/matrix.sh [17|18]... [-- check.sh options]
#        scripts/matrix.sh --build [17|18]...      only makes the chroots

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ "$(id -u)" = 0 ] || die "must run as root: it makes chroots"

suite_of() {
	case $1 in
		17) echo trixie ;;
		18) echo sid ;;
		*) die "unknown version \"$1\": 17 or 18" ;;
	esac
}

# A repository of one empty package that stands in for LLVM: PostgreSQL's
# packages depend on it, and nothing here uses it.  Saves half a gigabyte.
dummy_llvm() {
	local dir=$1 v provides=
	for v in 17 18 19 20 21 22 23 24; do
		provides+="libllvm$v (= 1:99), llvm-$v (= 1:99), llvm-$v-dev (= 1:99), clang-$v (= 1:99), "
	done
	mkdir -p "$dir/pkg/DEBIAN"
	cat >"$dir/pkg/DEBIAN/control" <<-CONTROL
		Package: no-llvm
		Version: 1
		Architecture: all
		Maintainer: nobody <nobody@localhost>
		Provides: ${provides%, }
		Description: stands in for LLVM where nothing is compiled just in time
	CONTROL
	dpkg-deb --root-owner-group -b "$dir/pkg" "$dir/no-llvm.deb" >/dev/null
	{
		cat "$dir/pkg/DEBIAN/control"
		echo "Filename: ./no-llvm.deb"
		echo "Size: $(stat -c %s "$dir/no-llvm.deb")"
		echo "SHA256: $(sha256sum "$dir/no-llvm.deb" | cut -d' ' -f1)"
	} >"$dir/Packages"
	rm -rf "$dir/pkg"
	chmod -R a+rX "$dir"
}

# Makes the tarball of one version's chroot.
build_chroot() {
	local v=$1 suite tmp
	suite=$(suite_of "$v")
	local tarball=$MILLRACE_CACHE/chroot-$v.tar.zst
	[ ! -s "$tarball" ] || return 0

	local need=
	command -v mmdebstrap >/dev/null || need+=" mmdebstrap"
	command -v zstd >/dev/null || need+=" zstd"
	if [ -n "$need" ]; then
		# shellcheck disable=SC2086
		DEBIAN_FRONTEND=noninteractive apt-get -qq update >/dev/null &&
			DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $need >/dev/null ||
			die "could not install:$need"
	fi

	say "matrix: making the chroot for PostgreSQL $v ($suite), a few minutes"
	mkdir -p "$MILLRACE_CACHE"
	tmp=$(mktemp -d "${TMPDIR:-/tmp}/millrace-chroot.XXXXXX")
	chmod 755 "$tmp"
	mkdir "$tmp/dummy"
	dummy_llvm "$tmp/dummy"
	# shellcheck disable=SC2016
	if ! nice -n 10 mmdebstrap --variant=apt --mode=root --quiet \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		--aptopt='Acquire::Languages "none"' \
		--aptopt='Acquire::Retries "3"' \
		--aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--essential-hook='mkdir -p "$1/etc/postgresql-common" && echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
		--customize-hook='rm -f "$1"/usr/lib/postgresql/*/lib/llvmjit*' \
		--customize-hook='rm -rf "$1"/usr/lib/postgresql/*/lib/bitcode "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' \
		--include="no-llvm,postgresql-$v,postgresql-server-dev-$v,librdkafka-dev,libsimdjson-dev,gcc,g++,libc6-dev,make,libipc-run-perl,kcat,procps,util-linux" \
		"$suite" "$tmp/chroot.tar" \
		"deb $(mirror) $suite main" "deb [trusted=yes] copy://$tmp/dummy ./" \
		>"$tmp/log" 2>&1 </dev/null; then
		tail -n 30 "$tmp/log" >&2
		rm -rf "$tmp"
		die "could not make the chroot for PostgreSQL $v"
	fi
	nice -n 10 zstd -q -T0 -3 -o "$tarball.new" "$tmp/chroot.tar"
	mv "$tarball.new" "$tarball"
	rm -rf "$tmp"
	say "matrix: $tarball, $(du -h "$tarball" | cut -f1)"
}

build_only=
versions=()
while [ $# -gt 0 ]; do
	case $1 in
		--build) build_only=1 ;;
		--) shift; break ;;
		*) suite_of "$1" >/dev/null; versions+=("$1") ;;
	esac
	shift
done
[ ${#versions[@]} -gt 0 ] || versions=(17 18)

for v in "${versions[@]}"; do
	build_chroot "$v"
done
[ -z "$build_only" ] || exit 0

# The host's own server: pg_upgrade wants the programs of both versions.  With it come
# the libraries of which the chroot has none of that name.
old=15
add_old_server() {
	local root=$1 file name
	dpkg -L "postgresql-$old" "postgresql-client-$old" "postgresql-server-dev-$old" |
		grep -E '^/usr/(lib|share|include)/postgresql/' | grep -vE '/(bitcode|locale|man)/|/llvmjit' |
		while read -r file; do [ -d "$file" ] && [ ! -L "$file" ] || printf '%s\0' "$file"; done |
		tar -c -C / --null -T - -f - 2>/dev/null | tar -x -C "$root" -f -
	chroot "$root" ldconfig -p | awk '{print $1}' >"$root/libraries"
	find "$root/usr/lib/postgresql/$old" -type f \( -path '*/bin/*' -o -name '*.so' \) -exec ldd {} + 2>/dev/null |
		awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}' | sort -u |
		while read -r name file; do
			grep -qxF "$name" "$root/libraries" || cp -L "$file" "$root/usr/local/lib/$name"
		done
	rm "$root/libraries"
	chroot "$root" ldconfig
}

# Runs check.sh on one version, in a chroot that is gone afterwards.
run_version() {
	local v=$1 rc=0
	shift
	root=$(mktemp -d /tmp/millrace-chroot.XXXXXX)
	chmod 755 "$root"
	zstd -q -dc "$MILLRACE_CACHE/chroot-$v.tar.zst" | tar -x -C "$root" --exclude='./dev/*' -f -
	mkdir -p "$root/build" "$root$MILLRACE_CACHE/kafka" "$root$MILLRACE_CACHE/broker" "$root$java_home" "$root/dev/shm"
	copy_sources "$root/build"
	add_old_server "$root"
	ln -sf "$java_home/bin/java" "$root/usr/bin/java"

	# The mounts live in a namespace of their own and end with it, and so do
	# the processes.
	# shellcheck disable=SC2016
	setsid unshare --mount --pid --fork --kill-child --propagation private "$BASH" -c '
		set -e
		root=$1 java_home=$2 cache=$3
		shift 3
		mount -t proc proc "$root/proc"
		mount --rbind /dev "$root/dev"
		mount -t tmpfs tmpfs "$root/dev/shm"
		mount --bind -o ro "$java_home" "$root$java_home"
		for conf in /etc/java-*; do
			[ ! -d "$conf" ] || cp -a "$conf" "$root/etc/"
		done
		mount --bind "$cache/kafka" "$root$cache/kafka"
		mount --bind "$cache/broker" "$root$cache/broker"
		cd /
		chroot "$root" "$@"
	' namespace "$root" "$java_home" "$MILLRACE_CACHE" \
		/usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		HOME=/root PG_MAJOR="$v" MILLRACE_OLD_MAJOR="$old" MILLRACE_CACHE="$MILLRACE_CACHE" \
		MILLRACE_BOOTSTRAP="$bootstrap" MILLRACE_JOBS="${MILLRACE_JOBS:-2}" \
		MILLRACE_TIMEOUT="${MILLRACE_TIMEOUT:-900}" \
		/bin/bash /build/scripts/check.sh --no-setup --no-static "$@" </dev/null &
	inside=$!
	wait "$inside" || rc=$?
	inside=
	rm -rf --one-file-system "$root"
	root=
	return $rc
}

cleanup() {
	trap '' INT TERM HUP
	[ -z "${inside:-}" ] || { kill -KILL -- "-$inside" 2>/dev/null; wait "$inside" 2>/dev/null; }
	[ -z "${kafka:-}" ] || { "$MR_ROOT/scripts/kafka.sh" stop "$kafka"; rm -rf "$kafka"; }
	[ -z "${root:-}" ] || rm -rf --one-file-system "$root"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

"$MR_ROOT/scripts/setup.sh"
java_home=$(dirname "$(dirname "$(readlink -f "$(command -v java)")")")
kafka=$(mktemp -d /tmp/millrace-kafka.XXXXXX)
"$MR_ROOT/scripts/kafka.sh" start "$kafka"
bootstrap=$(cat "$kafka/bootstrap")

failed=()
for v in "${versions[@]}"; do
	printf '=== PostgreSQL %s\n' "$v"
	run_version "$v" "$@" || failed+=("$v")
done
if [ ${#failed[@]} -gt 0 ]; then
	printf 'failed on PostgreSQL %s\n' "${failed[*]}"
	exit 1
fi
printf 'passed on PostgreSQL %s\n' "${versions[*]}"
