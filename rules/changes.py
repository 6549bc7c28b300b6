"""What is different between two sets of rules, and what a rule reads: for people who change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rules.spec import Baseline, Distinct, Rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rules.spec import AnyRule, RuleSet


class Changes(NamedTuple):
    """Names of what came, what went, and what stays and says something else; of sensors `topic: key`."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def json(self) -> dict[str, list[str]]:
        return {name: list(value) for name, value in self._asdict().items()}


def changes(old: RuleSet | None, new: RuleSet) -> dict[str, Changes]:
    """By part of a set: rules (those over signals, too), calendars, sensors. A part that is the same is not there."""
    parts = {"rules": _rules, "calendars": _calendars, "sensors": _sensors}
    found = {
        name: _between({} if old is None else dict(of(old)), dict(of(new))) for name, of in parts.items()
    }
    return {name: change for name, change in found.items() if change}


def in_words(found: dict[str, Changes], most: int = 4) -> str:
    """One line: `rules +a -b ~c; sensors +3`. Where there are more than `most` names, only how many."""
    said = []
    for part, change in found.items():
        names = [
            _some(sign, names, most)
            for sign, names in (("+", change.added), ("-", change.removed), ("~", change.changed))
            if names
        ]
        said.append(f"{part} {' '.join(names)}")
    return "; ".join(said) or "nothing"


def _some(sign: str, names: Iterable[str], most: int) -> str:
    named = list(names)
    return f"{sign}{len(named)}" if len(named) > most else " ".join(sign + name for name in named)


def _rules(found: RuleSet) -> Iterator[tuple[str, Any]]:
    yield from ((rule.id, rule) for rule in (*found.rules, *found.wide))


def _calendars(found: RuleSet) -> Iterator[tuple[str, Any]]:
    yield from ((calendar.id, calendar) for calendar in found.calendars)


def _sensors(found: RuleSet) -> Iterator[tuple[str, Any]]:
    yield from ((f"{sensor.topic}: {sensor.key}", sensor) for sensor in found.registry.sensors)


def _between(old: dict[str, Any], new: dict[str, Any]) -> Changes:
    return Changes(
        tuple(sorted(new.keys() - old.keys())),
        tuple(sorted(old.keys() - new.keys())),
        tuple(sorted(name for name in new.keys() & old.keys() if new[name] != old[name])),
    )


def fields_of(rule: AnyRule) -> frozenset[str]:
    """The fields of an event that a rule on a topic reads."""
    found: set[str] = set()
    for _, text in rule.choices():
        found.update(rule.compile_where(text).names)
    for _, text in rule.conditions():
        found.update(rule.compile(text).names)
    if isinstance(rule, Rate | Distinct | Baseline):
        found.add(rule.of)
    return frozenset(found - set(rule.derived))
