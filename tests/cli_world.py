"""What tests of the command line share: a store with something of everything in it, and a way to run a command."""

import asyncio
import base64
import json
import os
from types import SimpleNamespace

import pytest

import cli
from sinks.contract import Point, Record
from sinks.sqlite import SqliteStore

FLOW, AIR = "city.traffic.flow.v1", "city.environment.air.v1"
T0 = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
MINUTE = 60_000_000
PROOF = {
    "log": "L",
    "rules": {},
    "version": 0,
    "since": "2026-01-01T00:00:00Z",
    "clock": "2026-01-01T00:00:00Z",
}


def alarm(id_, *, state="UNACK", rule="road-jammed", priority="P3", start="2026-01-01T00:00:00Z", **more):
    body = {
        "alarm_id": id_, "fingerprint": f"f-{id_}", "rule": rule, "rules_version": 0, "labels": {"segment_id": "s1"},
        "start": start, "priority": priority, "title": {"vi": "Ùn tắc", "en": "Road jammed"}, "severity": "Moderate",
        "urgency": "Immediate", "certainty": "Observed", "category": "Transport", "evidence": [], "proof": PROOF,
        "raised_at": start, "active": state in ("UNACK", "ACKED"), "acked": state in ("ACKED", "NORM"),
        "retracted": False, "revised": 0, "state": state, "position": 1, **more,
    }  # fmt: skip
    return Record("alarm", id_, T0, body)


def reject(id_, raw, *, time=T0, topic=FLOW, reason="not_json", key=b"s1", **more):
    body = {
        "id": id_, "reason": reason, "detail": "value: no JSON", "topic": topic, "partition": 0, "offset": 7, "log": "L",
        "key": base64.b64encode(key).decode(), "bytes": base64.b64encode(raw).decode(), "length": len(raw), **more,
    }  # fmt: skip
    return Record("rejected", id_, time, body)


def reject_of_file(id_, raw, **more):
    body = {"id": id_, "reason": "bad_time", "detail": "x", "file": "a.csv", "line": 3, "topic": FLOW, **more}
    return Record("rejected", id_, T0, {**body, "bytes": base64.b64encode(raw).decode(), "length": len(raw)})


def counted(topic=FLOW, **counts):
    return Record(
        "ledger", f"L/{topic}/0", T0, {"log": "L", "topic": topic, "partition": 0, "position": 9, **counts}
    )


def flows(n=3):
    return [
        Point("traffic_flow", (("segment_id", f"s{i % 2}"),), T0 + i * MINUTE, (("speed_kmh", 10.0 * i),))
        for i in range(n)
    ]


@pytest.fixture
def city(tmp_path, monkeypatch, capsys):
    """`city(words...)` runs a command on a data folder of its own: its code, what it printed, what it said."""
    for name in list(os.environ):
        if name.startswith("CITYWATCH_") and name != "CITYWATCH_DATA":
            monkeypatch.delenv(name)

    def run(*words):
        code = cli.main([*words] if "--data" in words else [*words, "--data", str(tmp_path)])
        out, err = capsys.readouterr()
        return SimpleNamespace(
            code=code, out=out, err=err, json=lambda: json.loads(out), rows=out.splitlines()
        )

    def hold(points=(), records=()):
        async def write():
            store = SqliteStore(tmp_path / "store.sqlite")
            await store.write(list(points))
            await store.keep(list(records))
            await store.close()

        asyncio.run(write())

    run.hold, run.folder = hold, tmp_path
    return run
