"""`citywatch rejected`: what was no valid event, why, its bytes, and how it is sent again."""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

from commands.output import (
    UsageError,
    clean,
    did_you_mean,
    option_json,
    part,
    parts,
    print_json,
    table,
    teach,
    tell,
)
from commands.reach import ask, broker, topic_named
from models import catalogue
from models.decode import Reason
from sinks.query import format_time

if TYPE_CHECKING:
    import argparse

    from commands.reach import Broker
    from settings import Settings
    from sinks.contract import Record, Store

ABOUT = """\
What was no valid event is kept with its reason, its place and its original bytes. The bytes may be personal: `list`
never shows them, `show` does. Keep the store where only those can read it who may."""

LIST = """\
Print the rejects, the newest last: id, reason, and where each came from.
The place is topic/partition/offset, or file:line for what never reached a topic."""

SHOW = """\
Print one reject with its original bytes.
Text as text, anything else as a hex dump; --raw gives the bytes themselves, for a file or another program."""

REDRIVE = """\
Send rejects again, with their own bytes and key, to their topic.
For when the reason is gone: the model allows a field or a value that it did not. They are new records there, and
refused again if nothing has changed. An event that is sent long after it was observed is stored as late and not
judged. What was refused in a file is not sent: mend the mapping and feed the file again. Exit code 1 when some could
not be sent."""

DEFAULT_LIMIT = 100


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, "  citywatch rejected list --reason schema\n  citywatch rejected show ID")
    where = parts(parser)
    listed = part(
        where, "list", LIST, show_all, "  citywatch rejected list --topic city.traffic.flow.v1 --limit 20"
    )
    _choice(listed)
    listed.add_argument(
        "--limit",
        type=int,
        default=DEFAULT_LIMIT,
        metavar="N",
        help=f"the newest N (default: {DEFAULT_LIMIT})",
    )
    option_json(listed)
    shown = part(
        where,
        "show",
        SHOW,
        show_one,
        "  citywatch rejected show ID\n  citywatch rejected show ID --raw > value.json",
    )
    shown.add_argument("id", metavar="ID")
    shown.add_argument("--raw", action="store_true", help="the bytes, and nothing else")
    sent = part(
        where,
        "redrive",
        REDRIVE,
        redrive,
        "  citywatch rejected redrive ID\n  citywatch rejected redrive --topic city.school.room_air.v1 --reason schema",
    )
    sent.add_argument("ids", nargs="*", metavar="ID")
    _choice(sent)
    option_json(sent)


def _choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topic", metavar="TOPIC", help="only those of one topic")
    parser.add_argument("--reason", metavar="REASON", help=f"only these: {', '.join(get_args(Reason))}")


def _where(args: argparse.Namespace) -> list[tuple[str, str]]:
    if args.reason is not None and args.reason not in get_args(Reason):
        raise UsageError(f"there is no reason {args.reason}{did_you_mean(args.reason, get_args(Reason))}")
    topic = None if args.topic is None else topic_named(args.topic)
    return [(name, value) for name, value in (("topic", topic), ("reason", args.reason)) if value is not None]


def show_all(args: argparse.Namespace, settings: Settings) -> int:
    where = _where(args)

    async def answer(store: Store) -> tuple[list[Record], int]:
        found = await store.kept("rejected", where=where, limit=max(0, args.limit))
        counts = await store.tally("rejected", ("topic", "reason"))
        named = [dict(zip(("topic", "reason"), key, strict=True)) for key in counts]
        chosen = (all(have[k] == v for k, v in where) for have in named)
        return found, sum(n for n, mine in zip(counts.values(), chosen, strict=True) if mine)

    found, count = ask(settings, answer)
    if args.json:
        print_json([_without_bytes(record) for record in found])
    elif found:
        rows = [
            (format_time(r.time), r.body["reason"], _place(r.body), r.body["length"], r.body["detail"], r.id)
            for r in found
        ]
        print(table(("time", "reason", "place", "bytes", "detail", "id"), rows))
    tell(f"{len(found):,} of {count:,} rejects" if count else "nothing like that was rejected")
    return 0


def _without_bytes(record: Record) -> dict[str, Any]:
    """The key is bytes, too: it is what a stranger sent."""
    hidden = ("bytes", "key")
    return {"time": format_time(record.time)} | {k: v for k, v in record.body.items() if k not in hidden}


def _place(body: dict[str, Any]) -> str:
    if "file" in body:
        return f"{body['file']}:{body['line']}"
    return f"{body['topic']}/{body['partition']}/{body['offset']}"


