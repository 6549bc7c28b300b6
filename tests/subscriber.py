"""A subscriber: `python subscriber.py HOST:PORT DATABASE TOPIC...`; needs kafka-python and nothing of citywatch."""

import json
import sqlite3
import sys

from kafka import KafkaConsumer

TABLE = "create table if not exists kept (topic, id, version, value, primary key (topic, id))"
KEEP = """insert into kept values (?, ?, ?, ?) on conflict do update
    set version = excluded.version, value = excluded.value where excluded.version > version"""


def kept(record):
    """Topic, the id that repeats have in common, which of them is the newest, and the value; None: no event."""
    said = dict(record.headers)
    if said.get("ce_type") in (b"city.clock.v1", b"city.control.v1", b"city.canary.v1"):
        return None
    try:
        value = json.loads(record.value)
        if "alarm_id" in value:  # city.alarm.state.v1: of one alarm the greatest position counts
            return record.topic, value["alarm_id"], value["position"], record.value
        name = said["ce_source"] + b" " + said["ce_id"] if "ce_id" in said else value["event_id"].encode()
        return record.topic, name.decode(), value.get("revision", 0), record.value
    except (ValueError, TypeError, KeyError, AttributeError):  # somebody's mistake; city.rejected.v1 has it
        return None


def run(bootstrap, database, *topics):
    db = sqlite3.connect(database)
    db.execute(TABLE)
    consumer = KafkaConsumer(
        *topics, bootstrap_servers=bootstrap, group_id="my-service", api_version=(2, 3),
        auto_offset_reset="earliest", enable_auto_commit=False,
    )  # fmt: skip
    while True:
        for records in consumer.poll(timeout_ms=500).values():
            db.executemany(KEEP, filter(None, map(kept, records)))
        db.commit()  # first what was read, then how far: a crash between the two repeats, and loses nothing
        consumer.commit()


if __name__ == "__main__":
    run(*sys.argv[1:])
