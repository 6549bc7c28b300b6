"""Apache Kafka as processes on loopback, for the slow tests; its jars stay in `.cache/kafka`, fetched the first time.

Not named kafka.py: pytest puts this folder on the path, and that name is the client's.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bus import apache
from bus.apache import KafkaMissingError, Node, java, new_cluster
from commands.servers import Server, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parent.parent


def jars() -> Path:
    """The folder with Kafka's jars, fetched by Maven the first time."""
    java()
    try:
        return apache.jars()
    except KafkaMissingError:
        ran = subprocess.run(
            [ROOT / "tools" / "get_kafka.sh"], capture_output=True, text=True, timeout=600, check=False
        )
        if ran.returncode:
            raise KafkaMissingError(f"tools/get_kafka.sh: {(ran.stdout + ran.stderr)[-500:]}") from None
        return apache.jars()


class Cluster:
    """So many nodes, numbered from 0, each with every topic's replica. `kill(i)` and `start(i)` keep what was written.

    `listeners`: names of more listeners, as SASL_SSL, each on a port of its own on every node (`address`). `properties`
    overrule what server.properties would say.
    """

    def __init__(
        self, count: int, properties: Mapping[str, str] | None = None, listeners: Sequence[str] = ()
    ) -> None:
        jars()
        self.folder = Path(tempfile.mkdtemp(prefix="citywatch-kafka-"))
        each = 2 + len(listeners)
        row = free_ports(count * each)
        ports = [row[n * each : (n + 1) * each] for n in range(count)]
        controllers = {n: found[1] for n, found in enumerate(ports, 1)}
        cluster = new_cluster()
        self.nodes = [
            Node(
                self.folder / str(n),
                found[0],
                controllers,
                n,
                cluster,
                dict(zip(listeners, found[2:], strict=True)),
                properties or {},
            )
            for n, found in enumerate(ports, 1)
        ]
        self.servers = [Server(node) for node in self.nodes]
        self.bootstrap = ",".join(node.bootstrap for node in self.nodes)
        try:
            with ThreadPoolExecutor(count) as beside:
                list(beside.map(lambda server: server.spawn(), self.servers))
            for server in self.servers:
                server.wait()
        except BaseException:
            self.close()
            raise

    def address(self, listener: str, i: int = 0) -> str:
        """Host and port of one more listener of node i."""
        return f"127.0.0.1:{self.nodes[i].listeners[listener]}"

    def start(self, i: int = 0) -> None:
        """Start a node again and wait until it answers."""
        self.servers[i].start()

    def kill(self, i: int = 0, how: signal.Signals = signal.SIGKILL) -> None:
        """End a node, with SIGKILL as a crash does, and wait until it is gone."""
        self.servers[i].kill(how)

    def log(self, i: int = 0) -> str:
        return self.servers[i].log()

    def close(self) -> None:
        """Stop every node at once (the last of them would wait for a quorum) and remove what they wrote."""
        with ThreadPoolExecutor(len(self.servers)) as beside:
            list(beside.map(lambda server: server.kill(signal.SIGTERM), self.servers))
        shutil.rmtree(self.folder, ignore_errors=True)


class RealKafka(Cluster):
    """One broker and controller. `kill` and `start` again keep what was written; `close` removes it."""

    def __init__(self, properties: Mapping[str, str] | None = None, listeners: Sequence[str] = ()) -> None:
        super().__init__(1, properties, listeners)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:  # type: ignore[override]
        """End the broker, with SIGKILL as a crash does, and wait until it is gone."""
        super().kill(0, how)


@contextmanager
def running(properties: Mapping[str, str] | None = None) -> Iterator[RealKafka]:
    """A broker for as long as it is needed; a test that has none here is skipped, and says why."""
    try:
        broker = RealKafka(properties)
    except KafkaMissingError as missing:
        pytest.skip(f"needs Apache Kafka as a process: {missing}")
    try:
        yield broker
    finally:
        broker.close()
