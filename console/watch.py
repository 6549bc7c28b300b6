"""Watches for canaries: a feed that does not come through is told on the page, and as an alarm where the alarm plane lives."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError

from bus import clients
from bus.notice import platform_event
from console import wire
from console.canaries import to_tell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from console.canaries import Through
    from console.desk import Desk
    from settings import Settings

log = logging.getLogger("citywatch.console")

SOURCE = "/citywatch/console"
#: The rule of rules/platform.yaml that makes alarms of what is told here.
RULE = "canary-missing"

ROUND_S = 5.0
#: Who has been cut off from the broker, or asleep, knows nothing of feeds; their owners say so within this time.
SETTLE_S = 60.0
#: What is told and is no alarm after this time is told again: whoever judges it may be what does not come through.
AGAIN_S = 120.0
ANSWER_S = 10.0


class Watch:
    """Looks every few seconds, by a clock that may be given; remembers nothing that another console would have to know."""

    def __init__(self, settings: Settings, bootstrap: str, desk: Desk) -> None:
        self.bootstrap, self.prefix, self.desk = bootstrap, settings.kafka.prefix, desk
        self._last = self._since = time.monotonic()
        self._told: dict[str, float] = {}

    async def run(self) -> None:
        """Look for ever; in a replay nobody sends canaries."""
        while self.desk.clock == "log":
            await asyncio.sleep(ROUND_S)
            await self._tell(self.look(time.monotonic()))

    def look(self, now: float) -> list[tuple[str, str, str]]:
        """Put on the desk how it is; component, kind and detail of what the platform is to be told."""
        found = self.desk.through()
        lost = {topic: one.lost for topic, one in found.items()}
        why = "; ".join(_said(topic, one) for topic, one in found.items() if one.lost) or None
        worst = max((one.age for one in found.values()), default=0) / 1_000_000
        self.desk.put_part(
            wire.Part(id="through", level="bad" if why else "ok", behind_s=round(worst, 1), why=why)
        )
        if self.desk.unready() is not None or now - self._last > 3 * ROUND_S:
            self._since = now
        self._last = now
        if now - self._since < SETTLE_S:
            return []
        standing = [
            a.labels.get("component", "") for a in self.desk.alarms.open() if a.rule == RULE and a.active
        ]
        missing, back = to_tell(lost, standing)
        tell = [(one, "canary_missing", _detail(one, found) or why or "") for one in missing]
        tell += [(one, "canary_back", "it comes through again") for one in back]
        self._told = {said: at for said, at in self._told.items() if now - at < AGAIN_S}
        tell = [one for one in tell if "/".join(one[:2]) not in self._told]
        self._told |= {"/".join(one[:2]): now for one in tell}
        return tell

    async def _tell(self, tell: list[tuple[str, str, str]]) -> None:
        if not tell:
            return
        for component, kind, detail in tell:
            log.warning("%s %s: %s", kind, component, detail)
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                clients.aio_producer(self.bootstrap, patient=False) as producer,
            ):
                for component, kind, detail in tell:
                    said = platform_event(self.prefix, SOURCE, component, kind, detail, self.desk.now())
                    await producer.send_and_wait(**said)
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("the platform's topic did not take it, trying again: %r", error)
            self._told.clear()


def _detail(topic: str, found: Mapping[str, Through]) -> str | None:
    return _said(topic, found[topic]) if topic in found else None


def _said(topic: str, one: Through) -> str:
    partitions = ", ".join(map(str, one.lost))
    many = "partitions" if len(one.lost) > 1 else "partition"
    return f"{topic}, {many} {partitions}: nothing has come through for {one.age / 1_000_000:.0f} s"
