"""Rules over signals, folded over the alarm plane's one log: what several alarms mean together, and what they suppress.

The law of this file.

1. Each bucket is a function of the log `city.alarm.input.v1` by itself. Its clock is the greatest stamp of the records that
   concerned it: signals of the rules it looks at, control records, and whatever came when one of its timers was due.
2. What is found is recomputed from the *set* of alarms as their detectors last said them (rules/gather.py). So what
   stands at the end depends on no order of arrival; what was told on the way is revised under the same handle.
3. What is decided goes out as records with a place (input log, 0, offset of the causing record, k), k counted within
   (record, rule): said again after a restart, they are dropped by the plane like a judge's.
4. A rule is that of the version in force when an alarm began. Versions that say the same are the same.
5. Only what can matter no more is forgotten: whole situations, KEEP after their end, by the time of their sources; a
   source that is silent or behind is waited for, for LAG.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import UUID, uuid5
from zlib import crc32

import msgspec

from models.alarm import Evidence, Mark, Signal
from models.base import Micros, micros, moment
from models.catalogue import ALARM_INPUT, topics
from rules.derive_wide import prove
from rules.gather import Cover, Found, Labels, Member, clusters, near
from rules.judge import fingerprint
from rules.machine import INF
from rules.situations import Area, Correlate, Root

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.alarm import Proof
    from rules.defined import Defined, WideProgram

#: Of a dump. A greater number is written by a version of this file that holds something else in a bucket.
FORMAT = 1
#: Never changes: alarm ids are made in it.
NAMESPACE = UUID("0c0d3b0e-8d5e-5a0e-9a55-6a4f0e2c7b13")

_HOUR: Micros = 3_600_000_000
KEEP: Micros = 24 * _HOUR
LAG: Micros = 7 * 24 * _HOUR

Source = tuple[str, int]
Record = Signal | Mark


class FormatError(ValueError):
    """These bytes are no bucket of this plane: build it again from the log."""


class Control(NamedTuple):
    """A control record: from `effective` on the rules of `program` are in force; the first are from the beginning."""

    effective: Micros
    program: WideProgram


class Touch(NamedTuple):
    """What is to be looked at again of a rule: all from a moment on, and what is near one of these members."""

    since: Micros
    changed: tuple[Member, ...] = ()


#: Everything.
_ALL = Touch(-INF)


class Told(NamedTuple):
    """What the plane was told of one situation of a rule. `anchor` places it in time, `version` is its rule's."""

    alarm_id: str
    labels: Labels
    start: Micros
    end: Micros | None
    held: bool
    peak: int
    evidence: tuple[str, ...]
    anchor: Micros
    version: int


class Marked(NamedTuple):
    """An alarm that is suppressed, and by which."""

    fingerprint: str
    by: str


@dataclass(slots=True)
class _Place:
    """The causing record of what is told, and how much of a rule it caused so far."""

    offset: int
    stamp: Micros
    k: int = 0


@dataclass(slots=True)
class _Bucket:
    offset: int = -1
    clock: Micros = 0
    horizon: Micros = -INF
    line: list[tuple[Micros, int]] = field(default_factory=list)
    last: dict[Source, dict[str, tuple[int, int]]] = field(default_factory=dict)
    heard: dict[Source, Micros] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    told: dict[str, list[Told]] = field(default_factory=dict)
    marked: dict[str, dict[str, Marked]] = field(default_factory=dict)
    # What follows is no state: `load` finds it again. When time next acts on a rule; the members in order of time.
    due: dict[str, Micros] = field(default_factory=dict)
    order: list[tuple[Micros, str]] = field(default_factory=list)

    def replace(self, old: Member | None, new: Member | None) -> None:
        """A member instead of another of the same id, or of none."""
        if old is not None:
            del self.members[old.alarm_id], self.order[bisect_left(self.order, (old.start, old.alarm_id))]
        if new is not None:
            self.members[new.alarm_id] = new
            insort(self.order, (new.start, new.alarm_id))

    def linked(self, seeds: Iterable[Member], rules: Sequence[Correlate]) -> list[Member]:
        """Those that are near one of `seeds` in space and time, those near these, and so on: no other is gathered with them."""
        names = frozenset().union(*(rule.members for rule in rules))
        within, window = max(rule.within_m for rule in rules), max(rule.window_us for rule in rules)
        found: dict[str, Member] = {}
        todo = list(seeds)
        while todo:
            one = todo.pop()
            first = bisect_left(self.order, (one.start - window, ""))
            last = bisect_left(self.order, (one.start + window + 1, ""))
            for _, alarm_id in self.order[first:last]:
                other = self.members[alarm_id]
                if alarm_id in found or other.rule not in names:
                    continue
                if alarm_id == one.alarm_id or near(one, other, within):
                    found[alarm_id] = other
                    todo.append(other)
        return list(found.values())


