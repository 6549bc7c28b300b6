"""Judge and alarms, cut at every line that saves, restores or sends: whoever goes on writes what an uncut run wrote, and nothing is lost."""

from __future__ import annotations

import asyncio
import inspect
import sys
import textwrap
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from chaos import FLOW, RULES, City
from fatal import ROOT, lines
from faust.types import TP

from bus import canary, headers
from models import catalogue
from models.alarm import COMMAND_TYPE, Command, Signal
from models.base import moment
from settings import Settings
from streams import checkpoint, sets
from streams.alarms import AlarmsWork
from streams.judge import JudgeWork

if TYPE_CHECKING:
    from collections.abc import Iterator

T0 = 1_767_225_600_000  # ms
VERSION = 0
QUIET_S = 3.0
JUDGED = TP(FLOW, 0)
INPUT = TP(catalogue.ALARM_INPUT, 0)


class Instant(asyncio.SelectorEventLoop):
    """A loop whose time is nobody's: whenever all wait, the clock is put to what comes next."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        look = self._selector.select

        def select(timeout):
            assert timeout is not None, "everybody waits, and nothing will ever come"
            self.now += timeout
            return look(0)

        self._selector.select = select

    def time(self):
        return self.now


class Log:
    """What survives: the partitions' records, and the positions that the group has committed."""

    def __init__(self, records=()) -> None:
        self.topics: dict[tuple[str, int], list[Any]] = {}
        self.committed: dict[TP, int] = {}
        for record in records:
            self.append(**record)

    def of(self, topic, partition=0):
        return self.topics.setdefault((topic, partition), [])

    def append(self, topic, value, key=None, headers=(), stamp=None, partition=0):
        there = self.of(topic, partition)
        stamp = T0 + 200 * len(there) if stamp is None else stamp
        there.append(
            SimpleNamespace(topic=topic, partition=partition, offset=len(there), timestamp=stamp, key=key, value=value, headers=headers)
        )  # fmt: skip


class Life:
    """One worker process: what it is given of Faust and Kafka. Dead, it changes nothing any more, whatever still runs in it."""

    def __init__(self, log: Log, tp: TP, r: Random) -> None:
        self.log, self.tp, self.random = log, tp, r
        self.over = asyncio.get_running_loop().create_future()
        self.positions: dict[TP, int] = {}
        self.arrivals: dict[str, float] = {}
        self.on_partitions_revoked = self.on_rebalance_complete = self.on_before_shutdown = SimpleNamespace(
            connect=lambda *_a, **_k: None
        )
        self.consumer_generation_id, self.between = 1, False
        self.consumer = SimpleNamespace(
            assignment=lambda: {tp},
            highwater=lambda _tp: len(log.of(tp.topic, tp.partition)),
            commit=self.commit,
            _thread=SimpleNamespace(call_thread=self._call, _ensure_consumer=lambda: SimpleNamespace(committed=self._committed)),
        )  # fmt: skip

    @property
    def dead(self):
        return self.over.done()

    def die(self):
        if not self.over.done():
            self.over.set_result(None)

    async def _call(self, what, *more):
        return await what(*more)

    async def _committed(self, _asked):
        return self.log.committed.get(self.tp)

    async def commit(self):
        if not self.dead:
            self.log.committed |= self.positions

    async def crash(self, _error):
        self.die()

    async def send(self, topic, value=None, *, key=None, partition=0, timestamp_ms=None, headers=()):
        """It comes to the log, and is acknowledged, some time later or never; in the order of the sends within a topic."""
        loop = asyncio.get_running_loop()
        ack = loop.create_future()
        last = self.arrivals.get(topic, 0.0)
        self.arrivals[topic] = at = max(last, loop.time() + self.random.choice([0, 0, 0, 0.01, 0.3, 2.5]))

        def arrive():
            if not self.dead:
                self.log.append(topic, value, key, headers, timestamp_ms, partition or 0)
                if not ack.done():
                    ack.set_result(None)

        loop.call_at(at, arrive)
        await asyncio.sleep(0)
        return ack

    async def send_and_wait(self, topic, value=None, **more):
        await (await self.send(topic, value, **more))

    async def stop(self):
        pass


