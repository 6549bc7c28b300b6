"""What a domain file says: which event, and which of its fields a store keeps as fields and as tags."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import streams
from models.base import PLACE_FIELDS, Event

if TYPE_CHECKING:
    from models.base import Topic


@dataclass(frozen=True)
class Domain:
    """How events of one topic are kept.

    `fields` are stored values; `tags` are bounded names to group by, beside those of the topic's series (which are
    always tags for samples). Raises TypeError for a name the event has not, or a personal one.
    """

    event: type[Event]
    fields: tuple[str, ...]
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = (*self.event.public(), *PLACE_FIELDS, "quality")
        for name in (*self.fields, *self.tags):
            if name not in known:
                raise TypeError(
                    f"{self.event.__name__} has no public field {name}; it has {', '.join(known)}"
                )

    @property
    def topic(self) -> Topic:
        return self.event.topic


_NOT_DOMAINS = frozenset(
    {
        "domain",
        "store",
        "judge",
        "alarms",
        "checkpoint",
        "consumer",
        "agent",
        "app",
        "launch",
        "metrics",
        "health",
        "logs",
        "records",
    }
)


@cache
def domains() -> dict[str, Domain]:
    """Every domain by topic name, each module imported by its full name; one that fails stops the program."""
    found: dict[str, Domain] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(streams.__path__)):
        if module in _NOT_DOMAINS:
            continue
        for value in vars(importlib.import_module(f"streams.{module}")).values():
            if isinstance(value, Domain):
                found[value.topic.name] = value
    return found
