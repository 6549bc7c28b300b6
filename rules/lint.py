"""What is legal in the rules and yet hardly meant: each finding is one that somebody would be woken by."""

from __future__ import annotations

import ast
import operator
from collections import Counter
from itertools import combinations
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from rules.calendar import Hours
from rules.load import Where
from rules.possible import ALWAYS, NEVER, Range, mismatches, outcomes, ranges_of, values_at_most
from rules.situations import Area, Correlate, Inhibit, Root
from rules.spec import (
    Absence,
    Baseline,
    Count,
    Distinct,
    Happening,
    Rate,
    Ratio,
    Schedule,
    Threshold,
    rank,
)
from rules.terms import duration_text, title_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from models.alarm import Priority
    from models.base import Micros
    from rules.situations import AnyWide
    from rules.spec import AnyRule, CountLevel, Level, RuleSet
    from rules.terms import Loc
    from rules.testing import Test

#: EEMUA 191 and ISA-18.2: of all alarms at most so many per cent may be of the worst and the second worst priority.
MOST_PCT: dict[Priority, int] = {"P1": 5, "P2": 15}
#: With fewer levels than this a share says nothing.
ENOUGH = 20
#: Rules are few and alarms are many: only far beyond the guideline is it worth a word.
TOLERANCE = 3
#: Who speaks at least so often measures a moment and no mean: one of its samples is noise.
NOISY: Micros = 60_000_000
#: Days of a calendar that are looked at, from the first Monday of 2026 on: a year holds every window that there is.
_DAYS = (20_458, 20_458 + 366)


class Finding(NamedTuple):
    """Something to put right; a note is something to think about."""

    file: str
    line: int
    rule: str
    message: str
    note: bool = False

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {'note: ' if self.note else ''}{self.rule}: {self.message}"


def lint(ruleset: RuleSet, tests: Sequence[Test], where: Mapping[str, Where] | None = None) -> list[Finding]:
    """Findings by file and line, then notes. `where` is as `rules.load.read` gives it."""
    known = where or {}
    found, notes = [], []
    for rule in ruleset.rules:
        file, line = known.get(rule.id, Where(rule.on, 0))
        for check in (*_EVERY, *_CHECKS):
            found += [Finding(file, line, rule.id, message) for message in check(rule, ruleset, tests)]
        notes += [Finding(file, line, rule.id, said, note=True) for said in _noise(rule, ruleset, tests)]
    for wide in ruleset.wide:
        file, line = known.get(wide.id, Where("signals", 0))
        for look in (*_EVERY, *_WIDE_CHECKS):
            found += [Finding(file, line, wide.id, message) for message in look(wide, ruleset, tests)]
    for name in _unused(ruleset):
        found.append(
            Finding(*known.get(name, Where("calendars", 0)), name, "no rule and no calendar uses it")
        )
    mix = [Finding("rules", 0, "all", message, note=True) for message in _mix(ruleset)]
    return sorted(found) + sorted(notes) + mix


# --- the checks: each says what is wrong with one rule ------------------------------------------------------------


def _tested(rule: AnyRule | AnyWide, _: RuleSet, tests: Sequence[Test]) -> Iterator[str]:
    mine = [test for test in tests if test.rule.id == rule.id]
    if not mine:
        yield "no test: show when it raises and what does not raise it"
        return
    if not any(_shown(test) for test in mine):
        yield "no test raises it"
    if all(_shown(test) for test in mine):
        yield "no test shows what is not an alarm"


def _shown(test: Test) -> bool:
    """Whether something comes of the rule in this test; of one that inhibits it is that others are suppressed."""
    return bool(test.data.expect) or bool(getattr(test.data, "suppressed", None))


