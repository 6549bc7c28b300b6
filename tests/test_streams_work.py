"""What the apps do with chunks, without a broker: the order of a checkpoint, outages of the store, what is refused."""

from __future__ import annotations

import asyncio
import base64
import json
from types import SimpleNamespace

import pytest
from faust.types import TP

from bus import headers, topics
from models.alarm import COMMAND_TYPE, SIGNAL_TYPE, Command
from models.alarm import Signal as AlarmSignal
from models.base import Place, micros, moment
from models.traffic import TrafficFlow
from rules.judge import Judge
from rules.lifecycle import Plane
from rules.program import compile_program
from rules.spec import RuleSet
from settings import Settings
from sinks.contract import Rejected, Unavailable
from streams import checkpoint, sets, store
from streams.alarms import AlarmsWork
from streams.checkpoint import Held
from streams.judge import JudgeWork
from streams.store import StoreWork

TOPIC = "city.traffic.flow.v1"
T0 = 1_767_225_600_000  # ms
WORDS = {"vi": "x", "en": "x"}
RULES = RuleSet.model_validate(
    {
        "rules": [
            {
                "id": "slow",
                "kind": "threshold",
                "on": TOPIC,
                "by": ["segment_id"],
                "title": WORDS,
                "levels": [{"priority": "P3", "raise": "speed_kmh < 10", "for": "0s"}],
            }
        ]
    }
)


class Signal:
    """Stands in for Faust's signals, which connect handlers."""

    def connect(self, handler, *, weak):
        pass


class App:
    """What the work needs of a Faust app."""

    def __init__(self) -> None:
        self.positions: dict[TP, int] = {}
        self.consumer_generation_id, self.between = 1, False
        self.on_partitions_revoked = self.on_rebalance_complete = self.on_before_shutdown = Signal()
        self.crashed: list[Exception] = []
        self.consumer = SimpleNamespace(highwater=lambda _tp: self.end)
        self.end: int | None = None

    async def crash(self, error):
        self.crashed.append(error)


