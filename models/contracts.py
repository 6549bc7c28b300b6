"""Whether a contract changed only so that who keeps to the old one is still right: two schemas, compared."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Schema = dict[str, Any]

#: Words for people, which promise nothing.
_SAID = frozenset({"$schema", "$id", "title", "description", "examples", "default"})
#: The type of what has none.
_ANY = "any"
#: Names of parts, and no words of a schema.
_NAMED = frozenset({"properties", "$defs"})


def shape(schema: Schema) -> Schema:
    """A schema without what it only says."""
    return {
        word: {name: shape(part) for name, part in value.items()}
        if word in _NAMED
        else [shape(part) for part in value]
        if word == "anyOf"
        else shape(value)
        if word in ("items", "additionalProperties") and isinstance(value, dict)
        else value
        for word, value in schema.items()
        if word not in _SAID
    }


def breaks(old: Schema, new: Schema) -> list[str]:
    """What `new` takes from those who keep to `old`: a field, a value that was valid, or the topic's promise."""
    before, after = old.get("x-topic", {}), new.get("x-topic", {})
    promise = [
        f"{name} of the topic was {before[name]}, is {after.get(name)}"
        for name in ("kind", "access", "key", "series", "partitions", "cleanup")
        if name in before and before[name] != after.get(name)
    ]
    return promise + list(_narrower(_Seen(old, old), _Seen(new, new), ""))


@dataclass(frozen=True, slots=True)
class _Seen:
    """A part of a schema, with the whole in which its references are found."""

    part: Schema
    whole: Schema

    def at(self, part: Any) -> _Seen:
        return _Seen(part if isinstance(part, dict) else {}, self.whole)

    def choices(self) -> list[_Seen]:
        """What a part leaves to others: to a definition that it names, or to one of some."""
        if "$ref" in self.part:
            return [self.at(self.whole["$defs"][self.part["$ref"].rpartition("/")[2]])]
        return [self.at(choice) for choice in self.part.get("anyOf", ())]

    def variants(self) -> list[tuple[str, _Seen]]:
        """The part by JSON type: `X | null` is two. What has no type allows any."""
        choices = self.choices()
        if not choices:
            return [(self.part.get("type", _ANY), self)]
        return [variant for choice in choices for variant in choice.variants()]

    def beside(self) -> list[Schema]:
        """What stands beside choices, and bounds them further."""
        choices = self.choices()
        words = self.part.keys() - _SAID - {"$ref", "anyOf", "$defs"} if choices else ()
        mine = [{word: self.part[word] for word in words}] if words else []
        return mine + [further for choice in choices for further in choice.beside()]

    def allowed(self) -> list[Any] | None:
        enum = self.part.get("enum")
        if "const" not in self.part:
            return enum
        return [self.part["const"]] if enum is None or self.part["const"] in enum else []


def _narrower(old: _Seen, new: _Seen, where: str) -> Iterator[str]:
    """Each value that `old` allowed and `new` does not, by place."""
    if _plain(old) == _plain(new):
        return
    if old.beside() != new.beside():
        yield f"{where or 'value'}: changed in a way that is not compared"
        return
    after = dict(new.variants())  # of two of one type the last is enough: what fits it is allowed
    for kind, was in old.variants():
        now = after.get(kind) or (after.get("number") if kind == "integer" else None) or after.get(_ANY)
        if now is None:
            yield f"{where or 'value'}: {kind} is allowed no more, only {' or '.join(sorted(after))}"
            continue
        yield from _narrower_values(was, now, where)
        yield from _narrower_object(was, now, where)
        if "items" in was.part or "items" in now.part:
            yield from _narrower(was.at(was.part.get("items")), now.at(now.part.get("items")), f"{where}[]")


def _plain(seen: _Seen) -> Any:
    """A part with its references in their places."""

    def inside(value: Any) -> Any:
        if isinstance(value, list):
            return [inside(one) for one in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            named = seen.whole["$defs"][value["$ref"].rpartition("/")[2]]
            return inside({**shape(named), **{k: v for k, v in value.items() if k != "$ref"}})
        return {word: inside(one) for word, one in value.items()}

    return inside(shape(seen.part))


#: Bounds by words: how to read the bound (greater is narrower), and its name in the message.
_BOUNDS = (
    ("least", "minimum", "exclusiveMinimum", 1),
    ("greatest", "maximum", "exclusiveMaximum", -1),
    ("shortest", "minLength", "", 1),
    ("longest", "maxLength", "", -1),
    ("fewest items", "minItems", "", 1),
    ("most items", "maxItems", "", -1),
)


#: All that is compared; of other words it is only seen that they changed.
_COMPARED = frozenset(
    {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "pattern",
        "format",
        "$defs",
    }
    | {word for _, *words, _ in _BOUNDS for word in words}
)


def _bound(part: Schema, inclusive: str, exclusive: str, sign: int) -> tuple[float, bool]:
    """The tightest bound; of two at one value the exclusive one is tighter."""
    found = [(sign * part[name], name == exclusive) for name in (inclusive, exclusive) if name in part]
    return max(found, default=(-inf, False))


def _narrower_values(old: _Seen, new: _Seen, where: str) -> Iterator[str]:
    was, now = old.allowed(), new.allowed()
    if now is not None and was is None:
        yield f"{where}: only {', '.join(map(str, now))} are allowed now"
    elif now is not None and was is not None and (gone := [v for v in was if v not in now]):
        yield f"{where}: {', '.join(map(str, gone))} is allowed no more"
    for name, inclusive, exclusive, sign in _BOUNDS:
        before = _bound(old.part, inclusive, exclusive, sign)
        after = _bound(new.part, inclusive, exclusive, sign)
        if after > before:
            said = "unbounded" if before[0] == -inf else f"{sign * before[0]:g}{' exclusive' * before[1]}"
            yield f"{where}: {name} was {said}, is {sign * after[0]:g}{' exclusive' * after[1]}"
    for name in ("pattern", "format"):
        if name in new.part and new.part[name] != old.part.get(name):
            yield f"{where}: {name} was {old.part.get(name, 'free')}, is {new.part[name]}"
    for word in sorted((old.part.keys() | new.part.keys()) - _COMPARED - _SAID):
        if not word.startswith("x-") and old.part.get(word) != new.part.get(word):
            yield f"{where or 'value'}: {word} changed, which is not compared"


def _narrower_object(old: _Seen, new: _Seen, where: str) -> Iterator[str]:
    was, now = old.part.get("properties", {}), new.part.get("properties", {})
    dot = f"{where}." if where else ""
    for name in was:
        if name in now:
            yield from _narrower(old.at(was[name]), new.at(now[name]), dot + name)
        else:
            yield f"{dot}{name}: the field is gone"
    for name in new.part.get("required", ()):
        if name not in old.part.get("required", ()):
            yield f"{dot}{name}: is required now, and {'was optional' if name in was else 'is new'}"
    rest = old.part.get("additionalProperties", True), new.part.get("additionalProperties", True)
    if rest[0] is not False and rest[1] is False:
        yield f"{where or 'value'}: other fields are allowed no more"
    elif isinstance(rest[1], dict) and rest[0] is not False:
        yield from _narrower(old.at(rest[0]), new.at(rest[1]), f"{dot}*")
