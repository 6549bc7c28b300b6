"""A condition taken apart: which of its parts held for an event, which did not, and by how much."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rules.words import condition, field_name, joined, number, say, unit_of, value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from models.alarm import Text
    from rules.expr import Expr

    Compile = Callable[[str], Expr]


class Clause(NamedTuple):
    """One comparison of a condition. `by` is how far the value was from where it would have held; None: it has no measure."""

    code: str
    holds: bool | None
    value: Any
    bound: Any
    by: float | None
    text: Text


def clauses(compiled: Compile, text: str, values: Sequence[Any], names: Sequence[str]) -> list[Clause]:
    """The comparisons of a condition that has been compiled before, with what became of each."""
    tree = ast.parse(text.replace("\n", " ").strip(), mode="eval").body
    return [_clause(compiled, node, values, names) for node in _leaves(tree)]


def failing(compiled: Compile, text: str, values: Sequence[Any], names: Sequence[str]) -> list[Clause]:
    """Those because of which it did not hold: of an `and` the parts that did not, of an `or` the part that was nearest."""
    tree = ast.parse(text.replace("\n", " ").strip(), mode="eval").body
    return _failing(compiled, tree, values, names)


def _failing(compiled: Compile, node: ast.expr, values: Sequence[Any], names: Sequence[str]) -> list[Clause]:
    if isinstance(node, ast.BoolOp):
        parts = [part for part in node.values if not compiled(ast.unparse(part)).fn(tuple(values))]
        found = [_failing(compiled, part, values, names) for part in parts]
        if isinstance(node.op, ast.And):
            return [clause for each in found for clause in each]
        return min(found, key=_distance, default=[])
    return [_clause(compiled, node, values, names)]


def _distance(found: list[Clause]) -> tuple[int, float]:
    """How far from holding: what has a measure is nearer than what has none, and relative to its bound."""
    far = [abs(c.by) / (abs(c.bound) or 1.0) if c.by is not None else 1e9 for c in found]
    return len(found), sum(far)


def _leaves(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            yield from _leaves(part)
    else:
        yield node


def _clause(compiled: Compile, node: ast.expr, values: Sequence[Any], names: Sequence[str]) -> Clause:
    code = ast.unparse(node)
    made = compiled(code)
    holds = made.fn(tuple(values))
    read = {name: values[names.index(name)] for name in made.names}
    missing = [name for name, x in read.items() if x is None]
    said = condition(code)
    if holds:
        return Clause(code, holds, None, None, None, say("{x}: đúng", "{x} held", x=said))
    if holds is None and missing:
        return Clause(
            code, None, None, None, None, say("{x} không có số liệu", "{x} had no value", x=_names(missing))
        )
    if holds is None:
        return Clause(code, None, None, None, None, say("{x}: không tính được", "{x} cannot be told", x=said))
    measured = None if made.measure is None else made.measure(tuple(values))
    bound = _bound(node)
    if measured is not None and bound is not None and isinstance(node, ast.Compare):
        return _missed(code, node, measured, bound, made.measured[0])
    was = joined(say("{n} là {x}", "{n} was {x}", n=field_name(n), x=value(n, x)) for n, x in read.items())
    return Clause(
        code,
        False,
        next(iter(read.values()), None),
        None,
        None,
        say("{w}, cần {x}", "{w}, not {x}", w=was, x=said),
    )


def _missed(code: str, node: ast.Compare, was: float, bound: float, field: str | None) -> Clause:
    by = abs(was - bound)
    side: Literal["above", "below"] = "above" if was > bound else "below"
    unit = unit_of(field or "")

    def shown(x: float) -> Text:
        return number(x) if unit is None else say("{x} {u}", "{x} {u}", x=number(x), u=unit)

    name = (
        field_name(field)
        if field is not None and isinstance(node.left, ast.Name | ast.Constant)
        else condition(ast.unparse(node.left))
    )
    if by == 0:
        text = say("{n} là {w}, đúng bằng ngưỡng", "{n} was {w}, exactly the bound", n=name, w=shown(was))
    elif side == "above":
        text = say(
            "{n} là {w}, cao hơn ngưỡng {b} là {d}",
            "{n} was {w}, {d} above the bound {b}",
            n=name, w=shown(was), d=shown(by), b=shown(bound),
        )  # fmt: skip
    else:
        text = say(
            "{n} là {w}, thấp hơn ngưỡng {b} là {d}",
            "{n} was {w}, {d} below the bound {b}",
            n=name, w=shown(was), d=shown(by), b=shown(bound),
        )  # fmt: skip
    return Clause(code, False, was, bound, by, text)


def _names(missing: list[str]) -> Text:
    return joined(field_name(name) for name in missing)


def _bound(node: ast.expr) -> float | None:
    """The number that a single comparison is with."""
    if (
        not isinstance(node, ast.Compare)
        or len(node.ops) != 1
        or not isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    ):
        return None
    for side in (node.comparators[0], node.left):
        match side:
            case ast.Constant(value=int() | float() as x) if not isinstance(x, bool):
                return float(x)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as x)):
                return -float(x)
    return None
