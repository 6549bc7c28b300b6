"""`citywatch worker`: one of the three apps, or all of them as processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from commands.output import teach
from commands.tied import option_tied, tie

if TYPE_CHECKING:
    import argparse

    from settings import Settings

_ABOUT = """\
Run one of the three Faust apps, or a process of each, against the Kafka in CITYWATCH_KAFKA__BOOTSTRAP.

This is what a service manager runs on a server; on one machine `citywatch up` does it for you."""

_EXAMPLES = """\
  CITYWATCH_KAFKA__BOOTSTRAP=kafka:9092 citywatch worker --role judge
  CITYWATCH_KAFKA__BOOTSTRAP=kafka:9092 citywatch worker"""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, _ABOUT, _EXAMPLES)
    parser.add_argument(
        "--role",
        choices=("judge", "store", "alarms", "all"),
        default="all",
        help="judge: events to signals; store: events to the time-series store; alarms: signals to alarms",
    )
    option_tied(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    from streams import launch, logs  # noqa: PLC0415 - Faust takes half a second to import

    logs.set_up_logging(settings)
    tie(args)
    if args.role != "all":
        launch.run(args.role, settings)
        return 0
    return _all(list(launch.ROLES))


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
