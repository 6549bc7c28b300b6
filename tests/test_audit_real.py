"""The ledger's worker on real Kafka with both stores: what a sink drops or doubles on purpose is found, and forgery is not believed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from contextlib import closing
from dataclasses import replace

import pytest
from kafka import TopicPartition
from real import ROOT, environ
from real_influx import ORG, TOKEN, InfluxMissingError, RealInflux
from real_kafka import running

from audit import live
from bus import clients, headers, topics
from bus.clients import Feeder
from commands import ledger
from models.base import micros, moment
from models.catalogue import LEDGER
from models.traffic import TrafficFlow
from rules import load
from settings import read
from sinks.contract import Record, StoreError
from sinks.ledger import Line
from sinks.open import open_store

pytestmark = pytest.mark.slow

FLOW = TrafficFlow.topic.name
FOUND_S = 60.0


@pytest.fixture(scope="module")
def kafka():
    with running() as broker:
        yield broker


@pytest.fixture(scope="module")
def influx():
    try:
        server = RealInflux()
    except InfluxMissingError as missing:
        pytest.skip(f"needs InfluxDB as a process: {missing}")
    yield server
    server.close()


class City:
    """Workers on a Kafka, in the world of a prefix, the store's with a fault in its sink."""

    def __init__(self, kafka, folder, prefix, **store):
        self.bootstrap, self.folder, self.prefix = kafka.bootstrap, folder, prefix
        self.faults = folder / "faults"
        self.faults.write_text("")
        self.env = {
            **environ(),
            "CITYWATCH_KAFKA__BOOTSTRAP": kafka.bootstrap,
            "CITYWATCH_KAFKA__PREFIX": prefix,
            "CITYWATCH_DATA__DIR": str(folder),
            "PYTHONPATH": str(ROOT),
            "FAULTS": str(self.faults),
            **store,
        }
        self.settings = read({k: v for k, v in self.env.items() if k.startswith("CITYWATCH_")})
        self.sent, self.began = 0, time.time()
        self.workers = {}
        topics.apply(self.bootstrap, prefix)
        topics.publish_rules(self.bootstrap, prefix, load.default().canonical(), 0)
        for role in ("judge", "store", "alarms", "ledger"):
            self.start(role)

    def start(self, role):
        script = (
            [ROOT / "tests" / "faulty_store.py"]
            if role == "store"
            else ["-m", "cli", "worker", "--role", role]
        )
        env = self.env if role == "store" else {k: v for k, v in self.env.items() if k != "FAULTS"}
        with (self.folder / f"{role}.log").open("ab") as log:
            self.workers[role] = subprocess.Popen(
                [sys.executable, *map(str, script)], cwd=ROOT, env=env, stderr=log
            )

    def stop(self, role, how=signal.SIGKILL):
        os.kill(self.workers[role].pid, how)
        self.workers[role].wait()

    def close(self):
        for worker in self.workers.values():
            worker.terminate()
        for worker in self.workers.values():
            try:
                worker.wait(10)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    def feed(self, segments=("s1", "s2", "s3", "s4"), *, rounds=20, raw=()):
        """Events of now, a moment apart; `raw` are values that are none."""

        async def go():
            async with Feeder(self.bootstrap) as feeder:
                for _ in range(rounds):
                    now = time.time_ns() // 1000
                    for segment in segments:
                        self.sent += 1
                        event = TrafficFlow(
                            event_id=f"e{self.sent}",
                            source_id="t",
                            observed_at=moment(now),
                            segment_id=segment,
                            speed_kmh=50.0,
                        )
                        await self.put(
                            feeder, event.wire(), segment, event.event_id, micros(event.observed_at)
                        )
                    await feeder.flush()
                    await asyncio.sleep(0.02)
                for value in raw:
                    self.sent += 1
                    await self.put(feeder, value, "s1", f"e{self.sent}", None)

        asyncio.run(go())

    async def put(self, feeder, value, segment, id_, at):
        said = headers.headers(id_, FLOW, "/t", at)
        await feeder.send(
            clients.name(self.prefix, FLOW), segment.encode(), value, said, time.time_ns() // 1_000_000
        )

    def command(self, *words):
        """Exit code of `citywatch ledger`, the line of the flows, all that it says, and what it says beside."""
        env = {k: v for k, v in self.env.items() if k != "FAULTS"}
        done = subprocess.run(
            [sys.executable, "-m", "cli", "ledger", "--json", *words],
            cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stderr
        said = json.loads(done.stdout)
        return done.returncode, said["topics"].get(FLOW, {}), said, done.stderr

    def line(self):
        """The same line without a process of its own."""
        lines, _ = ledger._ask(Namespace(recount=False), self.settings)
        return lines.get(FLOW)

    def forged(self):
        """What the recount says of accounts that are not what the log says."""
        _, again = ledger._ask(Namespace(recount=True), self.settings)
        assert again.records >= self.sent
        return [str(difference) for difference in again.differences]

    def said(self):
        """What the ledger's worker says."""
        return (self.folder / "ledger.log").read_text()

    def until(self, true, what, seconds=FOUND_S):
        """For how long it was not so."""
        began = time.monotonic()
        while not true():
            for role, worker in self.workers.items():
                assert worker.poll() is None, (role, (self.folder / f"{role}.log").read_text()[-3000:])
            assert time.monotonic() - began < seconds, (what, self.line(), self.said()[-3000:])
            time.sleep(0.3)
        return time.monotonic() - began

    def settle(self):
        """Until all that was sent is accounted for; then its line."""
        self.until(lambda: self.accounted() == self.sent, "accounted for")
        return self.line()

    def accounted(self):
        """How many flows the ledger's group has in its account."""
        world = live.World(self.bootstrap, self.prefix, clients.log_id(self.bootstrap))
        found = asyncio.run(live.accounts(world))
        return sum(a.counts.total() for (topic, _), a in found.items() if topic == FLOW)

    def kept(self, kind):
        async def ask():
            try:
                store = open_store(self.settings, read_only=True)
            except StoreError:
                return []  # it is not made yet
            try:
                return await store.kept(kind)
            finally:
                await store.close()

        return asyncio.run(ask())

    def keep(self, record):
        async def put():
            store = open_store(self.settings)
            try:
                await store.keep([record])
            finally:
                await store.close()

        asyncio.run(put())

    def alarm(self):
        """Whether there is an alarm of what is missing: active, and what it says."""
        found = [r.body for r in self.kept("alarm") if r.body["rule"] == "ledger-missing"]
        return found[-1] if found else None


@pytest.fixture(scope="module", params=["sqlite", "influx"])
def city(request, kafka, tmp_path_factory):
    more = {}
    if request.param == "influx":
        server = request.getfixturevalue("influx")
        server.make_bucket("city")
        more = {"CITYWATCH_INFLUX__URL": server.url, "CITYWATCH_INFLUX__TOKEN": TOKEN, "CITYWATCH_INFLUX__ORG": ORG,
                "CITYWATCH_INFLUX__BUCKET": "city"}  # fmt: skip
    city = City(kafka, tmp_path_factory.mktemp(request.param), f"{request.param}.", **more)
    yield city
    city.close()


#: What is between Kafka and the worker is the same with every store.
only_sqlite = pytest.mark.parametrize("city", ["sqlite"], indirect=True)


def test_while_events_flow_nothing_seems_missing_and_at_the_end_all_is_there(city):
    city.feed()
    city.until(lambda: city.accounted() > 0, "the first of it")
    for ask in (city.line, city.line, city.line, lambda: city.command()[0]):
        feeding = threading.Thread(target=city.feed, kwargs={"rounds": 60})
        feeding.start()
        answer = ask()
        feeding.join()
        assert answer == 0 or (answer.exact and answer.accepted), answer
    city.feed(rounds=1, raw=[b"{", b"\xff", json.dumps({"event_id": "x"}).encode()])
    assert city.settle() == Line(city.sent, stored=city.sent - 3, rejected=3)
    assert city.alarm() is None


def test_a_write_that_the_sink_drops_is_found_within_a_minute_and_raises_an_alarm(city):
    city.faults.write_text("drop dropped-1\n")
    city.feed(["dropped-1"], rounds=1)
    took = city.until(lambda: (city.alarm() or {}).get("active"), "the alarm")
    print(f"found after {took:.1f} s")
    assert f"{FLOW}: 1 lost on the way to the store, of 20" in city.said()
    assert city.settle().missing == 1
    code, line, _, said = city.command()
    assert (code, line["exact"]) == (1, False)
    assert "1 accepted and found nowhere" in said


def test_a_point_under_a_second_identity_is_found_too(city):
    city.faults.write_text("double doubled-1\n")
    # From the first whole minute of every partition on, what other logs stored is no excuse.
    time.sleep(max(0, (city.began // 60 + 1) * 60 + 3 - time.time()))
    before = len(city.said())
    city.feed(["doubled-1"], rounds=3)
    took = city.until(lambda: f"{FLOW}: 2 stored twice" in city.said()[before:], "the doubling")
    print(f"found after {took:.1f} s")
    city.faults.write_text("")
    assert city.settle().missing == -2, "one was lost before, three are there twice now"


@only_sqlite
def test_a_ledger_that_is_killed_goes_on_with_the_same_figures(city):
    before = city.settle()
    for _ in range(3):
        city.feed(rounds=10)
        city.stop("ledger")
        city.start("ledger")
    more = city.sent - before.accepted
    assert more == 120
    assert city.settle() == replace(before, accepted=city.sent, stored=before.stored + more)
    assert city.forged() == []


@only_sqlite
def test_a_forged_account_in_the_topic_is_not_believed_and_is_named_and_written_over(city):
    city.settle()
    city.stop("ledger", signal.SIGTERM)
    place = (clients.name(city.prefix, LEDGER), 0)
    ours = [r for r in clients.records(city.bootstrap, place) if f"/{FLOW}/" in (r.key or b"").decode()]
    key, true = ours[-1].key, json.loads(ours[-1].value)

    def forge(**how):
        with closing(clients.producer(city.bootstrap)) as producer:
            producer.send(place[0], json.dumps(true | how).encode(), key, partition=0).get(10)

    def accounted():
        """Without what is stored: while nobody accounts for what comes, two that are there twice may be on their way."""
        return replace(city.line(), waiting=0, stored=0)

    before = accounted()
    forge(stored=true["stored"] + 5)
    code, _, said, text = city.command("--recount")
    assert (code, len(said["forged"]) >= 1) == (1, True)
    assert f"{LEDGER}: the account of {FLOW}/{true['partition']} says stored {true['stored'] + 5}" in text
    assert accounted() == before, "it is no part of the account"
    city.start("ledger")
    city.until(lambda: city.forged() == [], "written over")
    forge(position=10**12)  # and while it runs
    city.until(lambda: "that is not the ledger's own" in city.said(), "seen")
    city.until(lambda: city.forged() == [], "written over again")


def test_a_forged_account_in_the_store_is_named(city):
    city.settle()
    record = next(r for r in city.kept("ledger") if r.body["topic"] == FLOW and r.body.get("stored"))
    city.keep(record._replace(body={**record.body, "stored": record.body["stored"] - 1}))
    try:
        (forged,) = city.forged()
        assert forged.startswith(f"the store: the account of {FLOW}/{record.body['partition']} says stored")
    finally:
        city.keep(Record(*record))
    assert city.forged() == []


@only_sqlite
def test_a_second_ledger_waits_and_takes_over(city):
    first = city.workers.pop("ledger")
    city.start("ledger")
    time.sleep(4)
    city.feed(rounds=5)
    city.settle()
    first.kill()
    first.wait()
    city.feed(rounds=5)
    city.settle()
    assert city.forged() == []


@only_sqlite
def test_the_offset_carries_the_account(city):
    """Whoever asks Kafka itself sees it, and nobody can commit the one without the other."""
    city.settle()
    group, flows = f"{city.prefix}citywatch-ledger", clients.name(city.prefix, FLOW)
    with closing(clients.admin(city.bootstrap)) as admin:
        asked = [TopicPartition(flows, p) for p in range(TrafficFlow.topic.partitions)]
        found = admin.list_group_offsets({group: asked})[group]
    counts = [json.loads(at.metadata) for at in found.values() if at.metadata]
    assert sum(c.get("stored", 0) + c.get("rejected", 0) for c in counts) == city.sent
