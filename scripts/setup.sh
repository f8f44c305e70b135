#!/usr/bin/env bash
#
# setup.sh - installs what building and testing millrace needs.
#
# On a Debian 12 as root it installs the missing packages and fetches the jars
# of a real Apache Kafka into the cache; see lib.sh for where that is.  When
# everything is there it says nothing and takes a moment.  As an ordinary user
# it only fetches the jars, and names the packages that root has to install.
#
# usage: scripts/setup.sh

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

KAFKA_VERSION=4.1.0
JARS=$MILLRACE_CACHE/kafka
PACKAGES="postgresql-15 postgresql-server-dev-15 librdkafka-dev libsimdjson-dev
	libipc-run-perl make gcc g++ pg-bsd-indent kcat perl procps util-linux"

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

fetch_jars() {
	local tmp
	say "setup: fetching Apache Kafka $KAFKA_VERSION into $JARS"
	mkdir -p "$MILLRACE_CACHE"
	tmp=$(mktemp -d "$MILLRACE_CACHE/fetch.XXXXXX")
	# shellcheck disable=SC2064
	trap "rm -rf '$tmp'" EXIT
	cat >"$tmp/pom.xml" <<-POM
		<project xmlns="http://maven.apache.org/POM/4.0.0">
		  <modelVersion>4.0.0</modelVersion>
		  <groupId>millrace</groupId>
		  <artifactId>kafka</artifactId>
		  <version>1</version>
		  <dependencies>
		    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version></dependency>
		    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$KAFKA_VERSION</version></dependency>
		    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
		  </dependencies>
		</project>
	POM
	(cd "$tmp" && MAVEN_OPTS="${MAVEN_OPTS:-} -XX:-UsePerfData" mvn -q -B -Dmaven.repo.local="$tmp/repository" \
		org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies -DoutputDirectory="$tmp/libs") </dev/null >"$tmp/log" 2>&1 ||
		{ tail -n 20 "$tmp/log" >&2; die "could not fetch the jars"; }
	echo "$KAFKA_VERSION" >"$tmp/libs/.complete"
	chmod -R a+rX,go-w "$tmp/libs"
	chmod a+rx "$MILLRACE_CACHE"
	rm -rf "$JARS"
	mv "$tmp/libs" "$JARS"
	rm -rf "$tmp"
	trap - EXIT
}

# shellcheck disable=SC2086
need=$(missing_packages $PACKAGES)
java_is_recent || need+="openjdk-17-jre-headless "
have_jars() { [ "$(cat "$JARS/.complete" 2>/dev/null)" = "$KAFKA_VERSION" ]; }
have_jars || command -v mvn >/dev/null || need+="maven "

if [ -n "$need" ]; then
	[ "$(id -u)" = 0 ] || die "these packages are missing, install them as root: $need"
	# shellcheck disable=SC2086
	install_packages $need
fi
have_jars || fetch_jars
[ -r "$MILLRACE_CACHE/broker/.complete" ] || "$MR_ROOT/scripts/kafka.sh" prepare
