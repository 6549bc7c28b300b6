"""One partition's records in the order of its log, and what must have become of each: pure, and a reading of its own.

Nothing here is shared with the judge, the decoder or the store, whose mistakes it would share. It reads the least that
DESIGN needs: id, time, revision and the fields that name a series. Whether a record is no valid event it does not judge:
a reject names its place. What can be read neither as an event nor among the rejects is `unread`: nobody has it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from zlib import crc32

import msgspec

from models.base import EPOCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from models.base import Micros, Topic

#: What becomes of an accepted record. `corrected`: a greater revision of a known event; it replaces it, as a `conflict`
#: does, which is another value for the same series and moment, or the same event with other bytes.
Verdict = Literal["stored", "late", "duplicate", "conflict", "corrected", "rejected", "unread"]
VERDICTS: tuple[Verdict, ...] = (
    "stored",
    "late",
    "duplicate",
    "conflict",
    "corrected",
    "rejected",
    "unread",
)

MINUTE: Micros = 60_000_000

#: A stamp may be so much older than one before it, on a broker that takes its producers' word, without a difference.
SLACK: Micros = 2 * MINUTE

_NOT_EVENTS = frozenset({b"city.clock.v1", b"city.control.v1", b"city.canary.v1"})
_US = timedelta(microseconds=1)
_LOW = 0xFFFFFFFF


class Known(NamedTuple):
    """What is read of a record."""

    time: Micros
    identity: int  # what the store knows the point by, within its topic: a hash
    mark: int  # revision, id and bytes


@dataclass
class Account:
    """What became of the records of a partition below offset `next`; `clock` is the greatest stamp among them.

    `forgotten` were gone from the log before they could be read: nothing is known of them.
    """

    next: int = 0
    clock: Micros = 0
    counts: Counter[str] = field(default_factory=Counter)
    forgotten: int = 0

    def json(self) -> dict[str, int]:
        """As a record of the ledger's topic says it; `position` is the last record that is counted."""
        counts = {name: n for name in VERDICTS if (n := self.counts[name])}
        more = {"forgotten": self.forgotten} if self.forgotten else {}
        return {"position": self.next - 1, "clock": self.clock, **counts, **more}

    @classmethod
    def parse(cls, said: Mapping[str, Any]) -> Account:
        """Raises ValueError for what is no account."""
        found = {name: said.get(name, 0) for name in ("position", "clock", "forgotten", *VERDICTS)}
        if "position" not in said or any(type(n) is not int or n < 0 for n in list(found.values())[1:]):
            raise ValueError(f"no account: {json.dumps(said)[:200]}")
        counts = Counter[str]({name: found[name] for name in VERDICTS if found[name]})
        return cls(found["position"] + 1, found["clock"], counts, found["forgotten"])

    def same(self, other: Account) -> bool:
        """Whether both say the same of the same records."""
        return (self.next, self.forgotten, +self.counts) == (other.next, other.forgotten, +other.counts)


