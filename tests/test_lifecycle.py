"""The alarm plane's core: the tables, what a signal and a command do, and that no cut or repetition shows."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.alarm import PRIORITIES, Alarm, AlarmEvent, Command, Evidence, Mark, Proof, Signal, Text
from models.base import Place, micros, moment
from rules import lifecycle
from rules.lifecycle import FACTS, KEEP, MOVES, STATES, FormatError, Plane, facts_of, move, state_of

HOUR = 3_600_000_000
DAY = 24 * HOUR
T0 = 1_700_000_000_000_000
FLOW = "city.traffic.flow.v1"
INPUTS = get_args(lifecycle.Input)

Item = tuple[int, Signal | Mark | Command | None]  # a record of the input log: its stamp and what is in it


def signal(at: int, op: str = "put", alarm: str = "a1", fp: str = "f1", **other: Any) -> Signal:
    """A signal caused by the source's record at offset `at`, stamped `at` hours after T0 unless told."""
    said: dict[str, Any] = {
        "op": op, "alarm_id": alarm, "fingerprint": fp, "rule": "road-jammed", "rules_version": 1, "topic": FLOW,
        "partition": 0, "offset": at, "k": 0, "stamp": moment(T0 + at * HOUR), "labels": {"segment_id": fp},
        "start": moment(T0), "priority": "P3", "title": Text(vi="Kẹt xe", en="Jam"), "place": Place(ward="Bãi Cháy"),
    }  # fmt: skip
    return Signal.model_validate(said | other)


def marked(at: int, op: str = "suppress", alarm: str = "a1", fp: str = "f1", **other: Any) -> Mark:
    """A mark that a rule over signals says of an alarm, caused by the input log's record at offset `at`."""
    said: dict[str, Any] = {
        "op": op, "alarm_id": alarm, "fingerprint": fp, "rule": "gateway-silent", "by": "root",
        "topic": "city.alarm.input.v1", "partition": 0, "offset": at, "k": 0, "stamp": moment(T0 + at * HOUR),
    }  # fmt: skip
    return Mark.model_validate(said | other)


def ended(hours: float) -> dict[str, Any]:
    return {"end": moment(T0 + int(hours * HOUR))}


def acknowledge(command: str = "c1", alarm: str = "a1", actor: str = "lan") -> Command:
    return Command(command_id=command, action="acknowledge", alarm_id=alarm, actor=actor, note="đã gọi")


def play(plane: Plane, log: list[Item], start: int = 0) -> list[list[AlarmEvent]]:
    return [plane.step(n, stamp, record) for n, (stamp, record) in enumerate(log) if n >= start]


def tell(*records: Signal | Mark | Command | None, buckets: int = 1) -> tuple[Plane, list[list[str]]]:
    """Play records a minute apart; what entries each one caused. In one bucket everything meets everything."""
    plane = Plane("log", buckets)
    events = play(plane, [(T0 + n * 60_000_000, r) for n, r in enumerate(records)])
    return plane, [[e.type for e in es] for es in events]


def only(plane: Plane) -> Alarm:
    (alarm,) = plane.alarms()
    return alarm


# --- the tables ------------------------------------------------------------------------------------------------------


_f = lifecycle._f
WORLDS = [
    _f(*(n for n, v in zip(sorted(FACTS), bits, strict=True) if v))
    for bits in product((0, 1), repeat=len(FACTS))
]


def test_every_set_of_facts_has_one_state() -> None:
    plain = {
        _f(): "RTNUN",
        _f("acked"): "NORM",
        _f("active"): "UNACK",
        _f("active", "acked"): "ACKED",
    }
    assert set(FACTS) == set(ORDER)
    for facts in WORLDS:
        if "retracted" in facts:
            want = "NORM"
        elif facts & {"suppressed", "shelved"}:
            hidden = "DSUPR" if "suppressed" in facts else "SHLVD"
            want = hidden if "active" in facts else "NORM"
        else:
            want = plain[facts]
        assert state_of(facts) == want


def test_every_row_of_the_tables_is_used() -> None:
    def first(rows: Any, facts: frozenset[str], on: str | None = None) -> Any:
        fits = (r for r in rows if r.holds <= facts and not r.lacks & facts and (on is None or r.on == on))
        return next(fits, None)

    assert {first(STATES, w) for w in WORLDS} == set(STATES)
    assert {first(MOVES, w, on) for w in WORLDS for on in INPUTS} - {None} == set(MOVES)


# before: what is true of the alarm; then for every input: the entry and the facts after it, or "-": nothing changes.
DRAWN: dict[tuple[int, ...], dict[str, Any]] = {
    # (active, acked, retracted)
    (0, 0, 0): {  # RTNUN
        "opens": ("revised", (1, 0, 0)),
        "opens worse": ("revised", (1, 0, 0)),
        "closes": ("revised", (0, 0, 0)),
        "closes worse": ("revised", (0, 0, 0)),
        "retract": ("retracted", (0, 0, 1)),
        "loses ack": "-",
        "acknowledge": ("acknowledged", (0, 1, 0)),
        "suppress": ("suppressed", (0, 0, 0, 1)),
        "release": "-",
    },
    (0, 1, 0): {  # NORM: over and seen
        "opens": ("revised", (1, 1, 0)),
        "opens worse": ("revised", (1, 0, 0)),
        "closes": ("revised", (0, 1, 0)),
        "closes worse": ("revised", (0, 1, 0)),
        "retract": ("retracted", (0, 1, 1)),
        "loses ack": ("revised", (0, 0, 0)),
        "acknowledge": "-",
        "suppress": ("suppressed", (0, 1, 0, 1)),
        "release": "-",
    },
    (1, 0, 0): {  # UNACK
        "opens": ("revised", (1, 0, 0)),
        "opens worse": ("revised", (1, 0, 0)),
        "closes": ("cleared", (0, 0, 0)),
        "closes worse": ("cleared", (0, 0, 0)),
        "retract": ("retracted", (0, 0, 1)),
        "loses ack": "-",
        "acknowledge": ("acknowledged", (1, 1, 0)),
        "suppress": ("suppressed", (1, 0, 0, 1)),
        "release": "-",
    },
    (1, 1, 0): {  # ACKED
        "opens": ("revised", (1, 1, 0)),
        "opens worse": ("revised", (1, 0, 0)),
        "closes": ("cleared", (0, 1, 0)),
        "closes worse": ("cleared", (0, 0, 0)),
        "retract": ("retracted", (0, 1, 1)),
        "loses ack": ("revised", (1, 0, 0)),
        "acknowledge": "-",
        "suppress": ("suppressed", (1, 1, 0, 1)),
        "release": "-",
    },
    (0, 0, 1): {  # retracted: as good as unknown
        "opens": ("raised", (1, 0, 0)),
        "opens worse": "-",
        "closes": "-",
        "closes worse": "-",
        "retract": "-",
        "loses ack": "-",
        "acknowledge": "-",
        "suppress": "-",
        "release": "-",
    },
}
DRAWN[0, 1, 1] = DRAWN[0, 0, 1]