def _spoken(rule: AnyRule | AnyWide, _: RuleSet, __: Sequence[Test]) -> Iterator[str]:
    if rule.title.vi == rule.title.en == title_of(rule.id):
        yield "no title in Vietnamese and English: the operator sees its id"
    if not rule.priorities:
        return  # it tells nobody anything
    worst = min(rule.priorities, key=rank)
    if worst in ("P1", "P2") and rule.instruction is None:
        yield f"{worst} without an instruction: what is the operator to do?"


def _flaps(rule: AnyRule, _: RuleSet, __: Sequence[Test]) -> Iterator[str]:
    if isinstance(rule, Happening) and rule.clear is None and not rule.keep_us:
        yield "neither clear nor keep: the alarm is over the moment it is raised"
    noisy = isinstance(rule, Threshold) and rule.event.topic.kind == "samples"
    for level in _levels(rule):
        if level.clear is None and not level.keep_us:
            yield f"{level.priority}: neither clear nor keep: a value around the bound raises again and again"
        if noisy and getattr(level, "for_", None) is None:
            yield f"{level.priority}: one sample raises it: say for how long it must hold (for: 0s if that is meant)"


def _levels(rule: AnyRule) -> Sequence[Level | CountLevel]:
    return rule.levels if isinstance(rule, Threshold | Rate | Ratio | Count | Distinct) else ()


def _noise(rule: AnyRule, ruleset: RuleSet, _: Sequence[Test]) -> Iterator[str]:
    """`for: 0s` is meant, and may still be unwise: as a note."""
    fastest = min(ruleset.registry.of(rule.on), key=lambda s: s.every_us, default=None)
    if not isinstance(rule, Threshold) or fastest is None or fastest.every_us > NOISY:
        return
    for level in rule.levels:
        if level.for_us == 0 and rule.event.topic.kind == "samples":
            yield f"{level.priority}: for: 0s, and {fastest.key} speaks every {fastest.every}: noise raises it"


