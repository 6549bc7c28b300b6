"""What each role must be let do on the broker, and nothing more: the one table of rights."""

from __future__ import annotations

from typing import Literal, NamedTuple

from bus.clients import name
from bus.topics import wanted
from models import catalogue

Role = Literal["judge", "store", "alarms", "ledger", "console", "source", "admin", "subscriber"]

#: Each with what it is. A worker, a console and a feeder are a user each, so that one that is taken over can do little.
ROLES: dict[Role, str] = {
    "judge": "citywatch worker --role judge",
    "store": "citywatch worker --role store",
    "alarms": "citywatch worker --role alarms",
    "ledger": "citywatch worker --role ledger, and those who look at everything: ledger, doctor, explain, tail",
    "console": "citywatch console, and citywatch alarms ack",
    "source": "citywatch simulate, gateway and rejected redrive, and every adapter of a city's system",
    "admin": "citywatch topics apply, citywatch rules apply",
    "subscriber": "another team's service: public topics alone, and a group whose name begins with subscriber-",
}


class Right(NamedTuple):
    """Operations as Kafka names them; a name that ends with * is the beginning of names."""

    role: Role
    kind: Literal["topic", "group"]
    names: tuple[str, ...]
    operations: tuple[str, ...]


_OWN = "city.platform.event.v1"
READ, WRITE, DESCRIBE = ("Read",), ("Write",), ("Describe",)
BOTH = ("Read", "Write")
#: Every topic and every group of ours, whatever may be added, and the groups of others.
CITY, GROUPS, _THEIRS = "city.*", "citywatch-*", ("subscriber-*",)


def rights(prefix: str = "") -> list[Right]:
    """All of them, by role, as named in the world of `prefix`. A right to read or write includes that to describe."""
    sources = [topic.name for topic in catalogue.topics().values()]
    public = [want.name for want in wanted().values() if want.access == "public"]
    kept = [catalogue.ALARM_EVENT, catalogue.ALARM_STATE, catalogue.LEDGER]
    table: list[tuple[Role, Literal["topic", "group"], list[str], tuple[str, ...]]] = [
        # It writes the empty records by which time goes on where nothing comes, and the canaries.
        ("judge", "topic", sources, BOTH),
        ("judge", "topic", [catalogue.RULES], READ),
        ("judge", "topic", [catalogue.JUDGE_STATE], BOTH),
        ("judge", "topic", [catalogue.ALARM_INPUT], WRITE),
        ("judge", "group", ["citywatch-judge"], READ),
        ("store", "topic", [*sources, *kept], READ),
        ("store", "topic", [catalogue.REJECTED], BOTH),
        ("store", "group", ["citywatch-store"], READ),
        ("alarms", "topic", [catalogue.ALARM_INPUT, catalogue.ALARMS_STATE], BOTH),
        ("alarms", "topic", [catalogue.RULES], READ),
        (
            "alarms",
            "topic",
            [catalogue.ALARM_EVENT, catalogue.ALARM_STATE, catalogue.REJECTED, catalogue.CANARY],
            WRITE,
        ),
        ("alarms", "group", ["citywatch-alarms"], READ),
        ("ledger", "topic", [CITY], ("Read", "DescribeConfigs")),
        ("ledger", "topic", [catalogue.LEDGER, _OWN], WRITE),
        ("ledger", "group", ["citywatch-ledger"], READ),
        ("ledger", "group", [GROUPS], DESCRIBE),
        ("console", "topic", [CITY], DESCRIBE),
        (
            "console",
            "topic",
            [*sources, catalogue.RULES, catalogue.ALARM_EVENT, catalogue.ALARM_STATE, catalogue.CANARY],
            READ,
        ),
        # It tells on the platform's own topic which feeds do not come through.
        ("console", "topic", [catalogue.ALARM_INPUT, _OWN], WRITE),
        ("console", "group", [GROUPS], DESCRIBE),
        ("source", "topic", [CITY], DESCRIBE),
        ("source", "topic", [*sources, catalogue.REJECTED], WRITE),
        ("source", "group", [GROUPS], DESCRIBE),
        ("admin", "topic", [CITY], ("Describe", "Create", "DescribeConfigs", "AlterConfigs")),
        # It tells every partition from when on a set of rules is in force.
        ("admin", "topic", [*sources, catalogue.ALARM_INPUT], WRITE),
        ("admin", "topic", [catalogue.RULES], BOTH),
        ("subscriber", "topic", public, READ),
        ("subscriber", "group", [*_THEIRS], READ),
    ]
    return [
        Right(role, kind, tuple(n if n in _THEIRS else name(prefix, n) for n in names), operations)
        for role, kind, names, operations in table
    ]
