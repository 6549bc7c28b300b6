"""Apache Kafka as a process of its own on loopback, for the slow tests; its jars stay in `.cache/kafka`.

Not named kafka.py: pytest puts this folder on the path, and that name is the client's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from bus.clients import UnreachableError, log_id

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".cache" / "kafka"
POM = Path(__file__).parent / "kafka" / "pom.xml"

_START_S = 60
_STOP_S = 30

# Heaps under 512 MB need the small dedupe buffer; the session time-out decides how long a restart after SIGKILL takes.
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/log
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=4194304
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""


class KafkaMissingError(RuntimeError):
    """Kafka cannot be run here; the text says what is missing."""


def jars() -> Path:
    """The folder with Kafka's jars, fetched by Maven the first time."""
    if shutil.which("java") is None:
        raise KafkaMissingError("real Kafka needs java 17 or newer on PATH")
    libs = CACHE / "libs"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two suites may begin at once
        if not libs.is_dir():
            _fetch(libs)
    return libs


def _fetch(libs: Path) -> None:
    if shutil.which("mvn") is None:
        raise KafkaMissingError(
            f"real Kafka's jars are fetched once by mvn (Maven), which is not on PATH, into {libs}"
        )
    with tempfile.TemporaryDirectory(dir=CACHE) as half:
        command = [
            "mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies",
            f"-DoutputDirectory={half}/libs", "-DincludeScope=runtime",
        ]  # fmt: skip
        ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if ran.returncode:
            raise KafkaMissingError(f"mvn could not fetch Kafka's jars: {(ran.stdout + ran.stderr)[-500:]}")
        (Path(half) / "libs").rename(libs)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class RealKafka:
    """One broker and controller. `kill` and `start` again keep what was written; `close` removes it."""

    def __init__(self) -> None:
        self._libs = jars()
        self.folder = Path(tempfile.mkdtemp(prefix="citywatch-kafka-"))
        port, controller = _free_ports(2)
        self.bootstrap = f"127.0.0.1:{port}"
        self._properties = self.folder / "server.properties"
        self._properties.write_text(_PROPERTIES.format(port=port, controller=controller, folder=self.folder))
        self._process: subprocess.Popen[bytes] | None = None
        try:
            cluster = self._java("kafka.tools.StorageTool", "random-uuid").strip()
            self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties))
            self.start()
        except BaseException:
            self.close()
            raise

    def _java(self, *arguments: str) -> str:
        command = ["java", "-cp", f"{self._libs}/*", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_START_S, check=False)
        if ran.returncode:
            raise KafkaMissingError(f"{' '.join(arguments[:2])}: {(ran.stdout + ran.stderr)[-500:]}")
        return ran.stdout

    def start(self) -> None:
        """Start the broker and wait until it answers."""
        command = [
            "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{self._libs}/*",
            "kafka.Kafka", str(self._properties),
        ]  # fmt: skip
        with (self.folder / "broker.log").open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise KafkaMissingError(f"Kafka did not start: {self.log()[-1000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        """Whether a client is served; the bare connection is tried first, since clients back off for long."""
        host, port = self.bootstrap.split(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            log_id(self.bootstrap)
        except (OSError, UnreachableError):
            return False
        return True

    def log(self) -> str:
        path = self.folder / "broker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the broker, with SIGKILL as a crash does, and wait until it is gone."""
        if self._process is None:
            return
        os.kill(self._process.pid, how)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def close(self) -> None:
        self.kill(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)