def _cut_at(life: Life, file: str, line: int, nth: int) -> None:
    """Have the life end there: what the line and those after it do leaves no trace."""
    wanted, left = str(ROOT / file), [nth]

    def local(frame, event, _arg):
        if event == "line" and frame.f_lineno == line:
            left[0] -= 1
            if left[0] == 0:
                life.die()
        return local

    sys.settrace(lambda frame, _event, _arg: local if frame.f_code.co_filename == wanted else None)


async def _live(work: Any, life: Life) -> None:
    """Take chunks as they come, save, commit every half second; be told to stop when nothing more has come for a while."""
    loop, points = asyncio.get_running_loop(), work.checkpoints
    await points._on_rebalance()

    async def commits():
        while True:
            await asyncio.sleep(0.5)
            await life.commit()

    committing = asyncio.create_task(commits())
    at, last = points.held[life.tp].offset + 1, loop.time()
    while loop.time() < last + QUIET_S:
        chunk = life.log.of(life.tp.topic, life.tp.partition)[at : at + life.random.randint(1, 8)]
        if chunk:
            at += len(chunk)
            await work.take(SimpleNamespace(tp=life.tp, topic=life.tp.topic, value=chunk, generation_id=1))
            last = loop.time()
        await asyncio.sleep(life.random.choice([0.02, 0.1, 0.5]))
    await points._on_shutdown()
    committing.cancel()


async def _until_it_ends(log: Log, role: str, seed: int, cut: Any) -> bool:
    """One life; whether it was cut."""
    life = Life(log, JUDGED if role == "judge" else INPUT, Random(seed))
    settings = Settings.model_validate({"checkpoint": {"seconds": 1, "bytes": 20_000}})
    work = (JudgeWork if role == "judge" else AlarmsWork)(life, settings, "127.0.0.1:1", "log")
    work.checkpoints.producer = life
    if cut is not None:
        _cut_at(life, *cut)
    living = asyncio.create_task(_live(work, life))
    await asyncio.wait({living, life.over}, return_when=asyncio.FIRST_COMPLETED)
    sys.settrace(None)
    if not life.dead:
        await living
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    return life.dead


@pytest.fixture(autouse=True)
def settings_and_rules(monkeypatch):
    async def rules_of(*_a):
        return RULES

    async def forgotten(*_a):
        return None

    monkeypatch.setattr(sets, "rules_of", rules_of)
    monkeypatch.setattr(sets, "forgotten", forgotten)


def live(log, role, monkeypatch, seed, cut=None):
    """One life over the log; whether it was cut."""

    async def read_all(_bootstrap, topic, partitions):
        for n in partitions:
            for record in list(log.of(topic, n)):
                yield record.key, record.value

    monkeypatch.setattr(checkpoint.clients, "read_all", read_all)
    with asyncio.Runner(loop_factory=Instant) as runner:
        try:
            return runner.run(_until_it_ends(log, role, seed, cut))
        finally:
            sys.settrace(None)


