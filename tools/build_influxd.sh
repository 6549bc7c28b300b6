#!/usr/bin/env bash
# Builds the InfluxDB 2.7 server that our tests run against, from pinned Go modules and Rust crates (no web page in it).
#
#   tools/build_influxd.sh [FILE]     default: .cache/influxd/influxd; nothing is done where it is already
#
# Needs Go >= 1.23, cargo and rustc, a C compiler. About 500 seconds of CPU time, once; 93 MB.
set -euo pipefail

version=v2.7.12
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(realpath -m "${1:-$here/../.cache/influxd/influxd}")

if [ -x "$out" ] && "$out" version 2>/dev/null | grep -q "InfluxDB $version"; then
  echo "$out is InfluxDB $version already"
  exit 0
fi
for tool in go cargo rustc gcc; do
  command -v "$tool" >/dev/null || { echo "building influxd needs $tool on PATH (Go >= 1.23, Rust, a C compiler)" >&2; exit 1; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$(dirname "$out")"

# Flux is a Rust library that Go's build finds through a pkg-config of InfluxData's own, which builds it on the way.
GOBIN=$work go install github.com/influxdata/pkg-config@v0.2.14

# Flux denies warnings that newer compilers have learnt since: only for crates built from its sources, not cargo's own calls.
cat > "$work/rustc" <<'WRAPPER'
#!/bin/sh
for word in "$@"; do case "$word" in --cap-lints*) exec "$@" ;; esac; done
case " $* " in *" --crate-name "*) exec "$@" --cap-lints warn ;; esac
exec "$@"
WRAPPER
chmod +x "$work/rustc"
export PKG_CONFIG=$work/pkg-config RUSTC_WRAPPER=$work/rustc

# The sources name a toolchain of their own, which rustup would fetch; the one that is here builds them as well.
if command -v rustup >/dev/null; then
  RUSTUP_TOOLCHAIN=$(rustup show active-toolchain | cut -d' ' -f1)
  export RUSTUP_TOOLCHAIN
fi

cd "$here/influxd"
go build -tags sqlite_foreign_keys,sqlite_json -ldflags "-s -w -X main.version=$version" \
  -o "$work/influxd" github.com/influxdata/influxdb/v2/cmd/influxd
"$work/influxd" version | grep "InfluxDB $version"
mv "$work/influxd" "$out"
