"""The simulated city fed to a broker: stamps, clock records, the truth's file, the command's words."""

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_world import city  # noqa: F401 - a fixture
from simulated import AFTERNOON, MINUTE

from bus import headers
from models.catalogue import topics
from models.keys import partition_of
from sources.simulator.run import CLOCK_EVERY, Plan, Run
from sources.simulator.stream import Sent, simulate

ROOT = Path(__file__).parent.parent


class Broker:
    """Takes what a feeder takes, and keeps it."""

    def __init__(self):
        self.records = []

    async def send(self, topic, key, value, said, stamp_ms, partition=None):
        place = partition_of(key, topics()[topic].partitions) if partition is None else partition
        self.records.append(
            SimpleNamespace(topic=topic, key=key, value=value, said=said, ms=stamp_ms, partition=place)
        )

    async def flush(self):
        return {}


def fed(plan, now=None):
    broker, truth = Broker(), io.StringIO()
    run = Run(plan, broker, None, "", truth, now)

    async def feed():
        await run.feed()
        if now is None:
            await run.finish()

    asyncio.run(feed())
    return run, broker.records, [json.loads(line) for line in truth.getvalue().splitlines()]


def plan(minutes=5, **more):
    return Plan(7, AFTERNOON, AFTERNOON + minutes * MINUTE, **{"pace": None, **more})


def test_a_world_of_its_own_has_the_stamps_of_the_simulation():
    run, records, _ = fed(plan())
    sent = [item for item in simulate(7, AFTERNOON, AFTERNOON + 5 * MINUTE) if isinstance(item, Sent)]
    events = [r for r in records if headers.is_event(r.said)]
    assert [(r.topic, r.key, r.value, r.ms) for r in events] == [
        (s.topic, s.key, s.value, s.stamp_us // 1000) for s in sent
    ]
    assert run.sent.total() == len(sent)


def test_time_passes_on_every_partition_though_nobody_speaks():
    _, records, _ = fed(plan())
    stamps = {}
    for r in records:
        stamps.setdefault((r.topic, r.partition), []).append(r.ms)
    assert set(stamps) == {(t.name, p) for t in topics().values() for p in range(t.partitions)}
    for found in stamps.values():
        assert found == sorted(found)
        live = [ms for ms in found if ms <= (AFTERNOON + 5 * MINUTE) // 1000]
        gaps = [b - a for a, b in pairwise(live)]
        assert max(gaps) <= 2 * CLOCK_EVERY // 1000


def test_the_last_clock_lets_every_lateness_pass():
    _, records, _ = fed(plan(1))
    last = {(r.topic, r.partition): r.ms for r in records}
    for (topic, _), ms in last.items():
        assert ms * 1000 > AFTERNOON + MINUTE + topics()[topic].late_us


def test_the_truth_is_written_as_it_begins():
    run, _, rows = fed(plan())
    assert [row["what"] for row in rows[:2]] == ["run", "incident"]
    assert rows[0]["start"] == "2026-11-25T07:30:00Z"
    assert rows[1]["kind"] == "crash"
    assert rows[-1] == {"what": "end", "at": "2026-11-25T07:35:00Z", "fed": dict(run.sent)}
    assert run.told["incident"] == sum(row["what"] == "incident" for row in rows)


def test_a_running_city_stamps_with_its_own_clock_and_all_times_move_with_it():
    by = 400 * 24 * 60 * MINUTE
    _, records, rows = fed(plan(1), now=lambda: AFTERNOON + by)
    assert {r.ms for r in records} == {(AFTERNOON + by) // 1000}
    first = next(r for r in records if r.topic == "city.traffic.flow.v1")
    assert json.loads(first.value)["observed_at"].startswith("2027-12-30T07:30")
    assert rows[0]["start"] == "2027-12-30T07:30:00Z"
    assert rows[0]["simulated_start"] == "2026-11-25T07:30:00Z"
    assert all(headers.is_event(r.said) for r in records)  # its clock records are the workers' business


def test_a_pace_is_kept():
    async def run():
        began = asyncio.get_running_loop().time()
        await Run(plan(0.5, pace=60.0), Broker(), None, "", io.StringIO()).feed()
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(run()) > 0.3


def test_a_run_that_is_cancelled_says_when():
    truth = io.StringIO()

    async def run():
        feeding = asyncio.create_task(
            Run(plan(pace=1.0), Broker(), None, "", truth, lambda: AFTERNOON).feed()
        )
        await asyncio.sleep(0.2)
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding

    asyncio.run(run())
    assert json.loads(truth.getvalue().splitlines()[-1])["what"] == "end"


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--load", "0"], "--load 0"),
        (["--own"], "--for SECONDS"),
        (["--own", "--for", "0"], "--for 0"),
        (["--speed", "60x"], "--own"),
        (["--own", "--for", "60", "--speed", "fast"], "write max, 1x or 60x"),
        (["--own", "--for", "60", "--start", "tomorrow"], "--start tomorrow"),
        (["--own", "--for", "60", "--bootstrap", "h:1"], "leave out --bootstrap"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(city, words, said):  # noqa: F811
    found = city("simulate", *words)
    assert found.code == 2
    assert said in found.err


def test_a_folder_that_holds_a_city_gets_no_second_one(city):  # noqa: F811
    city.hold()
    found = city("simulate", "--own", "--for", "60")
    assert found.code == 2
    assert "already holds a city" in found.err


def test_without_a_running_city_it_says_what_to_start(city):  # noqa: F811
    found = city("simulate")
    assert found.code == 3
    assert "citywatch up" in found.err


@pytest.mark.slow
def test_a_simulated_time_of_its_own_is_judged_stored_and_exact(tmp_path):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CITYWATCH_")}
    words = ["simulate", "--own", "--for", "900", "--seed", "2", "--start", "2026-11-25T07:30", "--json"]
    ran = subprocess.run(
        [sys.executable, "-m", "cli", *words, "--data", str(tmp_path)],
        cwd=ROOT, env=environ, capture_output=True, timeout=180, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr.decode()
    summary = json.loads(ran.stdout)
    assert summary["exact"]
    assert sum(summary["fed"].values()) == sum(t["accepted"] for t in summary["ledger"]["topics"].values())
    lines = summary["ledger"]["topics"].values()
    for verdict in ("stored", "late", "duplicate", "conflict", "rejected"):
        assert sum(line[verdict] for line in lines) > 0, verdict
    scored = subprocess.run(
        [sys.executable, "-m", "cli", "score", "--json", "--data", str(tmp_path)],
        cwd=ROOT, env=environ, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(scored.stdout)["detection_rate"] == 1
