"""Conditions of rules: a small whitelisted expression, checked and compiled once to a function of a tuple."""

from __future__ import annotations

import ast
import difflib
import types as _types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_LENGTH = 500
MAX_DEPTH = 20
#: Beyond this a float no longer tells whole numbers apart, and no sensor of a city counts so far.
MAX_NUMBER = 10**15

Values = tuple[Any, ...]
Truth = bool | None

_Kind = Literal["number", "text", "truth", "other", "any"]
_ORDER = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_EQUAL = {ast.Eq: "==", ast.NotEq: "!="}
_IN = {ast.In: "in", ast.NotIn: "not in"}
_IS = {ast.Is: "is", ast.IsNot: "is not"}
_ARITHMETIC = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_FUNCTIONS = {"min": (2, 10), "max": (2, 10), "abs": (1, 1)}
_INFINITE = float("inf")
_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


class ExprError(ValueError):
    """Why a text is no condition: `column` (from 1) and `reason`, which says what would be right."""

    def __init__(self, column: int, reason: str) -> None:
        super().__init__(f"column {column}: {reason}")
        self.column = column
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Expr:
    """A compiled condition. Called with a tuple of values it answers True, False or None ("no value, cannot say").

    `names` are the fields it reads. `measured` is the first field that is ordered against a number, with +1
    where larger is worse and -1 where smaller is; `measure` gives the number so compared, a ratio as well as a
    field: the peak of an alarm is taken of it. `fn` is the bare function, for loops that count nanoseconds.
    """

    text: str
    names: tuple[str, ...]
    fn: Callable[[Values], Truth] = field(repr=False, compare=False)
    measured: tuple[str | None, int] = (None, 0)
    measure: Callable[[Values], float | None] | None = field(default=None, repr=False, compare=False)

    def __call__(self, values: Values) -> Truth:
        return self.fn(values)


def compile_expr(text: str, names: Sequence[str], types: Mapping[str, Any] | None = None) -> Expr:
    """The condition in `text` over values given in the order of `names`. Raises ExprError.

    `types` (a type or a `Literal` per name) lets a comparison of a number with a word, or with a word the field
    never holds, be refused here and not met at three in the morning.

    What is safe about it: only the nodes listed in this file become code, every name becomes an index into the
    tuple, every constant is a plain number, word or truth of bounded size, and the code sees no builtins but
    min, max and abs. There is no loop and no power, so its cost is bounded by the length of the text.
    """
    source = text.replace("\n", " ")
    writer = _Writer(tuple(names), dict(types or {}), _Columns(source))
    tree = _parse(source, writer)
    code = writer.condition(tree, 0, sign=1)
    if not writer.used:
        raise ExprError(1, "the condition reads no field: it would always answer the same")
    used = tuple(sorted(writer.used, key=names.index))
    found = writer.measured
    return Expr(
        text=text,
        names=used,
        fn=_function(code),
        measured=(found.name, found.sign) if found else (None, 0),
        measure=_measure(found.side) if found else None,
    )


