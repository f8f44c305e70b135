#!/usr/bin/env bash
#
# setup.sh - installs what building and testing millrace needs.
#
# On a Debian 12 as root it installs the missing packages and fetches the jars
# of a real Apache Kafka into the cache; see lib.sh for where that is.  When
# everything is there it says nothing and takes a moment.  As an ordinary user
# it only fetches the jars, and names the packages that root has to install.
#
# usage: scripts/setup.sh [PACKAGE...]      these packages as well

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

KAFKA_VERSION=4.1.0
JARS=$MILLRACE_CACHE/kafka
PACKAGES="postgresql-15 postgresql-server-dev-15 librdkafka-dev libsimdjson-dev
	libipc-run-perl make gcc g++ pg-bsd-indent kcat perl procps util-linux
	postgresql-15-hll postgresql-15-tdigest"

# Prints those of the given packages that are not installed.
missing_packages() {
	local installed p
	# shellcheck disable=SC2016,SC2086
	installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^ii  *//p')
	for p in "$@"; do
		grep -qxF -- "$p" <<<"$installed" || printf '%s ' "$p"
	done
}

java_is_recent() {
	local v
	command -v java >/dev/null || return 1
	v=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' \
		"$(dirname "$(dirname "$(readlink -f "$(command -v java)")")")/release" 2>/dev/null) || v=
	[ -n "$v" ] || v=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
	[ "${v:-0}" -ge 17 ]
}

install_packages() {
	say "setup: installing $*"
	export DEBIAN_FRONTEND=noninteractive
	# The package would create and start a cluster that nobody asked for.
	local conf=/etc/postgresql-common/createcluster.conf ours='' log rc=0
	if [ ! -e $conf ]; then
		ours=1
		mkdir -p "${conf%/*}"
		echo 'create_main_cluster = false' >$conf
	fi
	log=$(mktemp)
	{ apt-get -qq -o Acquire::Retries=3 update &&
		apt-get -qq -y --no-install-recommends -o Acquire::Retries=3 \
			-o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 install "$@"; } \
		>"$log" 2>&1 </dev/null || rc=$?
	# What else comes to this machine later shall do as it always does.
	if [ -n "$ours" ]; then
		rm -f $conf
		[ ! -e /usr/share/postgresql-common/createcluster.conf ] || cp /usr/share/postgresql-common/createcluster.conf $conf
	fi
	[ $rc = 0 ] || cat "$log" >&2
	rm -f "$log"
	[ $rc = 0 ] || die "could not install: $*"
}

# shellcheck disable=SC2086
need=$(missing_packages $PACKAGES "$@")
java_is_recent || need+="openjdk-17-jre-headless "
have_jars "$JARS" "$KAFKA_VERSION" || command -v mvn >/dev/null || need+="maven "

if [ -n "$need" ]; then
	[ "$(id -u)" = 0 ] || die "these packages are missing, install them as root: $need"
	# shellcheck disable=SC2086
	install_packages $need
fi
have_jars "$JARS" "$KAFKA_VERSION" || {
	say "setup: fetching Apache Kafka $KAFKA_VERSION into $JARS"
	fetch_jars "$JARS" "$KAFKA_VERSION" org.apache.kafka:kafka_2.13:$KAFKA_VERSION \
		org.apache.kafka:kafka-tools:$KAFKA_VERSION org.slf4j:slf4j-simple:1.7.36 || die "could not fetch the jars"
}
[ -r "$MILLRACE_CACHE/broker/.complete" ] || "$MR_ROOT/scripts/kafka.sh" prepare
