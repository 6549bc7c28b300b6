"""The topics on the broker: what the catalogue wants there, what differs, and how it is put right."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAuthorizationFailedError

from bus.clients import EMBEDDED, MAX_RECORD_BYTES, UnreachableError, admin, name, producer, read_one, records
from bus.headers import control_of, control_record, is_event
from bus.security import explained
from models import catalogue
from rules.spec import ENGINE, RuleSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.base import Micros

_ACK_S = 30
#: Who sets a record's time.
STAMPED = "message.timestamp.type"
#: What is read back whole, when a worker or a console starts, is cut into pieces so small that compaction comes to them: the
#: broker never compacts the piece that it writes to, and with its own 1 GiB that may be all there is (docs/decisions).
_COMPACTED = {
    "segment.bytes": str(16 * 1024 * 1024),
    "segment.ms": "600000",
    "min.cleanable.dirty.ratio": "0.3",
}
#: On a set of rules: from when on, in microseconds. A publication that was cut short is finished with it.
_EFFECTIVE_FROM = "citywatch_effective_from"

#: In a replay's world the writer sets the stamps, years back or ahead, and nothing is forgotten by age.
_REPLAY = {
    STAMPED: "CreateTime",
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "retention.ms": "-1",
}
#: Among the living, the broker sets them: no producer's clock can skew what is derived from the log.
_LIVE = {STAMPED: "LogAppendTime"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic as it should be on the broker."""

    name: str
    partitions: int
    access: Literal["public", "restricted"]
    configs: Mapping[str, str]
    replication: int = 1
    clock: str | None = (
        None  # who must set its records' time, where that is the time of what is derived from it
    )


@dataclass(frozen=True, slots=True)
class Change:
    """What `apply` does about a topic.

    A `problem` it leaves to a person, since it would change what the log means or lose some of it; a `note` is good to know.
    """

    topic: str
    action: Literal["create", "alter", "problem", "note"]
    detail: str

    def __str__(self) -> str:
        return f"{self.action} {self.topic}: {self.detail}"


def partitions(prefix: str = "") -> dict[str, int]:
    """Every topic of the catalogue with its number of partitions, as named in the world of `prefix`."""
    return {topic: want.partitions for topic, want in wanted(prefix).items()}


def sources(prefix: str = "") -> dict[str, int]:
    """The source topics with their partitions, as named in the world of `prefix`."""
    return {name(prefix, t.name): t.partitions for t in catalogue.topics().values()}


