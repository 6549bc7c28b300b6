"""`python -m bench.backtest`: how much faster than it happened a city's recording is judged, by two sets of rules at once."""

from __future__ import annotations

import argparse
import json
import time
import zlib
from typing import Any

from bench import core, load
from models.decode import Rejection, decode
from models.traffic import TrafficFlow
from rules.backtest import Backtest, report
from rules.score import Span

#: What must be reached on one core: so many sensors, each once in EVERY, so many times as fast as it happened.
SENSORS, RATIO = 2_000, 100


def measure(*, minutes: int, sensors: int = SENSORS) -> dict[str, Any]:
    """CPU time from a recording's bytes to the difference: decoding, both sets (the second with another bound), comparing."""
    count = sensors * minutes * 60_000_000 // load.EVERY
    recorded = [
        (record.partition, record.stamp_ms * 1000, record.value) for record in load.records(count, sensors)
    ]
    base = load.typical()
    candidate = load.ruleset([*_but(base.canonical(), "road-jammed"), load.threshold(0)])
    core.settle()
    backtest = Backtest(base, candidate)
    topic = load.TOPIC.name
    began = time.process_time()
    for partition, stamp, value in recorded:
        found = decode(TrafficFlow, value, stamp)
        if not isinstance(found, Rejection):
            backtest.event(topic, partition, stamp, found, zlib.crc32(value))
    backtest.end(backtest.last + 1)
    assert backtest.first is not None
    span = Span(backtest.first, backtest.last + 1)
    difference = report(backtest, span).difference
    took = time.process_time() - began
    return {
        "sensors": sensors,
        "records": len(recorded),
        "recorded_s": minutes * 60,
        "cpu_s": round(took, 2),
        "events_per_s": round(len(recorded) / took),
        "times_real_time": round(minutes * 60 / took),
        "new": len(difference.new),
        "lost": len(difference.lost),
        "moved": len(difference.moved),
        "same": len(difference.same),
    }


def _but(canonical: bytes, name: str) -> list[dict[str, Any]]:
    """The rules of a set, one of them raised earlier."""
    found = [rule for rule in json.loads(canonical)["rules"] if not rule["id"].startswith("bench-")]
    for rule in found:
        if rule["id"] == name:
            for level in rule["levels"]:
                level["for"] = "1m"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=20, help="of recording (20)")
    parser.add_argument("--sensors", type=int, default=SENSORS, help=f"({SENSORS})")
    said = parser.parse_args()
    found = measure(minutes=said.minutes, sensors=said.sensors)
    print(json.dumps(found))
    if said.sensors == SENSORS and found["times_real_time"] < RATIO:
        raise SystemExit(f"{found['times_real_time']} times real time, {RATIO} are needed")


if __name__ == "__main__":
    main()
