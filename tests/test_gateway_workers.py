"""The same gateway through the real apps, in real time: judge and alarms are processes, and one of them is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bus import clients, headers, topics
from bus.embedded import EmbeddedBroker
from models.base import moment
from models.catalogue import ALARM_EVENT, ALARM_INPUT, ALARM_STATE
from models.keys import partition_of
from models.traffic import TrafficFlow
from rules.spec import RuleSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FLOW = TrafficFlow.topic
WORDS = {"vi": "x", "en": "x"}
SENSORS = {f"s{n:02}": "dead" if n < 40 else "alive" for n in range(50)}
JAMMED = {"s03", "s11", "s22", "s30", "s37"}
ON = {"on": FLOW.name, "by": ["segment_id"], "title": WORDS}
RULES = RuleSet.model_validate(
    {
        "rules": [
            {
                **ON,
                "id": "jam",
                "kind": "threshold",
                "levels": [
                    {"priority": "P3", "raise": "speed_kmh < 10", "clear": "speed_kmh > 20", "for": "1s", "keep": "1s"}
                ],
            },
            {**ON, "id": "silent", "kind": "absence", "misses": 3, "wait": "8s", "priority": "P4"},
        ],
        "wide": [
            {
                "id": "gateway-silent",
                "kind": "root",
                "of": ["silent"],
                "by": "gateway",
                "release": "3s",
                "title": WORDS,
                "priority": "P2",
            }
        ],
        "registry": {
            "sensors": [{"topic": FLOW.name, "key": k, "every": "2s", "gateway": g} for k, g in SENSORS.items()]
        },
    }
)  # fmt: skip


class City:
    """Fifty sensors that speak every other second, half of them in each, unless their gateway is dead."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.broker = broker
        self.producer = clients.producer(broker.bootstrap)
        self.dead = False
        self.rounds = 0

    def speak(self) -> None:
        """One second."""
        self.rounds += 1
        for n, (key, gateway) in enumerate(SENSORS.items()):
            if n % 2 == self.rounds % 2 and not (self.dead and gateway == "dead"):
                now = time.time_ns() // 1000
                speed = 5.0 if key in JAMMED else 45.0
                event = TrafficFlow(
                    event_id=f"{key}-{now}", source_id="t", observed_at=moment(now), segment_id=key, speed_kmh=speed
                )  # fmt: skip
                self.producer.send(
                    FLOW.name, event.wire(), key.encode(), headers.headers(event.event_id, FLOW.name, "/t", now),
                    partition_of(key.encode(), FLOW.partitions), now // 1000,
                )  # fmt: skip
        self.producer.flush()
        time.sleep(1)

    def until(self, enough: Callable[[], Any], what: str, within: int = 60) -> None:
        for _ in range(within):
            self.speak()
            if enough():
                return
        raise AssertionError(f"not within {within} s: {what}")

    def read(self, topic: str) -> list[tuple[str, Any]]:
        found = clients.records(self.broker.bootstrap, (topic, 0))
        return [(headers.type_of(r.headers) or "", json.loads(r.value)) for r in found if r.value]

    def history(self, rule: str) -> list[dict[str, Any]]:
        """Each entry once, as who reads it must: by its id."""
        entries = {entry["id"]: entry for _, entry in self.read(ALARM_EVENT)}
        return [entry for entry in entries.values() if entry["alarm"]["rule"] == rule]

    def states(self, rule: str) -> list[str]:
        alarms = {alarm["alarm_id"]: alarm for _, alarm in self.read(ALARM_STATE)}
        return [alarm["state"] for alarm in alarms.values() if alarm["rule"] == rule]


@pytest.fixture
def city() -> Iterator[City]:
    with EmbeddedBroker() as broker:
        now = time.time_ns() // 1000
        topics.publish_rules(broker.bootstrap, "", RULES.canonical(), now, now)
        made = City(broker)
        with closing(made.producer):
            yield made


def worker(broker: EmbeddedBroker, folder: Path, role: str) -> subprocess.Popen[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CITYWATCH_")} | {
        "CITYWATCH_KAFKA__BOOTSTRAP": broker.bootstrap,
        "CITYWATCH_KAFKA__LOG_ID": broker.log_id,
        "CITYWATCH_KAFKA__EMBEDDED": "true",
        "CITYWATCH_DATA__DIR": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    log = (folder / f"{role}.log").open("a")
    command = [sys.executable, "-m", "cli", "worker", "--role", role]
    return subprocess.Popen(command, env=environ, stderr=log, stdout=log, text=True)


def test_a_dead_gateway_is_one_alarm_even_though_the_alarm_plane_is_killed_meanwhile(
    city: City, tmp_path: Path
) -> None:
    running = {role: worker(city.broker, tmp_path, role) for role in ("judge", "alarms")}
    try:
        city.until(lambda: city.states("jam") == ["UNACK"] * 5, "five jams")
        before = len(city.history("jam"))
        city.dead = True
        city.until(lambda: city.states("gateway-silent") == ["UNACK"], "the gateway is told of")
        city.until(lambda: city.states("silent") == ["DSUPR"] * 40, "forty silences are suppressed")

        running["alarms"].send_signal(signal.SIGKILL)
        running["alarms"].wait()
        for _ in range(3):
            city.speak()
        running["alarms"] = worker(city.broker, tmp_path, "alarms")
        for _ in range(3):
            city.speak()

        city.dead = False
        city.until(lambda: city.states("silent") == ["NORM"] * 40, "all speak again")
        city.until(lambda: city.states("gateway-silent") == ["RTNUN"], "the gateway is back")
        for _ in range(8):  # until whatever was due has been
            city.speak()

        silences = city.history("silent")
        assert {entry["alarm"]["state"] for entry in silences} == {"DSUPR", "NORM"}, (
            "nobody was called for one"
        )
        assert [entry["type"] for entry in silences].count("raised") == 40
        roots = city.history("gateway-silent")
        assert [entry["type"] for entry in roots].count("raised") == 1
        assert {entry["alarm"]["alarm_id"] for entry in roots} == {roots[0]["alarm"]["alarm_id"]}
        assert roots[-1]["alarm"]["labels"] == {"gateway": "dead"}
        assert city.states("jam") == ["UNACK"] * 5
        assert len(city.history("jam")) == before, "nothing was cleared or raised of the jams"
        marks = [said for kind, said in city.read(ALARM_INPUT) if kind == "city.alarm.mark.v1"]
        assert {said["op"] for said in marks} == {"suppress"}
        assert len({said["alarm_id"] for said in marks}) == 40
    finally:
        for process in running.values():
            process.kill()
            process.wait()
