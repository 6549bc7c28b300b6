"""The same replays on Apache Kafka as on the embedded broker: same figures, same alarms, in a world of their own prefix."""

from __future__ import annotations

import json
import subprocess

import pytest
from real import CASES, ROOT, command, data, environ, replay, story
from real_kafka import running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kafka():
    with running() as broker:
        yield broker


def test_a_replay_on_apache_kafka_gives_what_it_gives_on_the_embedded_broker(kafka, tmp_path):
    file = data("schools", "room_co2_occupancy", "datatest.txt")
    rules = CASES / "rules" / "co2-1000.yaml"
    embedded = replay([file], "room-air", tmp_path / "embedded", "--rules", rules)
    words = ("replay", file, "--mapping", "room-air", "--data", tmp_path / "real", "--json", "--rules", rules)
    done = subprocess.run(
        command(*words),
        cwd=ROOT,
        env={**environ(), "CITYWATCH_KAFKA__BOOTSTRAP": kafka.bootstrap},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert said["ledger"] == embedded["ledger"]
    assert said["alarms"] == embedded["alarms"]
    assert story(tmp_path / "real") == story(tmp_path / "embedded")