def source() -> list[dict[str, Any]]:
    """A partition as it comes: control record, events that make and end alarms, canaries, what is no event, silence."""
    told = headers.control_record(VERSION, T0 * 1000)
    city, found = (
        City("", 4, 0, 1),
        [{"topic": FLOW, "value": told.value, "headers": told.headers, "stamp": T0}],
    )
    for n in range(170):
        stamp = T0 + 1000 + n * 1500
        city._when = lambda stamp=stamp: moment((stamp - city.random.choice([0, 0, 0, 4000])) * 1000)
        made = city._road(n).model_copy(update={"segment_id": f"s{city.random.randrange(12)}"})
        if n % 23 == 7:
            found.append(
                {
                    "topic": FLOW,
                    "value": b"{",
                    "key": b"x",
                    "headers": headers.headers("x", FLOW, "/t", 0),
                    "stamp": stamp,
                }
            )
        if n % 40 == 11:
            one = canary.record()
            found.append({"topic": FLOW, "value": one.value, "headers": one.headers, "stamp": stamp})
        ce = headers.headers(made.event_id, FLOW, "/t", 0)
        found.append(
            {
                "topic": FLOW,
                "value": made.wire(),
                "key": made.segment_id.encode(),
                "headers": ce,
                "stamp": stamp,
            }
        )
    clock = headers.clock_record()
    found += [
        {"topic": FLOW, "value": clock.value, "headers": clock.headers, "stamp": T0 + 300_000 + n * 1000}
        for n in range(4)
    ]
    return found  # fmt: skip


def inputs(monkeypatch) -> list[dict[str, Any]]:
    """What an uncut judge says, and operators' commands among it."""
    log = Log(source())
    assert not live(log, "judge", monkeypatch, 1)
    told = headers.control_record(VERSION, T0 * 1000)
    found = [{"topic": INPUT.topic, "value": told.value, "headers": told.headers, "stamp": T0}]
    for n, record in enumerate(log.of(*INPUT)):
        found.append(
            {k: getattr(record, k) for k in ("topic", "value", "key", "headers")}
            | {"stamp": record.timestamp}
        )
        if n % 5 == 2 and canary.canary_of(record.value) is None:
            said = Signal.model_validate_json(record.value)
            command = Command(command_id=f"c{n}", action="acknowledge", alarm_id=said.alarm_id, actor="op")
            ce = headers.headers(command.command_id, COMMAND_TYPE, "/t", 0)
            found.append({"topic": INPUT.topic, "value": command.model_dump_json(exclude_none=True).encode(), "key": b"k",
                          "headers": ce, "stamp": record.timestamp})  # fmt: skip
    return found


def outputs(log: Log, role: str) -> dict[str, dict[Any, bytes]]:
    """What was written, by id: a record that comes again must say the same."""
    if role == "judge":
        by = {
            INPUT.topic: lambda r: (
                canary.canary_of(r.value)
                or Signal.model_validate_json(r.value).model_copy(update={"proof": None}).model_dump_json()
            )
        }
    else:
        by = {
            catalogue.ALARM_EVENT: lambda r: dict(r.headers)["ce_id"],
            catalogue.REJECTED: lambda r: r.key,
            catalogue.CANARY: lambda r: canary.canary_of(r.value),
        }
    found: dict[str, dict[Any, bytes]] = {}
    for topic, name in by.items():
        mine = found[topic] = {}
        for record in log.of(topic):
            assert mine.setdefault(name(record), record.value) == record.value, (
                "the same id says another thing"
            )
    if role == "alarms":
        states: dict[Any, tuple[int, bytes]] = {}
        for record in log.of(catalogue.ALARM_STATE):
            position = int(dict(record.headers)["ce_id"].rpartition(b"/")[2])
            if position >= states.get(record.key, (-1, b""))[0]:
                states[record.key] = (position, record.value)
        found["states"] = {key: value for key, (_, value) in states.items()}
    return found


def records_of(role, monkeypatch):
    return source() if role == "judge" else inputs(monkeypatch)


def wrong(role, records, expected, cut, monkeypatch) -> str | None:
    """What an uncut run wrote and the cut one did not, or the other way round; None: nothing. Cut again while it restores."""
    log = Log(records)
    file, line, nth = cut
    if not live(log, role, monkeypatch, line * 10 + nth, cut):
        return "not reached"
    live(log, role, monkeypatch, line, (file, line, 2))
    for life in range(6):
        if not live(log, role, monkeypatch, line * 10 + life):
            break
    try:
        found = outputs(log, role)
    except AssertionError as other:
        return f"{file}:{line} ({nth}): {other}"
    lost = {topic: len(set(expected[topic].items()) - set(found[topic].items())) for topic in expected}
    more = {topic: len(set(found[topic].items()) - set(expected[topic].items())) for topic in expected}
    return (
        f"{file}:{line} ({nth}): lost {lost}, more {more}"
        if any(lost.values()) or any(more.values())
        else None
    )


