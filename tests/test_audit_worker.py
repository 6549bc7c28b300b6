"""The ledger's worker on an embedded broker: it counts what the store's group has passed, and its offsets carry the account."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from test_audit_account import FLOW, T0, S, flow

from audit import live, worker
from audit.account import Account
from audit.finder import Finder
from audit.spare import OneHasAll
from audit.worker import Worker, account_of, named_place
from bus import clients, headers
from bus.embedded import EmbeddedBroker
from bus.rejects import reject, reject_line
from bus.topics import partitions
from models.catalogue import LEDGER, REJECTED
from models.platform import PlatformEvent
from rules.load import default
from settings import Data, Kafka, Settings
from sinks.contract import Point, Record
from sinks.sqlite import SqliteStore

NAME = FLOW.name
KEY = b"s1"


class City:
    """A broker, a store that is only a group that commits and a file, and ledgers that come and go."""

    def __init__(self, broker, folder):
        self.broker, self.bootstrap, self.folder = broker, broker.bootstrap, folder
        kafka = Kafka(bootstrap=self.bootstrap, log_id="L", embedded=True, clock="writer")
        self.settings = Settings(kafka=kafka, data=Data(dir=folder))
        self.world = live.World(self.bootstrap, "", "L")

    async def put(self, *values, topic=NAME, key=KEY, stamp=T0, partition=0):
        offsets = []
        for value in values:
            sent = await self.producer.send_and_wait(
                topic,
                value,
                key=key,
                partition=partition,
                timestamp_ms=stamp // 1000,
                headers=headers.headers("x", topic, "/t", stamp),
            )
            offsets.append(sent.offset)
        return offsets

    async def reject(self, offset, value):
        record = SimpleNamespace(partition=0, offset=offset, value=value, key=KEY, timestamp=T0 // 1000)
        await self.producer.send_and_wait(REJECTED, **reject("L", NAME, record, "schema", "no"))

    async def stored(self, offset):
        """The store's group has passed this far."""
        await self.store_group.commit({TopicPartition(NAME, 0): offset})

    @asynccontextmanager
    async def ledger(self):
        """A worker, until it is left, as if by SIGKILL."""
        one = Worker(self.settings, self.bootstrap, "L")
        running = asyncio.create_task(one.run())
        try:
            yield one
            assert not running.done(), running.exception()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def account(self):
        return (await live.accounts(self.world)).get((NAME, 0), Account())

    async def until(self, **counts):
        async with asyncio.timeout(10):
            while (found := +(await self.account()).counts) != counts:  # noqa: ASYNC110 - it is another process's
                await asyncio.sleep(0.05)
        return found

    async def told(self):
        """What the ledger's topic said of our partition, in order."""
        said = clients.read_all(self.bootstrap, LEDGER, [0])
        return [json.loads(value) async for key, value in said if key == f"L/{NAME}/0".encode()]


@pytest.fixture(scope="module")
def wanted():
    """Only what is needed here: a broker is made in no time."""
    return {
        NAME: 1,
        **{t: n for t, n in partitions().items() if t in (REJECTED, LEDGER, PlatformEvent.topic.name)},
    }


@pytest.fixture
def run(tmp_path, wanted, monkeypatch):
    monkeypatch.setattr(worker.catalogue, "topics", lambda: {NAME: FLOW})
    monkeypatch.setattr(live, "_places", lambda: [(NAME, 0)])
    monkeypatch.setattr(
        worker, "SESSION_MS", 1500
    )  # who comes after a ledger that has left waits nearly as long

    def run(story):
        async def go():
            with EmbeddedBroker(wanted) as broker:
                city = City(broker, tmp_path)
                city.producer = clients.aio_producer(broker.bootstrap)
                city.store_group = clients.aio_consumer(
                    broker.bootstrap, "citywatch-store", auto_offset_reset="earliest"
                )
                city.store_group.subscribe([NAME])
                for client in (city.producer, city.store_group):
                    await client.start()
                try:
                    return await asyncio.wait_for(story(city), 40)
                finally:
                    for client in (city.producer, city.store_group):
                        await client.stop()

        return asyncio.run(go())

    return run


