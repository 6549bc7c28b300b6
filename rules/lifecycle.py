"""The alarm plane's pure core: from the one log of signals and commands to alarms and their history.

The law of this file (ISA-18.2 states, kept as OPC UA Part 9 keeps them: as facts).

1. An alarm is what its detector last said of it, and *facts*: active, acked, retracted, suppressed, shelved. Its ISA-18.2
   state is derived from the facts by `STATES` and by nothing else. Facts change by a row of `MOVES` and by nothing else;
   where no row fits, nothing changes. Whatever affects the state of an alarm stands in these two tables.
2. `Plane.step` is a function of the log `city.alarm.input.v1`. Every bucket of it is such a function by itself:
   it reads nothing of another bucket, so that buckets restored at different offsets end as if never cut.
3. A signal or mark is applied only if its place (offset, k) in its source is greater than the last one of its
   fingerprint. So a worker that slept for a week may send all it knows again: nothing changes.
4. A command belongs to the alarm it names, and is done once however often it is repeated. A shelf holds for the
   fingerprint, and ends with the first record whose stamp is not before its end.
5. A held signal is no alarm. What is said of an alarm before it is one (a mark) is kept until it is told.
6. The rules over signals (rules/wide.py) are a detector with buckets of its own, beside these. What they decide comes
   back through the log, as signals and marks.
7. What is over is forgotten by the time of its own source (`KEEP`), never by the time of a checkpoint or of the input
   log. The judge revises by that same time, so that after an outage of days, or in a replay where one partition
   runs days ahead of another, no revision meets an alarm forgotten too early.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args
from uuid import UUID, uuid5
from zlib import crc32

import msgspec
from pydantic import ValidationError

from models.alarm import PRIORITIES, Alarm, AlarmEvent, Command, EntryType, Mark, Signal, State
from models.base import Micros, micros, moment
from models.catalogue import ALARM_INPUT
from rules.wide import KEEP as KEEP_WIDE
from rules.wide import LAG, Control, FormatError, Wide

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Of a dump. A greater number is written by a version of this file that holds something else in a bucket.
FORMAT = 3

#: Never changes: event ids are made in it.
NAMESPACE = UUID("6d0f3bd2-54f5-5d0c-9d3a-0c1f5c6e8a41")

Input = Literal[
    "opens",
    "opens worse",
    "closes",
    "closes worse",
    "retract",
    "loses ack",
    "acknowledge",
    "suppress",
    "release",
    "shelve",
    "unshelve",
]
#: applied + repeated + noop + unknown_alarm + held = signals, marks and commands read, when all buckets have read the
#: same. Held is what is said of an alarm that is none yet.
Outcome = Literal["applied", "repeated", "noop", "unknown_alarm", "held"]
Facts = frozenset[str]
Source = tuple[str, int]


class Derived(NamedTuple):
    """The state of an alarm of which all of `holds` and none of `lacks` are facts."""

    state: State
    holds: Facts
    lacks: Facts


class Move(NamedTuple):
    """What an input does to an alarm of which all of `holds` and none of `lacks` are facts."""

    on: Input
    holds: Facts
    lacks: Facts
    entry: EntryType
    sets: Facts
    clears: Facts


def _f(*names: str) -> Facts:
    return frozenset(names)


#: The first row that fits. A further fact is a field of `Alarm` and a row here, above those it hides.
STATES: tuple[Derived, ...] = (
    Derived("NORM", _f("retracted"), _f()),
    Derived("DSUPR", _f("active", "suppressed"), _f()),
    # It ended while it was suppressed: nobody was called for it, and nobody is now.
    Derived("NORM", _f("suppressed"), _f("active")),
    Derived("SHLVD", _f("active", "shelved"), _f()),
    Derived("NORM", _f("shelved"), _f("active")),
    Derived("UNACK", _f("active"), _f("acked")),
    Derived("ACKED", _f("active", "acked"), _f()),
    Derived("RTNUN", _f(), _f("active", "acked")),
    Derived("NORM", _f("acked"), _f("active")),
)

#: The first row that fits. An alarm the plane does not know is as good as a retracted one: its next `put` raises it.
#: "Worse" is a higher priority: an operator who acknowledged a P3 has not seen the P1 it became. A fall asks nobody.
MOVES: tuple[Move, ...] = (
    Move("opens", _f("retracted"), _f(), "raised", _f("active"), _f("retracted", "acked")),
    Move("opens", _f(), _f(), "revised", _f("active"), _f()),
    # Who shelved a P3 has not seen the P1 either.
    Move("opens worse", _f(), _f("retracted"), "revised", _f("active"), _f("acked", "shelved")),
    Move("closes", _f("active"), _f(), "cleared", _f(), _f("active")),
    Move("closes", _f(), _f("retracted"), "revised", _f(), _f()),
    Move("closes worse", _f("active"), _f(), "cleared", _f(), _f("active", "acked")),
    # It was over before, and now is known to have been worse: kept as history, nobody is called for it again.
    Move("closes worse", _f(), _f("retracted"), "revised", _f(), _f()),
    Move("retract", _f(), _f("retracted"), "retracted", _f("retracted"), _f("active")),
    Move("loses ack", _f("acked"), _f("retracted"), "revised", _f(), _f("acked")),
    Move("acknowledge", _f(), _f("acked", "retracted"), "acknowledged", _f("acked"), _f()),
    Move("shelve", _f(), _f("retracted"), "shelved", _f("shelved"), _f()),
    # What still stands asks again; what ended on the shelf was seen by whoever put it there.
    Move("unshelve", _f("shelved", "active"), _f("retracted"), "unshelved", _f(), _f("shelved", "acked")),
    Move("unshelve", _f("shelved"), _f("retracted"), "unshelved", _f("acked"), _f("shelved")),
    Move("suppress", _f(), _f("retracted"), "suppressed", _f("suppressed"), _f()),
    Move("release", _f("suppressed"), _f("retracted"), "released", _f(), _f("suppressed")),
)

FACTS: Facts = _f().union(*(r.holds | r.lacks for r in STATES), *(m.sets | m.clears for m in MOVES))

_HOUR: Micros = 3_600_000_000

#: How long an alarm in a state is kept after the last signal that moved it, in the time of its source (the stamps of
#: later signals from the same source). A state without a row is kept for ever. A judge can revise an occurrence for
#: L after its end: the least value must be more than the greatest L (12 h).
KEEP: Mapping[State, Micros] = {"NORM": 24 * _HOUR, "RTNUN": 7 * 24 * _HOUR}

#: As long again an alarm of a rule over signals is kept: its detector waits so long for a source that is behind.
KEEP_LONGER: Micros = KEEP_WIDE + LAG

#: Nothing is shelved for longer: the next shift decides anew.
SHELF: Micros = 24 * _HOUR

#: Ids of commands remembered with an alarm. Nobody gives 64 other commands on one alarm before a retry of the first.
COMMANDS = 64

#: What a signal says and an alarm repeats.
SAID = tuple(
    n for n in Signal.model_fields if n in Alarm.model_fields and n not in {"alarm_id", "fingerprint"}
)


#: The position of an alarm of which nothing was said yet.
UNSAID = -1


class Shelf(NamedTuple):
    """A rule is shelved for a subject: until when, at which priority or a milder one, and by whom."""

    until: Micros
    rank: int
    actor: str


class Change(NamedTuple):
    """One entry of an alarm's history before it has its id."""

    entry: EntryType
    alarm: Alarm
    cause: str | None = None
    actor: str | None = None
    note: str | None = None
    supersedes: int | None = None


