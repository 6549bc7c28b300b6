"""The store is killed, hangs, refuses the token, is locked or has no room: it pauses alone, alarms are on time, and nothing is lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from outage_world import Feed, Workers, begin, faults, finish, until
from real_influx import ORG, InfluxMissingError, RealInflux
from real_kafka import KafkaMissingError, RealKafka

from bus import clients
from commands.servers import free_ports
from models.catalogue import ALARM_EVENT

pytestmark = pytest.mark.slow

MB = 1024 * 1024
#: No worker may take longer to stop, whoever is away.
STOP_S = 8.0


@pytest.fixture(scope="module")
def small():
    """A disk of its own of 600 MB, and what fills it."""
    folder = Path(tempfile.mkdtemp(prefix="citywatch-small-"))
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600m", "none", str(folder)], capture_output=True, text=True, check=False)  # fmt: skip
    if made.returncode:
        folder.rmdir()
        pytest.skip(f"needs to mount a small tmpfs: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


class Ballast:
    """Takes all room of a disk while it is entered."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "ballast"

    def __enter__(self) -> None:
        with self._file.open("wb", buffering=0) as out:
            try:
                while out.write(b"x" * MB):
                    pass
            except OSError:
                pass
            try:
                while out.write(b"x"):
                    pass
            except OSError:
                return

    def __exit__(self, *_exc: object) -> None:
        self._file.unlink()


@pytest.fixture(scope="module")
def parts(small):
    """Broker and store, both on the small disk."""
    tempfile.tempdir = str(small)
    try:
        kafka = RealKafka()
        influx = RealInflux()
    except (KafkaMissingError, InfluxMissingError) as missing:
        pytest.skip(f"needs Apache Kafka and InfluxDB 2 as processes: {missing}")
    finally:
        tempfile.tempdir = None
    begin(kafka.bootstrap)
    yield kafka, influx
    influx.close()
    kafka.close()


def told(kafka: RealKafka) -> int:
    """How many entries the history of alarms has."""
    return clients.end_offsets(kafka.bootstrap, [(ALARM_EVENT, 0)])[ALARM_EVENT, 0]


def rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB


def paused(port: int) -> str:
    """Why the store's worker is not ready; empty if it is."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port + 1}/ready", timeout=10) as answer:
            return "" if answer.status == 200 else str(answer.status)
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError as error:
        return f"nobody: {error}"


def filled(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as file:
            return bool(file.execute("SELECT count(*) FROM traffic_flow").fetchone()[0])
    except sqlite3.Error:
        return False


def test_influxdb_that_is_killed_hangs_or_refuses_pauses_the_store_alone(parts, tmp_path):
    kafka, influx = parts
    bucket = influx.make_bucket("outages")
    token = influx.make_token(("read", "buckets"), ("write", "buckets"), ("read", "orgs"))
    (mine,) = [
        a for a in influx.call("GET", "/api/v2/authorizations")["authorizations"] if a["token"] == token
    ]
    port = free_ports(3)[0]
    workers = Workers(
        kafka.bootstrap, tmp_path, INFLUX__URL=influx.url, INFLUX__TOKEN=token, INFLUX__ORG=ORG, INFLUX__BUCKET="outages",
        METRICS__PORT=str(port),
    )  # fmt: skip
    feed = Feed(kafka.bootstrap, 200)

    def out(what: str, why: str) -> None:
        """It says that it waits and for what; alarms go on meanwhile."""
        until(lambda: why in paused(port), what, 40, 0.2)
        before = told(kafka)
        until(lambda: told(kafka) > before + 20, f"alarms while {what}", 15)
        assert workers.ended() == {}

    def back(what: str) -> float:
        began = time.monotonic()
        until(lambda: paused(port) == "", f"it goes on by itself after {what}", 40, 0.1)
        return time.monotonic() - began

    took = {}
    try:
        assert bucket
        workers.start()
        feed.start()
        until(lambda: told(kafka) > 100 and paused(port) == "", "the city lives", 60, 0.2)
        store = workers.running["store"].pid
        memory = [rss_mb(store)]

        influx.kill()
        out("it is killed", "does not answer")
        time.sleep(8)
        memory.append(rss_mb(store))
        influx.start()
        took["killed"] = back("a kill")

        server = influx._server.process.pid
        os.kill(server, signal.SIGSTOP)
        time.sleep(1)
        began, before = time.monotonic(), told(kafka)
        until(lambda: told(kafka) > before + 20, "alarms while the store hangs", 15)
        workers.running["store"].send_signal(signal.SIGTERM)
        assert workers.running.pop("store").wait(60) == 0
        assert time.monotonic() - began < STOP_S + 15
        os.kill(server, signal.SIGCONT)
        workers.start("store")
        took["hung, and stopped meanwhile"] = back("a store that hangs")

        influx.call("PATCH", f"/api/v2/authorizations/{mine['id']}", {"status": "inactive"})
        out("its token is revoked", "CITYWATCH_INFLUX__TOKEN")
        assert token not in workers.log("store")
        influx.call("PATCH", f"/api/v2/authorizations/{mine['id']}", {"status": "active"})
        took["token"] = back("a token that is put right")
        memory.append(rss_mb(workers.running["store"].pid))

        with Ballast(influx.folder.parent):
            time.sleep(4)  # whoever writes to that disk finds no room: broker, store, or both
        # What an operator does: room is made, and whoever does not come back by itself is started again.
        ended = kafka.servers[0].process.poll() is not None
        print(
            f"\nno room: the broker {'ended' if ended else 'lives'}, the store's worker says {paused(port)!r}"
        )
        if ended:
            kafka.kill()
            kafka.start()
        influx.kill(signal.SIGTERM)
        influx.start()
        took["no room"] = back("there is room again")

        fed = feed.end()
        used = sum(p.stat().st_blocks * 512 for p in influx.folder.parent.rglob("*") if p.is_file()) // MB
        print(f"\n{used} MB on disk; fed {fed}; goes on after {took}; RSS of the store's worker {memory}")
        assert max(memory) < memory[0] + 80, "what waits is bounded, whatever comes in"
        found = finish(workers)
        assert faults(found) == []
        assert {v.what: v for v in found}["points"].expected == fed
    finally:
        feed.close()
        workers.close()


def test_sqlite_that_is_locked_or_full_pauses_the_store_alone_and_is_filled_from_the_topics(
    parts, small, tmp_path
):
    """The same log once more into another store: who reads it from its beginning has all of it."""
    kafka, _ = parts
    disk = Path(tempfile.mkdtemp(prefix="citywatch-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m", "none", str(disk)], check=True)
    with clients.admin(kafka.bootstrap) as admin:
        admin.delete_groups(["citywatch-store"])
    workers = Workers(kafka.bootstrap, disk)
    workers.logs = tmp_path
    try:
        with Ballast(disk):
            workers.start("store")
            until(
                lambda: "waiting: the store does not answer" in workers.log("store"),
                "it says that it waits",
                30,
            )
            assert workers.ended() == {}
        path = disk / "store.sqlite"
        until(lambda: filled(path), "what is in the topics is stored", 30)
        lock = sqlite3.connect(path, timeout=30, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        until(
            lambda: "WARNING citywatch: the store does not answer" in workers.log("store"),
            "it waits for the lock",
            40,
        )
        assert workers.ended() == {}
        lock.execute("ROLLBACK")
        lock.close()
        with Ballast(disk):
            time.sleep(6)
            assert workers.ended() == {}
        found = finish(workers)
        assert faults(found) == []
    finally:
        workers.close()
        subprocess.run(["umount", "-l", str(disk)], check=True)
        disk.rmdir()