class Producer:
    """Keeps what is sent; acknowledges at once, or when told."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.sent: list[tuple[str, bytes, dict]] = []
        self.waiting: list[asyncio.Future] = []
        self.at_once = at_once

    async def start(self):
        pass

    async def send(self, topic, value=None, **more):
        self.sent.append((topic, value, more))
        ack = asyncio.get_running_loop().create_future()
        if self.at_once:
            ack.set_result(None)
        else:
            self.waiting.append(ack)
        return ack

    async def send_and_wait(self, topic, value=None, **more):
        await (await self.send(topic, value, **more))

    def topics(self):
        return [t for t, _, _ in self.sent]


def record(offset: int, value: bytes, key: bytes | None = b"s1", stamp: int | None = None, kind: str = TOPIC):
    return SimpleNamespace(
        topic=TOPIC,
        partition=0,
        offset=offset,
        timestamp=T0 + offset * 1000 if stamp is None else stamp,
        key=key,
        value=value,
        headers=headers.headers(str(offset), kind, "/t", 0) if key is not None else headers.CLOCK_HEADERS,
    )


def flow(offset: int, speed: float | None, key: str = "s1") -> SimpleNamespace:
    event = TrafficFlow(
        event_id=f"e{offset}",
        source_id="t",
        observed_at=moment((T0 + offset * 1000) * 1000),
        segment_id=key,
        speed_kmh=speed,
    )
    return record(offset, event.wire(), key.encode())


def message(records, generation=1):
    return SimpleNamespace(tp=TP(TOPIC, 0), topic=TOPIC, value=records, generation_id=generation)


# --- the judge's checkpoint ---------------------------------------------------------------------------------------


@pytest.fixture
def judging(monkeypatch):
    def make(producer):
        app = App()
        work = JudgeWork(app, Settings(), "127.0.0.1:1", "log")
        work.checkpoints.producer = producer
        machine = Judge(TrafficFlow, 0, "log")
        machine.control(0, 0, 0, compile_program(RULES, 0, TrafficFlow))
        held = Held(TP(TOPIC, 0), machine, 1, 0, [-1] * machine.buckets, 0)
        work.checkpoints.held[held.tp], work.checkpoints._restored = held, 1
        return app, work, held

    return make


def test_a_position_moves_only_after_signals_snapshots_and_their_acknowledgements_in_that_order(judging):
    async def go():
        producer = Producer(at_once=False)
        app, work, held = judging(producer)
        await work.take(message([flow(1, 50), flow(2, 5)]))
        assert producer.topics() == ["city.alarm.input.v1"]
        saving = asyncio.create_task(work.checkpoints.save(held))
        await asyncio.sleep(0.05)
        assert producer.topics() == ["city.alarm.input.v1"], "no snapshot before its signals are acknowledged"
        assert app.positions == {}
        producer.waiting.pop(0).set_result(None)
        await asyncio.sleep(0.05)
        snapshots = producer.topics()[1:]
        assert snapshots
        assert set(snapshots) == {"city.judge.state.v1"}
        assert app.positions == {}, "no commit before the snapshots are acknowledged"
        producer.at_once = True
        for ack in producer.waiting:
            ack.set_result(None)
        await saving
        assert app.positions == {TP(TOPIC, 0): 3}

    asyncio.run(go())


def test_a_partition_is_saved_when_it_is_idle_and_not_when_its_worker_is_only_slow(judging, monkeypatch):
    monkeypatch.setattr(checkpoint, "IDLE_S", 0.0)

    async def go():
        app, work, held = judging(Producer())
        await work.take(message([flow(1, 50), flow(2, 5)]))
        app.end = 9  # the broker has six more
        keeping = asyncio.create_task(work.checkpoints._keep(held))
        await asyncio.sleep(0.35)  # it looks every 0.1 s
        assert app.positions == {}
        app.end = 3
        await asyncio.sleep(0.35)
        assert app.positions == {TP(TOPIC, 0): 3}
        keeping.cancel()
        assert app.crashed == []

    asyncio.run(go())


def test_a_partition_is_saved_early_after_as_much_input_as_its_state_is_great(judging):
    async def go():
        app, work, held = judging(Producer())
        work.checkpoints.embedded, work.checkpoints.volume = False, 1_000
        await work.take(message([flow(1, 50), flow(2, 5)]))
        app.end = 9  # it is not idle
        held.bytes_in, held.sizes = 1_999, {0: 1_500, 1: 500}
        keeping = asyncio.create_task(work.checkpoints._keep(held))
        await asyncio.sleep(0.35)
        assert app.positions == {}
        held.bytes_in = 2_000
        await asyncio.sleep(0.35)
        assert app.positions == {TP(TOPIC, 0): 3}
        keeping.cancel()
        assert app.crashed == []

    asyncio.run(go())


@pytest.mark.parametrize("fails", ["send", "acknowledgement"])
def test_what_is_not_known_to_be_out_is_never_saved_and_its_chunk_is_read_again(judging, fails):
    """A worker that gives up must leave its position where it was, or an alarm is lost for ever."""

    async def go():
        producer = Producer(at_once=fails == "send")
        app, work, held = judging(producer)
        if fails == "send":

            async def refuse(*_a, **_k):
                raise RuntimeError("the broker is gone")

            sending, producer.send = producer.send, refuse
            with pytest.raises(RuntimeError):
                await work.take(message([flow(1, 5)]))
            producer.send = sending
        else:
            await work.take(message([flow(1, 5)]))
            saving = asyncio.create_task(work.checkpoints.save(held))
            await asyncio.sleep(0.05)
            producer.waiting.pop(0).set_exception(RuntimeError("the broker is gone"))
            with pytest.raises(RuntimeError):
                await saving
        producer.at_once = True
        await work.checkpoints.save(held)  # as a worker does that is stopped
        assert app.positions == {}
        assert "city.judge.state.v1" not in producer.topics()
        await work.take(message([flow(2, 5)]))
        assert held.offset == 1, "and takes nothing more"

    asyncio.run(go())


def test_a_chunk_fetched_before_the_last_rebalance_is_dropped(judging):
    async def go():
        _, work, held = judging(Producer())
        await work.take(message([flow(1, 5)], generation=0))
        assert held.offset == 0
        await work.take(message([flow(1, 5)], generation=1))
        assert held.offset == 1

    asyncio.run(go())


def test_records_seen_before_are_skipped_and_their_signals_not_said_again(judging):
    async def go():
        producer = Producer()
        _, work, _ = judging(producer)
        await work.take(message([flow(1, 5)]))
        said = len(producer.sent)
        assert said == 1
        await work.take(message([flow(1, 5), flow(2, 5)]))
        assert len(producer.sent) == said

    asyncio.run(go())


def test_a_restored_partition_goes_on_where_each_bucket_was_saved(judging, monkeypatch):
    async def go():
        producer = Producer()
        _, work, held = judging(producer)
        await work.take(message([flow(1, 5), flow(2, 5, "s2")]))
        await work.checkpoints.save(held)
        topic = "city.judge.state.v1"
        log = [(m["key"], v) for t, v, m in producer.sent if t == topic]

        async def read_all(bootstrap, name, partitions):
            for pair in log:
                yield pair

        async def fetch_rules(*_a):
            return RULES.canonical()

        async def forgotten(*_a):
            return None

        monkeypatch.setattr(sets, "forgotten", forgotten)
        monkeypatch.setattr(checkpoint.clients, "read_all", read_all)
        monkeypatch.setattr(topics, "fetch_rules", fetch_rules)
        found = (await work.checkpoints._read({0}))[f"{TOPIC}/0"]
        again = await work.checkpoints._restore(held.tp, 3, 5, found)
        assert again.offset == 1, "the record before is seen again, for its clock"
        assert again.is_saved
        assert again.machine.counts() == held.machine.counts()
        assert again.machine.size() == 2
        broken = {n: [checkpoint._Saved(s.key, s.offset, b"rubbish")] for n, (s,) in found.items()}
        rebuilt = await work.checkpoints._restore(held.tp, 3, 5, broken)
        assert rebuilt.offset == -1, "an unreadable snapshot is rebuilt from the beginning of the log"

    asyncio.run(go())


def test_what_a_quiet_bucket_tells_after_a_restore_is_what_it_would_have_told(judging, monkeypatch):
    """It was not saved again while others moved the clock: the proof begins at the clock of the record before all the same."""

    async def go():
        producer = Producer()
        _, work, held = judging(producer)
        await work.take(message([flow(1, 50)]))
        await work.checkpoints.save(held)
        between = [flow(n, 50, "s2") for n in range(2, 400)]
        await work.take(message(between))
        await work.checkpoints.save(held)
        log = [(m["key"], v) for t, v, m in producer.sent if t == "city.judge.state.v1"]
        last = flow(400, 5)
        producer.sent.clear()
        await work.take(message([last]))
        (told,) = [v for t, v, _ in producer.sent if t == "city.alarm.input.v1"]

        async def read_all(*_a):
            for pair in log:
                yield pair

        async def rules_of(*_a):
            return RULES

        monkeypatch.setattr(checkpoint.clients, "read_all", read_all)
        monkeypatch.setattr(sets, "rules_of", rules_of)
        found = (await work.checkpoints._read({0}))[f"{TOPIC}/0"]
        again = work.checkpoints.held[held.tp] = await work.checkpoints._restore(held.tp, 400, 1, found)
        producer.sent.clear()
        await work.take(message([r for r in (*between, last) if r.offset > again.offset]))
        assert [v for t, v, _ in producer.sent if t == "city.alarm.input.v1"] == [told]

    asyncio.run(go())


def test_a_judge_whose_log_has_forgotten_its_rules_is_told_them(judging, monkeypatch):
    """Source topics keep days; what was said at their beginning is said again to a machine that begins anew."""

    async def go():
        producer = Producer()
        _, work, _ = judging(producer)
        published = topics.Published(0, RULES.canonical(), T0 * 1000, announced=True, at=T0 * 1000)

        async def forgotten(*_a):
            return sets.Forgotten(40, (T0 + 40_000) * 1000, [published])

        async def rules_of(*_a):
            return RULES

        monkeypatch.setattr(sets, "forgotten", forgotten)
        monkeypatch.setattr(sets, "rules_of", rules_of)
        tp = TP(TOPIC, 0)
        work.checkpoints.held[tp] = held = await work.checkpoints._restore(tp, 0, 1, {})
        assert held.offset == -1
        await work.take(message([flow(40, 50), flow(41, 5)]))
        assert producer.topics() == ["city.alarm.input.v1"]

    asyncio.run(go())


def test_what_a_bucket_has_seen_is_not_forgotten_by_saving_it_while_it_is_ahead(judging, monkeypatch):
    """After a restore a bucket may know more than was read again, and is saved by its new writer at once."""

    async def go():
        producer = Producer()
        _, work, held = judging(producer)
        await work.take(message([flow(n, 50) for n in range(1, 9)]))
        number = next(n for n in held.machine.dirty if held.machine._buckets[n].series)
        blob = held.machine.dump(number)
        again = Judge(TrafficFlow, 0, "log")
        again.programs[0] = held.machine.programs[0]
        assert again.load(number, blob) == 8
        again.pass_by(3, (T0 + 3000) * 1000)
        assert again.load(number, again.dump(number)) == 8

    asyncio.run(go())


def test_a_worker_that_has_taken_nothing_new_saves_nothing_when_it_is_stopped(judging):
    async def go():
        producer = Producer()
        app, work, held = judging(producer)
        await work.take(message([flow(1, 50)]))
        await work.checkpoints.save(held)
        app.consumer.commit = lambda: asyncio.sleep(0)
        producer.stop = lambda: asyncio.sleep(0)
        producer.sent.clear()
        await work.checkpoints._on_shutdown()
        assert producer.sent == []

    asyncio.run(go())


def test_a_position_whose_snapshots_are_gone_is_none(judging, monkeypatch):
    async def go():
        _, work, _ = judging(Producer())

        async def forgotten(*_a):
            return None

        monkeypatch.setattr(sets, "forgotten", forgotten)
        held = await work.checkpoints._restore(TP(TOPIC, 0), 70, 1, {})
        assert (held.offset, held.committed) == (-1, 0), "built again from the beginning of the log"

    asyncio.run(go())


def test_what_is_kept_over_a_rebalance_is_saved_whole_by_another_writer(judging):
    """Whoever had it meanwhile may have buried what we saved: a commit rests on snapshots made since."""

    async def go():
        producer = Producer()
        app, work, held = judging(producer)
        await work.take(message([flow(1, 5), flow(2, 5, "s2")]))
        await work.checkpoints.save(held)
        before = {m["key"] for t, _, m in producer.sent if t == "city.judge.state.v1"}
        await work.checkpoints._on_revoked()
        app.consumer_generation_id = 2
        app.positions.clear()
        assert await work.checkpoints._goes_on(held, 2, 3)
        work.checkpoints._restored = 2
        producer.sent.clear()
        await work.take(message([flow(3, 5)], generation=2))
        await work.checkpoints.save(held)
        written = {m["key"]: v for t, v, m in producer.sent if t == "city.judge.state.v1"}
        assert {k for k, v in written.items() if v is None} == before
        assert sum(v is not None for v in written.values()) == held.machine.buckets
        assert app.positions == {held.tp: 4}

    asyncio.run(go())


def test_a_checkpoint_that_a_rebalance_comes_across_commits_nothing(judging):
    async def go():
        producer = Producer(at_once=False)
        app, work, held = judging(producer)
        await work.take(message([flow(1, 50)]))
        saving = asyncio.create_task(work.checkpoints.save(held))
        await asyncio.sleep(0.05)
        await work.checkpoints._on_revoked()
        for ack in producer.waiting:
            ack.set_result(None)
        await saving
        assert app.positions == {}

    asyncio.run(go())


def test_a_checkpoint_that_begins_before_a_rebalance_is_over_commits_nothing(judging):
    """Its snapshots are of the writer that was before, and another may have the partition."""

    async def go():
        app, work, held = judging(Producer())
        await work.take(message([flow(1, 50)]))
        await work.checkpoints._on_revoked()
        await work.checkpoints.save(held)
        assert app.positions == {}
        app.consumer_generation_id, work.checkpoints._restored = (
            3,
            2,
        )  # one more before the first was restored
        await work.checkpoints.save(held)
        assert app.positions == {}
        work.checkpoints._restored, app.between = 3, True
        await work.checkpoints.save(held)
        assert app.positions == {}
        app.between = False
        await work.checkpoints.save(held)
        assert app.positions == {held.tp: 2}

    asyncio.run(go())


def test_a_partition_that_another_brought_further_is_not_kept(judging):
    async def go():
        _, work, held = judging(Producer())
        await work.take(message([flow(1, 5)]))
        assert not await work.checkpoints._goes_on(held, 2, 9)
        held.broken = True
        assert not await work.checkpoints._goes_on(held, 2, 0)

    asyncio.run(go())


# --- the store ----------------------------------------------------------------------------------------------------


class Store:
    """Answers as it is told, then keeps."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.points: list = []
        self.records: list = []

    async def write(self, points):
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Rejected):
                bad = [(p, "too odd") for p in points if dict(p.fields).get("speed_kmh") == 13]
                self.points += [p for p in points if p not in [b for b, _ in bad]]
                raise Rejected(bad)
            raise answer
        self.points += points

    async def keep(self, records):
        self.records += records


