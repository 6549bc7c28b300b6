"""The servers of `up --real`: where they are looked for, what they are told, and that none is left or lost."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from cli_world import city  # noqa: F401 - a fixture

from bus import apache
from bus.apache import KafkaMissingError, Node
from commands import folder, prometheus, real
from commands.prometheus import Prometheus
from commands.servers import PORTS, Server, ServerError, end_leftover, free_ports, is_free
from settings import Kafka, Settings, Store
from sinks import influxd
from sinks.influxd import Influxd, InfluxMissingError

ROOT = Path(__file__).parent.parent
KEPT = folder.Servers(20_001, 20_002, 20_003, 20_004, 20_010, "citywatch", "citywatch")


# --- where they are looked for --------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine on which nothing is installed: its PATH is the folder `bin`, its checkout `checkout`."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    for module in (apache, influxd):
        monkeypatch.setattr(module, "ROOT", tmp_path / "checkout")
    return tmp_path


def program(path, said="", to=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{said}' >&{to}\n")
    path.chmod(0o755)


def kafka(libs, version):
    libs.mkdir(parents=True)
    (libs / f"kafka_2.13-{version}.jar").touch()
    (libs / f"kafka-clients-{version}.jar").touch()


def test_kafka_is_the_one_on_path_else_of_the_checkout_else_of_the_user(bare):
    places = (
        bare / "dist" / "libs",
        bare / "checkout" / ".cache/kafka/libs",
        bare / "cache/citywatch/kafka/libs",
    )
    program(bare / "dist" / "bin" / "kafka-server-start.sh")
    (bare / "bin" / "kafka-server-start.sh").symlink_to(bare / "dist" / "bin" / "kafka-server-start.sh")
    for libs in reversed(places):
        kafka(libs, "4.1.0")
        assert apache.jars() == libs


def test_a_kafka_before_4_is_named_and_not_used(bare):
    kafka(bare / "dist" / "libs", "3.9.1")
    program(bare / "dist" / "bin" / "kafka-server-start.sh")
    (bare / "bin" / "kafka-server-start.sh").symlink_to(bare / "dist" / "bin" / "kafka-server-start.sh")
    with pytest.raises(KafkaMissingError, match=r"dist/libs has 3\.9\.1\); tools/get_kafka\.sh fetches it"):
        apache.jars()


@pytest.mark.parametrize(
    ("version", "fits"),
    [('openjdk version "11.0.2"', False), ('openjdk version "17"', True), ("java 21", False)],
)
def test_java_must_be_one_that_kafka_runs_with(bare, version, fits):
    program(bare / "bin" / "java", version, to=2)
    if fits:
        assert apache.java() == str(bare / "bin" / "java")
        return
    with pytest.raises(KafkaMissingError, match="Java 17 or newer: apt-get install openjdk-17-jre-headless"):
        apache.java()


def test_an_influxdb_1_is_named_and_the_next_one_taken(bare):
    program(bare / "bin" / "influxd", "InfluxDB shell version: 1.6.7~rc0")
    with pytest.raises(
        InfluxMissingError, match=r"bin/influxd is InfluxDB shell version: 1\.6\.7.*tools/build_influxd\.sh"
    ):
        influxd.influxd()
    own = bare / "cache" / "citywatch" / "influxd" / "influxd"
    program(own, "InfluxDB v2.7.12 (git: none) build_date: none")
    assert influxd.influxd() == own


def test_all_that_is_missing_is_one_line_with_the_commands_that_bring_it_and_nothing_is_begun(bare, city):  # noqa: F811
    where = bare / "data"
    done = city("up", "--real", "--data", str(where))
    assert done.code == 3
    (line,) = done.err.splitlines()
    for brings in ("apt-get install openjdk-17-jre-headless", "tools/get_kafka.sh", "tools/build_influxd.sh"):
        assert brings in line
    assert not where.exists()


@pytest.mark.parametrize("script", ["tools/get_kafka.sh", "tools/build_influxd.sh"])
def test_the_commands_that_bring_a_part_are_there(script):
    assert os.access(ROOT / script, os.X_OK)


def test_kafka_is_not_fetched_where_it_is(tmp_path):
    version = "4.4.0"
    assert f"<version>{version}</version>" in (ROOT / "tools/kafka/pom.xml").read_text()
    kafka(tmp_path / "libs", version)
    ran = subprocess.run(
        [ROOT / "tools/get_kafka.sh", tmp_path / "libs"], capture_output=True, text=True, check=True
    )
    assert "already" in ran.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [("CITYWATCH_KAFKA__BOOTSTRAP", "kafka:9092"), ("CITYWATCH_INFLUX__URL", "http://influx:8086")],
)
def test_servers_of_ones_own_and_those_of_somebody_else_do_not_go_together(city, monkeypatch, name, value):  # noqa: F811
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("CITYWATCH_INFLUX__TOKEN", "t" if "INFLUX" in name else "")
    done = city("up", "--real")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert f"unset {name}" in done.err


# --- what they are told ---------------------------------------------------------------------------------------------


def properties(node):
    return dict(line.split("=", 1) for line in node.configuration().splitlines())


def test_a_node_alone_keeps_one_replica_and_listens_on_loopback_only(tmp_path):
    said = properties(Node(tmp_path, 20_001, {1: 20_002}))
    assert said["listeners"] == "PLAINTEXT://127.0.0.1:20001,CONTROLLER://127.0.0.1:20002"
    assert said["advertised.listeners"] == "PLAINTEXT://127.0.0.1:20001"
    assert said["controller.quorum.voters"] == "1@127.0.0.1:20002"
    assert said["offsets.topic.replication.factor"] == said["default.replication.factor"] == "1"
    assert said["log.dirs"] == str(tmp_path / "log")


def test_nodes_of_a_cluster_know_each_other_and_replicate_and_may_have_more_listeners(tmp_path):
    said = properties(
        Node(
            tmp_path, 21_001, {1: 20_002, 2: 21_002, 3: 22_002}, 2, listeners={"SASL_SSL": 21_003},
            properties={"min.insync.replicas": "2", "node.id": "2"},
        )
    )  # fmt: skip
    assert said["controller.quorum.voters"] == "1@127.0.0.1:20002,2@127.0.0.1:21002,3@127.0.0.1:22002"
    assert said["offsets.topic.replication.factor"] == "3"
    assert said["advertised.listeners"] == "PLAINTEXT://127.0.0.1:21001,SASL_SSL://127.0.0.1:21003"
    assert "SASL_SSL:SASL_SSL" in said["listener.security.protocol.map"]
    assert said["min.insync.replicas"] == "2"


def test_the_token_is_on_no_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr(influxd, "influxd", lambda: Path("/influxd"))
    server = Influxd(tmp_path, 20_003)
    server.token_file.write_text("secret")
    assert server.token() == "secret"
    assert "secret" not in " ".join(server.command())
    assert (
        folder.Servers(**vars(KEPT))
        .environ(tmp_path)["CITYWATCH_INFLUX__TOKEN_FILE"]
        .endswith("influx/token")
    )


def test_prometheus_asks_every_process_and_itself_by_our_rules(tmp_path, monkeypatch):
    rules = tmp_path / "rules.yml"
    monkeypatch.setattr(prometheus, "RULES", rules)
    server = Prometheus(tmp_path / "own", 20_004, {"judge": "127.0.0.1:20010", "console": "127.0.0.1:8080"})
    assert yaml.safe_load(server.configuration())["rule_files"] == []
    rules.write_text("groups: []\n")
    said = yaml.safe_load(server.configuration())
    assert said["rule_files"] == [str(rules)]
    assert {job["job_name"]: job["static_configs"][0]["targets"] for job in said["scrape_configs"]} == {
        "judge": ["127.0.0.1:20010"],
        "console": ["127.0.0.1:8080"],
        "prometheus": ["127.0.0.1:20004"],
    }
    if shutil.which("promtool"):
        server.prepare()
        subprocess.run(
            ["promtool", "check", "config", server.folder / "prometheus.yml"], capture_output=True, check=True
        )


# --- what the folder keeps ------------------------------------------------------------------------------------------


def test_ports_are_kept_and_one_that_somebody_took_is_changed_and_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(real, "check", lambda: None)
    servers = real.Real(tmp_path, (), None, threading.Event())
    first = servers._kept(Settings())
    assert servers._kept(Settings()) == first
    with socket.create_server(("127.0.0.1", first.kafka)):
        second = servers._kept(Settings())
    assert second == replace(first, kafka=second.kafka)
    assert second.kafka != first.kafka
    assert f"port {first.kafka} of kafka is taken" in capsys.readouterr().err
    assert servers._kept(Settings()) == second


def kept(where, **changed):
    folder.keep(where, replace(KEPT, **changed))
    (where / "influx").mkdir()
    (where / "influx" / "token").write_text("secret\n")
    (where / "influx" / "token").chmod(0o600)


@pytest.mark.parametrize("words", [["ledger"], ["alarms"], ["query", "traffic_flow"], ["rejected", "list"]])
def test_asked_while_the_servers_of_its_folder_do_not_run_a_command_says_how_to_start_them(city, words):  # noqa: F811
    kept(city.folder, last=True)
    done = city(*words)
    assert done.code == 3
    (line,) = done.err.splitlines()
    assert f"start it with `citywatch up --real --data {city.folder}`" in line
    assert "secret" not in line


def test_the_store_that_is_asked_is_that_of_what_ran_last_unless_the_settings_name_one(tmp_path):
    settings = Settings(data={"dir": tmp_path})
    assert folder.with_store(settings) == settings
    kept(tmp_path)
    assert folder.with_store(settings) == settings  # set up, and never run
    folder.say_last(tmp_path, real=True)
    found = folder.with_store(settings).influx
    assert (found.url, found.token.get_secret_value()) == ("http://127.0.0.1:20003", "secret")
    for named in ({"store": Store(path=tmp_path / "mine")}, {"kafka": Kafka(bootstrap="kafka:9092")}):
        settings_ = settings.model_copy(update=named)
        assert folder.with_store(settings_) == settings_
    folder.say_last(tmp_path, real=False)
    assert folder.with_store(settings) == settings


def test_a_file_of_servers_that_is_damaged_is_one_line(city):  # noqa: F811
    (city.folder / "real.json").write_text('{"kafka": ')
    done = city("ledger")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "real.json cannot be read" in done.err


def test_ports_are_below_those_that_outgoing_connections_get():
    low, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert max(PORTS) + 100 < low
    row = free_ports(5)
    assert row == list(range(row[0], row[0] + 5))
    assert all(map(is_free, row))


# --- processes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fake:
    """A server that sleeps, or does what it is told to."""

    folder: Path
    does: str = "import time; time.sleep(60)"
    name = "Fake"

    def prepare(self):
        self.folder.mkdir(exist_ok=True)

    def command(self):
        return [sys.executable, "-S", "-c", self.does, str(self.folder)]

    def answers(self):
        return False


def is_there(pid):
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes() != b""
    except OSError:
        return False


def gone(pid, seconds=10):
    deadline = time.monotonic() + seconds
    while is_there(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_there(pid)


def test_a_server_that_ends_instead_of_answering_is_told_with_what_it_said(tmp_path):
    server = Server(Fake(tmp_path / "f", "raise SystemExit('no room')"))
    with pytest.raises(
        ServerError, match=r"Fake does not start \(it ended\).*server\.log ends with: no room"
    ):
        server.start()


def test_a_start_is_given_up_when_somebody_says_stop(tmp_path):
    stop = threading.Event()
    stop.set()
    server = Server(Fake(tmp_path / "f"))
    server.spawn()
    with pytest.raises(KeyboardInterrupt):
        server.wait(stop)
    server.kill()


def test_what_was_left_on_a_folder_is_ended_before_another_begins_and_nothing_else_is(tmp_path):
    one, other = Server(Fake(tmp_path / "f")), Server(Fake(tmp_path / "g"))
    one.spawn()
    other.spawn()
    pid = one.process.pid
    threading.Thread(target=one.process.wait, daemon=True).start()  # init would reap it
    end_leftover(tmp_path / "f")
    assert gone(pid)
    (tmp_path / "f" / "pid").write_text(str(other.process.pid))  # a number that was given again
    end_leftover(tmp_path / "f")
    assert is_there(other.process.pid)
    other.kill()


def test_a_tied_server_ends_when_who_started_it_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, 'tests')\n"
        "from test_servers import Fake; from commands.servers import Server\n"
        "server = Server(Fake(Path(sys.argv[1])), tied=True); server.spawn()\n"
        "print(server.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "f"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "."},
        stdout=subprocess.PIPE,
    ) as parent:
        pid = int(parent.stdout.readline())
        deadline = time.monotonic() + 5
        while (
            b"time.sleep" not in Path(f"/proc/{pid}/cmdline").read_bytes()
            or b"prctl" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ):
            assert time.monotonic() < deadline
        parent.send_signal(signal.SIGKILL)
    assert gone(pid)


def test_a_server_that_ends_again_and_again_is_tried_for_ever_ever_more_slowly(tmp_path, monkeypatch, capsys):
    clock = iter(range(10_000))
    now = 0.0

    def tick():
        nonlocal now
        now += 0.25
        return now

    watched = real._Watched(Fake(tmp_path / "f", "raise SystemExit(3)"))
    watched.spawn()
    monkeypatch.setattr(real.time, "monotonic", tick)
    began = []
    while now < 40 and next(clock) < 2_000:
        watched.server.process.wait()
        if watched.watch():
            began.append(now)
    gaps = [b - a for a, b in pairwise(began)]
    assert began[0] < 1
    assert sorted(gaps) == gaps
    assert 10 <= gaps[-1] < 12
    assert capsys.readouterr().err.count("Fake ended (3), starting it again") == len(began)


def test_a_server_whose_folder_has_no_room_does_not_end_the_rest(tmp_path, monkeypatch, capsys):
    watched = real._Watched(Fake(tmp_path / "f", "raise SystemExit(3)"))
    watched.spawn()
    watched.server.process.wait()
    monkeypatch.setattr(
        Fake, "prepare", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    assert watched.watch()
    assert "cannot be started, trying again" in capsys.readouterr().err


def test_what_servers_keep_is_for_nobody_else(tmp_path, monkeypatch):
    monkeypatch.setattr(apache, "java", lambda: shutil.which("true"))
    monkeypatch.setattr(apache, "jars", lambda: tmp_path)
    for what in (
        Node(tmp_path / "kafka", 1, {1: 2}),
        Influxd(tmp_path / "influx", 3),
        Prometheus(tmp_path / "p", 4, {}),
    ):
        what.prepare()
        assert stat.S_IMODE(what.folder.stat().st_mode) == 0o700


def test_a_full_disk_does_not_empty_what_is_right_already(tmp_path):
    node = Node(tmp_path, 1, {1: 2})
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "meta.properties").touch()
    node.prepare()
    written = (tmp_path / "server.properties").stat().st_mtime_ns
    node.prepare()
    assert (tmp_path / "server.properties").stat().st_mtime_ns == written


def test_servers_are_given_none_of_our_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("CITYWATCH_INFLUX__TOKEN", "secret")
    server = Server(Fake(tmp_path / "f", "import os; print(sorted(os.environ)); raise SystemExit(0)"))
    server.spawn()
    server.process.wait()
    assert "PATH" in server.log()
    assert "CITYWATCH" not in server.log()
    assert int((tmp_path / "f" / "pid").read_text()) == server.process.pid
