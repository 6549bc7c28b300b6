"""Backtest: two sets over the same events differ exactly in what they say, and nothing leaves."""

import json
import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from cli_world import FLOW, city  # noqa: F401 - a fixture
from hypothesis import given, settings
from hypothesis import strategies as st
from test_up import ROOT, environ

from bus import clients, headers, topics
from bus.embedded import EmbeddedBroker
from models.base import moment
from models.catalogue import event_of
from rules import load
from rules.backtest import Alarm, Backtest, compare, memory_us, report
from rules.backtest import load as load_of
from rules.score import Happened, Span
from rules.spec import RuleSet

MINUTE = 60_000_000
T0 = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
SHIPPED = Path(load.__file__).parent


def slow(below=10, clear=20, for_="2m", priority="P3", **more):
    level = {
        "priority": priority,
        "raise": f"speed_kmh < {below}",
        "clear": f"speed_kmh >= {clear}",
        "for": for_,
    }
    return {"id": "slow", "kind": "threshold", "on": FLOW, "by": ["segment_id"], "levels": [level], **more}


def ruleset(*rules, sensors=()):
    return RuleSet.model_validate({"rules": list(rules), "registry": {"sensors": list(sensors)}})


def flow(n, key, at, speed):
    said = {
        "event_id": f"e{n}", "source_id": "t", "observed_at": moment(T0 + at).isoformat(),
        "segment_id": key, "speed_kmh": speed,
    }  # fmt: skip
    return event_of(FLOW).model_validate_json(json.dumps(said))


def ran(base, candidate, events, until=None):
    """Both sets over events that arrive when they are observed."""
    backtest = Backtest(base, candidate)
    for event in events:
        backtest.event(FLOW, None, event.at, event, hash(event.event_id))
    end = T0 + until if until else backtest.last + 1
    backtest.end(end)
    return backtest, Span(T0, end)


def difference(base, candidate, events, until=None):
    backtest, span = ran(base, candidate, events, until)
    return report(backtest, span).difference


# --- a threshold, computed apart from the engine


def intervals(samples, below, clear, wait):
    """(start, end) of one series: slow for `wait`, until it is fast; what is due comes before a sample of that moment."""
    found, since, start = [], None, None
    for at, speed in samples:
        if since is not None and start is None and since + wait <= at:
            start = since + wait
        if start is not None:
            if speed >= clear and not speed < below:
                found.append((start, at))
                since = start = None
        elif speed < below:
            since = at if since is None else since
            start = since if wait == 0 else None
        else:
            since = None
    return found, start, since


