"""`citywatch replay`: feed recorded input, wait until all is judged and stored, print the ledger, leave."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus import clients
from bus.clients import Feeder
from bus.room import Room
from commands.folder import running
from commands.output import UsageError, teach
from commands.world import World, now_us, settled
from models import catalogue
from models.base import moment
from rules import load
from rules.spec import Registry, RuleSet
from sinks.ledger import ledger
from sinks.open import open_store, store_name
from sources import mapping as mappings
from sources.replay import Replay
from sources.tokens import load_tokens

if TYPE_CHECKING:
    import argparse

    from settings import Settings
    from sources.mapping import Mapping

GROUPS = ("judge", "store", "ledger")

_ABOUT = """\
Feed recorded input as if it arrived again, at its own times, judge and store it, and account for every event.

With nothing running, replay starts an embedded broker and workers of its own, feeds, waits until everything is
judged and stored, prints the ledger and leaves. The store in --data can then be asked. A store holds an event once:
the same recording fed twice into one folder is told as not exact."""

_EXAMPLES = """\
  citywatch replay los_speed.csv --mapping metr-la --data /tmp/la
  citywatch query traffic_flow --every 1h --agg mean --data /tmp/la
  citywatch replay my.csv --mapping my-feed.yaml --rules my-rules.yaml --grace 60
  citywatch replay my.csv --mapping my-feed.yaml --shift now     (into the `up` that runs)"""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, _ABOUT, _EXAMPLES)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="recorded input")
    parser.add_argument(
        "--mapping", required=True, metavar="NAME|FILE", help="how to read it: `citywatch mapping list`"
    )
    parser.add_argument(
        "--speed", default=None, help="max (the default), or recorded time per real time: 1x, 60x"
    )
    parser.add_argument(
        "--grace", type=float, metavar="SECONDS", help="how late an event may be; else the feed says"
    )
    parser.add_argument(
        "--rules", action="append", type=Path, metavar="FILE", help="judge by these instead of ours"
    )
    parser.add_argument(
        "--shift", choices=("now",), help="feed into the city that runs, as if it happened now"
    )
    parser.add_argument("--json", action="store_true", help="end with one summary object on stdout")
    parser.set_defaults(run=run, begins=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    mapping = mappings.load(args.mapping)
    pace = _pace(args.speed, live=bool(args.shift))
    missing = [str(f) for f in args.files if not f.is_file()]
    if missing:
        raise UsageError(f"no such file: {', '.join(missing)}")
    settings.data.dir.mkdir(parents=True, exist_ok=True)
    if args.shift:
        return asyncio.run(_into_live(args, settings, mapping, pace))
    grace: float | None = args.grace
    if grace is None and mapping.grace is not None:
        grace = mapping.grace.total_seconds()
    world = World(
        settings,
        _rules(args.rules),
        clock="writer",
        effective_from=0,
        stamp=0,
        grace_s=grace,
        prefix="" if settings.kafka.bootstrap is None else f"replay-{int(time.time())}.",
    )
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # leaves as on Ctrl-C, with nothing left running
    with world:
        return asyncio.run(_own(args, settings, mapping, pace, world))


def _rules(files: list[Path] | None) -> RuleSet:
    """Ours are judged without the registry: the reference city's sensors are not in somebody's recording."""
    return load.load(files) if files else load.default().model_copy(update={"registry": Registry()})


def _pace(speed: str | None, *, live: bool) -> float | None:
    if speed is None:
        return 1.0 if live else None
    if speed == "max":
        return None
    try:
        pace = float(speed.removesuffix("x"))
    except ValueError:
        pace = 0.0
    if pace <= 0:
        raise UsageError(f"--speed {speed}: write max, 1x or 60x")
    return pace


async def _into_live(
    args: argparse.Namespace, settings: Settings, mapping: Mapping, pace: float | None
) -> int:
    there = running(settings.data.dir)
    bootstrap = settings.kafka.bootstrap or (there and there.bootstrap)
    if not bootstrap:
        raise clients.UnreachableError(
            f"no citywatch runs on {settings.data.dir}: start `citywatch up` first"
        )
    async with Feeder(bootstrap) as feeder:
        replay = Replay(mapping, feeder, None, settings.kafka.prefix, live=True, pace=pace, shift_now=True)
        await replay.feed(mapping.read(args.files, load_tokens(settings.data.dir)), now_us)
    fed = dict(replay.progress.events)
    print(json.dumps({"fed": fed}) if args.json else f"fed {sum(fed.values()):,} events into {bootstrap}")
    return 0


async def _own(
    args: argparse.Namespace, settings: Settings, mapping: Mapping, pace: float | None, world: World
) -> int:
    began = time.monotonic()
    bootstrap, prefix = world.running.bootstrap, world.running.prefix
    room = Room(bootstrap, _readers(prefix)) if world.running.embedded else None
    watching = asyncio.create_task(_watch(world))
    async with Feeder(bootstrap) as feeder:
        replay = Replay(mapping, feeder, room, prefix, pace=pace)
        telling = asyncio.create_task(_tell(replay))
        try:
            feeding = asyncio.create_task(
                replay.feed(mapping.read(args.files, load_tokens(settings.data.dir)), now_us)
            )
            await _either(feeding, watching)
            await replay.finish(
                lambda topic: (
                    world.grace_us if world.grace_us is not None else catalogue.topics()[topic].late_us
                )
            )
        finally:
            telling.cancel()
    print("\rcitywatch: all is fed, waiting until it is judged and stored", file=sys.stderr)
    over = replay.progress.clock_us + max(t.late_us for t in catalogue.topics().values())
    await _either(asyncio.create_task(settled(bootstrap, prefix, over)), watching)
    watching.cancel()
    if room is not None:
        room.close()
    return await _summary(args, settings, replay, world, time.monotonic() - began)


def _readers(prefix: str) -> dict[str, list[str]]:
    """The groups that must have read what a replay sends."""
    all_ = [f"{prefix}citywatch-{role}" for role in GROUPS]
    found = {clients.name(prefix, t): all_ for t in catalogue.topics()}
    found[clients.name(prefix, catalogue.REJECTED)] = all_[1:]  # the judge does not read it
    return found


async def _watch(world: World) -> None:
    while True:
        world.watch()
        await asyncio.sleep(0.25)


async def _either(work: asyncio.Task[Any], watching: asyncio.Task[Any]) -> None:
    """Wait for the work, or for the failure of what watches over it."""
    await asyncio.wait({work, watching}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        work.cancel()
        watching.result()
    work.result()


async def _tell(replay: Replay) -> None:
    while True:
        await asyncio.sleep(1)
        at = moment(replay.progress.clock_us).isoformat(timespec="seconds")
        fed, bad = replay.progress.events.total(), replay.progress.bad.total()
        print(
            f"\rcitywatch: fed {fed:,} events up to {at}, {bad:,} refused ",
            end="",
            file=sys.stderr,
            flush=True,
        )


async def _summary(
    args: argparse.Namespace, settings: Settings, replay: Replay, world: World, seconds: float
) -> int:
    store = open_store(settings, read_only=True)
    try:
        lines = await ledger(store)
        alarms = await store.kept("alarm")
    finally:
        await store.close()
    exact = all(line.exact for line in lines.values())
    summary = {
        "fed": dict(replay.progress.events),
        "refused_at_source": dict(replay.progress.bad),
        "ledger": {"topics": {name: line.json() for name, line in lines.items()}},
        "exact": exact,
        "alarms": len(alarms),
        "restarts": world.restarts,
        "seconds": round(seconds, 1),
    }
    if args.json:
        print(json.dumps(summary, ensure_ascii=False))
    else:
        from commands.ledger import table  # noqa: PLC0415

        print(table(lines))
        print(f"{len(alarms):,} alarms; {seconds:.0f} s; the store is {store_name(settings)}")
    return 0 if exact else 1
