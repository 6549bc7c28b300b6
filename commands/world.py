"""A city's parts on this machine: the broker, the rules in its log, the workers and what runs beside them, watched."""

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
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Protocol, Self

from bus import clients, headers, topics
from bus.embedded import EmbeddedBroker
from commands.folder import Running, say_last
from commands.output import tell
from models import catalogue
from models.base import micros
from settings import KAFKA_SECURITY
from sinks import ledger
from sinks.contract import Record
from sinks.open import may_hold, open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from commands.real import Real
    from models.base import Micros
    from rules.spec import RuleSet
    from settings import Settings

ROLES = ("judge", "store", "alarms", "ledger")

#: A worker's exit code for what no restart cures: bad configuration, a taken port.
WRONG_USE = 2

#: What ends is started again, this often within a minute; then something is wrong that restarts do not cure.
MOST_RESTARTS = 20

#: Workers stop within two to three seconds; what takes longer than this is killed, which loses nothing.
STOP_S = 4.5


class BusyError(RuntimeError):
    """Another citywatch uses the data folder."""


class BrokenError(RuntimeError):
    """A worker cannot be kept alive."""


class Words(Protocol):
    """The words of a command of ours that runs beside the workers, asked for whenever it is to be started.

    `code` is what it ended with, None at first. No words: it has done what it was for.
    """

    def __call__(self, code: int | None, /) -> Sequence[str] | None: ...


def _called(name: str) -> str:
    return f"{name} worker" if name in ROLES else name


