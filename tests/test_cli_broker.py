"""Commands that speak to a broker, on an embedded one: topics, tail, acknowledgements, redrive, doctor."""

import json
import os
from contextlib import closing

import pytest
from cli_world import AIR, FLOW, alarm, city, flows, reject, reject_of_file  # noqa: F401

from bus import clients, headers, topics
from bus.embedded import EmbeddedBroker
from commands import doctor
from models.alarm import COMMAND_TYPE, Command
from models.catalogue import ALARM_INPUT, REJECTED, RULES
from rules.spec import RuleSet


@pytest.fixture(scope="module")
def broker():
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def live(city, broker):  # noqa: F811
    """A data folder on which something runs, as a running `up` leaves it: this process with its broker."""
    _running(city, broker)
    return city


def _running(city, broker, prefix=""):  # noqa: F811
    said = {
        "bootstrap": broker.bootstrap,
        "log_id": broker.log_id,
        "pid": os.getpid(),
        "embedded": True,
        "prefix": prefix,
    }
    (city.folder / "up.json").write_text(json.dumps(said))


def last(broker, topic, partition=0):
    return list(clients.records(broker.bootstrap, (topic, partition)))[-1]


def send(broker, topic, *rows):
    """Each row is key, value, headers."""
    with closing(clients.producer(broker.bootstrap)) as producer:
        for key, value, said in rows:
            producer.send(topic, value, key, said, 0).get(10)


# --- topics


def test_a_broker_in_step_gets_the_rules_once(live, broker):
    assert live("topics", "plan", "--json").json() == []
    done = live("topics", "apply")
    assert done.code == 0
    assert "in force: version" in done.err
    rules = [r for r in clients.records(broker.bootstrap, (RULES, 0)) if headers.is_event(r.headers)]
    assert live("topics", "apply").code == 0
    again = [r for r in clients.records(broker.bootstrap, (RULES, 0)) if headers.is_event(r.headers)]
    assert len(again) == len(rules)


def test_rules_of_ones_own_are_put_in_force(live, broker):
    path = live.folder / "my.yaml"
    path.write_text('sensors:\n- {topic: city.traffic.flow.v1, key: "s-77", every: 5m}\n')
    assert live("topics", "apply", "--rules", str(path)).code == 0
    version, canonical = topics.latest_rules(broker.bootstrap)
    found = RuleSet.parse(canonical)
    assert [s.key for s in found.registry.sensors] == ["s-77"]
    assert json.loads(last(broker, FLOW, 3).value)["version"] == version


def test_rules_that_are_wrong_change_nothing(live, broker):
    before = topics.latest_rules(broker.bootstrap)
    path = live.folder / "my.yaml"
    path.write_text("rules:\n- {id: x}\n")
    done = live("topics", "apply", "--rules", str(path))
    assert done.code == 2
    assert done.err.startswith(f"{path}:2:")
    assert topics.latest_rules(broker.bootstrap) == before


def test_a_topic_that_only_a_person_can_put_right_is_a_finding(city):  # noqa: F811
    counts = {**topics.partitions(), FLOW: 3}
    with EmbeddedBroker(counts) as broker:
        _running(city, broker)
        for what in ("plan", "apply"):
            done = city("topics", what)
            assert done.code == 1
            assert done.rows[0].startswith(f"problem {FLOW}: has 3 partitions, the catalogue says 4")
        assert topics.latest_rules(broker.bootstrap) is None
        assert city("doctor").code == 1


def test_the_world_of_a_replay_gets_no_rules_from_outside(city, broker):  # noqa: F811
    _running(city, broker, prefix="replay-1.")
    done = city("topics", "apply")
    assert (done.code, done.out) == (2, "")
    assert "`citywatch replay --rules`" in done.err


