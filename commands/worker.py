"""`citywatch worker`: one of the roles, or all of them as processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from commands.output import teach
from commands.tied import option_tied, tie

if TYPE_CHECKING:
    import argparse

    from settings import Settings

LEDGER = "ledger"

_ABOUT = """\
Run one role, or a process of each, against the Kafka in CITYWATCH_KAFKA__BOOTSTRAP.

This is what a service manager runs on a server; on one machine `citywatch up` does it for you."""

_EXAMPLES = """\
  CITYWATCH_KAFKA__BOOTSTRAP=kafka:9092 citywatch worker --role judge
  CITYWATCH_KAFKA__BOOTSTRAP=kafka:9092 citywatch worker"""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, _ABOUT, _EXAMPLES)
    parser.add_argument(
        "--role",
        choices=("judge", "store", "alarms", LEDGER, "all"),
        default="all",
        help="judge: events to signals; store: events to the time-series store; alarms: signals to alarms; "
        "ledger: whether anything is lost or doubled",
    )
    option_tied(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    from streams import launch, logs  # noqa: PLC0415 - Faust takes half a second to import

    logs.set_up_logging(settings)
    tie(args)
    if args.role == LEDGER:
        return _ledger(settings)
    if args.role != "all":
        launch.run(args.role, settings)
        return 0
    return _all([*launch.ROLES, LEDGER])


def _ledger(settings: Settings) -> int:
    """The one role that is no Faust app: it shares as little as it can with what it checks. Until SIGTERM or Ctrl-C."""
    from audit.worker import Worker  # noqa: PLC0415 - Kafka's clients take half a second to import
    from bus import clients  # noqa: PLC0415
    from streams import gate, health, launch  # noqa: PLC0415
    from streams.metrics import STARTED  # noqa: PLC0415

    bootstrap = settings.kafka.bootstrap
    if bootstrap is None:
        raise LookupError("a worker needs a broker: set CITYWATCH_KAFKA__BOOTSTRAP, or run `citywatch up`")
    gate.open_for(LEDGER, settings)
    log_id = settings.kafka.log_id or clients.log_id(bootstrap)

    async def work() -> None:
        worker, loop = Worker(settings, bootstrap, log_id), asyncio.get_running_loop()
        if settings.metrics.port:
            STARTED.labels(LEDGER).set_to_current_time()
            port = settings.metrics.port + len(launch.ROLES)
            health.serve(settings.metrics.host, port, health.Watch(loop, worker.unready))
        gc.freeze()
        gc.set_threshold(10_000, 20, 100)
        working = asyncio.ensure_future(worker.run())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, working.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await working

    asyncio.run(work())
    return 0


def _all(roles: list[str]) -> int:
    """A process of each role. When one ends, so do the others: whoever started us starts us again."""
    command = [sys.executable, "-m", "cli", "worker", "--role"]
    workers = [subprocess.Popen([*command, role]) for role in roles]  # noqa: S603 - our own command
    ends: list[int] = []
    try:
        while not ends:
            time.sleep(0.2)
            ends = [w.returncode for w in workers if w.poll() is not None]
    finally:
        for w in workers:
            if w.poll() is None:
                w.terminate()
        for w in workers:
            w.wait()
    return max(map(abs, ends))