def tried(role, monkeypatch, cuts) -> Iterator[tuple[Any, str | None]]:
    """Each cut with what came of it."""
    records = records_of(role, monkeypatch)
    whole = Log(records)
    assert not live(whole, role, monkeypatch, 0)
    expected = outputs(whole, role)
    assert len(expected[INPUT.topic if role == "judge" else catalogue.ALARM_EVENT]) > 40
    canaries = (
        [c for c in expected[INPUT.topic] if isinstance(c, canary.Canary)]
        if role == "judge"
        else expected[catalogue.CANARY]
    )
    assert len(canaries) == 4
    for cut in cuts:
        yield cut, wrong(role, records, expected, cut, monkeypatch)


def faults(*found) -> list[str]:
    return [said for _, said in found if said not in {None, "not reached"}]


@pytest.mark.parametrize("role", ["judge", "alarms"])
def test_a_worker_cut_at_some_line_leaves_what_an_uncut_one_writes(role, monkeypatch):
    assert faults(*tried(role, monkeypatch, [(file, line, 1) for file, line in lines(role)[::9]])) == []


@pytest.mark.slow
@pytest.mark.parametrize("role", ["judge", "alarms"])
def test_a_worker_cut_at_any_line_leaves_what_an_uncut_one_writes(role, monkeypatch):
    found = list(
        tried(role, monkeypatch, [(file, line, nth) for file, line in lines(role) for nth in (1, 4)])
    )
    assert faults(*found) == []
    reached = {(file, line) for (file, line, _), said in found if said != "not reached"}
    assert len(reached) > 0.7 * len(lines(role)), sorted(set(lines(role)) - reached)


#: Each a mechanism of the order that is the guarantee: (role, where it is, what is written there, what is written instead).
SWITCHED_OFF = {
    "outputs are waited for before a snapshot": (
        "judge", (checkpoint.Checkpoints, "_save"), "await asyncio.gather(*pending)", "pass"),
    "a snapshot is acknowledged before its commit": (
        "judge", (checkpoint.Checkpoints, "_save"), "await sent\n", "pass\n"),
    "the commit is the least of all buckets": (
        "judge", (checkpoint.Checkpoints, "_save"), "min(held.saved) + 1", "held.offset + 1"),
    "what the group committed is skipped by unchanged buckets": (
        "alarms", (checkpoint.Checkpoints, "_restore"), "max(machine.load(number, s.blob), committed - 1)", "committed - 1"),
    "the history is acknowledged before the state is saved": (
        "alarms", (AlarmsWork, "take"), "await asyncio.gather(*acks)", "pass"),
    "states are waited for by the checkpoint": (
        "alarms", (AlarmsWork, "take"), "held.pending.append(\n", "[].append(\n"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", SWITCHED_OFF)
def test_the_cuts_find_it_when_a_mechanism_is_switched_off(mechanism, monkeypatch):
    role, (owner, name), written, instead = SWITCHED_OFF[mechanism]
    source = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    assert written in source, f"{name} has changed: say here how the mechanism is written now"
    module = sys.modules[owner.__module__]
    code = compile(
        "from __future__ import annotations\n" + source.replace(written, instead), module.__file__, "exec"
    )
    made: dict[str, Any] = {}
    exec(code, vars(module), made)
    monkeypatch.setattr(owner, name, made[name])
    cuts = [
        (file, line, nth) for nth in range(1, 10) for file, line in lines(role, ("_save", "_keep", "take"))
    ]
    Random(mechanism).shuffle(cuts)
    assert any(faults(one) for one in tried(role, monkeypatch, cuts)), "no cut shows that it is missing"
