"""What a log that runs says of its accounts, to whoever asks from outside: the group's own word, and the log again."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
    OffsetOutOfRangeError,
)

from audit.account import Account, Fold
from audit.worker import account_of, named_place
from bus import clients
from models import catalogue
from sinks.ledger import VERDICTS, Accounts, Live

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from models.base import Micros
    from sinks.contract import Record

_Place = tuple[str, int]

_NO_GROUP = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)

#: The ledger's worker is a second behind a store that keeps up.
PATIENCE_S = 6.0


@dataclass(frozen=True)
class World:
    """Where the log is, what it is called, and what is late in it (None: what each topic says)."""

    bootstrap: str
    prefix: str
    log: str
    grace_us: Micros | None = None

    def tp(self, place: _Place) -> TopicPartition:
        return TopicPartition(clients.name(self.prefix, place[0]), place[1])


def _places() -> list[_Place]:
    return [(name, p) for name, topic in catalogue.topics().items() for p in range(topic.partitions)]


async def accounts(world: World) -> dict[_Place, Account]:
    """By topic and partition, as the ledger's group has committed them. Raises UnreachableError."""
    group = f"{world.prefix}citywatch-ledger"
    places = {world.tp(place): place for place in _places()}
    async with _reaching(world):
        admin = clients.aio_admin(world.bootstrap)
        try:
            await admin.start()
            found = await admin.list_consumer_group_offsets(group, partitions=list(places))
        except _NO_GROUP:
            return {}  # its coordinator is only being found: it has committed nothing
        finally:
            await admin.close()
    said = {places[tp]: account_of(at.offset, at.metadata) for tp, at in found.items() if at.offset >= 0}
    return {place: account for place, account in said.items() if account is not None}


def live(world: World, known: Mapping[_Place, Account]) -> Live:
    """These accounts for `sinks.ledger.ledger`."""

    async def waiting() -> dict[str, int]:
        behind = Counter[str]()
        for place, end in (await asyncio.to_thread(_ends, world)).items():
            behind[place[0]] += max(0, end - known.get(place, Account()).next)
        return {topic: n for topic, n in behind.items() if n}

    async def later() -> Accounts | None:
        ends = await asyncio.to_thread(_ends, world)
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while asyncio.get_running_loop().time() < deadline:
            now = await accounts(world)
            if all(now[place].next >= end if place in now else not end for place, end in ends.items()):
                return _counts(now)
            await asyncio.sleep(0.3)
        return None

    return Live(world.log, _counts(known), waiting, later)


def _counts(known: Mapping[_Place, Account]) -> Accounts:
    return {place: {**a.counts, "forgotten": a.forgotten} for place, a in known.items()}


def _ends(world: World) -> dict[_Place, int]:
    places = {(clients.name(world.prefix, topic), p): (topic, p) for topic, p in _places()}
    return {places[at]: end for at, end in clients.end_offsets(world.bootstrap, places).items()}


class Difference(NamedTuple):
    """An account that does not say what the log does; `where` it stands."""

    where: str
    place: _Place
    said: Account
    log: Account | None  # None: the log does not go so far

    def __str__(self) -> str:
        topic, partition = self.place
        name = f"{self.where}: the account of {topic}/{partition}"
        if self.log is None:
            return f"{name} goes to offset {self.said.next - 1}, and the log does not: it is forged, or of another log"
        return f"{name} says {_words(self.said)} up to offset {self.said.next - 1}, and the log {_words(self.log)}"


def _words(account: Account) -> str:
    return ", ".join(f"{name} {n:,}" for name in VERDICTS if (n := account.counts[name])) or "nothing"


@dataclass
class Recount:
    """What counting the log again gave: `differences`, and the partitions whose log no longer begins at its beginning."""

    records: int = 0
    differences: list[Difference] = field(default_factory=list)
    forgotten: dict[_Place, int] = field(default_factory=dict)


