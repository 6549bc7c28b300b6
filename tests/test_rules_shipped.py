"""The rules that come with citywatch pass the tests beside them, and say all that an operator needs."""

from pathlib import Path

import pytest
from rule_judge import judge

import rules
from models.catalogue import topics
from rules.load import default
from rules.testing import parse_tests, run

TESTS = parse_tests(Path(rules.__file__).parent)


@pytest.mark.parametrize("test", TESTS, ids=lambda t: f"{t.rule.id}: {t.name}")
def test_a_shipped_rule_does_what_its_test_says(test):
    assert run(test, judge) == []


@pytest.mark.parametrize("rule", default().rules, ids=lambda r: r.id)
def test_an_operator_is_told_what_and_what_to_do_in_both_languages(rule):
    assert rule.instruction is not None
    assert rule.title.vi != rule.title.en
    assert rule.category != "Other"


def test_each_of_the_six_domains_has_a_rule():
    named = {rule.on.split(".")[1] for rule in default().rules}
    assert named == {topic.split(".")[1] for topic in topics()} >= {
        "traffic", "camera", "hospital", "school", "environment", "citizen",
    }  # fmt: skip


def test_everything_registered_is_in_ha_long():
    sensors = default().registry.sensors
    assert len(sensors) >= 20
    for sensor in sensors:
        assert 20.85 < sensor.place.lat < 21.1, sensor.key
        assert 106.8 < sensor.place.lon < 107.3, sensor.key
