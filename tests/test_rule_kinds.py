"""Every kind of rule at its edges, as an operator would write it down; and what no notation can say."""

from __future__ import annotations

from pathlib import Path

import pytest
from rule_judge import judge as fold

from models.base import Place, micros, moment
from models.catalogue import event_of
from models.traffic import TrafficFlow
from rules import load
from rules.expecting import START
from rules.expr import fixed
from rules.judge import Judge
from rules.machine import INF
from rules.program import compile_program
from rules.proof import interval_judge
from rules.spec import RuleSet
from rules.testing import parse_tests, run

CASES = parse_tests(Path(__file__).parent / "cases" / "rules" / "kinds.yaml")
SHIPPED = Path(load.__file__).parent
MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.rule.id}: {c.name}")
def test_a_kind_does_what_its_case_says(case):
    assert run(case, interval_judge) == []
    assert run(case, fold) == []


# --- what is strange to a series: weeks of samples are more than a line of YAML -----------------------------------------


def strange(**more):
    return RuleSet.model_validate(
        {
            "rules": [
                {
                    "id": "strange",
                    "kind": "baseline",
                    "on": "city.traffic.flow.v1",
                    "by": ["segment_id"],
                    "of": "speed_kmh",
                    "least": 5,
                    "keep": "30m",
                    **more,
                }
            ]
        }
    )


def flows(values, start=START, step=10 * MINUTE):
    return [
        TrafficFlow.model_validate(
            {
                "event_id": f"e{n}",
                "source_id": "s",
                "observed_at": moment(start + n * step),
                "segment_id": "a",
                "speed_kmh": value,
            }
        )
        for n, value in enumerate(values)
    ]


QUIET = [50 + (n % 7) - 3 for n in range(300)]


def test_a_value_that_is_strange_to_its_series_is_an_advisory_that_may_be_wrong():
    events = flows([*QUIET, 2, 50, 51])
    end = START + 310 * 10 * MINUTE
    (found,) = interval_judge(strange(), events, end)
    at = START + 300 * 10 * MINUTE
    assert (found.start_us, found.end_us, found.priority) == (at, at + 30 * MINUTE, "advisory")
    assert strange().rules[0].certainty == "Possible"
    assert interval_judge(strange(least=60), events, end) == [], "a difference that does not matter"
    assert interval_judge(strange(where="speed_kmh > 5"), events, end) == []


def test_a_baseline_is_never_more_than_an_advisory():
    for wish in ({"priority": "P1"}, {"certainty": "Observed"}, {"raise": 0.3}):
        with pytest.raises(ValueError, match=r"advisory|Possible|0\.5"):
            strange(**wish)


def test_what_a_series_usually_does_outlives_a_change_of_the_bound():
    rules = [strange(), strange(**{"raise": 0.7}), strange(least=6)]
    programs = [compile_program(r, n, TrafficFlow) for n, r in enumerate(rules)]
    state = programs[0].initial("a", None)
    for n, value in enumerate(QUIET):
        state = programs[0].feed(state, (START + n, f"{n}", "", n, 0, 0, (None, value, *(None,) * 9)), [])
    ((known, _),) = state
    assert programs[1].take_over(programs[0], state, START + 999, "a", []) == ((known, None),)
    assert programs[2].take_over(programs[0], state, START + 999, "a", []) == (None,), "another measure"


def test_a_series_that_says_nothing_for_two_months_is_forgotten():
    judge = Judge(TrafficFlow, 0, "test", whole=True)
    judge.control(0, START, START, compile_program(strange(), 0, TrafficFlow))
    judge.event(1, START, flows([50])[0], 1)
    judge.pass_by(2, START + 59 * DAY)
    judge.dump(0), [judge.dump(n) for n in range(judge.buckets)]
    assert judge.size() == 1
    judge.pass_by(3, START + 61 * DAY)
    [judge.dump(n) for n in range(judge.buckets)]
    assert judge.size() == 0


# --- planned maintenance ------------------------------------------------------------------------------------------------

JAM = {
    "id": "jam",
    "kind": "threshold",
    "on": "city.traffic.flow.v1",
    "by": ["segment_id"],
    "levels": [{"priority": "P3", "raise": "speed_kmh < 10", "clear": "speed_kmh > 20", "for": "0s"}],
}
SILENT = {
    "id": "silent",
    "kind": "absence",
    "on": "city.traffic.flow.v1",
    "by": ["segment_id"],
    "after": "30m",
    "priority": "P4",
}