def test_only_what_the_store_has_passed_is_counted_and_the_offset_says_so(run):
    async def story(city):
        await city.put(flow(T0), flow(T0), flow(T0 - 400 * S, "b"))
        async with city.ledger() as one:
            await city.stored(2)
            await city.until(stored=1, duplicate=1)
            assert await one.unready() is None
            assert (await city.account()).next == 2
            await city.stored(3)
            await city.until(stored=1, duplicate=1, late=1)
        said = [(t["position"], t.get("late", 0)) for t in await city.told()]
        assert said == sorted(said)
        assert said[-1] == (2, 1)

    run(story)


def test_rejects_are_known_before_their_records_are_counted_and_those_of_nobody_are_missing(run):
    async def story(city):
        await city.put(b"{", flow(T0), b"}", flow(T0, "b", "s2"))
        await city.reject(0, b"{")
        await city.reject(3, b"refused by the store")
        await city.put(b"no reject at all", topic=REJECTED)
        await city.stored(4)
        async with city.ledger():
            await city.until(stored=1, rejected=2, unread=1)
            await city.reject(2, b"}")  # a store that was rewound says it after all
            await city.put(flow(T0 + S, "c"))
            await city.stored(5)
            await city.until(stored=2, rejected=3)

    run(story)


def test_a_ledger_that_comes_after_another_knows_what_was_before_and_counts_it_once(run):
    async def story(city):
        await city.put(flow(T0), flow(T0, "b", "s2"))
        await city.stored(2)
        async with city.ledger():
            await city.until(stored=2)
        await city.put(flow(T0), flow(T0, "c"), flow(T0, "c", revision=3))
        await city.stored(5)
        async with city.ledger():
            await city.until(stored=2, duplicate=1, conflict=1, corrected=1)
        again = await live.recount(city.world, await live.accounts(city.world), [])
        assert (again.records, again.differences) == (5, [])

    run(story)


def test_what_somebody_else_says_of_an_account_is_written_over_and_never_read_back(run):
    async def story(city):
        forged = json.dumps(
            {"log": "L", "topic": NAME, "partition": 0, "position": 10**9, "stored": 77}
        ).encode()
        key = f"L/{NAME}/0".encode()
        await city.put(flow(T0))
        await city.stored(1)
        async with city.ledger():
            await city.until(stored=1)
            await city.put(forged, topic=LEDGER, key=key)
            await until_last(city, stored=1, position=0)
        await city.put(forged, topic=LEDGER, key=key)
        again = await live.recount(city.world, await live.accounts(city.world), [])
        (difference,) = again.differences
        assert str(difference).startswith(
            f"{LEDGER}: the account of {NAME}/0 goes to offset {10**9}, and the log does not"
        )
        async with city.ledger():
            await until_last(city, stored=1, position=0)
            assert (await city.account()).counts == {"stored": 1}

    async def until_last(city, **wanted):
        async with asyncio.timeout(10):
            while not wanted.items() <= (await city.told())[-1].items():  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.1)

    run(story)


def test_an_account_without_a_group_is_taken_from_the_topic(run):
    """The group's offsets are kept for some days after the last ledger has left."""

    async def story(city):
        await city.put(flow(T0), flow(T0, "b", "s2"), flow(T0, "b", "s2"))
        said = {"log": "L", "topic": NAME, "partition": 0, "position": 1, "stored": 2}
        await city.put(b"no account", json.dumps(said).encode(), topic=LEDGER, key=f"L/{NAME}/0".encode())
        await city.stored(3)
        async with city.ledger():
            await city.until(stored=2, duplicate=1)

    run(story)


def test_rejects_that_the_broker_has_forgotten_are_asked_of_the_store(run, monkeypatch):
    async def story(city):
        store = SqliteStore(city.folder / "store.sqlite")
        record = SimpleNamespace(partition=0, offset=0, value=b"{", key=KEY, timestamp=0)
        kept = json.loads(reject("L", NAME, record, "schema", "no")["value"])
        await store.keep([Record("rejected", kept["id"], 0, kept)])
        await store.close()
        await city.put(b"{", flow(T0))
        await city.stored(2)
        async with city.ledger():
            await city.until(stored=1, rejected=1)

    began = Worker._begin

    async def begin(self, mine):
        await began(self, mine)
        self._gap = True  # as if the topic did not begin at its beginning

    monkeypatch.setattr(Worker, "_begin", begin)
    run(story)


