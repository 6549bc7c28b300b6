"""One topic's minutes: what the log says that a store must hold of each, beside what it holds. Pure.

A look takes what must be there (*lower*), then the store is asked, then the log's ends are. When those have been counted,
what may be there is known, too (*upper*): of each minute lower <= held <= upper. Less is loss, more is a doubling.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from audit.account import Fold

DAY = 1440


class Finding(NamedTuple):
    """What is wrong with a minute: so many points too few, or (below nothing) too many."""

    minute: int
    late: bool
    missing: int


@dataclass
class Look:
    """A look that has begun: what must be there, and what is; `upto` says how far the log then went, by partition."""

    lower: dict[int, int]
    late: dict[int, int]
    held: dict[int, int] = field(default_factory=dict)
    held_late: dict[int, int] = field(default_factory=dict)
    upto: Mapping[int, int] = field(default_factory=dict)


class Minutes:
    """Of all partitions of a topic together; `folds` by partition."""

    def __init__(self, folds: Mapping[int, Fold]) -> None:
        self.folds = folds
        self.wrong: dict[tuple[int, bool], int] = {}  # as the last look found it
        self._dirty: set[int] = set()
        #: A correction that changes a tag is written before what it replaces is taken away: of an event there may be two
        #: points for a moment, so that they are told when they are found twice.
        self._may_show_both = any(fold.topic.kind == "events" for fold in folds.values())
        self._seen_double: set[int] = set()

    def look(self, oldest: int = 0) -> Look | None:
        """What is to be asked for, of no minute before `oldest`, since the store may let those go; None: nothing new."""
        late: dict[int, int] = {}
        for fold in self.folds.values():
            self._dirty |= fold.touched
            fold.touched.clear()
            for minute in [m for m in fold.late if m < oldest]:
                del fold.late[minute]
            for minute, identities in fold.late.items():
                late[minute] = late.get(minute, 0) + len(identities)
        self._dirty = {minute for minute in self._dirty if minute >= oldest}
        self._let_go()
        if not self._dirty and not late:
            return None
        return Look({minute: self._expected(minute) for minute in self._dirty}, late)

    def judge(self, look: Look) -> list[Finding]:
        """What the look found, when all below `look.upto` has been counted; what is right is not looked at again."""
        missing = {
            m: n
            for m, lower in sorted(look.lower.items())
            if (n := self._missing(m, lower, look.held.get(m, 0)))
        }
        double = {minute for minute, n in missing.items() if n < 0}
        doubted = double - self._seen_double if self._may_show_both else set()
        self._seen_double = double
        found = [Finding(minute, False, n) for minute, n in missing.items() if minute not in doubted]
        found += [
            Finding(minute, True, lower - held)
            for minute, lower in sorted(look.late.items())
            if (held := look.held_late.get(minute, 0)) < lower
        ]
        self.wrong = {(f.minute, f.late): f.missing for f in found}
        for minute in look.lower:
            if (minute, False) not in self.wrong and minute not in doubted:
                self._dirty.discard(minute)
        for minute, lower in look.late.items():
            if (minute, True) not in self.wrong:
                for fold in self.folds.values():
                    if len(fold.late.get(minute, ())) <= lower:
                        fold.late.pop(minute, None)
        return found

    def _let_go(self) -> None:
        """A minute that is over in every partition, and was looked at since, is not asked for again."""
        over = min(fold.floor for fold in self.folds.values())
        for fold in self.folds.values():
            for minute in [m for m in (*fold.closed, *fold.vague) if m < over and m not in self._dirty]:
                fold.forget(minute)

    def _missing(self, minute: int, lower: int, held: int) -> int:
        if any(minute in fold.vague for fold in self.folds.values()):
            return 0
        if held < lower:
            return lower - held
        whole = all(minute >= fold.whole_from for fold in self.folds.values())
        return min(0, self._expected(minute) - held) if whole else 0

    def _expected(self, minute: int) -> int:
        return sum(fold.expected(minute) for fold in self.folds.values())


def spans(minutes: Iterable[int]) -> list[tuple[int, int]]:
    """(first, after the last) of what is to be asked for, none longer than a day: a few questions, of little each."""
    found: list[tuple[int, int]] = []
    for minute in sorted(minutes):
        if found and minute < found[-1][0] + DAY:
            found[-1] = (found[-1][0], minute + 1)
        else:
            found.append((minute, minute + 1))
    return found