class World:
    """The embedded broker (or a running Kafka, under a prefix or not), one worker of each role, and what is `beside` them.

    With `real` it has servers of its own in the data folder. A context manager: leaving it stops every process that it
    started. Raises BusyError, PermissionError, UnreachableError, what `real` raises, and BrokenError from `watch`.
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
        beside: Mapping[str, Words] | None = None,
        real: Real | None = None,
    ) -> None:
        self.settings, self.rules = settings, rules
        self.clock, self.effective_from, self.stamp = clock, effective_from, stamp
        self.grace_s, self.prefix = grace_s, prefix
        self.beside = beside or {}
        self.real = real
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        self.restarts = 0
        self._began = False
        self._deaths: dict[str, list[float]] = {}
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
        lock = (self.data / "lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise BusyError(
                f"{self.data} is used by a citywatch that runs; stop that one, or give another folder with --data"
            ) from None
        self._lock = lock  # from here on the folder is ours to clean up
        commands = {name: self._words(name, None) for name in (*ROLES, *self.beside)}
        if self.real is not None:
            self.settings = self.real.start(self.settings)
        else:
            say_last(self.data, real=False)
        bootstrap = self.settings.kafka.bootstrap
        if bootstrap is None and may_hold(self.settings):  # a Kafka's log goes on, and so do its alarms
            asyncio.run(close_ended(self.settings))
            for topic, count in asyncio.run(close_accounts(self.settings)).items():
                tell(f"{topic}: {count:,} were stored that a killed city's ledger had not yet accounted for")
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
        self._began = True
        for name, words in commands.items():
            if words is not None:
                self.parts[name] = self._spawn(words)

    def _words(self, name: str, code: int | None) -> Sequence[str] | None:
        return ("worker", "--role", name) if name in ROLES else self.beside[name](code)

    def _spawn(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        environ = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith("CITYWATCH_KAFKA__") or k in KAFKA_SECURITY
        }
        if self.real is not None:
            environ = {k: v for k, v in environ.items() if not k.startswith("CITYWATCH_INFLUX__")}
            environ |= self.real.environ()
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
            [sys.executable, "-m", "cli", *words, "--tied"],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=sys.stderr,
            start_new_session=True,
        )

    def watch(self) -> list[str]:
        """Start what ended again; returns the names of what had ended.

        Raises BrokenError when that does not help a worker. Without what is beside them the city goes on.
        """
        ended = [name for name, part in self.parts.items() if part.poll() is not None]
        for name in ended:
            self._again(name, self._forget(name))
        if self.real is not None:
            self.restarts += self.real.watch()
        return ended

    def _again(self, name: str, code: int) -> None:
        words = self._words(name, code)
        if words is None:
            return
        why = self._hopeless(name, code)
        if why and name in ROLES:
            raise BrokenError(why)
        if why:
            tell(f"{why}; the city goes on without it")
            return
        tell(f"the {_called(name)} ended ({code}), starting it again")
        self.restarts += 1
        self.parts[name] = self._spawn(words)

    def _hopeless(self, name: str, code: int) -> str | None:
        """Why no restart cures what ended, or None. Workers are counted together: they fail for one reason."""
        if code == WRONG_USE:
            return f"the {_called(name)} cannot work, and no restart helps: see what it said above"
        now, kind = time.monotonic(), "workers" if name in ROLES else name
        deaths = self._deaths[kind] = [t for t in self._deaths.get(kind, ()) if now - t < 60] + [now]
        if len(deaths) <= MOST_RESTARTS:
            return None
        return f"{kind} ended {len(deaths)} times within a minute, the last was the {_called(name)}"

    def stop(self, names: Iterable[str], within_s: float = STOP_S) -> None:
        """Have these parts end, and do not start them again; what has not ended in time is killed."""
        asked = [name for name in names if name in self.parts]
        for name in asked:
            self.parts[name].send_signal(signal.SIGTERM)
        deadline = time.monotonic() + within_s
        for name in asked:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.parts[name].wait(max(0.1, deadline - time.monotonic()))
            self.parts[name].kill()
            self._forget(name)

    def _forget(self, name: str) -> int:
        """What an ended part ended with."""
        part = self.parts.pop(name)
        if part.stdin is not None:
            part.stdin.close()
        return part.wait()

    def __exit__(self, *_exc: object) -> None:
        self.stop(list(self.parts))
        if self._broker is not None:
            self._broker.close()
        if self.real is not None:
            self.real.stop()
        over = self._broker is not None or self.clock == "writer"
        if self._began and over and may_hold(self.settings):
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


async def close_accounts(settings: Settings) -> dict[str, int]:
    """As `sinks.ledger.close_accounts`: a city that was killed, its embedded log with it, is accounted for."""
    store = open_store(settings)
    try:
        return await ledger.close_accounts(store)
    finally:
        await store.close()


async def settled(bootstrap: str, prefix: str, over: Micros | None = None) -> None:
    """Return when every group has read what there is now, each hop after the one before it.

    `over`: the world's time ends then; what waits for a time in the alarm plane acts before.
    """
    partitions = {t.name: t.partitions for t in catalogue.topics().values()}

    async def read(names: list[str], *roles: str) -> dict[tuple[str, int], int]:
        places = [(clients.name(prefix, n), p) for n in names for p in range(partitions.get(n, 1))]
        ends = await asyncio.to_thread(clients.end_offsets, bootstrap, places)
        for role in roles:
            group = f"{prefix}citywatch-{role}"
            while True:
                at = await asyncio.to_thread(clients.committed, bootstrap, group, places)
                if all(at.get(place, 0) >= end for place, end in ends.items()):
                    break
                await asyncio.sleep(0.2)
        return ends

    await read(list(catalogue.topics()), "judge", "store", "ledger")
    if over is not None:
        await asyncio.to_thread(_clock, bootstrap, clients.name(prefix, catalogue.ALARM_INPUT), over)
    # What the rules over signals conclude is appended to the log they read.
    before = None
    while (now := await read([catalogue.ALARM_INPUT], "alarms")) != before:
        before = now
    await read([catalogue.REJECTED, catalogue.ALARM_EVENT, catalogue.ALARM_STATE, catalogue.LEDGER], "store")


#: How long the broker may take to say that it has a record.
_ACK_S = 30


def _clock(bootstrap: str, topic: str, stamp: Micros) -> None:
    clock = headers.clock_record()
    with closing(clients.producer(bootstrap)) as producer:
        producer.send(topic, clock.value, None, clock.headers, 0, stamp // 1000).get(_ACK_S)


def now_us() -> Micros:
    """The wall clock; for the live world's edge only."""
    return micros(datetime.now(UTC))
