"""From YAML files to a set of rules; whatever is wrong in them is told as file:line, all of it at once."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from models.alarm import Text
from rules.calendar import Calendar, Maintenance
from rules.situations import WIDE, AnyWide
from rules.spec import KINDS, RULES, AnyRule, CountLevel, Level, Registry, RuleSet, Sensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from rules.terms import Loc

#: Top-level keys of a file; each may be absent.
SECTIONS = ("rules", "tests", "calendars", "sensors")

#: A rules file is written by people. Anything larger is not one.
MAX_BYTES = 1_000_000


class RulesError(ValueError):
    """What is wrong in the files: each of `problems` is `file:line: message`."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class Where(NamedTuple):
    """A place in a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Loaded(NamedTuple):
    """A set of rules, and where each of them stands, by id."""

    rules: RuleSet
    where: Mapping[str, Where]


def load(paths: str | Path | Iterable[str | Path]) -> RuleSet:
    """The rules and the registry in these files, or in the *.yaml of a folder. Raises RulesError."""
    return read(paths).rules


def default() -> RuleSet:
    """The rules and the registry that come with citywatch."""
    return load(Path(__file__).parent)


def read(paths: str | Path | Iterable[str | Path]) -> Loaded:
    """As `load`, with the place of each rule. Raises RulesError with every problem of every file."""
    problems: list[str] = []
    rules: dict[str, AnyRule | AnyWide] = {}
    calendars: dict[str, Calendar] = {}
    where: dict[str, Where] = {}
    places: dict[Loc, tuple[Document, Loc]] = {}
    sensors: dict[tuple[str, str], Sensor] = {}
    for document in documents(paths):
        for part, adapter, found in (("rules", RULE, rules), ("calendars", _CALENDAR, calendars)):
            for i, item in enumerate(document.section(part, problems)):
                one = document.validated(adapter, item, (part, i), problems)
                if one is None:
                    continue
                if one.id in found:
                    document_, loc = places[part, one.id]
                    here, there = document.where((part, i, "id")), document_.where((*loc, "id"))
                    problems.append(f"{here}: there is already a {part[:-1]} {one.id} at {there}")
                    continue
                found[one.id] = one
                places[part, one.id] = (document, (part, i))
        for i, item in enumerate(document.section("sensors", problems)):
            sensor = document.validated(_SENSOR, item, ("sensors", i), problems)
            if sensor is None:
                continue
            if (sensor.topic, sensor.key) in sensors:
                here = document.where(("sensors", i, "key"))
                problems.append(f"{here}: {sensor.key} of {sensor.topic} is registered twice")
            sensors.setdefault((sensor.topic, sensor.key), sensor)
    if problems:
        raise RulesError(problems)
    for (_, name), (document, loc) in places.items():
        where.setdefault(str(name), document.where((*loc, "id")))
    return Loaded(_whole(rules, calendars, sensors, places), where)


def _whole(
    rules: Mapping[str, AnyRule | AnyWide],
    calendars: Mapping[str, Calendar],
    sensors: Mapping[tuple[str, str], Sensor],
    places: Mapping[Loc, tuple[Document, Loc]],
) -> RuleSet:
    """All of it as one set. Raises RulesError for what is named and not there, at the place where it is named."""
    ordered = [rules[name] for name in sorted(rules)]
    parts: dict[str, Any] = {
        "rules": tuple(rule for rule in ordered if not isinstance(rule, WIDE)),
        "wide": tuple(rule for rule in ordered if isinstance(rule, WIDE)),
        "calendars": tuple(calendars[name] for name in sorted(calendars)),
        "registry": Registry(sensors=tuple(sensors[key] for key in sorted(sensors))),
    }
    problems = []
    for (part, i, *loc), why in RuleSet.model_construct(**parts).dangling():
        document, at = places["calendars" if part == "calendars" else "rules", parts[str(part)][i].id]
        problems.append(f"{document.where((*at, *loc))}: {why}")
    if problems:
        raise RulesError(problems)
    return RuleSet(**parts)


def documents(paths: str | Path | Iterable[str | Path]) -> list[Document]:
    """The files, parsed. Raises RulesError for what cannot be read or is no YAML."""
    found: list[Document] = []
    problems: list[str] = []
    for path in _files([paths] if isinstance(paths, str | Path) else list(paths)):
        try:
            found.append(_parse(path))
        except RulesError as error:
            problems += error.problems
    for document in found:
        problems += document.strangers()
    if problems:
        raise RulesError(problems)
    return found


def _files(paths: list[str | Path]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(path.glob("*.yaml"))
            if not inside:
                raise RulesError([f"{path}:1: no *.yaml in this folder"])
            files += inside
        else:
            files.append(path)
    return files


# --- YAML with lines ------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: `on` is a word and not true, 1:30 is a word and not 90, a date is a word."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|false", [*"tf"]),
    ("null", r"null|~|", [*"n~", ""]),
    ("int", r"[-+]?[0-9]{1,18}", [*"-+0123456789"]),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", [*"-+.0123456789"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _parse(path: Path) -> Document:
    try:
        text = path.read_bytes()[: MAX_BYTES + 1].decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RulesError([f"{path}:1: cannot be read: {error}"]) from None
    if len(text) > MAX_BYTES:
        raise RulesError([f"{path}:1: longer than {MAX_BYTES} bytes: no rules file is"])
    try:
        node = yaml.compose(text, Loader=_Loader)
        data = _plain(node, set()) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise RulesError([f"{path}:{mark.line + 1 if mark else 1}: {error.problem}"]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise RulesError([f"{path}:1: no YAML: {str(error).splitlines()[0]}"]) from None
    except RecursionError:
        raise RulesError([f"{path}:1: nested too deeply"]) from None
    return Document(path, data, node)


def _plain(node: yaml.Node, seen: set[int]) -> Any:
    """The node as plain data. Raises MarkedYAMLError for a key said twice and for an alias (a bomb's fuse)."""
    if id(node) in seen:
        raise yaml.MarkedYAMLError(problem="an alias (*) has no place here", problem_mark=node.start_mark)
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        out: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in out:
                raise yaml.MarkedYAMLError(problem=f"{name} is said twice", problem_mark=key.start_mark)
            out[name] = _plain(value, seen)
        return out
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, seen) for item in node.value]
    kind, text = node.tag.rpartition(":")[2], str(node.value)
    match kind:
        case "null":
            return None
        case "bool":
            return text == "true"
        case "int":
            return int(text)
        case "float":
            return float(text)
        case "str":
            return text
    raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} has no place here", problem_mark=node.start_mark)


