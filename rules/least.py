"""The fewest things that still give the same: nothing can be left out of what is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

X = TypeVar("X")


class Search(Generic[X]):
    """Asks `gives` of fewer and fewer things, of no more than `most` in all."""

    def __init__(self, gives: Callable[[Sequence[X]], bool], most: int) -> None:
        self._gives, self.left = gives, most

    def gives(self, things: Sequence[X]) -> bool:
        self.left -= len(things)
        return self._gives(things)

    def least(self, things: list[X]) -> list[X] | None:
        """Of things that give it, those without any one of which they do not; None where that takes too long to find."""
        size = max(1, len(things) // 2)
        while things:
            before = len(things)
            things = self._without(things, size)
            if self.left < 0:
                return None
            if size == 1 and len(things) == before:
                break  # each of them has been left out in vain
            size = max(1, size // 2)
        return things

    def _without(self, things: list[X], size: int) -> list[X]:
        """Leave out as many runs of `size` as can be spared, the last first."""
        for at in range((len(things) - 1) // size * size, -1, -size):
            fewer = things[:at] + things[at + size :]
            if self.left >= 0 and self.gives(fewer):
                things = fewer
        return things
