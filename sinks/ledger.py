"""Invariant I1 as figures: per topic, what was accepted and what became of it, from the store alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from models.catalogue import topics

if TYPE_CHECKING:
    from sinks.contract import Store

#: Rejects of files whose lines belong to no topic that could be told.
UNKNOWN = "(unknown)"

#: What the judge counts. It decodes each record of a topic and says one of these.
VERDICTS = ("stored", "late", "duplicate", "conflict", "rejected")


@dataclass(frozen=True, slots=True)
class Line:
    """One topic's account.

    `accepted` is what the judge read and what sources refused before it; `stored` what the store really has; `late`,
    `duplicate` and `conflict` are the judge's counts; `rejected` the rejects that are kept.
    """

    accepted: int = 0
    stored: int = 0
    late: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0

    @property
    def missing(self) -> int:
        """How many are accounted for by nobody; less than none: how many are there twice."""
        return self.accepted - self.stored - self.late - self.duplicate - self.conflict - self.rejected

    @property
    def exact(self) -> bool:
        return self.missing == 0

    def json(self) -> dict[str, Any]:
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "exact": self.exact}


async def ledger(store: Store) -> dict[str, Line]:
    """The account of every topic that anything is known of, by name; `UNKNOWN` comes last."""
    judged: dict[str, Counter[str]] = {}
    for record in await store.kept("ledger"):
        counts = {verdict: record.body.get(verdict, 0) for verdict in VERDICTS}
        judged.setdefault(record.body["topic"], Counter()).update(counts)
    rejects, refused = Counter[str](), Counter[str]()
    for (topic, file), count in (await store.tally("rejected", ("topic", "file"))).items():
        rejects[topic or UNKNOWN] += count
        refused[topic or UNKNOWN] += count if file is not None else 0
    known = topics()
    lines: dict[str, Line] = {}
    for name in sorted({*known, *judged, *rejects} - {UNKNOWN}) + [UNKNOWN] * (UNKNOWN in rejects):
        if name in known:
            stored = await store.count(known[name].measurement, late=False)
            lines[name] = _line(judged.get(name, Counter()), stored, rejects[name], refused[name])
        else:  # nobody judges it: what is known of it is what was refused
            lines[name] = Line(accepted=rejects[name], rejected=rejects[name])
    return {name: line for name, line in lines.items() if line != Line()}


def _line(judged: Counter[str], stored: int, rejects: int, refused: int) -> Line:
    return Line(
        accepted=judged.total() + refused,
        stored=stored,
        late=judged["late"],
        duplicate=judged["duplicate"],
        conflict=judged["conflict"],
        rejected=rejects,
    )