def facts_of(alarm: Alarm) -> Facts:
    return frozenset(name for name in FACTS if getattr(alarm, name))


def state_of(facts: Facts) -> State:
    """The ISA-18.2 state; a total function of the facts."""
    return next(row.state for row in STATES if row.holds <= facts and not row.lacks & facts)


def move(
    alarm: Alarm, on: Input, position: int, said: Mapping[str, object], cause: str | None
) -> list[Change]:
    """The alarm after `on`, with the fields in `said` changed; nothing where no row of `MOVES` fits."""
    facts = facts_of(alarm)
    row = next((m for m in MOVES if m.on == on and m.holds <= facts and not m.lacks & facts), None)
    if row is None:
        return []
    after = (facts | row.sets) - row.clears
    update: dict[str, object] = {name: name in after for name in FACTS}
    update |= {
        "state": state_of(after),
        "position": position,
        "revised": alarm.revised + (row.entry == "revised"),
    }
    if "acked" not in after:
        update |= {"acked_by": None, "acked_at": None}
    if "shelved" not in after:
        update |= {"shelved_by": None, "shelved_until": None}
    before = None if alarm.position == UNSAID else alarm.position
    return [Change(row.entry, alarm.model_copy(update=update | dict(said)), cause, supersedes=before)]


def put(
    alarm: Alarm | None,
    signal: Signal,
    position: int,
    marks: Mapping[str, str] | None = None,
    shelf: Shelf | None = None,
) -> list[Change]:
    """What a `put` changes. An alarm that is over when first heard of is raised and then cleared.

    `marks` were said before it was an alarm: it is raised suppressed. On a `shelf` it is raised shelved, if it is no
    worse than what was put there.
    """
    said = {name: getattr(signal, name) for name in SAID}
    if alarm is None or alarm.retracted:
        known = {} if alarm is None else alarm.suppressed_by
        before = _unannounced(signal, said, known if marks is None else marks)
        if shelf is not None and PRIORITIES.index(signal.priority) >= shelf.rank:
            on_it = {"shelved": True, "shelved_by": shelf.actor, "shelved_until": moment(shelf.until)}
            before = before.model_copy(update=on_it)
        if alarm is not None:
            before = before.model_copy(update={"position": alarm.position})
        raised = move(before, "opens", position, {}, signal.cause)
        if signal.end is None:
            return raised
        return raised + move(raised[0].alarm, "closes", position, {"end": signal.end}, signal.cause)
    if all(getattr(alarm, name) == value for name, value in said.items()):
        return []
    worse = PRIORITIES.index(signal.priority) < PRIORITIES.index(alarm.priority)
    return move(alarm, _PUT[signal.end is not None, worse], position, said, signal.cause)


