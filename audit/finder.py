"""Asks the store, every few seconds, whether it has what the log says; tells when it has not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import Gauge

from audit.account import MINUTE
from audit.minutes import Minutes, spans
from sinks.query import format_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from audit.account import Fold
    from audit.minutes import Finding, Look
    from models.base import Micros, Topic
    from sinks.contract import Store

log = logging.getLogger("citywatch")

MISSING = Gauge(
    "citywatch_ledger_missing_records",
    "Records that the log has and neither the store nor the rejects; below nothing: the store has more than the log",
    ["topic"],
)

#: A reject that the store does not have is asked for again; so many are remembered.
_MOST_ABSENT = 100_000


class _Reject(NamedTuple):
    offset: int
    id: str
    topic: str


class Finder:
    """One object a worker, for as long as it has its partitions. `folds` by topic and partition."""

    def __init__(self, folds: Mapping[str, Mapping[int, Fold]], topics: Mapping[str, Topic]) -> None:
        self._topics = topics
        self._minutes = {name: Minutes(of) for name, of in folds.items()}
        self._looks: dict[str, Look] = {}
        self._rejects: list[_Reject] = []
        self._absent: dict[str, str] = {}  # topics of rejects that the store does not have, by id
        self._said: dict[str, int] = {}

    def reject(self, offset: int, id_: str, topic: str) -> None:
        """A record of the rejects' topic, which the store must have when its group has passed it."""
        if len(self._rejects) < _MOST_ABSENT:
            self._rejects.append(_Reject(offset, id_, topic))

    async def ask(
        self,
        store: Store,
        ends: Callable[[Collection[str]], Awaitable[Mapping[str, Mapping[int, int]]]],
        passed: int,
        oldest: Micros,
    ) -> None:
        """Begin a look at every topic that has news; `ends` is asked after the store. Raises Unavailable, StoreError."""
        begun: dict[str, Look] = {}
        for name, minutes in self._minutes.items():
            if name in self._looks or (look := minutes.look(oldest // MINUTE)) is None:
                continue
            measurement = self._topics[name].measurement
            for asked, late, held in ((look.lower, False, look.held), (look.late, True, look.held_late)):
                for first, after in spans(asked):
                    span = {"from_": first * MINUTE, "to": after * MINUTE}
                    held.update(await store.minutes(measurement, late=late, **span))
            begun[name] = look
        for name, upto in (await ends(begun)).items() if begun else ():
            begun[name].upto = upto
        self._looks |= begun
        await self._ask_rejects(store, passed)

    async def _ask_rejects(self, store: Store, passed: int) -> None:
        due = [r for r in self._rejects if r.offset < passed]
        wanted = {r.id: r.topic for r in due} | self._absent
        if wanted:
            lacking = await store.lacking("rejected", list(wanted))
            self._absent = {id_: wanted[id_] for id_ in lacking}
        self._rejects = [r for r in self._rejects if r.offset >= passed]

    def found(self) -> list[tuple[str, str]] | None:
        """What there is to tell now, as kind and detail of platform events; None: nothing has been looked at."""
        finished = []
        for name, look in list(self._looks.items()):
            folds = self._minutes[name].folds
            if all(folds[p].account.next >= end for p, end in look.upto.items()):
                del self._looks[name]
                finished.append((name, self._minutes[name].judge(look)))
        return self._tell(finished)

    def _tell(self, finished: list[tuple[str, list[Finding]]]) -> list[tuple[str, str]]:
        now = {name: self._missing(name) for name in self._minutes}
        for name, missing in now.items():
            MISSING.labels(name).set(missing)
        now = {name: missing for name, missing in now.items() if missing}
        news = []
        for name, missing in now.items():
            if self._said.get(name) != missing:
                why = next((found for topic, found in finished if topic == name), [])
                detail = self._words(name, missing, why)
                log.error("the ledger: %s", detail)
                news.append(("ledger_missing", detail))
        if self._said and not now:
            log.warning("the ledger: all is there again")
            news.append(("ledger_whole", "everything that the log has is in the store or among the rejects"))
        self._said = now
        return news

    def _missing(self, name: str) -> int:
        minutes = self._minutes[name]
        unread = sum(fold.account.counts["unread"] for fold in minutes.folds.values())
        absent = sum(1 for topic in self._absent.values() if topic == name)
        return sum(minutes.wrong.values()) + unread + absent

    def _words(self, name: str, missing: int, found: list[Finding]) -> str:
        said = f"{name}: {_points(missing)}"
        if found:
            at = format_time(found[0].minute * MINUTE)
            more = f" and {len(found) - 1} minutes more" if len(found) > 1 else ""
            return f"{said}, of {at}{more}"
        absent = sum(1 for topic in self._absent.values() if topic == name)
        unread = sum(fold.account.counts["unread"] for fold in self._minutes[name].folds.values())
        return f"{said}: {absent} rejects are not kept, {unread} records are neither events nor rejects"


def _points(missing: int) -> str:
    return f"{missing:,} lost on the way to the store" if missing > 0 else f"{-missing:,} stored twice"
