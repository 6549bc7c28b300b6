"""What was recorded, read again: events from the log, from the store, or from files, one record after the other."""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from commands.output import UsageError
from commands.reach import broker, broker_if_any, store_of, topic_named
from models.base import PLACE_FIELDS, moment
from models.catalogue import CANARY, event_of, topics
from models.decode import Rejection, decode
from rules.expr import bare
from rules.terms import types_of
from sinks.contract import Query
from sinks.open import store_name
from sinks.query import parse_time
from streams.domain import domains

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterable, Iterator

    from commands.reach import Broker
    from models.base import Event, Micros
    from settings import Settings
    from sinks.contract import Row
    from sources.mapping import Mapping

#: Rows of the store that are asked for at once.
PAGE = 20_000

_TOKEN = "tok_" + "0" * 32


class InForce(NamedTuple):
    """From `effective_from` on this version of the rules is in force: a control record says so."""

    version: int
    effective_from: Micros


class Recorded(NamedTuple):
    """One record. Those of one topic and partition come in the order of their log.

    Where there was no log, `partition` and `offset` are None: then every key of the topic is in one order, that of
    arrival. `found` is the event, or why it is none; None where only time passes. `late`: so the store has it marked.
    `at` names the place for people.
    """

    topic: str
    partition: int | None
    offset: int | None
    stamp: Micros
    found: Event | Rejection | InForce | None
    digest: int = 0
    late: bool = False
    at: str = ""


class Source(Protocol):
    """Where records are read from. `name` is for people; `grace_us` replaces L where the recording has its own.

    `read` gives the records of these topics that arrived in [from, to), and may be asked again. Raises UnreachableError,
    StoreError, Unavailable, UsageError.
    """

    @property
    def name(self) -> str: ...
    @property
    def grace_us(self) -> Micros | None: ...
    def read(
        self, names: Iterable[str], from_: Micros | None = None, to: Micros | None = None
    ) -> Iterator[Recorded]: ...
    def lacks(self, topic: str) -> frozenset[str]:
        """Fields of the topic's events that are not there to be read."""
        ...


