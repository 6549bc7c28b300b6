"""Bytes that no parser likes, on every topic: no worker ends, each is counted by its reason and its bytes are kept."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import subprocess
import sys
import urllib.request

import pytest
from outage_world import FLOW, ROOT, Feed, Workers, begin, finish, until
from real_influx import ORG, TOKEN, InfluxMissingError, RealInflux
from real_kafka import KafkaMissingError, RealKafka

from bus import clients, headers
from commands.servers import free_ports
from models import catalogue
from models.alarm import COMMAND_TYPE, MARK_TYPE, SIGNAL_TYPE
from rules.spec import ENGINE, RuleSet
from settings import read
from sinks.open import open_store

pytestmark = pytest.mark.slow

MOST = 2 * 1024 * 1024 - 20_000
DEEP = 100_000
BYTES = {
    "nothing": b"",
    "no text": b"\xff\xfe\x00\x80" * 10,
    "no JSON": b'{"event_id": ',
    "a list": b"[1, 2, 3]",
    "null": b"null",
    "a number": b"9" * 400,
    "a huge number": b'{"event_id": "x", "position": 1e999, "partition": ' + b"9" * 4_000 + b"}",
    "not a number": b'{"id": "x", "bytes": "", "alarm_id": "x", "start": "2026-01-01T00:00:00Z", "position": NaN}',
    "half a character": b'{"id": "\\ud800", "bytes": "", "alarm_id": "\\ud800", "start": "9999-12-31T23:59:59Z"}',
    "other types": b'{"id": {"a": 1}, "bytes": "", "alarm_id": [1], "start": "2026-01-01", "alarm": "x", "log": 1, "topic": {}}',
    "deep": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "large": b"x" * MOST,
    "a large value": b'{"event_id": "' + b"x" * MOST + b'"}',
    "a null byte": b'{"id": "a\\u0000b", "event_id": "a\\u0000b"}',
}
#: The same, with a key that is no key, or as large as the value may be.
KEYS = {"no key": None, "a key": b"k", "a strange key": b"\xff/\xfe/0", "a large key": b"k" * 1_000_000}

#: What the three apps and the console read of the platform, and the types that its records may claim.
OWN = {
    catalogue.ALARM_INPUT: [SIGNAL_TYPE, COMMAND_TYPE, MARK_TYPE, headers.CONTROL, headers.CLOCK, catalogue.CANARY, "strange", None],
    catalogue.ALARM_EVENT: [catalogue.ALARM_EVENT, None],
    catalogue.ALARM_STATE: [catalogue.ALARM_STATE, None],
    catalogue.REJECTED: [catalogue.REJECTED, None],
    catalogue.LEDGER: [catalogue.LEDGER, None],
    catalogue.RULES: [catalogue.RULES, headers.CONTROL, None],
    catalogue.CANARY: [catalogue.CANARY, None],
    catalogue.JUDGE_STATE: [None],
    catalogue.ALARMS_STATE: [None],
}  # fmt: skip


@pytest.fixture(scope="module")
def parts():
    try:
        kafka = RealKafka()
    except KafkaMissingError as missing:
        pytest.skip(f"needs Apache Kafka as a process: {missing}")
    try:
        influx = RealInflux()
    except InfluxMissingError as missing:
        kafka.close()
        pytest.skip(f"needs InfluxDB 2 as a process: {missing}")
    begin(kafka.bootstrap)
    yield kafka, influx
    influx.close()
    kafka.close()


def poison(bootstrap: str) -> dict[str, list[tuple[int, int, bytes]]]:
    """All of it on every topic: by topic (partition, offset, bytes)."""
    client = clients.producer(bootstrap)
    sent = []

    def send(
        topic: str, value: bytes | None, key: bytes | None, kind: str | None, partition: int = 0
    ) -> None:
        said = (
            []
            if kind is None
            else [("ce_type", kind.encode()), ("ce_id", b"\xff\x00"), ("traceparent", b"\xff" * 9)]
        )
        sent.append((topic, value or b"", client.send(topic, value, key, said, partition)))

    for topic, found in catalogue.topics().items():
        for n, value in enumerate(BYTES.values()):
            send(topic, value, [b"k", None, b"\xff"][n % 3], topic, n % found.partitions)
        send(topic, None, b"k", topic)
        for key in KEYS.values():
            send(topic, b"{}", key, None)
        for value in (
            b"\xff",
            b"{}",
            b'{"version": 99, "effective_from": 0}',
            b'{"version": -1, "effective_from": 1e99}',
        ):
            send(topic, value, None, headers.CONTROL)
        for value in BYTES.values():
            send(topic, value, None, catalogue.CANARY)
    for topic, kinds in OWN.items():
        compacted = topic in (
            catalogue.ALARM_STATE,
            catalogue.LEDGER,
            catalogue.CANARY,
            catalogue.JUDGE_STATE,
            catalogue.ALARMS_STATE,
        )
        for kind in kinds:
            for n, value in enumerate(BYTES.values()):
                send(topic, value, b"k%d" % n if compacted else [b"k", None][n % 2], kind)
        for key in KEYS.values():
            if key is not None or not compacted:
                send(topic, b"{}", key, kinds[0])
    # Snapshots under keys that could be ours, beyond all that was taken, and of buckets that are not.
    for place, partition in (
        (f"{FLOW.name}/0", 0),
        (f"{FLOW.name}/0", 1),
        (f"{FLOW.name}/0", 2),
        (f"{FLOW.name}/0", 3),
    ):
        for bucket in ("0", "1", "999999", "-1", "x"):
            for n, state in enumerate((b"", b"\xc1", b"\x91" * 5_000, b"\x00" * 100, b"\x96" + b"\xc0" * 6)):
                value = struct.pack(">q", 2**62) + state if n else b"\x00\x01"
                send(catalogue.JUDGE_STATE, value, f"{place}/{bucket}/evil{n}".encode(), None, partition)
    for bucket in ("0", "31", "40", "77777"):
        for n, state in enumerate((b"\xc1", b"\x91" * 5_000, b"\x92\x03" + b"\x91" * 5_000)):
            key = f"{catalogue.ALARM_INPUT}/0/{bucket}/evil{n}".encode()
            send(catalogue.ALARMS_STATE, struct.pack(">q", 2**62) + state, key, None)
    found: dict[str, list[tuple[int, int, bytes]]] = {}
    for topic, value, one in sent:
        at = one.get(60)
        found.setdefault(topic, []).append((at.partition, at.offset, value))
    client.close()
    return found


def console(workers: Workers, port: int) -> subprocess.Popen[bytes]:
    log = (workers.folder / "console.log").open("ab")
    command = [sys.executable, "-m", "cli", "console", "--port", str(port)]
    return subprocess.Popen(
        command, cwd=ROOT, env=workers.environ(), stdout=log, stderr=log, start_new_session=True
    )


def test_what_no_parser_likes_stops_nobody_and_is_kept(parts, tmp_path):
    kafka, influx = parts
    workers = Workers(
        kafka.bootstrap,
        tmp_path,
        INFLUX__URL=influx.url,
        INFLUX__TOKEN=TOKEN,
        INFLUX__ORG=ORG,
        INFLUX__BUCKET="poison",
    )
    (port,) = free_ports(1)
    feed = Feed(kafka.bootstrap, 40)
    page = None
    try:
        workers.start("judge", "alarms", "store", "ledger")
        page = console(workers, port)
        feed.start()
        until(
            lambda: clients.end_offsets(kafka.bootstrap, [(catalogue.ALARM_EVENT, 0)]).popitem()[1] > 5,
            "alarms",
            60,
        )
        sent = poison(kafka.bootstrap)
        passed = [
            ("judge", FLOW.name),
            ("alarms", catalogue.ALARM_INPUT),
            ("store", catalogue.ALARM_EVENT),
            ("ledger", FLOW.name),
        ]
        for role, topic in passed:
            last = {(topic, p): o for p, o, _ in sent[topic]}
            until(
                lambda role=role, last=last: all(
                    clients.committed(kafka.bootstrap, f"citywatch-{role}", last).get(place, 0) > offset
                    for place, offset in last.items()
                ) or workers.ended(),
                f"{role} passes them", 60, 0.5,
            )  # fmt: skip
            assert workers.ended() == {}, workers.log(role)[-3000:]
        assert page.poll() is None, (tmp_path / "console.log").read_text()[-3000:]
        # And all of it again: what is read at a start, from snapshots to rules, stops nobody either.
        for name in ("judge", "alarms"):
            workers.kill(name)
            workers.start(name)
        page.kill()
        page.wait()
        page = console(workers, port)

        def shown() -> int:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/alarms", timeout=5) as answer:
                    return len(json.loads(answer.read())["alarms"])
            except OSError:
                return 0

        until(shown, "the console shows alarms", 30, 0.5)
        feed.end()
        found = {v.what: v for v in finish(workers)}
        assert workers.ended() == {}
        for what in ("signals", "points", "conclusions"):
            assert found[what].ok, str(found[what])
        for what in ("signals", "history", "states", "points", "kept history", "kept alarms"):
            assert found[what].lost == [], str(found[what])
            assert found[what].expected > 20

        kept = asyncio.run(rejects(workers))
        for topic in [
            *catalogue.topics(),
            *(t for t in OWN if "state" not in t and t not in (catalogue.RULES, catalogue.CANARY)),
        ]:
            if topic == catalogue.ALARM_STATE:
                continue
            missing = [
                (p, o, value[:60])
                for p, o, value in sent[topic]
                if value and not_a_control(topic, kafka, p, o) and (topic, p, o) not in kept
            ]
            assert missing == [], topic
            for p, o, value in sent[topic]:
                body = kept.get((topic, p, o))
                if body is not None:
                    assert body["length"] == len(value)
                    assert base64.b64decode(body["bytes"]) == value[: 1024 * 1024]
        reasons = {body["reason"] for body in kept.values()}
        assert {"empty", "too_large", "not_utf8", "not_json", "schema"} <= reasons
    finally:
        feed.close()
        if page is not None:
            page.kill()
            page.wait()
        workers.close()


_read: dict[tuple[str, int], dict[int, object]] = {}


def not_a_control(topic: str, kafka: RealKafka, partition: int, offset: int) -> bool:
    """Whether it calls itself an event. Clock and control records are none, whatever is in them; nobody judges or keeps them."""
    place = (topic, partition)
    if place not in _read:
        _read[place] = {r.offset: r for r in clients.records(kafka.bootstrap, place)}
    record = _read[place][offset]
    return headers.is_event(record.headers) and headers.type_of(record.headers) != "strange"


async def rejects(workers: Workers) -> dict[tuple[str, int, int], dict]:
    given = {k: v for k, v in workers.environ().items() if k.startswith("CITYWATCH_")}
    store = open_store(read(given), read_only=True)
    try:
        return {
            (r.body["topic"], r.body["partition"], r.body["offset"]): r.body for r in await store.kept("rejected") if "offset" in r.body
        }  # fmt: skip
    finally:
        await store.close()


def test_rules_for_a_greater_engine_stop_a_worker_with_one_line_that_says_to_upgrade(parts, tmp_path):
    """The last of this file: from now on no worker of this version may pass that place of the log."""
    kafka, _ = parts
    workers = Workers(kafka.bootstrap, tmp_path)
    try:
        workers.start("judge", "alarms")
        until(
            lambda: "restored" in workers.log("judge") and "restored" in workers.log("alarms"),
            "they work",
            60,
        )
        told = json.loads(RuleSet().canonical()) | {"engine": ENGINE + 1, "what_is_to_come": []}
        publish(kafka.bootstrap, json.dumps(told).encode())
        until(lambda: len(workers.ended()) == 2, "they stop", 30)
        assert workers.ended() == {"judge": 2, "alarms": 2}
        for role in ("judge", "alarms"):
            (said,) = [line for line in workers.log(role).splitlines() if "upgrade this worker" in line]
            assert f"engine {ENGINE + 1}" in said
            assert "Traceback" not in workers.log(role)
        workers.running.clear()
        workers.start("judge")
        until(workers.ended, "it stops again, for the set stands in the log", 30)
        assert workers.ended() == {"judge": 2}
    finally:
        workers.close()


def publish(bootstrap: str, value: bytes) -> None:
    """As a later version's `rules apply` does."""
    client = clients.producer(bootstrap)
    version = client.send(catalogue.RULES, value, None, [], 0).get(30).offset
    told = headers.control_record(version, 0)
    for topic, count in [
        (catalogue.ALARM_INPUT, 1),
        *((t.name, t.partitions) for t in catalogue.topics().values()),
    ]:
        for n in range(count):
            client.send(topic, told.value, None, told.headers, n).get(30)
    client.close()