def _drawn(before: tuple[int, ...], rows: dict[str, Any], suppressed: int, shelved: int) -> dict[str, Any]:
    """The same alarm where it is suppressed or on a shelf: it moves as it would otherwise, and stays so until it is let go."""
    active, acked, retracted = before

    def after(on: str, row: Any) -> Any:
        if row == "-":
            return row
        return row[0], (
            *row[1][:3],
            1 if on == "suppress" else suppressed,
            0 if on == "opens worse" else shelved,
        )

    found = {on: after(on, row) for on, row in rows.items()}
    if retracted:
        return found | {"shelve": "-", "unshelve": "-"}
    found["shelve"] = ("shelved", (active, acked, 0, suppressed, 1))
    found["unshelve"] = ("unshelved", (active, 1 - active, 0, suppressed, 0)) if shelved else "-"
    if suppressed:
        found["release"] = ("released", (*before, 0, shelved))
    return found


SMALL_WORLD = {
    (*before, suppressed, shelved): _drawn(before, rows, suppressed, shelved)
    for before, rows in DRAWN.items()
    for suppressed in (0, 1)
    for shelved in (0, 1)
}
ORDER = ("active", "acked", "retracted", "suppressed", "shelved")


@pytest.mark.parametrize(("before", "on"), [(b, on) for b in SMALL_WORLD for on in INPUTS])
def test_each_input_does_to_each_alarm_what_is_drawn(before: tuple[int, ...], on: Any) -> None:
    plane, _ = tell(signal(0))
    facts = dict(zip(ORDER, map(bool, before), strict=True))
    alarm = only(plane).model_copy(update=facts | {"state": state_of(_f(*(f for f in facts if facts[f])))})

    changes = move(alarm, on, 9, {}, "why")

    want = SMALL_WORLD[before][on]
    if want == "-":
        assert changes == []
        return
    (change,) = changes
    after = change.alarm
    assert (change.entry, tuple(int(getattr(after, f)) for f in ORDER)) == want
    assert (change.cause, change.supersedes) == ("why", alarm.position)
    assert after.state == state_of(facts_of(after))
    assert after.position == 9


def test_no_input_leads_out_of_the_small_world() -> None:
    reached = {after[1] for row in SMALL_WORLD.values() for after in row.values() if after != "-"}
    assert reached <= set(SMALL_WORLD)


# --- the shelf -------------------------------------------------------------------------------------------------------


def shelve(hours: float = 2, alarm: str = "a1", action: str = "shelve", id_: str = "s1") -> Command:
    until = {"until": moment(T0 + int(hours * HOUR))} if action == "shelve" else {}
    return Command(command_id=id_, action=action, alarm_id=alarm, actor="lan", note="roadworks", **until)  # type: ignore[arg-type]


def at(*records: tuple[float, Any]) -> tuple[Plane, list[list[str]]]:
    """A plane that was told each record so many hours after T0."""
    plane = Plane("log")
    told = play(plane, [(T0 + int(hours * HOUR), record) for hours, record in records])
    return plane, [[e.type for e in entries] for entries in told]


def test_what_is_shelved_calls_nobody_until_its_time_is_over_and_then_asks_again() -> None:
    plane, told = at((0, signal(0)), (0.1, acknowledge()), (0.2, shelve(2)), (1.9, None), (2, None))
    assert told == [["raised"], ["acknowledged"], ["shelved"], [], ["unshelved"]]
    assert (only(plane).state, only(plane).shelved_by, only(plane).acked_by) == ("UNACK", None, None)


def test_what_ends_on_the_shelf_was_seen_by_whoever_put_it_there() -> None:
    plane, told = at((0, signal(0)), (0.2, shelve(2)), (1, signal(1, **ended(1))), (2.5, None))
    assert told == [["raised"], ["shelved"], ["cleared"], ["unshelved"]]
    assert (only(plane).state, only(plane).acked_by) == ("NORM", "lan")


def test_the_next_alarm_of_the_subject_is_shelved_too_and_a_worse_one_is_not() -> None:
    later = {"start": moment(T0 + HOUR)}
    plane, told = at(
        (0, signal(0)),
        (0.1, shelve(5)),
        (0.5, signal(1, **ended(0.5))),
        (1, signal(2, alarm="a2", **later)),
        (2, signal(3, alarm="a3", priority="P1", start=moment(T0 + 2 * HOUR))),
        (3, signal(4, alarm="a4", start=moment(T0 + 3 * HOUR))),
    )
    assert told[3:5] == [["raised"], ["raised", "unshelved", "unshelved"]], (
        "with the shelf goes all that was on it"
    )
    assert [a.state for a in plane.alarms()] == ["NORM", "UNACK", "UNACK", "UNACK"]