class _Dump(msgspec.Struct, array_like=True, frozen=True):
    log_id: str
    buckets: int
    bucket: int
    offset: int
    clock: Micros
    horizon: Micros
    line: list[tuple[Micros, int]]
    last: list[tuple[str, int, dict[str, tuple[int, int]]]]
    heard: list[tuple[str, int, Micros]]
    members: list[Member]
    told: dict[str, list[Told]]
    marked: dict[str, dict[str, Marked]]


class Wide:
    """The rules over signals of one log, in buckets (crc32 of the rule's id), each saved and restored by itself.

    `programs` must hold every version a control record or a restored bucket names.
    """

    def __init__(self, log_id: str, buckets: int = 4) -> None:
        self.log_id = log_id
        self.buckets = buckets
        self.programs: dict[int, WideProgram] = {}
        self.dirty: set[int] = set()
        self._buckets = [_Bucket() for _ in range(buckets)]

    # --- the log's records --------------------------------------------------------------------------------------

    def step(self, offset: int, stamp: Micros, record: Signal | Control | None) -> list[Record]:
        """What one record of the input log decides. None: a record that only says how late it is."""
        out: list[Record] = []
        for number, bucket in enumerate(self._buckets):
            if offset <= bucket.offset:
                continue
            bucket.offset = offset
            touched: dict[str, Touch] | None = None
            if isinstance(record, Control):
                touched = self._control(bucket, number, record, stamp)
            elif isinstance(record, Signal):
                touched = self._signal(bucket, number, offset, record)
            due = {name for name, when in bucket.due.items() if when <= stamp}
            if touched is None and not due:
                continue
            self.dirty.add(number)
            bucket.clock = max(bucket.clock, stamp)
            touched = touched or {}
            for name in sorted(touched.keys() | due):
                # Where time will act on a part of the rule, all of it is looked at: what is due next is the rule's.
                touch = _ALL if name in bucket.due else touched[name]
                out += self._judge(bucket, name, touch, _Place(offset, bucket.clock))
            self._forget(bucket, number)
        return out

    def due(self) -> Micros | None:
        """When time acts on something by itself; None: nothing waits."""
        return min((when for bucket in self._buckets for when in bucket.due.values()), default=None)

    def _signal(self, bucket: _Bucket, number: int, offset: int, signal: Signal) -> dict[str, Touch] | None:
        """Take what a detector says; what of which rules is to be looked at again. None: it changes nothing."""
        rules = self._rules(bucket, number)
        concerned = [name for name, versions in rules.items() if _concerns(versions, signal.rule)]
        if not concerned:
            return None
        source, place = (signal.topic, signal.partition), (signal.offset, signal.k)
        last = bucket.last.setdefault(source, {})
        if place <= last.get(signal.fingerprint, (-1, -1)):
            return None
        last[signal.fingerprint] = place
        bucket.heard[source] = max(bucket.heard.get(source, -INF), micros(signal.stamp))
        old = bucket.members.get(signal.alarm_id)
        if old is not None and old.fingerprint != signal.fingerprint:
            return {}  # an alarm of another fingerprint, as the plane sees it
        new = _member(signal, offset) if signal.op == "put" else None
        bucket.replace(old, new)
        changed = tuple(m for m in (old, new) if m is not None)
        return dict.fromkeys(concerned, Touch(min(m.start for m in changed), changed)) if changed else {}

    def _control(self, bucket: _Bucket, number: int, said: Control, stamp: Micros) -> dict[str, Touch] | None:
        """Another version from a moment on, or from now if that is past; everything is looked at again, and mostly nothing changes."""
        version = said.program.version
        # Versions are offsets: one that is not greater than the last has been said before, or was overtaken.
        if bucket.line and version <= bucket.line[-1][1]:
            return None
        self.programs[version] = said.program
        names = set(self._rules(bucket, number))
        since = max(said.effective, stamp) if bucket.line else -INF
        bucket.line = [*(entry for entry in bucket.line if entry[0] < since), (since, version)]
        names.update(self._rules(bucket, number), bucket.told, bucket.marked)
        return dict.fromkeys(names, _ALL)

    # --- versions -----------------------------------------------------------------------------------------------

    def _rules(self, bucket: _Bucket, number: int) -> dict[str, list[Defined]]:
        """Every rule of the bucket, as each version has it that may matter."""
        found: dict[str, list[Defined]] = {}
        for _, version in bucket.line:
            for name, rule in self.programs[version].rules.items():
                if crc32(name.encode()) % self.buckets == number:
                    found.setdefault(name, []).append(rule)
        return found

    def _version_at(self, bucket: _Bucket, t: Micros) -> int:
        return next(version for since, version in reversed(bucket.line) if since <= t)

    def _by_rule(
        self, bucket: _Bucket, name: str, members: Iterable[Member]
    ) -> list[tuple[Defined, list[Member]]]:
        """The members with the rule that was in force when they began, those of the same rule together."""
        found: dict[bytes, tuple[Defined, list[Member]]] = {}
        for member in members:
            rule = self.programs[self._version_at(bucket, member.start)].rules.get(name)
            if rule is not None and member.rule in rule.rule.members:
                found.setdefault(rule.digest, (rule, []))[1].append(member)
        return list(found.values())

    # --- judging ------------------------------------------------------------------------------------------------

    def _judge(self, bucket: _Bucket, name: str, touch: Touch, place: _Place) -> list[Record]:
        """Look again at all of a rule that a change can have touched; what there is to tell."""
        low, members, told = self._touched(bucket, name, touch)
        rules = self._by_rule(bucket, name, members)
        found = _disjoint((rule, one) for rule, inside in rules for one in rule.found(inside))
        # Of what was over before, not all members are at hand: it is as it was told, or is forgotten.
        slack = max((_slack(rule) for rule, _ in rules), default=0)
        found = [
            one
            for one in found
            if one.end is None
            or (one.end >= low and one.end + slack >= bucket.horizon)
            or any(t.labels == one.labels and _overlap(t, one) for t in told)
        ]
        said, now = self._announce(bucket, name, told, found, place, members)
        bucket.told[name] = [t for t in bucket.told.get(name, ()) if t not in told] + [t for t, _ in now]
        covers = [(t.labels, Cover(f.start, f.end, t.alarm_id)) for t, f in now]
        # Nor are all that may have suppressed what ended before.
        settled = max(low, bucket.horizon)
        looked_at = {m.alarm_id for m in members if m.end is None or m.end >= settled}
        marks, timers = self._mark(bucket, name, looked_at, rules, covers, place)
        timers += [when for t, f in now for when in (f.end, f.start + self._wait(bucket, name, f)) if when]
        ahead = [when for when in timers if when > bucket.clock]
        bucket.due.pop(name, None)
        if ahead:
            bucket.due[name] = min(ahead)
        return [*said, *marks]

    def _touched(self, bucket: _Bucket, name: str, touch: Touch) -> tuple[Micros, list[Member], list[Told]]:
        """The members and what was told that a change can have to do with, and from when on it can; more do no harm."""
        told = bucket.told.get(name, [])
        rules = [rule for _, v in bucket.line if (rule := self.programs[v].rules.get(name)) is not None]
        if touch is _ALL or len({type(rule.rule) for rule in rules}) != 1:
            return -INF, list(bucket.members.values()), told
        correlates = [rule.rule for rule in rules if isinstance(rule.rule, Correlate)]
        if correlates:
            around = bucket.linked(touch.changed, correlates)
            anchors = {((("rule", m.rule), *m.labels), m.start) for m in (*around, *touch.changed)}
            return -INF, around, [t for t in told if (t.labels, t.anchor) in anchors]
        names = frozenset().union(*(rule.rule.members for rule in rules))
        members = [m for m in bucket.members.values() if m.rule in names]
        slack = max(map(_slack, rules))
        low = min(touch.since, bucket.clock)  # what begins ahead is no reason to pass over what is due before
        for one in sorted(told, key=lambda t: t.start, reverse=True):
            if one.start <= low and (one.end is None or one.end + slack >= low):
                low = one.start
        alive = [m for m in members if m.end is None or m.end + slack >= low]
        return low, alive, [t for t in told if t.end is None or t.end + slack >= low]

    def _wait(self, bucket: _Bucket, name: str, found: Found) -> Micros:
        rule = self.programs[self._version_at(bucket, found.anchor)].rules[name].rule
        return rule.wait_us if isinstance(rule, Root) else 0

    # --- telling ------------------------------------------------------------------------------------------------

    def _announce(
        self,
        bucket: _Bucket,
        name: str,
        told: Sequence[Told],
        found: Sequence[Found],
        place: _Place,
        members: Sequence[Member],
    ) -> tuple[list[Record], list[tuple[Told, Found]]]:
        """Map what is found to what was told, under the same handles; what there is to say, and what then is told."""
        out: list[Record] = []
        now: list[tuple[Told, Found]] = []
        for labels in sorted({t.labels for t in told} | {f.labels for f in found}):
            left = [t for t in told if t.labels == labels]
            pairs = _pairs(left, sorted((f for f in found if f.labels == labels), key=lambda f: f.start))
            kept = [t for _, t in pairs if t is not None]
            for gone in (t for t in left if t not in kept):
                into = next((t for f, t in pairs if t is not None and _overlap(gone, f)), None)
                out.append(self._retraction(name, gone, None if into is None else into.alarm_id, place))
            for one, before in pairs:
                after = self._told(bucket, name, one, before, place)
                if before is None or not _same(before, after, always=self._correlates(name, after.version)):
                    proof = self._proof(bucket, name, after, one, members)
                    out.append(self._signal_of(name, after, one, place, proof))
                now.append((after, one))
        return out, now

    def _told(self, bucket: _Bucket, name: str, found: Found, before: Told | None, place: _Place) -> Told:
        """What is to be told of it now. An end that lies ahead is not told yet; nor is it an alarm before its wait."""
        mark = fingerprint(name, dict(found.labels))
        end = None if found.end is None or found.end > bucket.clock else found.end
        until = bucket.clock if end is None else end
        where = f"{self.log_id}/{ALARM_INPUT}/0/{place.offset}/{mark}/{place.k}"
        return Told(
            before.alarm_id if before is not None else str(uuid5(NAMESPACE, where)),
            found.labels,
            found.start,
            end,
            until - found.start < self._wait(bucket, name, found),
            found.peak,
            tuple(f"{m.fingerprint}/{m.start}" for m in found.evidence),
            found.anchor,
            self._version_at(bucket, found.anchor),
        )

    def _correlates(self, name: str, version: int) -> bool:
        return isinstance(self.programs[version].rules[name].rule, Correlate)

    def _proof(
        self, bucket: _Bucket, name: str, told: Told, found: Found, members: Sequence[Member]
    ) -> Proof:
        rule = self.programs[told.version].rules[name]
        return prove(self.log_id, rule, told.version, members, found, bucket.clock)

    def _signal_of(self, name: str, told: Told, found: Found, place: _Place, proof: Proof) -> Signal:
        rule = self.programs[told.version].rules[name]
        said = self._said(name, told, place)
        return Signal(
            op="put",
            end=None if told.end is None else moment(told.end),
            peak=float(told.peak),
            place=rule.place(found),
            evidence=tuple(map(_evidence, found.evidence)),
            proof=proof,
            held=told.held,
            **said,
        )

    def _retraction(self, name: str, told: Told, into: str | None, place: _Place) -> Signal:
        return Signal(op="retract", merged_into=into, held=told.held, **self._said(name, told, place))

    def _said(self, name: str, told: Told, place: _Place) -> dict[str, Any]:
        rule = self.programs[told.version].rules[name].rule
        (priority,) = rule.priorities
        k, place.k = place.k, place.k + 1
        return {
            "alarm_id": told.alarm_id,
            "fingerprint": fingerprint(name, dict(told.labels)),
            "rule": name,
            "rules_version": told.version,
            "topic": ALARM_INPUT,
            "partition": 0,
            "offset": place.offset,
            "k": k,
            "stamp": moment(place.stamp),
            "labels": dict(told.labels),
            "start": moment(told.start),
            "priority": priority,
            "title": rule.title,
            "instruction": rule.instruction,
            "severity": rule.severity_at(priority),
            "urgency": rule.urgency,
            "certainty": rule.certainty,
            "category": rule.category,
        }

    def _mark(
        self,
        bucket: _Bucket,
        name: str,
        looked_at: set[str],
        rules: Sequence[tuple[Defined, list[Member]]],
        covers: Sequence[tuple[Labels, Cover]],
        place: _Place,
    ) -> tuple[list[Record], list[Micros]]:
        """Which alarms are to be suppressed or released, and when time will release some by itself."""
        want: dict[str, Marked] = {}
        timers: list[Micros] = []
        for rule, inside in rules:
            for alarm_id, (member, cover) in rule.suppressed(inside, covers, bucket.clock).items():
                want[alarm_id] = Marked(member.fingerprint, cover.by)
                if member.end is None and cover.end is not None:
                    timers.append(cover.end + _release(rule))
        marked = bucket.marked.setdefault(name, {})
        for gone in [alarm_id for alarm_id in marked if alarm_id not in bucket.members]:
            del marked[gone]
        out: list[Record] = []
        for alarm_id in sorted(looked_at & (want.keys() | marked.keys())):
            before, after = marked.get(alarm_id), want.get(alarm_id)
            if before == after:
                continue
            if after is not None:
                marked[alarm_id] = after
                out.append(self._mark_of("suppress", name, alarm_id, after, place))
            elif before is not None:
                del marked[alarm_id]
                out.append(self._mark_of("release", name, alarm_id, before, place))
        return out, timers

    def _mark_of(
        self, op: Literal["suppress", "release"], name: str, alarm_id: str, said: Marked, place: _Place
    ) -> Mark:
        k, place.k = place.k, place.k + 1
        return Mark(
            op=op,
            alarm_id=alarm_id,
            fingerprint=said.fingerprint,
            rule=name,
            by=said.by,
            topic=ALARM_INPUT,
            partition=0,
            offset=place.offset,
            k=k,
            stamp=moment(place.stamp),
        )

    # --- forgetting ---------------------------------------------------------------------------------------------

    def _forget(self, bucket: _Bucket, number: int) -> None:
        """Forget what can matter no more, once an hour of the sources' time: a function of the log."""
        horizon = self._horizon(bucket, number)
        if horizon < bucket.horizon + _HOUR:
            return
        bucket.horizon = horizon
        needed: set[str] = set()
        for name, versions in self._rules(bucket, number).items():
            slack = max(map(_slack, versions))
            bucket.told[name] = _unfinished(bucket.told.get(name, ()), horizon, slack)
            for rule, members in self._by_rule(bucket, name, bucket.members.values()):
                needed |= _needed(rule, members, bucket.told[name], horizon, slack)
        bucket.members = {id_: m for id_, m in bucket.members.items() if id_ in needed}
        bucket.order = sorted((m.start, id_) for id_, m in bucket.members.items())
        for marked in bucket.marked.values():
            for gone in [alarm_id for alarm_id in marked if alarm_id not in bucket.members]:
                del marked[gone]
        oldest = min(
            [horizon, *(m.start for m in bucket.members.values())]
            + [t.anchor for told in bucket.told.values() for t in told]
        )
        first = max((n for n, (since, _) in enumerate(bucket.line) if since <= oldest), default=0)
        bucket.line = [(-INF, bucket.line[first][1]), *bucket.line[first + 1 :]]

    def _horizon(self, bucket: _Bucket, number: int) -> Micros:
        """Before this nothing can change any more: every source is past it, or has been silent for LAG."""
        newest = max(bucket.heard.values(), default=-INF)
        feeds = {
            topic
            for rules in self._rules(bucket, number).values()
            for r in rules
            for topic in r.topics.values()
        }
        sources = [(name, n) for name in feeds if name in topics() for n in range(topics()[name].partitions)]
        clocks = [max(bucket.heard.get(source, -INF), newest - LAG) for source in sources]
        return min([newest, *clocks]) - KEEP

    # --- saving and restoring -----------------------------------------------------------------------------------

    def dump(self, number: int) -> bytes:
        """Bucket `number` as it is now; it is no longer dirty."""
        b = self._buckets[number]
        self.dirty.discard(number)
        body = _Dump(
            self.log_id,
            self.buckets,
            number,
            b.offset,
            b.clock,
            b.horizon,
            b.line,
            [(topic, partition, last) for (topic, partition), last in b.last.items()],
            [(topic, partition, stamp) for (topic, partition), stamp in b.heard.items()],
            list(b.members.values()),
            {
                name: sorted(told, key=lambda t: (t.start, t.alarm_id))
                for name, told in sorted(b.told.items())
                if told
            },
            {name: dict(sorted(marked.items())) for name, marked in sorted(b.marked.items()) if marked},
        )
        return msgspec.msgpack.encode((FORMAT, body))

    def versions(self, data: bytes) -> set[int]:
        """Versions of the rules that a saved bucket needs in `programs` before it is loaded. Raises FormatError."""
        dump = _read(data)
        return {v for _, v in dump.line} | {t.version for told in dump.told.values() for t in told}

    def load(self, number: int, data: bytes) -> int:
        """Put the bucket back as it was dumped; returns its offset. Raises FormatError, and then changes nothing."""
        dump = _read(data)
        made_for, mine = (dump.log_id, dump.buckets, dump.bucket), (self.log_id, self.buckets, number)
        if made_for != mine:
            raise FormatError(
                f"made for (log, buckets, bucket) {made_for}, not for {mine}: build it from the log"
            )
        bucket = _Bucket(
            dump.offset,
            dump.clock,
            dump.horizon,
            list(dump.line),
            {(topic, partition): last for topic, partition, last in dump.last},
            {(topic, partition): stamp for topic, partition, stamp in dump.heard},
            {m.alarm_id: m for m in dump.members},
            dump.told,
            dump.marked,
        )
        bucket.order = sorted((m.start, id_) for id_, m in bucket.members.items())
        for name in self._rules(bucket, number):  # nothing is to be told; only the timers are found again
            self._judge(bucket, name, _ALL, _Place(dump.offset, dump.clock))
        self._buckets[number] = bucket
        self.dirty.discard(number)
        return dump.offset


