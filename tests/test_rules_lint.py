"""Lint: each finding is one that somebody would be woken by, and the shipped rules have none."""

from pathlib import Path

import pytest

import rules
from rules.lint import lint
from rules.load import read
from rules.spec import RuleSet
from rules.testing import parse_tests

SHIPPED = Path(rules.__file__).parent

RULE = """\
rules:
- id: road-jammed
  kind: threshold
  on: city.traffic.flow.v1
  by: [segment_id]
  title: {{vi: "Ùn tắc", en: "Jam"}}
  levels:
{levels}
tests:
- {{name: a, series: {{speed_kmh: "5x20 @1m"}}, expect: [{{start: 5m}}]}}
- {{name: b, series: {{speed_kmh: "50x20 @1m"}}, expect: []}}
"""
SENSOR = "sensors:\n- {topic: city.traffic.flow.v1, key: a, every: 5m}\n"
FINE = '  - {priority: P3, raise: "speed_kmh < 10", clear: "speed_kmh > 20", for: 6m}'


@pytest.fixture
def findings(tmp_path):
    def findings(text):
        path = tmp_path / "a.yaml"
        path.write_text(text)
        loaded = read(path)
        found = lint(loaded.rules, parse_tests(path), loaded.where)
        assert all((f.file, f.line) == (str(path), 2) for f in found)
        return [f.message for f in found]

    return findings


def test_the_shipped_rules_have_no_finding():
    loaded = read(SHIPPED)
    assert lint(loaded.rules, parse_tests(SHIPPED), loaded.where) == []


def test_a_good_rule_has_no_finding(findings):
    assert findings(RULE.format(levels=FINE) + SENSOR) == []


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (
            '  - {priority: P3, raise: "speed_kmh < 10", for: 6m}',
            "neither clear nor keep: a value around the bound",
        ),
        ('  - {priority: P3, raise: "speed_kmh < 10", keep: 1m}', "one sample raises it"),
        (FINE.replace("6m", "5m"), "for 5m, but a speaks every 5m: one sample raises it"),
        (FINE.replace("> 20", "> 9"), "speed_kmh > 9 holds while speed_kmh < 10 still does"),
        (FINE.replace("> 20", "< 9"), "holds while"),
        (FINE.replace("< 10", "<= 10").replace("> 20", ">= 10"), "holds while"),
        (FINE.replace("P3", "P2"), "P2 without an instruction"),
        (
            FINE + "\n" + FINE.replace("P3", "P4").replace("< 10", "< 8"),
            "P4 is never seen: where speed_kmh < 8, P3 (speed_kmh < 10) holds as well",
        ),
        (FINE + "\n" + FINE.replace("P3", "P4"), "P4 is never seen"),
        (
            FINE.replace("< 10", "<= 10") + "\n" + FINE.replace("P3", "P4"),
            "P4 is never seen: where speed_kmh < 10, P3 (speed_kmh <= 10)",
        ),
    ],
)
def test_what_is_hardly_meant_is_found(findings, levels, message):
    assert any(message in found for found in findings(RULE.format(levels=levels) + SENSOR))


@pytest.mark.parametrize(
    "levels",
    [
        FINE.replace("> 20", ">= 10"),
        FINE.replace("6m", "0s"),
        FINE + "\n" + FINE.replace("P3", "P4").replace("< 10", "< 15"),
        # The milder one comes sooner: it is seen until the worse one is due.
        FINE.replace("6m", "30m") + "\n" + FINE.replace("P3", "P4"),
        FINE + "\n" + FINE.replace("P3", "P4").replace("< 10", "<= 10"),
        FINE
        + "\n"
        + FINE.replace("P3", "P4").replace("speed_kmh < 10", "occupancy_pct > 90 and speed_kmh < 8"),
    ],
)
def test_what_may_well_be_meant_is_not(findings, levels):
    assert findings(RULE.format(levels=levels) + SENSOR) == []


def test_a_rule_needs_a_test_that_raises_it_and_one_that_does_not(findings):
    text = RULE.format(levels=FINE)
    rule = text[: text.index("tests:")]
    assert findings(rule) == ["no test: show when it raises and what does not raise it"]
    assert findings(text[: text.index("- {name: b")]) == ["no test shows what is not an alarm"]
    assert findings(text.replace(text[text.index("- {name: a") : text.index("- {name: b")], "")) == [
        "no test raises it"
    ]


def test_a_rule_without_words_is_found(findings):
    text = RULE.format(levels=FINE).replace('  title: {vi: "Ùn tắc", en: "Jam"}\n', "")
    assert findings(text) == ["no title in Vietnamese and English: the operator sees its id"]


ABSENT = """\
rules:
- id: silent
  kind: absence
  on: city.traffic.flow.v1
  by: [segment_id]
  title: {vi: "Mất liên lạc", en: "Not heard of"}
  after: 5m
  priority: P4
tests:
- {name: a, series: {speed_kmh: "5x20 @1m"}, expect: [{start: 24m}]}
- {name: b, until: 0s, series: {speed_kmh: "50x20 @1m"}, expect: []}
"""


def test_an_absence_needs_somebody_to_miss_and_time_to_speak(findings):
    assert findings(ABSENT) == ["nothing on city.traffic.flow.v1 is in the registry: nobody is missed"]
    assert findings(ABSENT + SENSOR) == ["after 5m: a speaks every 5m and would always be missed"]
    assert findings(ABSENT.replace("5m\n", "15m\n") + SENSOR) == []


def test_an_event_that_is_over_at_once_is_found(findings):
    text = """\
rules:
- id: crash
  kind: event
  on: city.traffic.incident.v1
  by: [incident_id]
  title: {vi: "Tai nạn", en: "Crash"}
  priority: P3
  raise: "injured >= 1"
tests:
- {name: a, events: [{at: 0s, category: collision, injured: 1}], expect: [{start: 0s, end: 0s}]}
- {name: b, events: [{at: 0s, category: collision}], expect: []}
"""
    assert findings(text) == ["neither clear nor keep: the alarm is over the moment it is raised"]
    assert findings(text.replace("tests:", "  keep: 1h\ntests:")) == []


def test_too_many_of_the_worst_are_worth_a_note(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(RULE.format(levels=FINE.replace("P3", "P1")))
    [rule] = read(path).rules.rules
    many = [rule.model_copy(update={"id": f"jam-{i}"}) for i in range(20)]
    notes = [f.message for f in lint(RuleSet(rules=many), []) if f.note]
    assert notes == ["100 % of all levels are P1; of the alarms at most 5 % should be"]
    assert not [f for f in lint(RuleSet(rules=many[:10]), []) if f.note]
