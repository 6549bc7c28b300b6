"""How long a record takes to each hop of its way: one histogram for workers and console."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import Histogram

if TYPE_CHECKING:
    from settings import Settings

LATENCY = Histogram(
    "citywatch_latency_seconds",
    "From a record's stamp until the hop is done, of the oldest event of each chunk",
    ["hop"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300),
)


class Hop:
    """One hop of an event's way; `done(stamp_ms)` is called once a chunk, with the stamp of its oldest event.

    Where the log's clock is not the wall's (a replay), there is no latency and nothing is observed.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self._observe = LATENCY.labels(name).observe if settings.kafka.clock == "log" else None

    def done(self, stamp_ms: float | None) -> float | None:
        """The seconds it took, or None where there is nothing to observe."""
        if self._observe is None or stamp_ms is None:
            return None
        took = max(0.0, time.time() - stamp_ms / 1000)
        self._observe(took)
        return took
