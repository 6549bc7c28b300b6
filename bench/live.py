"""`python -m bench.live`: the whole centre on Apache Kafka and InfluxDB under load: how late alarms are on the console's stream, hop by hop.

With --store-down SECONDS the store is killed for that long in the middle: how much memory the workers take meanwhile, whether alarms are
late, and whether every point is there at the end. With --kill ROLE a worker is killed in the middle, and started again at once: how long
an alarm waited for that; with --only the other roles do not take the machine's time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bus import clients, headers
from models.base import micros
from models.keys import partition_of

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import chaos  # noqa: E402 - it lives with the tests
from truth import Truth, compare  # noqa: E402 - as above

from bench import load  # noqa: E402 - as above
from commands.servers import free_ports  # noqa: E402 - as above

#: Invariant I6: from the event in Kafka to the console's stream.
P50_S, P99_S = 0.5, 2.0
#: A worker that is killed is back in its place within this, under any load that it can bear.
RESTART_S = 10.0
SENSORS = 5_000
#: One event in so many starts or ends an alarm, twice in a row for one sensor.
FLIPS = 1_000
ROLES = ("judge", "store", "alarms", "ledger")
HOPS = ("judge", "alarm", "console", "store", "stored")


async def feed(bootstrap: str, rate: float, seconds: float, seed: int) -> int:
    """Feed events that say the time they are sent at, as even as this machine can; how many."""
    r, slow, sent = random.Random(seed), set[int](), 0
    began = time.monotonic()
    async with clients.Feeder(bootstrap) as feeder:
        while (passed := time.monotonic() - began) < seconds:
            for _ in range(round(passed * rate) - sent):
                sensor = r.randrange(SENSORS)
                if r.random() < 1 / FLIPS:
                    slow ^= {sensor}
                now = time.time_ns() // 1000
                event = load.flow(sent, sensor, now, speed=3.0 if sensor in slow else 45.0)
                key = event.segment_id.encode()
                ce = headers.headers(event.event_id, load.TOPIC.name, "/bench", None)
                place = partition_of(key, load.TOPIC.partitions)
                await feeder.send(load.TOPIC.name, key, event.wire(), ce, now // 1000, place)
                sent += 1
            await feeder.flush()
            await asyncio.sleep(0.005)
    return sent


class Listener:
    """A console's stream, as a browser has it: when each alarm was first told, against when its event was sent."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.began = time.time()
        self.took: list[tuple[float, float]] = []  # (when it was told, seconds)
        self._seen: set[str] = set()

    async def run(self) -> None:
        async with (
            httpx.AsyncClient(timeout=60) as client,
            client.stream("GET", f"{self.base}/api/stream") as answer,
        ):
            event = ""
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                elif name == "data" and event == "alarm":
                    self._alarm(json.loads(value))

    def _alarm(self, said: dict[str, Any]) -> None:
        if said["alarm_id"] in self._seen:
            return
        self._seen.add(said["alarm_id"])
        start = micros(datetime.fromisoformat(said["start"])) / 1e6
        if start > self.began:
            self.took.append((time.time(), time.time() - start))


def spread(seconds: list[float]) -> dict[str, float]:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98], "max": max(seconds), "n": len(seconds)}


def hops(ports: list[int]) -> dict[str, dict[str, float]]:
    """p50 and p99 of every hop, from the histograms of the processes: the upper bound of the bucket they fall into."""
    counts: dict[str, dict[float, float]] = {}
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            for family in text_string_to_metric_families(answer.read().decode()):
                for s in family.samples:
                    if s.name == "citywatch_latency_seconds_bucket":
                        mine = counts.setdefault(s.labels["hop"], {})
                        le = float(s.labels["le"])
                        mine[le] = mine.get(le, 0) + s.value
    return {hop: {p: _bound(mine, share) for p, share in (("p50", 0.5), ("p99", 0.99))} for hop, mine in counts.items()}  # fmt: skip


def _bound(cumulated: dict[float, float], share: float) -> float:
    total = max(cumulated.values())
    return next((le for le, n in sorted(cumulated.items()) if n >= share * total and total), 0.0)


