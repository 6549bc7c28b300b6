"""A city's parts on this machine: the broker, the rules in its log and the workers, started together and watched."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Self

from bus import clients, topics
from bus.embedded import EmbeddedBroker
from models import catalogue
from models.base import micros
from sinks.contract import Record
from sinks.open import may_hold, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from models.base import Micros
    from rules.spec import RuleSet
    from settings import Settings

ROLES = ("judge", "store", "alarms")

#: A worker's exit code for what no restart cures: bad configuration, a taken port.
WRONG_USE = 2

#: A worker that ends is started again, this often within a minute; then something is wrong that restarts do not cure.
MOST_RESTARTS = 20


class BusyError(RuntimeError):
    """Another citywatch uses the data folder."""


class BrokenError(RuntimeError):
    """A worker cannot be kept alive."""


@dataclass(frozen=True)
class Running:
    """What a running `up` tells other commands through its data folder."""

    bootstrap: str
    log_id: str
    pid: int
    embedded: bool
    prefix: str = ""
    clock: str = "log"  # writer: a replay's world, whose only clock is the replayer


def running(data: Path) -> Running | None:
    """What runs on this data folder now, or None."""
    try:
        found = Running(**json.loads((data / "up.json").read_text()))
        os.kill(found.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return found


class World:
    """The embedded broker (or a running Kafka, under a prefix or not), and one worker of each role.

    A context manager: leaving it stops every process that it started. Raises BusyError, PermissionError,
    UnreachableError, and BrokenError from `watch`.
    """

    def __init__(
        self,
        settings: Settings,
        rules: RuleSet,
        *,
        clock: str,
        effective_from: Micros,
        stamp: Micros | None,
        grace_s: float | None = None,
        prefix: str = "",
    ) -> None:
        self.settings, self.rules = settings, rules
        self.clock, self.effective_from, self.stamp = clock, effective_from, stamp
        self.grace_s, self.prefix = grace_s, prefix
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.restarts = 0
        self._deaths: list[float] = []
        self._broker: EmbeddedBroker | None = None
        self._lock: IO[str] | None = None

    @property
    def grace_us(self) -> Micros | None:
        return None if self.grace_s is None else round(self.grace_s * 1e6)

    @property
    def data(self) -> Path:
        return self.settings.data.dir

    # --- starting and stopping ----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        self._lock = (self.data / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError(
                f"{self.data} is used by a citywatch that runs; stop that one, or give another folder with --data"
            ) from None
        bootstrap = self.settings.kafka.bootstrap
        if bootstrap is None and may_hold(self.settings):  # a Kafka's log goes on, and so do its alarms
            asyncio.run(close_ended(self.settings))
        if bootstrap is None:
            self._broker = EmbeddedBroker()
            bootstrap, log_id = self._broker.bootstrap, self._broker.log_id
        else:
            log_id = self.settings.kafka.log_id or clients.log_id(bootstrap)
            if self.prefix:
                log_id = f"{log_id}/{self.prefix.rstrip('.')}"
            problems = [
                str(c)
                for c in topics.apply(bootstrap, self.prefix, self.settings.kafka.replication)
                if c.action == "problem"
            ]
            if problems:
                raise BrokenError("; ".join(problems))
        topics.publish_rules(bootstrap, self.prefix, self.rules.canonical(), self.effective_from, self.stamp)
        self.running = Running(
            bootstrap, log_id, os.getpid(), self._broker is not None, self.prefix, self.clock
        )
        (self.data / "up.json").write_text(json.dumps(asdict(self.running)))
        for role in ROLES:
            self.workers[role] = self._spawn(role)

    def _spawn(self, role: str) -> subprocess.Popen[bytes]:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("CITYWATCH_KAFKA__")}
        environ |= {
            "CITYWATCH_KAFKA__BOOTSTRAP": self.running.bootstrap,
            "CITYWATCH_KAFKA__LOG_ID": self.running.log_id,
            "CITYWATCH_KAFKA__EMBEDDED": str(self.running.embedded).lower(),
            "CITYWATCH_KAFKA__PREFIX": self.prefix,
            "CITYWATCH_KAFKA__CLOCK": self.clock,
            "CITYWATCH_DATA__DIR": str(self.data),
            "CITYWATCH_STORE__PATH": str(self.settings.store_path),
        }
        if self.grace_s is not None:
            environ["CITYWATCH_TIME__GRACE_S"] = str(self.grace_s)
        if self.running.embedded:
            environ.setdefault("CITYWATCH_CHECKPOINT__BYTES", "500000")
        return subprocess.Popen(  # noqa: S603 - our own interpreter and command
            [sys.executable, "-m", "cli", "worker", "--role", role, "--tied"],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=sys.stderr,
            start_new_session=True,
        )

    def watch(self) -> list[str]:
        """Start what ended again; returns the roles that had ended. Raises BrokenError when that does not help."""
        ended = [role for role, worker in self.workers.items() if worker.poll() is not None]
        now = time.monotonic()
        for role in ended:
            code = self.workers[role].returncode
            if code == WRONG_USE:
                raise BrokenError(f"the {role} worker refuses its settings: see what it said above")
            print(f"citywatch: the {role} worker ended ({code}), starting it again", file=sys.stderr)
            self._deaths = [t for t in self._deaths if now - t < 60] + [now]
            if len(self._deaths) > MOST_RESTARTS:
                raise BrokenError(
                    f"workers ended {len(self._deaths)} times within a minute, the last was {role}"
                )
            self.restarts += 1
            self.workers[role] = self._spawn(role)
        return ended

    def __exit__(self, *_exc: object) -> None:
        for worker in self.workers.values():
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 8
        for worker in self.workers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(max(0.1, deadline - time.monotonic()))
            if worker.poll() is None:
                worker.kill()
                worker.wait()
            assert worker.stdin is not None
            worker.stdin.close()
        if self._broker is not None:
            self._broker.close()
        if self.workers and (self._broker is not None or self.clock == "writer") and may_hold(self.settings):
            asyncio.run(close_ended(self.settings))  # a replay's world, too, is over when nobody feeds it
        if self._lock is not None:
            (self.data / "up.json").unlink(missing_ok=True)
            self._lock.close()


async def close_ended(settings: Settings) -> int:
    """Alarms that an ended embedded log left open are closed as `log-ended`: nothing will ever clear them. How many."""
    store = open_store(settings)
    try:
        changed = [
            r._replace(body={**r.body, "active": False, "state": "NORM", "closed_by": "log-ended"})
            for r in await store.kept("alarm")
            if r.body["active"]
        ]
        await store.keep([Record(*r) for r in changed])
        return len(changed)
    finally:
        await store.close()


async def settled(bootstrap: str, prefix: str) -> None:
    """Return when every group has read what there is now, each hop after the one before it."""
    partitions = {t.name: t.partitions for t in catalogue.topics().values()}
    hops = [
        (list(catalogue.topics()), ("judge", "store")),
        ([catalogue.ALARM_INPUT], ("alarms",)),
        ([catalogue.REJECTED, catalogue.ALARM_EVENT, catalogue.ALARM_STATE, catalogue.LEDGER], ("store",)),
    ]
    for names, roles in hops:
        places = [(clients.name(prefix, n), p) for n in names for p in range(partitions.get(n, 1))]
        ends = await asyncio.to_thread(clients.end_offsets, bootstrap, places)
        for role in roles:
            group = f"{prefix}citywatch-{role}"
            while True:
                at = await asyncio.to_thread(clients.committed, bootstrap, group, places)
                if all(at.get(place, 0) >= end for place, end in ends.items()):
                    break
                await asyncio.sleep(0.2)


def now_us() -> Micros:
    """The wall clock; for the live world's edge only."""
    return micros(datetime.now(UTC))
