"""What is legal in the rules and yet hardly meant: each finding is one that somebody would be woken by."""

from __future__ import annotations

import ast
import operator
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from rules.load import Where
from rules.spec import Absence, Happening, Threshold, rank
from rules.terms import duration_text, title_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from models.alarm import Priority
    from rules.spec import AnyRule, Level, RuleSet
    from rules.testing import RuleTest

#: EEMUA 191 and ISA-18.2: of all alarms at most so many per cent may be of the worst and the second worst priority.
MOST_PCT: dict[Priority, int] = {"P1": 5, "P2": 15}
#: With fewer levels than this a share says nothing.
ENOUGH = 20
#: Rules are few and alarms are many: only far beyond the guideline is it worth a word.
TOLERANCE = 3


class Finding(NamedTuple):
    """Something to put right; a note is something to think about."""

    file: str
    line: int
    rule: str
    message: str
    note: bool = False

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {'note: ' if self.note else ''}{self.rule}: {self.message}"


def lint(
    ruleset: RuleSet, tests: Sequence[RuleTest], where: Mapping[str, Where] | None = None
) -> list[Finding]:
    """Findings by file and line. `where` is as `rules.load.read` gives it."""
    known = where or {}
    found = []
    for rule in ruleset.rules:
        file, line = known.get(rule.id, Where(rule.on, 0))
        for check in _CHECKS:
            found += [Finding(file, line, rule.id, message) for message in check(rule, ruleset, tests)]
    return sorted(found) + [Finding("rules", 0, "all", message, note=True) for message in _mix(ruleset)]


# --- the checks: each says what is wrong with one rule ------------------------------------------------------------


def _tested(rule: AnyRule, _: RuleSet, tests: Sequence[RuleTest]) -> Iterator[str]:
    mine = [test for test in tests if test.rule.id == rule.id]
    if not mine:
        yield "no test: show when it raises and what does not raise it"
        return
    if not any(test.data.expect for test in mine):
        yield "no test raises it"
    if all(test.data.expect for test in mine):
        yield "no test shows what is not an alarm"


def _spoken(rule: AnyRule, _: RuleSet, __: Sequence[RuleTest]) -> Iterator[str]:
    if rule.title.vi == rule.title.en == title_of(rule.id):
        yield "no title in Vietnamese and English: the operator sees its id"
    worst = min(rule.priorities, key=rank)
    if worst in ("P1", "P2") and rule.instruction is None:
        yield f"{worst} without an instruction: what is the operator to do?"


def _flaps(rule: AnyRule, _: RuleSet, __: Sequence[RuleTest]) -> Iterator[str]:
    if isinstance(rule, Happening) and rule.clear is None and not rule.keep_us:
        yield "neither clear nor keep: the alarm is over the moment it is raised"
    if not isinstance(rule, Threshold):
        return
    for level in rule.levels:
        if level.clear is None and not level.keep_us:
            yield f"{level.priority}: neither clear nor keep: a value around the bound raises again and again"
        if level.for_ is None and rule.event.topic.kind == "samples":
            yield f"{level.priority}: one sample raises it: say for how long it must hold (for: 0s if that is meant)"


def _known(rule: AnyRule, ruleset: RuleSet, _: Sequence[RuleTest]) -> Iterator[str]:
    """What the registry says of the subjects, against what the rule believes of them."""
    sensors = ruleset.registry.of(rule.on)
    if isinstance(rule, Absence) and not sensors:
        yield f"nothing on {rule.on} is in the registry: nobody is missed"
    if not sensors:
        return
    slowest = max(sensors, key=lambda s: s.every_us)
    if isinstance(rule, Absence) and rule.after_us is not None and rule.after_us <= slowest.every_us:
        yield f"after {rule.after}: {slowest.key} speaks every {slowest.every} and would always be missed"
    if isinstance(rule, Threshold):
        for level in rule.levels:
            if 0 < level.for_us <= slowest.every_us:
                more = duration_text(slowest.every_us * 3 // 2)
                yield (
                    f"{level.priority}: for {level.for_}, but {slowest.key} speaks every {slowest.every}: one sample "
                    f"raises it, for what is due acts before a sample of that moment; {more} asks for two"
                )


def _bounds(rule: AnyRule, _: RuleSet, __: Sequence[RuleTest]) -> Iterator[str]:
    if not isinstance(rule, Threshold):
        return
    for level in rule.levels:
        raised, clear = _simple(level.raise_), _simple(level.clear or "")
        if raised and clear and raised.name == clear.name and _overlap(raised, clear):
            yield f"{level.priority}: {level.clear} holds while {level.raise_} still does"
    for one, other in combinations(sorted(rule.levels, key=lambda lv: rank(lv.priority)), 2):
        if _hidden(one, other):
            yield f"{other.priority} is never seen: where {other.raise_}, {one.priority} ({one.raise_}) holds as well"


_CHECKS: tuple[Callable[[AnyRule, RuleSet, Sequence[RuleTest]], Iterator[str]], ...] = (
    _tested,
    _spoken,
    _flaps,
    _known,
    _bounds,
)


def _mix(ruleset: RuleSet) -> Iterator[str]:
    loud: list[Priority] = [p for rule in ruleset.rules for p in rule.priorities if p != "advisory"]
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
