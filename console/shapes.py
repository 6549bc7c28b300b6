"""From what the log and the rules say to what the console tells: one function for each shape of `wire`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console import wire
from models import catalogue
from models.base import moment

if TYPE_CHECKING:
    from datetime import datetime

    from console.canaries import Through
    from models.alarm import Alarm, AlarmEvent
    from rules.situations import AnyWide
    from rules.spec import AnyRule, RuleSet
    from rules.spec import Sensor as Listed

#: What `wire.Alarm` says with the same name and the same meaning.
_SAME = tuple(n for n in wire.Alarm.model_fields if n not in {"changed_at", "sensor"})


def sensor_id(topic: str, key: str) -> str:
    return f"{topic}|{key}"


def alarm(found: Alarm, changed_at: datetime, sensor: str | None) -> wire.Alarm:
    return wire.Alarm(changed_at=changed_at, sensor=sensor, **{name: getattr(found, name) for name in _SAME})


def entry(found: AlarmEvent) -> wire.Entry:
    then = found.alarm
    return wire.Entry(
        id=found.id,
        type=found.type,
        at=found.at,
        cause=found.cause,
        actor=found.actor,
        note=found.note,
        start=then.start,
        end=then.end,
        priority=then.priority,
        peak=then.peak,
        state=then.state,
    )


def rule(found: AnyRule | AnyWide, topic: str) -> wire.Rule:
    return wire.Rule(
        id=found.id,
        kind=found.kind,
        topic=topic,
        title=found.title,
        instruction=found.instruction,
        category=found.category,
        priorities=found.priorities,
    )


def rules_of(rules: RuleSet) -> tuple[wire.Rule, ...]:
    """Those on a topic, and those over signals."""
    on = {found.id: found.on for found in rules.rules}
    over = ((found, next(name for _, name in found.named())) for found in rules.wide)
    return (
        *(rule(found, found.on) for found in rules.rules),
        *(rule(found, on[first]) for found, first in over),
    )


def sensor(found: Listed) -> wire.Sensor:
    return wire.Sensor(
        id=sensor_id(found.topic, found.key),
        topic=found.topic,
        key=found.key,
        labels=found.labels,
        place=found.place,
        name=found.name,
        every_s=found.every_us / 1e6,
    )


def canary(found: Through) -> wire.Canary:
    return wire.Canary(
        at=None if found.at is None else moment(found.at), age_s=round(found.age / 1e6, 1), lost=found.lost
    )


def city(log_id: str, clock: wire.Clock, version: int | None, rules: RuleSet) -> wire.City:
    return wire.City(
        log_id=log_id,
        clock=clock,
        rules_version=version,
        rules=rules_of(rules),
        sensors=tuple(map(sensor, rules.registry.sensors)),
        topics=tuple(
            wire.Topic(name=t.name, measurement=t.measurement, kind=t.kind, key=t.key)
            for t in catalogue.topics().values()
        ),
    )