def _read(data: bytes) -> _Dump:
    try:
        number, body = msgspec.msgpack.decode(data, type=tuple[int, msgspec.Raw])
        if number != FORMAT:
            raise FormatError(f"format {number}, this version reads {FORMAT}: build the bucket from the log")
        return msgspec.msgpack.decode(body, type=_Dump)
    except msgspec.DecodeError as error:
        raise FormatError(f"not a bucket of format {FORMAT}: {error}") from error


# --- of rules ---------------------------------------------------------------------------------------------------------


def _concerns(versions: Iterable[Defined], name: str) -> bool:
    return any(name in rule.rule.members for rule in versions)


def _release(rule: Defined) -> Micros:
    return 0 if isinstance(rule.rule, Correlate | Area) else rule.rule.release_us


def _slack(rule: Defined) -> Micros:
    """For how long after its end, or around its beginning, an alarm may still have to do with another."""
    found = rule.rule
    if isinstance(found, Correlate):
        return found.window_us
    if isinstance(found, Area):
        return (found.window_us or 0) + found.keep_us
    return found.release_us + (max(found.keep_us, found.wait_us) if isinstance(found, Root) else 0)


def _unfinished(told: Sequence[Told], horizon: Micros, slack: Micros) -> list[Told]:
    """Those that stand or stood after the horizon, and those by which the beginning or end of one of these came about."""
    kept = [t for t in told if t.end is None or t.end + slack >= horizon]
    left = [t for t in told if t not in kept]
    for one in kept:  # grows meanwhile
        edges = [one.start] if one.end is None else [one.start, one.end]
        more = [t for t in left if any(t.start - slack <= edge <= (t.end or 0) + slack for edge in edges)]
        kept += more
        left = [t for t in left if t not in more]
    return [t for t in told if t in kept]


