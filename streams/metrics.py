"""What a worker says of itself: metrics with bounded labels (topics, never sensors), and one logger."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import Counter, Gauge, Histogram

from bus import clients

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from faust.types import TP

    from streams.consumer import ChunkApp

log = logging.getLogger("citywatch")

EVENTS = Counter("citywatch_events", "Records by what became of them", ["role", "topic", "verdict"])
REJECTED = Counter("citywatch_events_rejected", "Records that are no valid event", ["topic", "reason"])
SIGNALS = Counter("citywatch_signals", "Signals sent to the alarm plane", ["topic", "op"])
ALARM_EVENTS = Counter("citywatch_alarm_events", "Entries of the alarms' history", ["type"])
GAPS = Counter("citywatch_log_gaps", "Records the log had forgotten before they were read", ["role", "topic"])
CHECKPOINT_BYTES = Counter("citywatch_checkpoint_bytes", "Bytes of state written to the snapshots")
CHECKPOINT_SECONDS = Histogram("citywatch_checkpoint_seconds", "Duration of one complete checkpoint")
REBUILT = Counter("citywatch_checkpoint_rebuilt", "Partitions whose snapshots could not be used")
STORE_PAUSED = Gauge("citywatch_store_paused", "1 while the store does not answer and the store worker waits")
STORE_POINTS = Counter("citywatch_store_points", "Points written to the store")
SERIES = Gauge("citywatch_series", "Series held by the judge", ["topic", "partition"])

_PLACE = ["role", "topic", "partition"]
LAG = Gauge("citywatch_consumer_lag_records", "Records that are in the log and not yet taken", _PLACE)
CHECKPOINT_AGE = Gauge(
    "citywatch_checkpoint_age_seconds", "For how long what was taken has not been saved", _PLACE
)
CHECKPOINT_SIZE = Gauge("citywatch_checkpoint_size_bytes", "Bytes of state in the last snapshots", _PLACE)
STARTED = Gauge(
    "citywatch_worker_started_timestamp_seconds",
    "When this process began; each change is a restart",
    ["role"],
)
REFRESH_S = 5.0


def oldest(records: Iterable[Any]) -> int | None:
    """The stamp of a chunk's first event, or None: clock and control records have no key, and nobody waits for them."""
    return next((record.timestamp for record in records if record.key is not None), None)


class Places:
    """The gauges of the partitions this worker has; those of partitions that went to another worker go."""

    def __init__(self, role: str, prefix: str, app: ChunkApp) -> None:
        self.role, self.prefix, self.app = role, prefix, app
        self._shown: set[TP] = set()

    def show(self, mine: set[TP], ends: Mapping[Any, int], now: float) -> None:
        """`ends` are the offsets that the next records will have, `now` is the event loop's time."""
        for tp in self._shown - mine:
            for gauge in (LAG, CHECKPOINT_AGE, CHECKPOINT_SIZE):
                gauge.remove(*self._labels(tp))
            SERIES.remove(*self._labels(tp)[1:])
        self._shown = set(mine)
        for tp in mine:
            labels, held = self._labels(tp), self.app.held.get(tp)
            if tp in ends:
                LAG.labels(*labels).set(max(0, ends[tp] - self.app.position(tp)))
            if held is not None:
                CHECKPOINT_AGE.labels(*labels).set(0 if held.is_saved else now - held.complete)
                CHECKPOINT_SIZE.labels(*labels).set(sum(held.sizes.values()))

    def _labels(self, tp: TP) -> tuple[str, str, str]:
        return self.role, tp.topic.removeprefix(self.prefix), str(tp.partition)

    async def run(self, bootstrap: str) -> None:
        """Show them every few seconds, for as long as the app runs.

        The log's ends are asked for over a client of our own: the consumer's last answer is old just when it matters,
        namely while it waits for a store that does not answer.
        """
        loop = asyncio.get_running_loop()
        reader = clients.aio_consumer(bootstrap)
        await reader.start()
        try:
            while True:
                if self.app.joined:
                    mine = set(self.app.consumer.assignment())
                    self.show(mine, await _ends(reader, mine), loop.time())
                await asyncio.sleep(REFRESH_S)
        finally:
            await reader.stop()


async def _ends(reader: Any, mine: set[TP]) -> dict[Any, int]:
    """A broker that is away says nothing of its ends: the lag shown stays as it was."""
    try:
        return dict(await reader.end_offsets([TopicPartition(tp.topic, tp.partition) for tp in mine]))
    except KafkaError as error:
        log.warning("the lag is not known: %r", error)
        return {}
