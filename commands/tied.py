"""`--tied`: a process that ends when who started it is gone, which its standard input tells."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

#: A process whose broker went away may not be able to stop by itself.
GRACE_S = 5.0


def option_tied(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tied",
        action="store_true",
        help="end when standard input closes, that is when who started it is gone",
    )


def tie(args: argparse.Namespace) -> None:
    """If `--tied` was said, end this process with the one that started it, as on SIGTERM."""
    if args.tied:
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker of an embedded broker that is gone would try to reach it for ever."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)
