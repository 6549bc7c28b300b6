"""`citywatch simulate`: a simulated Hạ Long feeds the city that runs, or a world of its own that is judged and left."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from commands.output import UsageError, option_json, print_json, teach, tell
from commands.tied import option_tied, tie
from models.base import micros, moment

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from commands.world import World
    from models.base import Micros
    from settings import Settings
    from sources.simulator.run import Plan, Run

ABOUT = """\
A simulated Hạ Long: roads, cameras, hospitals, schools, stations and citizens at their true places, with the rhythm of
day and week, weather, faults, and incidents that leave their marks in several domains. The same seed and start give
the same events. What really happened is written to truth.jsonl in the data folder: `citywatch score` compares.

Without --own it feeds the city that runs (that of `citywatch up --no-simulator`, or the Kafka of the settings) at the
pace of life, as soon as somebody reads what it says. With --own an embedded broker and workers of its own, feeds a simulated time, waits until all is judged and stored, prints the
ledger and leaves."""

EXAMPLES = """\
  citywatch simulate
  citywatch simulate --seed 7 --load 10
  citywatch simulate --own --for 86400 --data /tmp/day
  citywatch score --data /tmp/day"""

TRUTH = "truth.jsonl"

#: How long a city that runs may take until its workers read; then it is fed as it is.
READY_S = 20.0
GROUPS = ("judge", "store", "ledger")


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    options(parser)
    parser.add_argument(
        "--for",
        dest="for_",
        type=float,
        metavar="SECONDS",
        help="simulated seconds; without it, until Ctrl-C",
    )
    parser.add_argument("--speed", metavar="S", help="1x, 60x, max; only with --own (default there: max)")
    parser.add_argument(
        "--own", action="store_true", help="a world of its own, that ends with the simulated time"
    )
    parser.add_argument(
        "--stage", action=argparse.BooleanOptionalAction, default=True,
        help="begin with a crash on Bãi Cháy bridge, so that nobody waits for a first alarm (default: yes)",
    )  # fmt: skip
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="feed this Kafka")
    option_tied(parser)
    option_json(parser, "end with one summary object on stdout")
    parser.set_defaults(run=run, begins=True)


def options(parser: argparse.ArgumentParser) -> None:
    """Which city is simulated; `citywatch up` asks for the same."""
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of all chance (default: 1)")
    parser.add_argument(
        "--start", metavar="TIME", help="when the simulated time begins, as 2026-11-25T07:30 (UTC)"
    )
    parser.add_argument(
        "--load", type=float, default=1.0, metavar="X",
        help="times 60 road detectors and 40 cameras, 4 events/s; 50 is a city of 200 events/s (default: 1)",
    )  # fmt: skip


def run(args: argparse.Namespace, settings: Settings) -> int:
    load_of(args.load)
    problem = _problem(args)
    if problem:
        raise UsageError(problem)
    settings.data.dir.mkdir(parents=True, exist_ok=True)
    return _run_own(args, settings) if args.own else _run_live(args, settings)


def _problem(args: argparse.Namespace) -> str | None:
    """What makes no sense about the options."""
    if args.for_ is not None and args.for_ <= 0:
        return f"--for {args.for_:g}: write a number of seconds above 0"
    if not args.own and args.speed not in (None, "1x"):
        return "a city that runs lives at speed 1x; another speed needs a world of its own: --own"
    if args.own and args.for_ is None:
        return "a world of its own needs an end: --for SECONDS"
    if args.own and args.bootstrap:
        return "a world of its own brings its own broker: leave out --bootstrap, or --own"
    return None


def load_of(load: float) -> float:
    """The load itself. Raises UsageError where no city is that small or large."""
    if not 0 < load <= 1000:
        raise UsageError(f"--load {load:g}: write a number above 0, at most 1000")
    return load


def start_of(text: str | None, default: Micros) -> Micros:
    """When a text says that the simulated time begins. Raises UsageError."""
    if text is None:
        return default
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--start {text}: write a time as 2026-11-25T07:30 or 2026-11-25T14:30+07:00"
        ) from None
    return micros(at if at.tzinfo else at.replace(tzinfo=UTC))


def _plan(args: argparse.Namespace, start: Micros, pace: float | None) -> Plan:
    from sources.simulator.run import Plan  # noqa: PLC0415 - Kafka's clients take half a second to import

    start -= start % 1_000_000
    until = None if args.for_ is None else start + round(args.for_ * 1e6)
    return Plan(args.seed, start, until, args.load, pace, args.stage)


# --- into the city that runs ------------------------------------------------------------------------------------------


def _run_live(args: argparse.Namespace, settings: Settings) -> int:
    from commands.reach import broker  # noqa: PLC0415 - as above

    if args.bootstrap:
        kafka = settings.kafka.model_copy(update={"bootstrap": args.bootstrap})
        settings = settings.model_copy(update={"kafka": kafka})
    where = broker(settings)
    return asyncio.run(_live(args, settings, where.bootstrap, where.prefix, embedded=where.embedded))


async def _live(
    args: argparse.Namespace, settings: Settings, bootstrap: str, prefix: str, *, embedded: bool
) -> int:
    from bus.clients import Feeder  # noqa: PLC0415 - as above
    from bus.room import Room  # noqa: PLC0415
    from commands.world import now_us, settled  # noqa: PLC0415
    from sources.simulator.run import Run  # noqa: PLC0415

    stop = _stop_event()
    tie(args)
    room = Room(bootstrap, _readers(prefix)) if embedded else None
    plan = _plan(args, start_of(args.start, now_us()), 1.0)
    with contextlib.suppress(TimeoutError):
        await _until(asyncio.wait_for(settled(bootstrap, prefix), READY_S), stop)
    with (settings.data.dir / TRUTH).open("a", encoding="utf-8") as truth:
        async with Feeder(bootstrap) as feeder:
            city = Run(plan, feeder, room, prefix, truth, now_us)
            tell(f"a simulated Hạ Long, seed {args.seed}, feeds {bootstrap}; the truth is in {truth.name}")
            await _until(city.feed(), stop)
    if room is not None:
        room.close()
    if args.json:
        print_json({"fed": dict(city.sent), "truth": dict(city.told)})
    return 0


def _stop_event() -> asyncio.Event:
    """Set by Ctrl-C and by SIGTERM."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _until(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Do the work until it is done or somebody says stop; what it raises is raised."""
    doing, waiting = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not doing.done():
        doing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await doing


