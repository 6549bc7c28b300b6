"""10,000 corrupted records among good ones, in a file and straight on a topic: all good ones stored, all bad ones kept."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from real import CASES, citywatch, line, query, replay

from bus import clients, headers
from bus.clients import Feeder
from bus.room import Room
from commands.world import World, settled
from models.base import micros
from models.keys import partition_of
from rules import load
from settings import Data, Settings
from sinks.ledger import ledger
from sinks.sqlite import SqliteStore

pytestmark = pytest.mark.slow

BAD, GOOD = 10_000, 3_000
START = datetime(2026, 3, 2, tzinfo=UTC)
TOPIC = "city.traffic.flow.v1"


def wire(n: int) -> dict:
    at = (START + timedelta(seconds=n)).isoformat()
    return {
        "event_id": f"g{n}",
        "source_id": "t",
        "observed_at": at,
        "segment_id": f"s{n % 40}",
        "speed_kmh": 50 + n % 7,
    }


def row(n: int) -> dict:
    w = wire(n)
    return {"id": w["event_id"], "at": w["observed_at"], "segment": w["segment_id"], "speed": w["speed_kmh"]}


def spoiled(good: dict, time: str, value: str, r: random.Random) -> list[tuple[str, bytes]]:
    """One of each kind of damage, by name; huge ones are rare since they are huge."""
    text = json.dumps(good).encode()
    year = json.dumps({**good, time: "9999-12-31T23:59:59+00:00"}).encode()
    wrong = json.dumps({**good, value: r.choice(["fast", [1], {"x": 1}])}).encode()
    kinds = [
        ("truncated", text[: r.randrange(1, len(text) - 1)]),
        ("wrong type", wrong),
        ("bad UTF-8", text.replace(b"s", b"\xff", 1)),
        ("deep", b"[" * r.choice([300, 5000]) + b"]" * 7),
        ("NaN", json.dumps({**good, value: float("nan")}).encode()),
        ("year 9999", year),
        ("empty", b""),
    ]
    if r.random() < 0.03:
        kinds.append(("huge", json.dumps({**good, "pad": "x" * 300_000}).encode()))
    return kinds


def mixture(make, time: str, value: str) -> list[tuple[str, bytes]]:
    """Good and bad in a fixed disorder; a good one is named by its number."""
    r = random.Random(7)
    bad: list = []
    while len(bad) < BAD:
        bad += spoiled(make(r.randrange(GOOD)), time, value, r)
    bad = bad[:BAD]
    places = sorted(r.sample(range(BAD + GOOD), GOOD))
    found = bad[::-1]
    for n, place in enumerate(places):
        found.insert(place, (str(n), json.dumps(make(n)).encode()))
    return found


def kept(folder) -> list[dict]:
    async def read():
        store = SqliteStore(folder / "store.sqlite", read_only=True)
        try:
            return [r.body for r in await store.kept("rejected")], await ledger(store)
        finally:
            await store.close()

    return asyncio.run(read())


REASONS = {
    "truncated": {"not_json"},
    "wrong type": {"schema", "bad_value"},
    "bad UTF-8": {"not_utf8"},
    "deep": {"not_json", "schema"},
    "NaN": {"not_finite", "bad_value", "not_json"},
    "year 9999": {"time_range", "outside_valid"},
    "empty": {"empty"},
    "huge": {"too_large", "schema"},
}


def test_corrupted_lines_of_a_file_are_kept_with_their_line_and_their_neighbours_are_stored(tmp_path):
    lines = mixture(row, "at", "speed")
    file = tmp_path / "flows.jsonl"
    file.write_bytes(b"\n".join(raw for _, raw in lines) + b"\n")
    said = replay(
        [file], CASES / "feeds" / "flows.yaml", tmp_path / "d", "--rules", CASES / "rules" / "none.yaml"
    )
    wanted = {
        n: (kind, raw) for n, (kind, raw) in enumerate(lines, 1) if not kind.isdigit() and kind != "huge"
    }
    rejects, _ = kept(tmp_path / "d")
    found = {r["line"]: r for r in rejects}
    huge = {n for n, (kind, _) in enumerate(lines, 1) if kind == "huge"}
    assert set(wanted) <= set(found), "a bad line is kept by its number"
    assert set(found) - set(wanted) <= huge
    for n, (kind, raw) in wanted.items():
        assert found[n]["reason"] in REASONS[kind], (kind, found[n]["reason"], found[n]["detail"])
        assert base64.b64decode(found[n]["bytes"]) in (raw, raw + b"\n"), (
            "the bytes of the line, its end may be among them"
        )
        assert found[n]["file"] == "flows.jsonl"
    assert len(wanted) > 9_900
    good = line(said, TOPIC)["stored"]
    assert good == GOOD + len(huge - set(found)), (
        "a padded line is a good one: the mapping reads what it names"
    )
    (total,) = query(
        tmp_path / "d", "traffic_flow", "--agg", "count", "--fields", "speed_kmh", "--to", "2027-01-01"
    )
    assert total["fields"]["speed_kmh"] == good
    listed = json.loads(citywatch("rejected", "list", "--data", tmp_path / "d", "--json", "--limit", "20000"))
    assert len(listed) == len(found)


def test_corrupted_records_of_a_topic_are_kept_with_their_offset_and_bytes_and_no_worker_stops(tmp_path):
    records = mixture(wire, "observed_at", "speed_kmh")
    settings = Settings(data=Data(dir=tmp_path))
    rules = load.load([CASES / "rules" / "none.yaml"])
    with World(settings, rules, clock="writer", effective_from=0, stamp=0) as world:
        bootstrap = world.running.bootstrap
        readers = {TOPIC: [f"citywatch-{role}" for role in ("judge", "store", "ledger")]}

        async def feed() -> dict:
            room = Room(bootstrap, readers)
            sent, clock = {}, 0
            async with Feeder(bootstrap) as feeder:
                for kind, raw in records:
                    key = f"s{int(kind) % 40}".encode() if kind.isdigit() else b"s1"
                    if kind.isdigit():
                        clock = micros(START) + int(kind) * 1_000_000
                    place = partition_of(key, 4)
                    await room.take(TOPIC, place, len(raw) + 100)
                    await feeder.send(
                        TOPIC, key, raw, headers.headers("x", TOPIC, "/t", clock), clock // 1000
                    )
                    sent.setdefault(place, []).append((kind, raw))
                await feeder.flush()
            await settled(bootstrap, "")
            room.close()
            return sent

        sent = asyncio.run(feed())
        assert world.watch() == [], "a worker ended"
        assert world.restarts == 0
        base = {p: clients.end_offsets(bootstrap, [(TOPIC, p)])[TOPIC, p] - len(s) for p, s in sent.items()}
    rejects, lines = kept(tmp_path)
    found = {(r["partition"], r["offset"]): r for r in rejects}
    wanted = {
        (p, base[p] + i): (kind, raw)
        for p, s in sent.items()
        for i, (kind, raw) in enumerate(s)
        if not kind.isdigit()
    }
    assert len(wanted) == BAD
    assert found.keys() == wanted.keys()
    for place, (kind, raw) in wanted.items():
        assert found[place]["reason"] in REASONS[kind], (kind, found[place]["reason"])
        assert found[place]["topic"] == TOPIC
        assert base64.b64decode(found[place]["bytes"]) == raw
    assert lines[TOPIC].json() == {
        "accepted": BAD + GOOD, "stored": GOOD, "late": 0, "duplicate": 0, "conflict": 0, "rejected": BAD, "exact": True,
    }  # fmt: skip
    assert Counter(k for k, _ in wanted.values()).keys() == REASONS.keys()
