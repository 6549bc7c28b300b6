"""What a log must have led to: pure folds over the records as they stand on the broker, compared with what the apps made of them.

Nothing here is told by a worker. Judges and the alarm plane are run again, in memory and uncut, over the same partitions; what they say
is what must stand, once each after dropping repeated ids, in the signals, the history, the states, the rejects and the store.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bus import clients, headers, topics
from bus.rejects import reject
from models import catalogue
from models.alarm import SIGNAL_TYPE, Signal
from models.base import micros
from models.decode import Rejection, decode
from rules.defined import compile_wide
from rules.judge import Judge
from rules.lifecycle import Plane
from rules.program import compile_program
from rules.wide import Control
from sinks.contract import Query
from sinks.points import pointer
from streams.alarms import BUCKETS, _read
from streams.domain import domains

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rules.spec import RuleSet
    from sinks.contract import Store


@dataclass
class Verdict:
    """What is wrong with one kind of output: ids that are not there, that should not be there, and that say another thing.

    `repeated` is no fault: whoever reads drops what has an id that was seen.
    """

    what: str
    expected: int = 0
    lost: list[Any] = field(default_factory=list)
    doubled: list[Any] = field(default_factory=list)
    other: list[Any] = field(default_factory=list)
    repeated: int = 0

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.other)

    def __str__(self) -> str:
        if self.ok:
            return f"{self.what}: {self.expected} expected, all there once ({self.repeated} repeated)"
        said = [f"{len(ids)} {name} ({ids[0]!r} …)" for name, ids in
                (("lost", self.lost), ("doubled", self.doubled), ("other", self.other)) if ids]  # fmt: skip
        return f"{self.what}: of {self.expected} expected {', '.join(said)}"


def compare(what: str, expected: Mapping[Any, Any], found: Iterable[tuple[Any, Any]]) -> Verdict:
    """By id. Of what is found twice under an id every copy must say the same."""
    verdict = Verdict(what, len(expected))
    seen: dict[Any, Any] = {}
    for key, value in found:
        if key in seen:
            verdict.repeated += 1
        if seen.setdefault(key, value) != value or (key in expected and expected[key] != value):
            verdict.other.append(key)
    verdict.lost = [key for key in expected if key not in seen]
    verdict.doubled = [key for key in seen if key not in expected]
    return verdict


class Truth:
    """The log of a broker, read once, and what must follow from it."""

    def __init__(self, bootstrap: str, log_id: str, only: Iterable[str] | None = None) -> None:
        """`only`: the source topics that were fed; none: all of the catalogue."""
        self.bootstrap, self.log_id = bootstrap, log_id
        self.sets: dict[int, RuleSet] = {}
        self.topics = sorted(only or catalogue.topics())
        self.records = {
            (topic, p): list(clients.records(bootstrap, (topic, p)))
            for topic in self.topics
            for p in range(catalogue.topics()[topic].partitions)
        }
        self.input = list(clients.records(bootstrap, (catalogue.ALARM_INPUT, 0)))

    def rules(self, version: int) -> RuleSet:
        if version not in self.sets:
            self.sets[version] = asyncio.run(topics.rules_of(self.bootstrap, "", version))
        return self.sets[version]

    # --- what must be -------------------------------------------------------------------------------------------

    def judged(self) -> tuple[dict[str, bytes], dict[str, str]]:
        """The signals of all partitions by their ids, and the rejects: reason by id."""
        signals: dict[str, bytes] = {}
        rejects: dict[str, str] = {}
        for (topic, partition), records in self.records.items():
            event = catalogue.event_of(topic)
            judge = Judge(event, partition, self.log_id)
            for record in records:
                for said in self._judged(judge, event, record, rejects):
                    signals[_signal_id(said)] = said.model_dump_json(exclude_none=True).encode()
        return signals, rejects

    def _judged(self, judge: Judge, event: Any, record: Any, rejects: dict[str, str]) -> list[Signal]:
        offset, stamp = record.offset, record.timestamp * 1000
        kind = headers.type_of(record.headers)
        if record.key is None and kind == headers.CONTROL:
            said = headers.control_of(record.value)
            if said is None:
                return judge.pass_by(offset, stamp)
            version, effective = said
            return judge.control(
                offset, stamp, effective, compile_program(self.rules(version), version, event)
            )
        if record.key is None and kind in (catalogue.CANARY, headers.CLOCK):
            return judge.pass_by(offset, stamp)
        found = decode(event, record.value, stamp, record.key or b"")
        if isinstance(found, Rejection):
            sending = reject(self.log_id, event.topic.name, record, found.reason, found.detail)
            rejects[sending["key"].decode()] = found.reason
            return judge.pass_by(offset, stamp, "rejected")
        return judge.event(offset, stamp, found, zlib.crc32(record.value))

    def planned(self) -> tuple[dict[str, bytes], dict[str, bytes], dict[str, bytes]]:
        """Of the alarm plane over its input as it stands: the history by id, the last state by alarm, what it concluded by id."""
        plane = Plane(self.log_id, BUCKETS)
        history: dict[str, bytes] = {}
        states: dict[str, bytes] = {}
        concluded: dict[str, bytes] = {}
        for record in self.input:
            said: Any = None
            if headers.type_of(record.headers) == headers.CONTROL:
                control = headers.control_of(record.value)
                if control is not None:
                    version, effective = control
                    said = Control(effective, compile_wide(self.rules(version), version))
            else:
                said = _read(record)
            stamp = record.timestamp * 1000
            for entry in plane.step(record.offset, stamp, said):
                history[entry.id] = entry.model_dump_json(exclude_none=True).encode()
                states[entry.alarm.alarm_id] = entry.alarm.model_dump_json(exclude_none=True).encode()
            for more in plane.conclude(record.offset, stamp, said):
                concluded[_conclusion_id(more)] = more.model_dump_json(exclude_none=True).encode()
        return history, states, concluded

    def stored(self) -> dict[Any, Any]:
        """Every point that the store must have: the fields by measurement, tags, time and event id."""
        made = {d.event.topic.name: pointer(d.event, d.fields, d.tags) for d in domains().values()}
        found: dict[Any, Any] = {}
        for (topic, _), records in self.records.items():
            event, point = catalogue.event_of(topic), made[topic]
            for record in records:
                if record.key is None and not headers.is_event(record.headers):
                    continue
                stamp = record.timestamp * 1000
                said = decode(event, record.value, stamp, record.key or b"")
                if isinstance(said, Rejection):
                    continue
                p = point(said, stamp - said.at > event.topic.late_us)
                identity = (p.measurement, None if p.event_id else p.tags, p.late, p.time, p.event_id)
                if not p.event_id or identity not in found or p.revision >= found[identity].revision:
                    found[identity] = p
        return {(p.measurement, p.tags, p.late, p.time, p.event_id): dict(p.fields) for p in found.values()}

    # --- what is there --------------------------------------------------------------------------------------------

    async def in_store(self, store: Store) -> dict[str, list[tuple[Any, Any]]]:
        """What the store has of the fed topics, as `stored` says it, and the whole records it keeps."""
        points = []
        for topic in self.topics:
            measurement = catalogue.topics()[topic].measurement
            for row in await store.read(Query(measurement)):
                tags, fields = dict(row.tags), dict(row.fields)
                late, event_id = tags.pop("late", "") == "1", fields.pop("event_id", "")
                points.append(((measurement, tuple(sorted(tags.items())), late, row.time, event_id), fields))
        kept: dict[str, list[tuple[Any, Any]]] = {"points": points}
        for kind in ("rejected", "alarm_event", "alarm"):
            kept[kind] = [(r.id, r.body) for r in await store.kept(kind)]
        await store.close()
        return kept

    def read(self, topic: str) -> list[Any]:
        return [r for r in clients.records(self.bootstrap, (topic, 0)) if r.value]

    # --- the comparison -------------------------------------------------------------------------------------------

    def verdicts(self, store: Store | None = None) -> list[Verdict]:
        """What must be against what is there, kind by kind. The apps must have read everything."""
        signals, rejects = self.judged()
        history, states, concluded = self.planned()
        said = [(r, _read(r)) for r in self.input if headers.type_of(r.headers) != headers.CONTROL]
        there = [
            (s, bytes(r.value))
            for r, s in said
            if s is not None and headers.type_of(r.headers) != "city.alarm.command.v1"
        ]
        own = catalogue.ALARM_INPUT
        found = [
            compare(
                "signals",
                signals,
                [(_signal_id(s), v) for s, v in there if isinstance(s, Signal) and s.topic != own],
            ),
            compare("conclusions", concluded, [(_conclusion_id(s), v) for s, v in there if s.topic == own]),
            compare(
                "history",
                history,
                [(json.loads(r.value)["id"], bytes(r.value)) for r in self.read(catalogue.ALARM_EVENT)],
            ),
            compare("states", states, self._states()),
            compare("rejects", rejects, [(b["id"], b["reason"]) for b in self._rejected()]),
        ]
        if store is not None:
            there_too = asyncio.run(self.in_store(store))
            found.append(compare("points", self.stored(), there_too["points"]))
            reasons = [(i, b["reason"]) for i, b in there_too["rejected"]]
            found.append(compare("kept rejects", rejects, reasons))
            entries = [(i, _without_id(b)) for i, b in there_too["alarm_event"]]
            found.append(compare("kept history", {i: json.loads(v) for i, v in history.items()}, entries))
            alarms = {i: json.loads(v) for i, v in states.items()}
            found.append(compare("kept alarms", alarms, there_too["alarm"]))
        return found

    def _rejected(self) -> list[dict[str, Any]]:
        return [json.loads(r.value) for r in self.read(catalogue.REJECTED)]

    def _states(self) -> list[tuple[str, bytes]]:
        """As every reader must: of the records of an alarm that of the greatest position."""
        best: dict[str, tuple[int, bytes]] = {}
        for record in self.read(catalogue.ALARM_STATE):
            body = json.loads(record.value)
            if body["position"] >= best.get(body["alarm_id"], (-1, b""))[0]:
                best[body["alarm_id"]] = (body["position"], bytes(record.value))
        return [(i, value) for i, (_, value) in best.items()]

    def transitions(self) -> Counter[str]:
        """Entries of the history by type, each once."""
        entries = {
            b["id"]: b["type"] for b in (json.loads(r.value) for r in self.read(catalogue.ALARM_EVENT))
        }
        return Counter(entries.values())


def ideal(truth: Truth) -> tuple[set[Any], set[Any]]:
    """The final ledger as the log means it, from signals told in another order (partition by partition), and as the plane ended with."""

    def ended(records: Iterable[Signal]) -> set[Any]:
        plane = Plane("ideal", BUCKETS)
        for n, said in enumerate(records):
            plane.step(n, micros(said.stamp), said)
        return {
            (a.fingerprint, a.start, a.end, a.peak, a.priority, tuple(e.event_id for e in a.evidence))
            for a in plane.alarms()
            if not a.retracted
        }

    signals, _ = truth.judged()
    by_log = sorted(
        (Signal.model_validate_json(v) for v in signals.values()),
        key=lambda s: (s.topic, s.partition, s.offset, s.k),
    )
    as_read = [
        s
        for r in truth.input
        if headers.type_of(r.headers) == SIGNAL_TYPE
        for s in [Signal.model_validate_json(r.value)]
        if s.topic != catalogue.ALARM_INPUT
    ]
    return ended(by_log), ended(as_read)


def _signal_id(said: Signal) -> str:
    return f"{said.topic}/{said.partition}/{said.offset}/{said.alarm_id}/{said.k}"


def _conclusion_id(said: Any) -> str:
    return f"{said.op}/{said.alarm_id}/{said.rule}/{said.offset}/{said.k}"


def _without_id(body: dict[str, Any]) -> dict[str, Any]:
    """The store adds the alarm's id to an entry, to be asked by."""
    return {k: v for k, v in body.items() if k != "alarm_id"}
