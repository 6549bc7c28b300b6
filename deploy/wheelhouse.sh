#!/bin/bash
# Makes the folder OUT with wheels of citywatch and of what it needs to run, as requirements.lock pins them, their hashes
# checked, and SHA256SUMS: for a machine without internet, of the same Python and the same kind as this one.
#   deploy/wheelhouse.sh OUT          (make wheelhouse: with the console's page in it)
set -euo pipefail
out=${1:?"say where: deploy/wheelhouse.sh OUT"}
root=$(cd "$(dirname "$0")/.." && pwd)
pip="${PYTHON:-$root/.venv/bin/python} -m pip --disable-pip-version-check --quiet"
if [ -e "$out" ]; then echo "$out is there already: name a new folder" >&2; exit 2; fi
all=$(mktemp -d)
trap 'rm -rf "$all"' EXIT
cd "$root"
$pip wheel --require-hashes --wheel-dir "$all" -r requirements.lock
$pip wheel --no-index --no-deps --no-build-isolation --wheel-dir "$all" .
# All that citywatch needs, and nothing that only its development does; not finding it here would be an error.
$pip download --no-index --find-links "$all" --dest "$all/out" citywatch
(cd "$all/out" && sha256sum -- *.whl > SHA256SUMS)
mkdir -p "$(dirname "$out")"
mv "$all/out" "$out"
echo "$out: $(ls "$out" | grep -c whl) wheels, $(du -sh "$out" | cut -f1)"
