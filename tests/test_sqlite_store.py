"""The embedded store keeps the contract, and its file survives what files meet."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from math import fsum
from pathlib import Path
from random import Random

import pytest
from store_contract import HOUR, SECOND, T0, StoreContract, flow

from sinks import sqlite
from sinks.contract import Point, Query, Record, StoreError, Unavailable
from sinks.sqlite import SqliteStore

ROOT = Path(__file__).parents[1]


class TestTheContract(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path
        self.numbers = itertools.count()

    def fresh(self):
        return SqliteStore(self.folder / f"{next(self.numbers)}.db")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kho dữ liệu #1?.db"


def run(path, story, *, read_only=False):
    async def told():
        store = SqliteStore(path, read_only=read_only)
        try:
            return await story(store)
        finally:
            await store.close()

    return asyncio.run(told())


def test_what_was_written_is_there_after_reopening(path):
    async def write(store):
        await store.write([flow(1.0)])
        await store.keep([Record("alarm", "a", T0, {"position": 3})])

    async def again(store):
        await store.write([flow(2.0, at=T0 + SECOND), Point("traffic_flow", (), T0, (("new", True),))])
        await store.keep([Record("alarm", "a", T0, {"position": 2})])
        return await store.read(Query("traffic_flow")), await store.kept("alarm")

    run(path, write)
    rows, alarms = run(path, again)
    assert len(rows) == 3
    assert [a.body for a in alarms] == [{"position": 3}]


def test_closing_twice_is_no_mistake(path):
    async def story(store):
        await store.close()

    run(path, story)


def test_sum_and_mean_over_many_values_are_those_of_fsum(path):
    random = Random(7)
    values = [random.gauss(0, 1) * 10 ** random.uniform(-6, 6) for _ in range(30_000)]
    points = [
        flow(v, at=T0 + n // 207 * SECOND, tags=(("segment_id", str(n % 207)),)) for n, v in enumerate(values)
    ]

    async def story(store):
        for start in range(0, len(points), 5000):
            await store.write(points[start : start + 5000])
        return [await store.read(Query("traffic_flow", agg=agg)) for agg in ("sum", "mean", "count")]

    (total,), (mean,), (count,) = run(path, story)
    assert total.fields["speed_kmh"] == pytest.approx(fsum(values), rel=1e-9)
    assert mean.fields["speed_kmh"] == pytest.approx(fsum(values) / len(values), rel=1e-9)
    assert count.fields["speed_kmh"] == len(values)


# ---- opening


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p.write_bytes(b"time,speed\n" * 500), "no SQLite file"),
        (lambda p: _foreign(p, "CREATE TABLE x (y)"), "another program"),
        (lambda p: _foreign(p, "PRAGMA user_version = 3"), "another program"),
        (
            lambda p: _foreign(
                p, f"PRAGMA application_id = {sqlite._APPLICATION}", "PRAGMA user_version = 99"
            ),
            "format 99",
        ),
        (lambda p: p.mkdir(), "no (file|store)"),
    ],
)
def test_a_file_that_is_no_store_of_ours_is_named_and_left_as_it_was(path, make, says, read_only):
    make(path)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(StoreError, match=says) as error:
        SqliteStore(path, read_only=read_only)
    assert str(path) in str(error.value)
    assert before is None or path.read_bytes() == before


def _foreign(path, *statements):
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.close()


def test_a_reader_of_nothing_is_told_so(path):
    with pytest.raises(StoreError, match="no store here"):
        SqliteStore(path, read_only=True)
    path.touch()
    with pytest.raises(StoreError, match="nothing has been stored"):
        SqliteStore(path, read_only=True)


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(StoreError, match="no-such"):
        SqliteStore(tmp_path / "no-such" / "city.db")


def test_a_torn_file_stops_loudly_and_not_as_an_outage(path):
    async def fill(store):
        await store.write([flow(float(n), at=T0 + n) for n in range(5000)])

    run(path, fill)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 8192))

    async def read(store):
        return await store.read(Query("traffic_flow", agg="sum"))

    with pytest.raises(StoreError, match="malformed"):
        run(path, read)


# ---- several processes


def test_a_reader_sees_each_batch_whole_while_another_process_writes(path):
    run(path, lambda store: store.write([]))
    writer = _writer(path)

    async def story(store):
        seen = []
        deadline = time.monotonic() + 20
        while len(set(seen)) < 5 and time.monotonic() < deadline:
            rows = await store.read(Query("traffic_flow", agg="count", fields=("speed_kmh",)))
            seen.append(rows[0].fields["speed_kmh"] if rows else 0)
        return seen

    try:
        seen = run(path, story, read_only=True)
    finally:
        writer.kill()
        writer.communicate()
    assert len(set(seen)) >= 5
    assert seen == sorted(seen)
    assert all(n % _BATCH == 0 for n in seen)


@pytest.mark.parametrize("seed", range(3))
def test_sigkill_in_the_middle_of_a_batch_loses_nothing_acknowledged(path, seed):
    random = Random(seed)
    writer = _writer(path)
    acknowledged = [int(writer.stdout.readline()) for _ in range(random.randint(1, 8))]
    time.sleep(random.uniform(0, 0.02))
    writer.send_signal(signal.SIGKILL)
    rest = writer.communicate()[0].split()
    acknowledged += [int(n) for n in rest]

    async def story(store):
        return await store.read(Query("traffic_flow")), await store.kept("ledger")

    rows, ledger = run(path, story, read_only=True)  # the first to open the torn journal may be a reader
    batches = {int(row.fields["speed_kmh"]) for row in rows}
    assert batches >= set(acknowledged)
    assert len(rows) == len(batches) * _BATCH
    assert {int(r.id) for r in ledger} >= set(acknowledged)

    async def go_on(store):
        await store.write([flow(-1.0)])
        return await store.count("traffic_flow", late=False)

    assert run(path, go_on) == len(rows) + 1


_BATCH = 700
_WRITER = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT)!r})
from sinks.contract import Point, Record
from sinks.sqlite import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    for batch in range(10_000):
        await store.write([
            Point("traffic_flow", (("segment_id", str(n)),), {T0} + 1000 + batch, (("speed_kmh", float(batch)),))
            for n in range({_BATCH})
        ])
        await store.keep([Record("ledger", str(batch), batch, {{"position": batch}})])
        print(batch, flush=True)

asyncio.run(main())
"""