def test_whichever_of_its_alarms_is_taken_off_the_whole_shelf_is_empty() -> None:
    later = {"start": moment(T0 + HOUR)}
    shelved = [
        (0, signal(0)),
        (0.1, shelve(5)),
        (0.5, signal(1, **ended(0.5))),
        (1, signal(2, alarm="a2", **later)),
    ]
    plane, told = at(*shelved, (2, shelve(alarm="a1", action="unshelve", id_="s2")))
    assert told[-1] == ["unshelved", "unshelved"]
    assert [a.state for a in plane.alarms()] == ["NORM", "UNACK"]
    plane, told = at(*shelved, (2, signal(3)), (30, None))
    assert told[-2] == ["revised"], "it opens again, and is no worse than what was put there"
    assert [a.state for a in plane.alarms()] == ["UNACK", "UNACK"], "and the shelf has ended"


def test_an_alarm_that_becomes_worse_comes_off_its_shelf() -> None:
    plane, told = at((0, signal(0)), (0.1, shelve(5)), (1, signal(1, priority="P1")))
    assert (told[-1], only(plane).state) == (["revised"], "UNACK")


def test_a_shelf_is_emptied_by_hand_and_never_holds_longer_than_a_day() -> None:
    plane, told = at((0, signal(0)), (0.1, shelve(5)), (1, shelve(action="unshelve", id_="s2")), (6, None))
    assert (told, only(plane).state) == ([["raised"], ["shelved"], ["unshelved"], []], "UNACK")
    plane, told = at((0, signal(0)), (0, shelve(1000)), (24, None))
    assert told[-1] == ["unshelved"]
    plane, told = at((1, signal(0)), (1, shelve(0.5)))
    assert told[-1] == [], "its time was over before it began"
    assert plane.due() is None


def test_entries_of_a_shelf_are_called_the_same_whichever_bucket_saw_the_record() -> None:
    log = [
        (0, signal(0)),
        (0, signal(1, alarm="a2", fp="f2")),
        (0.1, shelve(1)),
        (0.1, shelve(1, "a2", id_="s2")),
    ]
    records: list[Item] = [(T0 + int(h * HOUR), r) for h, r in log]
    whole = Plane("log")
    play(whole, records)
    blobs = [whole.dump(n) for n in range(whole.buckets)]
    over = (T0 + int(1.1 * HOUR), None)
    (last,) = play(whole, [*records, over], len(records))
    ids = {e.id for e in last}
    assert len(ids) == 2
    for ahead in range(16):
        cut = Plane("log")
        for n, blob in enumerate(blobs):
            cut.load(n, whole.dump(n) if n == ahead else blob)
        (again,) = play(cut, [*records, over], len(records))
        assert {e.id for e in again} <= ids


@pytest.mark.parametrize(
    "said", [{"until": None}, {"note": None}, {"action": "acknowledge"}, {"action": "unshelve"}]
)
def test_a_shelf_has_a_reason_and_an_end_and_nothing_else_has(said: dict[str, Any]) -> None:
    good = shelve().model_dump()
    with pytest.raises(ValidationError, match="is shelved"):
        Command.model_validate(good | said)


# --- signals ---------------------------------------------------------------------------------------------------------


def test_an_alarm_is_raised_cleared_and_acknowledged() -> None:
    plane, told = tell(signal(0), signal(1, **ended(1)), acknowledge())
    assert told == [["raised"], ["cleared"], ["acknowledged"]]
    alarm = only(plane)
    assert (alarm.state, alarm.active, alarm.end, alarm.acked_by) == ("NORM", False, moment(T0 + HOUR), "lan")
    assert alarm.acked_at == moment(T0 + 2 * 60_000_000)  # the stamp of the command's record


def test_an_alarm_that_is_over_when_first_heard_of_is_raised_and_then_cleared() -> None:
    raised, cleared = Plane("log").step(7, T0, signal(3, cause="late data", **ended(1)))
    assert (raised.type, raised.alarm.state, raised.alarm.end) == ("raised", "UNACK", None)
    assert (cleared.type, cleared.alarm.state, cleared.alarm.end) == ("cleared", "RTNUN", moment(T0 + HOUR))
    assert raised.id != cleared.id
    assert raised.cause == cleared.cause == "late data"
    assert raised.alarm.raised_at == moment(T0 + 3 * HOUR)  # the time of its cause: the same in every run


def test_what_is_said_twice_changes_nothing() -> None:
    plane, told = tell(signal(0), signal(1), signal(2, k=5, cause="said again"))
    assert told == [["raised"], [], []]
    assert plane.counts() == {"applied": 1, "noop": 2, "repeated": 0, "unknown_alarm": 0, "held": 0}


@pytest.mark.parametrize(
    "said",
    [
        {"start": moment(T0 - HOUR)},
        {"priority": "P1"},
        {"priority": "advisory"},
        {"peak": 97.5},
        {"rules_version": 2},
        {"proof": Proof(log="L", rules={}, version=1, since=moment(T0), clock=moment(T0))},
        {
            "evidence": (
                Evidence(event_id="e", topic=FLOW, partition=0, offset=4, observed_at=moment(T0), values={}),
            )
        },
    ],
)
def test_whatever_else_is_said_of_an_alarm_revises_it(said: dict[str, Any]) -> None:
    plane, told = tell(signal(0), signal(1, **said), signal(2, **said, **ended(1)), signal(3, **ended(1)))
    assert told == [["raised"], ["revised"], ["cleared"], ["revised"]]
    assert only(plane).revised == 2


def test_an_alarm_opens_again_when_its_end_was_wrong_and_stays_acknowledged() -> None:
    plane, told = tell(signal(0), acknowledge(), signal(1, **ended(1)), signal(2))
    assert told == [["raised"], ["acknowledged"], ["cleared"], ["revised"]]
    assert (only(plane).state, only(plane).end) == ("ACKED", None)


