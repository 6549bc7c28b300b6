"""A small city under attack: real Kafka, a real store, workers that are killed, put to sleep, sent away; and at the end the truth.

A *piece* is one run of a scenario on parts of its own: a bounded feed of drawn events, attacks at drawn moments, then quiet, then
`truth.Truth` compares what must be with what is. Every piece is told by its name and seed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from real_influx import ORG, TOKEN, RealInflux
from real_kafka import Cluster
from truth import Truth, Verdict, ideal

from bus import clients, headers, topics
from commands.world import settled
from models.alarm import COMMAND_TYPE, Command
from models.base import Place, moment
from models.camera import CameraEvent
from models.catalogue import ALARM_EVENT, ALARM_INPUT
from models.traffic import TrafficFlow
from rules.spec import RuleSet
from settings import read
from sinks.open import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from models.base import Event

ROOT = Path(__file__).parents[1]
FATAL = str(ROOT / "tests" / "fatal.py")
#: Of three brokers: what an own cluster would set, for the topics that Kafka makes by itself.
IN_STEP = {
    "offsets.topic.replication.factor": "3", "transaction.state.log.replication.factor": "3", "transaction.state.log.min.isr": "2",
    "default.replication.factor": "3", "min.insync.replicas": "2",
}  # fmt: skip
FLOW, CAMERA = TrafficFlow.topic.name, CameraEvent.topic.name
WORDS = {"vi": "x", "en": "x"}
ROADS, CAMERAS = 120, 40
JAM = {"priority": "P3", "raise": "speed_kmh < 10", "clear": "speed_kmh > 20"}
RULES = RuleSet.model_validate(
    {
        "rules": [
            {"id": "jam", "kind": "threshold", "on": FLOW, "by": ["segment_id"], "title": WORDS, "levels": [{**JAM, "for": "0s"}]},
            {"id": "standing", "kind": "threshold", "on": FLOW, "by": ["segment_id"], "title": WORDS,
             "levels": [{**JAM, "for": "3s", "keep": "2s"}]},
            {"id": "loitering", "kind": "count", "on": CAMERA, "by": ["camera_id"], "title": WORDS, "where": "kind == 'loitering'",
             "window": "10s", "levels": [{"priority": "P4", "raise": "count >= 3"}]},
            {"id": "lost", "kind": "event", "on": CAMERA, "by": ["camera_id"], "title": WORDS, "raise": "kind == 'signal_loss'",
             "keep": "4s", "priority": "P4"},
        ],
        "wide": [
            {"id": "seen", "kind": "correlate", "anchor": ["jam"], "of": ["jam", "lost", "loitering"], "classes": 2, "within": "300m",
             "window": "10s", "title": WORDS, "priority": "P2"},
        ],
    }
)  # fmt: skip


class City:
    """Feeds drawn events in real time: values that make alarms, and what goes wrong with events, in known shares."""

    def __init__(self, bootstrap: str, seed: int, events: int, rate: float) -> None:
        self.random, self.events, self.rate = random.Random(seed), events, rate
        self.bootstrap, self.seed = bootstrap, seed
        self.fed: Counter[str] = Counter()
        self.done = threading.Event()
        self.error: BaseException | None = None
        self._slow: set[int] = set()
        self._sent: list[tuple[str, bytes, bytes]] = []
        self._thread = threading.Thread(target=self._run, name="city", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)
        if self.error is not None:
            raise self.error
        assert not self._thread.is_alive(), "the feed does not come to its end"

    def _run(self) -> None:
        try:
            with closing(clients.producer(self.bootstrap, delivery_timeout_ms=180_000)) as producer:
                began, waiting = time.monotonic(), []
                for n in range(self.events):
                    topic, key, value = self._next(n)
                    ce = headers.headers(str(n), topic, "/chaos", None)
                    waiting.append(producer.send(topic, value, key, ce))
                    ahead = n / self.rate - (time.monotonic() - began)
                    if ahead > 0.05:
                        time.sleep(ahead)
                for sent in waiting:
                    sent.get(180)
        except BaseException as error:  # noqa: BLE001 - told by join
            self.error = error
        finally:
            self.done.set()

    def _next(self, n: int) -> tuple[str, bytes, bytes]:
        r, chance = self.random, self.random.random()
        if chance < 0.02 and self._sent:  # a source that says it twice
            self.fed["repeated"] += 1
            return r.choice(self._sent[-200:])
        made = self._camera(n) if chance > 0.85 else self._road(n)
        topic, key, value = made.topic.name, made.topic.key_of(made).encode(), made.wire()
        if 0.02 <= chance < 0.03:  # what is no event
            self.fed["bad"] += 1
            return (
                topic,
                key,
                r.choice([value[:-5], b"{}", b"\xff\x00", value.replace(b"observed_at", b"observed")]),
            )
        self._sent.append((topic, key, value))
        self.fed["good"] += 1
        return self._sent[-1]

    def _when(self) -> Any:
        """Mostly now; some seconds ago, which folds a series again; long ago, which is late."""
        ago = self.random.choices([0.0, self.random.uniform(0, 6), 150.0], [80, 19, 1])[0]
        return moment(time.time_ns() // 1000 - round(ago * 1e6))

    def _road(self, n: int) -> Event:
        road = self.random.randrange(ROADS)
        if self.random.random() < 0.06:
            self._slow ^= {road}
        speed = self.random.uniform(2, 8) if road in self._slow else self.random.uniform(25, 60)
        return TrafficFlow(
            event_id=f"f{self.seed}-{n}", source_id="chaos", observed_at=self._when(), segment_id=f"s{road}",
            speed_kmh=round(speed, 1), place=_place(road),
        )  # fmt: skip

    def _camera(self, n: int) -> Event:
        camera = self.random.randrange(CAMERAS)
        kind = self.random.choices(["motion", "loitering", "signal_loss"], [80, 14, 6])[0]
        return CameraEvent(
            event_id=f"c{self.seed}-{n}", source_id="chaos", observed_at=self._when(), camera_id=f"c{camera}", kind=kind,
            place=_place(camera * 3),
        )  # fmt: skip


def _place(n: int) -> Place:
    return Place(lat=20.95 + (n % 12) * 0.004, lon=107.0 + (n // 12) * 0.004)


class Operator:
    """Acknowledges a share of what is raised, from the history as it comes."""

    def __init__(self, bootstrap: str, seed: int) -> None:
        self.bootstrap, self.random = bootstrap, random.Random(seed)
        self._from = 0
        self.acked = 0

    def look(self) -> None:
        with closing(clients.producer(self.bootstrap)) as producer:
            for record in clients.records(self.bootstrap, (ALARM_EVENT, 0), self._from):
                self._from = record.offset + 1
                entry = json.loads(record.value)
                if entry["type"] == "raised" and self.random.random() < 0.3:
                    said = Command(
                        command_id=f"{self.acked}",
                        action="acknowledge",
                        alarm_id=entry["alarm"]["alarm_id"],
                        actor="op",
                    )
                    ce = headers.headers(said.command_id, COMMAND_TYPE, "/chaos", None)
                    producer.send(
                        ALARM_INPUT, said.model_dump_json(exclude_none=True).encode(), b"op", ce, 0
                    ).get(60)
                    self.acked += 1


@dataclass
class Worker:
    """A place for one worker process after another."""

    role: str
    process: subprocess.Popen[bytes] | None = None


@dataclass
class Piece:
    """What came of one run."""

    scenario: str
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    fed: Counter[str] = field(default_factory=Counter)
    transitions: int = 0
    seconds: float = 0.0
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.verdicts) and all(v.ok for v in self.verdicts)


class Arena:
    """The parts of one piece, and the means to attack them."""

    def __init__(
        self, seed: int, *, judges: int = 2, influx: bool = True, brokers: int = 1, without: str = ""
    ) -> None:
        self.random = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="citywatch-chaos-")))
        self.kafka = Cluster(brokers, IN_STEP if brokers > 2 else {})
        self._stack.callback(self.kafka.close)
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("CITYWATCH_")} | {
            "CITYWATCH_KAFKA__BOOTSTRAP": self.kafka.bootstrap,
            "CITYWATCH_DATA__DIR": str(self.folder),
            "CITYWATCH_CHECKPOINT__SECONDS": "6" if without else "2",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        }
        self.influx = RealInflux() if influx else None
        if self.influx is not None:
            self._stack.callback(self.influx.close)
            self.environ |= {
                "CITYWATCH_INFLUX__URL": self.influx.url,
                "CITYWATCH_INFLUX__TOKEN": TOKEN,
                "CITYWATCH_INFLUX__ORG": ORG,
                "CITYWATCH_INFLUX__BUCKET": "chaos",
            }
        self.workers = [Worker(role) for role in (*["judge"] * judges, "store", "alarms", "ledger")]
        self._stack.callback(self.stop)
        self.without = without
        topics.apply(self.kafka.bootstrap, replication=min(brokers, 3))
        topics.publish_rules(self.kafka.bootstrap, "", RULES.canonical(), time.time_ns() // 1000)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    # --- workers ------------------------------------------------------------------------------------------------

    def spawn(self, worker: Worker, *launcher: str, **more: str) -> None:
        """Start a worker in its place. `launcher`: the words that come before `worker --role`."""
        words = launcher or ((FATAL,) if self.without else ("-m", "cli"))
        more |= {"WITHOUT": self.without} if self.without else {}
        with (self.folder / f"{worker.role}.log").open("ab") as log:
            worker.process = subprocess.Popen(
                [sys.executable, *words, "worker", "--role", worker.role],
                env=self.environ | more, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def start(self, **more: str) -> None:
        for worker in self.workers:
            self.spawn(worker, **more)

    def end(self, worker: Worker, how: signal.Signals = signal.SIGKILL, seconds: float = 30) -> None:
        """End what runs in that place, and wait until it is gone."""
        if worker.process is None:
            return
        worker.process.send_signal(how)
        try:
            worker.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kills["stuck"] += 1
            worker.process.kill()
            worker.process.wait()
        worker.process = None

    def mend(self) -> None:
        """Start again what ended by itself, as a supervisor does."""
        for worker in self.workers:
            if worker.process is not None and worker.process.poll() is not None:
                self.kills["ended"] += 1
                self.spawn(worker)

    def stop(self) -> None:
        for worker in self.workers:
            self.end(worker)

    def log(self, role: str) -> str:
        return (self.folder / f"{role}.log").read_text(errors="replace")

    # --- attacks ------------------------------------------------------------------------------------------------

    def kill(self, count: int = 1, role: str | None = None, how: signal.Signals = signal.SIGKILL) -> None:
        """End so many workers at one moment, and start them again at once."""
        fit = [w for w in self.workers if role in (None, w.role)]
        for worker in (chosen := self.random.sample(fit, count)):
            self.kills[how.name] += 1
            assert worker.process is not None
            worker.process.send_signal(how)
        for worker in chosen:
            self.end(worker, how)
            self.spawn(worker)

    def done(self) -> dict[str, int]:
        """How far each app has come: what its group has committed, of all partitions."""
        places = [(topic, p) for topic in (FLOW, CAMERA) for p in range(4)]
        asked = {"judge": places, "store": places, "alarms": [(ALARM_INPUT, 0)]}
        try:
            return {role: sum(clients.committed(self.kafka.bootstrap, f"citywatch-{role}", of).values()) for role, of in asked.items()}  # fmt: skip
        except clients.UnreachableError:
            return dict.fromkeys(asked, -1)

    def sleep_and_kill(self, seconds: float = 9.0) -> None:
        """A judge sleeps past its session, its partitions go to the other; woken, it believes it is still the owner; then the other is killed."""
        sleeper, other = self.random.sample([w for w in self.workers if w.role == "judge"], 2)
        assert sleeper.process is not None
        sleeper.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        sleeper.process.send_signal(signal.SIGCONT)
        self.kills["SIGSTOP"] += 1
        time.sleep(self.random.uniform(0, 1.5))
        self.kills["SIGKILL"] += 1
        self.end(other)
        self.spawn(other)

    def come_and_go(self, seconds: float, every: float = 5.0) -> None:
        """One more judge joins and leaves."""
        guest, until = Worker("judge"), time.monotonic() + seconds
        while time.monotonic() < until:
            self.spawn(guest)
            time.sleep(every)
            self.end(guest, signal.SIGTERM)
            self.kills["joined"] += 1
            time.sleep(every)
            self.mend()

    def broker(self) -> None:
        """A broker is gone at once, and comes back on the same data; of three the others go on meanwhile."""
        self.kills["broker"] += 1
        one = self.random.randrange(len(self.kafka.nodes))
        self.kafka.kill(one)
        time.sleep(self.random.uniform(0, 3) if len(self.kafka.nodes) == 1 else self.random.uniform(5, 9))
        self.kafka.start(one)

    def aimed(self, cuts: Mapping[str, tuple[str, int, int]], seconds: float = 15) -> None:
        """One worker of each of these roles kills itself as it comes to that line for the nth time, if it does in that time."""
        chosen = {role: self.random.choice([w for w in self.workers if w.role == role]) for role in cuts}
        for worker in chosen.values():
            self.end(worker, signal.SIGTERM)
        for role, (file, line, nth) in cuts.items():
            self.spawn(chosen[role], FATAL, CUT_AT=f"{file}:{line}:{nth}")
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(w.process.poll() is None for w in chosen.values()):
            time.sleep(0.1)
        for worker in chosen.values():
            self.kills["aimed"] += worker.process.poll() == -signal.SIGKILL
            self.end(worker)
            self.spawn(worker)

    # --- the end ------------------------------------------------------------------------------------------------

    def settle(self, seconds: float = 120) -> None:
        """All workers anew, without a clock of their own, until everything is read; then they stop: the log is at rest."""
        self.stop()
        self.start(CITYWATCH_KAFKA__CLOCK="writer")
        asyncio.run(asyncio.wait_for(settled(self.kafka.bootstrap, ""), seconds))
        for worker in self.workers:
            self.end(worker, signal.SIGTERM)

    def verdicts(self) -> tuple[list[Verdict], int]:
        """The truth, and how many transitions of alarms there were."""
        truth = Truth(self.kafka.bootstrap, clients.log_id(self.kafka.bootstrap), [FLOW, CAMERA])
        settings = read({k: v for k, v in self.environ.items() if k.startswith("CITYWATCH_")})
        store = open_store(settings, read_only=True)
        found = truth.verdicts(store)
        meant, ended = ideal(truth)
        final = Verdict("final ledger", len(meant), lost=list(meant - ended), doubled=list(ended - meant))
        return [*found, final, self.account()], sum(truth.transitions().values())

    def account(self) -> Verdict:
        """What `citywatch ledger` says, counting the topics again: every topic adds up, and no account differs."""
        asked = [sys.executable, "-m", "cli", "ledger", "--recount", "--json"]
        said = json.loads(
            subprocess.run(
                asked, env=self.environ, cwd=ROOT, capture_output=True, timeout=120, check=False
            ).stdout
        )
        topics_ = said["topics"]
        wrong = [(topic, line) for topic, line in topics_.items() if not line["exact"] or line.get("waiting")]
        return Verdict(
            "citywatch ledger",
            sum(line["accepted"] for line in topics_.values()),
            other=[*wrong, *said["forged"]],
        )


def _moments(arena: Arena, city: City, most: float) -> Iterator[None]:
    """Drawn moments while the city is fed, at each of which every app has done something since the last."""
    done = arena.done()
    while not city.done.is_set():
        until = time.monotonic() + 15
        while time.monotonic() < until and not city.done.wait(0.3):
            arena.mend()
            now = arena.done()
            if all(now[role] > done[role] for role in now):
                break
        if city.done.wait(arena.random.uniform(0, most)):
            return
        done = arena.done()
        yield


def kills(arena: Arena, city: City) -> None:
    """SIGKILLs of any worker at any instant, some SIGTERMs among them."""
    for _ in _moments(arena, city, 2.0):
        how = signal.SIGTERM if arena.random.random() < 0.1 else signal.SIGKILL
        arena.kill(arena.random.choice([1, 1, 2, 3]), how=how)


def judges(arena: Arena, city: City) -> None:
    """SIGKILLs of all judges at once, while there is something to judge."""
    for _ in _moments(arena, city, 2.0):
        arena.kill(2, role="judge")


def sleepers(arena: Arena, city: City) -> None:
    """Judges that sleep past their session, wake, and then the other is killed."""
    for _ in _moments(arena, city, 1.0):
        arena.sleep_and_kill()


def guests(arena: Arena, city: City) -> None:
    """A further judge that joins and leaves every five seconds."""
    for _ in _moments(arena, city, 1.0):
        arena.come_and_go(30)


def brokers(arena: Arena, city: City) -> None:
    """The broker killed three times on the same data, workers killed meanwhile."""
    for n, _ in enumerate(_moments(arena, city, 2.0)):
        if n < 3:
            arena.broker()
        else:
            arena.kill()


def aimed(arena: Arena, city: City) -> None:
    """Kills between two steps of the checkpoint, at any line of it."""
    from fatal import lines  # noqa: PLC0415 - it is a program as well

    doing = (
        "taking",
        "save",
        "_save",
        "_bury",
        "_keep",
        "_take_over",
        "_restore",
        "_read",
        "take",
        "_write",
        "run",
        "_tell",
    )
    for _ in _moments(arena, city, 0.5):
        at = {role: arena.random.choice(lines(role, doing)) for role in ("judge", "alarms", "store")}
        arena.aimed({role: (*where, arena.random.choice([1, 1, 2, 3, 7])) for role, where in at.items()})


class Scenario(NamedTuple):
    """An attack, and the feed it is made on: so many events, so many a second."""

    attack: Callable[[Arena, City], None]
    events: int
    rate: float
    brokers: int = 1
    without: str = ""


SCENARIOS = {
    "kills": Scenario(kills, 10_000, 100),
    "aimed": Scenario(aimed, 8_000, 60),
    "sleepers": Scenario(sleepers, 8_000, 100),
    "guests": Scenario(guests, 12_000, 100),
    "brokers": Scenario(brokers, 10_000, 120),
    "three brokers": Scenario(brokers, 10_000, 120, brokers=3),
    "without order": Scenario(judges, 5_000, 120, without="order"),  # must be found out
}


def run(scenario: str, seed: int, *, events: int | None = None, influx: bool = True) -> Piece:
    """One piece, from nothing to its verdicts."""
    said = SCENARIOS[scenario]
    piece, began = Piece(scenario, seed), time.monotonic()
    with Arena(seed, influx=influx, brokers=said.brokers, without=said.without) as arena:
        piece.kills = arena.kills
        city = City(arena.kafka.bootstrap, seed, events or said.events, said.rate)
        piece.fed = city.fed
        operator = Operator(arena.kafka.bootstrap, seed)
        arena.start()
        city.start()
        said.attack(arena, city)
        city.join(240)
        operator.look()
        arena.mend()
        arena.settle()
        piece.verdicts, piece.transitions = arena.verdicts()
        if piece.ok == bool(said.without):
            keep = Path(tempfile.mkdtemp(prefix="citywatch-chaos-failed-"))
            for role in {w.role for w in arena.workers}:
                (keep / f"{role}.log").write_text(arena.log(role))
            print(f"logs kept in {keep}", file=sys.stderr)
    piece.seconds = time.monotonic() - began
    return piece
