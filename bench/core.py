"""What the pure core costs, without a broker: one event by its rules, a refold, a series in memory and in a snapshot.

`python -m bench.core` measures it at the size of a city: 100,000 series, up to 1,000 rules.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import time
import tracemalloc
import zlib
from itertools import islice
from multiprocessing import get_context
from statistics import median
from typing import TYPE_CHECKING

from bench import load
from models.decode import Rejection, decode
from models.traffic import TrafficFlow
from rules.judge import Judge
from rules.program import compile_program

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.base import Micros
    from rules.spec import RuleSet

#: Events timed at a stretch; the variants take turns at each stretch, so that noise meets them all.
STRETCH = 500
SENSORS = 500


def judge_of(rules: RuleSet) -> Judge:
    """A judge of the topic's partition 0 with these rules in force from the beginning."""
    judge = Judge(TrafficFlow, 0, "bench")
    judge.control(0, load.START, 0, compile_program(rules, 1, TrafficFlow))
    return judge


def _quiet(count: int) -> list[tuple[int, bytes]]:
    """(stamp, value) of events that come in order and move no rule."""
    found = []
    for n in range(count):
        turn, sensor = divmod(n, SENSORS)
        at = load.START + turn * load.EVERY + sensor * load.EVERY // SENSORS
        found.append((at + 300_000, load.flow(n, sensor, at).wire()))
    return found


def _decoded(stretch: Iterable[tuple[int, bytes]]) -> list[tuple[int, TrafficFlow, int]]:
    out = []
    for stamp, value in stretch:
        event = decode(TrafficFlow, value, stamp)
        assert isinstance(event, TrafficFlow)
        out.append((stamp, event, zlib.crc32(value)))
    return out


