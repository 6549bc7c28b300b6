"""Feeds without code: a mapping file turns a city's CSV, JSON, JSON lines or XML into events."""

from __future__ import annotations

import heapq
import json
import secrets
from collections import Counter
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.base import moment
from models.catalogue import topics
from sources.mapping_grammar import MappingError, parse
from sources.mapping_plan import Bad, Bound, Fed
from sources.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from models.base import Micros
    from sources.mapping_grammar import Feed

__all__ = ["Bad", "Fed", "Item", "Mapping", "MappingError", "Report", "load", "shipped", "try_"]

Item = Fed | Bad

_FEEDS = Path(__file__).parent / "feeds"


@dataclass(frozen=True)
class Mapping:
    """One feed: what it is, and how to read its files."""

    feed: Feed

    @property
    def name(self) -> str:
        return self.feed.name

    @property
    def description(self) -> str:
        return self.feed.description

    @property
    def grace(self) -> timedelta | None:
        """How late an event of this feed may arrive; None leaves it to the topics."""
        return self.feed.grace

    def topics(self) -> set[str]:
        return {making.topic for making in self.feed.events}

    def read(self, files: Sequence[Path], tokens: Tokens) -> Iterator[Item]:
        """Events and faults of the files, in the order of arrival; stamps never go back.

        Raises MappingError at once, before anything is read, if a file is none of this feed's. `sorted` puts the
        events of all files in the order of time, stably, and holds them to do so; the other arrivals hold nothing,
        and take several files as several logs side by side, by stamp. A fault never moves a clock.
        """
        if self.feed.row_time is not None and len(files) > 1:
            raise MappingError(
                f"{self.name}: counts the rows of one file from `start`: give one file at a time"
            )
        bound = [Bound(self.feed, Path(path), tokens) for path in files]
        if self.feed.arrival == "sorted":
            return _sorted(bound)
        if len(bound) == 1:
            return _as_it_came(bound[0])
        return (item for _, item in heapq.merge(*map(_stamped, bound), key=itemgetter(0)))


def _sorted(files: Sequence[Bound]) -> Iterator[Item]:
    """Faults as they are met, then every event by its time."""
    events: list[Fed] = []
    for file in files:
        for item in file.items():
            if isinstance(item, Fed):
                events.append(item)
            else:
                yield item
    events.sort(key=lambda fed: fed.stamp_us)
    yield from events


def _as_it_came(file: Bound) -> Iterator[Item]:
    """The stamp is the running maximum of what each event brings: its own time, or that of its arrival."""
    clock: Micros = 0
    for item in file.items():
        if isinstance(item, Fed):
            if item.stamp_us < clock:
                yield item._replace(stamp_us=clock)
                continue
            clock = item.stamp_us
        yield item


def _stamped(file: Bound) -> Iterator[tuple[Micros, Item]]:
    """Items with the clock of their file at that moment: a fault stands where it was met."""
    clock: Micros = 0
    for item in _as_it_came(file):
        if isinstance(item, Fed):
            clock = item.stamp_us
        yield clock, item


def shipped() -> dict[str, Path]:
    """The feeds that come with citywatch, by name."""
    return {path.stem: path for path in sorted(_FEEDS.glob("*.yaml"))}


def load(path_or_name: str | Path) -> Mapping:
    """The mapping in a file, or the shipped one of that name. Raises MappingError with every problem in it."""
    path = shipped().get(str(path_or_name)) or Path(path_or_name)
    if not path.is_file():
        raise MappingError(f"{path}: neither a file nor one of {', '.join(shipped())}")
    return Mapping(parse(path))


# --- Trying a mapping


@dataclass
class Report:
    """What a mapping made of some files: nothing was sent anywhere, and tokens are under a key of this run only."""

    feed: str
    shown: list[tuple[str, str]] = field(default_factory=list)
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    span: tuple[Micros, Micros] | None = None

    @property
    def well(self) -> bool:
        """Whether there were events and no problem."""
        return bool(self.events) and not self.rejected

    def json(self) -> dict[str, Any]:
        return {
            "feed": self.feed,
            "events": dict(self.events),
            "late": dict(self.late),
            "rejected": dict(self.rejected),
            "first": moment(self.span[0]).isoformat() if self.span else None,
            "last": moment(self.span[1]).isoformat() if self.span else None,
            "shown": [{"at": at, "event": json.loads(event)} for at, event in self.shown],
            "problems": [
                {"at": at, "reason": reason, "detail": detail} for at, reason, detail in self.problems
            ],
        }

    def text(self) -> str:
        lines = [f"{at}  {event}" for at, event in self.shown]
        lines += [f"{at}: {reason}: {detail}" for at, reason, detail in self.problems]
        lines += [
            f"{n:>9,} events of {topic}" + self._late(topic) for topic, n in sorted(self.events.items())
        ]
        lines += [f"{n:>9,} rejected: {reason}" for reason, n in sorted(self.rejected.items())]
        if self.span:
            lines.append(f"from {moment(self.span[0]).isoformat()} to {moment(self.span[1]).isoformat()}")
        return "\n".join(lines) if lines else "no row, no event"

    def _late(self, topic: str) -> str:
        return f", {self.late[topic]:,} of them late" if self.late[topic] else ""


def try_(mapping: Mapping, files: Sequence[Path], n: int = 5) -> Report:
    """The first `n` events, every problem with its place, and counts. Late is judged by the feed's own grace."""
    report = Report(mapping.name)
    allowed = {name: mapping.grace or topic.lateness for name, topic in topics().items()}
    for item in mapping.read(files, Tokens(secrets.token_bytes(32))):
        at = f"{item.file}:{item.line}"
        if isinstance(item, Bad):
            report.rejected[item.reason] += 1
            report.problems.append((at, item.reason, item.detail))
            continue
        topic, us = item.event.topic.name, item.event.at
        report.events[topic] += 1
        if moment(item.stamp_us) - moment(us) > allowed[topic]:
            report.late[topic] += 1
        report.span = (min(report.span[0], us), max(report.span[1], us)) if report.span else (us, us)
        if len(report.shown) < n:
            report.shown.append((at, item.event.wire().decode()))
    return report
