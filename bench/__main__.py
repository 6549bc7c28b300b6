"""`python -m bench`: judging and storing beside the same jobs without Faust, in one run; what the core costs."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import load, report
from bench.jobs import OWN, PREFIX, SOURCE, TOPIC
from bus import clients, headers, topics
from bus.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "results.jsonl"

#: A job that takes longer fails; a round that would probably end later is not begun.
JOB_S, BUDGET_S, QUICK_BUDGET_S = 90, 280, 55
#: What the embedded broker keeps of 4 partitions; real Kafka keeps all.
EMBEDDED_EVENTS = 32_000

#: (ours, the same job without Faust): run one after the other, in turns which comes first.
PAIRS = (("judge ours", "judge bare"), ("store ours", "store bare"))
CHECKPOINTED = "judge ours, checkpoints"


@contextmanager
def broker(*, embedded: bool) -> Iterator[tuple[str, str, Callable[[str, int], None]]]:
    """(bootstrap, what it is, how a topic is made): Apache Kafka as a process where it can be run, else the embedded broker."""
    why = "asked for"
    if not embedded:
        try:
            real = _real_kafka()
        except RuntimeError as missing:
            why = str(missing)
        else:
            try:
                topics.apply(real.bootstrap, PREFIX)
                yield (
                    real.bootstrap,
                    "Apache Kafka, one process on the other CPU",
                    partial(_create, real.bootstrap),
                )
            finally:
                real.close()
            return
    with EmbeddedBroker(topics.partitions(PREFIX)) as small:
        yield small.bootstrap, f"embedded ({why}): little input, one small batch a fetch", small.create


def _real_kafka() -> Any:
    """The broker of the slow tests. RuntimeError says what is missing here."""
    place = ROOT / "tests" / "real_kafka.py"
    if not place.exists():
        raise RuntimeError(f"{place.name} is not there")
    spec = importlib.util.spec_from_file_location("real_kafka", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RealKafka()


async def feed(bootstrap: str, count: int, sensors: int) -> None:
    """The rules and the input, into the log."""
    topics.publish_rules(bootstrap, PREFIX, load.typical().canonical(), load.START, load.START)
    async with clients.Feeder(bootstrap) as feeder:
        for record in load.records(count, sensors):
            said = headers.headers(record.event_id, load.TOPIC.name, SOURCE, record.stamp_ms * 1000)
            await feeder.send(TOPIC, record.key, record.value, said, record.stamp_ms, record.partition)


def run(job: str, cpu: int | None, *arguments: str) -> dict[str, Any]:
    """One job in its process. RuntimeError with the end of what it said if it fails or takes too long."""
    command = [sys.executable, "-m", "bench.jobs", job, *arguments]
    if cpu is not None:
        command += ["--cpu", str(cpu)]
    with tempfile.TemporaryDirectory(prefix="citywatch-bench-") as folder:
        try:
            ran = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, "TMPDIR": folder},  # what the job leaves goes with it
                capture_output=True,
                text=True,
                timeout=JOB_S,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            said = (late.stderr or b"")[-1000:]
            raise RuntimeError(f"{job} took longer than {JOB_S} s: {said!r}") from None
    if ran.returncode or not ran.stdout.strip():
        raise RuntimeError(f"{job} ended with {ran.returncode}: {ran.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    return found


def rounds(
    bootstrap: str,
    create: Callable[[str, int], None],
    cpu: int | None,
    most: int,
    end: float,
    *,
    checkpoints: bool,
) -> list[dict[str, Any]]:
    """Each round: every job by name. The two of a pair run one after the other; `end` is of time.monotonic()."""
    longest, found = 0.0, []
    for number in range(most):
        began = time.monotonic()
        if number and began + longest > end:
            print(f"time is up after {number} rounds", file=sys.stderr)
            break
        order = ["fetch", "decode"]
        for pair in PAIRS:
            order += pair if number % 2 else reversed(pair)
        if checkpoints:
            order.append(CHECKPOINTED)
        done: dict[str, Any] = {}
        for n, job in enumerate(order):
            name = f"{number}-{n}"
            if job in OWN:
                create(f"{clients.name(PREFIX, OWN[job])}.{name}", 4)
            done[job] = run(job, cpu, "--bootstrap", bootstrap, "--run", name)
            said = done[job]["cpu_s"] / done[job]["events"] * 1e6
            print(f"round {number + 1}: {job}: {said:.1f} us CPU an event", file=sys.stderr)
        _same(done)
        found.append(done)
        longest = max(longest, time.monotonic() - began)
    return found


def _create(bootstrap: str, topic: str, partitions: int) -> None:
    with closing(clients.admin(bootstrap)) as client:
        wanted = {"num_partitions": partitions, "replication_factor": 1}
        client.create_topics({topic: wanted}, wait_for_metadata=True)


def _same(done: dict[str, Any]) -> None:
    """Both of a pair must have done the whole job, or their times mean nothing."""
    for ours, bare in PAIRS:
        for what in ("events", "stored"):
            assert done[ours][what] == done[bare][what], f"{ours}: {what} {done[ours]} and {done[bare]}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute, for a first look")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    parser.add_argument("--record", action="store_true", help=f"append them to {RESULTS.relative_to(ROOT)}")
    parser.add_argument(
        "--embedded", action="store_true", help="the embedded broker, though Kafka can be run"
    )
    parser.add_argument("--events", type=int, help="of input; 120,000 unless told")
    parser.add_argument("--rounds", type=int, help="3 unless told")
    asked = parser.parse_args()
    end = time.monotonic() + (QUICK_BUDGET_S if asked.quick else BUDGET_S)
    cpus = sorted(os.sched_getaffinity(0))
    cpu = cpus[0] if len(cpus) > 1 else None
    if cpu is not None:
        os.sched_setaffinity(0, set(cpus[1:]))  # the broker and whoever feeds it
    core = run("core", cpu, *(["--quick"] if asked.quick else []))
    sensors = 2_000
    with broker(embedded=asked.embedded) as (bootstrap, what, create):
        embedded = what.startswith("embedded")
        events = asked.events or (20_000 if asked.quick else 120_000)
        events = min(events, EMBEDDED_EVENTS) if embedded else events
        asyncio.run(feed(bootstrap, events, sensors))
        most = asked.rounds or (2 if asked.quick else 3)
        done = rounds(bootstrap, create, cpu, most, end, checkpoints=not asked.quick)
    found = {
        "at": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
        "python": platform.python_version(),
        "cpus": len(cpus),
        "broker": what,
        "events": events,
        "sensors": sensors,
        "rounds": done,
        "ratios": {
            f"{ours} / {bare}": report.ratios(done, ours, bare)
            for ours, bare in (*PAIRS, (CHECKPOINTED, PAIRS[0][1]))
        },
        "core": core,
    }
    if asked.record:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(found) + "\n")
    print(json.dumps(found) if asked.json else report.table(found))


if __name__ == "__main__":
    main()