def _known(rule: AnyRule, ruleset: RuleSet, _: Sequence[Test]) -> Iterator[str]:
    """What the registry says of the subjects, against what the rule believes of them."""
    sensors = ruleset.registry.of(rule.on)
    if isinstance(rule, Absence | Schedule) and not sensors:
        yield f"nothing on {rule.on} is in the registry: nobody is missed"
    if not sensors:
        return
    slowest = max(sensors, key=lambda s: s.every_us)
    every, says = slowest.every_us, f"{slowest.key} speaks every {slowest.every}"
    if isinstance(rule, Absence) and rule.after_us is not None and rule.after_us <= every:
        yield f"after {rule.after}: {says} and would always be missed"
    if isinstance(rule, Threshold):
        for level in rule.levels:
            if 0 < level.for_us <= every:
                more = duration_text(every * 3 // 2)
                yield (
                    f"{level.priority}: for {level.for_}, but {says}: one sample "
                    f"raises it, for what is due acts before a sample of that moment; {more} asks for two"
                )
    fastest = min(sensors, key=lambda s: s.every_us)
    says = f"{fastest.key}, the fastest, speaks every {fastest.every}"
    if isinstance(rule, Rate) and rule.over_us < fastest.every_us:
        yield f"over {rule.over}: {says}, and a rate needs two values"
    if isinstance(rule, Ratio) and rule.least > rule.window_us // fastest.every_us + 1:
        yield f"least {rule.least} within {rule.window}: {says} and has never so many"
    if isinstance(rule, Count | Distinct) and rule.event.topic.kind == "samples":
        for counted in rule.levels:
            if counted.raise_at > rule.window_us // fastest.every_us + 1:
                yield (
                    f"{counted.priority}: {counted.raise_at} within {rule.window}: {says} and has never so many"
                )


def _bounds(rule: AnyRule, _: RuleSet, __: Sequence[Test]) -> Iterator[str]:
    if not isinstance(rule, Threshold | Rate | Ratio):
        return
    for level in rule.levels:
        raised, clear = _simple(level.raise_), _simple(level.clear or "")
        if raised and clear and raised.name == clear.name and _overlap(raised, clear):
            yield f"{level.priority}: {level.clear} holds while {level.raise_} still does"
    for one, other in combinations(sorted(rule.levels, key=lambda lv: rank(lv.priority)), 2):
        if _hidden(one, other):
            yield f"{other.priority} is never seen: where {other.raise_}, {one.priority} ({one.raise_}) holds as well"


def _counts(rule: AnyRule, _: RuleSet, __: Sequence[Test]) -> Iterator[str]:
    """Levels of a count against one another, and of a distinct against how many values there are."""
    if not isinstance(rule, Count | Distinct):
        return
    for one, other in combinations(sorted(rule.levels, key=lambda lv: rank(lv.priority)), 2):
        if one.raise_at <= other.raise_at:
            yield f"{other.priority} is never seen: where {other.raise_}, {one.priority} ({one.raise_}) holds as well"
    most = values_at_most(rule.event, rule.of) if isinstance(rule, Distinct) else None
    for level in rule.levels:
        if most is not None and level.raise_at > most:
            yield f"{level.priority} is never raised: {level.raise_}, and there are {most} values at all"


def _reached(rule: AnyRule, _: RuleSet, __: Sequence[Test]) -> Iterator[str]:
    """Whether a condition can come to hold, and can cease to, within the bounds of its fields."""
    ranges = {**ranges_of(rule.event), "ratio": Range(0, 1), "total": Range(getattr(rule, "least", 0), inf)}
    for loc, text in (*rule.choices(), *rule.conditions()):
        answer = outcomes(text, ranges)
        if answer in (NEVER, ALWAYS):
            verb = "never" if answer == NEVER else "always"
            yield f"{_called(rule, loc)}: {text} {verb} holds, by the bounds of its fields"


def _called(rule: AnyRule, loc: Loc) -> str:
    """`P2 clear` of a level, else the name of the part."""
    if isinstance(rule, Threshold | Rate | Ratio) and len(loc) == 3 and isinstance(loc[1], int):
        return f"{rule.levels[loc[1]].priority} {loc[2]}"
    return str(loc[-1])


def _units(rule: AnyRule, _: RuleSet, __: Sequence[Test]) -> Iterator[str]:
    for _loc, text in (*rule.choices(), *rule.conditions()):
        yield from mismatches(text)


def _strange(rule: AnyRule, _: RuleSet, __: Sequence[Test]) -> Iterator[str]:
    if isinstance(rule, Baseline) and not rule.least:
        yield f"no least: a difference of {rule.of} that nobody would notice can be strange to a quiet series"


def _hours(rule: AnyRule, ruleset: RuleSet, _: Sequence[Test]) -> Iterator[str]:
    """A calendar that is never open, and something due when it is closed again."""
    calendars = {calendar.id: calendar for calendar in ruleset.calendars}
    if rule.during is None or rule.during not in calendars:
        return
    spans = Hours(calendars[rule.during], calendars).spans(*_DAYS)
    if not spans and calendars[rule.during].dates is None:
        yield f"during {rule.during}, which is never open"
    if isinstance(rule, Schedule) and spans and rule.due_us >= max(end - begin for begin, end in spans):
        yield f"due {rule.due}: no window of {rule.during} is so long"


def _mute(rule: AnyRule, ruleset: RuleSet, _: Sequence[Test]) -> Iterator[str]:
    if not rule.tell and not any(rule.id in wide.members for wide in ruleset.wide):
        yield "tell: false, and no rule over signals reads it: it is for nobody"


#: What a rule of any kind owes.
_EVERY: tuple[Callable[[AnyRule | AnyWide, RuleSet, Sequence[Test]], Iterator[str]], ...] = (
    _tested,
    _spoken,
)
_CHECKS: tuple[Callable[[AnyRule, RuleSet, Sequence[Test]], Iterator[str]], ...] = (
    _flaps,
    _known,
    _bounds,
    _counts,
    _reached,
    _units,
    _strange,
    _hours,
    _mute,
)


# --- rules over signals -------------------------------------------------------------------------------------------------


def _gathered(wide: AnyWide, ruleset: RuleSet, _: Sequence[Test]) -> Iterator[str]:
    """Whether so many can ever come together, by the registry."""
    rules = {rule.id: rule for rule in ruleset.rules}
    topics = {rules[name].on for name in wide.members if name in rules}
    sensors = [s for s in ruleset.registry.sensors if s.topic in topics]
    if isinstance(wide, Area | Root) and "gateway" in wide.by:
        sizes = Counter(s.gateway for s in sensors if s.gateway is not None)
        if not sizes:
            yield f"by gateway, and no sensor on {', '.join(sorted(topics))} has one in the registry"
        elif max(sizes.values()) < wide.least:
            (largest, size), *_rest = sizes.most_common(1)
            yield f"least {wide.least}: the largest gateway, {largest}, has {size} sensors"
    if isinstance(wide, Correlate) and wide.classes is not None:
        names = {"baseline" if isinstance(rules.get(n), Baseline) else n for n in wide.of}
        if len(names) < wide.classes:
            yield f"classes {wide.classes}: of is of {len(names)} (all baselines are one)"
    if isinstance(wide, Inhibit):
        for name in wide.equal:
            without = sorted(n for n in wide.members if n in rules and name not in rules[n].by)
            if without:
                yield f"equal: {name} is no label of {', '.join(without)}"


_WIDE_CHECKS: tuple[Callable[[AnyWide, RuleSet, Sequence[Test]], Iterator[str]], ...] = (_gathered,)


# --- the set as a whole -------------------------------------------------------------------------------------------------


def _unused(ruleset: RuleSet) -> Iterator[str]:
    used = {rule.during for rule in ruleset.rules} | {n for c in ruleset.calendars for n in c.except_}
    yield from (calendar.id for calendar in ruleset.calendars if calendar.id not in used)


def _mix(ruleset: RuleSet) -> Iterator[str]:
    every = (*(rule for rule in ruleset.rules if rule.tell), *ruleset.wide)
    loud: list[Priority] = [p for rule in every for p in rule.priorities if p != "advisory"]
    if len(loud) < ENOUGH:
        return
    counts = Counter(loud)
    for priority, most in MOST_PCT.items():
        share = 100 * counts[priority] / len(loud)
        if share > TOLERANCE * most:
            yield f"{share:.0f} % of all levels are {priority}; of the alarms at most {most} % should be"


# --- conditions of one field against one number; of others nothing is decided ----------------------------------------


class _Bound(NamedTuple):
    name: str
    op: str
    number: float


_OPS: dict[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _simple(text: str) -> _Bound | None:
    """`co2_ppm > 1500`, and nothing longer."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return None
    match node:
        case ast.Compare(left=ast.Name(id=name), ops=[op], comparators=[right]) if type(op) in _OPS:
            try:
                return _Bound(name, _OPS[type(op)], float(ast.literal_eval(right)))
            except (ValueError, TypeError):
                return None
    return None


def _overlap(one: _Bound, other: _Bound) -> bool:
    """Whether there is a number for which both hold."""
    if one.op[0] == other.op[0]:
        return True
    low, high = (one, other) if one.op[0] == ">" else (other, one)
    return low.number < high.number or (low.number == high.number and low.op == ">=" and high.op == "<=")


def _hidden(worse: Level, level: Level) -> bool:
    """Whenever `level` is raised, so is `worse`, and no later."""
    one, other = _simple(worse.raise_), _simple(level.raise_)
    if one is None or other is None or one.name != other.name or one.op[0] != other.op[0]:
        return worse.raise_ == level.raise_ and worse.for_us <= level.for_us
    inside = _HOLDS[one.op](other.number, one.number) or (
        one.number == other.number and not (len(other.op) == 2 and len(one.op) == 1)
    )
    return inside and worse.for_us <= level.for_us
