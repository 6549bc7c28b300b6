"""The alarms as they stand, the last changes by their place in the log, and timelines: pure, and bounded."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from itertools import dropwhile
from typing import TYPE_CHECKING, NamedTuple

from console import hub, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: A subscriber that comes back after no more changes than these is told what it missed, else all.
MOST_CHANGES = 20_000
#: Alarms that are over and seen. The oldest go first; the store has them. Of what went only the position stays, so that
#: a worker that slept cannot raise it again.
MOST_OVER, MOST_GONE = 20_000, 200_000
#: Lines of timelines, and commands that are known to be done.
MOST_ENTRIES, MOST_COMMANDS = 50_000, 10_000


#: -1 where nothing was in the log yet.
_OFFSET = re.compile(r"-1|[0-9]{1,19}", re.ASCII)


class Known(NamedTuple):
    """An alarm, and the record that said so: it has the evidence, which only a detail shows.

    `logged`: the log said so, and has told whoever listens.
    """

    alarm: wire.Alarm
    record: bytes
    logged: bool = True


class Alarms:
    """Of two records of one alarm the greater position counts; the others are repeats, and are dropped."""

    def __init__(self, log_id: str | None = None) -> None:
        self.log_id = log_id
        self.read_to = -1  # the greatest offset of the states' topic that was read
        self.repeats = 0
        self._open: dict[str, Known] = {}
        self._over: OrderedDict[str, Known] = OrderedDict()
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._changes: deque[tuple[int, bytes]] = deque()
        self._forgotten = -1  # the greatest offset that is not among the changes any more
        self._timelines: OrderedDict[str, dict[str, wire.Entry]] = OrderedDict()
        self._entries = 0
        self.commands: OrderedDict[tuple[str, str], int] = OrderedDict()

    # --- in -----------------------------------------------------------------------------------------------------

    def begin(self, offset: int) -> None:
        """The log begins here: nobody can be told what was before."""
        self._forgotten = max(self._forgotten, offset - 1)
        self.read_to = max(self.read_to, offset - 1)

    def take(self, offset: int, known: Known) -> bytes | None:
        """A record of the states' topic: the frame for subscribers, or None where it is a repeat."""
        self.read_to = max(self.read_to, offset)
        if not self._newer(known.alarm):
            self.repeats += 1
            before = self.get(known.alarm.alarm_id)
            if before is not None and not before.logged:
                self._forgotten = (
                    offset  # nobody was told this change by its place: who comes back is told all
                )
            return None
        self._put(known)
        told = hub.frame("alarm", known.alarm, self.place(offset))
        self._changes.append((offset, told))
        if len(self._changes) > MOST_CHANGES:
            self._forgotten = self._changes.popleft()[0]
        return told

    def put(self, known: Known) -> bool:
        """An alarm from elsewhere: it counts as long as the log has said nothing of it. Whether it does."""
        id_ = known.alarm.alarm_id
        if id_ in self._open or id_ in self._over or id_ in self._gone:
            return False
        self._put(known._replace(logged=False))
        return True

    def _newer(self, alarm: wire.Alarm) -> bool:
        id_ = alarm.alarm_id
        found = self._open.get(id_) or self._over.get(id_)
        position = self._gone.get(id_, -1) if found is None else found.alarm.position
        return alarm.position > position

    def _put(self, known: Known) -> None:
        id_ = known.alarm.alarm_id
        self._open.pop(id_, None)
        self._over.pop(id_, None)
        self._gone.pop(id_, None)
        if known.alarm.state != "NORM":
            self._open[id_] = known
            return
        self._over[id_] = known
        if len(self._over) > MOST_OVER:
            gone, last = self._over.popitem(last=False)
            self._gone[gone] = last.alarm.position
            if len(self._gone) > MOST_GONE:
                self._gone.popitem(last=False)

    def add(self, alarm_id: str, entry: wire.Entry, position: int) -> bool:
        """A line of an alarm's timeline, in the order of the log; False where it is a repeat."""
        lines = self._timelines.setdefault(alarm_id, {})
        if entry.id in lines:
            return False
        lines[entry.id] = entry
        if entry.type == "acknowledged" and entry.cause is not None:
            self.commanded(alarm_id, entry.cause, position)
        self._entries += 1
        self._timelines.move_to_end(alarm_id)
        while self._entries > MOST_ENTRIES and len(self._timelines) > 1:
            self._entries -= len(self._timelines.popitem(last=False)[1])
        return True

    def commanded(self, alarm_id: str, command_id: str, offset: int) -> None:
        """This command is in the log, at this offset."""
        self.commands[alarm_id, command_id] = offset
        if len(self.commands) > MOST_COMMANDS:
            self.commands.popitem(last=False)

    def change(self, how: Callable[[wire.Alarm], wire.Alarm]) -> None:
        """Say all alarms anew, as after other rules: who comes back from before is told all."""
        for kept in (self._open, self._over):
            for id_, known in kept.items():
                kept[id_] = known._replace(alarm=how(known.alarm))
        self._changes.clear()
        self._forgotten = self.read_to

    # --- out ----------------------------------------------------------------------------------------------------

    def place(self, offset: int) -> str | None:
        """The id of an event of the stream; None as long as it is not known which log this is."""
        return None if self.log_id is None else f"{self.log_id}/{offset}"

    def since(self, place: str | None) -> list[bytes] | None:
        """Exactly what came after this id, in order; None where that is not known."""
        log_id, _, number = (place or "").rpartition("/")
        if not log_id or log_id != self.log_id or not _OFFSET.fullmatch(number):
            return None
        if not self._forgotten <= (offset := int(number)) <= self.read_to:
            return None
        return [told for _, told in dropwhile(lambda change: change[0] <= offset, self._changes)]

    def get(self, alarm_id: str) -> Known | None:
        return self._open.get(alarm_id) or self._over.get(alarm_id)

    def timeline(self, alarm_id: str) -> dict[str, wire.Entry]:
        """By id, in the order of the log."""
        return self._timelines.get(alarm_id, {})

    def open(self) -> Iterator[wire.Alarm]:
        """Those that are not over and seen."""
        return (known.alarm for known in self._open.values())

    def all(self) -> Iterator[wire.Alarm]:
        yield from self.open()
        yield from (known.alarm for known in self._over.values())

    def __len__(self) -> int:
        return len(self._open) + len(self._over)
