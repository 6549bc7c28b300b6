#!/bin/bash
# Starts Kafka on its data folder. A folder that is new gets a log with an id of its own: citywatch numbers alarms by that id,
# and the image's own start gives every log the same.
set -euo pipefail
home=${KAFKA_HOME:-/opt/kafka}
config=${KAFKA_CONFIG:-/etc/citywatch/server.properties}
log=$(sed -n 's/^log\.dirs=//p' "$config")

new_id() { # 16 bytes as Kafka writes them; a command line would take one that begins with a dash for an option
    local id
    while id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '='); [[ $id == -* ]]; do :; done
    echo "$id"
}

# meta.properties is written last: without it a format was cut short, and nothing is in the log.
if [ ! -f "$log/meta.properties" ]; then
    "$home/bin/kafka-storage.sh" format --ignore-formatted -t "$(new_id)" -c "$config"
fi
exec "$home/bin/kafka-server-start.sh" "$config"
