"""Lint of the further kinds, of bounds and units: what can never be, what goes not together, what nobody uses."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import event_of
from rules.lint import lint
from rules.possible import (
    ALWAYS,
    BOTH,
    NEVER,
    Range,
    mismatches,
    outcomes,
    ranges_of,
    unit_of,
    values_at_most,
)
from rules.spec import RuleSet

FLOW, AIR, ROOM = "city.traffic.flow.v1", "city.environment.air.v1", "city.school.room_air.v1"
CAMERA = "city.camera.event.v1"
WORDS = {"title": {"vi": "Chữ", "en": "Words"}, "instruction": {"vi": "Xem.", "en": "Look."}}
BY = {FLOW: "segment_id", AIR: "station_id", ROOM: "room_id", CAMERA: "camera_id"}


def rule(kind, on=FLOW, **more):
    return {"id": "r", "kind": kind, "on": on, "by": [BY[on]], **WORDS, **more}


def level(raise_, clear=None, **more):
    return {
        "priority": "P3",
        "raise": raise_,
        "for": "5m",
        **({"clear": clear} if clear else {"keep": "5m"}),
        **more,
    }


def said(*rules, sensors=(), notes=False, **parts):
    """What lint says of a set, but for the tests that it has not."""
    found = RuleSet.model_validate({"rules": rules, "registry": {"sensors": list(sensors)}, **parts})
    return [f.message for f in lint(found, []) if f.note == notes and not f.message.startswith("no test")]


def every(step, on=FLOW, n=1, **more):
    return [{"topic": on, "key": f"s{i}", "every": step, **more} for i in range(n)]


# --- what a condition can answer


RANGES = {"a": Range(0, 10), "b": Range(-5, 5)}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a > 10", NEVER),
        ("a >= 10", BOTH),
        ("a >= 0", ALWAYS),
        ("a > 0", BOTH),
        ("10 < a", NEVER),
        ("-1 < a < 11", ALWAYS),
        ("a < 5 and b > 5", NEVER),
        ("a < 5 or b > 5", BOTH),
        ("a >= 0 or b > 5", ALWAYS),
        ("not a > 10", ALWAYS),
        ("c > 99999", BOTH),
        ("a > b", BOTH),
        ("a == 11", BOTH),
        ("a is None", BOTH),
        ("a + b > 100", BOTH),
    ],
)
def test_what_a_condition_can_answer_follows_from_the_bounds(text, answer):
    assert outcomes(text, RANGES) == answer


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["<", "<=", ">", ">="]), st.integers(-12, 12)),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([" and ", " or "]),
    st.booleans(),
)
def test_nothing_is_called_impossible_that_some_values_answer(parts, word, negated):
    text = word.join(f"{name} {op} {number}" for name, op, number in parts)
    text = f"not ({text})" if negated else text
    halves = [n / 2 for n in range(-10, 21)]
    code = compile(text, "<test>", "eval")
    answers = {
        eval(code, {"a": a, "b": b})
        for a, b in itertools.product(
            [v for v in halves if 0 <= v <= 10], [v for v in halves if -5 <= v <= 5]
        )
    }
    assert answers <= outcomes(text, RANGES)


def test_ranges_are_those_of_the_models():
    assert ranges_of(event_of(FLOW))["speed_kmh"] == Range(0, 300)
    assert ranges_of(event_of(FLOW))["lat"] == Range(-90, 90)
    assert "segment_id" not in ranges_of(event_of(FLOW))
    assert values_at_most(event_of(CAMERA), "kind") == 13
    assert values_at_most(event_of(CAMERA), "camera_id") is None


# --- bounds, in a rule


def test_a_level_beyond_what_the_field_can_be_is_never_raised_and_one_below_always():
    assert said(rule("threshold", levels=[level("speed_kmh > 300", "speed_kmh < 200")])) == [
        "P3 raise: speed_kmh > 300 never holds, by the bounds of its fields"
    ]
    assert said(rule("threshold", levels=[level("speed_kmh >= 0", "speed_kmh < 0")])) == [
        "P3 clear: speed_kmh < 0 never holds, by the bounds of its fields",
        "P3 raise: speed_kmh >= 0 always holds, by the bounds of its fields",
    ]
    assert said(rule("threshold", where="lat > 91", levels=[level("speed_kmh < 9", "speed_kmh > 20")])) == [
        "where: lat > 91 never holds, by the bounds of its fields"
    ]


def test_a_ratio_is_a_part_of_one_and_total_is_never_less_than_least():
    def ratio(raise_):
        return said(rule("ratio", of="speed_kmh < 9", window="10m", least=5, levels=[level(raise_)]))

    assert ratio("ratio > 30") == ["P3 raise: ratio > 30 never holds, by the bounds of its fields"]
    assert ratio("total >= 5") == ["P3 raise: total >= 5 always holds, by the bounds of its fields"]
    assert ratio("ratio > 0.3") == []


def test_more_different_values_than_there_are_is_never():
    def distinct(n):
        levels = [{"priority": "P3", "raise": f"distinct >= {n}", "keep": "5m"}]
        return said(rule("distinct", CAMERA, of="kind", window="10m", levels=levels))

    assert distinct(14) == ["P3 is never raised: distinct >= 14, and there are 13 values at all"]
    assert distinct(13) == []


def test_a_level_of_a_count_that_a_worse_one_hides_is_found():
    levels = [
        {"priority": "P2", "raise": "count >= 5", "keep": "5m"},
        {"priority": "P3", "raise": "count >= 5", "keep": "5m"},
    ]
    assert said(rule("count", CAMERA, window="10m", levels=levels)) == [
        "P3 is never seen: where count >= 5, P2 (count >= 5) holds as well"
    ]


def test_more_within_a_window_than_a_sensor_says_is_never():
    levels = [{"priority": "P3", "raise": "count >= 5", "keep": "5m"}]
    counted = rule("count", window="10m", where="speed_kmh < 9", levels=levels)
    assert said(counted, sensors=every("5m")) == [
        "P3: 5 within 10m: s0, the fastest, speaks every 5m and has never so many"
    ]
    assert said(counted, sensors=every("2m")) == []
    ratio = rule("ratio", of="speed_kmh < 9", window="10m", least=5, levels=[level("ratio > 0.5")])
    assert said(ratio, sensors=every("5m")) == [
        "least 5 within 10m: s0, the fastest, speaks every 5m and has never so many"
    ]


def test_a_rate_over_less_than_two_values_is_found_and_levels_of_every_kind_need_an_end():
    rate = rule("rate", of="speed_kmh", over="5m", levels=[level("rate < -30")])
    assert said(rate, sensors=every("10m")) == [
        "over 5m: s0, the fastest, speaks every 10m, and a rate needs two values"
    ]
    assert said(rate, sensors=every("1m")) == []
    endless = {"priority": "P3", "raise": "rate < -30"}
    assert said(rule("rate", of="speed_kmh", over="5m", levels=[endless])) == [
        "P3: neither clear nor keep: a value around the bound raises again and again"
    ]
    assert said(rule("count", CAMERA, window="5m", levels=[{"priority": "P3", "raise": "count >= 3"}])) == [
        "P3: neither clear nor keep: a value around the bound raises again and again"
    ]


def test_one_sample_of_a_sensor_that_speaks_all_the_time_is_worth_a_note():
    noisy = rule("threshold", levels=[level("speed_kmh < 9", "speed_kmh > 20", **{"for": "0s"})])
    assert said(noisy, sensors=every("10s"), notes=True) == [
        "P3: for: 0s, and s0 speaks every 10s: noise raises it"
    ]
    assert said(noisy, sensors=every("10s")) == []
    assert said(noisy, sensors=every("5m"), notes=True) == []


# --- units


def test_a_unit_is_the_end_of_a_name():
    assert [unit_of(n) for n in ("speed_kmh", "pm25_ugm3", "level_m", "killed", "m", "spot_id")] == [
        "kmh", "ugm3", "m", None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("level_m > discharge_m3s", ["level_m is in m and discharge_m3s in m3s"]),
        ("level_m - discharge_m3s > 3", ["level_m is in m and discharge_m3s in m3s"]),
        ("max(pm25_ugm3, co2_ppm) > 3", ["pm25_ugm3 is in ugm3 and co2_ppm in ppm"]),
        ("pm25_ugm3 > pm10_ugm3", []),
        ("discharge_m3s / level_m > 3", []),
        ("beds_occupied > level_m", []),
        ("occupancy_pct > 0.8", ["occupancy_pct is in per cent: 0.8 is 0.8 %; 80 would be 80 %"]),
        ("0.8 < occupancy_pct", ["occupancy_pct is in per cent: 0.8 is 0.8 %; 80 would be 80 %"]),
        ("occupancy_pct > 80 and occupancy_pct < 0", []),
    ],
)
def test_what_goes_not_together_is_named_with_its_units(text, found):
    assert list(mismatches(text)) == found


def test_units_are_looked_at_in_every_condition_of_a_rule():
    mixed = rule(
        "threshold", AIR, levels=[level("pm25_ugm3 > 100", "pm25_ugm3 < 50")], where="pm25_ugm3 < pm10_ugm3"
    )
    assert said(mixed) == []
    share = rule("threshold", ROOM, levels=[level("humidity_pct > 0.9", "humidity_pct < 60")])
    assert "humidity_pct is in per cent: 0.9 is 0.9 %; 90 would be 90 %" in said(share)


# --- the further kinds


def test_a_baseline_without_the_least_that_matters_is_found():
    assert said(rule("baseline", of="speed_kmh"))[0].startswith("no least: a difference of speed_kmh")
    assert said(rule("baseline", of="speed_kmh", least=10)) == []


CALENDAR = {"id": "mornings", "weekdays": ["mon"], "times": ["06:45-08:15"]}


def test_what_is_due_after_the_window_has_closed_is_never_missed():
    due = rule("schedule", during="mornings", due="90m", priority="P4")
    parts = {"sensors": every("1d"), "calendars": [CALENDAR]}
    assert said(due, **parts) == ["due 90m: no window of mornings is so long"]
    assert said({**due, "due": "89m"}, **parts) == []
    assert said(due | {"due": "1h"}, calendars=[CALENDAR]) == [
        f"nothing on {FLOW} is in the registry: nobody is missed"
    ]


def test_a_calendar_that_is_never_open_and_one_that_nobody_uses_are_found():
    fine = rule("threshold", levels=[level("speed_kmh < 9", "speed_kmh > 20")])
    assert said(fine, calendars=[CALENDAR]) == ["no rule and no calendar uses it"]
    shut = {"id": "shut", "times": ["06:45-08:15"], "except": ["mornings"], "weekdays": ["mon"]}
    assert said(fine | {"during": "shut"}, calendars=[CALENDAR, shut]) == ["during shut, which is never open"]
    past = {"id": "holidays", "dates": ["2025-01-01"]}
    assert said(fine | {"during": "holidays"}, calendars=[past]) == []  # what is over may come again


def test_a_rule_that_tells_nobody_and_is_read_by_none_is_found():
    quiet = rule("threshold", levels=[level("speed_kmh < 9", "speed_kmh > 20")], tell=False)
    assert said(quiet) == ["tell: false, and no rule over signals reads it: it is for nobody"]
    both = {"id": "w", "kind": "area", "of": ["r"], "by": "ward", "least": 2, "priority": "P3", **WORDS}
    assert said(quiet, wide=[both]) == []


# --- over signals


def test_so_many_of_a_gateway_as_it_never_has_are_found():
    silent = rule("absence", misses=3, priority="P4")
    root = {"id": "w", "kind": "root", "of": ["r"], "by": "gateway", "priority": "P2", **WORDS}
    assert said(silent, wide=[root], sensors=every("1m", n=3)) == [
        f"by gateway, and no sensor on {FLOW} has one in the registry"
    ]
    assert said(silent, wide=[root], sensors=every("1m", n=2, gateway="g")) == [
        "least 3: the largest gateway, g, has 2 sensors"
    ]
    assert said(silent, wide=[root], sensors=every("1m", n=3, gateway="g")) == []


def test_more_classes_than_rules_and_labels_that_are_none_are_found():
    one = rule("threshold", levels=[level("speed_kmh < 9", "speed_kmh > 20")])
    two, three = ({**rule("baseline", of="speed_kmh", least=9), "id": name} for name in ("b", "c"))
    both = {"id": "w", "kind": "correlate", "of": ["r", "b", "c"], "classes": 3, "priority": "P3", **WORDS}
    assert said(one, two, three, wide=[both]) == ["classes 3: of is of 2 (all baselines are one)"]
    inhibit = {"id": "w", "kind": "inhibit", "source": ["r"], "target": ["b"], "equal": ["ward"], **WORDS}
    assert said(one, two, wide=[inhibit]) == ["equal: ward is no label of b, r"]


def test_a_rule_over_signals_needs_words_and_tests_too():
    one = rule("threshold", levels=[level("speed_kmh < 9", "speed_kmh > 20")])
    root = {"id": "w", "kind": "area", "of": ["r"], "by": "ward", "least": 2, "priority": "P1"}
    found = RuleSet.model_validate({"rules": [one], "wide": [root]})
    assert [f.message for f in lint(found, []) if f.rule == "w"] == [
        "P1 without an instruction: what is the operator to do?",
        "no test: show when it raises and what does not raise it",
        "no title in Vietnamese and English: the operator sees its id",
    ]