def _parse(source: str, writer: _Writer) -> ast.expr:
    if len(source) > MAX_LENGTH:
        raise ExprError(MAX_LENGTH, f"{len(source)} characters; at most {MAX_LENGTH} are allowed")
    if "\\" in source:
        raise ExprError(source.index("\\") + 1, "a backslash has no place in a condition")
    try:
        tree = ast.parse(source.lstrip(), mode="eval").body
    except SyntaxError as error:
        raise ExprError(
            writer.columns.of((error.offset or len(source) + 1) - 1), f"not an expression: {error.msg}"
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExprError(1, f"not an expression: {error}") from None
    constants = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    if source.count("#") != sum(c.count("#") for c in constants if isinstance(c, str)):
        raise ExprError(source.index("#") + 1, "a comment has no place in a condition")
    return tree


def _function(code: str) -> Callable[[Values], Any]:
    # Checked types leave only an overflow; without `types` two values may not compare. Both are "no value".
    lines = f"def condition(v):\n try:\n  return {code}\n except (Overflow, Mismatch):\n  return None\n"
    scope: dict[str, Any] = {"__builtins__": {}, "min": min, "max": max, "abs": abs}
    scope |= {"Overflow": OverflowError, "Mismatch": TypeError}
    exec(compile(lines, "<condition>", "exec"), scope)  # noqa: S102 - see compile_expr for why this is safe
    return scope["condition"]  # type: ignore[no-any-return]


class _Columns:
    """Columns of the written text, from 1, of the parser's offsets (UTF-8 bytes after the leading spaces)."""

    def __init__(self, source: str) -> None:
        self._bytes = source.lstrip().encode(errors="replace")
        self._skipped = len(source) - len(source.lstrip())

    def of(self, offset: int) -> int:
        return self._skipped + len(self._bytes[:offset].decode(errors="replace")) + 1


class _Side(NamedTuple):
    """One operand: its code, what must hold before the code may run, and what it is."""

    code: str
    guards: tuple[str, ...]
    kind: _Kind
    name: str | None = None  # of a bare field
    constant: Any = None  # of a bare constant


class _Measured(NamedTuple):
    name: str | None
    sign: int
    side: _Side


def _measure(side: _Side) -> Callable[[Values], float | None]:
    """What gives the number; of a bare field it is the field."""
    measure = _function(_guarded(side))
    return measure if side.name is not None else _finite(measure)


def _finite(measure: Callable[[Values], float | None]) -> Callable[[Values], float | None]:
    """The same; a quotient of a number that is nearly nothing is no number to show."""

    def measured(values: Values) -> float | None:
        found = measure(values)
        return found if found is not None and -_INFINITE < found < _INFINITE else None

    return measured


def _guarded(side: _Side) -> str:
    return f"(None if {' or '.join(side.guards)} else {side.code})" if side.guards else side.code


class _Writer:
    """Writes checked syntax as Python: conditions are True, False or None; operands bring their guards."""

    def __init__(self, names: tuple[str, ...], types: dict[str, Any], columns: _Columns) -> None:
        self.names = names
        self.types = {name: _kind(declared) for name, declared in types.items()}
        self.choices = {name: _choices(declared) for name, declared in types.items()}
        self.columns = columns
        self.used: set[str] = set()
        self.measured: _Measured | None = None
        self._temporaries = 0

    def refuse(self, node: ast.AST, reason: str) -> ExprError:
        return ExprError(self.columns.of(getattr(node, "col_offset", 0)), reason)

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    # --- conditions

    def condition(self, node: ast.expr, depth: int, sign: int) -> str:
        if depth > MAX_DEPTH:
            raise self.refuse(node, f"nested deeper than {MAX_DEPTH}")
        match node:
            case ast.BoolOp(op=op, values=values):
                return self._kleene(
                    [self.condition(v, depth + 1, sign) for v in values], isinstance(op, ast.And)
                )
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                name = self._temporary()
                inner = self.condition(operand, depth + 1, -sign)
                return f"(None if ({name} := {inner}) is None else not {name})"
            case ast.Compare():
                return self._chain(node, depth, sign)
            case ast.Name():
                side = self.operand(node, depth)
                if side.kind not in ("truth", "any"):
                    raise self.refuse(node, f"{node.id} is no condition by itself: compare it with something")
                return _guarded(side._replace(code=f"not not {side.code}"))
        raise self.refuse(node, f"a condition is a comparison, and, or, not; this is {_called(node)}")

    def _kleene(self, parts: list[str], conjunction: bool) -> str:
        """False ends an `and` and True an `or`, whatever is unknown beside it; else unknown makes unknown."""
        names = [self._temporary() for _ in parts]
        pairs = list(zip(names, parts, strict=True))
        unknown = " or ".join(f"{n} is None" for n in names)
        if conjunction:
            ends = " or ".join(f"({n} := {p}) is False" for n, p in pairs)
            return f"(False if {ends} else None if {unknown} else True)"
        ends = " or ".join(f"({n} := {p})" for n, p in pairs)
        return f"(True if {ends} else None if {unknown} else False)"

    def _chain(self, node: ast.Compare, depth: int, sign: int) -> str:
        sides = [node.left, *node.comparators]
        parts = [
            self._compare(left, op, right, depth=depth, sign=sign)
            for left, op, right in zip(sides, node.ops, sides[1:], strict=False)
        ]
        return parts[0] if len(parts) == 1 else self._kleene(parts, conjunction=True)

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr, *, depth: int, sign: int) -> str:
        if type(op) in _IS:
            return self._is_none(left, _IS[type(op)], right)
        if type(op) in _IN:
            return self._member(left, _IN[type(op)], right, depth)
        one, other = self.operand(left, depth + 1), self.operand(right, depth + 1)
        symbol = _ORDER.get(type(op)) or _EQUAL[type(op)]
        self._same_kind(right, one, other)
        if type(op) in _ORDER:
            for node, side in ((left, one), (right, other)):
                if side.kind not in ("number", "any"):
                    raise self.refuse(
                        node, f"only numbers have an order; this is {_WORDS[side.kind]}: use == or !="
                    )
            self._note_measured(one, symbol, other, sign)
        if one.name is None and other.name is None and not (one.guards or other.guards):
            raise self.refuse(left, "compares constants: it would always answer the same")
        guards = " or ".join(dict.fromkeys((*one.guards, *other.guards)))
        return f"(None if {guards} else {one.code} {symbol} {other.code})"

    def _note_measured(self, one: _Side, symbol: str, other: _Side, sign: int) -> None:
        if self.measured is not None:
            return
        for side, against, written in ((one, other, symbol), (other, one, _MIRROR[symbol])):
            if side.guards and against.constant is not None:
                self.measured = _Measured(side.name, sign if written in (">", ">=") else -sign, side)
                return

    def _is_none(self, left: ast.expr, symbol: str, right: ast.expr) -> str:
        if not (isinstance(right, ast.Constant) and right.value is None):
            raise self.refuse(right, "`is` is for None only: use ==")
        if not isinstance(left, ast.Name):
            raise self.refuse(left, "only a field can be None")
        return f"({self._field(left)} {symbol} None)"

    def _member(self, left: ast.expr, symbol: str, right: ast.expr, depth: int) -> str:
        if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
            raise self.refuse(right, "`in` wants constants in parentheses: in ('a', 'b')")
        side = self.operand(left, depth + 1)
        if not side.guards:
            raise self.refuse(left, "`in` asks of a field")
        items = []
        for element in right.elts:
            item = self.operand(element, depth + 1)
            if item.guards:
                raise self.refuse(element, "`in` wants constants only")
            self._same_kind(element, side, item)
            items.append(item.code)
        return f"(None if {' or '.join(side.guards)} else {side.code} {symbol} ({', '.join(items)},))"

    def _same_kind(self, at: ast.expr, one: _Side, other: _Side) -> None:
        for side in (one, other):
            if side.kind == "other":
                raise self.refuse(
                    at, f"{side.name} is neither number, word nor truth: it can only be asked for None"
                )
        if "any" not in (one.kind, other.kind) and one.kind != other.kind:
            raise self.refuse(
                at, f"{_shown(one)} is {_WORDS[one.kind]} and {_shown(other)} is {_WORDS[other.kind]}"
            )
        for side, against in ((one, other), (other, one)):
            allowed = self.choices.get(side.name or "", ())
            if allowed and against.constant is not None and against.constant not in allowed:
                near = _nearest(str(against.constant), [str(a) for a in allowed])
                known = ", ".join(repr(a) for a in allowed)
                raise self.refuse(
                    at, f"{side.name} is never {against.constant!r}{near}; it is one of {known}"
                )

    # --- operands

    def operand(self, node: ast.expr, depth: int) -> _Side:
        if depth > MAX_DEPTH:
            raise self.refuse(node, f"nested deeper than {MAX_DEPTH}")
        match node:
            case ast.Constant(value=value):
                return self._constant(node, value)
            case ast.Name(id=name):
                code = self._field(node)
                return _Side(code, (f"{code} is None",), self.types.get(name, "any"), name=name)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                side = self._number(inner, depth)
                negative = -side.constant if side.constant is not None else None
                return _Side(f"(-{side.code})", side.guards, "number", constant=negative)
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _ARITHMETIC:
                return self._arithmetic(_ARITHMETIC[type(op)], left, right, depth)
            case ast.Call():
                return self._call(node, depth)
        raise self.refuse(node, f"{_called(node)} is not allowed here")

    def _constant(self, node: ast.Constant, value: object) -> _Side:
        match value:
            case bool():
                return _Side(repr(value), (), "truth", constant=value)
            case int() | float():
                if not abs(value) <= MAX_NUMBER:
                    raise self.refuse(node, f"a number beyond {MAX_NUMBER:.0e}")
                return _Side(repr(value), (), "number", constant=value)
            case str():
                return _Side(repr(value), (), "text", constant=value)
            case None:
                raise self.refuse(node, "nothing equals None: write `is None` or `is not None`")
        raise self.refuse(node, f"a constant is a number, a word in quotes, True or False; not {value!r}")

    def _field(self, node: ast.Name) -> str:
        if node.id not in self.names:
            raise self.refuse(node, f"there is no field {node.id}{_nearest(node.id, self.names)}")
        self.used.add(node.id)
        return f"v[{self.names.index(node.id)}]"

    def _number(self, node: ast.expr, depth: int) -> _Side:
        side = self.operand(node, depth + 1)
        if side.kind not in ("number", "any"):
            raise self.refuse(node, f"arithmetic wants numbers; {_shown(side)} is {_WORDS[side.kind]}")
        return side

    def _arithmetic(self, symbol: str, left: ast.expr, right: ast.expr, depth: int) -> _Side:
        one, other = self._number(left, depth), self._number(right, depth)
        guards = (*one.guards, *other.guards)
        if symbol == "/":
            if other.constant == 0:
                raise self.refuse(right, "division by zero")
            if other.constant is None:
                guards = (*guards, f"{other.code} == 0")
        return _Side(f"({one.code} {symbol} {other.code})", tuple(dict.fromkeys(guards)), "number")

    def _call(self, node: ast.Call, depth: int) -> _Side:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name not in _FUNCTIONS:
            raise self.refuse(node, f"the functions are {', '.join(_FUNCTIONS)}")
        least, most = _FUNCTIONS[name]
        if node.keywords or not least <= len(node.args) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise self.refuse(node, f"{name} takes {wanted} numbers")
        sides = [self._number(a, depth) for a in node.args]
        guards = tuple(dict.fromkeys(g for s in sides for g in s.guards))
        return _Side(f"{name}({', '.join(s.code for s in sides)})", guards, "number")


