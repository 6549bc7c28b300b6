"""Invariant I1 as figures: per topic, what was accepted and what became of it: the accounts against the store itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from models.catalogue import topics
from sinks.contract import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sinks.contract import Store

#: Rejects of files whose lines belong to no topic that could be told.
UNKNOWN = "(unknown)"

#: What an account says of records. `corrected` ones are among the conflicts of a line; what is `unread` is missing.
VERDICTS = ("stored", "late", "duplicate", "conflict", "corrected", "rejected", "unread")

#: What is in a line's JSON only where there is some.
_MORE = ("waiting", "corrected", "forgotten", "unaccounted")


@dataclass(frozen=True, slots=True)
class Line:
    """One topic's account, at a position that the store has passed.

    `accepted` is what was read there and what sources refused before; `stored` what the store really has; `late`,
    `duplicate` and `conflict` are said by the account; `rejected` are the rejects that are kept. `waiting` records are in
    the log and not yet accounted for. `corrected` are those of the conflicts that a greater revision explains.
    `forgotten` records were gone from the log before they could be accounted for; `unaccounted` ones were stored or
    rejected by a city that was killed, together with its log, before its account of them was out.
    """

    accepted: int = 0
    stored: int = 0
    late: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    waiting: int = 0
    corrected: int = 0
    forgotten: int = 0
    unaccounted: int = 0

    @property
    def missing(self) -> int:
        """How many are accounted for by nobody; less than none: how many are there twice."""
        return self.accepted - self.stored - self.late - self.duplicate - self.conflict - self.rejected

    @property
    def exact(self) -> bool:
        return self.missing == 0 and self.forgotten == 0

    def json(self) -> dict[str, Any]:
        said = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**{n: v for n, v in said.items() if v or n not in _MORE}, "exact": self.exact}


Accounts = Mapping[tuple[str, int], Mapping[str, int]]


@dataclass(frozen=True)
class Live:
    """What a log that runs says: its accounts, by topic and partition, newer than those in the store.

    `later` waits a while until all that is in the log now is accounted for, and gives the accounts of then; None: it is not
    yet. Then `waiting` gives the records of each topic, empty ones among them, that the first accounts do not reach.
    """

    log: str
    accounts: Accounts
    waiting: Callable[[], Awaitable[Mapping[str, int]]]
    later: Callable[[], Awaitable[Accounts | None]]


@dataclass
class _Topic:
    """What is known of one topic."""

    account: Counter[str] = field(default_factory=Counter)
    stored: int = 0  # in the store
    rejects: int = 0  # kept
    files: int = 0  # of them, those that sources refused

    @property
    def more(self) -> tuple[int, int]:
        """Points and rejects that the store has beyond the account."""
        return self.stored - self.account["stored"], self.rejects - self.files - self.account["rejected"]


async def ledger(store: Store, live: Live | None = None) -> dict[str, Line]:
    """The account of every topic that anything is known of, by name; `UNKNOWN` comes last.

    The account comes first, the store second, and then the account of all that was in the log when the store had been
    asked: the store must have what the first says, and no more than the last.
    """
    found = await _known(store, live)
    waiting: Mapping[str, int] = {}
    if live is not None:
        later = await live.later()
        waiting = await live.waiting() if later is None else _moved(live.accounts, later)
    names = sorted({*found, *waiting} - {UNKNOWN}) + [UNKNOWN] * (UNKNOWN in found)
    lines = {name: _line(found.get(name, _Topic()), waiting.get(name, 0)) for name in names}
    return {name: line for name, line in lines.items() if line != Line()}


def _moved(before: Accounts, after: Accounts) -> Mapping[str, int]:
    """By topic, how many records were accounted for meanwhile."""
    moved = Counter[str]()
    for (topic, _), account in after.items():
        moved[topic] += sum(account.get(verdict, 0) for verdict in VERDICTS)
    for (topic, _), account in before.items():
        moved[topic] -= sum(account.get(verdict, 0) for verdict in VERDICTS)
    return {topic: n for topic, n in moved.items() if n > 0}


async def _known(store: Store, live: Live | None) -> dict[str, _Topic]:
    found: dict[str, _Topic] = {name: _Topic() for name in topics()}
    if live is not None:
        for (topic, _), account in live.accounts.items():
            found.setdefault(topic, _Topic()).account.update(account)
    for record in await store.kept("ledger"):
        body = record.body
        if live is None or body["log"] != live.log or (body["topic"], body["partition"]) not in live.accounts:
            counts = {name: body.get(name, 0) for name in (*VERDICTS, "forgotten", "unaccounted")}
            found.setdefault(body["topic"], _Topic()).account.update(counts)
    for (name, file), count in (await store.tally("rejected", ("topic", "file"))).items():
        one = found.setdefault(name or UNKNOWN, _Topic())
        one.rejects += count
        one.files += count if file is not None or name not in topics() else 0
    for name, topic_ in topics().items():
        found[name].stored = await store.count(topic_.measurement, late=False)
    return found


def _line(of: _Topic, waiting: int) -> Line:
    """Of a topic that nobody judges only what was refused is known.

    What the store has beyond the account, and the log has, too, is on its way, and no part of the equation yet.
    """
    account = of.account
    more_points, more_rejects = of.more
    on_its_way = more_points >= 0 and more_rejects >= 0 and more_points + more_rejects <= waiting
    if not on_its_way:
        more_points = more_rejects = 0
    return Line(
        accepted=sum(account[verdict] for verdict in VERDICTS) + of.files,
        stored=of.stored - more_points,
        late=account["late"],
        duplicate=account["duplicate"],
        conflict=account["conflict"] + account["corrected"],
        rejected=of.rejects - more_rejects,
        waiting=waiting,
        corrected=account["corrected"],
        forgotten=account["forgotten"],
        unaccounted=account["unaccounted"],
    )


async def close_accounts(store: Store) -> dict[str, int]:
    """Account for what a city stored that was killed, together with its log, before its ledger said so; by topic.

    There is no log any more that could say otherwise; the figure stays visible as `unaccounted`.
    """
    kept = sorted(await store.kept("ledger"), key=lambda record: record.time)
    found = await _known(store, None)
    closing = []
    for name, of in found.items():
        points, rejects = of.more
        if name in topics() and points >= 0 and rejects >= 0 and points + rejects:
            last = next((r for r in reversed(kept) if r.body["topic"] == name), kept[-1] if kept else None)
            log, time = (last.body["log"], last.time) if last else ("ended", 0)
            said = {"stored": points, "rejected": rejects, "unaccounted": points + rejects}
            body = {"log": log, "topic": name, "partition": -1, "position": 0, **said}
            before = sum(r.id.startswith(f"{log}/{name}/ended") for r in kept)
            closing.append(Record("ledger", f"{log}/{name}/ended-{before}", time, body))
    await store.keep(closing)
    return {record.body["topic"]: record.body["unaccounted"] for record in closing}