def settle() -> None:
    """The worker's garbage collection (streams/launch.py): what is alive now is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)


def yardstick_us(count: int) -> float:
    """Microseconds of CPU of `json.loads` of one event: how fast this machine is just now."""
    values = [value for _, value in _quiet(count)]
    began = time.process_time()
    for value in values:
        json.loads(value)
    return (time.process_time() - began) / count * 1e6


def decode_us(count: int) -> float:
    """Microseconds of CPU to decode one event."""
    values, spent = iter(_quiet(count)), []
    while stretch := list(islice(values, STRETCH)):
        began = time.process_time()
        _decoded(stretch)
        spent.append((time.process_time() - began) / len(stretch))
    return median(spent) * 1e6


def steps_us(variants: dict[str, RuleSet], count: int) -> dict[str, float]:
    """Microseconds of CPU of `Judge.event` for a quiet sample in order, by set of rules."""
    judges = {name: judge_of(rules) for name, rules in variants.items()}
    spent: dict[str, list[float]] = {name: [] for name in judges}
    values, offset = iter(_quiet(count)), 1
    while stretch := list(islice(values, STRETCH)):
        for name, judge in judges.items():
            events = _decoded(stretch)
            step = judge.event
            began = time.process_time()
            for n, (stamp, event, digest) in enumerate(events, offset):
                step(n, stamp, event, digest)
            spent[name].append((time.process_time() - began) / len(stretch))
        offset += len(stretch)
    warm = min(len(s) for s in spent.values()) // 4  # until every window is full
    return {name: median(s[warm:]) * 1e6 for name, s in spent.items()}


def refold_us(samples: int, rules: RuleSet, series: int = 200) -> float:
    """Microseconds of CPU of one sample that comes in the middle of `samples` that are within L already."""
    gap = load.TOPIC.late_us // (samples + 1)
    judge, offset = judge_of(rules), 1
    for turn in range(samples):
        for sensor in range(series):
            at = load.START + turn * gap
            judge.event(offset, at, load.flow(offset, sensor, at), offset)
            offset += 1
    now: Micros = load.START + samples * gap
    at = load.START + samples // 2 * gap + gap // 2
    late = [load.flow(offset + n, n, at) for n in range(series)]
    spent = []
    for n, event in enumerate(late):
        began = time.perf_counter()
        judge.event(offset + n, now, event, n)
        spent.append(time.perf_counter() - began)
    assert judge.counts() == {"stored": series * (samples + 1)}
    return median(spent) * 1e6


def memory(series: int, rules: RuleSet) -> dict[str, float]:
    """What a series of 4 to 12 samples takes in the judge and in a snapshot, and the time to save and restore it."""
    judge = judge_of(rules)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    offset = 1
    for turn in range(12):
        at = load.START + turn * load.EVERY
        for sensor in range(series):
            if turn < 8 - sensor % 9:
                continue  # this one has spoken from a later turn on: 4 to 12 times in all
            value = load.flow(offset, sensor, at).wire()
            event = decode(TrafficFlow, value, at)
            assert not isinstance(event, Rejection)
            judge.event(offset, at, event, zlib.crc32(value))
            offset += 1
    del event, value
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert judge.size() == series
    began = time.process_time()
    blobs = [judge.dump(n) for n in range(judge.buckets)]
    dumped = time.process_time()
    other = judge_of(rules)
    for n, blob in enumerate(blobs):
        other.load(n, blob)
    loaded = time.process_time()
    return {
        "samples": (offset - 1) / series,
        "held_bytes": held / series,
        "snapshot_bytes": sum(map(len, blobs)) / series,
        "largest_snapshot_bytes": float(max(map(len, blobs))),
        "dump_us": (dumped - began) / series * 1e6,
        "load_us": (loaded - dumped) / series * 1e6,
    }


def crowded(rules: int, series: int, stretches: int) -> tuple[float, float]:
    """Microseconds of CPU of a step with so many rules loaded, of which 4 apply, and so many series held; bytes a series.

    The bytes are those of the process (resident), with the 2 samples of each series that are held then.
    """
    judge = judge_of(
        load.ruleset([*(load.threshold(i) for i in range(4)), *map(load.not_here, range(rules - 4))])
    )
    gc.collect()
    before = _resident()
    offset = 1
    for turn in range(2):
        for sensor in range(series):
            at = load.START + turn * load.EVERY + sensor * load.EVERY // series
            judge.event(offset, at, load.flow(offset, sensor, at), offset)
            offset += 1
    gc.collect()
    held = (_resident() - before) / series
    settle()
    spent = []
    for n in range(stretches):
        at = load.START + 2 * load.EVERY + n * STRETCH * load.EVERY // series
        made = [load.flow(offset + i, (n * STRETCH + i) * 7919 % series, at) for i in range(STRETCH)]
        began = time.process_time()
        for event in made:
            judge.event(offset, at, event, offset)
            offset += 1
        spent.append((time.process_time() - began) / STRETCH)
    assert judge.size() == series
    return median(spent) * 1e6, held


def _resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - a file of the kernel
        return int(file.read().split()[1]) * resource.getpagesize()


def at_scale(series: int, stretches: int) -> dict[str, float]:
    """The figures of a whole city, by name."""
    found = {"json_loads_us (yardstick)": yardstick_us(6_000)}
    for rules in (10, 100, 1000):
        # Each in a process of its own: memory that another has freed would be counted as never taken.
        with get_context("spawn").Pool(1) as alone:
            step, held = alone.apply(crowded, (rules, series, stretches))
        found[f"step_us {rules} rules loaded, 4 apply, {series} series"] = step
        found[f"events/s/core of step, {rules} rules loaded"] = 1e6 / step
        found[f"resident bytes a series, {rules} rules loaded"] = held
    for samples in (1, 12, 30, 60, 120, 240):
        found[f"refold_us {samples} samples within L"] = refold_us(samples, load.typical(), series=100)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.core", description=__doc__)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--stretches", type=int, default=40, help=f"of {STRETCH} events that are timed")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    asked = parser.parse_args()
    found = at_scale(asked.series, asked.stretches)
    if asked.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{value:12,.1f}  {name}")


def measure(*, quick: bool) -> dict[str, float]:
    """Every figure of the core, by name."""
    settle()
    steps = 6_000 if quick else 24_000
    series = 1_000 if quick else 6_000
    typical = load.typical()
    found = {"json_loads_us (yardstick)": yardstick_us(steps), "decode_us": decode_us(steps)}
    three = {"step_us typical 3 rules": typical}
    apply = {
        f"step_us {n} rules apply": load.ruleset([load.threshold(i) for i in range(n)]) for n in (1, 4, 16)
    }
    others = [load.elsewhere(n) for n in range(500)]
    beside = {
        "step_us 4 rules apply, 500 do not": load.ruleset([*(load.threshold(i) for i in range(4)), *others])
    }
    silent = load.ruleset([*(load.threshold(i) for i in range(2)), load.absence()], SENSORS)
    found |= steps_us({**three, **apply, **beside, "step_us 3 rules, one is absence": silent}, steps)
    for samples in (12, 120):
        found[f"refold_us {samples} samples"] = refold_us(samples, typical)
    return found | {f"series {name}": value for name, value in memory(series, typical).items()}


if __name__ == "__main__":
    main()