def until_ready(urls: list[str], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    for url in urls:
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def live(arena: chaos.Arena, port: int, said: argparse.Namespace) -> dict[str, Any]:
    listener = Listener(f"http://127.0.0.1:{port}")
    listening = asyncio.create_task(listener.run())
    await asyncio.sleep(2)
    table: list[dict[str, Any]] = []
    began = time.monotonic()
    seconds, down = said.seconds, said.store_down
    feeding = asyncio.create_task(asyncio.to_thread(_fed_apart, arena.kafka.bootstrap, said.rate, seconds))
    is_down, away, back, victim = False, None, None, said.kill
    while not feeding.done():
        now = time.monotonic() - began
        if down and away is None and now > min(20, seconds / 6):
            arena.influx.kill(signal.SIGKILL)
            is_down, away = True, time.time()
        if is_down and time.time() - away > down:
            await asyncio.to_thread(arena.influx.start)
            is_down, back = False, time.time()
        if victim and now > seconds / 2:
            await asyncio.to_thread(arena.kill, 1, victim)
            victim = None
        if len(table) * 10 <= now:
            row = {w.role: round(resident_mb(w.process.pid)) for w in arena.workers}
            table.append({"at": round(now), "store": "down" if is_down else "up", **row})
            print(f"{now:5.0f} s, store {'down' if is_down else 'up':<5}" + "".join(f" {k} {v:4} MB" for k, v in row.items()), flush=True)  # fmt: skip
        await asyncio.sleep(0.2)
    fed = await feeding
    await asyncio.sleep(3)
    listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listening
    meanwhile = [s for at, s in listener.took if away is not None and away <= at <= (back or at)]
    return {"fed": fed, "took": [s for _, s in listener.took], "meanwhile": meanwhile, "memory": table}


def _fed_apart(bootstrap: str, rate: float, seconds: float) -> int:
    """In a process of its own: who measures must not be slowed by who feeds."""
    words = [sys.executable, "-m", "bench.live", "--feed", bootstrap, "--rate", str(rate), "--seconds", str(seconds)]  # fmt: skip
    return int(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def check(arena: chaos.Arena) -> str:
    """All that was fed is in the store, once."""
    settings = chaos.read({k: v for k, v in arena.environ.items() if k.startswith("CITYWATCH_")})
    truth = Truth(arena.kafka.bootstrap, clients.log_id(arena.kafka.bootstrap), [load.TOPIC.name])
    store = chaos.open_store(settings, read_only=True)
    there = asyncio.run(truth.in_store(store))
    return str(compare("points", truth.stored(), there["points"]))


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__)
    options.add_argument("--rate", type=float, default=5_000, help="events a second (5000)")
    options.add_argument("--seconds", type=float, default=60, help="of load (60)")
    options.add_argument(
        "--store-down", type=float, default=0, metavar="SECONDS", help="kill the store for so long"
    )
    options.add_argument(
        "--kill", choices=("judge", "alarms"), metavar="ROLE", help="kill this one in the middle"
    )
    options.add_argument(
        "--only", choices=ROLES, nargs="+", default=ROLES, metavar="ROLE", help="begin these workers alone"
    )
    options.add_argument("--feed", metavar="BOOTSTRAP", help=argparse.SUPPRESS)
    said = options.parse_args()
    if said.feed:
        print(asyncio.run(feed(said.feed, said.rate, said.seconds, 1)))
        return 0
    port, row = free_ports(1)[0], free_ports(4)[0]
    with chaos.Arena(1, judges=1) as arena:
        rows = [row + n for n, w in enumerate(arena.workers) if w.role in said.only]
        arena.workers = [w for w in arena.workers if w.role in said.only]
        arena.environ |= {"CITYWATCH_METRICS__PORT": str(row), "CITYWATCH_CHECKPOINT__SECONDS": "15"}
        arena.start()
        words = [sys.executable, "-m", "cli", "console", "--port", str(port)]
        with (arena.folder / "console.log").open("wb") as log:
            console = subprocess.Popen(
                words, env=arena.environ, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            until_ready([f"http://127.0.0.1:{p}/ready" for p in (*rows, port)])
            found = asyncio.run(live(arena, port, said))
            found["hops"] = hops([*rows, port])
        finally:
            console.terminate()
            console.wait()
        found["points"] = ""
        if "store" in said.only:
            arena.settle(300)
            found["points"] = check(arena)
    return told(found, said)


def told(found: dict[str, Any], said: argparse.Namespace) -> int:
    """The figures; whether they are within what is promised."""
    stream = spread(found["took"])
    print(
        f"{found['fed']:,} events at {found['fed'] / said.seconds:,.0f}/s on Kafka and InfluxDB; {stream['n']:.0f} alarms"
    )
    print(
        f"event sent to the console's stream: p50 {stream['p50']:.3f} s, p99 {stream['p99']:.3f} s, max {stream['max']:.3f} s"
    )
    if found["meanwhile"]:
        while_down = spread(found["meanwhile"])
        print(
            f"while the store was down: p50 {while_down['p50']:.3f} s, p99 {while_down['p99']:.3f} s ({while_down['n']:.0f} alarms)"
        )
    for hop in (h for h in HOPS if h in found["hops"]):
        print(
            f"hop {hop:<8} p50 within {found['hops'][hop]['p50']:g} s, p99 within {found['hops'][hop]['p99']:g} s"
        )
    print(found["points"] or "points: not looked at, there was no store")
    in_time = stream["max"] <= RESTART_S if said.kill else stream["p99"] <= P99_S
    return int(
        not (
            stream["p50"] <= P50_S
            and in_time
            and ("store" not in said.only or "all there once" in found["points"])
        )
    )


if __name__ == "__main__":
    sys.exit(main())
