"""What tests of the simulator share: a simulated time judged in this process, without a broker."""

import zlib
from collections import Counter
from datetime import UTC, datetime

from models.base import micros
from models.catalogue import event_of, topics
from models.decode import Rejection, decode
from rules.judge import Judge
from rules.load import default
from rules.program import compile_program
from rules.score import Happened, Span, Told, score
from sources.simulator.stream import Sent, simulate

MINUTE = 60_000_000
HOUR = 60 * MINUTE
#: A Wednesday, 14:30 in Hạ Long.
AFTERNOON = micros(datetime(2026, 11, 25, 7, 30, tzinfo=UTC))


def happened(truth):
    return Happened(
        truth.what, truth.id, truth.kind, truth.start, truth.end, frozenset(truth.subjects), truth.rules
    )


def judged(seed, start, until, load=1.0):
    """The score of the shipped rules, and what the judges counted, per topic."""
    rules = default()
    judges = {name: Judge(event_of(name), 0, "test", whole=True) for name in topics()}
    standing, raised, happenings = {}, {}, []
    offset = 0

    def told(signals):
        for signal in signals:
            if signal.op == "put":
                raised.setdefault(signal.alarm_id, micros(signal.stamp))
                standing[signal.alarm_id] = signal
            else:
                del standing[signal.alarm_id]

    for name, judge in judges.items():
        told(judge.control(0, start, start, compile_program(rules, 0, event_of(name))))
    tick = start
    for item in simulate(seed, start, until, load):
        if not isinstance(item, Sent):
            happenings.append(happened(item))
            continue
        offset += 1
        while item.stamp_us > tick:
            for judge in judges.values():
                told(judge.pass_by(offset, tick))
            tick += 10_000_000
            offset += 1
        judge = judges[item.topic]
        event = decode(event_of(item.topic), item.value, item.stamp_us, item.key)
        if isinstance(event, Rejection):
            told(judge.pass_by(offset, item.stamp_us, "rejected"))
        else:
            told(judge.event(offset, item.stamp_us, event, zlib.crc32(item.value)))
    alarms = [
        Told(
            s.alarm_id, s.rule, frozenset(s.labels.values()), micros(s.start),
            None if s.end is None else micros(s.end), raised[s.alarm_id],
        )
        for s in standing.values()
    ]  # fmt: skip
    counts = {name: Counter(judge.counts()) for name, judge in judges.items()}
    return score(happenings, alarms, [Span(start, until)]), counts
