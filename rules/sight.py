"""Whether a sensor of the registry is seen: OK, ALARM, BLIND or waiting, why, and since when.

The law of this file. Silence is not all-clear: a sensor is OK only while what it measured is young enough. Where
something is known to be wrong there, it is ALARM, and `why` still says if it is also not seen any more: the alarm will
not clear by that. Where the only alarm is its silence, it is BLIND: it says nothing that BLIND does not say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from rules.spec import Absence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.base import Micros
    from rules.spec import AnyRule

Status = Literal["ok", "alarm", "blind", "waiting"]
Why = Literal["never", "silent", "late", "no_value", "feed", "gateway"]

#: So many of its own intervals without a word, where no absence rule says how many: one may be lost on its way.
MISSES = 3
#: Less than this is how long a record may be under way, and no silence.
LEAST_US: Micros = 30_000_000


class Heard(NamedTuple):
    """What came of a sensor, in event time; `arrived` in that of the log. None: nothing yet.

    `at` is its newest observation, `judged` the newest that was not late, `measured` the newest of these with a value.
    """

    at: Micros | None = None
    judged: Micros | None = None
    measured: Micros | None = None
    arrived: Micros | None = None


class Sight(NamedTuple):
    """`since` is when its blindness began: its last observation of use, or since when it is known."""

    status: Status
    why: Why | None = None
    since: Micros | None = None


NOTHING = Heard()


def allowance_us(every_us: Micros, rules: Iterable[AnyRule]) -> Micros:
    """For how long a sensor may say nothing: as the strictest absence rule on its topic has it."""
    asked = [
        rule.after_us if rule.after_us is not None else (rule.misses or MISSES) * every_us
        for rule in rules
        if isinstance(rule, Absence)
    ]
    return max(LEAST_US, min(asked, default=MISSES * every_us))


def sight(
    heard: Heard,
    *,
    allowance: Micros,
    known: Micros,
    now: Micros,
    alarm: bool,
    missed: bool,
    behind: bool = False,
) -> Sight:
    """How a sensor stands. `known` is since when it is expected to speak.

    `alarm`: something is wrong there; `missed`: an absence rule has raised that it is silent; `behind`: that is suppressed,
    since all behind its gateway are. A sensor that speaks again is believed before the judge takes that alarm back.
    """
    why, since = _blindness(heard, allowance, known, now)
    if why is None and missed and not _young(heard.judged, allowance, now):
        why, since = ("silent", heard.at) if heard.at is not None else ("never", known)
    if behind and why in ("silent", "never"):
        why = "gateway"
    if alarm:
        return Sight("alarm", why, since)
    if why is not None:
        return Sight("blind", why, since)
    return Sight("ok" if _young(heard.measured, allowance, now) else "waiting")


def _blindness(
    heard: Heard, allowance: Micros, known: Micros, now: Micros
) -> tuple[Why | None, Micros | None]:
    """Why it is not seen; nothing for a sensor that has not yet had the time to be missed."""
    if _young(heard.measured, allowance, now) or _young(known, allowance, now):
        return None, None
    if _young(heard.judged, allowance, now):
        return "no_value", known if heard.measured is None else heard.measured
    if _young(heard.arrived, allowance, now):
        return "late", known if heard.judged is None else heard.judged
    if heard.at is None:
        return "never", known
    return "silent", heard.at


def _young(at: Micros | None, allowance: Micros, now: Micros) -> bool:
    return at is not None and now - at <= allowance


def whole_feed(found: Iterable[Sight]) -> bool:
    """Whether all sensors of a topic, two or more, are silent: then it is their line, and not each of them."""
    whys = [sight.why for sight in found]
    return len(whys) > 1 and all(why in ("silent", "never", "gateway", "feed") for why in whys)