_PUT: Mapping[tuple[bool, bool], Input] = {
    (False, False): "opens",
    (False, True): "opens worse",
    (True, False): "closes",
    (True, True): "closes worse",
}


def mark(alarm: Alarm, said: Mark, position: int) -> list[Change]:
    """What a mark changes: an alarm is suppressed while there is a reason, and each rule gives at most one."""
    reasons = _reasons(alarm.suppressed_by, said)
    if reasons == alarm.suppressed_by:
        return []
    on: Input = "suppress" if reasons else "release"
    return move(alarm, on, position, {"suppressed_by": reasons}, f"{said.op} {said.rule} {said.by}")


def _reasons(before: Mapping[str, str], said: Mark) -> dict[str, str]:
    others = {rule: by for rule, by in before.items() if rule != said.rule}
    return dict(sorted({**others, said.rule: said.by}.items())) if said.op == "suppress" else others


def _unannounced(signal: Signal, said: Mapping[str, object], reasons: Mapping[str, str]) -> Alarm:
    """The alarm of a signal before anyone was told: it has no end yet, and counts as retracted."""
    return Alarm.model_validate(
        {
            **said,
            "alarm_id": signal.alarm_id,
            "fingerprint": signal.fingerprint,
            "end": None,
            "raised_at": signal.stamp,
            "active": False,
            "retracted": True,
            "suppressed": bool(reasons),
            "suppressed_by": reasons,
            "state": "NORM",
            "position": UNSAID,
        }
    )


@dataclass(slots=True)
class _Held:
    """An alarm, when (in its source's time) a signal last moved it, and the commands done to it."""

    alarm: Alarm
    source: Source
    moved: Micros
    commands: list[str] = field(default_factory=list)

    @property
    def due(self) -> Micros | None:
        """When it may be forgotten; None: not as it is."""
        keep = KEEP.get(self.alarm.state)
        longer = KEEP_LONGER if self.source[0] == ALARM_INPUT else 0
        return None if keep is None else self.moved + keep + longer


@dataclass(slots=True)
class _Waiting:
    """The reasons why an alarm will be suppressed when it becomes one, and when the last was said, in its source's time."""

    reasons: dict[str, str]
    source: Source
    moved: Micros

    @property
    def due(self) -> Micros:
        return self.moved + KEEP_LONGER


