"""The short form of `make chaos`: one piece of each attack on real Kafka and a real store, and the truth at the end of each."""

from __future__ import annotations

import chaos
import pytest
from real_influx import InfluxMissingError, influxd
from real_kafka import KafkaMissingError, jars

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
    piece = chaos.run("without order", 21, events=2500)
    wrong = {v.what for v in piece.verdicts if not v.ok}
    assert {"signals", "final ledger"} <= wrong, said(piece)