def _writer(path):
    return subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)


def test_two_writers_in_turn_do_not_trip_over_what_they_remember(path):
    async def story(store):
        other = SqliteStore(path)
        try:
            await store.write([flow(1.0)])
            await other.write([flow(2.0), Point("traffic_flow", (("a", "b"),), T0, (("new", 1.0),))])
            await store.write([Point("traffic_flow", (("a", "b"),), T0, (("new", 2.0), ("newer", "x")))])
            await other.write([Point("traffic_flow", (("a", "b"),), T0 + 1, (("newer", "y"), ("new", 3.0)))])
            return await store.read(Query("traffic_flow"))
        finally:
            await other.close()

    rows = run(path, story)
    assert [row.fields for row in rows] == [
        {"new": 2.0, "newer": "x"},
        {"speed_kmh": 2.0},
        {"new": 3.0, "newer": "y"},
    ]


def test_a_reader_may_not_write(path):
    run(path, lambda store: store.write([flow(1.0)]))
    with pytest.raises(StoreError, match="reading only"):
        run(path, lambda store: store.write([flow(2.0)]), read_only=True)


def test_a_reader_reads_what_a_closed_writer_left(path):
    run(path, lambda store: store.write([flow(1.0), flow(3.0, at=T0 + HOUR)]))
    rows = run(path, lambda store: store.read(Query("traffic_flow", agg="mean")), read_only=True)
    assert [row.fields for row in rows] == [{"speed_kmh": 2.0}]


