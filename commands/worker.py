"""`citywatch worker`: one of the three apps, or all of them as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from settings import Settings

#: A worker whose broker went away may not be able to stop by itself.
GRACE_S = 5.0


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--role",
        choices=("judge", "store", "alarms", "all"),
        default="all",
        help="judge: events to signals; store: events to the time-series store; alarms: signals to alarms",
    )
    parser.add_argument(
        "--tied",
        action="store_true",
        help="end when standard input closes, that is when who started it is gone",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    from streams import launch  # noqa: PLC0415 - Faust takes half a second to import

    launch.set_up_logging(settings)
    if args.tied:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if args.role != "all":
        launch.run(args.role, settings)
        return 0
    command = [sys.executable, "-m", "cli", "worker", "--role"]
    workers = [subprocess.Popen([*command, role]) for role in launch.ROLES]  # noqa: S603 - our own command
    try:
        return max(abs(w.wait()) for w in workers)
    except KeyboardInterrupt:
        for w in workers:
            w.terminate()
        return max(abs(w.wait()) for w in workers)


def _end_with_parent() -> None:
    """A worker of an embedded broker that is gone would try to reach it for ever."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)