@pytest.mark.parametrize(("before", "after"), list(product(PRIORITIES, repeat=2)))
def test_only_a_rise_in_priority_calls_the_operator_again(before: str, after: str) -> None:
    plane, _ = tell(signal(0, priority=before), acknowledge(), signal(1, priority=after, peak=3.0))
    rise = PRIORITIES.index(after) < PRIORITIES.index(before)  # type: ignore[arg-type]
    assert only(plane).state == ("UNACK" if rise else "ACKED")
    assert (only(plane).acked_by, only(plane).acked_at is None) == ((None, True) if rise else ("lan", False))


def test_a_rise_that_comes_with_the_end_is_not_passed_over() -> None:
    plane, told = tell(signal(0), acknowledge(), signal(1, priority="P1", **ended(1)))
    assert (told[-1], only(plane).state) == (["cleared"], "RTNUN")


def test_a_rise_after_the_end_calls_nobody() -> None:
    plane, told = tell(signal(0), acknowledge(), signal(1, **ended(1)), signal(2, priority="P1", **ended(1)))
    assert (told[-1], only(plane).state) == (["revised"], "NORM")


def test_a_retracted_alarm_is_no_alarm_until_it_is_put_again() -> None:
    plane, told = tell(
        signal(0), acknowledge("c1"), signal(1, "retract"), signal(2, "retract"), acknowledge("c2"), signal(3)
    )
    assert told == [["raised"], ["acknowledged"], ["retracted"], [], [], ["raised"]]
    assert (only(plane).state, only(plane).acked_by, only(plane).revised) == ("UNACK", None, 0)
    assert plane.counts() == {"applied": 4, "noop": 2, "repeated": 0, "unknown_alarm": 0, "held": 0}


def test_a_repeated_signal_of_a_sleeping_worker_changes_nothing() -> None:
    log = [signal(0), signal(1, **ended(1)), signal(2), signal(2, "retract", k=1)]
    plane, told = tell(*log, *log, *log[1:])
    assert [t for t in told if t] == [["raised"], ["cleared"], ["revised"], ["retracted"]]
    assert plane.counts()["repeated"] == 7


def test_the_place_of_a_signal_counts_per_source_and_fingerprint() -> None:
    v2 = {"topic": "city.traffic.flow.v2"}
    plane, told = tell(
        signal(5), signal(5, alarm="a2", fp="f2"), signal(0, peak=1.0, **v2), signal(4, peak=2.0)
    )
    assert told == [["raised"], ["raised"], ["revised"], []]
    assert plane.counts()["repeated"] == 1


# --- merge -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("put_first", [True, False])
@pytest.mark.parametrize(("one", "other"), list(product((False, True), repeat=2)))
def test_merged_alarms_stay_acknowledged_only_if_all_were(put_first: bool, one: bool, other: bool) -> None:
    # a1 [0----1)                       a1 [0-----------------4)
    # a2             [3----4)     ->    a2 retracted, merged into a1
    acks = ([acknowledge("c1", "a1")] if one else []) + ([acknowledge("c2", "a2")] if other else [])
    both: list[dict[str, Any]] = [
        {"op": "put", "alarm": "a1", **ended(4)},
        {"op": "retract", "alarm": "a2", "merged_into": "a1"},
    ]
    merge = [signal(5, k=k, **said) for k, said in enumerate(both if put_first else both[::-1])]
    plane, _ = tell(
        signal(1, **ended(1)), signal(4, alarm="a2", start=moment(T0 + 3 * HOUR), **ended(4)), *acks, *merge
    )
    a1, a2 = plane.alarms()
    assert (a1.end, a1.acked, a1.acked_by is None) == (
        moment(T0 + 4 * HOUR),
        one and other,
        not (one and other),
    )
    assert (a2.retracted, a2.acked) == (True, other)


def test_a_merge_that_takes_an_acknowledgement_says_so() -> None:
    plane, told = tell(
        signal(0), signal(1, alarm="a2"), acknowledge(), signal(2, "retract", alarm="a2", merged_into="a1")
    )
    assert told[-1] == ["retracted", "revised"]
    assert [a.state for a in plane.alarms()] == ["UNACK", "NORM"]


def test_a_merge_said_again_takes_nothing_more() -> None:
    gone = {"op": "retract", "alarm": "a2", "merged_into": "a1"}
    plane, told = tell(signal(0), signal(1, alarm="a2"), signal(2, **gone), acknowledge(), signal(3, **gone))
    assert told[2:] == [["retracted"], ["acknowledged"], []]
    assert [a.state for a in plane.alarms()] == ["ACKED", "NORM"]


@pytest.mark.parametrize("into", ["a3", "a2", "nothing"])
def test_a_merge_into_another_fingerprint_itself_or_nothing_takes_nothing(into: str) -> None:
    foreign = signal(0, alarm="a3", fp="f2")
    acks = [acknowledge("c1", "a3"), acknowledge("c2", "a1")]
    plane, told = tell(
        signal(0), signal(1, alarm="a2"), foreign, *acks, signal(2, "retract", alarm="a2", merged_into=into)
    )
    assert told[-1] == ["retracted"]
    assert {a.alarm_id for a in plane.alarms() if a.acked} == {"a1", "a3"}


# --- commands --------------------------------------------------------------------------------------------------------


def test_a_command_is_done_once_however_often_it_is_repeated() -> None:
    plane, told = tell(signal(0), acknowledge(), acknowledge(), signal(1, priority="P1"), acknowledge())
    assert told == [["raised"], ["acknowledged"], [], ["revised"], []]
    assert only(plane).state == "UNACK"  # the P1 was never acknowledged: the retry spoke of the P3
    assert plane.counts() == {"applied": 3, "repeated": 2, "noop": 0, "unknown_alarm": 0, "held": 0}