class Fold:
    """The account of one partition, record by record.

    Records below `account.next` may come first, from `reread_from` on: they are counted by whoever counted them before,
    and are only remembered, so that what repeats them is known. Any cut gives the same account.

    `expect`: keep what the store must hold, by minute of event time, until `forget`.
    """

    def __init__(
        self,
        topic: Topic,
        account: Account | None = None,
        late_us: Micros | None = None,
        *,
        expect: bool = False,
    ) -> None:
        self.topic = topic
        self.account = account or Account()
        self.late_us = topic.late_us if late_us is None else late_us
        self.expect = expect
        self.at = -1  # the next offset that is to come; -1: any
        self._first: tuple[int, Micros] | None = None  # offset and stamp of the first record that was seen
        self.touched: set[int] = set()  # minutes that must hold more than when they were last asked for
        self.late: dict[int, set[int]] = {}  # what late points there must be, by minute
        self.unread: set[int] = set()  # offsets
        self.vague: set[int] = set()  # minutes of which no more is known than their verdicts
        self._clock: Micros = 0
        self.floor = 0  # the first minute that is remembered
        self._known: dict[int, dict[int, int]] = {}  # minute: identity: mark
        self.closed: Counter[int] = Counter()  # minutes that are no longer remembered one by one
        self._read = _reader(topic)

    @property
    def reread_from(self) -> Micros:
        """The stamp from which on records must be seen again, for what comes next to be known as before."""
        return self.account.clock - self.late_us - SLACK - self.topic.ahead_us - MINUTE

    def step(
        self,
        offset: int,
        stamp: Micros,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes]],
        *,
        rejected: bool,
    ) -> Verdict | None:
        """What becomes of the record at `offset`; None: it is no event. `rejected`: a reject names its place."""
        if self.at >= 0 and offset < self.at:
            return None
        account, counted = self.account, offset >= self.account.next
        if counted:
            account.forgotten += offset - account.next
            account.next = offset + 1
        self.at = offset + 1
        if self._first is None:
            self._first = offset, stamp
        self._tick(stamp)
        if counted:
            account.clock = max(account.clock, self._clock)
        if key is None and next((said for name, said in headers if name == "ce_type"), None) in _NOT_EVENTS:
            return None
        verdict = "rejected" if rejected else self._judge(offset, stamp, value)
        if counted:
            account.counts[verdict] += 1
        return verdict

    def _judge(self, offset: int, stamp: Micros, value: bytes | None) -> Verdict:
        known = self._read(value or b"")
        if known is None or known.time > stamp + self.topic.ahead_us:
            if len(self.unread) < _MOST_UNREAD:
                self.unread.add(offset)
            return "unread"
        time, identity, mark = known
        minute = time // MINUTE
        if stamp - time > self.late_us:
            if self.expect:
                self.late.setdefault(minute, set()).add(identity)
            return "late"
        if minute < self.floor:  # only where stamps went back by more than SLACK
            self.vague.add(minute)
        there = self._known.setdefault(minute, {})
        old = there.get(identity)
        if old is not None and (old == mark or (_id(old) == _id(mark) and old >> 64 > mark >> 64)):
            return "duplicate"
        there[identity] = mark
        if old is None:
            if self.expect:
                self.touched.add(minute)
            return "stored"
        return "corrected" if _id(old) == _id(mark) and mark >> 64 > old >> 64 else "conflict"

    def _tick(self, stamp: Micros) -> None:
        """The clock of the partition; with it goes what can be no repetition any more, minute by minute."""
        if stamp <= self._clock:
            return
        self._clock = stamp
        floor = (stamp - self.late_us - SLACK) // MINUTE
        if floor > self.floor:
            self.floor = floor
            for minute in [m for m in self._known if m < floor]:
                gone = self._known.pop(minute)
                if self.expect:
                    self.closed[minute] += len(gone)
                    self.touched.add(minute)  # looked at once more, now that it is over

    def refused(self, offset: int) -> None:
        """A reject that came when the record was counted already: it is not lost after all."""
        if offset in self.unread:
            self.unread.remove(offset)
            if offset < self.account.next:
                self.account.counts["unread"] -= 1
                self.account.counts["rejected"] += 1

    # --- what the store must hold -------------------------------------------------------------------------------

    def expected(self, minute: int) -> int:
        """How many points that are not late the store must have of this minute."""
        return len(self._known.get(minute, ())) + self.closed[minute]

    def forget(self, minute: int) -> None:
        """Nobody will ask for it again."""
        self.closed.pop(minute, None)
        self.vague.discard(minute)

    @property
    def whole_from(self) -> int:
        """The first minute of which all records were seen.

        An event may be so much ahead of its record; a log has a
        beginning, and nobody speaks before it of what comes after.
        """
        if self._first is None:
            return 0
        offset, stamp = self._first
        return (stamp + (self.topic.ahead_us if offset else 0)) // MINUTE + 1


#: Offsets of unread records that are remembered, in case a reject of them comes late.
_MOST_UNREAD = 10_000


def _id(mark: int) -> int:
    return mark >> 32 & _LOW


def _reader(topic: Topic) -> Callable[[bytes], Known | None]:
    """The function bytes -> what is read of them, or None."""
    names = topic.series if topic.kind == "samples" else ("event_id",)
    fields = [(name, Any) for name in topic.series if topic.kind == "samples"]
    shape = msgspec.defstruct(
        "Read", [("event_id", str), ("observed_at", str), *fields, ("revision", int, 0)], gc=False
    )
    decode = msgspec.json.Decoder(shape).decode
    subject = attrgetter(*names)

    def read(value: bytes) -> Known | None:
        try:
            found: Any = decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        time = _time(found.observed_at)
        if time is None or found.revision < 0:
            return None
        try:
            identity = hash((time, subject(found)))
        except TypeError:  # a list where a name should be
            return None
        mark = found.revision << 64 | (hash(found.event_id) & _LOW) << 32 | crc32(value)
        return Known(time, identity, mark)

    return read


@lru_cache(maxsize=1 << 14)
def _time(text: str) -> Micros | None:
    """An aware ISO 8601 time, or the seconds (if they are many: milliseconds) since the epoch, written as a text."""
    try:
        at = datetime.fromisoformat(text.upper())
    except ValueError:
        return _number(text)
    return None if at.tzinfo is None else (at - EPOCH) // _US


def _number(text: str) -> Micros | None:
    try:
        seconds = Decimal(text)
        return int((seconds / 1000 if abs(seconds) > _MOST_SECONDS else seconds) * 1_000_000)
    except (ArithmeticError, ValueError):
        return None


_MOST_SECONDS = 20_000_000_000
