"""Apache Kafka 4 on this machine: where its jars and Java are found, what a node is told, what starts it and when it answers."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import uuid
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bus.clients import UnreachableError, log_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parent.parent

#: Kafka 4 is KRaft alone, and its brokers need this Java.
OLDEST, OLDEST_JAVA = 4, 17

_FORMAT_S = 60

#: Of the binding that tools/get_kafka.sh brings; at `info` a start alone says 160 kB.
_LOGGING = tuple(
    f"-Dorg.slf4j.simpleLogger.{name}={value}"
    for name, value in (
        ("defaultLogLevel", "warn"),
        ("showDateTime", "true"),
        ("dateTimeFormat", "yyyy-MM-dd HH:mm:ss.SSS"),
    )
)

#: Heaps under 512 MB need the small dedupe buffer; the session time-out decides how long a restart after SIGKILL takes.
_PROPERTIES = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
}
_REPLICATED = (
    "default.replication.factor",
    "offsets.topic.replication.factor",
    "transaction.state.log.replication.factor",
    "share.coordinator.state.topic.replication.factor",
)


class KafkaMissingError(RuntimeError):
    """Kafka cannot be run here; the text says what is missing and what brings it."""


def java() -> str:
    """The Java that runs Kafka. Raises KafkaMissingError."""
    home = os.environ.get("JAVA_HOME")
    path = shutil.which("java", path=f"{home}/bin") if home else None
    path = path or shutil.which("java")
    brings = f"Kafka needs Java {OLDEST_JAVA} or newer: apt-get install openjdk-{OLDEST_JAVA}-jre-headless"
    if path is None:
        raise KafkaMissingError(f"there is no java on PATH; {brings}")
    said = _version(path)
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < OLDEST_JAVA:
        said = said.partition("\n")[0].strip()
        raise KafkaMissingError(f"{path} is {said or 'none that tells its version'}; {brings}")
    return path


@cache
def _version(path: str) -> str:
    ran = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    return ran.stderr or ran.stdout


def jars() -> Path:
    """The folder with Kafka's jars: of the Kafka on PATH, of this checkout, of this user. Raises KafkaMissingError."""
    seen = []
    for libs in _places():
        versions = [
            m[1]
            for p in libs.glob("kafka_2.*.jar")
            if (m := re.match(r"kafka_[\d.]+-(\d[\d.]*)\.jar", p.name))
        ]
        if any(int(version.partition(".")[0]) >= OLDEST for version in versions):
            return libs
        seen += [f"{libs} has {version}" for version in versions]
    found = f" ({'; '.join(seen)})" if seen else ""
    raise KafkaMissingError(
        f"there is no Kafka {OLDEST} on PATH or in .cache/kafka/libs{found}; tools/get_kafka.sh fetches it"
    )


def _places() -> Iterator[Path]:
    on_path = shutil.which("kafka-server-start.sh")
    if on_path is not None:
        yield Path(on_path).resolve().parent.parent / "libs"
    yield ROOT / ".cache" / "kafka" / "libs"
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "citywatch" / "kafka" / "libs"


def new_cluster() -> str:
    """A fresh cluster id, as Kafka writes them."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass  # a command line would take it for an option
    return made


@dataclass(frozen=True)
class Node:
    """One server of a cluster on loopback, broker and controller in one. What it keeps is in its folder.

    `listeners` are more of them, by name with their ports, as SASL_SSL; `properties` overrule ours.
    """

    folder: Path
    port: int
    controllers: Mapping[
        int, int
    ]  # every node of the cluster, itself too: its number, the port of its controller
    number: int = 1
    cluster: str = field(default_factory=new_cluster)  # of a folder that has none yet
    listeners: Mapping[str, int] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)

    name = "Kafka"

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def configuration(self) -> str:
        """The text of server.properties."""
        clients = {"PLAINTEXT": self.port, **self.listeners}
        every = {**clients, "CONTROLLER": self.controllers[self.number]}
        said = {
            **_PROPERTIES,
            **dict.fromkeys(_REPLICATED, str(len(self.controllers))),
            "node.id": str(self.number),
            "controller.quorum.voters": ",".join(
                f"{n}@127.0.0.1:{port}" for n, port in self.controllers.items()
            ),
            "listeners": _addresses(every),
            "advertised.listeners": _addresses(clients),
            "listener.security.protocol.map": ",".join(
                f"{name}:{'PLAINTEXT' if name == 'CONTROLLER' else name}" for name in every
            ),
            "log.dirs": str(self.folder.absolute() / "log"),
            **self.properties,
        }
        return "".join(f"{key}={value.replace(chr(92), chr(92) * 2)}\n" for key, value in said.items())

    def prepare(self) -> None:
        """Write what it is told and, the first time, format its log. Raises KafkaMissingError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        properties = self.folder / "server.properties"
        if not properties.exists() or properties.read_text() != self.configuration():
            properties.write_text(self.configuration())  # a full disk must not empty what is right already
        if (self.folder / "log" / "meta.properties").exists():
            return  # written last: without it a format was cut short, and nothing is in the log
        command = [
            java(), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars()}/*", "kafka.tools.StorageTool",
            "format", "--ignore-formatted", "-t", self.cluster, "-c", str(properties),
        ]  # fmt: skip
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_FORMAT_S, check=False)  # noqa: S603
        if ran.returncode:
            raise KafkaMissingError(f"Kafka cannot format {self.folder}: {(ran.stdout + ran.stderr)[-500:]}")

    def command(self) -> list[str]:
        """What starts it. Raises KafkaMissingError."""
        return [
            java(), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            *_LOGGING, "-cp", f"{jars()}/*", "kafka.Kafka", str(self.folder.absolute() / "server.properties"),
        ]  # fmt: skip

    def answers(self) -> bool:
        """Whether a client is served; the bare connection is tried first, since clients back off for long."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            log_id(self.bootstrap)
        except (OSError, UnreachableError):
            return False
        return True


def _addresses(listeners: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items())
