"""The time by which the console looks at the city is the log's: a wrong clock of its machine hides no silence, and makes none."""

from __future__ import annotations

import time

import pytest

from console.desk import Desk
from settings import Kafka, Settings

T0 = 1_767_225_600_000_000
SECOND = 1_000_000


@pytest.fixture
def clocks(monkeypatch):
    """The wall clock and the monotonic one, in microseconds."""
    now = {"wall": T0, "monotonic": 5 * SECOND}
    monkeypatch.setattr(time, "time_ns", lambda: now["wall"] * 1000)
    monkeypatch.setattr(time, "monotonic_ns", lambda: now["monotonic"] * 1000)
    return now


def test_before_the_log_has_said_anything_the_machine_s_clock_is_all_there_is(clocks):
    assert Desk(Settings(), "log").now() == T0


@pytest.mark.parametrize("jump", [3600 * SECOND, -3600 * SECOND])
def test_the_machine_s_clock_may_jump(clocks, jump):
    desk = Desk(Settings(), "log")
    desk.appended(T0)
    clocks["wall"] += jump
    clocks["monotonic"] += 7 * SECOND
    assert desk.now() == T0 + 7 * SECOND


def test_what_comes_late_to_the_console_does_not_turn_its_time_back(clocks):
    desk = Desk(Settings(), "log")
    desk.appended(T0)
    clocks["monotonic"] += 10 * SECOND
    desk.appended(T0 + SECOND)  # nine seconds on its way
    assert desk.now() == T0 + 10 * SECOND
    desk.appended(T0 + 12 * SECOND)
    assert desk.now() == T0 + 12 * SECOND


def test_where_writers_set_the_stamps_they_are_not_believed(clocks):
    desk = Desk(Settings(kafka=Kafka(embedded=True)), "log")
    desk.appended(T0 + 3600 * SECOND)
    assert desk.now() == T0
