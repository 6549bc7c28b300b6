"""The topics on the broker: what the catalogue wants there, what differs, and how it is put right."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from bus.clients import EMBEDDED, MAX_RECORD_BYTES, UnreachableError, admin, name, producer, read_one, records
from bus.headers import control_record, is_event
from models import catalogue
from rules.spec import ENGINE, RuleSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.base import Micros

_ACK_S = 30
#: On a set of rules: from when on, in microseconds. A publication that was cut short is finished with it.
_EFFECTIVE_FROM = "citywatch_effective_from"

#: In a replay's world the writer sets the stamps, years back or ahead, and nothing is forgotten by age.
_REPLAY = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "retention.ms": "-1",
}
#: Among the living, the broker sets them: no producer's clock can skew what is derived from the log.
_LIVE = {"message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic as it should be on the broker."""

    name: str
    partitions: int
    access: Literal["public", "restricted"]
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """What `apply` does about a topic; a `problem` it leaves to a person, since it would change what the log means."""

    topic: str
    action: Literal["create", "alter", "problem"]
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
        found.append(Wanted(name(prefix, source.name), source.partitions, source.access, configs))
    for own in catalogue.PLATFORM:
        configs = {"cleanup.policy": own.cleanup, "retention.ms": str(own.retention_ms), **common}
        # The alarm plane, too, folds a log whose time is the record's stamp.
        configs |= clocked if own.name == catalogue.ALARM_INPUT else {"message.timestamp.type": "CreateTime"}
        configs |= _REPLAY if prefix else {}
        found.append(Wanted(name(prefix, own.name), own.partitions, own.access, configs))
    return {w.name: w for w in found}


def plan(bootstrap: str, prefix: str = "", replication: int = 1) -> list[Change]:
    """What differs between the catalogue and the broker, by topic; changes nothing."""
    with closing(admin(bootstrap)) as client:
        return [change for change, _ in _differences(client, wanted(prefix, replication))]


def apply(bootstrap: str, prefix: str = "", replication: int = 1) -> list[Change]:
    """Create what is missing and put configurations right, and wait until the broker shows it.

    Returns what was done, and the problems that remain. Partitions are never added: keys would move away from
    their own history.
    """
    want = wanted(prefix, replication)
    with closing(admin(bootstrap)) as client:
        differences = _differences(client, want)
        try:
            _create(client, [want[c.topic] for c, _ in differences if c.action == "create"], replication)
            _alter(client, {c.topic: drift for c, drift in differences if c.action == "alter"})
            _settle(client, want)
        except KafkaError as error:
            raise UnreachableError(f"{bootstrap} refused to change topics: {error}") from error
    return [change for change, _ in differences]


def _settle(client: Any, want: Mapping[str, Wanted]) -> None:
    """Wait until what was asked for is what is described: Kafka answers before it has done it."""
    deadline = time.monotonic() + _ACK_S
    while late := [change for change, _ in _differences(client, want) if change.action != "problem"]:
        if time.monotonic() > deadline:
            raise UnreachableError(
                f"after {_ACK_S} s the broker has not yet done: {'; '.join(map(str, late))}"
            )
        time.sleep(0.1)


def _differences(client: Any, want: Mapping[str, Wanted]) -> list[tuple[Change, dict[str, str]]]:
    """Each change with the configuration entries it sets."""
    embedded = client.describe_cluster()["cluster_id"].startswith(EMBEDDED)
    there = sorted(
        want.keys() & set(client.list_topics())
    )  # asked by name, the embedded broker would create it
    counts = {t["name"]: len(t["partitions"]) for t in client.describe_topics(there)} if there else {}
    # The embedded broker keeps no configuration; its topics are made when it starts.
    configs = {} if embedded or not there else _configs(client, there)
    found: list[tuple[Change, dict[str, str]]] = []
    for topic, w in want.items():
        drift = {k: v for k, v in w.configs.items() if topic in configs and configs[topic].get(k) != v}
        if topic not in counts and embedded:
            found.append(
                (Change(topic, "problem", "the embedded broker makes topics only when it starts"), {})
            )
        elif topic not in counts:
            found.append((Change(topic, "create", f"{w.partitions} partitions, {_said(w.configs)}"), {}))
        elif counts[topic] != w.partitions:
            found.append((Change(topic, "problem", _count_problem(topic, counts[topic], w.partitions)), {}))
        elif drift:
            detail = ", ".join(f"{k} {configs[topic].get(k)} -> {v}" for k, v in drift.items())
            found.append((Change(topic, "alter", detail), drift))
    return found


def _said(configs: Mapping[str, str]) -> str:
    return ", ".join(f"{k}={v}" for k, v in configs.items())


def _count_problem(topic: str, have: int, want: int) -> str:
    return (
        f"has {have} partitions, the catalogue says {want}; the count is fixed for a version of a topic: "
        f"make a new version of {topic}, or say {have} in its model"
    )


def _configs(client: Any, topics: list[str]) -> dict[str, dict[str, str]]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    found = client.describe_configs(asked, config_filter="all")["topic"]
    return {topic: {k: entry["value"] for k, entry in found[topic].items()} for topic in topics}


def _create(client: Any, topics: list[Wanted], replication: int) -> None:
    if not topics:
        return
    client.create_topics(
        {
            w.name: {
                "num_partitions": w.partitions,
                "replication_factor": replication,
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
        elif found and json.loads(record.value)["version"] == found[-1].version:
            found[-1] = found[-1]._replace(announced=True)
    return found


def in_force(published: Sequence[Published], at: Micros) -> Published | None:
    """Which of the sets is in force at that moment: the last one said replaces what was to come later than it."""
    standing: list[Published] = []
    for one in published:
        standing = [*(other for other in standing if other.since <= one.since), one]
    return next((one for one in reversed(standing) if one.since <= at), None)


async def fetch_rules(bootstrap: str, prefix: str, version: int) -> bytes:
    """The bytes of a version of the rules. Raises LookupError if there is none."""
    record = await read_one(bootstrap, name(prefix, catalogue.RULES), 0, version)
    if not is_event(record.headers):
        raise LookupError(f"{record.topic}: the record at {version} is no set of rules")
    return bytes(record.value)


async def rules_of(bootstrap: str, prefix: str, version: int) -> RuleSet:
    """A version of the rules. Raises LookupError if there is none, ValueError if this citywatch cannot read it."""
    value = await fetch_rules(bootstrap, prefix, version)
    try:
        return RuleSet.parse(value)
    except ValueError as error:
        raise ValueError(
            f"rules version {version} cannot be read by this citywatch (engine {ENGINE}); run one that can: {error}"
        ) from error
