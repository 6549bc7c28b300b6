"""A small living city for outages: workers as processes on real parts, a feed of known content, and what became of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kafka.errors import KafkaTimeoutError
from truth import Truth

from bus import clients, headers, topics
from models import catalogue
from models.alarm import Alarm, AlarmEvent
from models.base import moment
from models.catalogue import ALARM_EVENT, ALARM_INPUT
from models.keys import partition_of
from models.platform import PlatformEvent
from models.traffic import TrafficFlow
from rules.spec import RuleSet
from settings import read
from sinks.open import open_store
from streams.alarms import _read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from truth import Verdict

ROOT = Path(__file__).parents[1]
FLOW = TrafficFlow.topic
ROLES = ("judge", "store", "alarms")
WORDS = {"vi": "x", "en": "x"}
SEGMENTS = [f"s{n:03}" for n in range(100)]

#: Every slow sample raises and every fast one clears; some segments are jammed long enough for `held`, too.
RULES = RuleSet.model_validate(
    {
        "rules": [
            {
                "id": "slow",
                "kind": "threshold",
                "on": FLOW.name,
                "by": ["segment_id"],
                "title": WORDS,
                "levels": [{"priority": "P3", "raise": "speed_kmh < 10", "clear": "speed_kmh > 20", "for": "0s"}],
            },
            {
                "id": "held",
                "kind": "threshold",
                "on": FLOW.name,
                "by": ["segment_id"],
                "title": WORDS,
                "levels": [{"priority": "P4", "raise": "speed_kmh < 30", "clear": "speed_kmh > 50", "for": "2s"}],
            },
        ]
    }
)  # fmt: skip


def flow(key: str, number: int, at_us: int) -> TrafficFlow:
    """Sample `number` of a segment: it is slow three times of seven, each segment at other times."""
    speed = (5.0 if (number + int(key[1:])) % 7 < 3 else 60.0) + number % 5
    return TrafficFlow(
        event_id=f"{key}-{number}", source_id="t", observed_at=moment(at_us), segment_id=key, speed_kmh=speed
    )


class Feed(threading.Thread):
    """Says `per_second` samples a second in turn for all segments, until told to stop; a broker that is away is waited for."""

    def __init__(self, bootstrap: str, per_second: float = 100) -> None:
        super().__init__(name="feed", daemon=True)
        self._pause, self._told = 1 / per_second, threading.Event()
        # Reconnects fast, so that what is measured is what workers take.
        self._producer = clients.producer(
            bootstrap, reconnect_backoff_ms=20, reconnect_backoff_max_ms=100, delivery_timeout_ms=600_000,
            request_timeout_ms=10_000, max_block_ms=300_000,
        )  # fmt: skip
        self.sent: list[Any] = []

    def run(self) -> None:
        due, number = time.monotonic(), 0
        while not self._told.is_set():
            key = SEGMENTS[number % len(SEGMENTS)]
            now = time.time_ns() // 1000
            event = flow(key, number // len(SEGMENTS), now)
            self.sent.append(
                self._producer.send(
                    FLOW.name,
                    event.wire(),
                    key.encode(),
                    headers.headers(event.event_id, FLOW.name, "/t", now),
                    partition_of(key.encode(), FLOW.partitions),
                )
            )
            number += 1
            due += self._pause
            if (early := due - time.monotonic()) > 0:
                self._told.wait(early)

    def end(self) -> int:
        """Stop, and wait until the broker has all of it; how many it has."""
        self._told.set()
        self.join()
        for one in self.sent:
            one.get(120)
        self.close()
        return len(self.sent)

    def close(self) -> None:
        """Stop at once."""
        self._told.set()
        with suppress(KafkaTimeoutError):
            self._producer.close(0)


class Workers:
    """One worker of each role as processes, started with these settings; their logs are in the folder."""

    def __init__(self, bootstrap: str, folder: Path, **settings: str) -> None:
        self.bootstrap, self.folder = bootstrap, folder
        self.logs = folder
        self.settings = {f"CITYWATCH_{name}": value for name, value in settings.items()}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str, environ: Mapping[str, str] | None = None) -> None:
        """Start workers by role; more than one of a role as `judge-2`, `judge-3`."""
        for name in names or ROLES:
            log = (self.logs / f"{name}.log").open("ab")
            command = [sys.executable, "-m", "cli", "worker", "--role", name.partition("-")[0]]
            self.running[name] = subprocess.Popen(
                command, cwd=ROOT, env=self.environ() | dict(environ or {}), stdout=log, stderr=log, start_new_session=True
            )  # fmt: skip
            log.close()

    def environ(self) -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if not k.startswith("CITYWATCH_")} | {
            "CITYWATCH_KAFKA__BOOTSTRAP": self.bootstrap,
            "CITYWATCH_DATA__DIR": str(self.folder),
            "CITYWATCH_CHECKPOINT__SECONDS": "2",
            **self.settings,
        }

    def log(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> int:
        """End one; its exit code."""
        process = self.running.pop(name)
        process.send_signal(how)
        return process.wait(60)

    def ended(self) -> dict[str, int]:
        """Exit codes of those that ended by themselves."""
        return {name: p.returncode for name, p in self.running.items() if p.poll() is not None}

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()
        self.running.clear()


def until(enough: Callable[[], Any], what: str, within: float = 30, every: float = 0.1) -> Any:
    """What `enough` gave as soon as it is true."""
    deadline = time.monotonic() + within
    while not (found := enough()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(every)
    return found


def begin(bootstrap: str, rules: RuleSet = RULES) -> None:
    """Topics and rules as an operator begins with."""
    topics.apply(bootstrap)
    topics.publish_rules(bootstrap, "", rules.canonical(), time.time_ns() // 1000)


class Ends:
    """Asks a broker for the ends of partitions over one connection that comes back at once."""

    def __init__(self, bootstrap: str, *places: clients.Partition) -> None:
        self._asked = [clients.TopicPartition(*p) for p in places]
        self._client = clients.consumer(
            bootstrap, reconnect_backoff_ms=20, reconnect_backoff_max_ms=100, request_timeout_ms=2_000
        )

    def __call__(self) -> dict[clients.Partition, int]:
        found = self._client.end_offsets(self._asked)
        return {(tp.topic, tp.partition): at for tp, at in found.items()}

    def close(self) -> None:
        self._client.close()


#: What each group reads, in the order in which one waits for the other; `alarms` appends to what it reads.
READS = {
    "judge": list(catalogue.topics()),
    "alarms": [ALARM_INPUT],
    "store": [*catalogue.topics(), catalogue.REJECTED, ALARM_EVENT, catalogue.ALARM_STATE, catalogue.LEDGER],
}


def unread(bootstrap: str) -> dict[tuple[str, clients.Partition], tuple[int, int]]:
    """What the groups have not read and committed: where they are, and where they should be."""
    counts = topics.partitions()
    places = {role: [(topic, n) for topic in READS[role] for n in range(counts[topic])] for role in READS}
    ends = clients.end_offsets(bootstrap, set().union(*places.values()))
    found = {}
    with closing(clients.admin(bootstrap)) as admin:
        for role, mine in places.items():
            done = clients.group_offsets(admin, f"citywatch-{role}", mine)
            found |= {(role, p): (done.get(p, 0), ends[p]) for p in mine if done.get(p, 0) < ends[p]}
    return found


def finish(workers: Workers, within: float = 120) -> list[Verdict]:
    """Let the workers come to the end of the log, without a clock that moves it on; what is there against what must be."""
    for name in list(workers.running):
        workers.kill(name, signal.SIGTERM)
    workers.start(environ={"CITYWATCH_KAFKA__CLOCK": "writer"})
    deadline = time.monotonic() + within
    while left := unread(workers.bootstrap):
        assert time.monotonic() < deadline, f"not read within {within:g} s: {left}"
        time.sleep(0.5)
    for name in list(workers.running):
        workers.kill(name, signal.SIGTERM)
    return verdicts(workers)


class LogTruth(Truth):
    """The truth of a log with anything in it: what is no input of the alarm plane, or names rules that never were, is passed by."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.input = [self._meant(r) for r in self.input]
        self.records = {place: [self._meant(r) for r in found] for place, found in self.records.items()}

    def _meant(self, record: Any) -> Any:
        control = headers.type_of(record.headers) == headers.CONTROL
        said = headers.control_of(record.value) if control else None
        try:
            if said is not None:
                self.rules(said[0])
            elif record.topic == ALARM_INPUT:
                _read(record)
        except (LookupError, ValueError):
            return SimpleNamespace(
                key=None, value=b"", headers=headers.CLOCK_HEADERS, offset=record.offset, timestamp=record.timestamp
            )  # fmt: skip
        return record

    def read(self, topic: str) -> list[Any]:
        return [r for r in super().read(topic) if _is_ours(topic, r.value)]


def _is_ours(topic: str, value: bytes) -> bool:
    """As subscribers must look at it: what is no such record is passed by."""
    kinds: dict[str, Any] = {ALARM_EVENT: AlarmEvent, catalogue.ALARM_STATE: Alarm}
    try:
        found = kinds[topic].model_validate_json(value) if topic in kinds else json.loads(value)["reason"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    return bool(found)


def verdicts(workers: Workers) -> list[Verdict]:
    """By the pure run over the log as it stands."""
    truth = LogTruth(
        workers.bootstrap, clients.log_id(workers.bootstrap), [FLOW.name, PlatformEvent.topic.name]
    )
    given = {k: v for k, v in workers.environ().items() if k.startswith("CITYWATCH_")}
    return truth.verdicts(open_store(read(given), read_only=True))


def faults(found: list[Verdict]) -> list[str]:
    """What is wrong; and nothing may be right only because there was nothing."""
    named = {v.what: v for v in found}
    empty = [f"no {what}" for what in ("signals", "history", "points") if not named[what].expected]
    return empty + [str(v) for v in found if not v.ok]
