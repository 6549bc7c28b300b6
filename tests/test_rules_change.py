"""Rules put in force while the city runs: applied, listed, rolled back, and watched; what is wrong changes nothing."""

import json
import os
from contextlib import closing
from datetime import UTC, datetime

import pytest
from cli_world import FLOW, city  # noqa: F401 - a fixture
from test_up import kept, living, processes, until

from bus import clients, headers, topics
from bus.embedded import EmbeddedBroker
from commands.publish import OWN as OURS_FILE
from commands.publish import read
from commands.reach import Broker
from commands.reload import Watcher
from commands.world import ROLES
from models.base import micros
from models.catalogue import ALARM_INPUT, event_of
from models.platform import PlatformEvent
from rules.load import RulesError
from rules.spec import RuleSet
from sinks.contract import StoreError

OWN = PlatformEvent.topic.name
#: Our own rules, which are in force with every set.
OURS = [rule.id for rule in read([OURS_FILE]).rules]

GOOD = """\
rules:
- id: slow
  kind: threshold
  on: city.traffic.flow.v1
  by: [segment_id]
  levels:
  - {priority: P3, raise: "speed_kmh < 10", clear: "speed_kmh >= 20", for: 2m}
"""
OTHER = GOOD.replace("< 10", "< 8").replace("id: slow", "id: crawling")
WRONG = GOOD.replace("raise:", "rais:")
FAILS = GOOD + 'tests:\n- {name: a, series: {speed_kmh: "5x9 @1m"}, expect: []}\n'


@pytest.fixture(scope="module")
def broker():
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def live(city, broker):  # noqa: F811
    said = {"bootstrap": broker.bootstrap, "log_id": broker.log_id, "pid": os.getpid(), "embedded": True}
    (city.folder / "up.json").write_text(json.dumps(said))
    city.rules = city.folder / "my.yaml"
    city.rules.write_text(GOOD)
    return city


def controls(broker, topic, partition=0):
    found = clients.records(broker.bootstrap, (topic, partition))
    return [json.loads(r.value) for r in found if headers.type_of(r.headers) == headers.CONTROL]


def said_of_itself(broker):
    return [
        (event["kind"], event["detail"])
        for r in clients.records(broker.bootstrap, (OWN, 0))
        if headers.is_event(r.headers) and (event := json.loads(r.value))
    ]


def ids(broker):
    """The rules of the newest set."""
    return [rule.id for rule in RuleSet.parse(topics.latest_rules(broker.bootstrap)[1]).rules]


# --- once


def test_rules_are_applied_and_every_log_is_told_from_when_on(live, broker):
    done = live("rules", "apply", str(live.rules), "--json", "--effective", "2026-01-01T07:00:00+07:00")
    assert done.code == 0, done.err
    said = done.json()
    assert (said["new"], said["effective_from"]) == (True, "2026-01-01T00:00:00Z")
    assert "slow" in said["changed"]["rules"]["added"]
    wanted = {"version": said["version"], "effective_from": 1_767_225_600_000_000}
    for topic, count in [*topics.sources().items(), (ALARM_INPUT, 1)]:
        assert all(controls(broker, topic, n)[-1] == wanted for n in range(count)), topic
    again = live("rules", "apply", str(live.rules), "--json").json()
    assert (again["version"], again["new"]) == (said["version"], False)


def test_our_own_alarms_are_in_force_with_rules_that_know_nothing_of_us(live, broker):
    live("rules", "apply", str(live.rules))
    assert ids(broker) == sorted([*OURS, "slow"])
    assert read([live.rules]).of(OWN)


@pytest.mark.parametrize(
    ("text", "said"), [(WRONG, ":7: "), (FAILS, "my.yaml:9: slow: test 'a': expected nothing more, found 2m")]
)
def test_of_a_set_with_anything_wrong_nothing_is_published(live, broker, text, said):
    live("rules", "apply", str(live.rules))
    before = topics.latest_rules(broker.bootstrap)
    live.rules.write_text(text)
    done = live("rules", "apply", str(live.rules))
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert topics.latest_rules(broker.bootstrap) == before


def test_what_lint_says_is_told_and_does_not_hinder(live):
    done = live("rules", "apply", str(live.rules))
    assert done.code == 0
    assert f"{live.rules}:2: slow: no test" in done.err


def test_the_world_of_a_replay_gets_no_rules_from_outside(live):
    here = json.loads((live.folder / "up.json").read_text())
    (live.folder / "up.json").write_text(json.dumps(here | {"clock": "writer"}))
    for words in (["apply", str(live.rules)], ["rollback"], ["watch", str(live.rules)]):
        done = live("rules", *words)
        assert (done.code, "`citywatch replay --rules`" in done.err) == (2, True)


