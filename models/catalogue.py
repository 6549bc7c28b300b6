"""Every topic of the city and of the platform, found by listing this folder: the one catalogue."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from typing import Literal

import models
from models.base import Event, Topic

_NOT_DOMAINS = frozenset({"alarm", "base", "catalogue", "contracts", "decode", "schemas"})


@dataclass(frozen=True, slots=True)
class PlatformTopic:
    """A topic that citywatch itself writes. `retention_ms` -1 is for ever."""

    name: str
    cleanup: Literal["delete", "compact"]
    access: Literal["public", "restricted"]
    retention_ms: int
    about: str
    partitions: int = 1


_DAY = 86_400_000

REJECTED = "city.rejected.v1"
RULES = "city.rules.v1"
LEDGER = "city.ledger.v1"
ALARM_INPUT = "city.alarm.input.v1"
ALARM_EVENT = "city.alarm.event.v1"
ALARM_STATE = "city.alarm.state.v1"
JUDGE_STATE = "city.judge.state.v1"
ALARMS_STATE = "city.alarms.state.v1"
CANARY = "city.canary.v1"

PLATFORM: tuple[PlatformTopic, ...] = (
    PlatformTopic(
        REJECTED, "delete", "restricted", 7 * _DAY, "what was not a valid event, with reason and bytes"
    ),
    PlatformTopic(RULES, "delete", "public", -1, "rules and registry, one versioned set a record"),
    PlatformTopic(LEDGER, "compact", "public", -1, "the account of each topic and partition"),
    PlatformTopic(
        ALARM_INPUT, "delete", "restricted", 30 * _DAY, "signals and commands: the alarm plane's one log"
    ),
    PlatformTopic(ALARM_EVENT, "delete", "public", 400 * _DAY, "the history of alarms, append-only"),
    PlatformTopic(ALARM_STATE, "compact", "public", -1, "each alarm as it stands, by alarm_id"),
    PlatformTopic(JUDGE_STATE, "compact", "restricted", -1, "the judge's checkpoints", partitions=4),
    PlatformTopic(ALARMS_STATE, "compact", "restricted", -1, "the alarm plane's checkpoints"),
    PlatformTopic(CANARY, "compact", "restricted", -1, "the last canary of each partition that came through"),
)


def domain_of(topic: str) -> str:
    """`traffic` of `city.traffic.flow.v1`."""
    return topic.split(".")[1]


@cache
def events() -> tuple[type[Event], ...]:
    """Every event class with a topic, by topic name. A module that cannot be imported stops the program."""
    found: dict[str, type[Event]] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(models.__path__)):
        if module in _NOT_DOMAINS:
            continue
        for value in vars(importlib.import_module(f"models.{module}")).values():
            if isinstance(value, type) and issubclass(value, Event) and "topic" in value.__dict__:
                other = found.setdefault(value.topic.name, value)
                if other is not value:
                    raise TypeError(
                        f"{value.topic.name} belongs to both {other.__name__} and {value.__name__}"
                    )
    return tuple(found[name] for name in sorted(found))


@cache
def topics() -> dict[str, Topic]:
    """Source topics by name."""
    return {e.topic.name: e.topic for e in events()}


@cache
def event_of(topic: str) -> type[Event]:
    """The event class of a source topic; raises KeyError for a name that is not in the catalogue."""
    for event in events():
        if event.topic.name == topic:
            return event
    raise KeyError(topic)
