"""What of a rule can be drawn: the fields that its conditions read, and the numbers it compares them with."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Literal, NamedTuple

from rules.expr import bare
from rules.spec import Absence, Happening, Threshold
from rules.terms import types_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.alarm import Priority
    from models.base import Event
    from rules.spec import AnyRule

Operator = Literal["<", "<=", ">", ">=", "==", "!="]

_OPERATORS: dict[
    type[ast.cmpop], tuple[Operator, Operator]
] = {  # as written, and with its sides changed over
    ast.Lt: ("<", ">"),
    ast.LtE: ("<=", ">="),
    ast.Gt: (">", "<"),
    ast.GtE: (">=", "<="),
    ast.Eq: ("==", "=="),
    ast.NotEq: ("!=", "!="),
}

#: Of a topic whose rule reads none of its fields (it asks for any word at all), so many are enough to look at.
MOST_FIELDS = 4


class Bound(NamedTuple):
    """A comparison of a field with a number, in a condition that raises or clears this priority."""

    field: str
    operator: Operator
    value: float
    priority: Priority
    when: Literal["raise", "clear"]


def fields_of(rule: AnyRule) -> tuple[str, ...]:
    """The numeric fields to draw for an alarm of this rule; of an absence those that are missed."""
    numbers = numeric(rule.event)
    if rule.event.topic.kind == "events":  # each is a point by itself, there is no line
        return ()
    if isinstance(rule, Absence):
        return numbers[:MOST_FIELDS]
    read = {name for _, _, text in _said(rule) for name in rule.compile(text).names}
    return tuple(name for name in numbers if name in read)


def numeric(event: type[Event]) -> tuple[str, ...]:
    """The event's own fields that hold numbers, without those of its key."""
    types = types_of(event)
    return tuple(
        name for name in event.public() if name not in event.topic.key and bare(types[name]) in (int, float)
    )


def bounds_of(rule: AnyRule) -> tuple[Bound, ...]:
    """What those fields are compared with where it raises or clears, each comparison once, in their order."""
    drawn = fields_of(rule)
    found = dict.fromkeys(
        Bound(field, operator, value, priority, when)
        for priority, when, text in _said(rule)
        for field, operator, value in comparisons(text)
        if field in drawn
    )
    return tuple(found)


def _said(rule: AnyRule) -> Iterator[tuple[Priority, Literal["raise", "clear"], str]]:
    if isinstance(rule, Threshold):
        for level in rule.levels:
            yield level.priority, "raise", level.raise_
            if level.clear is not None:
                yield level.priority, "clear", level.clear
    elif isinstance(rule, Happening):
        yield rule.priority, "raise", rule.raise_
        if rule.clear is not None:
            yield rule.priority, "clear", rule.clear


def comparisons(text: str) -> Iterator[tuple[str, Operator, float]]:
    """`field op number` wherever it stands in a condition that has been compiled before, turned so that the field is first."""
    for node in ast.walk(ast.parse(text.replace("\n", " ").lstrip(), mode="eval")):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
                written = _OPERATORS.get(type(op))
                if written is None:
                    continue
                one, other = _number(left), _number(right)
                if isinstance(left, ast.Name) and other is not None:
                    yield left.id, written[0], other
                elif isinstance(right, ast.Name) and one is not None:
                    yield right.id, written[1], one


def _number(node: ast.expr) -> float | None:
    match node:
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            positive = _number(inner)
            return None if positive is None else -positive
    return None
