"""The store's app: source topics, rejects, alarms and the ledger's counts into the time-series store.

Stateless and idempotent: what is read again is written again, to the same effect. An offset is committed when the
store has what came before it, so that an outage of the store pauses this app and loses nothing.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bus import clients, headers
from bus.latency import Hop
from bus.rejects import reject
from models import catalogue
from models.base import micros
from models.decode import Rejection, decode
from sinks.contract import EARLIEST, LATEST, Point, Query, Record, Rejected, StoreError, Unavailable
from sinks.points import alarm_point, pointer
from streams.consumer import ChunkApp
from streams.domain import domains
from streams.metrics import EVENTS, REJECTED, STORE_PAUSED, STORE_POINTS, log, oldest

if TYPE_CHECKING:
    from collections.abc import Callable

    from faust.types import TP

    from models.base import Event
    from models.decode import Reason
    from settings import Settings
    from sinks.contract import Kept, Store

#: Points of one write. A store is fastest with some thousands at once, and memory is bounded by a few of these.
BATCH = 5000
#: Chunks waiting for the store before the fetch itself waits.
WAITING = 32
#: Of the id of a whole record; the longest of ours are two ids and a topic.
MOST_ID = 500


@dataclass(slots=True)
class _Chunk:
    """One chunk made ready to write, and where its partition stands when it is written."""

    tp: TP
    next_offset: int
    points: list[tuple[Point, Any]] = field(default_factory=list)  # with the record it came from
    stamp_ms: int | None = None  # of its oldest event
    refused: list[tuple[Any, Reason, str]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


class StoreWork:
    """What the store app does with chunks; one object a worker."""

    def __init__(self, app: ChunkApp, settings: Settings, bootstrap: str, log_id: str, store: Store) -> None:
        self.app, self.bootstrap, self.log_id, self.store = app, bootstrap, log_id, store
        self.grace_us = settings.grace_us
        prefix = settings.kafka.prefix
        self.kinds: dict[str, tuple[type[Event], Callable[[Event, bool], Point]]] = {
            clients.name(prefix, name): (d.event, pointer(d.event, d.fields, d.tags))
            for name, d in domains().items()
        }
        self.kept: dict[str, Kept] = {clients.name(prefix, topic): kind for topic, kind in _KEPT.items()}
        self.rejected = clients.name(prefix, catalogue.REJECTED)
        self.queue: asyncio.Queue[_Chunk] = asyncio.Queue(maxsize=WAITING)
        self.producer: Any = None
        self.outage: str | None = None
        self._taken, self._written = Hop("store", settings), Hop("stored", settings)

    @property
    def topics(self) -> list[str]:
        return [*self.kinds, *self.kept]

    async def take(self, message: Any) -> None:
        """Make one chunk ready; waits while the store is behind."""
        make = self._kept if message.topic in self.kept else self._points
        chunk = make(message.tp, message.value)
        await self.queue.put(chunk)
        self._taken.done(chunk.stamp_ms)

    def _points(self, tp: TP, records: list[Any]) -> _Chunk:
        event_class, point = self.kinds[tp.topic]
        topic = event_class.topic
        chunk = _Chunk(tp, records[-1].offset + 1, stamp_ms=oldest(records))
        late = 0
        late_us = topic.late_us if self.grace_us is None else self.grace_us
        for record in records:
            if headers.says_nothing(record.key, record.headers):
                continue
            stamp = record.timestamp * 1000
            found = decode(event_class, record.value, stamp, record.key or b"")
            if isinstance(found, Rejection):
                chunk.refused.append((record, found.reason, found.detail))
                continue
            is_late = stamp - found.at > late_us
            late += is_late
            chunk.points.append((point(found, is_late), record))
        EVENTS.labels("store", topic.name, "late").inc(late)
        EVENTS.labels("store", topic.name, "stored").inc(len(chunk.points) - late)
        return chunk

    def _kept(self, tp: TP, records: list[Any]) -> _Chunk:
        chunk = _Chunk(tp, records[-1].offset + 1)
        kind = self.kept[tp.topic]
        for record in records:
            if not record.value:
                continue
            try:
                made = _sound(_READ[kind](record))
                if kind == "alarm_event":
                    chunk.points.append((alarm_point(made.body), record))
                chunk.records.append(made)
            except Exception as error:  # noqa: BLE001 - reading is pure: whatever it raises, this is no record of ours
                chunk.refused.append((record, "not_json", f"{type(error).__name__}: {error}"[:500]))
                log.warning("a record of %s at offset %d cannot be kept: %s", tp.topic, record.offset, error)
        return chunk

    # --- writing ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write what is ready, for as long as the app runs."""
        self.producer = clients.aio_producer(self.bootstrap)
        await self.producer.start()
        while True:
            chunks = [await self.queue.get()]
            points = len(chunks[0].points)
            while points < BATCH and not self.queue.empty():
                chunks.append(self.queue.get_nowait())
                points += len(chunks[-1].points)
            await self._write(chunks)
            for chunk in chunks:
                self.app.positions[chunk.tp] = chunk.next_offset
                self._written.done(chunk.stamp_ms)

    async def _write(self, chunks: list[_Chunk]) -> None:
        points = [pair for chunk in chunks for pair in chunk.points]
        refused = [(chunk.tp.topic, *r) for chunk in chunks for r in chunk.refused]
        records = [r for chunk in chunks for r in chunk.records]
        if points:
            source = {id(point): record for point, record in points}
            for point, why in await self._insist(self.store.write, [p for p, _ in points]):
                record = source[id(point)]
                refused.append((record.topic, record, "refused_by_store", why))
            STORE_POINTS.inc(len(points))
        acks = []
        for name, record, reason, detail in refused:
            topic = self.kinds[name][0].topic.name if name in self.kinds else name
            REJECTED.labels(topic, reason).inc()
            sending = reject(self.log_id, topic, record, reason, detail)
            if name != self.rejected:  # what is refused among the rejects would come back there for ever
                acks.append(await self.producer.send(self.rejected, **sending))
            # Kept at once: from the topic it would come back here, and the embedded broker may have forgotten it.
            records.append(_kept_reject(sending["value"], sending["timestamp_ms"]))
        if records:
            await self._insist(self.store.keep, records)
        await asyncio.gather(*acks)

    async def _insist(self, write: Callable[[Any], Any], what: list[Any]) -> list[tuple[Point, str]]:
        """Write until the store has it: an outage is waited out. The points it refuses for good."""
        while True:
            try:
                await write(what)
            except Unavailable as outage:
                STORE_PAUSED.set(1)
                self.outage = outage.reason
                log.warning("the store does not answer, waiting %.1f s: %s", outage.wait, outage.reason)
                await asyncio.sleep(outage.wait)
            except Rejected as refusal:
                self._answered()
                return list(refusal.points)
            else:
                self._answered()
                return []

    def _answered(self) -> None:
        STORE_PAUSED.set(0)
        self.outage = None

    # --- beside the chunks --------------------------------------------------------------------------------------

    async def unready(self) -> str | None:
        """Why what comes in now would not be stored: no partitions yet, or a store that does not answer."""
        if (why := await self.app.not_joined()) is not None:
            return why
        if self.outage is not None:
            return f"the store does not answer: {self.outage}"
        try:
            await self.store.read(Query("ready", limit=1))
        except Unavailable as outage:
            return f"the store does not answer: {outage.reason}"
        except StoreError as error:
            return f"the store cannot be used: {error}"
        return None


