"""What the log no longer has, from the store: alarms of before, their history, and what was measured around them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from console import shapes, wire
from console.desk import PATIENCE_S
from console.sensors import Said
from models import catalogue
from models.alarm import Alarm, AlarmEvent
from models.base import micros
from rules.bounds import bounds_of, fields_of
from rules.sight import allowance_us
from sinks.contract import Query, StoreError, Unavailable
from sinks.open import may_hold, open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable
    from datetime import datetime

    from console.alarms import Known
    from console.desk import Desk
    from console.find import Find
    from models.base import Micros, Topic
    from rules.spec import AnyRule, Sensor
    from settings import Settings
    from sinks.contract import Record, Row, Store

log = logging.getLogger("citywatch.console")

MINUTE: Micros = 60_000_000
HOUR, DAY = 60 * MINUTE, 1440 * MINUTE

#: A store that is not there yet, or that is away, is asked again.
AGAIN_S = 2.0

#: How long the first snapshot may wait for the store.
RECALL_S = 2.0

#: One answer of the history looks at no more alarms than these, the newest.
MOST_LOOKED_AT = 5_000
_SLICE = 100

#: Around an alarm: so long before and after, or so many of the sensor's own intervals before, but no more than `MOST`.
BEFORE, AFTER, INTERVALS, MOST = HOUR, 30 * MINUTE, 20, 7 * DAY

#: More raw points than these are no more a line than their means.
MOST_POINTS = 2_000
_WINDOWS = 500

#: Widths of windows, so that a reader can say what they are.
_WIDTHS = tuple(n * 1_000_000 for n in (10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 86_400))


class NoStoreError(Exception):
    """There is no store yet, or it does not answer."""


class Past:
    """The store, opened when it is there. Everything asked of it may raise NoStoreError."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Store | None = None
        self._recalled = False

    async def _ask(self, question: Callable[[Store], Awaitable[Any]]) -> Any:
        try:
            if self._store is None:
                self._store = open_store(self._settings, read_only=True)
            return await question(self._store)
        except (StoreError, Unavailable, OSError) as error:
            raise NoStoreError(getattr(error, "reason", None) or str(error)) from error

    async def close(self) -> None:
        if self._store is not None:
            await self._store.close()

    @property
    def may_be(self) -> bool:
        """Whether there may be a store: a city that has just begun has none yet."""
        return may_hold(self._settings)

    async def answers(self) -> None:
        """Return if the store answers a cheap question."""
        await self._ask(lambda store: store.measurements())

    # --- at start -----------------------------------------------------------------------------------------------

    async def recall(self, desk: Desk) -> None:
        """Put on the desk what the store knows, if it answers at once: before anybody is told.

        Else all sensors of a city that has run for long would be blind for a moment.
        """
        with contextlib.suppress(NoStoreError, TimeoutError):
            async with asyncio.timeout(RECALL_S):
                await self._tell_alarms(desk)
                await self._tell_sensors(desk)
            self._recalled = True

    async def tell(self, desk: Desk) -> None:
        """The same for a store that is not there yet: alarms after the log, sensors when the registry is known.

        Of a log that cannot be read the store's alarms are better than none.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(desk.loaded.wait(), PATIENCE_S)
        if self._recalled:
            return
        await self._until(self._tell_alarms, desk)
        await desk.loaded.wait()
        await self._until(self._tell_sensors, desk)

    async def _until(self, do: Callable[[Desk], Awaitable[None]], desk: Desk) -> None:
        while True:
            try:
                await do(desk)
            except NoStoreError as error:
                log.debug("no store yet: %s", error)
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def _tell_alarms(self, desk: Desk) -> None:
        found = [
            known
            for state in ("UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR")
            for known in await self.alarms(desk, where=[("state", state)])
        ]
        desk.left_open = await self._left_open(desk.alarms.log_id)
        news = [desk.alarms.put(known) for known in found]
        if desk.loaded.is_set() and any(news):
            desk.tell_all()

    async def _left_open(self, log_id: str | None) -> int:
        """Alarms that ended with the log before this one: those begun after the one before that was last written to."""
        ends: dict[str, Micros] = {}
        for line in await self._ask(lambda store: store.kept("ledger")):
            ends[line.body["log"]] = max(line.time, ends.get(line.body["log"], line.time))
        ends.pop(log_id or "", None)
        since = sorted(ends.values())[-2] if len(ends) > 1 else None
        found = await self._ask(
            lambda store: store.kept("alarm", where=[("closed_by", "log-ended")], from_=since)
        )
        return len(found)

    async def _tell_sensors(self, desk: Desk) -> None:
        now = desk.now()
        by_topic: dict[str, list[Sensor]] = {}
        for sensor in desk.rules.registry.sensors:
            by_topic.setdefault(sensor.topic, []).append(sensor)
        for name, sensors in by_topic.items():
            topic = catalogue.topics()[name]
            if topic.kind == "samples":  # of events the key is no tag
                longest = max(allowance_us(s.every_us, desk.rules.of(name)) for s in sensors)
                await self._tell_topic(desk, topic, sensors, now, longest)

    async def _tell_topic(
        self, desk: Desk, topic: Topic, sensors: list[Sensor], now: Micros, longest: Micros
    ) -> None:
        """First within the time in which a sensor is not yet silent; further back only who is not found there."""
        wanted = {sensor.key: sensor.labels for sensor in sensors}
        for span, every in ((longest, max(longest // 20, 1_000_000)), (MOST, HOUR)):
            newest = await self._newest(topic, now - span, now + topic.ahead_us, every)
            for key in wanted.keys() & newest.keys():
                where = tuple(wanted.pop(key).items())
                for row in await self._rows(topic.measurement, where, newest[key], newest[key] + every):
                    desk.sensors.hear(topic.name, key, _said(row))
            if not wanted:
                return

    async def _newest(self, topic: Topic, from_: Micros, to: Micros, every: Micros) -> dict[str, Micros]:
        """By key, the newest window that holds something."""
        query = Query(
            topic.measurement, from_=from_, to=to, every=every, agg="count", by=topic.key, late=False
        )
        rows: list[Row] = await self._ask(lambda store: store.read(query))
        return {
            "/".join(row.tags[name] for name in topic.key): row.time
            for row in rows
            if set(topic.key) <= row.tags.keys()
        }

    async def _rows(
        self, measurement: str, where: tuple[tuple[str, str], ...], from_: Micros, to: Micros
    ) -> list[Row]:
        query = Query(measurement, where=where, from_=from_, to=to, late=False)
        return list(await self._ask(lambda store: store.read(query)))

    # --- alarms -------------------------------------------------------------------------------------------------

    async def alarms(
        self,
        desk: Desk,
        *,
        id_: str | None = None,
        from_: Micros | None = None,
        limit: int | None = None,
        where: Iterable[tuple[str, str]] = (),
    ) -> list[Known]:
        """Alarms as the store has them, by their start, oldest first. When one changed last it does not know exactly."""
        asked = tuple(where)
        found = await self._ask(
            lambda store: store.kept("alarm", id_=id_, from_=from_, limit=limit, where=asked)
        )
        return [known for record in found if (known := _known(desk, record.body)) is not None]

    async def before(
        self, desk: Desk, find: Find, most: int, skip: Collection[str]
    ) -> tuple[list[wire.Alarm], bool]:
        """The newest alarms that are asked for, without those of `skip`; and whether there may be more."""
        where = [("rule", find.rule[0])] if len(find.rule) == 1 else []
        from_ = None if find.from_ is None else micros(find.from_)
        records: list[Record] = await self._ask(
            lambda store: store.kept("alarm", from_=from_, limit=MOST_LOOKED_AT, where=where)
        )
        found: list[wire.Alarm] = []
        for n, record in enumerate(reversed(records)):
            if n % _SLICE == 0:
                await asyncio.sleep(0)  # alarms go first
            known = None if record.id in skip else _known(desk, record.body)
            if known is not None and find(known.alarm):
                found.append(known.alarm)
                if len(found) >= most:
                    break
        return found, len(records) >= MOST_LOOKED_AT

    async def timeline(self, alarm_id: str, start: datetime) -> dict[str, wire.Entry]:
        """By id, in the order of the log."""
        return {line.id: shapes.entry(line) for line in await self.history(alarm_id, start)}

    async def history(self, alarm_id: str, start: datetime) -> list[AlarmEvent]:
        """What was told of an alarm, in the order of the log."""
        found = await self._ask(
            lambda store: store.kept(
                "alarm_event", from_=micros(start) - HOUR, where=[("alarm_id", alarm_id)]
            )
        )
        lines: list[AlarmEvent] = []
        for record in found:
            try:
                lines.append(
                    AlarmEvent.model_validate({k: v for k, v in record.body.items() if k != "alarm_id"})
                )
            except ValidationError as error:
                log.warning("the history's line %s in the store cannot be read: %s", record.id, error)
        return sorted(lines, key=lambda line: line.alarm.position)

    # --- charts -------------------------------------------------------------------------------------------------

    async def chart(self, alarm: wire.Alarm, rule: AnyRule | None, every: Micros, now: Micros) -> wire.Chart:
        """What was measured around an alarm; no lines where there is no series to draw."""
        start = micros(alarm.start)
        end = now if alarm.end is None else micros(alarm.end)
        from_ = start - min(MOST, max(BEFORE, INTERVALS * every))
        to = max(min(end + AFTER, now), start + 1)
        fields = () if rule is None else fields_of(rule)
        measurement = "" if rule is None else rule.event.topic.measurement
        width: Micros | None = None
        rows: list[Row] = []
        if rule is not None and fields and self.may_be:
            where = tuple(alarm.labels.items())
            width, rows = await self._series(measurement, where, fields, from_, to)
        return wire.Chart(
            measurement=measurement,
            tags=alarm.labels,
            **{"from": from_ / 1e6},
            to=to / 1e6,
            every_s=None if width is None else width / 1e6,
            times=tuple(row.time / 1e6 for row in rows),
            lines=tuple(
                wire.Line(field=name, values=tuple(_number(row.fields.get(name)) for row in rows))
                for name in fields
                if any(name in row.fields for row in rows)
            ),
            bounds=() if rule is None else tuple(wire.Bound(**b._asdict()) for b in bounds_of(rule)),
        )

    async def _series(
        self,
        measurement: str,
        where: tuple[tuple[str, str], ...],
        fields: tuple[str, ...],
        from_: Micros,
        to: Micros,
    ) -> tuple[Micros | None, list[Row]]:
        raw = Query(
            measurement, where=where, from_=from_, to=to, fields=fields, late=False, limit=MOST_POINTS + 1
        )
        rows: list[Row] = await self._ask(lambda store: store.read(raw))
        if len(rows) <= MOST_POINTS:
            return None, rows
        width = next((w for w in _WIDTHS if (to - from_) / w <= _WINDOWS), _WIDTHS[-1])
        means = Query(
            measurement,
            where=where,
            from_=from_,
            to=to,
            every=width,
            agg="mean",
            fields=fields,
            late=False,
        )
        return width, list(await self._ask(lambda store: store.read(means)))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _said(row: Row) -> Said:
    """A point as the sensor said it. When it arrived is not kept; on time is early enough."""
    values = {k: v for k, v in row.fields.items() if k != "quality"}
    return Said(row.time, row.time, False, row.fields.get("quality") != "no_value", values)


def _known(desk: Desk, body: dict[str, Any]) -> Known | None:
    try:
        found = Alarm.model_validate(body)
    except ValidationError as error:
        log.warning("the alarm %s in the store cannot be read: %s", body.get("alarm_id"), error)
        return None
    changed = max(at for at in (found.raised_at, found.end, found.acked_at) if at is not None)
    return desk.known(found, json.dumps(body, ensure_ascii=False).encode(), micros(changed))