# ---- corrections


def corrected(revision):
    point = Point("traffic_incident", (("category", "collision"),), T0, (("injured", float(revision)),), "a")
    return point._replace(revision=revision)


def test_an_older_revision_that_comes_later_changes_nothing(path):
    for order in itertools.permutations((0, 1, 2)):
        for revision in order:
            run(path, lambda store, revision=revision: store.write([corrected(revision)]))
        (row,) = run(path, lambda store: store.read(Query("traffic_incident")))
        assert row.fields == {"event_id": "a", "injured": 2.0}


def test_a_table_of_before_there_were_revisions_gets_them_with_the_next_event(path):
    run(path, lambda store: store.write([corrected(0)]))
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE traffic_incident DROP COLUMN _revision")
    assert len(run(path, lambda store: store.read(Query("traffic_incident")), read_only=True)) == 1
    run(path, lambda store: store.write([corrected(1)]))
    (row,) = run(path, lambda store: store.read(Query("traffic_incident")))
    assert row.fields == {"event_id": "a", "injured": 1.0}


# ---- what grows old


DAY = 86_400_000_000


def aged(n, days, *, late=False, segment="a"):
    """A sample a second, of some days ago."""
    then = time.time_ns() // 1000 - days * DAY
    return [
        Point("traffic_flow", (("segment_id", segment),), then + i * SECOND, (("speed_kmh", 1.0),), late=late)
        for i in range(n)
    ]


@pytest.fixture
def keeping(tmp_path):
    """`keeping(story, days)` runs a story on a store that keeps points that long."""

    def told(story, days):
        async def run():
            store = SqliteStore(tmp_path / "aging.db", retention_days=days)
            try:
                return await story(store)
            finally:
                await store.close()

        return asyncio.run(run())

    return told


async def kept(store):
    return [(row.tags["segment_id"], row.tags.get("late")) for row in await store.read(Query("traffic_flow"))]


def test_points_older_than_the_store_keeps_are_let_go_and_still_counted(keeping):
    async def story(store):
        await store.write([*aged(3, 8), *aged(2, 8, late=True), *aged(4, 6, segment="b")])
        counts = [await store.count("traffic_flow", late=late) for late in (False, True)]
        return await kept(store), counts

    assert keeping(story, 7) == ([("b", None)] * 4, [7, 2])


def test_a_store_without_a_retention_keeps_everything(keeping):
    async def story(store):
        await store.write(aged(3, 3000))
        return len(await kept(store))

    assert keeping(story, 0) == 3