def _needed(
    rule: Defined, members: Sequence[Member], told: Sequence[Told], horizon: Micros, slack: Micros
) -> set[str]:
    """Those that may still change something, or of which a situation is made that may still change."""
    alive = {m.alarm_id for m in members if m.end is None or m.end + slack >= horizon}
    if isinstance(rule.rule, Correlate):
        for cluster in clusters(members, rule.rule.within_m, rule.rule.window_us, rule.rule.anchor):
            ids = {m.alarm_id for m in cluster}
            alive |= ids if ids & alive else set()
        return alive
    for one in told:
        alive |= {
            m.alarm_id
            for m in members
            if m.start <= (INF if one.end is None else one.end)
            and one.start <= (INF if m.end is None else m.end + slack)
            and rule.belongs(m, one.labels)
        }
    return alive


# --- of what is found and told ------------------------------------------------------------------------------------


def _member(signal: Signal, offset: int) -> Member:
    place = signal.place
    return Member(
        micros(signal.start),
        signal.fingerprint,
        signal.alarm_id,
        None if signal.end is None else micros(signal.end),
        signal.rule,
        signal.topic,
        tuple(signal.labels.items()),
        None if place is None else place.lat,
        None if place is None else place.lon,
        None if place is None else place.ward,
        None if place is None else place.site,
        offset,
    )


