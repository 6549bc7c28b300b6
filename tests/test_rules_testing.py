"""Tests of rules' tests: the notation makes the events it says, and a difference is told readably."""

import pytest
from rule_judge import judge

from rules.expecting import START
from rules.load import RulesError
from rules.spec import Interval
from rules.testing import parse_tests, run

HEAD = """\
rules:
- id: road-jammed
  kind: threshold
  on: city.traffic.flow.v1
  by: [segment_id]
  levels:
  - {priority: P3, raise: "speed_kmh < 10", clear: "speed_kmh > 20", for: 2m}
tests:
"""
MINUTE = 60_000_000


@pytest.fixture
def tests(tmp_path):
    def tests(text, head=HEAD):
        path = tmp_path / "a.yaml"
        path.write_text(head + text)
        return parse_tests(path)

    return tests


def seen(test, *names):
    return [((e.at - START) // MINUTE, *(getattr(e, n) for n in names)) for e in test.events()]


def test_nxm_is_m_samples_of_n_and_an_underscore_is_none(tests):
    [test] = tests("- {name: a, series: {segment_id: s, speed_kmh: '60x2 9.5 _x2 null 7 @1m'}, expect: []}")
    assert seen(test, "speed_kmh") == [(0, 60.0), (1, 60.0), (2, 9.5), (5, None), (6, 7.0)]
    assert test.events()[0].segment_id == "s"


def test_a_key_that_is_not_named_is_filled_in(tests):
    [test] = tests("- {name: a, series: {speed_kmh: 5}, expect: []}")
    assert seen(test, "segment_id", "speed_kmh") == [(0, "segment-1", 5.0)]


def test_several_fields_vary_together_and_a_place_is_a_place(tests):
    [test] = tests(
        "- {name: a, series: {speed_kmh: '6x2 _ @1m', occupancy_pct: '_ 80 _ @1m', ward: W, quality: suspect}, expect: []}"
    )
    assert seen(test, "speed_kmh", "occupancy_pct") == [(0, 6.0, None), (1, 6.0, 80.0)]
    assert (test.events()[0].place.ward, test.events()[0].quality) == ("W", "suspect")


def test_several_series_run_side_by_side_in_order_of_time(tests):
    [test] = tests(
        "- {name: a, series: [{segment_id: s, speed_kmh: '6x2 @2m'}, {segment_id: t, at: 1m, speed_kmh: 9}], expect: []}"
    )
    assert seen(test, "segment_id") == [(0, "s"), (1, "t"), (2, "s")]
    assert len({e.event_id for e in test.events()}) == 3


def test_the_clock_runs_on_after_the_last_event(tests):
    one, other = tests(
        "- {name: a, series: {speed_kmh: '6x3 @1m'}, expect: []}\n- {name: b, until: 5m, series: {speed_kmh: 6}, expect: []}"
    )
    assert one.until() == START + 62 * MINUTE
    assert other.until() == START + 5 * MINUTE


@pytest.mark.parametrize(
    ("test", "why"),
    [
        (
            "- {name: a, series: {sped: 3}, expect: []}",
            "a.yaml:9: city.traffic.flow.v1 has no field sped; it has segment_id",
        ),
        (
            "- {name: a, series: {speed_kmh: fast}, expect: []}",
            "a.yaml:9: speed_kmh: Input should be a valid number",
        ),
        (
            "- name: a\n  series:\n    speed_kmh: -3\n  expect: []",
            "a.yaml:11: speed_kmh: Input should be greater than",
        ),
        ("- {name: a, series: {speed_kmh: '6x99999 @1m'}, expect: []}", "more than 20000 samples"),
        ("- {name: a, series: {speed_kmh: '6 @0s'}, expect: []}", "the step must be longer than nothing"),
        (
            "- {name: a, series: {speed_kmh: '6x2 @1m', occupancy_pct: '6x3 @1m'}, expect: []}",
            "one @step and one length; speed_kmh has 2, occupancy_pct has 3",
        ),
        ("- {name: a, series: {speed_kmh: 6, at: soon}, expect: []}", "'soon' is no duration"),
        ("- {name: a, events: [{speed_kmh: 6}], expect: []}", "an event says when"),
        ("- {name: a, rule: other, series: {}, expect: []}", "one of the rules of this file (road-jammed)"),
        ("- {name: a, series: {}}", "a.yaml:9: expect is missing"),
        ("- {name: a, series: {}, expect: [{start: 5}]}", "5 has no unit"),
        (
            "- {name: a, series: {}, sensors: [{key: a/b, every: 1m}], expect: []}",
            "the key of city.traffic.flow.v1",
        ),
    ],
)
def test_a_test_that_cannot_be_run_is_refused_at_its_line(tests, test, why):
    with pytest.raises(RulesError) as error:
        tests(test)
    assert why in str(error.value)


def test_a_rule_is_named_only_where_a_file_has_several(tests):
    assert tests("- {name: a, series: {}, expect: []}")[0].rule.id == "road-jammed"
    with pytest.raises(RulesError, match="there is none"):
        tests("- {name: a, series: {}, expect: []}", head="tests:\n")


def test_what_is_as_expected_is_no_difference(tests):
    [test] = tests(
        "- {name: a, series: {speed_kmh: '30 6x5 30 @1m'}, expect: [{start: 3m, end: 6m, priority: P3, peak: 6}]}"
    )
    assert run(test, judge) == []


@pytest.mark.parametrize(
    ("expect", "difference"),
    [
        ("[]", "expected nothing more, found 3m to 6m P3 peak 6 segment_id=segment-1"),
        ("[{start: 3m}]", "expected 3m to still raised, found 3m to 6m P3 peak 6 segment_id=segment-1"),
        (
            "[{start: 3m, end: 7m, priority: P3}]",
            "expected 3m to 7m P3, found 3m to 6m P3 peak 6 segment_id=segment-1",
        ),
        (
            "[{start: 3m, end: 6m, peak: 5}]",
            "expected 3m to 6m peak 5, found 3m to 6m P3 peak 6 segment_id=segment-1",
        ),
        (
            "[{start: 3m, end: 6m, labels: {segment_id: x}}]",
            "expected 3m to 6m segment_id=x, found 3m to 6m P3 peak 6 segment_id=segment-1",
        ),
        ("[{start: 3m, end: 6m}, {start: 9m}]", "expected 9m to still raised, found none"),
    ],
)
def test_a_difference_is_told(tests, expect, difference):
    [test] = tests(f"- {{name: a, series: {{speed_kmh: '30 6x5 30 @1m'}}, expect: {expect}}}")
    assert run(test, judge) == [difference]


def test_an_alarm_that_still_stands_is_told_so(tests):
    [test] = tests("- {name: a, series: {}, expect: []}")
    found = Interval("road-jammed", (("segment_id", "s"),), START, None, "P3")
    assert run(test, lambda *_: [found]) == [
        "expected nothing more, found 0s to still raised P3 segment_id=s"
    ]


def test_only_the_rule_and_the_named_subjects_are_in_force(tests):
    head = HEAD.replace("tests:", "") + (
        "- {id: silent, kind: absence, on: city.traffic.flow.v1, by: [segment_id], misses: 3, priority: P4}\ntests:\n"
    )
    heard, named = tests(
        "- {name: a, rule: silent, series: {segment_id: s, speed_kmh: '6x3 @2m'}, expect: []}\n"
        "- {name: b, rule: silent, sensors: [{key: t, every: 5m}], series: {speed_kmh: 6}, expect: []}\n",
        head,
    )
    assert [(s.key, s.every) for s in heard.rules().registry.sensors] == [("s", "2m")]
    assert [(s.key, s.every) for s in named.rules().registry.sensors] == [("t", "5m")]
    assert [r.id for r in heard.rules().rules] == ["silent"]