def test_a_command_that_changed_nothing_is_done_too() -> None:
    plane, told = tell(
        signal(0), acknowledge("c1"), acknowledge("c2", actor="minh"), signal(1, priority="P1")
    )
    assert told[2] == []
    play(plane, [(T0, None)] * 4 + [(T0, acknowledge("c2", actor="minh"))])
    assert only(plane).state == "UNACK"
    assert plane.counts()["noop"] == 1


def test_the_first_to_acknowledge_is_remembered() -> None:
    plane, _ = tell(signal(0), acknowledge("c1", actor="lan"), acknowledge("c2", actor="minh"))
    assert only(plane).acked_by == "lan"


def test_the_commands_remembered_with_an_alarm_are_bounded() -> None:
    plane, _ = tell(signal(0), *(acknowledge(f"c{n}") for n in range(lifecycle.COMMANDS + 9)))
    (bucket,) = plane._buckets
    assert len(bucket.alarms["a1"].commands) == lifecycle.COMMANDS


def test_an_acknowledgement_names_its_command_actor_and_note() -> None:
    plane = Plane("log")
    play(plane, [(T0, signal(0))])
    (event,) = plane.step(1, T0 + 5, acknowledge())
    assert (event.cause, event.actor, event.note, event.at) == ("c1", "lan", "đã gọi", moment(T0 + 5))


def test_what_names_no_alarm_changes_nothing_and_is_counted() -> None:
    plane, told = tell(
        acknowledge(), signal(0, "retract"), signal(1), signal(0, fp="f2"), signal(1, "retract", fp="f2")
    )
    assert told == [[], [], ["raised"], [], []]
    assert plane.counts() == {"applied": 1, "unknown_alarm": 4, "repeated": 0, "noop": 0, "held": 0}
    assert (only(plane).fingerprint, only(plane).state) == ("f1", "UNACK")


def test_a_command_that_came_before_its_alarm_may_be_repeated_after_it() -> None:
    _, told = tell(acknowledge(), signal(0), acknowledge())
    assert told == [[], ["raised"], ["acknowledged"]]


# --- held, and suppressed by design ----------------------------------------------------------------------------------


def test_a_held_signal_is_no_alarm_until_it_is_told() -> None:
    plane, told = tell(signal(0, held=True), signal(1), signal(2, **ended(1)))
    assert told == [[], ["raised"], ["cleared"]]
    assert plane.counts() == {"applied": 2, "noop": 0, "repeated": 0, "unknown_alarm": 0, "held": 1}


def test_what_ended_while_it_was_held_was_never_an_alarm() -> None:
    plane, told = tell(
        signal(0, held=True), signal(1, held=True, **ended(1)), signal(2, "retract", held=True)
    )
    assert (told, list(plane.alarms()), plane.counts()["held"]) == ([[], [], []], [], 3)


def test_what_was_told_and_then_is_known_to_have_been_held_is_taken_back() -> None:
    plane, told = tell(signal(0), signal(1, held=True, **ended(0.01)))
    assert (told, only(plane).state) == ([["raised"], ["retracted"]], "NORM")


def test_an_alarm_that_was_marked_while_it_was_held_is_raised_suppressed() -> None:
    plane, told = tell(
        signal(0, held=True), marked(0), signal(1), signal(2, **ended(2)), marked(3, "release")
    )
    assert told == [[], [], ["raised"], ["cleared"], ["released"]]
    early, told = tell(marked(0), signal(1))
    assert (only(early).state, only(early).suppressed_by) == ("DSUPR", {"gateway-silent": "root"})
    assert early.counts()["held"] == 1
    assert only(plane).state == "RTNUN"  # it outlasted its reason, as the rule over signals found out later


def test_an_alarm_that_ends_while_it_is_suppressed_asks_nobody() -> None:
    plane, told = tell(signal(0), marked(1), signal(2, **ended(2)))
    assert (told, only(plane).state) == ([["raised"], ["suppressed"], ["cleared"]], "NORM")


def test_a_released_alarm_asks_for_somebody_unless_it_was_acknowledged() -> None:
    plane, told = tell(signal(0), marked(1), marked(2, "release"))
    assert (told[1:], only(plane).state, only(plane).suppressed_by) == (
        [["suppressed"], ["released"]],
        "UNACK",
        {},
    )
    plane, _ = tell(signal(0), acknowledge(), marked(1), marked(2, "release"))
    assert only(plane).state == "ACKED"


def test_an_alarm_stays_suppressed_while_any_rule_has_a_reason() -> None:
    other = {"rule": "camera-lost-tells-enough", "by": "lost"}
    plane, told = tell(
        signal(0), marked(1), marked(1, **other), marked(2, "release"), marked(3, "release", **other)
    )
    assert told[1:] == [["suppressed"], ["suppressed"], ["suppressed"], ["released"]]
    assert only(plane).state == "UNACK"


def test_a_mark_said_again_changes_nothing() -> None:
    plane, told = tell(signal(0), marked(1), marked(2), marked(3, "release"), marked(1), marked(4, "release"))
    assert told[1:] == [["suppressed"], [], ["released"], [], []]
    assert plane.counts() == {"applied": 3, "noop": 2, "repeated": 1, "unknown_alarm": 0, "held": 0}