async def recount(world: World, known: Mapping[_Place, Account], kept: Iterable[Record]) -> Recount:
    """Count everything that the log has again, and compare every account of it. Raises UnreachableError.

    Accounts stand in three places: with the group's offsets (`known`), in the ledger's topic, and in the store (`kept`).
    """
    said: dict[_Place, list[tuple[str, Account]]] = {}
    for place, account in known.items():
        said.setdefault(place, []).append(("the ledger's group", account))
    async for place, account in _in_topic(world):
        said.setdefault(place, []).append((catalogue.LEDGER, account))
    for record in kept:
        body = record.body
        if body["log"] == world.log and body["partition"] >= 0:
            with suppress(ValueError):
                account = Account.parse({**body, "position": body.get("upto", body["position"])})
                said.setdefault((body["topic"], body["partition"]), []).append(("the store", account))
    found = Recount()
    async with _reaching(world):
        named = await _rejects(world)
        for place, claims in sorted(said.items()):
            await _recount_place(world, place, claims, named.get(place, set()), found)
    return found


async def _in_topic(world: World) -> AsyncIterator[tuple[_Place, Account]]:
    """The last account of each partition in the ledger's topic."""
    topic = clients.name(world.prefix, catalogue.LEDGER)
    said = clients.read_all(world.bootstrap, topic, [0])
    last = {key: value async for key, value in said if key and value}
    for value in last.values():
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            body = json.loads(value)
            if body["log"] == world.log:
                yield (body["topic"], body["partition"]), Account.parse(body)


async def _rejects(world: World) -> dict[_Place, set[int]]:
    named: dict[_Place, set[int]] = {}
    async for _, value in clients.read_all(
        world.bootstrap, clients.name(world.prefix, catalogue.REJECTED), [0]
    ):
        at = named_place(value, world.log)
        if at is not None:
            named.setdefault(at[:2], set()).add(at[2])
    return named


async def _recount_place(
    world: World, place: _Place, claims: list[tuple[str, Account]], named: set[int], found: Recount
) -> None:
    """Fold the partition once, and look at the account wherever one of the claims says how it stands."""
    topic = catalogue.topics().get(place[0])
    if topic is None or place[1] >= topic.partitions:
        found.differences += [Difference(where, place, said, None) for where, said in claims]
        return
    fold = Fold(topic, late_us=world.grace_us)
    stops = sorted({said.next for _, said in claims})
    at: dict[int, Account] = {stop: Account() for stop in stops if stop == 0}
    async for record in _records(world, place):
        if fold.at < 0 and record.offset:
            found.forgotten[place] = record.offset
        while stops and record.offset >= stops[0]:
            at[stops.pop(0)] = _copy(fold.account)
        if not stops:
            break
        stamp, rejected = record.timestamp * 1000, record.offset in named
        fold.step(record.offset, stamp, record.key, record.value, record.headers, rejected=rejected)
        found.records += 1
    while stops and fold.account.next >= stops[0]:
        at[stops.pop(0)] = _copy(fold.account)
    for where, said in claims:
        counted = at.get(said.next)
        if counted is None:
            found.differences.append(Difference(where, place, said, None))
        elif place not in found.forgotten and +said.counts != +counted.counts:
            found.differences.append(Difference(where, place, said, counted))


def _copy(account: Account) -> Account:
    return Account(account.next, account.clock, Counter(account.counts), account.forgotten)


async def _records(world: World, place: _Place) -> AsyncIterator[Any]:
    """The records of a partition that are there now, oldest first."""
    tp = world.tp(place)
    reader = clients.aio_consumer(world.bootstrap)
    try:
        await reader.start()
        reader.assign([tp])
        end = (await reader.end_offsets([tp]))[tp]
        reader.seek(tp, (await reader.beginning_offsets([tp]))[tp])
        while await reader.position(tp) < end:
            try:
                batches = await reader.getmany(tp, timeout_ms=500)
            except OffsetOutOfRangeError:  # the broker has just forgotten what we were at
                reader.seek(tp, (await reader.beginning_offsets([tp]))[tp])
                continue
            for record in batches.get(tp, ()):
                if record.offset < end:
                    yield record
    finally:
        await reader.stop()


@asynccontextmanager
async def _reaching(world: World) -> AsyncIterator[None]:
    try:
        yield
    except KafkaError as error:
        raise clients.UnreachableError(f"{world.bootstrap} does not say: {error!r}") from error