def test_versions_are_listed_and_an_earlier_one_is_put_in_force_again(city):  # noqa: F811
    with EmbeddedBroker() as broker:
        here = {"bootstrap": broker.bootstrap, "log_id": "L", "pid": os.getpid(), "embedded": True}
        (city.folder / "up.json").write_text(json.dumps(here))
        assert city("rules", "versions", "--json").json() == []
        assert "no earlier version" in city("rules", "rollback").err
        path = city.folder / "my.yaml"
        made = []
        for text, effective in ((GOOD, "2026-01-01"), (OTHER, "2026-01-02"), (GOOD, "2299-01-01")):
            path.write_text(text)
            words = ("rules", "apply", str(path), "--effective", effective, "--json")
            made.append(city(*words).json()["version"])
        listed = city("rules", "versions", "--json").json()
        assert [(row["version"], row["state"]) for row in listed] == list(
            zip(made, ("past", "in force", "to come"), strict=True)
        )
        assert listed[1]["changed"]["rules"] == {"added": ["crawling"], "removed": ["slow"], "changed": []}
        assert city("rules", "versions").rows[2].endswith("rules +crawling -slow")
        done = city("rules", "rollback", "--json").json()
        assert (done["new"], ids(broker)) == (True, sorted([*OURS, "slow"]))
        states = {row["version"]: row["state"] for row in city("rules", "versions", "--json").json()}
        assert (states[made[2]], states[done["version"]]) == ("past", "in force")
        assert city("rules", "rollback", str(made[1])).code == 0
        assert ids(broker) == sorted([*OURS, "crawling"])
        assert "there is no version 77" in city("rules", "rollback", "77").err


def test_a_version_that_cannot_be_read_is_listed_in_one_line_and_not_put_in_force_again(live):
    with EmbeddedBroker() as broker:
        here = {"bootstrap": broker.bootstrap, "log_id": "L", "pid": os.getpid(), "embedded": True}
        (live.folder / "up.json").write_text(json.dumps(here))
        foreign = b'{"rules": [{"id": "x", "kind": "oracle"}, {"id": "y", "kind": "oracle"}]}'
        version = topics.publish_rules(broker.bootstrap, "", foreign, 0)
        (row,) = live("rules", "versions", "--json").json()
        assert row["words"].startswith(f"version {version} cannot be read by this citywatch: rules.0: ")
        assert row["words"].endswith("(and 1 more)")
        assert "\n" not in row["words"]
        assert len(live("rules", "versions").rows) == 2
        done = live("rules", "rollback", str(version))
        assert (done.code, len(done.err.splitlines())) == (2, 1)


def test_what_was_to_come_later_can_be_put_in_force_now(live, broker):
    live.rules.write_text(OTHER)
    later = live("rules", "apply", str(live.rules), "--effective", "2299-01-01", "--json").json()
    now = live("rules", "apply", str(live.rules), "--json").json()
    assert now["new"]
    assert now["version"] > later["version"]
    assert controls(broker, FLOW)[-1]["effective_from"] < 1 << 53


# --- for as long as it runs


def test_a_changed_file_is_read_when_it_stays_the_same_and_a_bad_one_changes_nothing(live, broker, capsys):
    watcher = Watcher(Broker(broker.bootstrap, "", embedded=True), [live.rules])
    began = len(said_of_itself(broker))
    assert watcher.look()
    assert ids(broker) == sorted([*OURS, "slow"])
    assert not watcher.look()
    live.rules.write_text(OTHER)
    assert not watcher.look()  # somebody may still write it
    assert watcher.look()
    assert ids(broker) == sorted([*OURS, "crawling"])
    version = topics.latest_rules(broker.bootstrap)[0]
    live.rules.write_text(WRONG)
    assert (watcher.look(), watcher.look(), watcher.look()) == (False, True, False)
    assert topics.latest_rules(broker.bootstrap)[0] == version
    said = capsys.readouterr().err
    assert f"{live.rules}:7: " in said
    assert "the rules in force stay as they are" in said
    live.rules.write_text(OTHER)
    watcher.look()
    watcher.look()
    kinds = said_of_itself(broker)[began:]
    assert [kind for kind, _ in kinds] == ["rules_loaded", "rules_loaded", "rules_refused", "rules_loaded"]
    assert "my.yaml:7: " in kinds[2][1]
    assert f"version {version}: {len(OURS) + 1} rules" == kinds[3][1]


