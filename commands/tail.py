"""`citywatch tail`: the records of a topic, as they come."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

from commands.output import clean, option_json, print_json, teach, tell
from commands.reach import broker, topic_named
from models.catalogue import REJECTED
from sinks.query import format_time

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from kafka import KafkaConsumer, TopicPartition

    from commands.reach import Broker
    from settings import Settings

ABOUT = """\
Print what is written to a topic: time, key, value. Reads beside the workers and takes nothing from them. Ends with
Ctrl-C, or after --count records. Records that carry no event (clocks, control) are left out, unless --all says
otherwise; so are key and bytes of rejects: `citywatch rejected show ID` has them."""

EXAMPLES = """\
  citywatch tail city.alarm.event.v1
  citywatch tail city.traffic.flow.v1 --from beginning --count 3 --json | jq .value.speed_kmh"""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    parser.add_argument("topic", metavar="TOPIC", help="`citywatch topics list` has them")
    parser.add_argument(
        "--from", dest="from_", choices=("beginning", "end"), default="end", help="default: end"
    )
    parser.add_argument("--count", type=int, metavar="N", help="leave after N records")
    parser.add_argument("--all", action="store_true", help="clock and control records, too")
    option_json(parser, "for programs: one object a line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    topic = topic_named(args.topic)
    place = broker(settings)
    left = args.count
    if left is not None and left <= 0:
        return 0
    for record in _records(place, topic, from_beginning=args.from_ == "beginning"):
        shown = _shown(record, topic)
        if shown["type"] in _BARE and not args.all:
            continue
        if args.json:
            print_json(shown)
        else:
            print(_line(shown), flush=True)
        left = None if left is None else left - 1
        if left == 0:
            break
    return 0


_BARE = ("city.clock.v1", "city.control.v1", "city.canary.v1")


def _records(place: Broker, topic: str, *, from_beginning: bool) -> Iterator[Any]:
    """Every record from there on, for ever; of different partitions, those that came together by their time."""
    from kafka import TopicPartition  # noqa: PLC0415 - `--help` needs no Kafka client

    from bus import clients  # noqa: PLC0415

    name = clients.name(place.prefix, topic)
    counts = clients.partitions_of(place.bootstrap, [name])
    if name not in counts:
        raise clients.UnreachableError(f"{place.bootstrap} has no topic {name}: run `citywatch topics apply`")
    with closing(clients.consumer(place.bootstrap)) as reader:
        places = [TopicPartition(name, n) for n in range(counts[name])]
        reader.assign(places)
        start = reader.beginning_offsets(places) if from_beginning else reader.end_offsets(places)
        for partition in places:
            reader.seek(partition, start[partition])
        tell(f"reading {name} at {place.bootstrap}; Ctrl-C ends it")
        while True:
            yield from _polled(reader, places)


def _polled(reader: KafkaConsumer, places: list[TopicPartition]) -> list[Any]:
    from kafka.errors import OffsetOutOfRangeError  # noqa: PLC0415

    try:
        found = reader.poll(500)
    except OffsetOutOfRangeError:
        begins = reader.beginning_offsets(places)
        for place in places:
            at = reader.position(place)
            if at < begins[place]:
                tell(
                    f"{begins[place] - at:,} records of partition {place.partition} are forgotten by the broker"
                )
                reader.seek(place, begins[place])
        return []
    return sorted(
        (r for records in found.values() for r in records), key=lambda r: (r.timestamp, r.partition, r.offset)
    )


def _shown(record: Any, topic: str) -> dict[str, Any]:
    from bus import headers  # noqa: PLC0415

    value = _value(record.value)
    if topic == REJECTED and isinstance(value, dict):
        value = {k: v for k, v in value.items() if k not in ("bytes", "key")}  # what a stranger sent
    return {
        "time": format_time(record.timestamp * 1000),
        "partition": record.partition,
        "offset": record.offset,
        "type": headers.type_of(record.headers),
        "key": None if record.key is None else record.key.decode(errors="replace"),
        "value": value,
    }


def _value(raw: bytes | None) -> Any:
    """What the JSON says; what is none, as text."""
    if not raw:
        return None
    try:
        return json.loads(raw, parse_constant=str)  # NaN would be no JSON any more
    except (ValueError, RecursionError):
        return raw.decode(errors="replace")


def _line(shown: dict[str, Any]) -> str:
    value = shown["value"]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if shown["type"] in _BARE:
        text = f"({shown['type']}) {text}"
    return f"{shown['time']}  {clean(shown['key'] or '-')}  {clean(text)}"
