"""How well the alarms tell what really happened: found, missed, false, and how long it took. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.base import Micros

#: An alarm that begins so long after something ended may still come of it: the slowest stations speak once an hour.
AFTER: Micros = 3_600_000_000


class Happened(NamedTuple):
    """An incident or a fault as it really was. `rules` should have told of it by an alarm on one of the `subjects`."""

    what: str
    id: str
    kind: str
    start: Micros
    end: Micros
    subjects: frozenset[str]
    rules: tuple[str, ...]


class Told(NamedTuple):
    """An alarm: of which rule, on whom (the values of its labels), from when to when, and when it was raised."""

    id: str
    rule: str
    subjects: frozenset[str]
    start: Micros
    end: Micros | None
    raised_at: Micros


class Span(NamedTuple):
    """A time in which the truth is known; what was told outside of it is not judged."""

    start: Micros
    end: Micros


@dataclass(frozen=True)
class Result:
    """One incident or fault and the first alarm that told of it, if any.

    `unfinished`: nobody told of it, and the truth ends before it does; it is not held against the rules.
    """

    happened: Happened
    alarm: Told | None
    unfinished: bool = False

    @property
    def seconds(self) -> float | None:
        """From its start until an operator could know."""
        return None if self.alarm is None else max(0, self.alarm.raised_at - self.happened.start) / 1e6


@dataclass(frozen=True)
class Score:
    """The whole comparison; faults and what has no rule to tell of it are shown and count for nothing."""

    incidents: tuple[Result, ...]
    faults: tuple[Result, ...]
    false: tuple[Told, ...]
    hours: float

    @property
    def counted(self) -> tuple[Result, ...]:
        return tuple(r for r in self.incidents if not r.unfinished)

    @property
    def missed(self) -> tuple[Result, ...]:
        return tuple(r for r in self.counted if r.alarm is None)

    @property
    def rate(self) -> float | None:
        """Found incidents of those that could be; None where nothing happened."""
        return 1 - len(self.missed) / len(self.counted) if self.counted else None

    @property
    def false_per_hour(self) -> float:
        return len(self.false) / self.hours if self.hours else 0.0

    def json(self) -> dict[str, Any]:
        times = [r.seconds for r in self.counted if r.seconds is not None]
        return {
            "hours": round(self.hours, 2),
            "incidents": len(self.counted),
            "found": len(self.counted) - len(self.missed),
            "detection_rate": None if self.rate is None else round(self.rate, 3),
            "unfinished": len(self.incidents) - len(self.counted),
            "seconds_to_detect": {"median": median(times), "max": max(times)} if times else None,
            "missed": [
                {"id": r.happened.id, "kind": r.happened.kind, "expected": list(r.happened.rules)}
                for r in self.missed
            ],
            "false": len(self.false),
            "false_per_hour": round(self.false_per_hour, 3),
            "false_by_rule": dict(sorted(Counter(t.rule for t in self.false).items())),
            "faults": len(self.faults),
            "faults_told": sum(r.alarm is not None for r in self.faults),
            "kinds": self.kinds(),
        }

    def kinds(self) -> dict[str, dict[str, Any]]:
        """Per kind of incident: how many, found, and the median of the seconds it took."""
        found: dict[str, dict[str, Any]] = {}
        for kind in sorted({r.happened.kind for r in self.counted}):
            mine = [r for r in self.counted if r.happened.kind == kind]
            times = [r.seconds for r in mine if r.seconds is not None]
            found[kind] = {
                "incidents": len(mine),
                "found": len(times),
                "median_seconds": median(times) if times else None,
            }
        return found


def score(happened: Sequence[Happened], told: Iterable[Told], spans: Sequence[Span]) -> Score:
    """Compare what happened with what was told. The order of either makes no difference.

    An incident is found by an alarm of one of its rules, on one of its subjects, that overlaps it; one that stood already
    finds it at once, since somebody looks there. An alarm on a subject of anything that happened is not false, whatever its rule, up to AFTER its end: a crash
    that shows as a silent detector is no invention.
    """
    alarms = sorted((t for t in told if any(s.start <= t.raised_at <= s.end for s in spans)), key=_first)
    by_subject: dict[str, list[Told]] = {}
    for alarm in alarms:
        for subject in alarm.subjects:
            by_subject.setdefault(subject, []).append(alarm)
    explained: set[str] = set()
    results: list[Result] = []
    for it in sorted(happened, key=lambda h: (h.start, h.id)):
        if not any(s.start <= it.start < s.end for s in spans):
            continue
        near = {a.id: a for s in it.subjects for a in by_subject.get(s, ()) if _may_come_of(a, it)}
        explained |= near.keys()
        first = min(
            (a for a in near.values() if a.rule in it.rules and a.start < it.end), key=_first, default=None
        )
        cut = any(s.start <= it.start < s.end < it.end for s in spans)
        results.append(Result(it, first, unfinished=first is None and cut))
    return Score(
        incidents=tuple(r for r in results if r.happened.what == "incident"),
        faults=tuple(r for r in results if r.happened.what == "fault" and r.happened.rules),
        false=tuple(a for a in alarms if a.id not in explained),
        hours=sum(s.end - s.start for s in spans) / 3_600_000_000,
    )


def _first(alarm: Told) -> tuple[Micros, str]:
    return alarm.raised_at, alarm.id


def _may_come_of(alarm: Told, it: Happened) -> bool:
    """Whether they overlap, or the alarm began soon after."""
    return alarm.start <= it.end + AFTER and (alarm.end is None or alarm.end >= it.start)
