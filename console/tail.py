"""Follows the log without a group: alarms and rules from the beginning, what sensors say from now on."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from pydantic import ValidationError

from bus import clients, headers
from bus.canary import canary_of
from console.sensors import said
from models import catalogue
from models.alarm import Alarm, AlarmEvent
from models.decode import Rejection, decode
from rules.spec import RuleSet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from console.desk import Desk
    from console.past import Past
    from settings import Settings

log = logging.getLogger("citywatch.console")

#: Between two attempts to reach a broker that is away.
AGAIN_S = 1.0
#: Records taken before other work has its turn: 500 take some milliseconds.
SLICE = 500
#: Of the history, the newest records are enough: a detail asks the store for what came before.
MOST_HISTORY = 20_000
#: Of the canaries those of some minutes: of a partition that has none among them none has come for long.
MOST_CANARIES = 1_000
#: Who looks at sensors wants to know how they are now: events that are further behind than this are passed over.
MOST_BEHIND = 50_000


class Tail:
    """Two readers, so that no flood of events delays an alarm. Each is opened again when its broker went away."""

    def __init__(self, settings: Settings, bootstrap: str, desk: Desk, past: Past) -> None:
        self.bootstrap, self.prefix, self.desk, self.past = bootstrap, settings.kafka.prefix, desk, past
        self._next: dict[TopicPartition, int] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again(self._alarms))
            group.create_task(self._again(self._events))

    async def _again(self, follow: Callable[[], Awaitable[None]]) -> None:
        """Follow for ever: a broker that is away comes back."""
        while True:
            try:
                await follow()
            except (KafkaError, OSError, LookupError) as error:
                log.warning("the log cannot be followed, trying again: %s", error)
            await asyncio.sleep(AGAIN_S)

    # --- alarms and rules ---------------------------------------------------------------------------------------

    def _name(self, topic: str) -> str:
        return clients.name(self.prefix, topic)

    async def _alarms(self) -> None:
        takes: dict[str, Callable[[Any], None]] = {
            self._name(catalogue.RULES): self._rules,
            self._name(catalogue.ALARM_STATE): self._state,
            self._name(catalogue.ALARM_EVENT): self._entry,
            self._name(catalogue.CANARY): self._canary,
        }
        places = rules, state, history, canaries = [TopicPartition(topic, 0) for topic in takes]
        most = {history: MOST_HISTORY, canaries: MOST_CANARIES}
        await self._there(takes)
        reader = clients.aio_consumer(self.bootstrap)
        try:
            await reader.start()
            reader.assign(places)
            begins = await reader.beginning_offsets(places)
            ends = await reader.end_offsets(places)
            for place in places:
                least = ends[place] - most[place] if place in most else 0
                reader.seek(place, self._next.setdefault(place, max(begins[place], least)))
            if not self.desk.loaded.is_set():
                self.desk.alarms.begin(begins[state])
                for place in (rules, state, history, canaries):  # rules first: alarms are said by them
                    await self._read_to(reader, place, ends[place], takes[place.topic])
                await self.past.recall(self.desk)
                self.desk.ready()
            while True:
                await self._take(reader, takes)
        finally:
            await reader.stop()

    async def _there(self, topics: Iterable[str]) -> dict[str, int]:
        """How many partitions each topic has, and which log this is. Raises LookupError where one is missing."""
        admin = clients.aio_admin(self.bootstrap)
        try:
            await admin.start()
            if self.desk.alarms.log_id is None:
                log_id = await clients.aio_log_id(admin, self.bootstrap)
                self.desk.alarms.log_id = "/".join(filter(None, (log_id, self.prefix.rstrip("."))))
            known = await clients.aio_partitions_of(admin, topics)
        finally:
            await admin.close()
        if missing := set(topics) - known.keys():
            raise LookupError(
                f"the broker has no {', '.join(sorted(missing))}: `citywatch topics apply` makes them"
            )
        return known

    async def _read_to(
        self, reader: Any, place: TopicPartition, end: int, take: Callable[[Any], None]
    ) -> None:
        while self._next[place] < end:
            await self._take(reader, {place.topic: take}, place)

    async def _take(
        self, reader: Any, takes: Mapping[str, Callable[[Any], None]], *only: TopicPartition
    ) -> None:
        try:
            found = await reader.getmany(*only, timeout_ms=500, max_records=SLICE)
        except OffsetOutOfRangeError as error:
            await self._forgotten(reader, error)
            return
        for place, records in found.items():
            for record in records:
                takes[place.topic](record)
            self._next[place] = records[-1].offset + 1
        await asyncio.sleep(0)  # records that wait already would come without a pause
        self.desk.lags["alarms"] = await self._behind(reader, self._next)
        if only:  # what a position passed over, as compaction leaves it
            for place in only:
                self._next[place] = max(self._next[place], await reader.position(place))

    async def _forgotten(self, reader: Any, error: OffsetOutOfRangeError) -> None:
        places = list(error.args[0])
        begins = await reader.beginning_offsets(places)
        for place in places:
            log.warning(
                "%s/%d: the log has forgotten what comes after offset %d; going on at its beginning, %d",
                place.topic,
                place.partition,
                self._next.get(place, -1),
                begins[place],
            )
            self._next[place] = begins[place]
            reader.seek(place, begins[place])
            if place.topic == self._name(catalogue.ALARM_STATE):
                self.desk.alarms.begin(begins[place])
                self.desk.tell_all()

    def _rules(self, record: Any) -> None:
        if not headers.is_event(record.headers):
            return
        try:
            rules = RuleSet.parse(record.value)
        except ValueError as error:
            log.error("the rules at offset %d cannot be read, those before stay: %s", record.offset, error)  # noqa: TRY400
            return
        self.desk.put_rules(record.offset, rules, record.timestamp * 1000)

    def _state(self, record: Any) -> None:
        try:
            found = Alarm.model_validate_json(record.value or b"")
        except ValidationError as error:
            log.warning("the alarm at offset %d cannot be read: %s", record.offset, error)
            return
        self.desk.put_alarm(record.offset, found, record.value, record.timestamp * 1000)

    def _entry(self, record: Any) -> None:
        try:
            found = AlarmEvent.model_validate_json(record.value or b"")
        except ValidationError as error:
            log.warning("the history at offset %d cannot be read: %s", record.offset, error)
            return
        self.desk.put_entry(found)

    def _canary(self, record: Any) -> None:
        found = canary_of(record.value)
        if found is None:
            log.warning("the record at offset %d of %s is no canary", record.offset, record.topic)
            return
        self.desk.put_canary(found)

    # --- what sensors say ---------------------------------------------------------------------------------------

    async def _events(self) -> None:
        names = {self._name(topic): topic for topic in catalogue.topics()}
        counts = await self._there(names)
        places = [TopicPartition(name, n) for name, count in counts.items() for n in range(count)]
        reader = clients.aio_consumer(self.bootstrap)
        try:
            await reader.start()
            reader.assign(places)
            ends = await reader.end_offsets(places)
            for place in places:
                reader.seek(place, ends[place])
            behind = 0
            while behind < MOST_BEHIND:
                found = await reader.getmany(timeout_ms=500, max_records=SLICE)
                for place, records in found.items():
                    self._hear(names[place.topic], records)
                await asyncio.sleep(0)  # as above
                behind = await self._behind(reader, places)
                self.desk.lags["sources"] = behind
            log.warning("%d events behind: going on at the end of the log", behind)
        finally:
            await reader.stop()

    async def _behind(self, reader: Any, places: Iterable[TopicPartition]) -> int:
        """Records that are in the log and not yet taken, as of the last answers."""
        return sum([max(0, (reader.highwater(p) or 0) - await reader.position(p)) for p in places])

    def _hear(self, topic: str, records: list[Any]) -> None:
        event, events = catalogue.event_of(topic), 0
        for record in records:
            if not headers.is_event(record.headers):
                continue
            events += 1
            stamp = record.timestamp * 1000
            found = decode(event, record.value, stamp, record.key)
            if not isinstance(found, Rejection):  # the judge counts what is none
                self.desk.sensors.hear(topic, event.topic.key_of(found), said(found, stamp))
        self.desk.appended(records[-1].timestamp * 1000)
        self.desk.sensors.count(topic, events)