_WORDS = {
    "number": "a number",
    "text": "a word",
    "truth": "true or false",
    "other": "neither",
    "any": "of any type",
}


def _shown(side: _Side) -> str:
    return side.name or (repr(side.constant) if side.constant is not None else "the result")


def _called(node: ast.AST) -> str:
    known = {
        ast.Constant: "a constant", ast.BinOp: "arithmetic", ast.Call: "a call",
        ast.Attribute: "an attribute", ast.Subscript: "an index", ast.Lambda: "a lambda", ast.JoinedStr: "an f-string", ast.IfExp: "an if",
        ast.NamedExpr: "an assignment", ast.Tuple: "a list of values", ast.UnaryOp: "this sign",
    }  # fmt: skip
    return known.get(type(node), type(node).__name__)


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def bare(declared: Any) -> Any:
    """A declared type without `| None` and `Annotated`: `float | None` is float."""
    if hasattr(declared, "__metadata__"):
        return bare(declared.__origin__)
    if get_origin(declared) in (Union, _types.UnionType):
        inner = [a for a in get_args(declared) if a is not type(None)]
        if len(inner) == 1:
            return bare(inner[0])
        return float if {bare(a) for a in inner} == {int, float} else object
    return declared


def fixed(text: str) -> dict[str, frozenset[str]]:
    """The words that a field must be one of wherever this condition (compiled before) holds: of `a == 'x' and …` a is 'x'.

    What is no such part of an `and` fixes nothing.
    """
    node = ast.parse(text.replace("\n", " ").strip(), mode="eval").body
    parts = node.values if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And) else [node]
    found: dict[str, frozenset[str]] = {}
    for part in parts:
        match part:
            case ast.Compare(
                left=ast.Name(id=name), ops=[ast.Eq()], comparators=[ast.Constant(value=str(word))]
            ):
                words = frozenset({word})
            case ast.Compare(
                left=ast.Constant(value=str(word)), ops=[ast.Eq()], comparators=[ast.Name(id=name)]
            ):
                words = frozenset({word})
            case ast.Compare(left=ast.Name(id=name), ops=[ast.In()], comparators=[ast.Tuple(elts=elts)]) if (
                all(isinstance(e, ast.Constant) and isinstance(e.value, str) for e in elts)
            ):
                words = frozenset(str(e.value) for e in elts if isinstance(e, ast.Constant))
            case _:
                continue
        found[name] = found.get(name, words) & words
    return found


def _choices(declared: Any) -> tuple[Any, ...]:
    found = bare(declared)
    return get_args(found) if get_origin(found) is Literal else ()


def _kind(declared: Any) -> _Kind:
    choices = _choices(declared)
    found = bare(declared) if not choices else type(choices[0])
    if not isinstance(found, type):
        return "other"
    if issubclass(found, bool):
        return "truth"
    if issubclass(found, int | float):
        return "number"
    return "text" if issubclass(found, str) else "other"
