"""A store that is lost comes back from a backup and from the log, and judges from the log, on real Kafka; each as an operator does it."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
import sys
import tarfile
import time
import urllib.parse
from contextlib import closing
from types import SimpleNamespace

import pytest
from cli_world import reject
from kafka import TopicPartition
from outage_world import FLOW, Feed, Workers, begin, faults, unread, until, verdicts
from real import ROOT
from real_influx import ORG, TOKEN, InfluxMissingError, RealInflux
from real_kafka import KafkaMissingError, RealKafka

from bus import clients
from settings import read
from sinks import influxd
from sinks.contract import Query
from sinks.erase import erase
from sinks.open import open_store

pytestmark = pytest.mark.slow

EVERY = ("judge", "store", "alarms", "ledger")


class City(SimpleNamespace):
    """Workers on a Kafka that has been fed, a backup that was taken meanwhile, and what the store held in the end."""

    def run(self, *words, expect=0, folder=None):
        """A command, as whoever operates these workers would give it; what it printed, and what it said."""
        env = self.workers.environ() | ({"CITYWATCH_DATA__DIR": str(folder)} if folder else {})
        done = subprocess.run(
            [sys.executable, "-m", "cli", *map(str, words)],
            cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == expect, (words, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout, done.stderr

    def stop(self):
        for name in list(self.workers.running):
            self.workers.kill(name, signal.SIGTERM)

    def work(self, *roles):
        """Start workers, with no clock that moves the log on, and wait until all is read and accounted for."""
        self.workers.start(*(roles or EVERY), environ={"CITYWATCH_KAFKA__CLOCK": "writer"})
        until(lambda: not unread(self.workers.bootstrap), "all is read", within=90, every=0.5)
        until(self.is_exact, "the ledger is exact", within=60, every=1)

    def is_exact(self):
        topics = json.loads(self.ledger())["topics"]
        return topics[FLOW.name]["accepted"] > 100 and all(
            t["exact"] and not t.get("waiting") for t in topics.values()
        )

    def ledger(self):
        done = subprocess.run(
            [sys.executable, "-m", "cli", "ledger", "--json"],
            cwd=ROOT, env=self.workers.environ(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    def held(self):
        """All that is in the store."""
        given = {k: v for k, v in self.workers.environ().items() if k.startswith("CITYWATCH_")}

        async def ask():
            store = open_store(read(given), read_only=True)
            points = {m: await store.read(Query(m)) for m in await store.measurements()}
            records = {k: await store.kept(k) for k in ("alarm_event", "alarm", "rejected", "ledger")}
            await store.close()
            for record in records["ledger"]:  # where in its topic the account was told last
                del record.body["position"]
            records["ledger"] = sorted((r._replace(time=0) for r in records["ledger"]), key=lambda r: r.id)
            return points, records

        return asyncio.run(ask())

    def lose_the_store(self):
        for path in self.workers.folder.glob("store.sqlite*"):
            path.unlink()


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    try:
        kafka = RealKafka()
    except KafkaMissingError as missing:
        pytest.skip(f"needs Apache Kafka as a process: {missing}")
    folder = tmp_path_factory.mktemp("city")
    city = City(workers=Workers(kafka.bootstrap, folder), backup=folder.parent / "backup")
    feed = Feed(kafka.bootstrap)
    try:
        begin(kafka.bootstrap)
        (folder / "token.key").write_text("ab" * 32)
        city.workers.start(*EVERY)
        feed.start()
        with clients.producer(kafka.bootstrap) as producer:
            producer.send(FLOW.name, b"no event", b"s01").get(10)
            until((folder / "store.sqlite").exists, "a store")
            time.sleep(4)
            city.run("backup", city.backup)  # while everything runs
            producer.send(FLOW.name, b"no event either", b"s01").get(10)
            time.sleep(3)
        city.sent = feed.end()
        city.stop()
        city.work()
        city.before = city.held()
        yield city
    finally:
        feed.close()
        city.workers.close()
        kafka.close()


def test_a_store_that_is_lost_comes_back_from_the_backup_and_the_log_fills_what_came_since(city):
    points, records = city.before
    assert len(points["traffic_flow"]) == city.sent
    assert len(records["rejected"]) == 2
    assert records["alarm"]
    city.stop()
    city.lose_the_store()
    (city.workers.folder / "token.key").unlink()
    out, _ = city.run("restore", city.backup, "--json")
    told = json.loads(out)
    assert told["brought"] == ["store.sqlite", "token.key"]
    assert 0 < told["again"] < city.sent * 2  # not from the beginning
    assert (city.workers.folder / "token.key").read_text() == "ab" * 32
    fewer, _ = city.held()
    assert 0 < len(fewer["traffic_flow"]) < city.sent  # the backup really was older
    city.work("store", "ledger")
    assert city.held() == city.before


def test_a_store_without_a_backup_is_rebuilt_from_the_topics(city):
    _, said = city.run("rewind", "--role", "store", expect=2)
    assert "citywatch-store has 1 members" in said
    city.stop()
    city.lose_the_store()
    out, _ = city.run("rewind", "--role", "store", "--json")
    moved = json.loads(out)["partitions"]
    assert sum(m["from"] - m["to"] for name, m in moved.items() if name.startswith(FLOW.name)) >= city.sent
    city.work("store", "ledger")
    assert city.held() == city.before


def test_a_bundle_of_a_city_that_runs_has_its_lags_its_topics_and_its_ledger(city, tmp_path):
    city.run("doctor", "--bundle", tmp_path / "city.tar.gz")
    with tarfile.open(tmp_path / "city.tar.gz") as tar:
        found = {
            name: json.load(tar.extractfile(f"city/{name}.json")) for name in ("groups", "topics", "ledger")
        }
    store, judge = (found["groups"][f"citywatch-{role}"] for role in ("store", "judge"))
    assert (store["members"], store["state"]) == (1, "Stable")
    assert judge["partitions"][f"{FLOW.name}/0"]["end"] > 0
    assert found["topics"] == []
    assert found["ledger"]["topics"][FLOW.name]["accepted"] == city.sent + 2


def test_a_group_goes_back_to_a_time_and_never_forward(city):
    city.stop()
    out, _ = city.run(
        "rewind", "--role", "store", "--to", "2020-01-01T00:00:00Z", "--topics", FLOW.name, "--json"
    )
    assert {name.rpartition("/")[0] for name in json.loads(out)["partitions"]} == {FLOW.name}
    out, _ = city.run("rewind", "--role", "store", "--to", "2100-01-01T00:00:00Z", "--json")
    assert all(m["from"] == m["to"] for m in json.loads(out)["partitions"].values())  # never forward


def test_judge_and_alarms_are_built_again_from_the_log_and_say_nothing_new(city):
    city.stop()
    for role in ("judge", "alarms"):
        out, _ = city.run("rewind", "--role", role, "--json")
        told = json.loads(out)
        assert told["buried"] > 0
        assert all(m["to"] == 0 for m in told["partitions"].values())
    city.work()
    assert city.held() == city.before
    city.stop()
    assert not faults(verdicts(city.workers))


def test_a_judge_whose_log_has_lost_its_beginning_is_left_where_it_is(city):
    city.stop()
    group, place = "citywatch-judge", (FLOW.name, 1)
    with closing(clients.admin(city.workers.bootstrap)) as admin:
        before = clients.group_offsets(admin, group, [place])
        admin.delete_records({TopicPartition(*place): 5})
        _, said = city.run("rewind", "--role", "judge", expect=2)
        assert f"{FLOW.name}/1 begins at offset 5" in said
        assert clients.group_offsets(admin, group, [place]) == before


def test_nothing_is_written_over_and_a_damaged_backup_is_refused(city, tmp_path):
    city.stop()
    _, said = city.run("restore", city.backup, expect=2)
    assert "store.sqlite is there: move it away first" in said
    _, said = city.run("backup", city.backup, expect=2)
    assert "is not empty" in said
    with (city.backup / "store.sqlite").open("r+b") as file:
        file.seek(5000)
        file.write(b"x")
    _, said = city.run("restore", city.backup, expect=2, folder=tmp_path)
    assert "is not what was backed up" in said
    assert not list(tmp_path.iterdir())


def test_a_reject_that_is_erased_is_gone_from_influxdb_also_where_it_was_larger(tmp_path):
    try:
        server = RealInflux()
    except InfluxMissingError as missing:
        pytest.skip(f"needs InfluxDB as a process: {missing}")
    try:
        server.make_bucket("erase")
        given = {"URL": server.url, "TOKEN": TOKEN, "ORG": ORG, "BUCKET": "erase"}
        settings = read({f"CITYWATCH_INFLUX__{name}": value for name, value in given.items()})
        said = "Trần Thị Bình".encode()
        # One of them is so large that its body takes more fields than what is left of it.
        records = [reject("small", said), reject("large", said * 40_000), reject("other", b"Hoa")]

        async def go():
            store = open_store(settings)
            await store.keep(records)
            await erase(settings, records[:2])
            kept = {r.id: r.body for r in await store.kept("rejected")}
            counts = await store.tally("rejected", ("reason",))
            await store.close()
            return kept, counts

        kept, counts = asyncio.run(go())
        assert kept["small"]["bytes"] == kept["large"]["bytes"] == ""
        assert kept["large"]["length"] == len(said) * 40_000
        assert kept["other"] == records[2].body
        assert counts == {("not_json",): 3}
        query = 'SELECT * FROM "citywatch.rejected"'
        address = f"{server.url}/query?db=erase&q={urllib.parse.quote(query)}"
        answered = influxd.call(address, token=TOKEN)
        text = json.dumps(answered)
        assert base64.b64encode(said).decode()[:16] not in text
        assert "body1" not in text
        assert base64.b64encode(b"Hoa").decode() in text  # it is there that one has to look
    finally:
        server.close()