def test_much_that_is_old_goes_in_pieces_while_others_are_written(keeping, monkeypatch):
    monkeypatch.setattr(sqlite, "_AGING_POINTS", 10)

    async def fill(store):
        await store.write([*aged(60, 8), *aged(25, 8, segment="b")])

    async def age(store):
        counts = []
        for n in range(12):
            await store.write([flow(float(n), at=time.time_ns() // 1000)])
            counts.append(len(await kept(store)) - n - 1)
            assert await store.count("traffic_flow", late=False) == 85 + n + 1
        return counts

    keeping(fill, 0)
    counts = keeping(age, 7)
    assert counts[0] == 75
    assert all(0 <= before - after <= 10 for before, after in itertools.pairwise(counts))
    assert counts[-1] == 0


def test_rejects_that_have_grown_old_lose_their_bytes_and_are_still_counted(keeping, monkeypatch):
    monkeypatch.setattr(sqlite, "_AGING_EVERY_S", 0)
    now = time.time_ns() // 1000
    body = {"topic": "t", "reason": "not_json", "bytes": "c2VjcmV0"}
    records = [
        Record("rejected", "old", now - 8 * DAY, body),
        Record("rejected", "file", now - 9 * DAY, {**body, "file": "a.csv"}),
        Record("rejected", "new", now, body),
        Record("alarm", "old", now - 800 * DAY, {"active": False}),
    ]

    async def story(store):
        for _ in range(2):  # a worker that was killed does it again
            await store.keep(records)
            await store.write(aged(1, 0))
        kept = [r.id for kind in ("rejected", "alarm") for r in await store.kept(kind)]
        by = [await store.tally("rejected", ("topic", name)) for name in ("file", "reason")]
        return kept, by, await store.tally("alarm", ("active",))

    kept, (by_file, by_reason), alarms = keeping(story, 7)
    assert kept == ["new", "old"]
    assert by_file == {("t", None): 2, ("t", "a.csv"): 1}
    assert by_reason == {("t", "not_json"): 3}
    assert alarms == {("0",): 1}


def test_what_grows_old_while_the_store_is_open_gets_its_turn(keeping, monkeypatch):
    monkeypatch.setattr(sqlite, "_AGING_EVERY_S", 0)

    async def story(store):
        await store.write(aged(1, 6))
        await store.write(aged(1, 9))
        return await kept(store), await store.count("traffic_flow", late=False)

    assert keeping(story, 7) == ([("a", None)], 2)


def test_a_reader_counts_in_a_file_of_before_points_could_grow_old(path):
    run(path, lambda store: store.write([flow(1.0)]))
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE _aged")
    assert run(path, lambda store: store.count("traffic_flow", late=False), read_only=True) == 1


# ---- outages


def test_a_locked_file_is_unavailable_and_the_same_batch_goes_in_afterwards(path, monkeypatch):
    monkeypatch.setattr(sqlite, "_BUSY_S", 0.05)

    async def story(store):
        await store.write([flow(1.0)])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        batch = [flow(2.0), Point("traffic_flow", (), T0, (("new", 1.0),))]
        with pytest.raises(Unavailable, match="locked"):
            await store.write(batch)
        with pytest.raises(Unavailable, match="locked"):
            await store.keep([Record("alarm", "a", T0, {})])
        during = await store.count("traffic_flow", late=False)
        other.close()
        await store.write(batch)
        return during, await store.count("traffic_flow", late=False)

    assert run(path, story) == (1, 2)


def test_a_full_disk_is_unavailable_and_what_half_went_in_is_taken_back(path):
    batch = [
        Point("traffic_flow", (("segment_id", str(n)),), T0, (("speed_kmh", 1.0), ("status", "x" * 2000)))
        for n in range(500)
    ]

    async def story(store):
        await store.write([flow(1.0)])
        await store._run(store._file._db.execute, "PRAGMA max_page_count = 40")
        with pytest.raises(Unavailable, match="full"):
            await store.write(batch)
        during = await store.read(Query("traffic_flow"))
        await store._run(store._file._db.execute, "PRAGMA max_page_count = 1000000")
        await store.write(batch)
        return during, await store.count("traffic_flow", late=False)

    during, count = run(path, story)
    assert [row.fields for row in during] == [{"speed_kmh": 1.0}]
    assert count == 501


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit (util-linux) is not installed")
def test_a_disk_that_takes_no_more_bytes_is_unavailable(path):
    """The kernel's own refusal, not SQLite's: a limit on the size of files."""
    script = _WRITER.replace("asyncio.run(main())", "").replace("main", "_main") + (
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from sinks.contract import Unavailable\n"
        "try:\n    asyncio.run(_main())\nexcept Unavailable as error:\n    print('unavailable', error.reason)\n"
    )
    limited = ["prlimit", f"--fsize={3 * 2**20}", sys.executable, "-c", script, str(path)]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=60, env=os.environ, check=False)
    *acknowledged, last = done.stdout.splitlines()
    assert last.startswith("unavailable"), done.stderr

    rows = run(path, lambda store: store.read(Query("traffic_flow")), read_only=True)
    assert {str(int(row.fields["speed_kmh"])) for row in rows} >= set(acknowledged)