def test_a_mark_of_an_alarm_that_never_comes_is_forgotten_in_time() -> None:
    plane = Plane("log", own=1)
    play(plane, [(T0, marked(0, alarm="never")), (T0, marked(1, "release", alarm="other"))])
    (bucket,) = plane._buckets
    assert set(bucket.waiting) == {"never"}
    again = Plane("log", own=1)
    again.load(0, plane.dump(0))
    for one in (plane, again):
        one.step(9, T0, marked(lifecycle.KEEP_LONGER // HOUR, alarm="late"))
        assert set(one._buckets[0].waiting) == {"late"}


# --- forgetting ------------------------------------------------------------------------------------------------------


def other(at: int, **said: Any) -> Signal:
    """A signal of another fingerprint of the same source: it tells the plane how late it is there."""
    return signal(at, alarm=f"o{at}", fp="f2", **said)


@pytest.mark.parametrize(
    ("records", "kept_h"),
    [
        ([signal(0), acknowledge(), signal(1, **ended(1))], 25),  # over and seen
        ([signal(0), signal(1, "retract")], 25),
        ([signal(0), signal(1, **ended(1))], 1 + 7 * 24),  # over and not seen
    ],
)
def test_what_is_over_is_forgotten_after_its_time(records: list[Signal | Command], kept_h: int) -> None:
    plane = Plane("log", own=1)
    play(plane, [(T0, r) for r in records])
    plane.step(10, T0, other(kept_h - 1))
    assert "a1" in held(plane)
    plane.step(11, T0, other(kept_h))
    assert "a1" not in held(plane)


def held(plane: Plane) -> set[str]:
    return {a.alarm_id for a in plane.alarms()}


def test_a_revision_of_what_is_over_keeps_it_longer() -> None:
    plane, _ = tell(
        signal(0), acknowledge(), signal(1, **ended(1)), signal(12, peak=9.0, **ended(1)), other(26)
    )
    assert held(plane) == {"a1", "o26"}
    plane.step(10, T0, other(36))
    assert held(plane) == {"o26", "o36"}


def test_an_alarm_that_goes_on_in_a_new_version_of_its_topic_is_kept_by_the_time_of_that() -> None:
    plane, _ = tell(signal(0), acknowledge(), signal(1, **ended(1)))
    plane.step(8, T0, signal(0, topic="city.traffic.flow.v2", stamp=moment(T0 + HOUR), peak=9.0, **ended(1)))
    plane.step(9, T0, other(25))
    assert held(plane) == {"a1", "o25"}


def test_what_was_restored_is_forgotten_in_the_order_it_falls_due() -> None:
    plane, _ = tell(signal(1, **ended(1)), signal(2, alarm="a2"), signal(3, "retract", alarm="a2"))
    again = Plane("log", own=1)
    again.load(0, plane.dump(0))  # a1, over and not seen, is due in a week and stands before a2, due in a day
    again.step(10, T0, other(27))
    assert held(again) == {"a1", "o27"}


def test_what_is_open_is_never_forgotten() -> None:
    plane = Plane("log", own=1)
    play(plane, [(T0, r) for r in (signal(0), signal(1, **ended(1)), signal(2), other(10_000))])
    assert "a1" in held(plane)


def test_only_the_time_of_its_own_source_forgets_an_alarm() -> None:
    # A worker that was away for a month reads the next record of partition 0: there, only an hour has passed.
    plane = Plane("log", own=1)
    play(plane, [(T0, signal(0)), (T0, signal(1, "retract"))])
    plane.step(5, T0 + 30 * DAY, other(9_000, partition=1))
    plane.step(6, T0 + 30 * DAY, acknowledge("c", "o9000"))
    plane.step(7, T0 + 30 * DAY, other(2))
    assert "a1" in held(plane)


def test_what_is_forgotten_is_not_raised_by_a_repeated_signal() -> None:
    plane = Plane("log", own=1)
    log = [(T0, r) for r in (signal(0), signal(1, "retract"), other(100), signal(0), signal(1, "retract"))]
    assert play(plane, log)[-2:] == [[], []]


def test_memory_does_not_grow_with_alarms_that_are_over() -> None:
    plane = Plane("log", own=1)
    for n in range(300):  # a new incident every hour, each over when the next one comes
        plane.step(2 * n, T0, signal(n, alarm=f"a{n}", fp=f"f{n}", **ended(n)))
        plane.step(2 * n + 1, T0, acknowledge("c", f"a{n}"))
    (bucket,) = plane._buckets
    assert len(bucket.alarms) == 24
    assert sum(len(h.due) for h in bucket.heard.values()) <= (1 + 7) * 24


def test_a_late_revision_always_finds_its_alarm() -> None:
    assert min(KEEP.values()) >= 2 * 12 * HOUR  # the longest L is that of a school's day


# --- dump and load ---------------------------------------------------------------------------------------------------


def test_only_changed_buckets_are_dirty() -> None:
    plane = Plane("log", own=8)
    plane.step(0, T0, None)
    assert plane.dirty == set()
    plane.step(1, T0, signal(0))
    (changed,) = plane.dirty
    plane.dump(changed)
    assert plane.dirty == set()
    plane.step(2, T0, signal(0))
    assert plane.dirty == {changed}  # a repetition is counted, and counts must survive


def test_a_record_read_again_is_skipped() -> None:
    plane = Plane("log")
    assert plane.step(3, T0, signal(0)) != []
    before = plane.dump(0), plane.counts()
    assert plane.step(3, T0, signal(1, peak=1.0)) == []
    assert plane.step(2, T0, acknowledge()) == []
    assert (plane.dump(0), plane.counts()) == before
    assert plane.dirty == {lifecycle.crc32(b"f1") % 16}


def _with_format(number: int) -> bytes:
    return msgspec.msgpack.encode((number, {"later": "shape"}))


def _with_alarm(alarm: str) -> bytes:
    body = ("log", 16, 3, 0, {}, [(FLOW, 0, {})], [(alarm, FLOW, 0, T0, [])], [], {})
    return msgspec.msgpack.encode((lifecycle.FORMAT, body))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (_with_format(lifecycle.FORMAT + 1), f"format {lifecycle.FORMAT + 1}"),
        (_with_format(lifecycle.FORMAT), "not a bucket"),
        (_with_alarm('{"alarm_id": "a1"}'), "not a bucket"),
        (_with_alarm("{"), "not a bucket"),
        (b"", "not a bucket"),
        (b"\xc1 not msgpack", "not a bucket"),
        (Plane("another log").dump(3), "another log"),
        (Plane("log", own=8).dump(3), "8"),
        (Plane("log").dump(4), "4"),
        (Plane("log").dump(3)[:-1], "not a bucket"),
    ],
)
def test_foreign_bytes_are_refused_and_change_nothing(data: bytes, says: str) -> None:
    plane = Plane("log")
    play(plane, [(T0, signal(0, alarm=f"a{n}", fp=f"f{n}")) for n in range(64)])
    before = [plane.dump(b) for b in range(16)]
    with pytest.raises(FormatError, match=says):
        plane.load(3, data)
    assert [plane.dump(b) for b in range(16)] == before