@dataclass(frozen=True)
class Document:
    """One file: its data, and its nodes, which know their lines."""

    path: Path
    data: Any
    node: yaml.Node | None

    def strangers(self) -> Iterator[str]:
        """Problems of the outermost level."""
        if not isinstance(self.data, dict):
            yield f"{self.path}:1: a rules file has the keys {', '.join(SECTIONS)}"
            return
        for name in self.data:
            if name not in SECTIONS:
                yield f"{self.where((name,))}: unknown key {name}; a file has {', '.join(SECTIONS)}"

    def section(self, name: str, problems: list[str]) -> list[Any]:
        found = self.data.get(name)
        if found is not None and not isinstance(found, list):
            problems.append(f"{self.where((name,))}: {name} is a list")
            return []
        return found or []

    def where(self, loc: Loc) -> Where:
        """Where the key or item at `loc` begins; of what is not there, where it should be."""
        node, line = self.node, 0
        for part in loc:
            if isinstance(node, yaml.MappingNode):
                found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
                if found is None:
                    continue  # the tag of a union is in pydantic's path and not in the file
                line, node = found[0].start_mark.line, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line
        return Where(str(self.path), line + 1)

    def validated(self, adapter: TypeAdapter[Any], item: Any, loc: Loc, problems: list[str]) -> Any:
        """The item as what `adapter` makes of it; or None, and why it is none in `problems`."""
        try:
            return adapter.validate_python(item)
        except ValidationError as error:
            found = error.errors(include_url=False)
            problems += [f"{self.where((*loc, *_at(e)))}: {_said(e)}" for e in found]
            return None


RULE: TypeAdapter[Any] = TypeAdapter(Annotated[AnyRule | AnyWide, Field(discriminator="kind")])
_CALENDAR: TypeAdapter[Calendar] = TypeAdapter(Calendar)
_SENSOR: TypeAdapter[Sensor] = TypeAdapter(Sensor)


def _at(error: ErrorDetails) -> Loc:
    return (*error["loc"], "kind") if error["type"] == "union_tag_invalid" else error["loc"]


def _said(error: ErrorDetails) -> str:
    """Pydantic's message in our words, with the key it is about."""
    path = [str(p) for p in error["loc"] if p not in KINDS]
    key = path[-1] if path else "rule"
    match error["type"]:
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden":
            near = difflib.get_close_matches(key, known_keys(), n=1)
            hint = f"; did you mean {near[0]}?" if near and near[0] != key else ""
            return f"unknown key {key} here{hint}"
        case "union_tag_not_found":
            return f"kind is missing: one of {', '.join(KINDS)}"
        case "union_tag_invalid":
            return f"there is no kind {error['ctx']['tag']!r}; there are {', '.join(KINDS)}"
    return f"{key}: {error['msg'].removeprefix('Value error, ')}"


def known_keys() -> set[str]:
    """Every key of the grammar."""
    models: tuple[type[BaseModel], ...] = (
        *RULES,
        *WIDE,
        Level,
        CountLevel,
        Sensor,
        Maintenance,
        Calendar,
        Text,
    )
    return {f.alias or name for model in models for name, f in model.model_fields.items()}
