"""Why a rule did not sound: the clause that failed and by how much, or what swallowed what would have raised it.

The events of one subject are taken as the judge takes them, up to the moment that is asked about. Then the first row of the
table below that has an answer has it: what is in the way of the whole rule comes before what is wrong with its events,
and that before what they say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rules import obstacles, unmet
from rules.taken import Answer, Asked, Heard, InForce, Subject
from rules.words import clock, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from models.alarm import Alarm
    from models.base import Micros

__all__ = ["LOOKS", "Answer", "Asked", "Heard", "InForce", "why_not"]

#: The table: the first that has an answer has it.
LOOKS: tuple[Callable[[Subject], Answer | None], ...] = (
    obstacles.told,
    obstacles.unknown,
    obstacles.out_of_service,
    obstacles.out_of_hours,
    obstacles.other_subject,
    obstacles.stands,
    obstacles.swallowed,
    obstacles.silence,
    unmet.begun,
    obstacles.blind,
    unmet.not_chosen,
    unmet.broken_off,
    unmet.said,
)


def why_not(
    asked: Asked, line: Sequence[InForce], records: Iterable[Heard], alarms: Iterable[Alarm] = ()
) -> Answer:
    """The answer; `records` are those of the rule's topic in the order of the log; what was rejected is of this subject.

    `line` has the sets of rules in the order of time, `alarms` what is known of alarms of this rule and subject.
    Raises KeyError for a rule that is in none of the sets.
    """
    there = [entry for entry in line if asked.rule in {r.id for r in entry.rules.rules}]
    if not there:
        raise KeyError(asked.rule)
    now = _at(line, asked.at)
    if now is None or now not in there:
        return _version(asked, line, there)
    subject = Subject(asked, now, list(records), list(alarms))
    found = next((answer for look in LOOKS if (answer := look(subject)) is not None), None)
    return found or Answer("clause", say("Không có điều kiện nào đạt.", "No condition was met."))


def _at(line: Sequence[InForce], at: Micros) -> InForce | None:
    return next((e for e in reversed(line) if e.since <= at), None)


def _version(asked: Asked, line: Sequence[InForce], there: Sequence[InForce]) -> Answer:
    later = next((e for e in there if e.since > asked.at), None)
    if later is not None:
        text = say(
            "Lúc đó luật chưa có hiệu lực: có từ {t} (phiên bản {v}).",
            "The rule was not in force yet: it is since {t} (version {v}).",
            t=clock(later.since),
            v=later.version,
        )
        return Answer("version", text, missing_us=later.since - asked.at)
    gone = next(e for e in line if e.since > there[-1].since)
    text = say(
        "Lúc đó luật không còn hiệu lực: bỏ từ {t} (phiên bản {v}).",
        "The rule was in force no more: not since {t} (version {v}).",
        t=clock(gone.since),
        v=gone.version,
    )
    return Answer("version", text)
