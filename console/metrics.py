"""What the console says of itself on /metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from console.desk import Desk

SUBSCRIBERS = Gauge("citywatch_console_subscribers", "Open streams")
OVERFLOWS = Gauge("citywatch_console_overflows", "Streams cut off because who reads them is too slow")
ALARMS = Gauge("citywatch_console_alarms", "Alarms held in memory")
REPEATS = Gauge("citywatch_console_repeats", "Records of alarms that said nothing newer, and were dropped")
LAG = Gauge(
    "citywatch_console_lag_records",
    "Records that are in the log and not yet taken, of alarms or events",
    ["topic"],
)
CANARY = Gauge(
    "citywatch_canary_age_seconds",
    "Since the newest canary was sent that came through to here, of a feed's worst partition",
    ["topic"],
)
COMMANDS = Counter("citywatch_console_commands", "Operators' commands by what became of them", ["verdict"])

#: By the status of the answer.
VERDICTS = {404: "unknown_alarm", 409: "nothing_to_do", 503: "not_known"}


def show(desk: Desk) -> None:
    SUBSCRIBERS.set(len(desk.hub.subscribers))
    OVERFLOWS.set(desk.hub.overflows)
    ALARMS.set(len(desk.alarms))
    REPEATS.set(desk.alarms.repeats)
    for topic, records in desk.lags.items():
        LAG.labels(topic).set(records)
    for topic, found in desk.through().items():
        CANARY.labels(topic).set(found.age / 1_000_000)