def maintained(*spans):
    """The sensor `a`, out of service from and to so many minutes after the beginning."""
    return RuleSet.model_validate(
        {
            "rules": [JAM, SILENT],
            "registry": {
                "sensors": [
                    {
                        "topic": "city.traffic.flow.v1",
                        "key": "a",
                        "every": "10m",
                        "maintenance": [
                            {
                                "from": moment(START + a * MINUTE).isoformat(),
                                "to": moment(START + b * MINUTE).isoformat(),
                                "why": "new loop",
                            }
                            for a, b in spans
                        ],
                    }
                ]
            },
        }
    )


def found(rules, values, until):
    judged = interval_judge(rules, flows(values), START + until * MINUTE)
    return sorted(
        (i.rule, (i.start_us - START) // MINUTE, i.end_us and (i.end_us - START) // MINUTE) for i in judged
    )


def test_what_a_sensor_says_while_it_is_out_of_service_is_not_judged():
    assert found(maintained((25, 65)), [50, 50, 50, 5, 5, 5, 5, 50, 50], 90) == []
    assert found(maintained(), [50, 50, 50, 5, 5, 5, 5, 50, 50], 90) == [("jam", 30, 70)]


def test_an_alarm_ends_where_the_maintenance_begins_and_comes_back_if_it_still_holds():
    assert found(maintained((25, 65)), [5] * 9, 85) == [("jam", 0, 25), ("jam", 70, None)]


def test_nobody_misses_a_sensor_in_maintenance_and_listening_begins_anew():
    assert found(maintained((20, 100)), [50, 50], 140) == [("silent", 130, None)]
    assert found(maintained(), [50, 50], 140) == [("silent", 40, None)]


def switched(before, after, values, at, until):
    """The ledger where `after` comes in force so many minutes after the beginning."""
    judge = Judge(TrafficFlow, 0, "test", whole=True)
    standing = {}

    def take(signals):
        for s in signals:
            standing[s.alarm_id] = s

    take(judge.control(0, START, START, compile_program(before, 0, TrafficFlow)))
    events, told, offset = flows(values), False, 0
    for event in events:
        offset += 1
        if not told and event.at >= START + at * MINUTE:
            take(judge.control(offset, START + at * MINUTE, 0, compile_program(after, 1, TrafficFlow)))
            told, offset = True, offset + 1
        take(judge.event(offset, event.at, event, offset))
    take(judge.pass_by(offset + 1, START + until * MINUTE))
    return sorted(
        (s.rule, (micros(s.start) - START) // MINUTE, s.end and (micros(s.end) - START) // MINUTE)
        for s in standing.values()
        if s.op == "put"
    )


def test_planning_a_maintenance_ends_no_alarm_before_it_begins():
    values = [50, 5, 5, 5, 5, 5, 5, 5, 5]
    assert switched(maintained(), maintained((60, 70)), values, 35, 100) == [
        ("jam", 10, 60),
        ("jam", 70, None),
    ]


def test_a_maintenance_that_is_called_off_changes_nothing_of_what_stands():
    values = [50, 5, 5, 5, 5, 5, 5, 5, 5]
    assert switched(maintained((60, 70)), maintained(), values, 35, 85) == [("jam", 10, None)]


def test_an_alarm_that_stands_when_a_maintenance_is_told_of_that_has_begun_ends_then():
    values = [50, 5, 5, 5, 5, 5, 5, 5, 5]
    assert switched(maintained(), maintained((20, 55)), values, 35, 70) == [
        ("jam", 10, 35),
        ("jam", 60, None),
    ]


# --- the law of time ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.rule.id}: {c.name}")
@pytest.mark.parametrize("step", [MINUTE, 7 * MINUTE])
def test_looking_at_the_clock_more_often_changes_nothing(case, step):
    program = compile_program(case.rules(), 0, event_of(case.rule.on))
    (kind,) = program.kinds
    every = next(iter(program.subjects.values()), MINUTE)
    state = often = kind.initial(START, every) if program.subjects else None
    closed, closed_often = [], []
    until = case.until()
    for t in range(START, until, step):
        often = kind.expire(often, t, closed_often)
        assert kind.due(often) > t
    state = kind.expire(state, until, closed)
    often = kind.expire(often, until, closed_often)
    assert (state, closed) == (often, closed_often)
    assert kind.due(state) <= INF


# --- rules for some subjects alone ----------------------------------------------------------------------------------------


def jams(*wheres):
    return RuleSet.model_validate(
        {"rules": [{**JAM, "id": f"jam-{n}", **({"where": w} if w else {})} for n, w in enumerate(wheres)]}
    )


def test_a_rule_for_one_subject_is_not_asked_about_another():
    program = compile_program(
        jams(None, "segment_id == 'a'", "speed_kmh > 1 and segment_id in ('b', 'c')", "ward == 'w'"),
        0,
        TrafficFlow,
    )
    assert [e.id for e in program.of("a").entries] == ["jam-0", "jam-1", "jam-3"]
    assert [e.id for e in program.of("b").entries] == ["jam-0", "jam-2", "jam-3"]
    assert program.of("x") is program.of("y")
    assert [e.id for e in program.of("x").entries] == ["jam-0", "jam-3"]


def test_subjects_with_rules_of_their_own_share_the_registry_and_those_with_the_same_rules_the_program():
    sensors = [{"topic": "city.traffic.flow.v1", "key": k, "every": "1m"} for k in "abcx"]
    rules = jams(None, "segment_id == 'a'", "segment_id in ('b', 'c')").model_dump(mode="json", by_alias=True)
    whole = RuleSet.model_validate(rules | {"registry": {"sensors": sensors}})
    program = compile_program(whole, 0, TrafficFlow)
    assert program.of("b") is program.of("c") is not program.of("a")
    assert program.of("a") is program.of("a")
    assert all(program.of(k).sensors is program.sensors for k in "abcx")


def test_a_rule_for_one_subject_judges_it_as_a_rule_for_all_would():
    told = interval_judge(jams("segment_id == 'a'"), flows([5, 5, 50]), START + HOUR)
    assert [(i.rule, i.start_us, i.end_us) for i in told] == [("jam-0", START, START + 20 * MINUTE)]
    assert interval_judge(jams("segment_id == 'b'"), flows([5, 5, 50]), START + HOUR) == []


def test_an_event_that_loses_its_word_neither_ends_an_alarm_nor_is_looked_at():
    """The rule looks at ward w alone; the same segment may say another ward, or none."""
    rules = jams("ward == 'w'")
    events = [
        e.model_copy(update={"place": None if ward is None else Place(ward=ward)})
        for e, ward in zip(flows([5, 50, 50, 50]), ["w", "other", None, "w"], strict=True)
    ]
    (told,) = interval_judge(rules, events, START + HOUR)
    assert (told.start_us, told.end_us) == (START, START + 30 * MINUTE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ward == 'w'", {"ward": {"w"}}),
        ("'w' == ward and speed_kmh > 3", {"ward": {"w"}}),
        ("ward in ('v', 'w') and ward != 'v'", {"ward": {"v", "w"}}),
        ("ward == 'v' and ward == 'w'", {"ward": set()}),
        ("ward == 'w' or speed_kmh > 3", {}),
        ("not ward == 'w'", {}),
        ("speed_kmh == 3", {}),
    ],
)
def test_what_a_condition_fixes(text, words):
    assert fixed(text) == words


# --- what is due --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"at": "due_at", "keep": "1h"}, "no keep"),
        ({"at": "due_at", "clear": None}, "over when clear holds"),
        ({"at": "status"}, "no moment status; it has requested_at, due_at"),
        ({"before": "1h"}, "before what"),
    ],
)
def test_a_deadline_that_could_not_end_or_has_no_moment_is_refused(said, why):
    rule = {
        "id": "due",
        "kind": "event",
        "on": "city.citizen.report.v1",
        "by": ["report_id"],
        "priority": "P4",
        "raise": "status == 'open'",
        "clear": "status == 'closed'",
    }
    RuleSet.model_validate({"rules": [rule | {"at": "due_at", "before": "24h"}]})
    with pytest.raises(ValueError, match=why):
        RuleSet.model_validate({"rules": [rule | said]})


def test_a_deadline_outlives_a_restart_while_its_report_may_still_be_folded_again():
    (case,) = (c for c in parse_tests(SHIPPED / "citizen.yaml") if c.name.startswith("a date that is moved"))
    program = compile_program(case.rules(), 0, case.rule.event)
    whole, cut = ({}, {})
    for ledger, restarts in ((whole, False), (cut, True)):
        judge = Judge(case.rule.event, 0, "test", whole=True)
        signals = judge.control(0, START, START, program)
        offset = 1
        for event in case.events():
            signals += judge.event(offset, event.at, event, offset)
            offset += 1
            if restarts:
                blobs = [judge.dump(n) for n in range(judge.buckets)]
                judge = Judge(case.rule.event, 0, "test", whole=True)
                judge.programs[0] = program
                for n, blob in enumerate(blobs):
                    judge.load(n, blob)
            # Out of order: the series is folded again from what was saved.
            again = event.model_copy(update={"event_id": f"{event.event_id}-again", "revision": 0})
            signals += judge.event(offset, event.at, again, offset)
            offset += 1
        signals += judge.pass_by(offset, case.until())
        ledger.update({s.alarm_id: s.model_dump_json() for s in signals})
    assert whole == cut