def _one(settings: Settings, id_: str) -> Record:
    async def answer(store: Store) -> list[Record]:
        return await store.kept("rejected", id_=id_)

    found = ask(settings, answer)
    if not found:
        raise UsageError(f"there is no reject {id_}; `citywatch rejected list` has their ids")
    return found[0]


def show_one(args: argparse.Namespace, settings: Settings) -> int:
    record = _one(settings, args.id)
    body, raw = record.body, base64.b64decode(record.body["bytes"])
    if args.raw:
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
    else:
        key = body.get("key")
        said = {
            "id": record.id,
            "time": format_time(record.time),
            "reason": body["reason"],
            "detail": body["detail"],
            "topic": body["topic"] or "-",
            "place": _place(body),
            "key": "-" if key is None else repr(base64.b64decode(key))[2:-1],
            "bytes": f"{body['length']:,}",
        }
        for name, value in said.items():
            print(f"{name:<8}{clean(value)}")
        print()
        print(_readable(raw))
    if len(raw) < body["length"]:
        tell(f"only the first {len(raw):,} of its {body['length']:,} bytes were kept")
    return 0


def _readable(raw: bytes) -> str:
    """Text, if that shows every byte; else 16 bytes a line, as hexdump -C."""
    try:
        lines = raw.decode().split("\n")
    except UnicodeDecodeError:
        lines = [""]
    if any(lines) and all(line == clean(line) for line in (line.replace("\t", "") for line in lines)):
        return "\n".join(lines)
    rows = (raw[at : at + 16] for at in range(0, len(raw), 16))
    return "\n".join(
        f"{n * 16:08x}  {row.hex(' '):<47}  |{''.join(chr(b) if 32 <= b < 127 else '.' for b in row)}|"
        for n, row in enumerate(rows)
    )


# --- sending again ----------------------------------------------------------------------------------------------------


def redrive(args: argparse.Namespace, settings: Settings) -> int:
    where = _where(args)
    if not args.ids and not where:
        raise UsageError(
            "say which: ids, or --topic, or --reason; `citywatch rejected list` shows what there is"
        )
    chosen = [_one(settings, id_) for id_ in args.ids] or ask(
        settings, lambda store: store.kept("rejected", where=where)
    )
    chosen = [record for record in chosen if all(record.body[name] == value for name, value in where)]
    refused = Counter(why for record in chosen if (why := _refusal(record.body)))
    sendable = [record.body for record in chosen if not _refusal(record.body)]
    if sendable:
        place = broker(settings)
        if place.replay or place.prefix:
            raise UsageError(
                f"{place.prefix or place.bootstrap} is the world of a replay: replay the input again instead"
            )
        asyncio.run(_send(place, sendable))
    sent = Counter(body["topic"] for body in sendable)
    if args.json:
        print_json({"sent": dict(sent), "refused": dict(refused)})
    else:
        for topic, count in sorted(sent.items()):
            print(f"{count:,} sent again to {topic}")
    for why, count in refused.items():
        tell(f"{count:,} not sent: {why}")
    if not chosen:
        tell("nothing like that was rejected")
    return 1 if refused else 0


def _refusal(body: dict[str, Any]) -> str | None:
    """Why a reject cannot be sent again, and what would be right."""
    if "file" in body:
        return f"came from the file {body['file']}, not from a topic: mend the mapping (`citywatch mapping try`) and feed it again"
    if body["topic"] not in catalogue.topics():
        return f"{body['topic']} takes nothing from outside: give the command again"
    if len(base64.b64decode(body["bytes"])) < body["length"]:
        return "only the beginning of so large a record is kept: its source must send it again"
    return None


async def _send(place: Broker, bodies: list[dict[str, Any]]) -> None:
    from bus import clients, headers  # noqa: PLC0415 - listing needs no Kafka client
    from bus.room import Room  # noqa: PLC0415
    from models.keys import partition_of  # noqa: PLC0415

    groups = [f"citywatch-{role}" for role in ("judge", "store")]
    room = Room(place.bootstrap, dict.fromkeys(catalogue.topics(), groups)) if place.embedded else None
    try:
        async with clients.Feeder(place.bootstrap) as feeder:
            for body in bodies:
                topic, value = body["topic"], base64.b64decode(body["bytes"])
                key = None if body["key"] is None else base64.b64decode(body["key"])
                partition = (
                    body["partition"]
                    if key is None
                    else partition_of(key, catalogue.topics()[topic].partitions)
                )
                if room is not None:
                    await room.take(topic, partition, len(value) + 250)
                said = headers.headers(body["id"], topic, "/citywatch/redrive", None)
                await feeder.send(topic, key, value, said, time.time_ns() // 1_000_000, partition)
    finally:
        if room is not None:
            room.close()
