"""Canaries through the processes of `citywatch up`: how long they take, and what is told while a judge stands still."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from browser import City
from real_influx import InfluxMissingError
from real_kafka import KafkaMissingError, jars

from bus import canary, clients
from console import watch
from console.canaries import FEEDS, Canaries
from console.desk import Desk
from console.past import Past
from console.tail import Tail
from console.watch import RULE, Watch
from models.catalogue import topics
from settings import Settings
from sinks.influxd import influxd

pytestmark = pytest.mark.slow

#: As the test has no minutes, a canary is sent every second, and one that is so old is missed.
LOST_S = 6.0
PARTITIONS = {t.name: t.partitions for t in topics().values()}

RULES = """\
rules:
- id: road-slow
  kind: threshold
  on: city.traffic.flow.v1
  by: [segment_id]
  title: {vi: "Đường rất chậm", en: "Road slow"}
  levels:
  - {priority: P2, raise: "speed_kmh < 10", clear: "speed_kmh >= 20"}
"""


@pytest.fixture(scope="module", params=[(), ("--real",)], ids=["embedded", "real"])
def city(request, tmp_path_factory):
    if request.param:
        try:
            jars()
            influxd()
        except (KafkaMissingError, InfluxMissingError) as missing:
            pytest.skip(str(missing))
    found = City(tmp_path_factory.mktemp("canary"), RULES, *request.param)
    found.embedded = not request.param
    yield found
    found.close()


def worker(city, role):
    """The process of a role, among the children of `up`."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            parent = next(s.split()[1] for s in status.read_text().splitlines() if s.startswith("PPid"))
            words = (status.parent / "cmdline").read_bytes().split(b"\0")
            if int(parent) == city.process.pid and role.encode() in words:
                return int(status.parent.name)
    raise AssertionError(f"up has no {role}")


@asynccontextmanager
async def a_console(city, monkeypatch):
    """A console's desk beside that of `up`, with less patience."""
    monkeypatch.setattr(watch, "ROUND_S", 0.5)
    monkeypatch.setattr(watch, "SETTLE_S", 2.0)
    bootstrap = json.loads((city.folder / "up.json").read_text())["bootstrap"]
    settings = Settings.model_validate(
        {"kafka": {"bootstrap": bootstrap, "embedded": city.embedded}, "data": {"dir": city.folder}}
    )
    desk, past = Desk(settings, "log"), Past(settings)
    desk.canaries = Canaries(PARTITIONS, time.monotonic_ns() // 1000, round(LOST_S * 1_000_000))
    desk.put_part(desk.parts["broker"].model_copy(update={"level": "ok"}))
    tasks = [
        asyncio.create_task(each)
        for each in (
            Tail(settings, bootstrap, desk, past).run(),
            Watch(settings, bootstrap, desk).run(),
            _send(bootstrap),
        )
    ]
    try:
        await asyncio.wait_for(desk.loaded.wait(), 30)
        yield desk
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await past.close()


async def _send(bootstrap):
    one = canary.record()
    async with clients.aio_producer(bootstrap) as producer:
        while True:
            for topic, count in PARTITIONS.items():
                for n in range(count):
                    await producer.send(topic, one.value, partition=n, headers=one.headers)
            await asyncio.sleep(1)


async def holds(what, ask, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.1)
    return found


def lost(desk):
    return {topic: one.lost for topic, one in desk.through().items() if one.lost}


def standing(desk):
    return {a.labels["component"]: a for a in desk.alarms.all() if a.rule == RULE}


def test_every_owner_sends_canaries_by_itself_and_the_console_of_up_hears_them(city):
    def heard():
        feeds = city.get("/api/health")["feeds"]
        return {f["topic"] for f in feeds if f["canary"]["at"] and not f["canary"]["lost"]} == set(PARTITIONS)

    asyncio.run(holds("a canary of every partition", heard))


def test_canaries_come_through_within_two_seconds(city, monkeypatch):
    async def go():
        async with a_console(city, monkeypatch) as desk:
            await holds("canaries", lambda: desk.canary_latency()["n"] > 300)
            desk.canary_latencies.clear()  # what came while everything began
            await holds("canaries", lambda: desk.canary_latency()["n"] > 600)
            took = desk.canary_latency()
            print(
                f"\n{took['n']} canaries: p50 {took['p50']:.3f} s, p99 {took['p99']:.3f} s, max {took['max']:.3f} s"
            )
            assert took["p50"] <= 2
            assert lost(desk) == {}
            assert standing(desk) == {}

    asyncio.run(go())


def test_a_judge_that_stands_still_is_told_and_its_alarm_ends_by_itself(city, monkeypatch):
    async def go():
        async with a_console(city, monkeypatch) as desk:
            await holds("every feed", lambda: all(one.at is not None for one in desk.through().values()))
            judge = worker(city, "judge")
            os.kill(judge, signal.SIGSTOP)
            stopped = time.monotonic()
            try:
                await holds("all feeds lost", lambda: lost(desk).keys() == PARTITIONS.keys())
                print(
                    f"\nsaid after {time.monotonic() - stopped:.1f} s (a canary is missed after {LOST_S:g} s)"
                )
                health = desk.health()
                assert all(feed.level == "bad" for feed in health.feeds)
                await holds("a health that says so", lambda: desk.health().level == "bad", 5)
                await asyncio.sleep(2)  # the platform is told
            finally:
                os.kill(judge, signal.SIGCONT)
            woken = time.monotonic()
            await holds("an alarm", lambda: FEEDS in standing(desk))
            print(f"an alarm {time.monotonic() - woken:.1f} s after the judge goes on")
            await holds("all comes through", lambda: not lost(desk))
            await holds("the alarm's end", lambda: not standing(desk)[FEEDS].active)
            print(f"over {time.monotonic() - woken:.1f} s after the judge goes on")
            alarm = standing(desk)[FEEDS]
            assert (alarm.priority, alarm.retracted) == ("P2", False)

    asyncio.run(go())
