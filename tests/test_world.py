"""The parts that run together: what ends is started again, and what no restart cures is said at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from commands.world import MOST_RESTARTS, BrokenError, World
from rules.spec import RuleSet
from settings import Settings


def ending(code: int) -> subprocess.Popen:
    worker = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
    worker.wait()
    return worker


@pytest.fixture
def world(monkeypatch):
    """A world of workers that end with a code, as often as they are started."""

    def made(code: int) -> World:
        found = World(Settings(), RuleSet(), clock="log", effective_from=0, stamp=None)
        monkeypatch.setattr(found, "_spawn", lambda _words: ending(code))
        found.parts = {"judge": ending(code)}
        return found

    return made


def test_a_worker_that_was_killed_is_started_again_and_counted(world):
    one = world(-9)
    assert one.watch() == ["judge"]
    assert one.restarts == 1


def test_a_worker_that_refuses_its_settings_is_not_started_again(world):
    with pytest.raises(BrokenError, match="judge worker cannot work"):
        world(2).watch()


def test_a_worker_that_cannot_be_kept_alive_is_given_up_after_a_bounded_number_of_starts(world):
    one = world(1)
    with pytest.raises(BrokenError, match="within a minute"):
        for _ in range(MOST_RESTARTS + 1):
            one.watch()
    assert one.restarts == MOST_RESTARTS