def storing(target, monkeypatch):
    app, producer = App(), Producer()
    monkeypatch.setattr(store.clients, "aio_producer", lambda _b: producer)
    return app, producer, StoreWork(app, Settings(), "127.0.0.1:1", "log", target)


async def until(condition):
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


def test_an_outage_of_the_store_is_waited_out_and_commits_nothing(monkeypatch):
    async def go():
        target = Store(Unavailable("down", 0.05), Unavailable("down", 0.05))
        app, _, work = storing(target, monkeypatch)
        running = asyncio.create_task(work.run())
        await work.take(message([flow(0, 50), flow(1, 51)]))
        await asyncio.sleep(0.03)
        assert app.positions == {}
        await until(lambda: app.positions)
        assert app.positions == {TP(TOPIC, 0): 2}
        assert [dict(p.fields)["speed_kmh"] for p in target.points] == [50, 51]
        running.cancel()

    asyncio.run(go())


def test_what_the_store_or_the_schema_refuses_is_kept_with_its_bytes_and_the_rest_is_stored(monkeypatch):
    async def go():
        target = Store(Rejected())
        app, producer, work = storing(target, monkeypatch)
        running = asyncio.create_task(work.run())
        bad = record(1, b'{"event_id": 7}')
        odd = flow(2, 13)
        await work.take(message([flow(0, 50), bad, odd, record(3, b"", None)]))
        await until(lambda: app.positions)
        rejected = {
            json.loads(v)["offset"]: json.loads(v) for t, v, _ in producer.sent if t == "city.rejected.v1"
        }
        assert {o: r["reason"] for o, r in rejected.items()} == {1: "schema", 2: "refused_by_store"}
        assert base64.b64decode(rejected[1]["bytes"]) == bad.value
        assert base64.b64decode(rejected[2]["bytes"]) == odd.value
        assert {r.id for r in target.records} == {r["id"] for r in rejected.values()}
        assert len(target.points) == 1
        assert app.positions == {TP(TOPIC, 0): 4}
        running.cancel()

    asyncio.run(go())


