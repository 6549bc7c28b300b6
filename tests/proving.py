"""What must hold of a drawn episode: any cut writes what the uncut run wrote, and any order ends in the oracle's ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache
from random import Random
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import oracle
from episodes import REJECTED, RULES, T0, TICK, Delivery, Episode

from models.base import Event, micros
from models.keys import partition_of
from rules.judge import Judge
from rules.program import compile_program
from rules.spec import Interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.alarm import Signal
    from rules.program import Program

PARTITIONS = (1, 2, 4, 8)
#: Of the first rules of an episode.
VERSION = 7

Place = tuple[str, int, int, str, int]
Log = list[tuple[int, Delivery]]


class Failed(AssertionError):  # noqa: N818 - an episode fails, and that is no error of ours
    """An episode of which something does not hold; the message names the seed that makes it again."""


class World(NamedTuple):
    """One episode's topic, with a partition count and a number of buckets of its own, and its rules for it by their versions."""

    event: type[Event]
    programs: dict[int, Program]
    since: dict[int, int]


class Run(NamedTuple):
    """What judges of all partitions wrote, and what they counted."""

    signals: list[Signal]
    counts: list[Counter[str]]


@cache
def _shaped(event: type[Event], partitions: int, buckets: int) -> type[Event]:
    topic = replace(event.topic, partitions=partitions, buckets=buckets)
    return type(event.__name__, (event,), {"topic": topic, "__module__": event.__module__})


def world_of(episode: Episode, partitions: int, buckets: int) -> World:
    numbered = dict(enumerate(episode.versions, start=VERSION))
    programs = {n: compile_program(said.rules, n, episode.event) for n, said in numbered.items()}
    since = {n: said.since for n, said in numbered.items()}
    return World(_shaped(episode.event, partitions, buckets), programs, since)


def logs_of(world: World, deliveries: Sequence[Delivery]) -> list[Log]:
    """One log a partition: events by their key, all else in every one."""
    topic = world.event.topic
    logs: list[Log] = [[] for _ in range(topic.partitions)]
    for delivery in deliveries:
        if isinstance(delivery.what, Event):
            mine = [logs[partition_of(topic.key_of(delivery.what).encode(), topic.partitions)]]
        else:
            mine = logs
        for log in mine:
            log.append((len(log), delivery))
    return logs


def feed(judge: Judge, world: World, offset: int, delivery: Delivery) -> list[Signal]:
    stamp, what = delivery
    if what == TICK:
        return judge.pass_by(offset, stamp)
    if what == REJECTED:
        return judge.pass_by(offset, stamp, "rejected")
    if isinstance(what, str):
        number = VERSION + int(what.removeprefix(RULES))
        return judge.control(offset, stamp, world.since[number], world.programs[number])
    return judge.event(offset, stamp, what, crc32(what.wire()))


def uncut(world: World, logs: Sequence[Log]) -> Run:
    signals, counts = [], []
    for number, log in enumerate(logs):
        judge = Judge(world.event, number, "log")
        for offset, delivery in log:
            signals += feed(judge, world, offset, delivery)
        counts.append(judge.counts())
    return Run(signals, counts)


def cut(world: World, logs: Sequence[Log], r: Random) -> Run:
    """The same by judges that are stopped at drawn places; each goes on from buckets saved at other moments."""
    signals, counts = [], []
    for number, log in enumerate(logs):
        saved: dict[int, tuple[int, bytes]] = {}
        judge = Judge(world.event, number, "log")
        start = 0
        ends = sorted(r.randint(0, len(log)) for _ in range(r.randint(1, 3)))
        for end in [*ends, len(log)]:
            moments: dict[int, list[int]] = defaultdict(list)
            together = r.random() < 0.3
            for bucket in range(judge.buckets):
                if start < end and r.random() < 0.9:
                    moments[end - 1 if together else r.randrange(start, end)].append(bucket)
            for offset, delivery in log[start:end]:
                signals += feed(judge, world, offset, delivery)
                for bucket in moments[offset]:
                    if offset > saved.get(bucket, (-1, b""))[0]:
                        saved[bucket] = (offset, judge.dump(bucket))
            if end == len(log):
                counts.append(judge.counts())
                break
            judge = Judge(world.event, number, "log")
            for bucket, (_, blob) in saved.items():
                for version in judge.versions(blob):
                    judge.programs[version] = world.programs[version]
                judge.load(bucket, blob)
            start = 1 + min(saved[b][0] if b in saved else -1 for b in range(judge.buckets))
    return Run(signals, counts)


# --- what must hold -------------------------------------------------------------------------------------------------