def _readers(prefix: str) -> dict[str, list[str]]:
    """The groups that must have read what is sent, by topic: an embedded broker forgets by volume."""
    from bus import clients  # noqa: PLC0415 - as above
    from models.catalogue import topics  # noqa: PLC0415

    return {clients.name(prefix, t): [f"{prefix}citywatch-{role}" for role in GROUPS] for t in topics()}


# --- a world of its own -----------------------------------------------------------------------------------------------


def _run_own(args: argparse.Namespace, settings: Settings) -> int:
    from commands.world import World, now_us  # noqa: PLC0415 - as above
    from rules import load  # noqa: PLC0415

    if settings.kafka.bootstrap is not None:
        raise UsageError("a world of its own brings its own broker: unset CITYWATCH_KAFKA__BOOTSTRAP")
    if (settings.data.dir / TRUTH).exists() or settings.store_path.exists():
        raise UsageError(f"{settings.data.dir} already holds a city: give an empty folder with --data")
    # By default yesterday, so that the whole simulated day is past.
    default = now_us() - round(args.for_ * 1e6)
    plan = _plan(args, start_of(args.start, default), _pace(args.speed))
    world = World(settings, load.default(), clock="writer", effective_from=plan.start, stamp=plan.start)
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # leaves as on Ctrl-C, with nothing left running
    with world:
        return asyncio.run(_own(args, settings, plan, world))


def _pace(speed: str | None) -> float | None:
    if speed in (None, "max"):
        return None
    try:
        pace = float(str(speed).removesuffix("x"))
    except ValueError:
        pace = 0.0
    if not 0 < pace < float("inf"):
        raise UsageError(f"--speed {speed}: write max, 1x or 60x")
    return pace


async def _own(args: argparse.Namespace, settings: Settings, plan: Plan, world: World) -> int:
    from bus.clients import Feeder  # noqa: PLC0415 - as above
    from bus.room import Room  # noqa: PLC0415
    from commands.world import settled  # noqa: PLC0415
    from models.catalogue import topics  # noqa: PLC0415
    from sources.simulator.run import Run  # noqa: PLC0415

    began = time.monotonic()
    bootstrap, prefix = world.running.bootstrap, world.running.prefix
    room = Room(bootstrap, _readers(prefix))
    with (settings.data.dir / TRUTH).open("a", encoding="utf-8") as truth:
        async with Feeder(bootstrap) as feeder:
            city = Run(plan, feeder, room, prefix, truth)
            telling = asyncio.create_task(_tell(city))
            try:
                await _watched(world, city.feed())
                await city.finish()
            finally:
                telling.cancel()
    print(file=sys.stderr)
    tell("all is fed, waiting until it is judged and stored")
    over = city.clock_us + max(t.late_us for t in topics().values())
    await _watched(world, settled(bootstrap, prefix, over))
    room.close()
    return await _summary(args, settings, city, world, time.monotonic() - began)


async def _watched(world: World, work: Coroutine[Any, Any, None]) -> None:
    """Do the work while somebody sees to it that the workers live. Raises BrokenError."""
    doing = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({doing}, timeout=0.25))[0]:
            world.watch()
    finally:
        if not doing.done():
            doing.cancel()
    await doing


async def _tell(city: Run) -> None:
    while True:
        await asyncio.sleep(1)
        at = moment(city.clock_us).isoformat(timespec="seconds")
        print(f"\rcitywatch: {city.sent.total():,} events up to {at} ", end="", file=sys.stderr, flush=True)


async def _summary(
    args: argparse.Namespace, settings: Settings, city: Run, world: World, seconds: float
) -> int:
    from commands.ledger import table  # noqa: PLC0415 - only needed here
    from sinks.ledger import ledger  # noqa: PLC0415
    from sinks.sqlite import SqliteStore  # noqa: PLC0415

    store = SqliteStore(settings.store_path, read_only=True)
    try:
        lines = await ledger(store)
        alarms = await store.kept("alarm")
    finally:
        await store.close()
    exact = all(line.exact for line in lines.values())
    fed = city.sent.total()
    if args.json:
        print_json(
            {
                "seed": city.plan.seed,
                "start": moment(city.plan.start).isoformat(),
                "simulated_seconds": args.for_,
                "seconds": round(seconds, 1),
                "fed": dict(city.sent),
                "truth": dict(city.told),
                "ledger": {"topics": {name: line.json() for name, line in lines.items()}},
                "exact": exact and fed == sum(line.accepted for line in lines.values()),
                "alarms": len(alarms),
                "restarts": world.restarts,
            }
        )
    else:
        print(table(lines))
        print(
            f"{fed:,} events, {len(alarms):,} alarms; {seconds:.0f} s; compare: citywatch score --data {settings.data.dir}"
        )
    return 0 if exact else 1