def test_a_late_event_is_stored_as_late(monkeypatch):
    async def go():
        target = Store()
        app, _, work = storing(target, monkeypatch)
        running = asyncio.create_task(work.run())
        late = flow(0, 50)
        late.timestamp = T0 + 121_000
        await work.take(message([late]))
        await until(lambda: app.positions)
        assert [p.late for p in target.points] == [True]
        running.cancel()

    asyncio.run(go())


def test_what_calls_itself_a_control_record_and_is_none_is_passed_by(judging, monkeypatch):
    async def go():
        _, work, held = judging(Producer())
        bad = [
            headers.control_record(0, 0)._replace(value=v) for v in (b"{}", b"no json", b'{"version": "x"}')
        ]
        records = [
            SimpleNamespace(
                topic=TOPIC,
                partition=0,
                offset=n,
                timestamp=T0 + n,
                key=None,
                value=b.value,
                headers=b.headers,
            )
            for n, b in enumerate(bad, 1)
        ]
        await work.take(message([*records, flow(9, 5)]))
        assert held.machine.counts() == {"stored": 1}

        plane, there, take = plane_at_work(monkeypatch, Producer())
        await take(*records)
        assert there.offset == len(records)
        assert plane.programs == {}

    asyncio.run(go())


# --- the alarm plane ----------------------------------------------------------------------------------------------