def check(episode: Episode) -> None:
    """Raises Failed where anything that must hold of the episode does not."""
    r = Random(f"{episode.kind} {episode.seed} judged")
    kept: set[tuple[object, ...]] | None = None
    first = world_of(episode, 1, 1)
    for n, deliveries in enumerate(episode.orders):
        world = first._replace(event=_shaped(episode.event, r.choice(PARTITIONS), r.choice([1, 3, 8])))
        logs = logs_of(world, deliveries)
        run = uncut(world, logs)
        if n == 0:
            _same_after_cuts(episode, run, cut(world, logs, r))
        heard = [
            d.what
            for d in deliveries
            if isinstance(d.what, Event) and d.stamp - micros(d.what.observed_at) <= world.event.topic.late_us
        ]
        _same_ledger(episode, n, world, run, heard)
        _same_counts(episode, deliveries, run, heard)
        evidence = _evidence(episode, run)
        if kept is not None and kept != evidence:
            raise Failed(_told(episode, f"order {n} has other evidence: {sorted(kept ^ evidence, key=repr)}"))
        kept = evidence


def _told(episode: Episode, what: str) -> str:
    return f"{episode.kind} seed {episode.seed}: {what}"


def place_of(signal: Signal) -> Place:
    return (signal.topic, signal.partition, signal.offset, signal.fingerprint, signal.k)


def _same_after_cuts(episode: Episode, whole: Run, pieces: Run) -> None:
    wanted = {place_of(s): s.model_dump_json() for s in whole.signals}
    if len(wanted) != len(whole.signals):
        raise Failed(_told(episode, "two signals of one run have one id"))
    found: dict[Place, str] = {}
    for s in pieces.signals:
        place, said = place_of(s), s.model_dump_json()
        if found.setdefault(place, said) != said:
            raise Failed(_told(episode, f"after a cut {place} says something else: {found[place]} | {said}"))
    for place in sorted({*wanted, *found}):
        if wanted.get(place) != found.get(place):
            told = f"uncut {wanted.get(place)}; after cuts {found.get(place)}"
            raise Failed(_told(episode, f"after a cut {place} differs: {told}"))
    if [+c for c in whole.counts] != [+c for c in pieces.counts]:
        raise Failed(_told(episode, f"counted {whole.counts}; after cuts {pieces.counts}"))


def standing(signals: Iterable[Signal]) -> dict[str, Signal]:
    """What the signals leave standing, by alarm id."""
    found: dict[str, Signal] = {}
    for s in signals:
        if s.op == "retract":
            if found.pop(s.alarm_id, None) is None:
                raise Failed(f"{place_of(s)} takes back what does not stand")
        else:
            found[s.alarm_id] = s
    return found


def known(signal: Signal) -> oracle.Known:
    """Of an alarm that goes on the peak is told when it ends."""
    end = None if signal.end is None else micros(signal.end)
    peak = None if end is None else signal.peak
    labels = tuple(signal.labels.items())
    interval = Interval(signal.rule, labels, micros(signal.start), end, signal.priority, peak)
    return oracle.Known(interval, signal.held)


def _same_ledger(episode: Episode, order: int, world: World, run: Run, heard: Sequence[Event]) -> None:
    versions = [oracle.Version(said.since, said.rules) for said in episode.versions]
    wanted = oracle.ledger(versions, heard, episode.until, world.event)
    found = [known(s) for s in standing(run.signals).values()]
    missing, surplus = (
        Counter(_plain(k) for k in one if not episode.contradicted & {v for _, v in k.interval.labels})
        for one in (wanted, found)
    )
    if missing != surplus:
        only, other = sorted((missing - surplus).elements()), sorted((surplus - missing).elements())
        raise Failed(
            _told(episode, f"order {order}: the oracle alone has {only}; the core alone has {other}")
        )


def _plain(k: oracle.Known) -> str:
    """One line a reader can compare: times in seconds after the beginning."""
    i = k.interval
    start, end = ((None if t is None else (t - T0) / 1e6) for t in (i.start_us, i.end_us))
    return f"{i.rule} {dict(i.labels)} {start}..{end} {i.priority} peak {i.peak}{' held' if k.held else ''}"


def _same_counts(episode: Episode, deliveries: Sequence[Delivery], run: Run, heard: Sequence[Event]) -> None:
    """Every event is late, stored, a correction or a repetition; which of the first two does not depend on the order."""
    total: Counter[str] = sum(run.counts, Counter())
    said = sum(isinstance(d.what, Event) for d in deliveries)
    late = said - len(heard)
    if total["late"] != late:
        raise Failed(_told(episode, f"{total['late']} were counted as late; {late} are"))
    if total["stored"] + total["late"] + total["duplicate"] + total["conflict"] != said:
        raise Failed(_told(episode, f"of {said} events were counted: {dict(total)}"))
    if not episode.contradicted and total["stored"] != len(oracle.settled(heard)):
        raise Failed(_told(episode, f"{total['stored']} were stored of {len(oracle.settled(heard))}"))


def _evidence(episode: Episode, run: Run) -> set[tuple[object, ...]]:
    return {
        (s.fingerprint, s.start, s.end, tuple(e.event_id for e in s.evidence))
        for s in standing(run.signals).values()
        if s.end is not None and not episode.contradicted & {*s.labels.values()}
    }
