"""`citywatch console`: what it refuses, in one line each, before it serves anything."""

import json
import os

import pytest
from cli_world import city

from commands.console import _kafka
from settings import Settings

__all__ = ["city"]


def test_it_needs_something_that_runs(city):
    told = city("console")
    assert told.code == 3
    assert "citywatch up" in told.err
    assert len(told.err.splitlines()) == 1


@pytest.mark.parametrize("port", ["0", "99999"])
def test_a_port_that_is_none_is_told_in_one_line(city, monkeypatch, port):
    monkeypatch.setenv("CITYWATCH_KAFKA__BOOTSTRAP", "127.0.0.1:9")
    told = city("console", "--port", port)
    assert told.code == 2
    assert f"--port {port}" in told.err
    assert len(told.err.splitlines()) == 1


def test_it_finds_the_up_that_runs_on_its_data_folder(tmp_path):
    about = {"bootstrap": "127.0.0.1:9", "log_id": "log", "pid": os.getpid(), "embedded": True}
    (tmp_path / "up.json").write_text(json.dumps({**about, "prefix": "r1.", "clock": "writer"}))
    found = _kafka(Settings.model_validate({"data": {"dir": tmp_path}}))
    assert (found.bootstrap, found.log_id, found.prefix, found.clock) == (
        "127.0.0.1:9",
        "log",
        "r1.",
        "writer",
    )
    assert found.embedded


def test_a_kafka_that_is_set_counts_more_than_what_runs(tmp_path):
    about = {"bootstrap": "127.0.0.1:9", "log_id": "log", "pid": os.getpid(), "embedded": True}
    (tmp_path / "up.json").write_text(json.dumps(about))
    settings = Settings.model_validate({"data": {"dir": tmp_path}, "kafka": {"bootstrap": "kafka:9092"}})
    assert _kafka(settings) is settings.kafka