def test_a_broker_that_does_not_answer_cannot_be_reached(city, monkeypatch):  # noqa: F811
    monkeypatch.setenv("CITYWATCH_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setattr(clients, "BOOTSTRAP_MS", 200)
    done = city("topics", "plan")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("citywatch: no Kafka answers at 127.0.0.1:1")
    found = {c["part"]: c["state"] for c in city("doctor", "--json").json()}
    assert found["broker"] == "out of reach"


# --- tail


def test_tail_prints_events_and_skips_what_is_none(live, broker):
    topic = "city.camera.event.v1"
    clock = headers.clock_record()
    said = headers.headers("e1", topic, "/t", None)
    send(
        broker,
        topic,
        (b"c1", b'{"a": 1}', said),
        (None, clock.value, clock.headers),
        (b"c2", b"\xff\x1b[31m", said),
    )
    done = live("tail", topic, "--from", "beginning", "--count", "2", "--json")
    assert done.code == 0
    first, second = map(json.loads, done.rows)
    assert (first["key"], first["value"], first["type"], first["partition"]) == ("c1", {"a": 1}, topic, 0)
    assert (second["key"], second["value"]) == ("c2", "\ufffd\x1b[31m")
    plain = live("tail", topic, "--from", "beginning", "--count", "2")
    assert plain.rows[0].endswith('c1  {"a": 1}')
    assert "\x1b" not in plain.out


def test_tail_shows_clocks_and_control_when_asked(live, broker):
    topic = "city.camera.count.v1"
    clock = headers.clock_record()
    send(broker, topic, (None, clock.value, clock.headers))
    done = live("tail", topic, "--from", "beginning", "--all", "--count", "1", "--json")
    assert json.loads(done.rows[0])["type"] in (headers.CLOCK, headers.CONTROL)


def test_tail_of_rejects_shows_no_bytes(live, broker):
    body = reject("r", b"secret").body
    send(broker, REJECTED, (b"r", json.dumps(body).encode(), headers.headers("r", REJECTED, "/t", None)))
    value = json.loads(live("tail", REJECTED, "--from", "beginning", "--count", "1", "--json").out)["value"]
    assert value["reason"] == "not_json"
    assert not {"bytes", "key"} & value.keys()


def test_tail_of_an_unknown_topic_is_answered_with_the_nearest(live):
    done = live("tail", "city.trafic.flow.v1")
    assert (done.code, done.out) == (2, "")
    assert f"did you mean {FLOW}?" in done.err


# --- acknowledging


def test_an_acknowledgement_is_a_command_in_the_log_of_alarms(live, broker):
    live.hold(records=[alarm("a1")])
    done = live("alarms", "ack", "a1", "--by", "Lan, ca B", "--note", "đã cử tuần tra")
    assert done.code == 0
    record = last(broker, ALARM_INPUT)
    assert f"offset {record.offset}" in done.out
    assert (record.key, headers.type_of(record.headers)) == (b"f-a1", COMMAND_TYPE)
    command = Command.model_validate_json(record.value)
    assert (command.action, command.alarm_id, command.actor, command.note) == (
        "acknowledge", "a1", "Lan, ca B", "đã cử tuần tra",
    )  # fmt: skip


@pytest.mark.parametrize("recorded", [{"clock": "writer"}, {"prefix": "replay-1."}])
def test_nobody_acts_in_a_recorded_world(live, broker, recorded):
    live.hold(records=[alarm("a1"), alarm("a2", state="SHLVD", shelved=True)])
    here = json.loads((live.folder / "up.json").read_text())
    (live.folder / "up.json").write_text(json.dumps(here | recorded))
    before = clients.end_offsets(broker.bootstrap, [(ALARM_INPUT, 0)])
    who = ("--by", "Lan")
    for words in (
        ("ack", "a1", *who),
        ("shelve", "a1", *who, "--for", "2h", "--note", "roadworks"),
        ("unshelve", "a2", *who),
    ):
        done = live("alarms", *words)
        assert (done.code, done.out) == (2, ""), words
        assert "this is a recorded world: nobody can act in it" in done.err
    assert clients.end_offsets(broker.bootstrap, [(ALARM_INPUT, 0)]) == before


# --- redrive


def test_a_redrive_sends_the_same_bytes_and_key_to_the_topic(live, broker):
    live.hold(
        records=[
            reject("one", b"\xff\x00", topic=AIR, key=b"st-1"),
            reject("two", b"x" * 10, topic=ALARM_INPUT),
            reject("cut", b"x", topic=AIR, length=5_000_000),
            reject_of_file("line", b"a,b"),
        ]
    )
    done = live("rejected", "redrive", "one", "two", "cut", "line", "--json")
    assert done.code == 1
    assert done.json()["sent"] == {AIR: 1}
    assert sum(done.json()["refused"].values()) == 3
    found = [r for n in range(2) for r in clients.records(broker.bootstrap, (AIR, n)) if r.key == b"st-1"]
    assert [(r.value, headers.type_of(r.headers)) for r in found] == [(b"\xff\x00", AIR)]
    assert live("rejected", "redrive", "--reason", "not_json", "--topic", AIR).code == 1


def test_a_record_without_a_key_goes_back_to_its_partition(live, broker):
    topic = "city.environment.water.v1"
    live.hold(
        records=[
            reject("one", b"{}", topic=topic)._replace(
                body={**reject("one", b"{}", topic=topic).body, "key": None, "partition": 1}
            )
        ]
    )
    assert live("rejected", "redrive", "--topic", topic).rows == [f"1 sent again to {topic}"]
    record = last(broker, topic, 1)
    assert (record.key, record.value) == (None, b"{}")


def test_nothing_is_sent_into_the_world_of_a_replay(city, broker):  # noqa: F811
    _running(city, broker, prefix="replay-1.")
    city.hold(records=[reject("one", b"{}")])
    assert city("rejected", "redrive", "one").code == 2


# --- doctor


def test_the_doctor_finds_a_well_city_well(live):
    live.hold(flows())
    assert live("topics", "apply").code == 0
    done = live("doctor", "--json")
    assert [(c["part"], c["state"], c["do"]) for c in done.json() if c["part"] != "disk"] == [
        (part, "ok", "") for part in ("python", "packages", "data", "store", "rules", "broker", "topics")
    ]
    assert done.code == 0


def test_the_doctor_says_what_to_do_where_nothing_runs(city):  # noqa: F811
    done = city("doctor")
    assert done.code == 0
    assert "warn  broker    nothing runs on" in done.out
    assert "`citywatch up`" in done.out


def test_the_doctor_cannot_reach_a_store_that_is_none(city):  # noqa: F811
    (city.folder / "store.sqlite").write_text("no database at all, and long enough to be looked at")
    done = city("doctor", "--json")
    assert done.code == 3
    assert {c["part"]: c["state"] for c in done.json()}["store"] == "out of reach"


def test_the_doctor_fails_a_data_folder_that_cannot_be_written(city):  # noqa: F811
    (city.folder / "file").touch()
    done = city("doctor", "--data", str(city.folder / "file"))
    assert done.code == 1
    assert f"fail  data      {city.folder}/file: Not a directory" in done.out


def test_the_doctor_names_a_package_that_is_not_as_pinned(city, monkeypatch):  # noqa: F811
    monkeypatch.setattr(
        doctor.metadata,
        "requires",
        lambda _: ["faust-streaming==0.0.1", "tzdata", "pytest==1; extra == 'dev'"],
    )
    done = city("doctor")
    assert done.code == 1
    assert "fail  packages  faust-streaming is 0.15.3, not 0.0.1" in done.out
