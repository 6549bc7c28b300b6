"""The short form of `make chaos`: one piece of each attack on real Kafka and a real store, and the truth at the end of each."""

from __future__ import annotations

import json
from contextlib import closing

import chaos
import pytest
from kafka import TopicPartition
from real_kafka import KafkaMissingError, jars

from bus import clients
from models.catalogue import ALARM_EVENT, ALARM_INPUT
from sinks.influxd import InfluxMissingError, influxd

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def parts():
    try:
        jars()
        influxd()
    except (KafkaMissingError, InfluxMissingError) as missing:
        pytest.skip(f"needs the real parts: {missing}")


def said(piece: chaos.Piece) -> str:
    return f"{dict(piece.kills)}, {piece.transitions} transitions\n" + "\n".join(map(str, piece.verdicts))


@pytest.mark.parametrize(
    ("scenario", "events", "least"),
    [("kills", 4000, 8), ("aimed", 2500, 3), ("sleepers", 2500, 2), ("brokers", 2500, 2)],
)
def test_nothing_is_lost_and_nothing_is_doubled(scenario, events, least):
    piece = chaos.run(scenario, 21, events=events)
    assert piece.ok, said(piece)
    assert piece.transitions > 200
    assert piece.kills.total() >= least, said(piece)


def test_it_is_found_when_the_order_of_the_checkpoint_is_switched_off():
    piece = chaos.run("without order", 21)
    wrong = {v.what for v in piece.verdicts if not v.ok}
    assert {"signals", "final ledger"} <= wrong, said(piece)


def test_rules_outlive_the_days_that_a_topic_keeps():
    """A partition whose log has forgotten the control record, judged by a worker without a checkpoint, still has its rules."""
    with chaos.Arena(3, judges=1, influx=False) as arena:
        places = [(topic, p) for topic in (chaos.FLOW, chaos.CAMERA) for p in range(4)] + [(ALARM_INPUT, 0)]
        ends = clients.end_offsets(arena.kafka.bootstrap, places)
        with closing(clients.admin(arena.kafka.bootstrap)) as admin:
            admin.delete_records({TopicPartition(*place): end for place, end in ends.items()})
        assert set(clients.begin_offsets(arena.kafka.bootstrap, places).values()) == {1}
        city = chaos.City(arena.kafka.bootstrap, 3, 600, 200)
        city.start()
        arena.start()
        city.join(60)
        arena.settle()
        entries = [json.loads(r.value) for r in clients.records(arena.kafka.bootstrap, (ALARM_EVENT, 0))]
        assert {"jam", "seen"} <= {entry["alarm"]["rule"] for entry in entries}
