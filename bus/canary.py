"""Canaries: records that nobody judges, sent down each partition's whole way so that it is seen whether things come through.

On a source topic a canary is an empty record. The judge passes it on to the alarm plane's log with its place, and the
alarm plane to `city.canary.v1`, each after everything that came before it: what a console hears there is a function of
the log, and may be said again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from bus import headers
from models.catalogue import CANARY, topics

if TYPE_CHECKING:
    from models.base import Micros

#: The owner of a partition sends one so often.
EVERY_S = 60.0

HEADERS: headers.Headers = [("ce_type", CANARY.encode())]
_PASSED: headers.Headers = [("content-type", b"application/json"), *HEADERS]


class Passed(NamedTuple):
    """Key, value and headers of a canary that is on its way."""

    key: bytes
    value: bytes
    headers: headers.Headers


class Canary(NamedTuple):
    """The canary that is at this place of a source topic since `stamp`."""

    topic: str
    partition: int
    offset: int
    stamp: Micros

    def passed(self) -> Passed:
        """As it is said to the next on its way; the newest of a partition is all that need be kept."""
        value = json.dumps(self._asdict(), separators=(",", ":")).encode()
        return Passed(f"{self.topic}/{self.partition}".encode(), value, _PASSED)


def record() -> headers.Bare:
    """A canary as it is appended to a source topic."""
    return headers.Bare(None, b"", HEADERS)


def canary_of(value: bytes | None) -> Canary | None:
    """What `passed` said; None: whoever wrote it, it is no canary."""
    try:
        said = json.loads(value or b"")
        found = Canary(said["topic"], said["partition"], said["offset"], said["stamp"])
        good = found.topic in topics() and all(type(n) is int and 0 <= n < 2**63 for n in found[1:])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if good else None