def wanted(prefix: str = "", replication: int = 1) -> dict[str, Wanted]:
    """Every topic as it should be, by its name in the world of `prefix`; a prefix means a replay's world."""
    clocked = _REPLAY if prefix else _LIVE
    safe = {"min.insync.replicas": "2"} if replication > 2 else {}
    common = {"max.message.bytes": str(MAX_RECORD_BYTES), **safe}
    found = []
    for source in catalogue.topics().values():
        configs = {
            "cleanup.policy": "delete",
            "retention.ms": str(source.retention // timedelta(milliseconds=1)),
            **common,
            **clocked,
        }
        full = name(prefix, source.name)
        found.append(Wanted(full, source.partitions, source.access, configs, replication, clocked[STAMPED]))
    for own in catalogue.PLATFORM:
        configs = {"cleanup.policy": own.cleanup, "retention.ms": str(own.retention_ms), **common}
        # The alarm plane, too, folds a log whose time is the record's stamp.
        folded = own.name == catalogue.ALARM_INPUT
        configs |= clocked if folded else {STAMPED: "CreateTime"}
        configs |= _COMPACTED if own.cleanup == "compact" else {}
        configs |= _REPLAY if prefix else {}
        clock = clocked[STAMPED] if folded else None
        found.append(Wanted(name(prefix, own.name), own.partitions, own.access, configs, replication, clock))
    return {w.name: w for w in found}


def plan(bootstrap: str, prefix: str = "", replication: int = 1, *, deleting: bool = False) -> list[Change]:
    """What differs between the catalogue and the broker, by topic; changes nothing. `deleting` as for `apply`."""
    with closing(admin(bootstrap)) as client:
        found = _differences(client, prefix, wanted(prefix, replication), deleting=deleting)
        return [change for change, _ in found]


def apply(bootstrap: str, prefix: str = "", replication: int = 1, *, deleting: bool = False) -> list[Change]:
    """Create what is missing and put configurations right, and wait until the broker shows it.

    Returns what was done, the problems that remain, and what else there is to know. Partitions are never added: keys
    would move away from their own history. What would have the broker delete records is done only if `deleting`.
    """
    want = wanted(prefix, replication)
    with closing(admin(bootstrap)) as client:
        differences = _differences(client, prefix, want, deleting=deleting)
        try:
            _create(client, [want[c.topic] for c, _ in differences if c.action == "create"])
            _alter(client, {c.topic: drift for c, drift in differences if c.action == "alter"})
            _settle(client, prefix, want)
        except KafkaError as error:
            raise UnreachableError(f"{bootstrap} refused to change topics: {explained(error)}") from error
    return [change for change, _ in differences]


def _settle(client: Any, prefix: str, want: Mapping[str, Wanted]) -> None:
    """Wait until what was asked for is what is described: Kafka answers before it has done it."""
    deadline = time.monotonic() + _ACK_S
    while late := [c for c, _ in _differences(client, prefix, want) if c.action in ("create", "alter")]:
        if time.monotonic() > deadline:
            raise UnreachableError(
                f"after {_ACK_S} s the broker has not yet done: {'; '.join(map(str, late))}"
            )
        time.sleep(0.1)


#: A change of a topic, with the entries of its configuration that it sets.
_Difference = tuple[Change, dict[str, str]]


def _differences(
    client: Any, prefix: str, want: Mapping[str, Wanted], *, deleting: bool = False
) -> list[_Difference]:
    """All that differs, by topic; of one topic first what can be put right."""
    embedded = client.describe_cluster()["cluster_id"].startswith(EMBEDDED)
    listed = set(client.list_topics())  # asked by name, the embedded broker would create it
    there = sorted(want.keys() & listed)
    seen = {t["name"]: t["partitions"] for t in client.describe_topics(there)} if there else {}
    # The embedded broker keeps no configuration; its topics are made when it starts.
    configs = {} if embedded or not there else _configs(client, there)
    found: list[_Difference] = []
    for topic, w in want.items():
        if topic in seen:
            replicas = min(len(partition["replica_nodes"]) for partition in seen[topic])
            found += _drifted(w, configs.get(topic, {}), replicas, deleting=deleting)
            found += _shaped(w, len(seen[topic]), replicas, embedded=embedded)
        elif embedded:
            found.append(
                (Change(topic, "problem", "the embedded broker makes topics only when it starts"), {})
            )
        else:
            found.append((Change(topic, "create", f"{w.partitions} partitions, {_said(w.configs)}"), {}))
    ours = re.compile(re.escape(prefix) + r"city\.[a-z0-9_.]+\.v[0-9]+")
    strange = sorted(topic for topic in listed - want.keys() if ours.fullmatch(topic))
    return found + [(Change(topic, "note", _STRANGE), {}) for topic in strange]


_STRANGE = "the catalogue of this version has no such topic: nobody reads it, and it is left alone"


def _drifted(want: Wanted, have: Mapping[str, str], replicas: int, *, deleting: bool) -> list[_Difference]:
    """What differs in a topic's configuration; what would have the broker delete records is a problem."""
    drift = {k: v for k, v in want.configs.items() if have and have.get(k) != v}
    if int(drift.get("min.insync.replicas", 0)) > replicas:
        del drift["min.insync.replicas"]  # nobody could write: first it needs the replicas
    loses = set() if deleting else {k for k in drift if _deletes(k, have, want.configs)}
    safe = {k: v for k, v in drift.items() if k not in loses}
    found: list[_Difference] = []
    if safe:
        said = _moved(have, safe)
        if safe.get(STAMPED) == "LogAppendTime":
            said += "; what is in it keeps the times that producers gave it, see docs/operations.md"
        found.append((Change(want.name, "alter", said), safe))
    if loses:
        said = f"{_moved(have, {k: drift[k] for k in sorted(loses)})} has the broker delete records: --allow-deleting does it"
        found.append((Change(want.name, "problem", said), {}))
    return found


def _moved(have: Mapping[str, str], drift: Mapping[str, str]) -> str:
    return ", ".join(f"{k} {have.get(k)} -> {v}" for k, v in drift.items())


def _deletes(key: str, have: Mapping[str, str], want: Mapping[str, str]) -> bool:
    """Whether the broker would delete records by a change that it keeps without it."""
    if key == "cleanup.policy":
        return want[key] != "delete" or want["retention.ms"] != "-1"
    if key == "retention.ms":
        before, after = int(have[key]), int(want[key])
        return after >= 0 and (before < 0 or after < before)
    return False


def _shaped(want: Wanted, partitions: int, replicas: int, *, embedded: bool) -> list[_Difference]:
    """What differs in a topic's partitions and their replicas: neither is ours to change."""
    found = []
    if partitions != want.partitions:
        found.append(Change(want.name, "problem", count_problem(want.name, partitions, want.partitions)))
    if replicas < want.replication and not embedded:
        found.append(Change(want.name, "problem", _REPLICAS.format(replicas, want.replication)))
    elif replicas > want.replication and not embedded:
        said = f"has {replicas} replicas, CITYWATCH_KAFKA__REPLICATION says {want.replication}"
        found.append(Change(want.name, "note", said))
    return [(change, {}) for change in found]


_REPLICAS = (
    "has {} replicas, CITYWATCH_KAFKA__REPLICATION says {}; apply moves no data between brokers: "
    "give it more with kafka-reassign-partitions, then apply again"
)


def _said(configs: Mapping[str, str]) -> str:
    return ", ".join(f"{k}={v}" for k, v in configs.items())


def count_problem(topic: str, have: int, want: int) -> str:
    """What is wrong with a topic of another number of partitions than the catalogue's, and what would be right."""
    return (
        f"has {have} partitions, the catalogue says {want}; the count is fixed for a version of a topic: "
        f"make a new version of {topic}, or say {have} in its model"
    )


def _configs(client: Any, topics: list[str]) -> dict[str, dict[str, str]]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    found = client.describe_configs(asked, config_filter="all")["topic"]
    return {topic: {k: entry["value"] for k, entry in found[topic].items()} for topic in topics}


def stamps(bootstrap: str, names: Sequence[str]) -> dict[str, str]:
    """Who sets the time of records, for the topics whose configuration may be read; the embedded broker has none."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic, [STAMPED]) for topic in names]
    with closing(admin(bootstrap)) as client:
        try:
            if not asked or client.describe_cluster()["cluster_id"].startswith(EMBEDDED):
                return {}
            found = client.describe_configs(asked, config_filter="all")["topic"]
        except TopicAuthorizationFailedError:
            return {}
        except KafkaError as error:
            raise UnreachableError(f"{bootstrap} does not tell configurations: {error!r}") from error
    return {topic: entries[STAMPED]["value"] for topic, entries in found.items() if STAMPED in entries}


def _create(client: Any, topics: list[Wanted]) -> None:
    if not topics:
        return
    client.create_topics(
        {
            w.name: {
                "num_partitions": w.partitions,
                "replication_factor": w.replication,
                "configs": dict(w.configs),
            }
            for w in topics
        },
        wait_for_metadata=True,
    )


def _alter(client: Any, drifts: Mapping[str, dict[str, str]]) -> None:
    if not drifts:
        return
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic, drift) for topic, drift in drifts.items()]
    answers = client.alter_configs(asked)["topic"]
    refused = {topic: said for topic, said in answers.items() if said != "OK"}
    if refused:
        raise UnreachableError(f"the broker refused configurations: {refused}")


class Published(NamedTuple):
    """A set of rules in the log. Its version is its offset; `announced` when every partition has been told.

    `at` is the stamp with which it was published: it came in force then or at `effective_from`, whichever is later.
    """

    version: int
    canonical: bytes
    effective_from: Micros
    announced: bool
    at: Micros = 0

    @property
    def since(self) -> Micros:
        return max(self.effective_from, self.at)


def publish_rules(
    bootstrap: str, prefix: str, canonical: bytes, effective_from_us: Micros, stamp_us: Micros | None = None
) -> int:
    """Put a set into the log, tell every partition that is judged and the alarm input; returns its version.

    The set that is in force already is not sent again. A publication that was cut short is finished by the next
    call with the same bytes, under the time it was begun with, so a partition may be told the same thing twice.
    `stamp_us` is the arrival stamp where the writer sets it (embedded broker, replay).
    """
    latest = _latest(bootstrap, prefix)
    same = latest if latest is not None and latest.canonical == canonical else None
    if same is not None and same.announced:
        if same.effective_from <= effective_from_us:
            return same.version
        same = None  # what was to come later is to come sooner
    stamp_ms = None if stamp_us is None else stamp_us // 1000
    rules = name(prefix, catalogue.RULES)
    with closing(producer(bootstrap)) as client:
        try:
            if same is None:
                started = (_EFFECTIVE_FROM, str(effective_from_us).encode())
                sent = client.send(rules, canonical, None, [started], 0, stamp_ms)
                same = Published(sent.get(_ACK_S).offset, canonical, effective_from_us, announced=False)
            told = control_record(same.version, same.effective_from)
            # The alarm input first: no signal by these rules may stand there before the rules over signals do.
            for told_to in ([name(prefix, catalogue.ALARM_INPUT)], list(sources(prefix))):
                places = _judged(client, told_to)
                for sent in [client.send(t, told.value, None, told.headers, n, stamp_ms) for t, n in places]:
                    sent.get(_ACK_S)
            # Only now is the publication whole; this record says so to whoever publishes next.
            client.send(rules, told.value, None, told.headers, 0, stamp_ms).get(_ACK_S)
        except KafkaError as error:
            raise UnreachableError(f"{bootstrap} did not take the rules: {error!r}") from error
    return same.version


def _judged(client: Any, topics: list[str]) -> list[tuple[str, int]]:
    """Every partition of the topics, asked for at once: one after the other the client waits 0.1 s for each."""
    with ThreadPoolExecutor(len(topics)) as pool:
        found = pool.map(client.partitions_for, topics)
        return [(topic, n) for topic, numbers in zip(topics, found, strict=True) for n in sorted(numbers)]


def latest_rules(bootstrap: str, prefix: str = "") -> tuple[int, bytes] | None:
    """Version and bytes of the newest set in the log, or None."""
    found = _latest(bootstrap, prefix)
    return None if found is None else (found.version, found.canonical)


def _latest(bootstrap: str, prefix: str) -> Published | None:
    found = history(bootstrap, prefix)
    return found[-1] if found else None


def history(bootstrap: str, prefix: str = "") -> list[Published]:
    """Every set of rules in the log, the oldest first."""
    found: list[Published] = []
    for record in records(bootstrap, (name(prefix, catalogue.RULES), 0)):
        if is_event(record.headers):
            begun = dict(record.headers).get(_EFFECTIVE_FROM, b"0")
            stamp = record.timestamp * 1000
            found.append(Published(record.offset, record.value, int(begun), announced=False, at=stamp))
        elif found and (control_of(record.value) or (None,))[0] == found[-1].version:
            found[-1] = found[-1]._replace(announced=True)
    return found


def in_force(published: Sequence[Published], at: Micros) -> Published | None:
    """Which of the sets is in force at that moment: the last one said replaces what was to come later than it."""
    return next((one for one in reversed(_left(published)) if one.since <= at), None)


def standing(published: Sequence[Published], at: Micros) -> list[Published]:
    """The set that is in force at that moment, and those that will be later, in the order in which they will."""
    now, said = in_force(published, at), _left(published)
    return [*([] if now is None else [now]), *(one for one in said if one.since > at)]


def _left(published: Sequence[Published]) -> list[Published]:
    left: list[Published] = []
    for one in published:
        left = [*(other for other in left if other.since <= one.since), one]
    return left


async def fetch_rules(bootstrap: str, prefix: str, version: int) -> bytes:
    """The bytes of a version of the rules. Raises LookupError if there is none."""
    record = await read_one(bootstrap, name(prefix, catalogue.RULES), 0, version)
    if not is_event(record.headers):
        raise LookupError(f"{record.topic}: the record at {version} is no set of rules")
    return bytes(record.value)


class EngineError(ValueError):
    """A set of rules was written for a greater engine than this citywatch has: only an upgrade helps."""


async def rules_of(bootstrap: str, prefix: str, version: int) -> RuleSet:
    """A version of the rules.

    Raises LookupError if there is none, UnreachableError, EngineError if it is for a citywatch to come, and ValueError if it
    is no set at all.
    """
    value = await fetch_rules(bootstrap, prefix, version)
    try:
        return RuleSet.parse(value)
    except ValueError as error:
        engine = _engine_of(value)
        if engine > ENGINE:
            raise EngineError(
                f"rules version {version} cannot be read: it is for engine {engine}, this citywatch has engine {ENGINE}; "
                "upgrade this worker"
            ) from error
        raise ValueError(f"rules version {version} is no set of rules: {error}") from error


def _engine_of(value: bytes) -> int:
    """The engine that a set names, readable or not; 0 if it is none."""
    try:
        engine = json.loads(value)["engine"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0
    return engine if type(engine) is int else 0