def ledger(events, below, clear, wait, end):
    """Every interval of every series up to `end`."""
    found = set()
    for key in {e.segment_id for e in events}:
        closed, start, since = intervals(
            [(e.at, e.speed_kmh) for e in events if e.segment_id == key], below, clear, wait
        )
        if start is None and since is not None and since + wait <= end:
            start = since + wait
        found |= {(key, *interval) for interval in closed}
        if start is not None:
            found.add((key, start, None))
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(6, 14),
    st.integers(6, 14),
    st.sampled_from([0, 1, 2, 3, 5]),
    st.sampled_from([0, 1, 2, 3, 5]),
)
def test_a_changed_threshold_differs_as_it_does_when_computed_by_hand(seed, one, other, wait, waits):
    chance = random.Random(seed)
    events = [
        flow(n, f"s{n % 3}", (n // 3) * MINUTE + (n % 3), chance.choice([4, 8, 11, 13, 16, 30]))
        for n in range(90)
        if chance.random() < 0.9
    ]
    base, candidate = (ruleset(slow(b, 15, f"{w}m")) for b, w in ((one, wait), (other, waits)))
    backtest, span = ran(base, candidate, events)
    for name, below, minutes in (("base", one, wait), ("candidate", other, waits)):
        told = {(dict(a.labels)["segment_id"], a.start, a.end) for a in backtest.alarms(name)}
        assert told == ledger(events, below, 15, minutes * MINUTE, span.end)
    found = report(backtest, span).difference
    old, new = (
        {told for told in ledger(events, below, 15, minutes * MINUTE, span.end) if told[1] < span.end}
        for below, minutes in ((one, wait), (other, waits))
    )
    assert {(dict(p.base.labels)["segment_id"], p.base.start, p.base.end) for p in found.same} <= old & new
    assert len(found.same) + len(found.moved) + len(found.lost) == len(old)
    assert len(found.same) + len(found.moved) + len(found.new) == len(new)
    if (one, wait) == (other, waits):
        assert found.empty
        assert len(found.same) == len(old)


def test_the_same_rules_over_their_own_log_differ_in_nothing_and_every_kind_that_ships_is_judged():
    ours = load.default()
    backtest = Backtest(ours, ours)
    assert FLOW in backtest.topics
    chance = random.Random(5)
    for n in range(600):
        event = flow(n, f"s{n % 4}", n * 20_000_000, chance.choice([2, 5, 9, 30]))
        backtest.event(FLOW, None, event.at, event, n)
    backtest.end(backtest.last)
    found = report(backtest, Span(T0, backtest.last))
    assert found.difference.empty
    assert found.difference.same
    assert backtest.counts() == {"stored": 600}


# --- the difference in words


JAM = [*[(m, 30) for m in range(5)], *[(m, 8) for m in range(5, 15)], *[(m, 30) for m in range(15, 20)]]


def jam(key="a", speeds=JAM):
    return [flow(f"{key}{m}", key, m * MINUTE, speed) for m, speed in speeds]


def test_a_wait_that_is_longer_makes_the_alarm_later_by_so_much():
    found = difference(ruleset(slow()), ruleset(slow(for_="5m")), jam())
    (pair,) = found.moved
    assert (pair.later_us, pair.changed) == (3 * MINUTE, ("start",))
    assert not found.new + found.lost


def test_another_priority_is_a_change_and_no_new_alarm():
    backtest, span = ran(ruleset(slow()), ruleset(slow(priority="P2")), jam())
    found = report(backtest, span)
    (row,) = found.changes()
    assert row == ("changed", "slow", "segment_id=a", "2026-01-01T00:07:00Z", "P3 is P2")


def test_a_bound_that_is_lower_loses_the_alarm_and_a_higher_one_brings_it():
    strict, wide = ruleset(slow(below=5)), ruleset(slow(below=12))
    assert [a.rule for a in difference(wide, strict, jam()).lost] == ["slow"]
    assert [a.rule for a in difference(strict, wide, jam()).new] == ["slow"]


def test_of_a_rule_that_is_gone_every_alarm_is_lost():
    found = difference(ruleset(slow()), ruleset(), jam())
    assert (len(found.lost), found.new, found.pairs) == (1, (), ())


def test_what_is_said_in_other_words_is_the_same_alarm():
    titled = slow(title={"vi": "Chậm", "en": "Slow"}, instruction={"vi": "Xem.", "en": "Look."})
    assert difference(ruleset(slow()), ruleset(titled), jam()).empty


def alarm(start, end, key="a"):
    return Alarm("r", (("k", key),), start, end, "P3", None, start, f"{key}{start}")


def test_alarms_are_paired_where_they_begin_together_else_where_they_overlap_each_once():
    base = [alarm(0, 10), alarm(20, 30), alarm(50, None)]
    candidate = [alarm(5, 8), alarm(9, 12), alarm(20, 40), alarm(0, 10, "b")]
    found = compare(base, candidate)
    assert [(p.base.start, p.candidate.start) for p in found.pairs] == [(0, 5), (20, 20)]
    assert [a.start for a in found.lost] == [50]
    assert [(a.start, a.labels[0][1]) for a in found.new] == [(0, "b"), (9, "a")]


def test_the_silent_of_the_registry_are_missed_from_the_first_record_on():
    silent = {
        "id": "silent",
        "kind": "absence",
        "on": FLOW,
        "by": ["segment_id"],
        "misses": 3,
        "priority": "P4",
    }
    known = [{"topic": FLOW, "key": key, "every": "1m"} for key in ("a", "b")]
    backtest, _ = ran(ruleset(), ruleset(silent, sensors=known), jam(), until=20 * MINUTE)
    assert [(dict(a.labels)["segment_id"], a.start - T0) for a in backtest.alarms("candidate")] == [
        ("b", 3 * MINUTE)
    ]


def test_what_came_late_is_not_judged_and_the_log_decides_that():
    backtest = Backtest(ruleset(slow(for_="0s")), ruleset(slow(for_="0s")), since=T0)
    backtest.event(FLOW, 0, T0 + 10 * MINUTE, flow(1, "a", 10 * MINUTE, 30), 1)
    backtest.event(FLOW, 0, T0 + 10 * MINUTE, flow(2, "a", 9 * MINUTE, 5), 2)
    backtest.event(FLOW, 0, T0 + 10 * MINUTE, flow(3, "a", 5 * MINUTE, 5), 3)
    backtest.end(backtest.last)
    assert backtest.counts() == {"stored": 2, "late": 1}
    assert len(backtest.alarms("base")) == 1


def test_so_much_of_the_past_must_be_known_as_the_rules_look_back():
    topic = event_of(FLOW).topic
    assert memory_us(ruleset(slow(for_="5m"))) == topic.late_us + 5 * MINUTE
    assert memory_us(ruleset()) == 0
    assert memory_us(load.default()) >= 14 * 1440 * MINUTE  # a baseline knows the same hour of earlier weeks


def test_what_is_suppressed_by_design_is_told_to_nobody_and_counted():
    """A gateway's sensors fall silent: the candidate knows that it is one gateway."""
    silent = {
        "id": "silent", "kind": "absence", "on": FLOW, "by": ["segment_id"], "misses": 3, "wait": "1m", "priority": "P4",
    }  # fmt: skip
    dead = {"id": "gateway-dead", "kind": "root", "of": ["silent"], "by": "gateway", "priority": "P2"}
    known = [{"topic": FLOW, "key": f"s{n}", "every": "1m", "gateway": "g"} for n in range(5)]
    base, candidate = ruleset(silent, sensors=known), ruleset(silent, sensors=known)
    candidate = RuleSet.model_validate({**candidate.model_dump(by_alias=True), "wide": [dead]})
    events = [flow(m * 5 + n, f"s{n}", m * MINUTE + n, 30) for m in range(5) for n in range(5)]
    backtest, span = ran(base, candidate, events, until=20 * MINUTE)
    found = report(backtest, span)
    assert [a.rule for a in backtest.alarms("base")] == ["silent"] * 5
    assert [a.rule for a in backtest.alarms("candidate")] == ["gateway-dead"]
    assert (found.suppressed, found.loads["candidate"].alarms) == ({"base": 0, "candidate": 5}, 1)
    assert (len(found.difference.lost), [a.rule for a in found.difference.new]) == (5, ["gateway-dead"])


# --- an operator's load


def brute(times, span, operators):
    """Second by second."""
    flood, total = False, 0
    for s in range(span.start, span.end, 1_000_000):
        near = sum(s - 600_000_000 < t <= s for t in times)
        flood = near >= 5 * operators if flood else near > 10 * operators
        total += flood
    return total / 60


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3599), max_size=80), st.sampled_from([1, 2]))
def test_floods_are_counted_as_they_are_second_by_second(seconds, operators):
    span = Span(0, 3600 * 1_000_000)
    times = [s * 1_000_000 for s in seconds]
    found = load_of(times, span, operators)
    assert found.flood_minutes == pytest.approx(brute(times, span, operators))
    assert found.mean == pytest.approx(len(times) / operators / 6)
    assert (
        found.worst
        == max((sum(t - 600_000_000 < u <= t for u in times) for t in times), default=0) / operators
    )


