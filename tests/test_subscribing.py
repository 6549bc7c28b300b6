"""What docs/subscribing.md promises to other teams, kept by the subscriber that it shows."""

import asyncio
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import subscriber
from faust.types import TP
from prometheus_client import REGISTRY

from bus import clients, headers, topics
from bus.clients import Feeder
from bus.embedded import EmbeddedBroker
from models import catalogue
from models.alarm import SIGNAL_TYPE, Alarm, AlarmEvent, Signal
from models.base import moment
from models.traffic import TrafficFlow
from rules.lifecycle import Plane
from rules.spec import RuleSet
from settings import Settings
from streams.alarms import BUCKETS, AlarmsWork
from streams.checkpoint import Held

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "subscribing.md").read_text(encoding="utf-8")
SHOWN = ROOT / "tests" / "subscriber.py"
FLOW = TrafficFlow.topic.name
T0 = 1_767_225_600_000  # ms, 2026-01-01T00:00:00Z


# --- the document -------------------------------------------------------------------------------------------------


def test_the_document_shows_the_subscriber_that_is_tested():
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert blocks == [SHOWN.read_text(encoding="utf-8")]


def test_the_table_of_our_own_topics_is_the_catalogues():
    rows = re.findall(r"^\| `(city\.\S+)` \| (\w+) \| (\d+) \| .*? \| (.*?) \|$", DOCUMENT, re.MULTILINE)
    wanted = set()
    for t in catalogue.PLATFORM:
        age = "for ever" if t.retention_ms < 0 else f"{t.retention_ms // 86_400_000} days"
        kept = "the last of each key" if t.cleanup == "compact" else age
        wanted.add((t.name, t.access, str(t.partitions), kept))
    private = {catalogue.JUDGE_STATE, catalogue.ALARMS_STATE, catalogue.CANARY}
    assert set(rows) == {row for row in wanted if row[0] not in private}


def test_what_is_said_of_source_topics_and_of_an_alarms_history_is_so():
    sources = topics.sources()
    kept = {want.configs["retention.ms"] for name, want in topics.wanted().items() if name in sources}
    assert kept == {str(7 * 86_400_000)}
    assert catalogue.topics()["city.hospital.adt.v1"].access == "restricted"
    types = re.findall(r"^\| `([a-z]+)` \| [a-z]", DOCUMENT, re.MULTILINE)
    assert sorted(types) == sorted(["type", *get_args(AlarmEvent.model_fields["type"].annotation)])


