"""One partition of one topic, judged: `step` by `step` a pure function of its log.

Nothing here knows a clock, a file or a second log. State lives in buckets (crc32 of the key), each with the offset it
has seen, its clock and its counts, so that buckets can be saved at different moments and restored together.
"""

from __future__ import annotations

import heapq
import uuid
from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from models.alarm import PRIORITIES, Evidence, Signal
from models.base import PLACE_FIELDS, Place, micros, moment
from models.keys import partition_of
from rules.calendar import INF
from rules.derive import Facts, plain, prove
from rules.machine import ID, OFFSET, VALUES, T
from rules.program import EMPTY, Program
from rules.series import Series, Timeline
from rules.spec import ENGINE
from rules.terms import names_of, values_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.alarm import Proof
    from models.base import Event, Micros
    from rules.machine import Episode
    from rules.series import Op

#: Number of the format of a dumped bucket; another one is rebuilt from the log.
FORMAT = 2
NAMESPACE = uuid.UUID("6c1f3b52-6d5e-5d5b-9a4f-6d0a3f1c7e21")

#: Verdicts after which a series is not what it was.
_JUDGED = frozenset({"stored", "conflict"})


class FormatError(ValueError):
    """A saved bucket is of another format or shape: rebuild it from the log, and say so."""


def fingerprint(rule: str, labels: dict[str, str]) -> str:
    """Identity of an alarm: the rule and the subject, never value, time or severity. 16 hex digits."""
    text = "\x1f".join([rule, *(f"{k}={labels[k]}" for k in sorted(labels))])
    return blake2b(text.encode(), digest_size=8).hexdigest()


class _Bucket:
    __slots__ = ("clock", "counts", "heap", "line", "offset", "series")

    def __init__(self, programs: dict[int, Program]) -> None:
        self.offset = -1
        self.clock: Micros = 0
        self.line = Timeline([(-INF, EMPTY.version)], programs)
        self.series: dict[str, Series] = {}
        self.heap: list[tuple[Micros, str]] = []
        self.counts: Counter[str] = Counter()


