"""Cases: what a city's sensors said (`tests/cases/<domain>/*.jsonl`) and the alarms an operator was given for it.

A line is a record's topic and its event; the clock stops at the last one. The rules are ours, and of the registry those
who speak in the case. Expected are all the alarms, none more: rule, labels, start, end (null: still raised), priority.
"""

import json
from pathlib import Path

import pytest

from models.base import micros, moment
from models.catalogue import event_of, events
from models.decode import Rejection, decode
from rules.load import default
from rules.proof import interval_judge
from rules.spec import Registry

CASES = Path(__file__).parent / "cases"
FILES = sorted(CASES.glob("*/*.jsonl"))


def _read(line):
    said = json.loads(line)
    kind = event_of(said["topic"])
    value = json.dumps(said["event"], ensure_ascii=False).encode()
    found = decode(kind, value, stamp=micros(moment(0).fromisoformat(said["event"]["observed_at"])))
    assert not isinstance(found, Rejection), f"{line}: {found.detail}"
    return found


def _alarms(found):
    rules = default()
    heard = {(event.topic.name, event.topic.key_of(event)) for event in found}
    sensors = tuple(s for s in rules.registry.sensors if (s.topic, s.key) in heard)
    rules = rules.model_copy(update={"registry": Registry(sensors=sensors)})
    intervals = interval_judge(rules, found, found[-1].at, since=found[0].at)
    quiet = {rule.id for rule in rules.rules if not rule.tell}
    return [
        {
            "rule": i.rule,
            "labels": dict(i.labels),
            "start": _time(i.start_us),
            "end": None if i.end_us is None else _time(i.end_us),
            "priority": i.priority,
        }
        for i in sorted(intervals, key=lambda i: (i.start_us, i.rule, i.labels))
        if i.rule not in quiet
    ]


def _time(us):
    return moment(us).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("case", FILES, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_a_case_gives_the_alarms_that_an_operator_was_told(case):
    found = [_read(line) for line in case.read_text(encoding="utf-8").splitlines()]
    assert found == sorted(found, key=lambda event: event.at), "a case is in the order of time"
    expected = json.loads(case.with_suffix(".expected.json").read_text(encoding="utf-8"))
    alarms = _alarms(found)
    assert alarms == expected, json.dumps(alarms, indent=2)


@pytest.mark.parametrize("domain", sorted({e.__module__.rpartition(".")[2] for e in events()}))
def test_every_domain_has_a_case_with_an_alarm_and_no_expectation_is_left_over(domain):
    folder = CASES / domain
    told = [json.loads(f.read_text(encoding="utf-8")) for f in folder.glob("*.expected.json")]
    assert any(told), f"write tests/cases/{domain}/<what>.jsonl and <what>.expected.json with an alarm in it"
    assert {f.name.removesuffix(".expected.json") for f in folder.glob("*.expected.json")} == {
        f.stem for f in folder.glob("*.jsonl")
    }


def test_no_token_of_a_person_is_in_what_an_operator_was_told():
    assert any("tok_" in f.read_text(encoding="utf-8") for f in FILES), "a case of ours has patients"
    assert not [f for f in CASES.glob("*/*.expected.json") if "tok_" in f.read_text(encoding="utf-8")]