def test_the_samples_are_what_we_send():
    samples = re.findall(r"^```json (\w+)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    kinds = {"TrafficFlow": TrafficFlow, "AlarmEvent": AlarmEvent, "Alarm": Alarm}
    assert [name for name, _ in samples] == list(kinds)
    for name, text in samples:
        found = kinds[name].model_validate_json(text)
        assert json.loads(found.model_dump_json(exclude_none=True)) == json.loads(text)


# --- the subscriber -----------------------------------------------------------------------------------------------


def flow(n, speed, revision=0):
    return TrafficFlow(
        event_id=f"e{n}", source_id="loops", observed_at=moment((T0 + n * 1000) * 1000), segment_id=f"s{n % 3}",
        speed_kmh=speed, revision=revision,
    )  # fmt: skip


async def feed(broker):
    """Ten events, each twice; a correction and what it corrects again; clock records; what is no event."""
    async with Feeder(broker.bootstrap) as feeder:

        async def send(event, said=None):
            key = TrafficFlow.topic.key_of(event).encode()
            mine = headers.headers(event.event_id, FLOW, "/loops", event.at) if said is None else said
            await feeder.send(FLOW, key, event.wire(), mine, T0)

        async def tick():
            clock = headers.clock_record()
            for partition in range(TrafficFlow.topic.partitions):
                await feeder.send(FLOW, None, clock.value, clock.headers, T0, partition)

        for n in range(10):
            for _ in range(2):
                await send(flow(n, 50.0))
            await tick()
        await send(flow(3, 7.0, revision=1))
        await send(flow(3, 50.0))
        await send(flow(11, 30.0), [])  # a producer of others that sets no headers
        for broken in (b"no json", b"[1]", b"\xff", b'{"event_id": 7}'):
            await feeder.send(FLOW, b"s0", broken, [], T0)


def put(offset, alarm, op="put", **more):
    words = {"vi": "Ùn tắc", "en": "Road jammed"}
    signal = Signal.model_validate(
        {
            "op": op, "alarm_id": alarm, "fingerprint": f"f-{alarm}", "rule": "road-jammed", "rules_version": 0,
            "topic": FLOW, "partition": 0, "offset": offset, "k": 0, "stamp": moment((T0 + offset * 1000) * 1000),
            "labels": {"segment_id": alarm}, "start": moment(T0 * 1000), "priority": "P3", "title": words, **more,
        }
    )  # fmt: skip
    return SimpleNamespace(
        topic=catalogue.ALARM_INPUT,
        partition=0,
        offset=offset,
        timestamp=T0 + offset * 1000,
        key=signal.fingerprint.encode(),
        value=signal.model_dump_json(exclude_none=True).encode(),
        headers=headers.headers(f"{alarm}/{offset}/0", SIGNAL_TYPE, "/citywatch/judge", T0 * 1000),
    )


#: One alarm is revised and clears, one stays, one turns out never to have been.
SIGNALS = [
    put(0, "a"),
    put(1, "b", priority="P1"),
    put(2, "c"),
    put(3, "a", priority="P2", peak=4.5),
    put(4, "c", op="retract"),
    put(5, "a", priority="P2", peak=4.5, end=moment((T0 + 5000) * 1000)),
]


async def raise_alarms(broker):
    """As the alarms worker does; and again by one that was killed before its first checkpoint was written."""
    for _ in range(2):
        app = SimpleNamespace(
            positions={},
            on_partitions_revoked=SimpleNamespace(connect=lambda *_a, **_k: None),
            on_rebalance_complete=SimpleNamespace(connect=lambda *_a, **_k: None),
            on_before_shutdown=SimpleNamespace(connect=lambda *_a, **_k: None),
        )
        work = AlarmsWork(app, Settings(), broker.bootstrap, broker.log_id)
        place = TP(catalogue.ALARM_INPUT, 0)
        held = Held(place, Plane(broker.log_id, BUCKETS), 1, -1, [-1] * BUCKETS, 0)
        work.checkpoints.held[place] = held
        for i in range(0, len(SIGNALS), 2):
            chunk = SIGNALS[i : i + 2]
            await work.take(SimpleNamespace(tp=place, topic=place.topic, value=chunk, generation_id=1))
        await asyncio.gather(*held.pending)
        await work.checkpoints.producer.stop()


@pytest.fixture(scope="module")
def broker():
    with EmbeddedBroker() as running:
        rules = RuleSet.model_validate({"rules": []})
        topics.publish_rules(running.bootstrap, "", rules.canonical(), T0 * 1000, T0 * 1000)
        asyncio.run(feed(running))
        asyncio.run(raise_alarms(running))
        yield running


SUBSCRIBED = {
    FLOW: TrafficFlow.topic.partitions,
    catalogue.ALARM_EVENT: 1,
    catalogue.ALARM_STATE: 1,
}


def everything(broker):
    """Every record of the subscribed topics."""
    places = [(topic, p) for topic, n in SUBSCRIBED.items() for p in range(n)]
    return [record for place in places for record in clients.records(broker.bootstrap, place)]


def held_in(database):
    """What the subscriber has, by topic: id to value."""
    with sqlite3.connect(database) as db:
        found = {topic: {} for topic in SUBSCRIBED}
        for topic, name, value in db.execute("select topic, id, value from kept"):
            found[topic][name] = json.loads(value)
    return found


def right(found):
    flows, history, alarms = (found[topic] for topic in SUBSCRIBED)
    assert sorted(flows) == sorted([*(f"/loops e{n}" for n in range(10)), "e11"])
    assert flows["/loops e3"]["speed_kmh"] == 7.0, "the correction, not what was corrected"
    types = [event["type"] for event in history.values()]
    assert sorted(types) == ["cleared", "raised", "raised", "raised", "retracted", "revised"]
    assert {name: (a["active"], a["retracted"], a["priority"]) for name, a in alarms.items()} == {
        "a": (False, False, "P2"),
        "b": (True, False, "P1"),
        "c": (False, True, "P3"),
    }


def test_the_log_has_the_repeats_that_a_subscriber_must_drop(broker):
    records = everything(broker)
    kinds = [headers.type_of(r.headers) for r in records]
    assert kinds.count(headers.CLOCK) == 10 * TrafficFlow.topic.partitions
    assert kinds.count(headers.CONTROL) == TrafficFlow.topic.partitions
    assert kinds.count(FLOW) == 22
    ids = [json.loads(r.value)["id"] for r in records if r.topic == catalogue.ALARM_EVENT]
    assert (len(ids), len(set(ids))) == (12, 6)
    states = [json.loads(r.value)["position"] for r in records if r.topic == catalogue.ALARM_STATE]
    assert states != sorted(states), "what a second owner repeats is older than what there was"


def test_how_long_an_alarm_took_from_its_cause_was_observed_once_a_chunk(broker):
    seen = REGISTRY.get_sample_value("citywatch_latency_seconds_count", {"hop": "alarm"})
    assert seen >= 2 * 3, "three chunks, by two workers"


def test_the_subscriber_drops_repeats_skips_clocks_and_has_the_right_alarms(broker, tmp_path):
    """As another team runs it: alone in a folder, with nothing of ours to import."""
    shutil.copy(SHOWN, tmp_path)
    database = tmp_path / "mine.sqlite"
    running = subprocess.Popen(
        [sys.executable, "-I", "subscriber.py", broker.bootstrap, "mine.sqlite", *SUBSCRIBED],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        places = [(topic, p) for topic, n in SUBSCRIBED.items() for p in range(n)]
        ends = clients.end_offsets(broker.bootstrap, places)
        deadline = time.monotonic() + 60
        while clients.committed(broker.bootstrap, "my-service", places) != ends:
            assert running.poll() is None, running.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        running.kill()
        running.communicate()
    right(held_in(database))


def test_read_again_and_in_any_order_of_topics_everything_is_kept_once(broker, tmp_path):
    database = tmp_path / "mine.sqlite"
    with sqlite3.connect(database) as db:
        db.execute(subscriber.TABLE)
        for records in (everything(broker), everything(broker)[::-1]):
            db.executemany(subscriber.KEEP, filter(None, map(subscriber.kept, records)))
    right(held_in(database))
