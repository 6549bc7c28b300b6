"""Which feeds come through: when the newest canary of each partition that reached the console was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from bus.canary import Canary
    from models.base import Micros

#: A canary is sent every minute: where three are missing, alarms are missing, too.
LOST_US: Micros = 180_000_000
#: So many feeds that do not come through have one reason, and are one alarm.
MANY = 3
#: Its component then.
FEEDS = "feeds"


class Through(NamedTuple):
    """A feed: how old the newest canary is that came through its worst partition, and which partitions do not come through."""

    at: Micros | None
    age: Micros
    lost: tuple[int, ...]


class Canaries:
    """What came, by topic and partition; a partition of which nothing came is as old as `began`, on the clock of `quiet`."""

    def __init__(self, partitions: Mapping[str, int], began: Micros, lost_us: Micros = LOST_US) -> None:
        self._newest: dict[str, list[Micros | None]] = {t: [None] * n for t, n in partitions.items()}
        self._began, self._lost = began, lost_us

    def came(self, one: Canary) -> None:
        """One has come through, perhaps not for the first time."""
        newest = self._newest.get(one.topic, [])
        if one.partition < len(newest):
            newest[one.partition] = max(one.stamp, newest[one.partition] or 0)

    def look(self, now: Micros, quiet: Micros) -> dict[str, Through]:
        """Every feed. `now` is the log's time, by which canaries are stamped; `quiet` a clock that nobody sets."""
        return {topic: self._through(newest, now, quiet) for topic, newest in self._newest.items()}

    def _through(self, newest: list[Micros | None], now: Micros, quiet: Micros) -> Through:
        ages = [max(0, quiet - self._began if at is None else now - at) for at in newest]
        worst = max(range(len(ages)), key=ages.__getitem__)
        return Through(newest[worst], ages[worst], tuple(n for n, age in enumerate(ages) if age > self._lost))


def to_tell(lost: Mapping[str, Collection[int]], standing: Collection[str]) -> tuple[list[str], list[str]]:
    """Of which components it is to be told that canaries are missing, and of which that they are back.

    `lost` are partitions by feed, `standing` the components of which an alarm stands: nothing else is remembered, so that it
    does not matter which console raised it, or whether that one is still there.
    """
    gone = {topic for topic, partitions in lost.items() if partitions}
    many = {FEEDS} if len(gone) > MANY else set()
    return sorted((many or gone) - set(standing)), sorted(set(standing) - gone - many)
