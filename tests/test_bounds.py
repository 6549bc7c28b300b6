"""What of a rule can be drawn: its fields, and the numbers it compares them with."""

import pytest

from rules import load
from rules.bounds import Bound, bounds_of, comparisons, fields_of

RULES = {rule.id: rule for rule in load.default().rules}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a > 3", [("a", ">", 3.0)]),
        ("3 < a", [("a", ">", 3.0)]),
        ("-1.5 <= a < 4", [("a", ">=", -1.5), ("a", "<", 4.0)]),
        ("a < 1 and (b >= 2 or not c == 0)", [("a", "<", 1.0), ("b", ">=", 2.0), ("c", "==", 0.0)]),
        ("a > b", []),
        ("a / b > 0.9", []),
        ("kind == 'fire'", []),
        ("open == True", []),
        ("a is None", []),
        ("a in (1, 2)", []),
        ("a >\n 3", [("a", ">", 3.0)]),
    ],
)
def test_a_bound_is_a_field_against_a_number(text, found):
    assert sorted(comparisons(text)) == sorted(found)


def test_a_threshold_is_drawn_with_the_bounds_of_all_its_levels():
    rule = RULES["water-high"]
    assert fields_of(rule) == ("level_m",)
    assert bounds_of(rule) == (
        Bound("level_m", ">=", 4.5, "P2", "raise"),
        Bound("level_m", "<", 4.3, "P2", "clear"),
        Bound("level_m", ">=", 4.1, "P3", "raise"),
        Bound("level_m", "<", 4.0, "P3", "clear"),
    )


def test_only_what_raises_and_clears_is_drawn_and_not_where_it_applies():
    assert fields_of(RULES["crowd-dense"]) == ("count",)


def test_of_an_absence_some_values_that_are_missed_are_drawn_without_bounds():
    assert fields_of(RULES["road-detector-silent"]) == ("speed_kmh", "intensity_vehh", "occupancy_pct")
    assert bounds_of(RULES["road-detector-silent"]) == ()


def test_events_have_no_line():
    assert fields_of(RULES["incident-grave"]) == ()
    assert bounds_of(RULES["incident-grave"]) == ()


def test_every_bound_of_our_rules_is_of_a_field_that_is_drawn():
    for rule in RULES.values():
        assert {b.field for b in bounds_of(rule)} <= set(fields_of(rule))