class Judge:
    """Judges the records of (topic, partition) in the order of the log; every method takes the record's offset.

    `stamp` is the record's time in microseconds; the clock is its running maximum. What was seen before (an offset
    at or below a bucket's) changes nothing: after a restore the same records may come again. `late_us` replaces the
    topic's L in a replay's world. `whole`: the one partition there is, with every key of the topic on it.
    """

    #: After a restore the record before comes again: a proof begins at its clock, which no bucket that was quiet knows.
    looks_back = 1

    def __init__(
        self,
        event: type[Event],
        partition: int,
        log_id: str,
        late_us: Micros | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self.topic = event.topic
        self.partition = partition
        self.log_id = log_id
        self._partitions = 1 if whole else self.topic.partitions
        self.names = names_of(event)
        self._values = values_of(event)
        self._key_of = self.topic.key_of
        self._late = self.topic.late_us if late_us is None else late_us
        self._alone = self.topic.kind == "samples"
        self._sub = self.topic.series[len(self.topic.key) :]
        self.programs: dict[int, Program] = {EMPTY.version: EMPTY}
        self.buckets = self.topic.buckets
        self._buckets = [_Bucket(self.programs) for _ in range(self.buckets)]
        self.dirty: set[int] = set()
        self.clock: Micros = 0
        self._before: Micros = 0  # the clock before the last record
        self.offset = -1
        self._said: dict[tuple[int, str], Any] = {}
        self._caught_up = -1  # the greatest offset of a restored bucket
        self.next_due: Micros = INF  # when time next acts by itself, or is at least to look whether it does

    # --- the log's records --------------------------------------------------------------------------------------

    def event(self, offset: int, stamp: Micros, event: Event, digest: int) -> list[Signal]:
        """A valid event; `digest` is of its bytes, to tell a repetition from a contradiction."""
        self._tick(offset, stamp)
        key = self._key_of(event)
        number = crc32(key.encode()) % self.buckets
        bucket = self._buckets[number]
        signals: list[Signal] = []
        if offset > bucket.offset:
            clock = max(self.clock, bucket.clock)
            series = bucket.series.get(key)
            if series is None:
                series = self._new(bucket, key, clock)
            sub = "/".join(str(getattr(event, name)) for name in self._sub) if self._sub else ""
            at = micros(event.observed_at)
            sample = (at, event.event_id, sub, offset, event.revision, digest, self._values(event))
            verdict = series.add(sample, clock, self._late, alone=self._alone)
            bucket.counts[verdict] += 1
            self.dirty.add(number)
            if verdict in _JUDGED:
                ops = self._touch(bucket, series, clock)
                if ops:
                    cause = f"{verdict} {event.event_id}" if at < clock or verdict == "conflict" else None
                    self._tell(bucket, series, ops, clock, offset, stamp, signals, cause)
                else:
                    series.trim(clock - self._late, bucket.line)
        if self.clock >= self.next_due or offset <= self._caught_up:
            self._advance(offset, stamp, signals)
        return signals

    def pass_by(self, offset: int, stamp: Micros, count: str | None = None) -> list[Signal]:
        """A record that carries no event. A clock moves time; one that was rejected is only counted (`count`)."""
        signals: list[Signal] = []
        if count is None:
            self._tick(offset, stamp)
            self._advance(offset, stamp, signals)
        else:
            self.offset = offset
            first = self._buckets[0]
            if offset > first.offset:
                first.counts[count] += 1
                self.dirty.add(0)
        return signals

    def control(self, offset: int, stamp: Micros, effective: Micros, program: Program) -> list[Signal]:
        """From `effective` on, or from now if that is past, this version is in force, and none that was to come later."""
        self._tick(offset, stamp)
        self.programs[program.version] = program
        signals: list[Signal] = []
        expected: dict[int, list[str]] = {}
        for key in program.subjects:
            number = crc32(key.encode()) % self.buckets
            if self._mine(key, number):
                expected.setdefault(number, []).append(key)
        for number, bucket in enumerate(self._buckets):
            # Versions are offsets: one that is not greater than the last has been said before, or was overtaken.
            if offset <= bucket.offset or program.version <= bucket.line.entries[-1][1]:
                continue
            clock = max(self.clock, bucket.clock)
            since = max(effective, clock)
            # What an earlier publication has in store for later will not be: the last one said counts.
            standing = [entry for entry in bucket.line.entries if entry[0] <= since]
            bucket.line = Timeline([*standing, (since, program.version)], self.programs)
            self.dirty.add(number)
            for key in expected.get(number, ()):
                if key not in bucket.series:
                    self._new(bucket, key, clock)
            for series in list(bucket.series.values()):
                series.judged_anew(since)
                ops = self._touch(bucket, series, clock)
                cause = f"rules version {program.version}"
                self._tell(bucket, series, ops, clock, offset, stamp, signals, cause)
        self._advance(offset, stamp, signals)
        return signals

    # --- time ---------------------------------------------------------------------------------------------------

    def _tick(self, offset: int, stamp: Micros) -> None:
        self.offset = offset
        self._before = self.clock
        self.clock = max(self.clock, stamp)

    def _advance(self, offset: int, stamp: Micros, signals: list[Signal]) -> None:
        """Let every timer act that is due; each acts at its own due time, whatever record brought it."""
        if self.clock < self.next_due and offset > self._caught_up:
            return
        soonest = INF
        for number, bucket in enumerate(self._buckets):
            if offset > bucket.offset:
                clock = max(self.clock, bucket.clock)
                heap = bucket.heap
                while heap and heap[0][0] <= clock:
                    when, key = heapq.heappop(heap)
                    series = bucket.series.get(key)
                    if series is None or when != series.reminder:
                        continue  # an earlier reminder has come in its place
                    series.reminder = INF
                    if series.due <= clock:
                        self.dirty.add(number)
                        ops = self._touch(bucket, series, clock)
                        self._tell(bucket, series, ops, clock, offset, stamp, signals, None)
                    else:
                        self._remind(bucket, series)
            if bucket.heap and bucket.heap[0][0] < soonest:
                soonest = bucket.heap[0][0]
        self.next_due = soonest

    def _touch(self, bucket: _Bucket, series: Series, clock: Micros) -> list[Op]:
        """Bring a series to `clock`; what there is to tell of it."""
        ops = series.touch(clock, bucket.line)
        if series.due < series.reminder:
            self._remind(bucket, series)
        return ops

    def _tell(
        self,
        bucket: _Bucket,
        series: Series,
        ops: list[Op],
        clock: Micros,
        offset: int,
        stamp: Micros,
        signals: list[Signal],
        cause: str | None,
    ) -> None:
        if not ops:
            return
        # A proof begins at the horizon of the record before: what ended within a jump of the clock is before its own. Saved
        # and restored or not, no series is compacted beyond either, so that every run tells the same.
        before = max(self._before, bucket.clock)
        since = (before or clock) - self._late
        series.compact(since, bucket.line)
        proofs = [self._proof(bucket, series, op, since, clock) for op in ops]
        series.compact(clock - self._late, bucket.line)
        told = [
            self._signal(bucket, series, op, offset, stamp, k, cause, proof)
            for k, (op, proof) in enumerate(zip(ops, proofs, strict=True))
        ]
        series.announce(ops, [s.alarm_id for s in told])
        signals += told

    def _remind(self, bucket: _Bucket, series: Series) -> None:
        """Keep one reminder a series in the heap, never later than what is due; an early one only looks."""
        if series.due < series.reminder:
            series.reminder = series.due
            heapq.heappush(bucket.heap, (series.due, series.key))
            self.next_due = min(self.next_due, series.due)

    def _new(self, bucket: _Bucket, key: str, clock: Micros) -> Series:
        horizon = clock - self._late
        version = bucket.line.at(horizon - 1)
        series = Series(key, (version, self.programs[version].of(key).initial(key, None)), horizon)
        bucket.series[key] = series
        return series

    def _mine(self, key: str, number: int) -> bool:
        raw = key.encode()
        return crc32(raw) % self.buckets == number and partition_of(raw, self._partitions) == self.partition

    # --- signals ------------------------------------------------------------------------------------------------

    def _proof(self, bucket: _Bucket, series: Series, op: Op, since: Micros, clock: Micros) -> Proof | None:
        choices = series.given(op.rule, since, clock, bucket.line)
        if not choices:
            return None

        def rules_of(version: int) -> Any:
            return self._itself(self.programs[version], op.rule, series.key)

        facts = Facts(self.log_id, self.partition, self.names, rules_of)
        return prove(facts, choices, op.episode, gone=op.op == "retract")

    def _itself(self, program: Program, rule: str, key: str) -> Any:
        """A rule by itself, as JSON, with what it needs and what the registry says of the subject."""
        said = self._said.get((program.version, rule))
        if said is None:
            said = self._said[program.version, rule] = plain(program.alone(rule, ""))
        sensor = program.sensors.get(key)
        return said if sensor is None else said | {"registry": {"sensors": [plain(sensor)]}}

    def _signal(
        self,
        bucket: _Bucket,
        series: Series,
        op: Op,
        offset: int,
        stamp: Micros,
        k: int,
        cause: str | None,
        proof: Proof | None,
    ) -> Signal:
        # In the words of the rules by which it is, though others may be in force by now.
        version = series.head[0] if proof is None else proof.version
        rule = next(p.rules[op.rule] for p in self._programs(bucket, version) if op.rule in p.rules)
        labels = dict(zip(self.topic.key, series.key.split("/"), strict=True))
        mark = fingerprint(op.rule, labels)
        place = f"{self.log_id}/{self.topic.name}/{self.partition}/{offset}/{mark}/{k}"
        episode = op.episode
        return Signal(
            op=op.op,
            alarm_id=op.known or str(uuid.uuid5(NAMESPACE, place)),
            fingerprint=mark,
            rule=op.rule,
            rules_version=version,
            topic=self.topic.name,
            partition=self.partition,
            offset=offset,
            k=k,
            stamp=moment(stamp),
            labels=labels,
            start=moment(episode.start),
            end=None if episode.end is None else moment(episode.end),
            priority=PRIORITIES[episode.rank],
            peak=episode.peak,
            place=self._place(series, version, episode),
            title=rule.title,
            instruction=rule.instruction,
            severity=rule.rule.severity_at(PRIORITIES[episode.rank]),
            urgency=rule.urgency,
            certainty=rule.certainty,
            category=rule.category,
            evidence=tuple(self._evidence(s) for s in episode.evidence),
            proof=proof,
            cause=cause,
            merged_into=op.merged_into,
            held=episode.held or not rule.rule.tell,
        )

    def _programs(self, bucket: _Bucket, version: int) -> Iterator[Program]:
        yield self.programs[version]
        for _, older in reversed(bucket.line.entries):
            yield self.programs[older]

    def _place(self, series: Series, version: int, episode: Episode) -> Place | None:
        """Where the registry has it, else where its first event was: what it rests on outlives the series' samples."""
        known = self.programs[version].places.get(series.key)
        if known is not None:
            return known
        for sample in (*episode.evidence, *series.samples[-1:]):
            named = dict(zip(self.names, sample[VALUES], strict=True))
            where = {n: named[n] for n in PLACE_FIELDS if named[n] is not None}
            if where:
                return Place(**where)
        return None

    def _evidence(self, sample: Sequence[Any]) -> Evidence:
        values = {n: v for n, v in zip(self.names, sample[VALUES], strict=True) if v is not None}
        return Evidence(
            event_id=sample[ID],
            topic=self.topic.name,
            partition=self.partition,
            offset=sample[OFFSET],
            observed_at=moment(sample[T]),
            values=values,
        )

    # --- saving and restoring -----------------------------------------------------------------------------------

    def dump(self, number: int) -> bytes:
        """Bucket `number` as of the last record; what is quiet and past its horizon is forgotten on the way."""
        bucket = self._buckets[number]
        bucket.offset = max(bucket.offset, self.offset)  # a restored one may be ahead of what is read again
        bucket.clock = max(bucket.clock, self.clock)
        horizon = bucket.clock - self._late
        for key, series in list(bucket.series.items()):
            if series.folded >= 0:
                series.compact(horizon, bucket.line)
            if series.forgettable:
                del bucket.series[key]
        self.dirty.discard(number)
        return msgspec.msgpack.encode(
            (
                (FORMAT, ENGINE, self.buckets, number),
                bucket.offset,
                bucket.clock,
                bucket.line.entries[1:],
                bucket.counts,
                [s.dump() for s in bucket.series.values()],
            )
        )

    def versions(self, blob: bytes) -> list[int]:
        """Versions of the rules that a saved bucket needs before it can be loaded. Raises FormatError."""
        return [v for _, v in self._parts(blob)[3]]

    def load(self, number: int, blob: bytes) -> int:
        """Put a saved bucket in place; the programs of its versions must be in `programs`. The offset it has seen."""
        _, offset, clock, entries, counts, dumped = self._parts(blob)
        bucket = _Bucket(self.programs)
        bucket.offset, bucket.clock, bucket.counts = offset, clock, Counter(counts)
        bucket.line = Timeline([(-INF, EMPTY.version), *((e, v) for e, v in entries)], self.programs)
        for data in dumped:
            series = Series.load(data, clock, bucket.line)
            bucket.series[series.key] = series
            self._remind(bucket, series)
        self._buckets[number] = bucket
        self._caught_up = max(self._caught_up, offset)
        return int(offset)

    def _parts(self, blob: bytes) -> Any:
        try:
            parts = msgspec.msgpack.decode(blob)
            number = parts[0][3]
        except (msgspec.DecodeError, TypeError, IndexError, KeyError) as error:
            raise FormatError(
                f"{self.topic.name}/{self.partition}: a saved bucket cannot be read: {error}"
            ) from error
        mine = [FORMAT, ENGINE, self.buckets, number]
        if parts[0] != mine or len(parts) != 6:
            raise FormatError(
                f"{self.topic.name}/{self.partition}: saved as {parts[0]}, this engine reads {mine}"
            )
        return parts

    def counts(self) -> Counter[str]:
        """stored, late, duplicate, conflict and rejected so far."""
        total: Counter[str] = Counter()
        for bucket in self._buckets:
            for verdict, n in bucket.counts.items():  # a tenth of what Counter.update takes, twice a chunk
                total[verdict] += n
        return total

    def size(self) -> int:
        """How many series are held."""
        return sum(len(b.series) for b in self._buckets)