def test_a_store_that_lacks_a_point_is_told_on_the_platforms_own_topic(run, monkeypatch):
    monkeypatch.setattr(worker, "ASK_S", 0.3)

    async def story(city):
        city.settings = city.settings.model_copy(
            update={"kafka": city.settings.kafka.model_copy(update={"clock": "log"})}
        )
        store = SqliteStore(city.folder / "store.sqlite")
        there = [
            Point("traffic_flow", (("segment_id", f"s{n}"),), T0, (("speed_kmh", 1.0),)) for n in range(3)
        ]
        await store.write(there[:2])
        await city.put(*[flow(T0, "a", f"s{n}") for n in range(3)])
        await city.stored(3)
        async with city.ledger():
            (missing,) = await events(city, 1)
            assert (missing["kind"], missing["component"]) == ("ledger_missing", "ledger")
            assert missing["detail"] == f"{NAME}: 1 lost on the way to the store, of 2026-01-01T00:00:00Z"
            await store.write(there)
            assert [e["kind"] for e in await events(city, 2)] == ["ledger_missing", "ledger_whole"]
        await store.close()

    async def events(city, n):
        async with asyncio.timeout(10):
            while True:
                said = [
                    json.loads(v)
                    async for _, v in clients.read_all(city.bootstrap, PlatformEvent.topic.name, [0])
                ]
                if len(said) >= n:
                    return said
                await asyncio.sleep(0.1)

    run(story)


# --- parts -----------------------------------------------------------------------------------------------------------


def test_one_member_has_everything_and_the_others_wait():
    cluster = SimpleNamespace(partitions_for_topic={"a": {0, 1}, "b": {0}}.get)
    members = {m: SimpleNamespace(subscription=["b", "a", "gone"]) for m in ("m2", "m1")}
    found = OneHasAll.assign(cluster, members)
    assert found["m1"].assignment == [("a", [0, 1]), ("b", [0]), ("gone", [])]
    assert found["m2"].assignment == []


@pytest.mark.parametrize("metadata", [None, "", "moved by hand", "[]", '{"stored": -1}'])
def test_metadata_of_others_is_no_account(metadata):
    assert account_of(5, metadata) is None


def test_an_account_comes_back_from_its_metadata_as_it_was():
    account = Account(7, T0, Counter(stored=5, unread=2), 3)
    assert account_of(7, worker._metadata(account)) == account


def test_a_reject_of_a_file_names_no_place():
    line = reject_line(NAME, "a.csv", 3, b"x", "schema", "no")["value"]
    assert named_place(line, "L") is None
    assert named_place(None, "L") is None
    record = SimpleNamespace(partition=1, offset=5, value=b"x", key=None, timestamp=0)
    value = reject("L", NAME, record, "schema", "no")["value"]
    assert named_place(value, "L") == (NAME, 1, 5)
    assert named_place(value, "M") is None


def test_a_reject_that_the_store_does_not_keep_is_missed_until_it_is_there():
    kept = {"r1"}

    async def lacking(_kind, ids):
        return set(ids) - kept

    store = SimpleNamespace(lacking=lacking)

    async def ends(_topics):
        raise AssertionError("there was nothing to look at")

    async def story():
        finder = Finder({NAME: {}}, {NAME: FLOW})
        finder._minutes[NAME].look = lambda _oldest: None
        for offset, id_ in enumerate(("r1", "r2", "r3")):
            finder.reject(offset, id_, NAME)
        said = []
        for passed in (2, 3):
            await finder.ask(store, ends, passed, 0)
            said += finder.found()
        kept.update({"r2", "r3"})
        await finder.ask(store, ends, 3, 0)
        return said + finder.found()

    said = asyncio.run(story())
    assert [kind for kind, _ in said] == ["ledger_missing", "ledger_missing", "ledger_whole"]
    assert (
        said[1][1]
        == f"{NAME}: 2 lost on the way to the store: 2 rejects are not kept, 0 records are neither events nor rejects"
    )


def test_the_platforms_own_rules_have_an_alarm_of_it():
    assert "ledger-missing" in {rule.id for rule in default().rules}
