#!/usr/bin/env bash
# Makes the secrets of docker/compose.yaml in docker/secrets (or the folder that is named), each random. What is there is left as
# it is; --renew NAME makes that one anew (docker/README.md says what else to do then).
#
# The folder is yours alone (0700). The files in it can be read by anybody (0444) who gets so far, and that is on purpose: compose
# mounts each into its containers with the mode it has, and there it is read by users (472, 1000, 10001) that are not you.
set -euo pipefail
names=(influxdb_admin_password influxdb_admin_token grafana_admin_password grafana_influxdb_password)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
renew=
if [ "${1:-}" = --renew ]; then
    renew=${2:?say which: ${names[*]}}
    [[ " ${names[*]} " == *" $renew "* ]] || { echo "there is no secret $renew: ${names[*]}" >&2; exit 2; }
    shift 2
fi
folder=${1:-$here/secrets}

umask 077
mkdir -p "$folder"
chmod 700 "$folder"
for name in "${names[@]}"; do
    if [ -s "$folder/$name" ] && [ "$name" != "$renew" ]; then
        continue
    fi
    head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n' >"$folder/.$name"
    chmod 444 "$folder/.$name"
    mv -f "$folder/.$name" "$folder/$name"
    echo "made $folder/$name"
done
