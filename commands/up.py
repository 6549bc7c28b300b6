"""`citywatch up`: everything in one terminal, watched, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any, get_args

from commands import publish, simulate
from commands.output import UsageError, print_json, teach, tell
from commands.real import Real, reachable
from commands.world import ROLES, World, now_us, settled
from models.alarm import Priority
from models.base import micros, moment
from models.catalogue import topics
from rules import load
from sinks.ledger import VERDICTS, ledger
from sinks.open import may_hold, open_store, store_name

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from commands.world import Words
    from models.base import Micros
    from settings import Console, Settings
    from sinks.contract import Store
    from sinks.ledger import Line

#: What is in an embedded log is finished before the log ends with its process: within this after Ctrl-C, for whoever
#: pressed it waits, and within this after `--for`, when nobody does.
SETTLE_S, SETTLE_ALONE_S = 4.0, 20.0

#: Of `--for` so much is for the start and the end. The city is simulated for the rest of it, to the second, however
#: long start and end really take: so two runs of one seed and start have the same events.
AROUND_S = 12.0

#: The simulator may take so much longer than `--for`, on a machine that is too slow for its pace.
BEHIND_S = 30.0

_ABOUT = """\
Run everything in one terminal, watch over it, stop it as a whole.

Starts a broker inside this process (nothing of it survives the exit; the store does), puts the rules into its log, and
runs the judge, the store and the alarms workers, the console, and a simulated Hạ Long that begins with a crash on Bãi
Cháy bridge. With CITYWATCH_KAFKA__BOOTSTRAP set it uses that Kafka, and simulates nothing unless --simulator asks for it.