def test_an_alarm_comes_back_as_it_was() -> None:
    plane = Plane("log", own=1)
    evidence = Evidence(
        event_id="é", topic=FLOW, partition=0, offset=2**62, observed_at="2024-01-01T07:00:00.000001+07:00",
        values={"speed_kmh": 0.1 + 0.2, "n": 2**60, "none": None, "deep": [{"x": [True]}]},
    )  # fmt: skip
    plane.step(
        4,
        T0,
        signal(
            0,
            evidence=(evidence,),
            proof=Proof(
                log="L",
                rules={},
                version=1,
                since=moment(T0),
                clock=moment(T0),
                state={"m": [1e-9, 5.0, None]},
            ),
            peak=1e300,
        ),
    )
    plane.step(5, T0, acknowledge())
    again = Plane("log", own=1)
    assert again.load(0, plane.dump(0)) == 5
    assert only(again) == only(plane)
    assert only(again).model_dump_json() == only(plane).model_dump_json()
    assert again.dirty == set()


# --- properties of whole logs ----------------------------------------------------------------------------------------

FINGERPRINTS = ("f0", "f1", "f2", "f3")
ends = st.none() | st.integers(1, 3).map(lambda h: moment(T0 + h * HOUR))


@st.composite
def sources(draw: st.DrawFn, jump_h: int = 40) -> dict[int, list[Signal]]:
    """What two partitions' judges say, each in the order of its source; f0, f1 come from 0 and f2, f3 from 1."""
    said: dict[int, list[Signal]] = {}
    for partition in (0, 1):
        at, hour, said[partition] = 0, 0, []
        for _ in range(draw(st.integers(0, 14))):
            step = draw(st.integers(0, 2))
            at, hour = at + step, hour + (draw(st.integers(0, jump_h)) if step else 0)
            fp = FINGERPRINTS[2 * partition + draw(st.integers(0, 1))]
            a, b = draw(st.permutations([f"{fp}-{n}" for n in range(3)]))[:2]
            op = draw(st.sampled_from(("put", "put", "put", "retract")))
            said[partition].append(
                signal(
                    at, op, a, fp, k=len(said[partition]), partition=partition, stamp=moment(T0 + hour * HOUR),
                    end=draw(ends), priority=draw(st.sampled_from(("P1", "P3"))),
                    merged_into=draw(st.sampled_from((None, b))) if op == "retract" else None,
                    held=draw(st.sampled_from((False, False, False, True))),
                )
            )  # fmt: skip
    return said


commands = st.builds(
    acknowledge,
    st.sampled_from(("c1", "c2", "c3")),
    st.sampled_from([f"{fp}-{n}" for fp in FINGERPRINTS for n in range(3)] + ["nobody"]),
    st.sampled_from(("lan", "minh")),
)


@st.composite
def marks(draw: st.DrawFn) -> list[Mark]:
    """What two rules over signals say, in the order of the input log's records that caused it."""
    said: list[Mark] = []
    for k in range(draw(st.integers(0, 8))):
        fp, n = draw(st.sampled_from(FINGERPRINTS)), draw(st.integers(0, 2))
        op, rule = (
            draw(st.sampled_from(("suppress", "suppress", "release"))),
            draw(st.sampled_from(("r1", "r2"))),
        )
        said.append(marked(k, op, f"{fp}-{n}", fp, rule=rule, by=draw(st.sampled_from(("x", "y")))))
    return said


def interleave(draw: st.DrawFn, *lines: list[Any]) -> list[Any]:
    left = [list(line) for line in lines]
    out = []
    while any(left):
        out.append(draw(st.sampled_from([line for line in left if line])).pop(0))
    return out


@st.composite
def logs(draw: st.DrawFn) -> list[Item]:
    """An input log: the two judges, a worker that slept and says part of it again, operators, clock records."""
    said = draw(sources())
    merged = interleave(
        draw,
        said[0],
        said[1],
        draw(marks()),
        draw(st.lists(commands, max_size=8)),
        [None] * draw(st.integers(0, 2)),
    )
    if merged:
        begin, length = draw(st.integers(0, len(merged) - 1)), draw(st.integers(0, 10))
        at = draw(st.integers(begin, len(merged)))
        merged[at:at] = [r for r in merged[begin : begin + length] if r is not None and merged.index(r) < at]
    stamps = draw(st.lists(st.integers(0, 3 * DAY), min_size=len(merged), max_size=len(merged)))
    return [(T0 + s, r) for s, r in zip(stamps, merged, strict=True)]


def at_once(record: Signal | Mark | Command | None) -> Any:
    """The same, said in one moment of its source: nothing is forgotten."""
    return record.model_copy(update={"stamp": moment(T0)}) if isinstance(record, Signal | Mark) else record


def json(events: list[list[AlarmEvent]]) -> list[list[str]]:
    return [[e.model_dump_json() for e in es] for es in events]