def said(offset: int, value: bytes, kind: str) -> SimpleNamespace:
    found = record(offset, value, b"k", kind=kind)
    found.topic = "city.alarm.input.v1"
    return found


def test_history_is_acknowledged_before_the_state_is_written_and_rubbish_is_kept(judging):
    async def go():
        collected = Producer()
        _, judged, _ = judging(collected)
        await judged.take(message([flow(1, 5)]))
        signal = next(v for t, v, _ in collected.sent if t == "city.alarm.input.v1")

        app, producer = App(), Producer(at_once=False)
        work = AlarmsWork(app, Settings(), "127.0.0.1:1", "log")
        work.checkpoints.producer = producer
        tp = TP("city.alarm.input.v1", 0)
        held = Held(tp, Plane("log", 32), 1, -1, [-1] * 32, 0)
        work.checkpoints.held[tp] = held
        records = [said(0, signal, SIGNAL_TYPE), said(1, b"{rubbish", SIGNAL_TYPE)]
        chunk = SimpleNamespace(tp=tp, topic=tp.topic, value=records, generation_id=1)
        taking = asyncio.create_task(work.take(chunk))
        await asyncio.sleep(0.05)
        assert producer.topics() == ["city.alarm.event.v1", "city.rejected.v1"]
        producer.at_once = True
        for ack in producer.waiting:
            ack.set_result(None)
        await taking
        assert producer.topics()[2:] == ["city.alarm.state.v1"]
        alarm = json.loads(producer.sent[-1][1])
        assert (alarm["state"], alarm["active"]) == ("UNACK", True)

        ask = Command(command_id="c1", action="acknowledge", alarm_id=alarm["alarm_id"], actor="an")
        records = [said(2, ask.model_dump_json().encode(), COMMAND_TYPE)]
        await work.take(SimpleNamespace(tp=tp, topic=tp.topic, value=records, generation_id=1))
        told = json.loads(next(v for t, v, _ in producer.sent[3:] if t == "city.alarm.event.v1"))
        assert (told["type"], told["actor"]) == ("acknowledged", "an")
        state = json.loads(producer.sent[-1][1])
        assert state["state"] == "ACKED"
        assert micros(moment(T0 * 1000 + 2_000_000)) == T0 * 1000 + 2_000_000
        assert state["acked_at"].startswith(moment((T0 + 2000) * 1000).isoformat()[:19])

    asyncio.run(go())


