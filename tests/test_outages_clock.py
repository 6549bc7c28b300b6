"""Clocks that jump an hour, ahead and back, in workers, the console and a producer: the log's time is the broker's, and so are the results."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from outage_world import FLOW, ROOT, RULES, SEGMENTS, WORDS, Feed, Workers, begin, faults, finish, flow, until
from real_kafka import running

from bus import clients, headers
from commands.servers import free_ports
from models.alarm import COMMAND_TYPE, Command
from models.base import moment
from models.catalogue import ALARM_EVENT, ALARM_INPUT
from models.keys import partition_of
from rules.spec import RuleSet

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

HOUR_S = 3600

#: Sensors that are to speak every 2 s, so that one which does not is missed, and one that never jams.
WATCHED = RuleSet.model_validate(
    json.loads(RULES.canonical())
    | {
        "rules": [
            *json.loads(RULES.canonical())["rules"],
            {"id": "silent", "kind": "absence", "on": FLOW.name, "by": ["segment_id"], "title": WORDS, "misses": 2,
             "wait": "1s", "priority": "P4"},
        ],
        "registry": {"sensors": [{"topic": FLOW.name, "key": key, "every": "2s"} for key in SEGMENTS]},
    }
)  # fmt: skip


@pytest.fixture
def kafka():
    with running() as broker:
        begin(broker.bootstrap, WATCHED)
        yield broker


#: Puts a Python's wall clock wrong by what a file says at that moment, and nothing else. Not libfaketime: beside the wall clock it
#: moves the monotonic one, which no machine does, or else has `sleep` fail and waiting threads of this Python hang (0.9.10).
JUMPING = """
import os, time
real, path = time.time_ns, os.environ["CITY_CLOCK"]
def time_ns():
    with open(path) as file:
        return real() + int(file.read() or 0) * 10**9
time.time_ns, time.time = time_ns, lambda: time_ns() / 1e9
"""


class Clock:
    """The clock of one process, which can be put wrong while it runs."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path, self._code = folder / f"{name}.clock", folder / "clock"
        self._code.mkdir(exist_ok=True)
        (self._code / "sitecustomize.py").write_text(JUMPING)
        self.put(0)

    def put(self, seconds: int) -> None:
        half = self._path.with_suffix(".half")
        half.write_text(str(seconds))
        half.replace(self._path)

    @property
    def environ(self) -> dict[str, str]:
        return {"CITY_CLOCK": str(self._path), "PYTHONPATH": str(self._code)}


def test_an_hour_ahead_and_an_hour_back_change_nothing(kafka, tmp_path):
    workers = Workers(kafka.bootstrap, tmp_path)
    clocks = {name: Clock(tmp_path, name) for name in ("judge", "store", "alarms", "console")}
    (port,) = free_ports(1)
    feed = Feed(kafka.bootstrap, 100)
    page = None

    def ask(path: str) -> dict:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return json.loads(answer.read())

    def blind() -> int | None:
        """How many sensors the console does not see."""
        try:
            (seen,) = [f for f in ask("/api/health")["feeds"] if f["topic"] == FLOW.name]
        except OSError:
            return None
        return None if seen["sensors"] != len(SEGMENTS) or seen["at"] is None else seen["blind"]

    def history() -> list[dict]:
        found = clients.records(kafka.bootstrap, (ALARM_EVENT, 0))
        return list({e["id"]: e for e in (json.loads(r.value) for r in found)}.values())

    try:
        for name in ("judge", "store", "alarms"):
            workers.start(name, environ=clocks[name].environ)
        command = [sys.executable, "-m", "cli", "console", "--port", str(port)]
        with (tmp_path / "console.log").open("ab") as log:
            page = subprocess.Popen(
                command, cwd=ROOT, env=workers.environ() | clocks["console"].environ, stdout=log, stderr=log
            )
        feed.start()
        until(lambda: blind() == 0, "all sensors are seen", 60, 0.5)

        # Each process by another hour, while it runs.
        for seconds in (HOUR_S, -HOUR_S):
            for name, clock in clocks.items():
                clock.put(-seconds if name == "store" else seconds)
            for _ in range(3):
                time.sleep(1)
                assert blind() == 0, f"a console whose clock is {seconds} s wrong is not blind by it"
        # Who starts with a wrong clock is no better off: what is restored is restored by the log.
        for name in ("judge", "alarms"):
            workers.kill(name)
            workers.start(name, environ=clocks[name].environ)
        # The alarm plane's is an hour behind, and the console's: silence is seen all the same, and what is due is done.
        feed.end()
        until(lambda: blind() == len(SEGMENTS), "a silent sensor is not seen", 60, 0.5)
        until(
            lambda: {e["alarm"]["rule"] for e in history()} == {"slow", "held", "silent"},
            "absence is told",
            30,
            0.5,
        )

        # A shelf ends when the broker's clock says so, though nothing else comes in and the plane's own is behind.
        (one, *_) = [e["alarm"]["alarm_id"] for e in history() if e["alarm"]["rule"] == "silent"]
        shelve(kafka.bootstrap, one, 4)
        until(
            lambda: "unshelved" in [e["type"] for e in history() if e["alarm"]["alarm_id"] == one],
            "it ends",
            20,
            0.5,
        )
        entries = {e["type"]: e["at"] for e in history() if e["alarm"]["alarm_id"] == one}
        shelved, unshelved = (moment_s(entries[name]) for name in ("shelved", "unshelved"))
        assert 3 < unshelved - shelved < 12

        # A producer an hour ahead is refused, one behind is late, and neither moves the clock of the others.
        producer(kafka.bootstrap, HOUR_S, "ahead")
        producer(kafka.bootstrap, -HOUR_S, "behind")
        found = finish(workers)
        assert faults(found) == []
        named = {v.what: v for v in found}
        assert named["rejects"].expected == named["kept rejects"].expected == len(SEGMENTS)
    finally:
        feed.close()
        if page is not None:
            page.send_signal(signal.SIGKILL)
            page.wait()
        workers.close()


def moment_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def shelve(bootstrap: str, alarm_id: str, seconds: float) -> None:
    until_us = time.time_ns() // 1000 + round(seconds * 1e6)
    said = Command(
        command_id="c1", action="shelve", alarm_id=alarm_id, actor="op", note="works", until=moment(until_us)
    )
    client = clients.producer(bootstrap)
    ce = headers.headers("c1", COMMAND_TYPE, "/t", None)
    client.send(ALARM_INPUT, said.model_dump_json(exclude_none=True).encode(), b"op", ce, 0).get(30)
    client.close()


def producer(bootstrap: str, wrong_s: int, name: str) -> None:
    """One whose clock is wrong: what it says of when, and the time that it gives its records."""
    client = clients.producer(bootstrap)
    for n, key in enumerate(SEGMENTS):
        now = time.time_ns() // 1000 + wrong_s * 1_000_000
        event = flow(key, n, now).model_copy(update={"event_id": f"{name}-{n}"})
        said = headers.headers(event.event_id, FLOW.name, "/t", now)
        place = partition_of(key.encode(), FLOW.partitions)
        client.send(FLOW.name, event.wire(), key.encode(), said, place, now // 1000).get(30)
    client.close()