# --- whole records ------------------------------------------------------------------------------------------------


def _sound(made: Record) -> Record:
    """The record, if every store can keep it. Raises ValueError."""
    if type(made.id) is not str or not 0 < len(made.id) <= MOST_ID:
        raise ValueError(f"its id is no text of 1 to {MOST_ID} characters")
    if not EARLIEST < made.time < LATEST:
        raise ValueError(f"its time is no microsecond between the years 1677 and 2262: {made.time}")
    position = made.body.get("position")
    if position is not None and not (type(position) is int and abs(position) < 2**63):
        raise ValueError("its position is no whole number of 64 bits")
    json.dumps(made.body, allow_nan=False, ensure_ascii=False).encode()  # no NaN, no half of a character
    return made


def _alarm_event(record: Any) -> Record:
    body = json.loads(record.value)
    body["alarm_id"] = body["alarm"]["alarm_id"]  # what an alarm's history is asked by
    return Record("alarm_event", body["id"], record.timestamp * 1000, body)


def _alarm(record: Any) -> Record:
    body = json.loads(record.value)
    return Record("alarm", body["alarm_id"], micros(datetime.fromisoformat(body["start"])), body)


def _rejected(record: Any) -> Record:
    return _kept_reject(record.value, record.timestamp)


def _kept_reject(value: bytes, stamp_ms: int) -> Record:
    body = json.loads(value)
    base64.b64decode(body["bytes"], validate=True)
    return Record("rejected", body["id"], stamp_ms * 1000, body)


def _ledger(record: Any) -> Record:
    """The last that the topic says of a partition is what holds, so its place there is the position a store minds."""
    body = json.loads(record.value)
    id_ = f"{body['log']}/{body['topic']}/{body['partition']}"
    return Record(
        "ledger",
        id_,
        record.timestamp * 1000,
        body | {"upto": body["position"], "position": _ACCOUNTS + record.offset},
    )


#: Beyond every position of an account that was kept when the source's offset was its position.
_ACCOUNTS = 1 << 40


_KEPT: dict[str, Kept] = {
    catalogue.ALARM_EVENT: "alarm_event",
    catalogue.ALARM_STATE: "alarm",
    catalogue.REJECTED: "rejected",
    catalogue.LEDGER: "ledger",
}
_READ: dict[Kept, Callable[[Any], Record]] = {
    "alarm_event": _alarm_event,
    "alarm": _alarm,
    "rejected": _rejected,
    "ledger": _ledger,
}


def create(settings: Settings, bootstrap: str, log_id: str, store: Store) -> ChunkApp:
    """The store's Faust app, writing to `store`."""
    app = ChunkApp("store", settings, bootstrap)
    work = StoreWork(app, settings, bootstrap, log_id, store)
    app.unready = work.unready

    async def write() -> None:
        try:
            await work.run()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a writer that ended would hold everything back in silence
            await app.crash(error)

    app.on_chunks("store", work.topics, work.take)
    app.task(write)
    return app