def test_eleven_alarms_in_ten_minutes_are_a_flood_and_ten_are_not():
    span = Span(0, 60 * MINUTE)
    assert load_of([n * 1_000_000 for n in range(10)], span).flood_minutes == 0
    found = load_of([n * 1_000_000 for n in range(11)], span)
    assert found.flood_minutes == pytest.approx(
        (600 + 6 - 10) / 60
    )  # until the seventh of them is ten minutes old
    assert found.worst == 11


def test_an_advisory_makes_no_sound_and_is_still_compared():
    quiet = ruleset(slow(priority="advisory"))
    backtest, span = ran(ruleset(), quiet, jam())
    found = report(backtest, span)
    assert found.loads["candidate"].alarms == 0
    assert len(found.difference.new) == 1


# --- what really happened


def test_an_incident_that_only_the_candidate_misses_is_the_finding():
    happened = [
        Happened("incident", "jam-1", "jam", T0 + 5 * MINUTE, T0 + 15 * MINUTE, frozenset("a"), ("slow",))
    ]
    backtest, span = ran(ruleset(slow()), ruleset(slow(below=5)), jam())
    found = report(backtest, span, truth=(happened, [span]))
    assert found.newly_missed == ("jam-1",)
    said = found.json()
    assert (said["base"]["missed"], said["candidate"]["missed"]) == ([], ["jam-1"])
    backtest, span = ran(ruleset(slow(below=5)), ruleset(slow()), jam())
    assert report(backtest, span, truth=(happened, [span])).newly_missed == ()


