"""One job in a process of its own, on one CPU: `python -m bench.jobs JOB …` prints what it took as one line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
import time
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import faust
from aiokafka import TopicPartition

from bench import core, load
from bus import clients, headers, topics
from bus.rejects import reject
from models import catalogue
from models.alarm import SIGNAL_TYPE
from models.base import micros
from models.decode import Rejection, decode
from models.traffic import TrafficFlow
from rules.judge import Judge
from rules.program import compile_program
from rules.spec import RuleSet
from settings import Data, Kafka, Settings
from sinks.points import pointer
from streams import checkpoint, consumer, judge, store
from streams.domain import domains
from streams.metrics import CHECKPOINT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from sinks.contract import Point, Record

#: The bench is a replay's world: the writer sets the stamps.
PREFIX = "bench."
TOPIC = clients.name(PREFIX, load.TOPIC.name)
PARTITIONS = [(TOPIC, n) for n in range(load.TOPIC.partitions)]
SOURCE = "/citywatch/bench"


class Meter:
    """Wall and CPU time from the fetch that brought the first records to the end of the job."""

    def __init__(self) -> None:
        self.running = False

    def fetching(self) -> None:
        if not self.running:
            self._wall, self._cpu = time.perf_counter(), time.process_time()

    def fetched(self, found: object) -> None:
        self.running = self.running or bool(found)

    def done(self, events: int, **more: float) -> NoReturn:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        said = {"events": events, "wall_s": wall, "cpu_s": cpu, **more}
        os.write(1, json.dumps(said).encode() + b"\n")
        os._exit(0)  # what runs beside the job has no part in it


class Null:
    """A store that answers at once."""

    def __init__(self) -> None:
        self.points = self.records = 0

    async def write(self, points: Sequence[Point]) -> None:
        self.points += len(points)

    async def keep(self, records: Sequence[Record]) -> None:
        self.records += len(records)


# --- the same jobs on bare aiokafka ---------------------------------------------------------------------------------


async def _batches(bootstrap: str, meter: Meter) -> Any:
    """Everything on the topic, as `getmany` gives it: lists of one partition's records."""
    ends = clients.end_offsets(bootstrap, PARTITIONS)
    left = sum(ends.values())
    reader = clients.aio_consumer(bootstrap, auto_offset_reset="earliest")
    await reader.start()
    places = [TopicPartition(*p) for p in PARTITIONS]
    reader.assign(places)
    for place in places:
        reader.seek(place, 0)
    while left:
        meter.fetching()
        found = await reader.getmany(timeout_ms=1000)
        meter.fetched(found)
        for records in found.values():
            left -= len(records)
            yield records


async def fetch(bootstrap: str, _log_id: str, _run: str) -> NoReturn:
    """Fetch only."""
    meter, n = Meter(), 0
    async for records in _batches(bootstrap, meter):
        n += len(records)
    meter.done(n)


async def decoding(bootstrap: str, _log_id: str, _run: str) -> NoReturn:
    """Fetch and decode."""
    meter, n, bad = Meter(), 0, 0
    async for records in _batches(bootstrap, meter):
        for record in records:
            found = decode(TrafficFlow, record.value, record.timestamp * 1000, record.key or b"")
            bad += isinstance(found, Rejection)
        n += len(records)
    meter.done(n, rejected=bad)


async def judging(bootstrap: str, log_id: str, _run: str) -> NoReturn:
    """Judge as streams/judge.py does, without Faust, commits and checkpoints."""
    latest = topics.latest_rules(bootstrap, PREFIX)
    assert latest is not None
    program = compile_program(RuleSet.parse(latest[1]), latest[0], TrafficFlow)
    judges = [Judge(TrafficFlow, n, log_id) for n in range(load.TOPIC.partitions)]
    producer = clients.aio_producer(bootstrap)
    await producer.start()
    meter, n, sent = Meter(), 0, 0
    async for records in _batches(bootstrap, meter):
        mine = judges[records[0].partition]
        signals = []
        for record in records:
            stamp, value = record.timestamp * 1000, record.value
            if record.key is None and headers.type_of(record.headers) == headers.CONTROL:
                said = json.loads(value)
                signals += mine.control(record.offset, stamp, said["effective_from"], program)
                continue
            found = decode(TrafficFlow, value, stamp, record.key or b"")
            if isinstance(found, Rejection):
                signals += mine.pass_by(record.offset, stamp, "rejected")
            else:
                signals += mine.event(record.offset, stamp, found, zlib.crc32(value))
        for signal in signals:
            await producer.send(
                clients.name(PREFIX, catalogue.ALARM_INPUT),
                signal.model_dump_json(exclude_none=True).encode(),
                key=signal.fingerprint.encode(),
                partition=0,
                headers=headers.headers(signal.alarm_id, SIGNAL_TYPE, SOURCE, micros(signal.stamp)),
            )
        n, sent = n + len(records), sent + len(signals)
    await producer.flush()
    meter.done(n, signals=sent, stored=sum(j.counts()["stored"] for j in judges))


async def storing(bootstrap: str, log_id: str, _run: str) -> NoReturn:
    """Store as streams/store.py does, without Faust and commits."""
    domain, sink = domains()[load.TOPIC.name], Null()
    point = pointer(domain.event, domain.fields, domain.tags)
    producer = clients.aio_producer(bootstrap)
    await producer.start()
    rejected = clients.name(PREFIX, catalogue.REJECTED)
    meter, n = Meter(), 0
    points: list[Point] = []
    async for records in _batches(bootstrap, meter):
        for record in records:
            if record.key is None and not headers.is_event(record.headers):
                continue
            stamp = record.timestamp * 1000
            found = decode(TrafficFlow, record.value, stamp, record.key or b"")
            if isinstance(found, Rejection):
                fields = reject(log_id, load.TOPIC.name, record, found.reason, found.detail)
                await producer.send(rejected, **fields)
            else:
                points.append(point(found, stamp - found.at > load.TOPIC.late_us))
        n += len(records)
        if len(points) >= store.BATCH:
            await sink.write(points)
            points = []
    await sink.write(points)
    await producer.flush()
    meter.done(n, stored=sink.points)


