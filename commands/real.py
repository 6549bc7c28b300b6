"""Apache Kafka, InfluxDB and, where it is installed, Prometheus, as processes of one data folder, watched."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bus import apache
from commands import folder, prometheus
from commands.output import tell
from commands.servers import Server, end_leftover, free_ports, is_free
from settings import read
from sinks import influxd

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from pathlib import Path

    from commands.servers import Described
    from settings import Settings

#: The ports of workers' metrics: so many in a row, that another role may come.
_ROLES = 8

#: Between two starts of a server that ends again and again. It is never given up: what it lacks (room on a disk, say) comes back.
_PAUSES = (0.0, 1.0, 2.0, 5.0, 10.0)

#: One that has lived so long has not ended again and again.
_LIVED_S = 60.0


class MissingError(RuntimeError):
    """Something is not on this machine; one line says what, and which command brings it."""


def check() -> None:
    """Raises MissingError for all that is missing at once."""
    missing = []
    for find in (apache.java, apache.jars, influxd.influxd):
        try:
            find()
        except (apache.KafkaMissingError, influxd.InfluxMissingError) as error:
            missing.append(str(error))
    if missing:
        raise MissingError("; and ".join(missing))


class _Watched:
    """A server that is started again whenever it ends, sooner or later."""

    def __init__(self, what: Described) -> None:
        self.server = Server(what, tied=True)
        self._ended: int | None = None
        self._began = self._due = 0.0
        self._tries = 0

    def spawn(self) -> None:
        self._ended, self._began = None, time.monotonic()
        self.server.spawn()

    def watch(self) -> bool:
        """Whether it was started again now."""
        process, now = self.server.process, time.monotonic()
        if process is None or process.poll() is None:
            return False
        if self._ended is None:
            self._ended = process.returncode
            self._tries = 0 if now - self._began > _LIVED_S else self._tries
            self._due = now + _PAUSES[min(self._tries, len(_PAUSES) - 1)]
            self._tries += 1
        if now < self._due:
            return False
        name = self.server.what.name
        tell(f"{name} ended ({self._ended}), starting it again; what it said is in {self.server.log_file}")
        try:
            self.spawn()
        except OSError as error:  # no room on the disk, say
            tell(f"{name} cannot be started, trying again: {error}")
        return True


class Real:
    """The servers of a folder, which end with the thread that started them. Raises ServerError and MissingError.

    `console` is where the console answers, which is scraped, too. Told to `stop` while they start: KeyboardInterrupt.
    """

    def __init__(
        self, data: Path, roles: tuple[str, ...], console: str | None, stop: threading.Event
    ) -> None:
        check()
        self.data, self._roles, self._console, self._stop = data, roles, console, stop
        self._servers: list[_Watched] = []

    def start(self, settings: Settings) -> Settings:
        """Start them and wait until they answer; the settings by which everything else uses them."""
        self.kept = kept = self._kept(settings)
        self.kafka = apache.Node(self.data / "kafka", kept.kafka, {1: kept.controller})
        influx = influxd.Influxd(self.data / "influx", kept.influx)
        servers = [_Watched(self.kafka), _Watched(influx)]
        for one in servers:
            one.spawn()
            self._servers.append(one)
        servers[1].server.wait(self._stop)
        influx.set_up(kept.org, kept.bucket)
        folder.say_last(self.data, real=True)
        self.prometheus = self._start_prometheus(settings)
        servers[0].server.wait(self._stop)
        said = {
            "kafka": settings.kafka.model_copy(update={"bootstrap": self.kafka.bootstrap, "replication": 1}),
            "influx": read(kept.environ(self.data)).influx,
            "metrics": settings.metrics.model_copy(update={"port": kept.metrics}),
        }
        return settings.model_copy(update=said)

    def environ(self) -> dict[str, str]:
        """What processes that use them are told, beside their Kafka."""
        return {**self.kept.environ(self.data), "CITYWATCH_METRICS__PORT": str(self.kept.metrics)}

    def watch(self) -> int:
        """Start again what ended; how many."""
        return sum(one.watch() for one in self._servers)

    def stop(self) -> None:
        """Stop them cleanly, Kafka last."""
        for one in reversed(self._servers):
            one.server.kill(signal.SIGTERM)
        self._servers.clear()

    def _start_prometheus(self, settings: Settings) -> prometheus.Prometheus | None:
        if prometheus.found() is None:
            return None
        what = prometheus.Prometheus(
            self.data / "prometheus", self.kept.prometheus, self._targets(settings.metrics.host)
        )
        self._servers.append(_Watched(what))
        self._servers[-1].spawn()  # nobody waits for it
        return what

    def _targets(self, host: str) -> Mapping[str, str]:
        here = reachable(host)
        found = {role: f"{here}:{self.kept.metrics + n}" for n, role in enumerate(self._roles)}
        found["influxdb"] = f"127.0.0.1:{self.kept.influx}"
        return found if self._console is None else {**found, "console": self._console}

    def _kept(self, settings: Settings) -> folder.Servers:
        """What the folder says of them, with ports that are free."""
        for name in ("kafka", "influx", "prometheus"):
            end_leftover(self.data / name)
        found = folder.servers(self.data)
        if found is None:
            kafka, controller, influx, own = free_ports(4)
            metrics, *_ = free_ports(_ROLES)
            org, bucket = settings.influx.org, settings.influx.bucket
            found = folder.Servers(kafka, controller, influx, own, metrics, org, bucket)
        found = _moved(found)
        if settings.metrics.port:
            found = replace(found, metrics=settings.metrics.port)
        folder.keep(self.data, found)
        return found


def _moved(found: folder.Servers) -> folder.Servers:
    """With other ports where somebody else has taken them meanwhile."""
    moved: dict[str, Any] = {}
    for name in ("kafka", "controller", "influx", "prometheus"):
        port = getattr(found, name)
        if not is_free(port):
            (moved[name],) = free_ports(1)
            tell(f"port {port} of {name} is taken by somebody else; from now on it is {moved[name]}")
    if not all(is_free(found.metrics + n) for n in range(_ROLES)):
        moved["metrics"], *_ = free_ports(_ROLES)
    return replace(found, **moved)


def reachable(host: str) -> str:
    """Where to ask what listens at `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
