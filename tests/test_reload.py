"""Rules change while the city lives: what is the same goes on, what is gone ends, and a later word counts."""

import json

from cli_world import FLOW

from models.base import moment
from models.catalogue import event_of
from rules.judge import Judge
from rules.program import compile_program
from rules.spec import RuleSet

MINUTE = 60_000_000
T0 = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


def slow(id_="slow", below=10):
    level = {"priority": "P3", "raise": f"speed_kmh < {below}", "clear": "speed_kmh >= 20", "for": "0s"}
    return {"id": id_, "kind": "threshold", "on": FLOW, "by": ["segment_id"], "levels": [level]}


def program(version, *rules):
    return compile_program(RuleSet.model_validate({"rules": list(rules)}), version, event_of(FLOW))


class City:
    """One judge, and the alarms as they were last told."""

    def __init__(self, *rules):
        self.judge, self.offset, self.alarms = Judge(event_of(FLOW), 0, "test", whole=True), -1, {}
        self.publish(0, 0, *rules)

    def _take(self, signals):
        for signal in signals:
            assert signal.op == "put"
            self.alarms[signal.alarm_id] = signal
        return signals

    def publish(self, version, minute, *rules, at=None):
        self.offset += 1
        stamp = T0 + minute * MINUTE
        effective = stamp if at is None else T0 + at * MINUTE
        return self._take(self.judge.control(self.offset, stamp, effective, program(version, *rules)))

    def hear(self, minute, speed, key="a"):
        self.offset += 1
        said = {
            "event_id": f"e{self.offset}", "source_id": "t", "observed_at": moment(T0 + minute * MINUTE).isoformat(),
            "segment_id": key, "speed_kmh": speed,
        }  # fmt: skip
        event = event_of(FLOW).model_validate_json(json.dumps(said))
        return self._take(self.judge.event(self.offset, event.at, event, self.offset))

    def told(self):
        """(rule, start, end) in minutes."""

        def minutes(at):
            return None if at is None else (at - moment(T0)).total_seconds() / 60

        return sorted((s.rule, minutes(s.start), minutes(s.end)) for s in self.alarms.values())


def test_the_alarm_of_a_rule_that_is_the_same_goes_on_under_its_handle():
    city = City(slow(), slow("other"))
    city.hear(1, 5)
    before = {s.rule: s.alarm_id for s in city.alarms.values()}
    assert city.publish(7, 3, slow(), slow("new", 8)) != []  # of `other`, whose alarm ends
    city.hear(4, 5)
    assert city.told() == [("new", 4, None), ("other", 1, 3), ("slow", 1, None)]
    assert {s.rule: s.alarm_id for s in city.alarms.values()}["slow"] == before["slow"]


def test_a_rule_that_is_gone_ends_its_alarm_at_the_effective_time_and_not_before():
    city = City(slow())
    city.hear(1, 5)
    assert city.publish(7, 2, at=6) == []
    city.hear(5, 5)
    assert city.told() == [("slow", 1, None)]
    city.hear(9, 5)
    assert city.told() == [("slow", 1, 6)]


def test_an_effective_time_in_the_past_is_now():
    city = City(slow())
    city.hear(1, 5)
    city.hear(4, 5)
    city.publish(7, 4, at=2)
    assert city.told() == [("slow", 1, 4)]


def test_a_publication_replaces_what_was_to_come_later():
    city = City(slow())
    city.publish(5, 1, slow("tomorrow"), at=20)
    city.publish(6, 2, slow("now"), at=2)
    city.hear(3, 5)
    city.hear(30, 5)
    assert city.told() == [("now", 3, None)]


def test_what_was_published_before_is_not_put_in_force_again_by_its_repetition():
    city = City(slow())
    city.publish(5, 1, slow("tomorrow"), at=20)
    city.publish(6, 2, slow("now"), at=2)
    city.publish(5, 3, slow("tomorrow"), at=20)
    city.publish(0, 3, slow())
    city.hear(30, 5)
    assert city.told() == [("now", 30, None)]


def test_a_change_that_is_to_come_survives_a_restart():
    city = City(slow())
    city.hear(1, 5)
    city.publish(7, 2, at=6)
    again = City(slow())
    again.judge.programs[7] = program(7)
    for number in range(city.judge.buckets):
        again.judge.load(number, city.judge.dump(number))
    again.offset = city.offset
    again.hear(9, 5)
    assert [s.end for s in again.alarms.values()] == [moment(T0 + 6 * MINUTE)]