# --- the command

YAML = """\
rules:
- id: slow
  kind: threshold
  on: city.traffic.flow.v1
  by: [segment_id]
  levels:
  - {priority: P3, raise: "speed_kmh < 10", clear: "speed_kmh >= 20", for: 2m}
"""


@pytest.fixture
def recording(city):  # noqa: F811
    """Files of the old rules and the new, a recording of a jam, and what happened."""
    folder = city.folder
    (folder / "old.yaml").write_text(YAML)
    (folder / "new.yaml").write_text(YAML.replace("< 10", "< 5"))
    lines = [json.dumps({"topic": FLOW, "event": json.loads(event.wire())}) for event in jam()]
    (folder / "jam.jsonl").write_text("\n".join(lines))
    truth = [
        {"what": "run", "start": moment(T0).isoformat()},
        {
            "what": "incident", "id": "jam-1", "kind": "jam", "start": moment(T0 + 5 * MINUTE).isoformat(),
            "end": moment(T0 + 15 * MINUTE).isoformat(), "subjects": ["a"], "rules": ["slow"],
        },
        {"what": "end", "at": moment(T0 + 20 * MINUTE).isoformat()},
    ]  # fmt: skip
    (folder / "truth.jsonl").write_text("\n".join(map(json.dumps, truth)))
    return folder


def words(folder, *more, rules="new.yaml"):
    return ("rules", "backtest", "--rules", str(folder / rules), "--against", str(folder / "old.yaml"), *more)


def test_the_difference_is_printed_for_people_and_for_programs(city, recording):  # noqa: F811
    input_ = ("--input", str(recording / "jam.jsonl"))
    done = city(*words(recording, *input_))
    assert done.code == 0
    assert "0 new, 1 lost, 0 changed, 0 the same" in done.out
    assert any(row.split()[:3] == ["lost", "slow", "segment_id=a"] for row in done.rows)
    said = city(*words(recording, *input_, "--json")).json()
    assert (said["events"]["stored"], said["same"], len(said["lost"])) == (20, 0, 1)
    assert said["base"]["by_priority"]["P3"] == 1
    assert city(*words(recording, *input_, "--json", rules="old.yaml")).json()["empty"]


def test_an_incident_newly_missed_ends_with_1(city, recording):  # noqa: F811
    with_truth = ("--input", str(recording / "jam.jsonl"), "--truth", str(recording / "truth.jsonl"))
    done = city(*words(recording, *with_truth))
    assert done.code == 1
    assert "missed by the candidate alone: jam-1" in done.out
    assert city(*words(recording, *with_truth, rules="old.yaml")).code == 0


