"""`citywatch up` as a whole: a living city in one terminal, that begins, ends and is disturbed as a city may be."""

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from cli_world import city  # noqa: F401 - a fixture

from commands import up
from commands.up import Simulation
from models.base import micros
from models.catalogue import topics
from settings import Kafka, Settings
from sinks.contract import Query, StoreError
from sinks.sqlite import SqliteStore

ROOT = Path(__file__).parent.parent
START = "2026-11-25T07:30:00+00:00"
DOMAINS = {name.split(".")[1] for name in topics()} - {"platform"}  # which says nothing while it is well
SECOND = 1_000_000


def free_port():
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


def environ(**more):
    return {k: v for k, v in os.environ.items() if not k.startswith("CITYWATCH_")} | more


def command(folder, *words):
    return [sys.executable, "-m", "cli", "up", "--data", str(folder), *map(str, words)]


@contextmanager
def living(folder, *words, **more):
    """A running `up`; whatever the test does to it, nothing of it is left behind."""
    with subprocess.Popen(
        command(folder, *words), cwd=ROOT, env=environ(**more), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.send_signal(signal.SIGTERM)
                running.communicate(timeout=30)


def until(true, seconds=40):
    """Wait for something; its value."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return found


def processes(folder):
    """Our processes of that data folder, by what they are: `up` itself, `worker`, `simulate`, `console`."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            told = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        mine = f"CITYWATCH_DATA__DIR={folder}".encode() in told or str(folder).encode() in words
        if mine and b"cli" in words:
            found.setdefault(words[words.index(b"cli") + 1].decode(), []).append(int(entry.name))
    return found


def kept(folder, question):
    async def asked():
        store = SqliteStore(folder / "store.sqlite", read_only=True)
        try:
            return await question(store)
        finally:
            await store.close()

    return asyncio.run(asked())


def points(folder):
    """Every point of the city in the store, as (measurement, microseconds since the simulated start, tags, fields).

    Those of alarms have ids that name their log.
    """
    rows = [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]
    (began,) = [_at(row["start"]) for row in rows if row["what"] == "run"]

    async def every(store):
        return [
            (row.measurement, row.time - began, sorted(row.tags.items()), sorted(row.fields.items()))
            for name in await store.measurements()
            if name != "alarm_event"
            for row in await store.read(Query(name))
        ]

    return sorted(kept(folder, every), key=repr)


def _at(text):
    return micros(datetime.fromisoformat(text))


# --- what is simulated ----------------------------------------------------------------------------------------------


def words_of(simulation, code):
    words = simulation.words(code)
    return None if words is None else dict(zip(words[1::2], words[2::2], strict=False))


def test_a_simulator_that_died_goes_on_after_what_it_may_have_said_and_stages_nothing_again():
    simulated = Simulation(7, _at(START), 60.0, 2.0)
    first = words_of(simulated, None)
    assert (first["--seed"], first["--start"], first["--for"], first["--load"]) == ("7", START, "60.0", "2.0")
    assert "--no-stage" not in simulated.words(None)
    simulated._began -= 20
    words = simulated.words(-9)
    assert "--no-stage" in words
    again = _at(words[words.index("--start") + 1]) - _at(START)
    assert again > 20 * SECOND
    assert float(words[words.index("--for") + 1]) == 60 - again / SECOND


def test_a_simulator_that_has_fed_all_it_was_to_feed_is_not_started_again():
    assert Simulation(7, 0, 60.0, 1.0).words(0) is None
    assert Simulation(7, 0, None, 1.0).words(0) is not None  # somebody ended it: a city has no end


@pytest.mark.parametrize(
    ("bootstrap", "words", "simulated"),
    [
        (None, [], True),
        (None, ["--no-simulator"], False),
        ("kafka:9092", [], False),
        ("kafka:9092", ["--simulator"], True),
    ],
)
def test_a_kafka_of_yours_is_fed_with_what_never_happened_only_if_you_ask(
    bootstrap, words, simulated, capsys
):
    parser = argparse.ArgumentParser()
    up.add(parser)
    settings = Settings(kafka=Kafka(bootstrap=bootstrap))
    found = up._simulation(parser.parse_args(words), settings, 0)
    assert (found is not None) == simulated
    assert ("--simulator asks for it" in capsys.readouterr().err) == (bootstrap is not None and not words)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--for", "0"], "--for 0"),
        (["--load", "0"], "--load 0"),
        (["--start", "tomorrow"], "--start tomorrow"),
        (["--port", "0"], "--port 0"),
        (["--rules", "/no/such/file.yaml"], "/no/such/file.yaml"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(city, words, said):  # noqa: F811
    found = city("up", *words)
    assert found.code == 2
    assert said in found.err
    assert len(found.err.splitlines()) == 1
    assert not (city.folder / "up.json").exists()


def test_a_taken_port_is_one_line_that_names_the_options(city):  # noqa: F811
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = city("up", "--port", str(taken.getsockname()[1]))
    assert found.code == 2
    (line,) = found.err.splitlines()
    assert "--port" in line
    assert "CITYWATCH_CONSOLE__PORT" in line
    assert not (city.folder / "up.json").exists()


def test_settings_that_are_wrong_are_told_a_line_each_and_all_at_once(city, monkeypatch):  # noqa: F811
    monkeypatch.setenv("CITYWATCH_CONSOLE__PORT", "http")
    monkeypatch.setenv("CITYWATCH_STORE__RETENTION_DAYS", "-1")
    monkeypatch.setenv("CITYWATCH_KAFKA__BOOTSTARP", "kafka:9092")
    found = city("up")
    assert found.code == 2
    lines = found.err.splitlines()
    assert len(lines) == 3
    for name in ("CONSOLE__PORT", "STORE__RETENTION_DAYS", "did you mean CITYWATCH_KAFKA__BOOTSTRAP?"):
        assert any(name in line for line in lines), name


def test_a_data_folder_that_is_none_is_one_line(city):  # noqa: F811
    (city.folder / "file").touch()
    found = city("up", "--data", str(city.folder / "file"))
    assert found.code == 2
    assert len(found.err.splitlines()) == 1


def test_a_data_folder_that_cannot_be_written_is_one_line(tmp_path):
    # Root may write anywhere, so it gives that up (setpriv is in util-linux).
    less = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    tmp_path.chmod(0o500)
    done = subprocess.run(
        [*less, *command(tmp_path)],
        cwd=ROOT,
        env=environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    tmp_path.chmod(0o700)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path) in done.stderr


# --- a living city --------------------------------------------------------------------------------------------------


def ran(folder, seconds, *words, exact=True, **more):
    """The summary of an `up` that ended by itself."""
    done = subprocess.run(
        command(folder, "--for", seconds, "--json", "--no-console", *words),
        cwd=ROOT, env=environ(**more), capture_output=True, timeout=seconds + 60, check=False,
    )  # fmt: skip
    summary = json.loads(done.stdout)
    assert done.returncode == int(not summary["exact"]), done.stderr.decode()
    assert summary["exact"] or not exact, summary["ledger"]
    return summary


@pytest.mark.slow
def test_two_cities_of_one_seed_and_start_have_the_same_events_and_one_of_another_has_not(tmp_path):
    seeds = {"one": 7, "two": 7, "other": 8}
    with ThreadPoolExecutor(len(seeds)) as beside:  # they mostly wait
        one, two, other = beside.map(
            lambda name: ran(tmp_path / name, 30, "--start", START, "--seed", seeds[name]), seeds
        )
    assert one["fed"] == two["fed"] != other["fed"]
    assert points(tmp_path / "one") == points(tmp_path / "two") != points(tmp_path / "other")
    for summary in (one, two, other):
        assert summary["exact"]
        assert summary["simulated_seconds"] == 18
        assert sum(summary["fed"].values()) == sum(summary["events"].values())
        assert summary["alarms"]["by_priority"]["P1"] == summary["alarms"]["total"] == 1


@pytest.mark.slow
def test_within_a_minute_every_domain_has_spoken_even_at_night_and_the_account_is_exact(tmp_path):
    start = "2026-11-28T20:00:00+00:00"  # three o'clock on a Sunday morning
    summary = ran(tmp_path, 60, "--start", start)
    assert summary["events"].pop("platform") == 0
    assert summary["events"].keys() == DOMAINS
    assert min(summary["events"].values()) > 0
    assert summary["alarms"]["total"] >= 1
    assert (summary["exact"], summary["restarts"], summary["start"]) == (True, 0, start)
    assert summary["latency_s"] is None


def first_alarm(folder):
    try:
        return next(iter(kept(folder, lambda store: store.kept("alarm"))), None)
    except StoreError:
        return None  # nothing has been stored yet


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_it_within_ten_seconds_and_a_second_one_does_no_harm(tmp_path, number):
    with living(tmp_path, "--json", "--port", free_port()) as running:
        until(lambda: first_alarm(tmp_path))
        assert processes(tmp_path).keys() == {"up", "worker", "simulate", "console"}
        asked = time.monotonic()
        running.send_signal(number)
        time.sleep(0.3)  # while it stops
        running.send_signal(number)
        out, err = running.communicate(timeout=30)
        assert time.monotonic() - asked < 10
    assert running.returncode == 0, err.decode()
    summary = json.loads(out)
    assert summary["exact"]
    assert summary["latency_s"].keys() >= {"n", "p50", "p99", "max"}
    assert processes(tmp_path) == {}
    assert b"Traceback" not in err


@pytest.mark.slow
def test_started_again_on_its_folder_it_has_its_history_and_closes_what_nothing_will_clear(tmp_path):
    first = ran(tmp_path, 30)
    (open_alarm,) = kept(tmp_path, lambda store: store.kept("alarm"))
    assert open_alarm.body["closed_by"] == "log-ended"
    second = ran(tmp_path, 30)
    assert second["exact"]
    total = sum(line["accepted"] for line in second["ledger"]["topics"].values())
    assert total == sum(first["events"].values()) + sum(second["events"].values())
    assert second["alarms"]["total"] == 1
    assert len(kept(tmp_path, lambda store: store.kept("alarm"))) == 2
    rows = [json.loads(line)["what"] for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert rows.count("run") == rows.count("end") == 2


@pytest.mark.slow
def test_whoever_is_killed_comes_again_and_when_up_itself_is_nothing_is_left(tmp_path):
    with living(tmp_path, "--port", free_port()) as running:
        until(lambda: first_alarm(tmp_path))
        for name in ("simulate", "console"):
            killed = processes(tmp_path)[name]
            os.kill(*killed, signal.SIGKILL)
            until(lambda name=name, killed=killed: processes(tmp_path).get(name, killed) != killed)
        rows = until(lambda: _runs(tmp_path, 2))
        assert _at(rows[1]["simulated_start"]) > _at(rows[0]["simulated_start"])
        busy = subprocess.run(
            command(tmp_path, "--port", free_port()),
            cwd=ROOT,
            env=environ(),
            capture_output=True,
            check=False,
        )
        assert busy.returncode == 2
        assert re.fullmatch(rb"citywatch: .* is used by a citywatch that runs; .*\n", busy.stderr)
        assert (tmp_path / "up.json").exists()  # of the one that runs
        running.kill()
        running.communicate(timeout=10)
        until(lambda: not processes(tmp_path), seconds=12)
    again = ran(tmp_path, 20, exact=False)  # what the judge had counted and not yet told died with the log
    assert again["restarts"] == 0
    assert sum(again["events"].values()) > 0
    assert not [r for r in kept(tmp_path, lambda store: store.kept("alarm")) if r.body["active"]]


def _runs(folder, count):
    rows = [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]
    runs = [row for row in rows if row["what"] == "run"]
    return runs if len(runs) >= count else None
