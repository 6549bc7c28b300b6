"""`citywatch up`: everything in one terminal, watched, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from commands.output import teach
from commands.world import World, now_us, settled
from rules import load
from sinks.ledger import ledger
from sinks.open import open_store, store_name

if TYPE_CHECKING:
    import argparse

    from settings import Settings
    from sinks.ledger import Line

#: An embedded log ends with its process, so what is in it is finished first, if that takes no longer.
SETTLE_S = 4.0

_ABOUT = """\
Run everything in one terminal, watch over it, stop it as a whole.

Starts a broker inside this process (nothing of it survives the exit; the store does), puts the rules into its log,
and runs the judge, the store and the alarms workers. With CITYWATCH_KAFKA__BOOTSTRAP set it uses that Kafka."""

_EXAMPLES = """\
  citywatch up
  citywatch up --for 60 --json --data /tmp/city
  citywatch replay my.csv --mapping my-feed.yaml --shift now     (in another terminal)"""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, _ABOUT, _EXAMPLES)
    parser.add_argument(
        "--for", dest="for_", type=float, metavar="SECONDS", help="stop by itself after this long"
    )
    parser.add_argument("--rules", action="append", metavar="FILE", help="judge by these instead of ours")
    parser.add_argument("--json", action="store_true", help="end with one summary object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    rules = load.load(args.rules) if args.rules else load.default()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    began, now = time.monotonic(), now_us()
    with World(settings, rules, clock="log", effective_from=now, stamp=now) as world:
        where = world.running
        kind = "embedded: its log ends with this process" if where.embedded else "yours"
        print(f"citywatch: Kafka at {where.bootstrap} ({kind}), log {where.log_id}", file=sys.stderr)
        print(f"citywatch: store {store_name(settings)}; stop with Ctrl-C", file=sys.stderr)
        while not stop.wait(0.25):
            world.watch()
            if args.for_ is not None and time.monotonic() - began >= args.for_:
                break
        print("citywatch: stopping, when what is in the log is judged and stored", file=sys.stderr)
        asyncio.run(_finish(where.bootstrap, where.prefix))
    lines = asyncio.run(_ledger(settings))
    exact = all(line.exact for line in lines.values())
    if args.json:
        summary = {
            "seconds": round(time.monotonic() - began, 1),
            "restarts": world.restarts,
            "exact": exact,
            "ledger": {"topics": {name: line.json() for name, line in lines.items()}},
        }
        print(json.dumps(summary, ensure_ascii=False))
    return 0 if exact else 1


async def _finish(bootstrap: str, prefix: str) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S):
            await settled(bootstrap, prefix)


async def _ledger(settings: Settings) -> dict[str, Line]:
    store = open_store(settings, read_only=True)
    try:
        return await ledger(store)
    finally:
        await store.close()