# --- the log ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Log:
    """The topics of a broker that runs, with the stamps of the log."""

    place: Broker
    grace_us: Micros | None = None

    @property
    def name(self) -> str:
        return f"the log at {self.place.bootstrap}"

    def lacks(self, _topic: str) -> frozenset[str]:
        return frozenset()

    def read(
        self, names: Iterable[str], from_: Micros | None = None, to: Micros | None = None
    ) -> Iterator[Recorded]:
        from bus import clients  # noqa: PLC0415 - Kafka's clients take half a second to import

        named = {clients.name(self.place.prefix, name): name for name in names}
        counts = clients.partitions_of(self.place.bootstrap, named)
        for full, topic in named.items():
            if full not in counts:
                raise clients.UnreachableError(
                    f"{self.place.bootstrap} has no topic {full}: run `citywatch topics apply`"
                )
            for partition in range(counts[full]):
                yield from self._partition(full, topic, partition, from_, to)

    def _partition(
        self, full: str, topic: str, partition: int, from_: Micros | None, to: Micros | None
    ) -> Iterator[Recorded]:
        from bus import clients  # noqa: PLC0415 - as above
        from bus.headers import CONTROL, says_nothing, type_of  # noqa: PLC0415

        event = event_of(topic)
        begin = None if from_ is None else self._offset(full, partition, from_)
        for record in clients.records(self.place.bootstrap, (full, partition), begin):
            stamp = record.timestamp * 1000
            if from_ is not None and stamp < from_:
                continue
            if to is not None and stamp >= to:
                if self.place.replay:
                    continue  # the writer's stamps may go back
                return
            value, digest = record.value, 0
            found: Event | Rejection | InForce | None
            if says_nothing(record.key, record.headers):
                is_control = type_of(record.headers) == CONTROL
                said = json.loads(value) if is_control else {}
                found = InForce(said["version"], said["effective_from"]) if is_control else None
            else:
                found, digest = decode(event, value, stamp, record.key or b""), zlib.crc32(value or b"")
            yield Recorded(topic, partition, record.offset, stamp, found, digest)

    def _offset(self, full: str, partition: int, from_: Micros) -> int | None:
        """Where to begin, if the broker can say: the embedded one keeps no index of time, and little to pass over."""
        if self.place.embedded:
            return None
        from kafka import TopicPartition  # noqa: PLC0415 - as above

        from bus import clients  # noqa: PLC0415

        place = TopicPartition(full, partition)
        with closing(clients.consumer(self.place.bootstrap)) as reader:
            found = reader.offsets_for_times({place: max(0, from_ // 1000)})[place]
            return int(reader.end_offsets([place])[place] if found is None else found.offset)


# --- the store ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """The points of the store, made events again: of what it keeps, and no more.

    When a point arrived is not known, so that it arrived when it was observed. Those that came late are left out, or, with
    `late`, take their place as if they had not.
    """

    settings: Settings
    late: bool = False
    grace_us: Micros | None = None

    @property
    def name(self) -> str:
        return f"the store {store_name(self.settings)}"

    def lacks(self, topic: str) -> frozenset[str]:
        event, domain = event_of(topic), domains()[topic]
        kept = {*domain.fields, *domain.tags, *event.topic.series, "quality"}
        computed = set(event.model_computed_fields)  # made again of what is kept, or lacking with it
        return frozenset(n for n in (*event.public(), *PLACE_FIELDS) if n not in kept and n not in computed)

    def read(
        self, names: Iterable[str], from_: Micros | None = None, to: Micros | None = None
    ) -> Iterator[Recorded]:
        for topic in names:
            event = event_of(topic)
            for row in self._rows(event.topic.measurement, from_, to):
                late = row.tags.get("late") == "1"
                if not late or self.late:
                    found = event_from(event, row)
                    digest = 0 if isinstance(found, Rejection) else zlib.crc32(found.wire())
                    yield Recorded(topic, None, None, row.time, found, digest, late)

    def _rows(self, measurement: str, from_: Micros | None, to: Micros | None) -> Iterator[Row]:
        """Page by page: a page ends before its last moment, of which there may be more rows than it holds."""
        store, limit = store_of(self.settings), PAGE
        with asyncio.Runner() as runner:
            try:
                while True:
                    asked = Query(
                        measurement, from_=from_, to=to, late=None if self.late else False, limit=limit
                    )
                    rows = runner.run(store.read(asked))
                    if len(rows) < limit:
                        yield from rows
                        return
                    last = rows[-1].time
                    whole = [row for row in rows if row.time < last]
                    yield from whole
                    from_, limit = last, PAGE if whole else limit * 2
            finally:
                runner.run(store.close())


def event_from(event: type[Event], row: Row) -> Event | Rejection:
    """The event that a point was made of, as far as the store keeps it; nobody's token stands where a person was."""
    topic = event.topic
    values: dict[str, Any] = {**row.tags, **row.fields}
    series = "/".join(str(values.get(name)) for name in topic.series)
    said: dict[str, Any] = {
        "event_id": values.get("event_id") or f"stored/{series}/{row.time}",
        "source_id": "store",
        "observed_at": moment(row.time).isoformat(),
        "quality": values.get("quality", "good"),
    }
    plan = _plan(event)
    place = {name: values[name] for name in plan.place if name in values}
    if place:
        said["place"] = place
    said |= plan.nobody
    for name, kind in plan.own:
        if name in values:
            said[name] = _as(kind, values[name])
    return decode(event, json.dumps(said).encode(), row.time)


class _Plan(NamedTuple):
    """What of a row belongs where in an event of one class."""

    own: tuple[tuple[str, Any], ...]
    place: tuple[str, ...]
    nobody: dict[str, str]


@cache
def _plan(event: type[Event]) -> _Plan:
    personal, public, kinds = event.personal(), event.public(), types_of(event)
    return _Plan(
        tuple((name, bare(kinds[name])) for name in event.model_fields if name in public),
        tuple(name for name in PLACE_FIELDS if name not in event.model_fields),
        {name: _TOKEN for name in personal if event.model_fields[name].is_required()},
    )


def _as(wanted: Any, value: Any) -> Any:
    """A store has numbers as floats, and tags as text."""
    if wanted is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and wanted is bool:
        return {"true": True, "false": False}.get(value, value)
    if isinstance(value, str) and wanted in (int, float):
        return json.loads(value)
    return value


# --- files --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """Recorded files: our own events, one JSON object a line, or a city's, read as its mapping says.

    A line is what `citywatch tail --json` prints, or `{"topic": …, "event": …}`, or, where `only` names the one topic, the
    event alone. Without a time of arrival it arrived when it was observed.
    """

    paths: tuple[Path, ...]
    mapping: Mapping | None = None
    data: Path = Path()
    only: str | None = None
    grace_us: Micros | None = None

    @property
    def name(self) -> str:
        return ", ".join(map(str, self.paths))

    def lacks(self, _topic: str) -> frozenset[str]:
        return frozenset()

    def read(
        self, names: Iterable[str], from_: Micros | None = None, to: Micros | None = None
    ) -> Iterator[Recorded]:
        wanted = set(names)
        for record in self._mapped() if self.mapping is not None else self._lines(wanted):
            if record.topic not in wanted or (from_ is not None and record.stamp < from_):
                continue
            if to is None or record.stamp < to:
                yield record

    def _mapped(self) -> Iterator[Recorded]:
        from sources.mapping import Bad  # noqa: PLC0415 - not needed for our own lines
        from sources.tokens import load_tokens  # noqa: PLC0415

        assert self.mapping is not None
        clock: Micros = 0
        for item in self.mapping.read(self.paths, load_tokens(self.data)):
            at = f"{item.file}:{item.line}"
            if isinstance(item, Bad):
                yield Recorded(
                    item.topic or "", None, None, clock, Rejection(item.reason, item.detail), at=at
                )
                continue
            clock, event = item.stamp_us, item.event
            digest = zlib.crc32(event.wire())
            yield Recorded(event.topic.name, None, None, clock, event, digest, at=at)

    def _lines(self, wanted: Collection[str]) -> Iterator[Recorded]:
        for path in self.paths:
            with path.open("rb") as lines:
                for n, line in enumerate(lines, 1):
                    if line.strip():
                        found = self._line(line, f"{path}:{n}", wanted)
                        if found is not None:
                            yield found

    def _line(self, line: bytes, at: str, wanted: Collection[str]) -> Recorded | None:
        """None: a record of a topic that is not asked for."""
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise UsageError(f"{at}: no JSON object; a city's own form is read with --mapping NAME|FILE")
        topic, value = (
            said.get("type", said.get("topic", self.only)),
            said.get("value", said.get("event", said)),
        )
        if topic is None:
            raise UsageError(f"{at}: of which topic is this? say --topic NAME")
        if not isinstance(topic, str):
            raise UsageError(
                f"{at}: a topic is a name, as in city.traffic.flow.v1, and not {json.dumps(topic)}"
            )
        if topic in ("city.clock.v1", "city.control.v1", CANARY) or topic not in wanted:
            return None
        raw = json.dumps(value, ensure_ascii=False).encode()
        stamp = _stamp(said, value)
        if stamp is None:
            return Recorded(
                topic, None, None, 0, Rejection("bad_time", "neither time nor observed_at"), at=at
            )
        found = decode(event_of(topic), raw, stamp)
        digest = 0 if isinstance(found, Rejection) else zlib.crc32(found.wire())
        return Recorded(topic, said.get("partition"), said.get("offset"), stamp, found, digest, at=at)


def _stamp(said: dict[str, Any], value: Any) -> Micros | None:
    """When a line arrived: what it says, else when it was observed."""
    text = said.get("time") or (value.get("observed_at") if isinstance(value, dict) else None)
    if not isinstance(text, str):
        return None
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        return None


# --- as words of a command ------------------------------------------------------------------------------------------------


def option_source(parser: argparse.ArgumentParser) -> None:
    """Where recorded events come from; without a word of it, the log of what runs, else the store."""
    group = parser.add_argument_group("recorded events (default: the log of what runs, else the store)")
    one = group.add_mutually_exclusive_group()
    one.add_argument("--log", action="store_true", help="the topics, with the stamps of the log")
    one.add_argument("--store", action="store_true", help="the points of the store")
    one.add_argument(
        "--input",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="files: lines as `citywatch tail --json` prints them, or a city's own with --mapping",
    )
    group.add_argument("--mapping", metavar="NAME|FILE", help="how to read --input")
    group.add_argument("--topic", action="append", metavar="TOPIC", help="only this one; may be said again")
    group.add_argument(
        "--grace", type=float, metavar="SECONDS", help="how late an event may be; else the topic says"
    )
    group.add_argument(
        "--late", action="store_true", help="what the store has marked late is judged as if in time"
    )


def source(args: argparse.Namespace, settings: Settings) -> Source:
    """The source that the words ask for. Raises UsageError, MappingError, UnreachableError."""
    only = [topic_named(name) for name in args.topic or ()]
    strangers = [name for name in only if name not in topics()]
    if strangers:
        raise UsageError(f"{strangers[0]} carries no events: there are {', '.join(topics())}")
    if args.grace is not None and not (math.isfinite(args.grace) and args.grace >= 0):
        raise UsageError(f"--grace {args.grace:g}: write a number of seconds, 0 or more")
    grace = settings.grace_us if args.grace is None else round(args.grace * 1e6)
    if args.mapping and not args.input:
        raise UsageError("--mapping says how to read files: name them with --input")
    if args.late and (args.input or args.log):
        raise UsageError("--late is for the store, which marks what was late; of others say --grace SECONDS")
    if args.input:
        return _files(args, settings, only, grace)
    if args.log or not (args.store or args.late or broker_if_any(settings) is None):
        return Log(broker(settings), grace)
    return Stored(settings, args.late, grace)


def _files(args: argparse.Namespace, settings: Settings, only: list[str], grace: Micros | None) -> Files:
    missing = [str(path) for path in args.input if not path.is_file()]
    if missing:
        raise UsageError(f"no such file: {', '.join(missing)}")
    mapping = None
    if args.mapping:
        from sources import mapping as mappings  # noqa: PLC0415 - as above

        mapping = mappings.load(args.mapping)
        if grace is None and mapping.grace is not None:
            grace = round(mapping.grace.total_seconds() * 1e6)
        settings.data.dir.mkdir(parents=True, exist_ok=True)  # the key of its tokens lives there
    return Files(tuple(args.input), mapping, settings.data.dir, only[0] if len(only) == 1 else None, grace)
