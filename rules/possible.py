"""What a condition can ever answer, by the bounds that its fields are declared with; and whether their units go together."""

from __future__ import annotations

import ast
import operator
from functools import cache
from math import inf
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin

from rules.expr import bare
from rules.terms import types_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from models.base import Event

Outcomes = frozenset[bool]
BOTH: Outcomes = frozenset((True, False))
ALWAYS, NEVER = frozenset((True,)), frozenset((False,))


class Range(NamedTuple):
    """Every number that a field can be: both ends belong to it."""

    low: float
    high: float


#: Where nothing is declared.
ANY = Range(-inf, inf)
_PLACE = {"lat": Range(-90, 90), "lon": Range(-180, 180)}

#: Ends of the names of fields, as models/ writes units; what has none of these has none that we know.
UNITS = (
    "kmh", "vehh", "pct", "ugm3", "m3s", "ppm", "lux", "dba", "celsius", "c", "min", "m", "s", "h",
)  # fmt: skip

_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
}
#: (holds for the ends, which end is the likeliest to hold): x < c can hold if low < c, and must if high < c.
_ORDER: dict[type[ast.cmpop], tuple[Callable[[float, float], bool], bool]] = {
    ast.Lt: (operator.lt, True),
    ast.LtE: (operator.le, True),
    ast.Gt: (operator.gt, False),
    ast.GtE: (operator.ge, False),
}


@cache
def ranges_of(event: type[Event]) -> Mapping[str, Range]:
    """The range of every number of the event that declares one."""
    found = dict(_PLACE)
    for name, field in event.model_fields.items():
        low, high = -inf, inf
        for part in field.metadata:
            low = max(low, *(float(getattr(part, end)) for end in ("ge", "gt") if hasattr(part, end)), -inf)
            high = min(high, *(float(getattr(part, end)) for end in ("le", "lt") if hasattr(part, end)), inf)
        if (low, high) != ANY:
            found[name] = Range(low, high)
    return found


def values_at_most(event: type[Event], field: str) -> int | None:
    """How many different values the field can have; None: nobody can say."""
    kind = bare(types_of(event)[field])
    if kind is bool:
        return 2
    return len(get_args(kind)) if get_origin(kind) is Literal else None


def outcomes(text: str, ranges: Mapping[str, Range]) -> Outcomes:
    """What the condition can answer where it has a value. Where that is not plain, both."""
    try:
        return _of(ast.parse(text.strip().replace("\n", " "), mode="eval").body, ranges)
    except SyntaxError:
        return BOTH


def _of(node: ast.expr, ranges: Mapping[str, Range]) -> Outcomes:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return _all([_of(value, ranges) for value in values])
        case ast.BoolOp(op=ast.Or(), values=values):
            return _negated(_all([_negated(_of(value, ranges)) for value in values]))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _negated(_of(operand, ranges))
        case ast.Compare(left=left, ops=ops, comparators=rights):
            sides = [left, *rights]
            return _all([_pair(sides[i], op, sides[i + 1], ranges) for i, op in enumerate(ops)])
    return BOTH


def _all(found: list[Outcomes]) -> Outcomes:
    """Of conditions that must all hold. Two that can both be either may still exclude each other: nothing is said of that."""
    if any(one == NEVER for one in found):
        return NEVER
    return ALWAYS if all(one == ALWAYS for one in found) else BOTH


def _negated(found: Outcomes) -> Outcomes:
    return frozenset(not one for one in found)


def _pair(left: ast.expr, op: ast.cmpop, right: ast.expr, ranges: Mapping[str, Range]) -> Outcomes:
    """A field against a number, whichever stands first."""
    if isinstance(right, ast.Name) and type(op) in _MIRRORED:
        left, op, right = right, _MIRRORED[type(op)](), left
    number = _number(right)
    if not isinstance(left, ast.Name) or number is None or type(op) not in _ORDER:
        return BOTH
    low, high = ranges.get(left.id, ANY)
    holds, likeliest_low = _ORDER[type(op)]
    best, worst = (low, high) if likeliest_low else (high, low)
    return NEVER if not holds(best, number) else ALWAYS if holds(worst, number) else BOTH


def _number(node: ast.expr) -> float | None:
    try:
        value: Any = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


# --- units ----------------------------------------------------------------------------------------------------------------


def unit_of(name: str) -> str | None:
    """`kmh` of `speed_kmh`."""
    last = name.rpartition("_")[2]
    return last if "_" in name and last in UNITS else None


def mismatches(text: str) -> Iterator[str]:
    """What adds, subtracts or compares two fields of different units, and what writes a share as a part of one."""
    try:
        tree = ast.parse(text.strip().replace("\n", " "), mode="eval")
    except SyntaxError:
        return
    for node in ast.walk(tree):
        for left, right in _together(node):
            yield from _mismatch(left, right)


def _together(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    match node:
        case ast.Compare(left=left, comparators=rights):
            sides = [left, *rights]
            yield from zip(sides, rights, strict=False)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right):
            yield left, right
        case ast.Call(args=args) if len(args) > 1:
            yield from ((args[0], other) for other in args[1:])


def _mismatch(left: ast.expr, right: ast.expr) -> Iterator[str]:
    if isinstance(right, ast.Name) and not isinstance(left, ast.Name):
        left, right = right, left
    if not isinstance(left, ast.Name) or (unit := unit_of(left.id)) is None:
        return
    if isinstance(right, ast.Name):
        other = unit_of(right.id)
        if other is not None and other != unit:
            yield f"{left.id} is in {unit} and {right.id} in {other}"
    number = _number(right)
    if unit == "pct" and number is not None and 0 < abs(number) < 1:
        yield f"{left.id} is in per cent: {number:g} is {number:g} %; {number * 100:g} would be {number * 100:g} %"
