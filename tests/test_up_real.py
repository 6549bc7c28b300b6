"""`citywatch up --real` as a whole, on Apache Kafka and InfluxDB: what it keeps, and that nothing stops it for long."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from real import command, environ
from real_influx import InfluxMissingError
from real_kafka import KafkaMissingError, jars

from bus import clients
from commands.folder import running, servers
from commands.servers import free_ports
from commands.world import ROLES
from models.catalogue import topics
from sinks.influxd import influxd

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent

#: Servers of a folder, by the name of theirs in it.
PARTS = ("kafka", "influx", *(["prometheus"] if shutil.which("prometheus") else []))


def up(folder, *words):
    return command("up", "--real", "--json", "--data", folder, *words)


def until(true, seconds=60):
    """Wait for something; its value."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.2)
    return found


@contextmanager
def living(folder, said, *words):
    """A running `up --real`; whatever the test does to it, nothing of it is left behind."""
    with (
        said.open("w") as err,
        subprocess.Popen(
            up(folder, *words), cwd=ROOT, env=environ(), stdout=subprocess.PIPE, stderr=err
        ) as one,
    ):
        try:
            until(lambda: running(folder) or one.poll() is not None)
            assert one.poll() is None, said.read_text()[-3000:]
            yield one
        finally:
            if one.poll() is None:
                one.send_signal(signal.SIGTERM)
                one.communicate(timeout=40)


def remains(folder):
    """Command lines of every process that was started for the folder, ours and the servers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            told = (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder) in words or f"CITYWATCH_DATA__DIR={folder}".encode() in told:
            found.append(words)
    return found


def asked(folder, *words):
    return subprocess.run(
        command(*words, "--data", folder), cwd=ROOT, env=environ(), capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip


def accepted(summary):
    return Counter(
        {topic: line["accepted"] for topic, line in summary["ledger"]["topics"].items() if line["accepted"]}
    )


def ran(folder, seconds):
    """The summary of an `up --real` that ended by itself, exact."""
    done = subprocess.run(
        up(folder, "--for", str(seconds), "--no-console"),
        cwd=ROOT, env=environ(), capture_output=True, text=True, timeout=seconds + 120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-3000:])
    summary = json.loads(done.stdout)
    assert summary["exact"]
    return summary


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    """A folder on which a city has run on real parts, and what came of it. Its tests start it again."""
    try:
        jars()
        influxd()
    except (KafkaMissingError, InfluxMissingError) as missing:
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("city")
    summary = ran(folder, 28)
    return folder, summary, (folder / "kafka" / "log" / "meta.properties").read_text()


def pid(folder, part):
    return int((folder / part / "pid").read_text())


def answer(url):
    with urllib.request.urlopen(url, timeout=5) as found:
        return json.loads(found.read())


def targets(folder):
    """What Prometheus scrapes, and whether it is up."""
    found = answer(f"http://127.0.0.1:{servers(folder).prometheus}/api/v1/targets")["data"]["activeTargets"]
    return {target["labels"]["job"]: target["health"] for target in found}


def is_back(folder, part, before):
    try:
        now = pid(folder, part)
    except (OSError, ValueError):
        return False
    return now != before and Path(f"/proc/{now}").exists()


def test_the_first_run_is_exact_keeps_its_secret_and_leaves_nothing_running(city):
    folder, summary, _ = city
    assert summary["restarts"] == 0
    assert accepted(summary) == Counter(summary["fed"])
    assert summary["alarms"]["by_priority"]["P1"] == 1
    assert remains(folder) == []
    token = folder / "influx" / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    secret = token.read_text().strip()
    for path in (
        *folder.glob("*"),
        *folder.glob("*/*.log"),
        *folder.glob("*/*.yml"),
        *folder.glob("*/*.properties"),
    ):
        assert not path.is_file() or secret not in path.read_text(errors="replace"), path
    for words in (["ledger"], ["rules", "backtest", "--rules", "rules/traffic.yaml"]):
        stopped = asked(folder, *words)
        assert stopped.returncode == 3, stopped.stderr
        assert f"citywatch up --real --data {folder}" in stopped.stderr.splitlines()[-1]


def test_started_again_its_log_goes_on_and_whatever_dies_comes_back_and_nothing_is_lost(city, tmp_path):
    folder, first, cluster = city
    with living(folder, tmp_path / "said", "--port", str(free_ports(1)[0])) as one:
        there = running(folder)
        assert f"cluster.id={there.log_id}\n" in cluster
        assert not there.embedded
        ends = clients.end_offsets(
            there.bootstrap, [(name, p) for name, t in topics().items() for p in range(t.partitions)]
        )
        assert sum(ends.values()) >= sum(first["fed"].values())
        alarms = until(lambda: len(json.loads(asked(folder, "alarms", "--json").stdout)) == 2)
        assert alarms
        if "prometheus" in PARTS:
            every = {*ROLES, "console", "influxdb", "prometheus"}
            until(lambda: targets(folder) == dict.fromkeys(every, "up"), 30)
        secret = (folder / "influx" / "token").read_text().strip()
        assert not [words for words in remains(folder) if secret in words]

        for part in PARTS:
            before = pid(folder, part)
            os.kill(before, signal.SIGKILL)
            until(lambda part=part, before=before: is_back(folder, part, before), 20)
            time.sleep(2)
        doctor = asked(folder, "doctor", "--json")
        states = {check["part"]: check["state"] for check in json.loads(doctor.stdout)}
        assert (states["store"], states["broker"], states["topics"]) == ("ok", "ok", "ok"), doctor.stdout
        assert asked(folder, "query", "traffic_flow", "--agg", "count", "--json").returncode == 0
        began = time.monotonic()
        one.send_signal(signal.SIGINT)
        out, _ = one.communicate(timeout=60)
        assert time.monotonic() - began < 15  # ten seconds on a machine that has nothing else to do
    said = (tmp_path / "said").read_text()
    assert one.returncode == 0, said[-3000:]
    second = json.loads(out)
    assert second["exact"]
    assert second["restarts"] == len(PARTS), said[-3000:]
    assert sum(second["events"].values()) == sum(second["fed"].values())
    assert accepted(second) == Counter(first["fed"]) + Counter(second["fed"])
    assert secret not in said
    assert remains(folder) == []


def test_when_up_itself_is_killed_nothing_is_left_and_the_next_one_goes_on(city, tmp_path):
    folder, _, cluster = city
    with living(folder, tmp_path / "said", "--no-console") as one:
        time.sleep(6)  # something is fed
        one.kill()
        one.communicate(timeout=10)
        until(lambda: not remains(folder), 20)
    after = ran(folder, 20)
    assert (folder / "kafka" / "log" / "meta.properties").read_text() == cluster
    assert sum(accepted(after).values()) > sum(after["events"].values()) > 0
