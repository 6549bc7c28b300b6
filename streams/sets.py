"""The sets of rules that a log speaks of, fetched from where they are kept; a broker that is away is waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from bus import clients, topics
from streams.metrics import log

if TYPE_CHECKING:
    from bus.topics import Published
    from models.base import Micros
    from rules.spec import RuleSet

AGAIN_S = 1.0


async def rules_of(bootstrap: str, prefix: str, version: int) -> RuleSet | None:
    """A version of the rules, or None where no such set was ever published: whoever spoke of it, the one before stays in force.

    Raises EngineError for a set of a citywatch to come, which is not to be passed by.
    """
    while True:
        try:
            return await topics.rules_of(bootstrap, prefix, version)
        except topics.EngineError:
            raise
        except clients.UnreachableError as error:
            log.warning("rules version %d cannot be asked for, trying again: %s", version, error)
            await asyncio.sleep(AGAIN_S)
        except (LookupError, ValueError) as error:
            log.error("there are no rules version %d, those before stay in force: %s", version, error)
            return None


class Forgotten(NamedTuple):
    """What a log was told of rules before the first record that it still has, which is at `begin`: the sets that stand there."""

    begin: int
    stamp: Micros
    standing: list[Published]

    def told(self) -> list[tuple[int, Micros, Published]]:
        """Each as it is to be said now: before the beginning, where as many records were at least, in order."""
        first = self.begin - len(self.standing)
        return [(first + n, self.stamp, one) for n, one in enumerate(self.standing)]


async def forgotten(bootstrap: str, prefix: str, topic: str, partition: int) -> Forgotten | None:
    """None where the log still has its beginning: it says by itself which rules are in force."""
    while True:
        try:
            return await asyncio.to_thread(_forgotten, bootstrap, prefix, (topic, partition))
        except clients.UnreachableError as error:
            log.warning(
                "the beginning of %s/%d cannot be asked for, trying again: %s", topic, partition, error
            )
            await asyncio.sleep(AGAIN_S)


def _forgotten(bootstrap: str, prefix: str, place: tuple[str, int]) -> Forgotten | None:
    begin = clients.begin_offsets(bootstrap, [place])[place]
    published = topics.history(bootstrap, prefix) if begin else []
    if not published:
        return None
    first = next(clients.records(bootstrap, place, begin), None)
    stamp = published[-1].at if first is None else first.timestamp * 1000
    return Forgotten(begin, stamp, topics.standing([one for one in published if one.at <= stamp], stamp))