def test_only_the_span_is_compared_and_what_was_before_is_known(city, recording):  # noqa: F811
    late = ("--input", str(recording / "jam.jsonl"), "--from", "2026-01-01T00:16:00Z")
    assert city(*words(recording, *late, "--json")).json()["lost"] == []
    during = ("--input", str(recording / "jam.jsonl"), "--from", "2026-01-01T00:08:00Z", "--json")
    (lost,) = city(*words(recording, *during)).json()["lost"]
    assert lost["start"] == "2026-01-01T00:07:00Z"
    assert city(*words(recording, *during, "--to", "2026-01-01T00:10:00Z")).json()["lost"][0]["end"] is None


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--store"], 3, "store"),
        (["--from", "2026-01-02", "--to", "2026-01-01"], 2, "is not before --to"),
        (["--operators", "0"], 2, "--operators 0"),
        (["--mapping", "nab"], 2, "--input"),
        (["--input", "no-such-file"], 2, "no such file"),
        (["--log"], 3, "nothing runs on"),
        (["--grace", "inf"], 2, "--grace inf: write a number of seconds"),
        (["--grace", "nan"], 2, "--grace nan: write a number of seconds"),
        (["--grace=-1"], 2, "--grace -1: write a number of seconds"),
        (["--from", "0001-01-01T00:00:00+14:00"], 2, "is in UTC no time of the years 1 to 9999"),
        (["--topic", "city.traffic.flw.v1"], 2, "did you mean city.traffic.flow.v1"),
    ],
)
def test_what_cannot_be_done_is_told_by_its_exit_code(city, recording, more, code, said):  # noqa: F811
    done = city(*words(recording, *more))
    assert (done.code, said in done.err) == (code, True), done.err


def test_over_a_log_it_reads_what_was_fed_and_writes_nothing_anywhere(city, recording, monkeypatch):  # noqa: F811
    with EmbeddedBroker() as broker:
        shared = load.load(recording / "old.yaml")
        topics.publish_rules(broker.bootstrap, "", shared.canonical(), T0, T0)
        with closing(clients.producer(broker.bootstrap)) as producer:
            for event in jam():
                said = headers.headers(event.event_id, FLOW, "/t", event.at)
                producer.send(FLOW, event.wire(), b"a", said, 1, event.at // 1000).get(10)
        (recording / "up.json").write_text(
            json.dumps({"bootstrap": broker.bootstrap, "log_id": "L", "pid": 1, "embedded": True})
        )
        everything = [(name, n) for name, count in topics.partitions().items() for n in range(count)]
        before = clients.end_offsets(broker.bootstrap, everything)

        def none(*_args, **_options):
            raise AssertionError("a backtest opens no producer")

        for name in ("producer", "aio_producer", "Feeder"):
            monkeypatch.setattr(clients, name, none)
        monkeypatch.setattr(topics, "producer", none)
        done = city("rules", "backtest", "--rules", str(recording / "new.yaml"), "--json")
        assert done.code == 0, done.err
        said = done.json()
        assert said["against"] == "version 0, which is in force"
        assert (said["events"]["stored"], len(said["lost"])) == (20, 1)
        assert clients.end_offsets(broker.bootstrap, everything) == before
    assert not (recording / "store.sqlite").exists()


def test_a_set_in_force_that_cannot_be_read_is_no_base(city, recording):  # noqa: F811
    with EmbeddedBroker() as broker:
        topics.publish_rules(broker.bootstrap, "", b'{"rules": [{"id": "x", "kind": "oracle"}]}', T0, T0)
        (recording / "up.json").write_text(
            json.dumps({"bootstrap": broker.bootstrap, "log_id": "L", "pid": 1, "embedded": True})
        )
        done = city("rules", "backtest", "--rules", str(recording / "new.yaml"))
    assert (done.code, done.out) == (2, "")
    assert "version 0 cannot be read by this citywatch: rules.0" in done.err
    assert "--against FILE" in done.err


@pytest.mark.slow
def test_the_rules_in_force_over_what_the_store_kept_tell_what_the_city_told(city):  # noqa: F811
    words = ["simulate", "--own", "--for", "3600", "--start", "2026-11-25T07:30", "--data", str(city.folder)]
    subprocess.run(
        [sys.executable, "-m", "cli", *words],
        cwd=ROOT,
        env=environ(),
        capture_output=True,
        timeout=120,
        check=True,
    )
    told = [a for a in city("alarms", "--all", "--json").json() if not a["retracted"]]
    said = city("rules", "backtest", "--rules", str(SHIPPED), "--json").json()
    assert told
    assert said["empty"]
    assert said["same"] == len(told)
    for priority, n in said["base"]["by_priority"].items():
        assert n == sum(a["priority"] == priority for a in told)
