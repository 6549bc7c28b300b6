"""The alarms in the console's memory: the greater position counts, and who comes back is told what it missed."""

import json
import random

import pytest
from cli_world import alarm as stored

from console import alarms as module
from console import shapes
from console.alarms import Alarms, Known
from models.alarm import Alarm
from models.base import moment


def known(id_, position, state="UNACK", **more):
    found = Alarm.model_validate({**stored(id_, state=state, **more).body, "position": position})
    return Known(shapes.alarm(found, moment(position * 1_000_000), None), found.model_dump_json().encode())


def told(frame):
    """Id, event and data of a frame."""
    lines = dict(line.split(": ", 1) for line in frame.decode().splitlines() if ": " in line)
    return lines.get("id"), lines["event"], json.loads(lines["data"])


def ids(frames):
    return [told(frame)[0] for frame in frames]


@pytest.fixture
def here():
    found = Alarms("log")
    found.begin(0)
    return found


def test_a_change_is_told_with_its_place_in_the_log(here):
    id_, event, data = told(here.take(7, known("a", 3)))
    assert (id_, event) == ("log/7", "alarm")
    assert (data["alarm_id"], data["position"], data["state"]) == ("a", 3, "UNACK")
    assert "evidence" not in data


def test_a_repeat_and_what_a_slept_worker_says_are_dropped(here):
    here.take(0, known("a", 5, "ACKED"))
    assert here.take(1, known("a", 5, "ACKED")) is None
    assert here.take(2, known("a", 3)) is None
    assert here.get("a").alarm.state == "ACKED"
    assert here.repeats == 2
    assert here.since("log/0") == []


def test_a_stale_record_does_not_raise_again_what_went_from_memory(here, monkeypatch):
    monkeypatch.setattr(module, "MOST_OVER", 2)
    for n in range(4):
        here.take(n, known(f"a{n}", n + 10, "NORM"))
    assert [a.alarm_id for a in here.all()] == ["a2", "a3"]
    assert here.take(4, known("a0", 5)) is None
    assert here.get("a0") is None
    assert here.take(5, known("a0", 50)) is not None, "what is newer counts"


def test_open_alarms_are_never_let_go(here, monkeypatch):
    monkeypatch.setattr(module, "MOST_OVER", 1)
    for n in range(100):
        here.take(n, known(f"a{n}", n, ("UNACK", "ACKED", "RTNUN")[n % 3]))
    assert len(list(here.open())) == 100


def test_who_comes_back_is_told_exactly_what_it_missed_each_once_in_order(here):
    chance = random.Random(5)
    every = []
    for offset in range(200):
        frame = here.take(offset, known(f"a{chance.randrange(20)}", chance.randrange(400)))
        every += [] if frame is None else [frame]
    for cut in range(len(every)):
        id_ = ids(every)[cut]
        assert here.since(id_) == every[cut + 1 :]
    assert here.since("log/199") == []


@pytest.mark.parametrize(
    "place",
    [
        None,
        "",
        "log",
        "other/3",
        "log/",
        "log/x",
        "log/-2",
        "log/--1",
        "log/99",
        "log/1.0",
        "log/\u0663",
        "log/" + "9" * 5000,
    ],
)
def test_an_id_that_is_not_of_this_log_or_beyond_it_is_answered_with_everything(here, place):
    here.take(5, known("a", 1))
    assert here.since(place) is None


def test_the_prefix_of_a_replays_world_is_part_of_the_logs_name():
    here = Alarms("cluster/replay-1")
    here.begin(0)
    here.take(0, known("a", 1))
    here.take(1, known("a", 2))
    assert ids(here.since("cluster/replay-1/0")) == ["cluster/replay-1/1"]


def test_what_is_no_longer_among_the_changes_is_no_silent_gap(here, monkeypatch):
    monkeypatch.setattr(module, "MOST_CHANGES", 3)
    for n in range(6):
        here.take(n, known(f"a{n}", n))
    assert here.since("log/1") is None
    assert ids(here.since("log/2")) == ["log/3", "log/4", "log/5"]


def test_a_log_that_forgot_its_beginning_tells_nobody_what_was_before():
    here = Alarms("log")
    here.begin(100)
    here.take(100, known("a", 1))
    assert here.since("log/50") is None
    assert ids(here.since("log/99")) == ["log/100"]


def test_other_rules_make_everybody_read_everything_anew(here):
    here.take(0, known("a", 1))
    here.take(1, known("b", 2, "NORM"))
    here.change(lambda alarm: alarm.model_copy(update={"sensor": "x"}))
    assert {a.sensor for a in here.all()} == {"x"}
    assert here.since("log/0") is None
    assert here.since("log/1") == []


def test_an_alarm_of_the_store_counts_where_the_log_says_nothing_of_it(here):
    here.take(0, known("a", 5, "ACKED"))
    assert not here.put(known("a", 4))
    assert not here.put(known("a", 6)), "the log will say so in a moment, and then to everybody"
    assert here.put(known("b", 1))
    assert {a.alarm_id: a.state for a in here.open()} == {"a": "ACKED", "b": "UNACK"}
    assert here.since("log/0") == [], "it is no change"


def test_who_comes_back_is_told_all_where_the_store_was_faster_than_the_log(here):
    here.put(known("b", 2))
    here.take(0, known("a", 1))
    assert here.take(1, known("b", 2)) is None
    assert here.since("log/0") is None, "a list of changes would leave out b"
    here.take(2, known("a", 3, "ACKED"))
    assert ids(here.since("log/1")) == ["log/2"]


def entry(id_, type_="raised", cause=None):
    return module.wire.Entry(
        id=id_, type=type_, at=moment(0), cause=cause, actor=None, note=None, start=moment(0), end=None,
        priority="P3", peak=None, state="UNACK",
    )  # fmt: skip


def test_a_line_of_the_timeline_that_repeats_is_dropped(here):
    assert here.add("a", entry("1"), 1)
    assert here.add("a", entry("2"), 2)
    assert not here.add("a", entry("1"), 1)
    assert list(here.timeline("a")) == ["1", "2"]
    assert here.timeline("b") == {}


def test_timelines_are_bounded_and_the_longest_untouched_goes_first(here, monkeypatch):
    monkeypatch.setattr(module, "MOST_ENTRIES", 4)
    for n, alarm_id in enumerate(("a", "b", "a", "b", "a")):
        here.add(alarm_id, entry(str(n)), n)
    assert list(here.timeline("a")) == ["0", "2", "4"]
    assert here.timeline("b") == {}


def test_a_command_that_the_history_shows_is_known_to_be_done_for_its_alarm_only(here):
    here.add("a", entry("1", "acknowledged", "c1"), 9)
    assert here.commands == {("a", "c1"): 9}
