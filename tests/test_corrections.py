"""Three corrections in a day are three revisions, told to whoever had the first; the day ends as the clean one does."""

from __future__ import annotations

from collections import Counter
from zlib import crc32

import pytest

from models.base import moment
from models.traffic import TrafficFlow
from rules.judge import Judge
from rules.lifecycle import Plane
from rules.program import compile_program
from rules.spec import RuleSet

S = 1_000_000
T0 = 1_767_225_600
MINUTE = 60
L = TrafficFlow.topic.late_us // S
TOPIC = TrafficFlow.topic
RULES = RuleSet.model_validate(
    {
        "rules": [
            {
                "id": "slow",
                "kind": "threshold",
                "on": TOPIC.name,
                "by": ["segment_id"],
                "levels": [{"priority": "P3", "raise": "speed_kmh < 10", "clear": "speed_kmh > 15"}],
            }
        ]
    }
)
#: Minutes of the day for which traffic stands on each segment.
JAMS = {"a": [(400, 460), (1000, 1020)], "b": [(420, 430)], "c": [(60, 75), (1200, 1300)]}
#: (segment, minute, what was measured there at first): each is corrected before the next minute but one.
WRONG = {
    ("a", 399): 9.0,  # the jam seems to begin a minute early
    ("b", 429): 1.0,  # a lowest speed that never was
    ("c", 1300): 5.0,  # the jam seems to last a minute more
}


def measured(segment: str, minute: int, revision: int = 0) -> TrafficFlow:
    jam = any(begin <= minute < end for begin, end in JAMS[segment])
    speed = 6.0 if jam else 45.0
    if revision == 0:
        speed = WRONG.get((segment, minute), speed)
    return TrafficFlow(
        event_id=f"{segment}-{minute}",
        source_id="t",
        observed_at=moment((T0 + minute * MINUTE) * S),
        revision=revision,
        segment_id=segment,
        speed_kmh=speed,
    )


def day(*, clean: bool) -> list[tuple[int, TrafficFlow]]:
    """A day's records as (stamp in seconds, event): clean is what the corrections say, from the beginning."""
    records = []
    for minute in range(1440):
        for segment in JAMS:
            wrong = (segment, minute) in WRONG
            said = measured(segment, minute, revision=1 if wrong and clean else 0)
            records.append((T0 + minute * MINUTE + 1, said))
            if wrong and not clean:
                corrected = measured(segment, minute, revision=1)
                records.append((T0 + minute * MINUTE + L - 1, corrected))
    return sorted(records, key=lambda r: r[0])


def judged(records: list[tuple[int, TrafficFlow]]) -> list:
    judge = Judge(TrafficFlow, 0, "log", whole=True)
    signals = judge.control(0, T0 * S, 0, compile_program(RULES, 7, TrafficFlow))
    for offset, (stamp, event) in enumerate(records, start=1):
        signals += judge.event(offset, stamp * S, event, crc32(event.wire()))
    return signals + judge.pass_by(len(records) + 1, (T0 + 1500 * MINUTE) * S)


def told(signals: list) -> tuple[Counter, Plane]:
    """The history that the alarm plane writes, counted by what it says, and the plane at the end."""
    plane = Plane("log")
    entries: Counter = Counter()
    for offset, signal in enumerate(signals):
        entries.update(e.type for e in plane.step(offset, 0, signal))
    return entries, plane


def ledger(signals: list) -> set:
    standing = {s.alarm_id: s for s in signals if s.op == "put"}
    for s in signals:
        if s.op == "retract":
            del standing[s.alarm_id]
    return {_line(s) for s in standing.values()}


def _line(s: object) -> tuple:
    ids = tuple(e.event_id for e in s.evidence)
    return (s.fingerprint, s.start, s.end, s.priority, s.severity, s.peak, ids)


def test_three_corrections_in_a_day_are_exactly_three_revisions():
    clean, dirty = judged(day(clean=True)), judged(day(clean=False))
    assert len(dirty) == len(clean) + 3
    assert len([s for s in dirty if not (s.cause or "").startswith("stored")]) == 3
    before, _ = told(clean)
    after, plane = told(dirty)
    assert before == Counter(raised=5, cleared=5)
    assert after - before == Counter(revised=3)
    assert before - after == Counter()
    assert sum(a.revised for a in plane.alarms()) == 3


def test_a_corrected_day_ends_in_the_ledger_of_the_clean_one():
    clean, dirty = judged(day(clean=True)), judged(day(clean=False))
    assert ledger(dirty) == ledger(clean)
    assert len(ledger(clean)) == 5
    (_, first), (_, second) = told(clean), told(dirty)
    assert {_line(a) for a in first.alarms()} == {_line(a) for a in second.alarms()}


@pytest.mark.parametrize("which", sorted(WRONG))
def test_each_correction_says_under_the_same_handle_what_it_supersedes_and_why(which):
    dirty = judged(day(clean=False))
    offset = 1 + next(
        n
        for n, (_, e) in enumerate(day(clean=False))
        if (e.segment_id, e.revision) == (which[0], 1) and e.event_id == f"{which[0]}-{which[1]}"
    )
    (revision,) = [s for s in dirty if s.offset == offset]
    assert revision.cause is not None
    assert revision.cause.endswith(f" {which[0]}-{which[1]}")
    earlier = [s for s in dirty if s.alarm_id == revision.alarm_id and s.offset < offset]
    assert earlier
    assert earlier[-1].op == revision.op == "put"
    assert (earlier[-1].start, earlier[-1].end, earlier[-1].peak) != (
        revision.start,
        revision.end,
        revision.peak,
    )
