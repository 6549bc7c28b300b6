"""`python -m bench.sizing`: what an event costs on Apache Kafka, in the workers, in InfluxDB and in SQLite: CPU, memory, bytes on disk.

All that is paid: broker and store, too. Every process says its own CPU time, so other work on the machine changes little.
About 3 minutes. --rate feeds evenly (batches of a living city are small, and cost more); the default is as fast as it goes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from real_influx import ORG, TOKEN, RealInflux  # noqa: E402 - it lives with the tests
from real_kafka import RealKafka  # noqa: E402 - as above

from bench import load  # noqa: E402 - as above
from bus import clients, headers, topics  # noqa: E402 - as above
from commands.rewind import rewind  # noqa: E402 - as above
from models.catalogue import JUDGE_STATE  # noqa: E402 - as above
from models.keys import partition_of  # noqa: E402 - as above

SENSORS = 5_000
BUCKET = "sizing"
ROLES = ("judge", "store", "alarms", "ledger")


async def feed(bootstrap: str, count: int, rate: float | None) -> None:
    """Events that say the time at which they are sent."""
    began = time.monotonic()
    async with clients.Feeder(bootstrap) as feeder:
        for n in range(count):
            if rate and not n % 50:
                await feeder.flush()
                await asyncio.sleep(max(0.0, n / rate - (time.monotonic() - began)))
            now = time.time_ns() // 1000
            event = load.flow(n, n % SENSORS, now)
            key = event.segment_id.encode()
            said = headers.headers(event.event_id, load.TOPIC.name, "/bench", None)
            place = partition_of(key, load.TOPIC.partitions)
            await feeder.send(load.TOPIC.name, key, event.wire(), said, now // 1000, place)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))


def size(*places: Path) -> int:
    """Bytes that the files in these folders take on the disk: some are made long and left empty."""
    return sum(p.stat().st_blocks * 512 for place in places for p in place.rglob("*") if p.is_file())


def logs(kafka: RealKafka, topic: str) -> int:
    """Bytes of a topic, with its indexes."""
    return size(*(p for p in kafka.folder.glob("*/*/*") if p.name.rpartition("-")[0] == topic))


class Workers:
    """Processes of every role, with these settings."""

    def __init__(self, kafka: RealKafka, folder: Path, roles: tuple[str, ...], **settings: str) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith("CITYWATCH_")}
        env |= {"CITYWATCH_KAFKA__BOOTSTRAP": kafka.bootstrap, "CITYWATCH_DATA__DIR": str(folder), **settings}
        self.log = (folder / "workers.log").open("ab")
        words = [sys.executable, "-m", "cli", "worker", "--role"]
        self.running = {
            r: subprocess.Popen([*words, r], cwd=ROOT, env=env, stderr=self.log, stdout=self.log)
            for r in roles
        }

    def check(self) -> None:
        ended = {
            role: process.returncode for role, process in self.running.items() if process.poll() is not None
        }
        assert not ended, f"workers ended: {ended}; {Path(self.log.name).read_text()[-2000:]}"

    def close(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            process.wait(30)
        self.log.close()


def until_read(workers: Workers, bootstrap: str, group: str, within_s: float) -> None:
    """Until the group has passed all that is in the topic of the flows."""
    places = [(load.TOPIC.name, n) for n in range(load.TOPIC.partitions)]
    ends, deadline = clients.end_offsets(bootstrap, places), time.monotonic() + within_s
    while any(clients.committed(bootstrap, group, places).get(p, 0) < ends[p] for p in places):
        workers.check()
        assert time.monotonic() < deadline, f"{group} has not read all within {within_s:.0f} s"
        time.sleep(1)


def measure(count: int, rate: float | None, **settings: str) -> dict[str, Any]:
    kafka, influx = RealKafka(), RealInflux()
    with tempfile.TemporaryDirectory(prefix="citywatch-sizing-") as name:
        folder = Path(name)
        try:
            return _measure(kafka, influx, folder, count, rate, settings)
        finally:
            influx.close()
            kafka.close()


def _measure(
    kafka: RealKafka, influx: RealInflux, folder: Path, count: int, rate: float | None, more: dict[str, str]
) -> dict[str, Any]:
    topics.apply(kafka.bootstrap)
    topics.publish_rules(kafka.bootstrap, "", load.typical().canonical(), time.time_ns() // 1000)
    influx.make_bucket(BUCKET)
    settings = {
        "CITYWATCH_INFLUX__URL": influx.url, "CITYWATCH_INFLUX__TOKEN": TOKEN, "CITYWATCH_INFLUX__ORG": ORG,
        "CITYWATCH_INFLUX__BUCKET": BUCKET, **more,
    }  # fmt: skip
    workers = Workers(kafka, folder, ROLES, **settings)
    try:
        pids = {role: process.pid for role, process in workers.running.items()}
        pids |= {"kafka": kafka.servers[0].process.pid, "influxdb": influx._server.process.pid}
        time.sleep(15)  # each has joined its group, and its start is not counted
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        began = time.monotonic()
        asyncio.run(feed(kafka.bootstrap, count, rate))
        for role in ("judge", "store", "ledger"):
            until_read(workers, kafka.bootstrap, f"citywatch-{role}", 120 + count / 1000)
        took = time.monotonic() - began
        found: dict[str, Any] = {
            "events": count, "sensors": SENSORS, "seconds": round(took, 1), "per_second": round(count / took),
            "cpu_us": {name: round((cpu_s(pid) - before[name]) / count * 1e6, 1) for name, pid in pids.items()},
            "memory_mb": {name: round(peak_mb(pid)) for name, pid in pids.items()},
        }  # fmt: skip
    finally:
        workers.close()
    found["bytes"] = {
        "kafka": round(logs(kafka, load.TOPIC.name) / count),
        "checkpoints, before the broker compacts them": round(logs(kafka, JUDGE_STATE) / count),
    }
    found["bytes"]["sqlite"] = round(_sqlite(kafka, folder, count) / count)
    found["bytes"]["influxdb"] = round(_compacted(influx) / count)
    return found


def _sqlite(kafka: RealKafka, folder: Path, count: int) -> int:
    """The same events once more, into a file."""
    rewind(kafka.bootstrap, "citywatch-store", None)
    workers = Workers(kafka, folder, ("store",))
    try:
        until_read(workers, kafka.bootstrap, "citywatch-store", 120 + count / 1000)
    finally:
        workers.close()
    return sum(path.stat().st_size for path in folder.glob("store.sqlite*"))


def _compacted(influx: RealInflux) -> int:
    """The size of its files when it has written them as it does after some hours of rest; a minute at most."""
    words = [
        "--storage-cache-snapshot-write-cold-duration",
        "1s",
        "--storage-compact-full-write-cold-duration",
        "5s",
    ]
    influx.kill(signal.SIGTERM)
    with (influx.folder / "resting.log").open("wb") as log:
        resting = subprocess.Popen([*influx._server.what.command(), *words], stdout=log, stderr=log)
    engine = influx.folder / "engine"
    try:
        deadline, last, since = time.monotonic() + 60, -1, time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - since < 15:
            if (now := size(engine)) != last:
                last, since = now, time.monotonic()
            time.sleep(1)
    finally:
        resting.terminate()
        resting.wait(30)
    assert size(engine / "data") > size(engine / "wal"), "its points are still in its journal"
    return last


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.sizing", description=__doc__)
    options.add_argument("--events", type=int, default=200_000)
    options.add_argument("--rate", type=float, help="events a second (as fast as it goes)")
    options.add_argument(
        "--checkpoint-bytes", type=int, help="CITYWATCH_CHECKPOINT__BYTES (as it is shipped)"
    )
    said = options.parse_args()
    more = {"CITYWATCH_CHECKPOINT__BYTES": str(said.checkpoint_bytes)} if said.checkpoint_bytes else {}
    print(json.dumps(measure(said.events, said.rate, **more), indent=1))


if __name__ == "__main__":
    main()