# --- ours -----------------------------------------------------------------------------------------------------------


def _settings(bootstrap: str, log_id: str) -> Settings:
    kafka = Kafka(bootstrap=bootstrap, prefix=PREFIX, clock="writer", log_id=log_id)
    return Settings(kafka=kafka, data=Data(dir=Path(tempfile.mkdtemp(prefix="citywatch-bench-"))))


def _timed(meter: Meter) -> None:
    """Let the meter see Faust's fetches."""
    getmany = consumer.ChunkConsumer._getmany

    async def timed(self: Any, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's
        meter.fetching()
        found = await getmany(self, active_partitions, timeout)
        meter.fetched(found)
        return found

    consumer.ChunkConsumer._getmany = timed  # type: ignore[method-assign]


def _work(app: faust.App) -> NoReturn:
    """As streams/launch.py runs a worker."""
    logging.basicConfig(level=logging.ERROR)
    worker = faust.Worker(app, loglevel="ERROR", override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None  # stdout is for the figures
    core.settle()
    worker.execute_from_commandline()
    raise SystemExit("the worker ended before its job did")


def our_judge(bootstrap: str, log_id: str, run: str, *, checkpoints: bool = False) -> NoReturn:
    """The judge's Faust app; group and snapshots are this run's own, so that it begins at the beginning."""
    meter, left = Meter(), sum(clients.end_offsets(bootstrap, PARTITIONS).values())
    total = left

    class Measured(judge.JudgeWork):
        async def take(self, message: Any) -> None:
            nonlocal left
            await super().take(message)
            left -= len(message.value) if message.topic == TOPIC else 0
            if not left:
                await (await self.checkpoints.sender()).flush()
                counts = [h.machine.counts()["stored"] for h in self.checkpoints.held.values()]
                saved = CHECKPOINT_BYTES._value.get()
                meter.done(total, stored=sum(counts), checkpoint_bytes=saved)

    class Own(checkpoint.Checkpoints):
        def __init__(self, app: Any, *, topic: str, **options: Any) -> None:
            super().__init__(app, topic=f"{topic}.{run}", **options)

        async def _keep(self, held: checkpoint.Held) -> None:
            if checkpoints:
                await super()._keep(held)

    named = partial(_named, consumer.ChunkApp, run)
    vars(judge).update(JudgeWork=Measured, Checkpoints=Own, ChunkApp=named)
    _timed(meter)
    _work(judge.create(_settings(bootstrap, log_id), bootstrap, log_id))


def our_store(bootstrap: str, log_id: str, run: str) -> NoReturn:
    """The store's Faust app, writing to a store that answers at once; it reads its own rejects and no other run's."""
    meter, total = Meter(), sum(clients.end_offsets(bootstrap, PARTITIONS).values())
    sink, at = Null(), dict.fromkeys(PARTITIONS, 0)

    class Measured(store.StoreWork):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            del self.kept[self.rejected]
            self.rejected = f"{self.rejected}.{run}"
            self.kept[self.rejected] = "rejected"

        async def _write(self, chunks: list[Any]) -> None:
            await super()._write(chunks)
            at.update({(c.tp.topic, c.tp.partition): c.next_offset for c in chunks if c.tp.topic == TOPIC})
            if sum(at.values()) == total:
                meter.done(total, stored=sink.points)

    vars(store).update(StoreWork=Measured, ChunkApp=partial(_named, consumer.ChunkApp, run))
    _timed(meter)
    settings = _settings(bootstrap, log_id)
    _work(store.create(settings, bootstrap, log_id, sink))  # type: ignore[arg-type]


def _named(app: Any, run: str, role: str, *arguments: Any) -> Any:
    return app(f"{role}-{run}", *arguments)


#: What a run of ours has a topic of its own for, made before it starts.
OWN = {"judge ours": catalogue.JUDGE_STATE, "store ours": catalogue.REJECTED}
OWN["judge ours, checkpoints"] = OWN["judge ours"]

BARE: dict[str, Callable[[str, str, str], Coroutine[Any, Any, NoReturn]]] = {
    "fetch": fetch,
    "decode": decoding,
    "judge bare": judging,
    "store bare": storing,
}
OURS: dict[str, Callable[[str, str, str], NoReturn]] = {
    "judge ours": our_judge,
    "judge ours, checkpoints": partial(our_judge, checkpoints=True),
    "store ours": our_store,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=[*BARE, *OURS, "core"])
    parser.add_argument("--cpu", type=int, help="run on this CPU alone")
    parser.add_argument("--bootstrap", default="")
    parser.add_argument("--log-id", default="bench")
    parser.add_argument("--run", default="1", help="names the consumer groups of this run")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    sys.argv = sys.argv[:1]  # Faust's worker reads it too
    if asked.cpu is not None:
        os.sched_setaffinity(0, {asked.cpu})
    if asked.job == "core":
        print(json.dumps(core.measure(quick=asked.quick)))
    elif asked.job in BARE:
        core.settle()
        asyncio.run(BARE[asked.job](asked.bootstrap, asked.log_id, asked.run))
    else:
        OURS[asked.job](asked.bootstrap, asked.log_id, asked.run)


if __name__ == "__main__":
    main()