WIDE = RuleSet.model_validate(
    {
        **RULES.model_dump(mode="json", by_alias=True, exclude_none=True),
        "wide": [
            {"id": "ward-slow", "kind": "area", "of": ["slow"], "by": "ward", "least": 2, "priority": "P2"}
        ],
    }
)


def plane_at_work(monkeypatch, producer):
    """The alarms app with an empty plane, and the rules of any version as `WIDE` has them."""

    async def fetched(*_):
        return WIDE.canonical()

    monkeypatch.setattr(topics, "fetch_rules", fetched)
    app = App()
    work = AlarmsWork(app, Settings(), "127.0.0.1:1", "log")
    work.checkpoints.producer = producer
    tp = TP("city.alarm.input.v1", 0)
    held = Held(tp, Plane("log", 32), 1, -1, [-1] * 36, 0)
    work.checkpoints.held[tp] = held

    async def take(*records):
        await work.take(SimpleNamespace(tp=tp, topic=tp.topic, value=list(records), generation_id=1))

    return work, held, take


def control(offset: int) -> SimpleNamespace:
    found = headers.control_record(0, 0)
    return SimpleNamespace(
        topic="city.alarm.input.v1",
        partition=0,
        offset=offset,
        timestamp=T0,
        key=None,
        value=found.value,
        headers=found.headers,
    )


