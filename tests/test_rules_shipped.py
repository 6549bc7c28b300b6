"""The rules that come with citywatch pass the tests beside them, and say all that an operator needs."""

import shutil
from pathlib import Path

import pytest
from rule_judge import judge as fold

import rules
from models.catalogue import topics
from rules.lint import lint
from rules.load import default, read
from rules.proof import interval_judge
from rules.testing import RuleTest, parse_tests, run

SHIPPED = Path(rules.__file__).parent
TESTS = parse_tests(SHIPPED)
each = pytest.mark.parametrize("test", TESTS, ids=lambda t: f"{t.rule.id}: {t.name}")


@each
def test_a_shipped_rule_does_what_its_test_says(test):
    assert run(test, interval_judge) == []


@pytest.mark.parametrize(
    "test", [t for t in TESTS if isinstance(t, RuleTest)], ids=lambda t: f"{t.rule.id}: {t.name}"
)
def test_the_judge_tells_what_the_fold_alone_finds(test):
    def told(judge):
        found = judge(test.rules(), test.events(), test.until())
        # Of an episode that goes on, the peak is told when it ends.
        return sorted(i._replace(peak=i.peak if i.end_us else None) for i in found)

    assert told(interval_judge) == told(fold)


def test_lint_finds_nothing():
    loaded = read(SHIPPED)
    assert [f for f in lint(loaded.rules, TESTS, loaded.where) if not f.note] == []


def test_a_broken_copy_fails_at_its_file_and_line(tmp_path):
    broken = tmp_path / "traffic.yaml"
    shutil.copy(SHIPPED / "traffic.yaml", broken)
    text = broken.read_text()
    assert "speed_kmh < 10" in text
    broken.write_text(text.replace("speed_kmh < 10", "speed_kmh > 10"))
    failed = [(test, run(test, interval_judge)) for test in parse_tests(broken)]
    wrong = [(test.file, test.line, said) for test, said in failed if said]
    assert wrong
    for file, line, said in wrong:
        assert file == str(broken)
        assert "name:" in broken.read_text().splitlines()[line - 1]
        assert "found" in said[0]


@pytest.mark.parametrize("rule", [r for r in default().rules if r.tell], ids=lambda r: r.id)
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
