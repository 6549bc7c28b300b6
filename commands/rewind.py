"""`citywatch rewind`: a group reads a part of the log again, so that a store or a state is built anew from the topics."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from commands.output import UsageError, option_json, print_json, table, teach, tell
from commands.reach import broker, topic_named
from models import catalogue
from sinks.query import format_time, parse_time

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from commands.reach import Broker
    from models.base import Micros
    from settings import Settings

    Place = tuple[str, int]

ABOUT = """\
Put a group back in the log, so that its workers read what is there again. Never forward: nothing is skipped.

store: what is written again is the same point, so this repairs and rebuilds a store, and harms none.
judge, alarms: what they have saved is buried, and they are built again from the beginning of the log. All that follows
from it comes again under the same ids. Refused unless the log still has its beginning: what was forgotten cannot be
judged again, and alarms raised by it would never be cleared.

Refused while the group has members: stop its workers first. The ledger is not rewound: `citywatch ledger --recount`."""

EXAMPLES = """\
  citywatch rewind --role store --to 2026-05-01T08:00Z
  citywatch rewind --role store --to beginning --topics city.rejected.v1
  citywatch rewind --role judge --to beginning"""

BEGINNING = "beginning"

#: The roles that save what they know, and where.
SAVED: dict[str, str] = {"judge": catalogue.JUDGE_STATE, "alarms": catalogue.ALARMS_STATE}


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    parser.add_argument("--role", required=True, choices=("store", *SAVED), help="whose group")
    parser.add_argument(
        "--to",
        default=BEGINNING,
        metavar="TIME",
        help="read again what came at TIME and since (default: beginning, the oldest that the log has)",
    )
    parser.add_argument("--topics", nargs="+", metavar="TOPIC", help="only these (default: all it reads)")
    option_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    to = None if args.to == BEGINNING else parse_time(args.to)
    if args.role in SAVED and (to is not None or args.topics):
        raise UsageError(
            f"the {args.role} is a whole: it can only be rewound --to beginning, with all topics"
        )
    place = broker(settings)
    if place.embedded:
        raise UsageError("an embedded broker ends with its `up` or `replay`: feed the input again instead")
    if args.role == "store":
        _still_counted(settings, to)
    group = f"{place.prefix}citywatch-{args.role}"
    named = None if args.topics is None else [f"{place.prefix}{topic_named(topic)}" for topic in args.topics]
    moved = rewind(place.bootstrap, group, to, named, whole=args.role in SAVED)
    buried = asyncio.run(_bury(place, SAVED[args.role])) if args.role in SAVED else 0
    if args.json:
        told = {
            f"{topic}/{n}": {"from": before, "to": after} for (topic, n), (before, after) in moved.items()
        }
        print_json({"group": group, "partitions": told, "buried": buried})
    else:
        rows = [(f"{topic}/{n}", *offsets) for (topic, n), offsets in moved.items()]
        print(table(("partition", "was at", "is at"), rows))
    records = sum(before - after for before, after in moved.values())
    again = (
        f"will read {records:,} records again"
        if moved
        else "has read nothing there yet, and begins at the oldest"
    )
    tell(f"{group} {again}, when its workers are started")
    return 0


def _still_counted(settings: Settings, to: Micros | None) -> None:
    """Points that a store has let go because of their age would be counted a second time."""
    is_file = settings.influx.url is None
    if is_file and not settings.store_path.exists():
        return
    days = settings.store.retention_days if is_file else settings.influx.retention_days
    oldest = time.time_ns() // 1000 - days * 86_400_000_000
    if days and (to is None or to < oldest):
        raise UsageError(
            f"the store keeps {days} days, and what it has let go would be counted twice: "
            f"--to {format_time(oldest)} or later, or begin with an empty store"
        )


def rewind(
    bootstrap: str,
    group: str,
    to: Micros | Mapping[Place, int] | None,
    topics: Iterable[str] | None = None,
    *,
    whole: bool = False,
) -> dict[Place, tuple[int, int]]:
    """Where the group was and is now, by partition: at a time, at offsets, or (None) at the oldest record.

    Of offsets, a partition that has none goes to its oldest record. One that the group never read is not moved: it is
    read from its beginning anyway. `whole`: refuses unless every log still has its first record. Raises UsageError
    while the group has members.
    """
    from kafka import TopicPartition  # noqa: PLC0415 - the client takes half a second to import
    from kafka.structs import OffsetAndMetadata  # noqa: PLC0415

    from bus import clients  # noqa: PLC0415

    with closing(clients.admin(bootstrap)) as admin:
        _nobody_is_in(admin, group)
        had = admin.list_group_offsets({group: None})[group]
        committed = {(tp.topic, tp.partition): at.offset for tp, at in had.items() if at.offset >= 0}
        chosen = None if topics is None else set(topics)
        places = [p for p in sorted(committed) if chosen is None or p[0] in chosen]
        if not places:
            return {}
        begins = clients.begin_offsets(bootstrap, places)
        if whole and (cut := {p: n for p, n in begins.items() if n}):
            (topic, number), first = min(cut.items())
            raise UsageError(
                f"{topic}/{number} begins at offset {first:,}: what was before cannot be read again, and what stands "
                f"would differ from what was said. {len(cut)} partitions are so; leave {group} where it is"
            )
        wanted = _targets(bootstrap, places, to, begins)
        moved = {p: (committed[p], min(committed[p], wanted.get(p, committed[p]))) for p in places}
        asked = {TopicPartition(*p): OffsetAndMetadata(after, "", -1) for p, (_, after) in moved.items()}
        answers = admin.alter_group_offsets(group, asked)
        refused = {tp: error.__name__ for tp, error in answers.items() if getattr(error, "errno", 0)}
        if refused:  # somebody joined meanwhile
            raise UsageError(f"the broker does not let {group} be moved: {refused}; are its workers stopped?")
    return moved


def _nobody_is_in(admin: Any, group: str) -> None:
    found = admin.describe_groups([group])[group]
    if members := found["members"]:
        names = ", ".join(sorted({f"{m['client_id']} at {m['client_host']}" for m in members}))
        raise UsageError(
            f"{group} has {len(members)} members ({names}): stop them first. One that was killed leaves by itself within seconds"
        )


def _targets(
    bootstrap: str, places: list[Place], to: Micros | Mapping[Place, int] | None, begins: Mapping[Place, int]
) -> Mapping[Place, int]:
    """The offsets to go to; a partition that has nothing since `to` is left out."""
    if to is None:
        return begins
    if not isinstance(to, int):
        return {place: max(to.get(place, 0), begins[place]) for place in places}
    from kafka import TopicPartition  # noqa: PLC0415 - as above

    from bus import clients  # noqa: PLC0415

    with closing(clients.consumer(bootstrap)) as client:
        found = client.offsets_for_times({TopicPartition(*place): max(0, to // 1000) for place in places})
    return {(tp.topic, tp.partition): at.offset for tp, at in found.items() if at is not None}


async def _bury(place: Broker, topic: str) -> int:
    """Nothing that was saved is used any more. The offsets were moved before: cut short, what is left is still true."""
    from bus import clients  # noqa: PLC0415 - as above

    name, buried = clients.name(place.prefix, topic), 0
    partitions = clients.partitions_of(place.bootstrap, [name]).get(name, 0)
    producer = clients.aio_producer(place.bootstrap, patient=False)
    await producer.start()
    try:
        for number in range(partitions):
            living: dict[bytes, bool] = {}
            async for key, value in clients.read_all(place.bootstrap, name, [number]):
                if key is not None:
                    living[key] = bool(value)
            for key in (key for key, lives in living.items() if lives):
                await producer.send_and_wait(name, None, key=key, partition=number)
                buried += 1
    finally:
        await producer.stop()
    return buried
