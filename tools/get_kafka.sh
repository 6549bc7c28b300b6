#!/usr/bin/env bash
# Fetches the jars of Apache Kafka that tools/kafka/pom.xml pins, with Maven, for `citywatch up --real` and the slow tests.
#
#   tools/get_kafka.sh [FOLDER]       default: .cache/kafka/libs; nothing is done where they are already
#
# Needs mvn (Maven); running them needs Java >= 17. Some seconds, 45 MB.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pom=$here/kafka/pom.xml
out=$(realpath -m "${1:-$here/../.cache/kafka/libs}")
version=$(grep -A1 '<artifactId>kafka_2.13<' "$pom" | sed -n 's:.*<version>\(.*\)</version>.*:\1:p')

mkdir -p "$(dirname "$out")"
exec 9>"$out.lock"
flock 9 # two may begin at once
if [ -e "$out/kafka_2.13-$version.jar" ]; then
  echo "$out has Kafka $version already"
  exit 0
fi
command -v mvn >/dev/null || { echo "fetching Kafka needs mvn (Maven) on PATH: apt-get install maven" >&2; exit 1; }

half=$(mktemp -d "$(dirname "$out")/half.XXXXXX") # what is cut short is not taken for the whole
trap 'rm -rf "$half"' EXIT
mvn -q -B -f "$pom" dependency:copy-dependencies -DoutputDirectory="$half/libs" -DincludeScope=runtime
rm -rf "$out"
mv "$half/libs" "$out"
echo "$out has Kafka $version"