@given(logs(), st.data(), st.sampled_from((1, 3, 8)))
@settings(max_examples=100, deadline=None)
def test_no_cut_shows_even_with_every_bucket_restored_at_another_offset(
    log: list[Item], data: st.DataObject, buckets: int
) -> None:
    cuts = [data.draw(st.integers(-1, len(log) - 1), label=f"bucket {b}") for b in range(buckets)]
    whole, dumps, want = Plane("log", buckets), {b: Plane("log", buckets).dump(b) for b in range(buckets)}, []
    for offset, (stamp, record) in enumerate(log):
        want.append(whole.step(offset, stamp, record))
        dumps |= {b: whole.dump(b) for b in range(buckets) if cuts[b] == offset}

    again = Plane("log", buckets)
    assert [again.load(b, dumps[b]) for b in range(buckets)] == cuts
    got = play(again, log, start=min(cuts) + 1)

    def seen(event: AlarmEvent, offset: int) -> bool:
        return cuts[lifecycle.crc32(event.alarm.fingerprint.encode()) % buckets] >= offset

    missing = [[e for e in es if not seen(e, n)] for n, es in enumerate(want)]
    assert json(got) == json(missing[min(cuts) + 1 :])
    assert [again.dump(b) for b in range(buckets)] == [whole.dump(b) for b in range(buckets)]
    assert again.counts() == whole.counts()


@given(logs())
@settings(max_examples=40, deadline=None)
def test_the_number_of_buckets_changes_when_things_are_forgotten_and_nothing_else(log: list[Item]) -> None:
    near = [(s, at_once(r)) for s, r in log]
    assert json(play(Plane("log", 1), near)) == json(play(Plane("log", 7), near))


@given(logs())
@settings(max_examples=50, deadline=None)
def test_every_signal_and_command_is_counted_once_and_every_id_given_once(log: list[Item]) -> None:
    plane = Plane("log", 3)
    events = play(plane, log)
    counts = plane.counts()
    assert min(counts.values()) >= 0
    assert sum(counts.values()) == sum(r is not None for _, r in log)
    assert counts["applied"] == sum(bool(es) for es in events)
    ids = [e.id for es in events for e in es]
    assert len(ids) == len(set(ids))


@given(logs())
@settings(max_examples=50, deadline=None)
def test_begin_and_end_alternate_and_the_history_leads_to_the_alarms(log: list[Item]) -> None:
    plane = Plane("log", 1)
    last: dict[str, Alarm] = {}
    for es in play(plane, log):
        for e in es:
            before = last.get(e.alarm.alarm_id)
            open_before = before is not None and before.active
            if e.type == "raised":
                assert not open_before
            if e.type == "cleared":
                assert open_before
            if e.type == "retracted":
                assert before is not None
                assert not before.retracted
            assert e.alarm.active == (e.alarm.end is None and not e.alarm.retracted)
            assert e.alarm.state == state_of(facts_of(e.alarm))
            assert e.alarm.suppressed == bool(e.alarm.suppressed_by)
            assert e.alarm.acked == (e.alarm.acked_by is not None) == (e.alarm.acked_at is not None)
            last[e.alarm.alarm_id] = e.alarm
    for alarm in plane.alarms():
        assert alarm == last[alarm.alarm_id]
    forgotten = set(last) - held(plane)
    assert not any(last[a].active for a in forgotten)


@given(logs())
@settings(max_examples=50, deadline=None)
def test_every_command_acknowledges_an_alarm_at_most_once(log: list[Item]) -> None:
    near = [(s, at_once(r)) for s, r in log]
    done = [
        (e.cause, e.alarm.alarm_id)
        for es in play(Plane("log", 2), near)
        for e in es
        if e.type == "acknowledged"
    ]
    assert len(done) == len(set(done))


@given(logs(), st.integers(0, 20), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_a_worker_of_any_age_may_say_again_what_was_said(log: list[Item], begin: int, length: int) -> None:
    asleep = [(s, r) for s, r in log[begin : begin + length] if isinstance(r, Signal | Mark)]
    plane = Plane("log", 2)
    play(plane, log)
    before, repeated = list(plane.alarms()), plane.counts()["repeated"]
    for n, (stamp, record) in enumerate(asleep):
        assert plane.step(len(log) + n, stamp + 9 * DAY, record) == []
    assert list(plane.alarms()) == before
    assert plane.counts()["repeated"] == repeated + len(asleep)


@given(sources(), st.data())
@settings(max_examples=40, deadline=None)
def test_how_the_partitions_are_interleaved_does_not_matter(
    said: dict[int, list[Signal]], data: st.DataObject
) -> None:
    def history(*lines: list[Signal]) -> dict[str, list[Any]]:
        told: dict[str, list[Any]] = {fp: [] for fp in FINGERPRINTS}
        log: list[Item] = [(T0, r) for r in interleave(data.draw, *lines)]
        for es in play(Plane("log", 2), log):
            for e in es:
                told[e.alarm.fingerprint].append((e.type, e.alarm.model_copy(update={"position": 0})))
        return told

    assert history(said[0], said[1]) == history(said[1], said[0])


@given(sources(jump_h=0), st.data())
@settings(max_examples=40, deadline=None)
def test_the_order_of_signals_of_different_fingerprints_does_not_matter(
    said: dict[int, list[Signal]], data: st.DataObject
) -> None:
    every = [s for line in said.values() for s in line]
    lines = [[s for s in every if s.fingerprint == fp] for fp in FINGERPRINTS]

    def history(log: list[Signal]) -> dict[str, list[Any]]:
        told: dict[str, list[Any]] = {fp: [] for fp in FINGERPRINTS}
        for es in play(Plane("log", 2), [(T0, r) for r in log]):
            for e in es:
                told[e.alarm.fingerprint].append((e.type, e.alarm.model_copy(update={"position": 0})))
        return told

    assert history(every) == history(interleave(data.draw, *lines))


def test_the_id_of_an_entry_is_a_function_of_its_place() -> None:
    assert [e.id for e in Plane("log").step(7, T0, signal(3, **ended(1)))] == [
        str(lifecycle.uuid5(lifecycle.NAMESPACE, f"log/city.alarm.input.v1/0/7/{n}")) for n in (0, 1)
    ]
    assert Plane("x").step(7, T0, signal(3))[0].id != Plane("y").step(7, T0, signal(3))[0].id


def test_stamps_are_read_to_the_microsecond() -> None:
    plane = Plane("log")
    (event,) = plane.step(0, T0 + 1, signal(0))
    assert micros(event.at) == T0 + 1