def _evidence(member: Member) -> Evidence:
    """A member as evidence: its id holds nothing that depends on where in which log it was told of."""
    where = {"lat": member.lat, "lon": member.lon, "ward": member.ward, "site": member.site}
    return Evidence(
        event_id=f"{member.fingerprint}/{member.start}",
        topic=ALARM_INPUT,
        partition=0,
        offset=member.offset,
        observed_at=moment(member.start),
        values={
            "alarm_id": member.alarm_id,
            "rule": member.rule,
            "topic": member.topic,
            "labels": dict(member.labels),
            **({} if member.end is None else {"end": moment(member.end).isoformat()}),
            **{name: value for name, value in where.items() if value is not None},
        },
    )


def _disjoint(found: Iterable[tuple[Defined, Found]]) -> list[Found]:
    """Of one group two rules, of two versions, may find times that overlap: then it is one time, by the earlier."""
    out: list[Found] = []
    for rule, one in sorted(found, key=lambda it: (it[1].labels, it[1].start, it[1].anchor)):
        last = out[-1] if out and not isinstance(rule.rule, Correlate) else None
        if last is None or last.labels != one.labels or one.start > (INF if last.end is None else last.end):
            out.append(one)
        else:
            end = None if last.end is None or one.end is None else max(last.end, one.end)
            out[-1] = last._replace(end=end, peak=max(last.peak, one.peak))
    return out


def _pairs(told: Sequence[Told], found: Sequence[Found]) -> list[tuple[Found, Told | None]]:
    """Each with what was told of it: of the same beginning first, else what overlaps, the earliest first."""
    left = sorted(told, key=lambda t: (t.start, t.alarm_id))
    pairs: dict[int, Told] = {}
    for fits in (lambda t, f: t.start == f.start, _overlap):
        for n, one in enumerate(found):
            if n not in pairs and (near := next((t for t in left if fits(t, one)), None)) is not None:
                pairs[n] = near
                left.remove(near)
    return [(one, pairs.get(n)) for n, one in enumerate(found)]


def _overlap(told: Told, found: Found) -> bool:
    return told.start <= (INF if found.end is None else found.end) and found.start <= (
        INF if told.end is None else told.end
    )


def _same(before: Told, after: Told, *, always: bool) -> bool:
    """Was exactly this told? Of a count that goes on, the greatest and the evidence are told when it ends."""
    if (before.start, before.end, before.held) != (after.start, after.end, after.held):
        return False
    if after.end is None and not always:
        return True
    return (before.peak, before.evidence) == (after.peak, after.evidence)