@dataclass(slots=True)
class _Heard:
    """Of one source: the place (offset, k) of the last signal of each fingerprint, and what is due when.

    `due` is a heap that only tells where to look: an entry that is not what its alarm now says is stale. So it is
    no state, is not dumped, and `load` makes it again from the alarms.
    """

    last: dict[str, tuple[int, int]] = field(default_factory=dict)
    due: list[tuple[Micros, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Bucket:
    """The part of the plane for some fingerprints. `counts` may be negative for a bucket, never for all together."""

    offset: int = -1
    counts: Counter[Outcome] = field(default_factory=Counter)
    alarms: dict[str, _Held] = field(default_factory=dict)
    waiting: dict[str, _Waiting] = field(default_factory=dict)
    heard: dict[Source, _Heard] = field(default_factory=dict)
    shelves: dict[str, Shelf] = field(default_factory=dict)

    @property
    def due(self) -> Micros | None:
        """When the next shelf ends."""
        return min((shelf.until for shelf in self.shelves.values()), default=None)

    def unshelved(self, offset: int, now: Micros) -> list[Change]:
        """What comes off a shelf whose time is over."""
        over = sorted(fingerprint for fingerprint, shelf in self.shelves.items() if shelf.until <= now)
        return [
            change
            for fingerprint in over
            for change in self._emptied(fingerprint, offset, now, "the shelf's time is over")
        ]

    def _emptied(self, fingerprint: str, offset: int, now: Micros, cause: str | None) -> list[Change]:
        """The shelf is gone, and all that was on it."""
        self.shelves.pop(fingerprint, None)
        return [
            change
            for held in list(self.alarms.values())
            if held.alarm.shelved and held.alarm.fingerprint == fingerprint
            for change in self._unshelve(held, offset, now, cause)
        ]

    def _unshelve(self, held: _Held, offset: int, now: Micros, cause: str | None) -> list[Change]:
        alarm = held.alarm
        seen = {} if alarm.active else {"acked_by": alarm.shelved_by, "acked_at": moment(now)}
        changes = move(alarm, "unshelve", offset, seen, cause)
        for change in changes:
            self._hold(change.alarm, held.source, held.moved)
        return changes

    def signal(self, offset: int, signal: Signal) -> tuple[Outcome, list[Change]]:
        source = (signal.topic, signal.partition)
        if not self._new(source, signal.fingerprint, signal):
            return "repeated", []
        held = self.alarms.get(signal.alarm_id)
        if held is not None and held.alarm.fingerprint != signal.fingerprint:
            return "unknown_alarm", []  # an alarm of another fingerprint: none of this one
        if signal.held and (held is None or held.alarm.retracted):
            return "held", []
        if signal.op == "retract" and held is None:
            return "unknown_alarm", []
        shelf = None
        if held is not None and (signal.op == "retract" or signal.held):
            changes = self._retract(
                held, signal, offset
            )  # or it was told, and now is known to have been none
        else:
            waiting = self.waiting.pop(signal.alarm_id, None)
            reasons = None if waiting is None else waiting.reasons
            shelf = self.shelves.get(signal.fingerprint)
            changes = put(None if held is None else held.alarm, signal, offset, reasons, shelf)
        for change in changes:
            self._hold(change.alarm, source, micros(signal.stamp))
        if shelf is not None and changes and PRIORITIES.index(signal.priority) < shelf.rank:
            # Whoever shelved it has not seen that.
            changes += self._emptied(signal.fingerprint, offset, micros(signal.stamp), signal.cause)
        return ("applied" if changes else "noop"), changes

    def _retract(self, held: _Held, signal: Signal, offset: int) -> list[Change]:
        """Merged into another, an alarm that nobody acknowledged takes that one's acknowledgement away."""
        proof = {} if signal.proof is None else {"proof": signal.proof}
        changes = move(held.alarm, "retract", offset, proof, signal.cause)
        into = None if signal.merged_into is None else self.alarms.get(signal.merged_into)
        if not changes or held.alarm.acked or into is None or into.alarm.fingerprint != signal.fingerprint:
            return changes
        return changes + move(into.alarm, "loses ack", offset, {}, f"merged:{signal.alarm_id}")

    def _new(self, source: Source, series: str, said: Signal | Mark) -> bool:
        """Whether this was not yet said, and remember that it was."""
        heard = self.heard.setdefault(source, _Heard())
        place = (said.offset, said.k)
        if place <= heard.last.get(series, (-1, -1)):
            return False
        heard.last[series] = place
        self._forget(source, micros(said.stamp))
        return True

    def mark(self, offset: int, said: Mark) -> tuple[Outcome, list[Change]]:
        source = (said.topic, said.partition)
        if not self._new(source, f"{said.fingerprint}/{said.rule}", said):
            return "repeated", []
        held = self.alarms.get(said.alarm_id)
        if held is not None and held.alarm.fingerprint != said.fingerprint:
            return "unknown_alarm", []
        if held is None or held.alarm.retracted:
            waiting = self.waiting.get(said.alarm_id)
            before = waiting.reasons if waiting else held.alarm.suppressed_by if held else {}
            self._wait(said.alarm_id, _Waiting(_reasons(before, said), source, micros(said.stamp)))
            return "held", []
        changes = mark(held.alarm, said, offset)
        for change in changes:
            self._hold(change.alarm, held.source, held.moved)
        return ("applied" if changes else "noop"), changes

    def _wait(self, alarm_id: str, waiting: _Waiting) -> None:
        if not waiting.reasons and alarm_id not in self.alarms:
            self.waiting.pop(alarm_id, None)
            return
        self.waiting[alarm_id] = waiting
        heappush(self.heard[waiting.source].due, (waiting.due, alarm_id))

    def command(self, offset: int, at: Micros, command: Command) -> tuple[Outcome, list[Change]]:
        held = self.alarms[command.alarm_id]
        if command.command_id in held.commands:
            return "repeated", []
        held.commands = [*held.commands, command.command_id][-COMMANDS:]
        alarm = held.alarm
        if command.action == "unshelve":
            changes = self._emptied(alarm.fingerprint, offset, at, command.command_id)
        elif command.action == "shelve":
            until = min(at if command.until is None else micros(command.until), at + SHELF)
            shelf = Shelf(until, PRIORITIES.index(alarm.priority), command.actor)
            said = {"shelved_by": shelf.actor, "shelved_until": moment(until)}
            changes = move(alarm, "shelve", offset, said, command.command_id) if until > at else []
            if changes:
                self.shelves[alarm.fingerprint] = shelf
        else:
            said = {"acked_by": command.actor, "acked_at": moment(at)}
            changes = move(alarm, command.action, offset, said, command.command_id)
        for change in changes:
            self._hold(change.alarm, held.source, held.moved)
        told = [change._replace(actor=command.actor, note=command.note) for change in changes]
        return ("applied" if changes else "noop"), told

    def _hold(self, alarm: Alarm, source: Source, moved: Micros) -> None:
        held = self.alarms.setdefault(alarm.alarm_id, _Held(alarm, source, moved))
        held.alarm, held.source, held.moved = alarm, source, moved
        if held.due is not None:
            heappush(self.heard[source].due, (held.due, alarm.alarm_id))

    def _forget(self, source: Source, now: Micros) -> None:
        """Called with every new signal of the source, and at no other time: a function of the log."""
        heap = self.heard[source].due
        while heap and heap[0][0] <= now:
            due, alarm_id = heappop(heap)
            held = self.alarms.get(alarm_id)
            if held is not None and (held.source, held.due) == (source, due):
                del self.alarms[alarm_id]
            waiting = self.waiting.get(alarm_id)
            if waiting is not None and (waiting.source, waiting.due) == (source, due):
                del self.waiting[alarm_id]


class _Dump(msgspec.Struct, array_like=True, frozen=True):
    """What a bucket is on disk, after the format number. Alarms are JSON, as on their topic."""

    log_id: str
    buckets: int
    bucket: int
    offset: int
    counts: dict[Outcome, int]
    heard: list[tuple[str, int, dict[str, tuple[int, int]]]]
    alarms: list[tuple[str, str, int, Micros, list[str]]]
    waiting: list[tuple[str, dict[str, str], str, int, Micros]]
    shelves: dict[str, Shelf]


class Plane:
    """The alarms of one log. `log_id` names the log, so that offsets of two logs never give one event id.

    State lives in buckets: `own` of them (crc32 of the fingerprint), and after these the `wide` ones of the rules over
    signals. Each has its own `offset`, the last one it has seen: after a restore the caller reads from the least of them
    + 1 and every bucket skips what it has. One `alarm_id` belongs to one fingerprint, as the judge makes it.
    """

    #: Nothing that is told depends on the record before.
    looks_back = 0

    def __init__(self, log_id: str, own: int = 16, wide: int = 4) -> None:
        self.log_id = log_id
        self.own = own
        self.buckets = own + wide
        self.wide = Wide(log_id, wide)
        self._dirty: set[int] = set()
        self._buckets = [_Bucket() for _ in range(own)]

    @property
    def dirty(self) -> set[int]:
        """Buckets changed since they were last dumped or loaded. Having seen an offset is no change."""
        return self._dirty | {self.own + number for number in self.wide.dirty}

    def conclude(
        self, offset: int, stamp_us: Micros, record: Signal | Mark | Command | Control | None
    ) -> list[Signal | Mark]:
        """What the rules over signals make of one input record: to be appended to the same log, in order."""
        said = record if isinstance(record, Signal | Control) else None
        return self.wide.step(offset, stamp_us, said)

    def step(
        self, offset: int, stamp_us: Micros, record: Signal | Mark | Command | Control | None
    ) -> list[AlarmEvent]:
        """The entries one input record causes, in order. None: a record that says nothing of alarms."""
        unshelved = self._unshelved(offset, stamp_us)
        changes: list[Change] = []
        if isinstance(record, Signal | Mark):
            changes = self._said(offset, record)
        elif isinstance(record, Command):
            changes = self._command(offset, stamp_us, record)
        for bucket in self._buckets:
            bucket.offset = max(bucket.offset, offset)
        # Shelves end in any bucket: what their entries are called may not depend on which of them have seen the record.
        named = [(f"{change.alarm.alarm_id}/unshelved", change) for change in unshelved]
        named += [(str(n), change) for n, change in enumerate(changes)]
        return [
            AlarmEvent(
                id=str(uuid5(NAMESPACE, f"{self.log_id}/{ALARM_INPUT}/0/{offset}/{name}")),
                type=change.entry,
                supersedes=change.supersedes,
                at=moment(stamp_us),
                cause=change.cause,
                actor=change.actor,
                note=change.note,
                alarm=change.alarm,
            )
            for name, change in named
        ]

    def _unshelved(self, offset: int, now: Micros) -> list[Change]:
        changes: list[Change] = []
        for n, bucket in enumerate(self._buckets):
            due = bucket.due
            if due is not None and due <= now and offset > bucket.offset:
                self._dirty.add(n)
                changes += bucket.unshelved(offset, now)
        return changes

    def due(self) -> Micros | None:
        """When time acts on something by itself; None: nothing waits."""
        found = [due for b in self._buckets if (due := b.due) is not None]
        wide = self.wide.due()
        return min([*found, *([] if wide is None else [wide])], default=None)

    def _said(self, offset: int, said: Signal | Mark) -> list[Change]:
        bucket = self._new_to(self._of(said.fingerprint), offset)
        if bucket is None:
            return []
        outcome, changes = (
            bucket.signal(offset, said) if isinstance(said, Signal) else bucket.mark(offset, said)
        )
        bucket.counts[outcome] += 1
        return changes

    def _command(self, offset: int, stamp_us: Micros, command: Command) -> list[Change]:
        """A command names no fingerprint, so the bucket it belongs to is the one that holds its alarm.

        Which commands are unknown is nothing one bucket can tell: a bucket restored ahead of the log may hold an alarm
        that was unknown when the command came. So the bucket of the *id* counts every command as unknown, and the one
        that holds the alarm takes that back: each count is a function of the log, whatever the other buckets have seen.
        """
        desk = self._new_to(self._of(command.alarm_id), offset)
        if desk is not None:
            desk.counts["unknown_alarm"] += 1
        home = next((n for n, b in enumerate(self._buckets) if command.alarm_id in b.alarms), None)
        bucket = None if home is None else self._new_to(home, offset)
        if bucket is None:
            return []
        outcome, changes = bucket.command(offset, stamp_us, command)
        bucket.counts["unknown_alarm"] -= 1
        bucket.counts[outcome] += 1
        return changes

    def _of(self, name: str) -> int:
        return crc32(name.encode()) % self.own

    def _new_to(self, n: int, offset: int) -> _Bucket | None:
        """The bucket, to be changed by a record it has not seen."""
        bucket = self._buckets[n]
        if offset <= bucket.offset:
            return None
        self._dirty.add(n)
        return bucket

    def alarms(self) -> Iterable[Alarm]:
        """Every alarm the plane holds: all open ones, and those over that are not yet forgotten."""
        return (held.alarm for bucket in self._buckets for held in bucket.alarms.values())

    def counts(self) -> dict[Outcome, int]:
        """What became of the signals, marks and commands read. Balanced when all buckets have seen the same offset."""
        total: Counter[Outcome] = Counter(dict.fromkeys(get_args(Outcome), 0))
        for bucket in self._buckets:
            total.update(bucket.counts)
        return dict(total)

    def dump(self, bucket: int) -> bytes:
        """The bucket as it is now; it is no longer dirty."""
        if bucket >= self.own:
            return self.wide.dump(bucket - self.own)
        b = self._buckets[bucket]
        self._dirty.discard(bucket)
        heard = [(topic, partition, h.last) for (topic, partition), h in b.heard.items()]
        alarms = [(h.alarm.model_dump_json(), *h.source, h.moved, h.commands) for h in b.alarms.values()]
        waiting = [(id_, w.reasons, *w.source, w.moved) for id_, w in b.waiting.items()]
        body = _Dump(
            self.log_id, self.own, bucket, b.offset, dict(b.counts), heard, alarms, waiting, b.shelves
        )
        return msgspec.msgpack.encode((FORMAT, body))

    def load(self, bucket: int, data: bytes) -> int:
        """Put the bucket back as it was dumped; returns its offset. Raises `FormatError`, and then changes nothing."""
        if bucket >= self.own:
            return self.wide.load(bucket - self.own, data)
        try:
            number, body = msgspec.msgpack.decode(data, type=tuple[int, msgspec.Raw])
            if number != FORMAT:
                raise FormatError(
                    f"format {number}, this version reads {FORMAT}: build the bucket from the log"
                )
            dump = msgspec.msgpack.decode(body, type=_Dump)
            alarms = [_Held(Alarm.model_validate_json(a), (t, p), m, c) for a, t, p, m, c in dump.alarms]
        except (msgspec.DecodeError, ValidationError) as error:
            raise FormatError(f"not a bucket of format {FORMAT}: {error}") from error
        made_for, mine = (dump.log_id, dump.buckets, dump.bucket), (self.log_id, self.own, bucket)
        if made_for != mine:
            raise FormatError(
                f"made for (log, buckets, bucket) {made_for}, not for {mine}: build it from the log"
            )
        self._buckets[bucket] = _restored(dump, alarms)
        self._dirty.discard(bucket)
        return dump.offset

    def versions(self, bucket: int, data: bytes) -> set[int]:
        """Versions of the rules that must be in `wide.programs` before the bucket is loaded. Raises `FormatError`."""
        return self.wide.versions(data) if bucket >= self.own else set()


def _restored(dump: _Dump, alarms: list[_Held]) -> _Bucket:
    heard = {(topic, partition): _Heard(last) for topic, partition, last in dump.heard}
    for held in alarms:
        if held.due is not None:
            heard[held.source].due.append((held.due, held.alarm.alarm_id))
    waiting = {id_: _Waiting(reasons, (t, p), m) for id_, reasons, t, p, m in dump.waiting}
    for alarm_id, one in waiting.items():
        heard[one.source].due.append((one.due, alarm_id))
    for source in heard.values():
        heapify(source.due)
    by_id = {h.alarm.alarm_id: h for h in alarms}
    return _Bucket(dump.offset, Counter(dump.counts), by_id, waiting, heard, dump.shelves)
