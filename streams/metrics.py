"""What a worker says of itself: metrics with bounded labels, and one logger."""

from __future__ import annotations

import logging

from prometheus_client import Counter, Gauge, Histogram

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