With --real the broker is Apache Kafka and the store InfluxDB, as processes on ports of loopback that were free at the
first start; their log and history are kept in the data folder and go on at the next. Prometheus watches, where it is
installed. What is missing on this machine is said in one line, with the command that brings it."""

_EXAMPLES = """\
  citywatch up
  citywatch up --no-simulator --port 8090
  citywatch up --seed 7 --start 2026-11-25T07:30
  citywatch up --for 60 --json --data /tmp/city
  citywatch up --real
  citywatch replay my.csv --mapping my-feed.yaml --shift now     (in another terminal)"""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, _ABOUT, _EXAMPLES)
    parser.add_argument(
        "--real",
        action="store_true",
        help="with Apache Kafka and InfluxDB as processes, and Prometheus where it is installed; the folder keeps their data",
    )
    parser.add_argument(
        "--for", dest="for_", type=float, metavar="SECONDS", help="stop by itself after this long"
    )
    parser.add_argument(
        "--rules",
        action="append",
        metavar="FILE",
        help="judge by these instead of ours, and by what becomes of them while it runs; a folder is its *.yaml",
    )
    parser.add_argument("--port", type=int, metavar="N", help="of the console (CITYWATCH_CONSOLE__PORT)")
    parser.add_argument("--no-console", dest="console", action="store_false", help="serve no page")
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--simulator",
        action="store_true",
        default=None,
        help="feed a simulated city, into a Kafka of yours, too",
    )
    only.add_argument(
        "--no-simulator", dest="simulator", action="store_false", help="wait for what others feed"
    )
    simulate.options(parser)
    parser.add_argument("--json", action="store_true", help="end with one summary object on stdout")
    parser.set_defaults(run=run, begins=True)


@dataclass
class Simulation:
    """The simulated city as a part of `up`: `words` has it go on, and never begin again, where it ended."""

    seed: int
    start: Micros
    seconds: float | None
    load: float
    _began: float = field(default=0.0, init=False)

    def words(self, code: int | None) -> list[str] | None:
        """`Words` for `World`. What was due while it was away is not said: times and ids are of what is yet to come."""
        if code == 0 and self.seconds is not None:
            return None
        if code is None:
            self._began, past = time.monotonic(), 0
        else:
            past = int(time.monotonic() - self._began) + 1
        start = moment(self.start + past * 1_000_000).isoformat()
        words = ["simulate", "--seed", str(self.seed), "--load", str(self.load), "--start", start]
        if past:
            words.append("--no-stage")
        if self.seconds is not None:
            words += ["--for", str(max(1.0, self.seconds - past))]
        return words


def run(args: argparse.Namespace, settings: Settings) -> int:
    if args.for_ is not None and args.for_ <= 0:
        raise UsageError(f"--for {args.for_:g}: write a number of seconds above 0")
    rules = publish.read(args.rules) if args.rules else load.default()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    began, now = time.monotonic(), now_us()
    page = _page(args.port, settings.console) if args.console else None
    real = _real(settings, page, stop) if args.real else None
    simulation = _simulation(args, settings, now)
    beside: dict[str, Words] = {}
    if simulation is not None:
        beside["simulator"] = simulation.words
    if page is not None:
        beside["console"] = page.words
    if args.rules:
        beside["watch over the rules"] = lambda _code: ["rules", "watch", *args.rules]
    told = _size(settings.data.dir / simulate.TRUTH)
    with World(
        settings, rules, clock="log", effective_from=now, stamp=now, beside=beside, real=real
    ) as world:
        _say_where(world)
        before = asyncio.run(_so_far(world))
        _live(world, stop, None if args.for_ is None else began + args.for_)
        tell("stopping, when what is in the log is judged and stored")
        asyncio.run(_finish(world, SETTLE_S if stop.is_set() else SETTLE_ALONE_S))
        latency = page.latency() if page is not None else None
        world.stop(list(world.parts))
        lines, found = asyncio.run(_kept(world, now, before))
    exact = all(line.exact for line in lines.values())
    if args.json:
        print_json(
            {
                "seconds": round(time.monotonic() - began, 1),
                "restarts": world.restarts,
                "exact": exact,
                **found,
                "latency_s": latency,
                "fed": _fed(settings.data.dir / simulate.TRUTH, told),
                "seed": simulation and simulation.seed,
                "start": simulation and moment(simulation.start).isoformat(),
                "simulated_seconds": simulation and simulation.seconds,
                "ledger": {"topics": {name: line.json() for name, line in lines.items()}},
            }
        )
    return 0 if exact else 1


def _real(settings: Settings, page: _Page | None, stop: threading.Event) -> Real:
    """The servers of the data folder. Raises UsageError where others are named, MissingError where they are not here."""
    for name, said in (("KAFKA__BOOTSTRAP", settings.kafka.bootstrap), ("INFLUX__URL", settings.influx.url)):
        if said is not None:
            raise UsageError(
                f"--real brings its own Kafka and InfluxDB: unset CITYWATCH_{name}, or leave out --real"
            )
    return Real(
        settings.data.dir, ROLES, None if page is None else f"{reachable(page.host)}:{page.port}", stop
    )


def _say_where(world: World) -> None:
    """What runs where, in a few lines."""
    where, real = world.running, world.real
    if real is None:
        kind = "embedded: its log ends with this process" if where.embedded else "yours"
        tell(f"Kafka at {where.bootstrap} ({kind}), log {where.log_id}")
        tell(f"store {store_name(world.settings)}; stop with Ctrl-C")
        return
    watched = f"Prometheus at {real.prometheus.url}" if real.prometheus else "no Prometheus on PATH"
    tell(f"Kafka at {where.bootstrap}, log {where.log_id}; store {store_name(world.settings)}; {watched}")
    tell(f"their data, and what they say, stay in {world.data}; stop with Ctrl-C")
    if (old := world.settings.store_path).exists():
        tell(f"{old} is the store of a city without --real, which is asked again when that runs")


def _simulation(args: argparse.Namespace, settings: Settings, now: Micros) -> Simulation | None:
    """What is simulated, if anything is. Raises UsageError."""
    simulated = args.simulator
    if simulated is None:
        simulated = settings.kafka.bootstrap is None
        if not simulated:
            tell("nothing is simulated in a Kafka of yours; --simulator asks for it")
    if not simulated:
        return None
    start = simulate.start_of(args.start, now)
    seconds = None if args.for_ is None else max(1.0, args.for_ - AROUND_S)
    return Simulation(args.seed, start - start % 1_000_000, seconds, simulate.load_of(args.load))


def _live(world: World, stop: threading.Event, until: float | None) -> None:
    """Watch over the city until it is told to stop, or the time is over and all that was to be simulated is fed."""
    while not stop.wait(0.25):
        world.watch()
        late = -1.0 if until is None else time.monotonic() - until
        if late >= BEHIND_S or (late >= 0 and "simulator" not in world.parts):
            return


async def _finish(world: World, within_s: float) -> None:
    """Nothing is fed any more, and what there is gets judged and stored. A Kafka of yours goes on without us."""
    deadline = time.monotonic() + within_s
    world.stop(["simulator"], within_s / 2)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(deadline - time.monotonic()):
            await settled(world.running.bootstrap, world.running.prefix)


async def _so_far(world: World) -> Counter[str]:
    """What a log that goes on had when this run began, by domain; an embedded one has just begun."""
    if world.running.embedded or not may_hold(world.settings):
        return Counter()
    store = open_store(world.settings, read_only=True)
    try:
        return await _events(store, world.running.log_id)
    finally:
        await store.close()


async def _events(store: Store, log_id: str) -> Counter[str]:
    """By domain, the events of a log that are accounted for."""
    found: Counter[str] = Counter(dict.fromkeys((name.split(".")[1] for name in topics()), 0))
    for record in await store.kept("ledger", where=[("log", log_id)]):
        found[record.body["topic"].split(".")[1]] += sum(record.body.get(v, 0) for v in VERDICTS)
    return found


async def _kept(world: World, since: Micros, before: Counter[str]) -> tuple[dict[str, Line], dict[str, Any]]:
    """The account of all that is in the store, and what came of it in this run."""
    store = open_store(world.settings, read_only=True)
    try:
        lines = await ledger(store)
        counted = await _events(store, world.running.log_id)
        alarms = await store.kept("alarm")
    finally:
        await store.close()
    events = {domain: n - before[domain] for domain, n in counted.items()}
    raised = [
        r.body["priority"] for r in alarms if micros(datetime.fromisoformat(r.body["raised_at"])) >= since
    ]
    by_priority = {name: raised.count(name) for name in get_args(Priority)}
    return lines, {"events": events, "alarms": {"total": len(raised), "by_priority": by_priority}}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fed(truth: Path, begin: int) -> dict[str, int]:
    """What the simulator says it fed in this run, by topic: its words begin there in the file. Killed, it says nothing."""
    fed: Counter[str] = Counter()
    if truth.exists():
        for line in truth.read_bytes()[begin:].splitlines():
            fed.update(json.loads(line).get("fed", {}))
    return dict(fed)


class _Page:
    """The console, as `up` knows it: an address, whose port is free when it is first started."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def words(self, code: int | None) -> list[str]:
        """`Words` for `World`. Raises UsageError where the port is taken."""
        if code is None:
            self._must_be_free()
        return ["console", "--host", self.host, "--port", str(self.port)]

    def _must_be_free(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as asked:
            asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                asked.bind((self.host, self.port))
            except OSError as error:
                raise UsageError(
                    f"the console cannot listen at {self.host}:{self.port}: {error.strerror}; give another with --port "
                    "(make run PORT=...) or CITYWATCH_CONSOLE__PORT"
                ) from None

    def latency(self) -> dict[str, Any] | None:
        """How long alarms took to the page, as the console counted it; None where it does not answer."""
        asked = HTTPConnection(reachable(self.host), self.port, timeout=2)
        try:
            asked.request("GET", "/api/latency")
            return dict(json.loads(asked.getresponse().read())["alarm"])
        except (OSError, HTTPException, ValueError, LookupError) as error:
            tell(f"the console does not say how long alarms took: {error!r}")
            return None
        finally:
            asked.close()


def _page(port: int | None, console: Console) -> _Page:
    if port is not None and not 0 < port < 65_536:
        raise UsageError(f"--port {port}: write a number from 1 to 65535")
    return _Page(console.host, console.port if port is None else port)
