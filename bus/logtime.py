"""What time it is by a log: its newest stamp and how long ago that came, whatever the wall clock of this machine says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.base import Micros


class LogTime:
    """Never ahead of the log's own time by more than its broker's clock is; behind it by what the last record took to get here."""

    def __init__(self) -> None:
        self._ahead: Micros | None = None  # of the monotonic clock

    def see(self, stamp: Micros) -> None:
        """A record with this stamp has just come."""
        ahead = stamp - _monotonic()
        self._ahead = ahead if self._ahead is None else max(ahead, self._ahead)

    def now(self) -> Micros | None:
        """None: nothing has come yet."""
        return None if self._ahead is None else _monotonic() + self._ahead


def _monotonic() -> Micros:
    return time.monotonic_ns() // 1000