def slow(offset: int, n: int) -> SimpleNamespace:
    """What the judge says of the n-th segment of ward w."""
    started = moment((T0 + n * 1000) * 1000)
    signal = AlarmSignal(
        op="put", alarm_id=f"a{n}", fingerprint=f"f{n}", rule="slow", rules_version=0, topic=TOPIC, partition=0,
        offset=n, k=0, stamp=started, labels={"segment_id": f"s{n}"}, start=started, priority="P3",
        place=Place(ward="w"), title=WORDS,
    )  # fmt: skip
    return said(offset, signal.model_dump_json().encode(), SIGNAL_TYPE)


def test_what_a_rule_over_signals_decides_is_appended_to_the_input_and_becomes_an_alarm_from_there(
    monkeypatch,
):
    async def go():
        producer = Producer()
        _, held, take = plane_at_work(monkeypatch, producer)
        await take(control(0), slow(1, 1), slow(2, 2))
        (appended,) = [s for s in producer.sent if s[0] == "city.alarm.input.v1"]
        signal = AlarmSignal.model_validate_json(appended[1])
        assert (signal.rule, signal.labels, signal.priority) == ("ward-slow", {"ward": "w"}, "P2")
        assert (signal.topic, signal.offset) == ("city.alarm.input.v1", 2), "its place is its cause's"
        assert len([t for t in producer.topics() if t == "city.alarm.event.v1"]) == 2, "not yet an alarm"
        assert held.pending, "the checkpoint waits for it"
        await take(said(3, appended[1], SIGNAL_TYPE))
        told = json.loads([v for t, v, _ in producer.sent if t == "city.alarm.event.v1"][-1])
        assert (told["type"], told["alarm"]["rule"]) == ("raised", "ward-slow")

    asyncio.run(go())


def test_a_plane_that_is_restored_knows_its_rules_and_says_the_same_again(monkeypatch):
    async def go():
        first = Producer()
        _, held, take = plane_at_work(monkeypatch, first)
        await take(control(0), slow(1, 1))
        blobs = [held.machine.dump(n) for n in range(held.machine.buckets)]
        await take(slow(2, 2))

        again = Producer()
        work, restored, take = plane_at_work(monkeypatch, again)
        await work._prepare(restored.tp, restored.machine, dict(enumerate(blobs)))
        for n, blob in enumerate(blobs):
            restored.machine.load(n, blob)
        await take(slow(1, 1), slow(2, 2))
        appended = [[s[1] for s in p.sent if s[0] == "city.alarm.input.v1"] for p in (first, again)]
        assert appended[0] == appended[1] != []

    asyncio.run(go())


def test_the_clock_of_an_idle_input_is_moved_only_where_something_waits_for_it(monkeypatch):
    async def go():
        producer = Producer()
        work, held, _ = plane_at_work(monkeypatch, producer)
        work.app.end = 0
        held.seen = asyncio.get_running_loop().time() - 5
        await work.tick()
        assert producer.sent == [], "nobody waits"
        monkeypatch.setattr(held.machine, "due", lambda: 1)
        await work.tick()
        ((topic, value, more),) = producer.sent
        assert (topic, value, more["headers"]) == ("city.alarm.input.v1", b"", headers.CLOCK_HEADERS)
        await work.tick()
        assert len(producer.sent) == 1, "it has just been moved"

    asyncio.run(go())