def test_a_file_that_is_gone_is_a_bad_one_and_a_folder_is_its_files(live, broker):
    folder = live.folder / "rules"
    folder.mkdir()
    (folder / "a.yaml").write_text(GOOD)
    watcher = Watcher(Broker(broker.bootstrap, "", embedded=True), [folder])
    assert watcher.look()
    (folder / "b.yaml").write_text(OTHER)
    watcher.look()
    watcher.look()
    assert ids(broker) == sorted([*OURS, "crawling", "slow"])
    for file in folder.iterdir():
        file.unlink()
    watcher.look()
    assert watcher.look()
    assert said_of_itself(broker)[-1][0] == "rules_refused"
    assert ids(broker) == sorted([*OURS, "crawling", "slow"])


def test_our_own_rule_cannot_be_left_out_by_a_set_that_names_our_topic_wrongly(live):
    live.rules.write_text(GOOD.replace(FLOW, "city.platform.events.v1"))
    with pytest.raises(RulesError, match="there is no topic"):
        read([live.rules])


# --- a city in which it happens


def two(*ids_, title="Slow"):
    """Rules of one level that a slow sample raises at once."""
    said = {"title": {"vi": "Chậm", "en": title}, "on": FLOW, "by": ["segment_id"], "kind": "threshold"}
    level = {"priority": "P3", "raise": "speed_kmh < 10", "clear": "speed_kmh >= 20", "for": "0s"}
    return json.dumps({"rules": [{"id": id_, **said, "levels": [level]} for id_ in ids_]})


def hear(bootstrap, speed, n=0):
    now = datetime.now(UTC)
    said = {
        "event_id": f"e{n}", "source_id": "t", "observed_at": now.isoformat(), "segment_id": "a", "speed_kmh": speed,
    }  # fmt: skip
    event = event_of(FLOW).model_validate_json(json.dumps(said))
    with closing(clients.producer(bootstrap)) as producer:
        told = headers.headers(event.event_id, FLOW, "/t", event.at)
        producer.send(FLOW, event.wire(), b"a", told, None, event.at // 1000).get(10)


def alarms(folder):
    """By rule, the alarm as the store has it."""
    try:
        return {r.body["rule"]: r.body for r in kept(folder, lambda store: store.kept("alarm"))}
    except StoreError:
        return {}


@pytest.mark.slow
def test_rules_change_in_a_living_city_without_a_restart_and_without_a_gap(tmp_path):
    file = tmp_path / "rules" / "my.yaml"
    file.parent.mkdir()
    file.write_text(two("stays", "goes"))
    data = tmp_path / "city"
    with living(data, "--no-simulator", "--no-console", "--rules", file.parent) as running:
        until(lambda: (data / "up.json").exists() and len(processes(data).get("rules", ())) == 1)
        bootstrap = json.loads((data / "up.json").read_text())["bootstrap"]
        until(lambda: said_of_itself_at(bootstrap))
        # A process that is just being made looks like its parent for a moment.
        workers = until(lambda: len((found := processes(data)).get("worker", ())) == len(ROLES) and found)
        hear(bootstrap, 5)
        before = until(lambda: len(found := alarms(data)) == 2 and found)
        assert all(alarm["active"] for alarm in before.values())

        file.write_text(two("stays", "comes"))
        gone = until(lambda: not (found := alarms(data))["goes"]["active"] and found)
        hear(bootstrap, 4, 1)
        after = until(lambda: "comes" in (found := alarms(data)) and found)
        assert after["stays"]["alarm_id"] == before["stays"]["alarm_id"]
        assert (after["stays"]["active"], after["stays"]["start"]) == (True, before["stays"]["start"])
        effective = controls_at(bootstrap)[-1]["effective_from"]
        assert micros(datetime.fromisoformat(gone["goes"]["end"])) >= effective

        file.write_text(two("stays")[:-9])
        refused = until(lambda: alarms(data).get("rules-refused"))
        assert refused["active"]
        assert "my.yaml:1: " in refused["evidence"][0]["values"]["detail"]
        hear(bootstrap, 3, 2)  # the old rules go on
        assert alarms(data)["stays"]["active"]

        file.write_text(two("stays", "comes"))
        until(lambda: not alarms(data)["rules-refused"]["active"])
        assert alarms(data)["comes"]["active"]
        until(lambda: processes(data) == workers)  # nobody was started again
        assert running.poll() is None


def said_of_itself_at(bootstrap):
    return [r for r in clients.records(bootstrap, (OWN, 0)) if headers.is_event(r.headers)]


def controls_at(bootstrap):
    found = clients.records(bootstrap, (FLOW, 0))
    return [json.loads(r.value) for r in found if headers.type_of(r.headers) == headers.CONTROL]
