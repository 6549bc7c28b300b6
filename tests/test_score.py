"""Alarms compared with the truth: found, missed, false, how long it took; and the command that prints it."""

import json

import pytest
from cli_world import alarm, city  # noqa: F401 - a fixture
from hypothesis import given
from hypothesis import strategies as st

from rules.score import AFTER, Happened, Span, Told, score

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = [Span(0, 24 * HOUR)]


def crash(start=HOUR, end=2 * HOUR, subjects=("s1", "s2"), rules=("road-jammed",), what="incident", id_="c1"):
    return Happened(what, id_, "crash", start, end, frozenset(subjects), tuple(rules))


def told(raised, subject="s1", rule="road-jammed", start=None, end=None, id_="a1"):
    return Told(id_, rule, frozenset({subject}), raised if start is None else start, end, raised)


def test_an_alarm_of_an_expected_rule_on_a_subject_during_the_incident_finds_it():
    found = score([crash()], [told(HOUR + 5 * MINUTE), told(HOUR + 9 * MINUTE, subject="s2", id_="a2")], DAY)
    (result,) = found.incidents
    assert result.alarm.id == "a1"
    assert result.seconds == 300
    assert found.rate == 1
    assert found.false == ()


@pytest.mark.parametrize(
    ("alarm_", "false"),
    [
        (told(HOUR + MINUTE, subject="s9"), 1),  # somebody else
        (told(HOUR + MINUTE, rule="road-detector-silent"), 0),  # it is of the crash, but does not tell of it
        (told(HOUR - 9 * MINUTE, end=HOUR - MINUTE), 1),  # before
        (told(2 * HOUR + MINUTE), 0),  # after, and may still come of it
        (told(2 * HOUR + AFTER + 1), 1),  # long after
    ],
)
def test_any_other_alarm_does_not(alarm_, false):
    found = score([crash()], [alarm_], DAY)
    assert found.rate == 0
    assert [r.happened.id for r in found.missed] == ["c1"]
    assert len(found.false) == false


def test_an_episode_that_began_before_but_was_told_during_it_counts():
    assert score([crash()], [told(HOUR + MINUTE, start=HOUR - 2 * MINUTE)], DAY).rate == 1


def test_an_alarm_that_stood_already_finds_it_at_once():
    (result,) = score([crash()], [told(HOUR - MINUTE, end=HOUR + MINUTE)], DAY).incidents
    assert result.seconds == 0


def test_a_fault_explains_its_alarms_and_counts_for_no_detection():
    fault = crash(what="fault", rules=("road-detector-silent",))
    found = score([fault], [told(HOUR + MINUTE, rule="road-detector-silent")], DAY)
    assert found.rate is None
    assert found.false == ()
    assert (found.json()["faults"], found.json()["faults_told"]) == (1, 1)


def test_a_fault_that_no_rule_should_tell_still_explains():
    found = score([crash(what="fault", rules=())], [told(HOUR + MINUTE)], DAY)
    assert (found.faults, found.false) == ((), ())


def test_what_is_not_over_when_the_truth_ends_is_no_miss_but_may_be_found():
    short = [Span(0, 90 * MINUTE)]
    assert score([crash()], [], short).rate is None
    assert score([crash()], [], short).json()["unfinished"] == 1
    assert score([crash()], [told(HOUR + MINUTE)], short).rate == 1


def test_what_was_told_when_no_truth_was_written_is_not_judged():
    spans = [Span(0, HOUR), Span(5 * HOUR, 6 * HOUR)]
    alarms = [told(3 * HOUR), told(5 * HOUR + MINUTE, id_="a2")]
    found = score([], alarms, spans)
    assert [a.id for a in found.false] == ["a2"]
    assert found.false_per_hour == 0.5


_happened = st.builds(
    lambda n, start, length, subject, what: Happened(
        what, f"h{n}", "k", start, start + length, frozenset({subject}), ("r",)
    ),
    st.integers(0, 99), st.integers(0, 100), st.integers(1, 50), st.sampled_from("xy"), st.sampled_from(["incident", "fault"]),
)  # fmt: skip
_alarms = st.builds(
    lambda n, at, back, subject, rule: Told(f"a{n}", rule, frozenset({subject}), at - back, None, at),
    st.integers(0, 99), st.integers(0, 150), st.integers(0, 20), st.sampled_from("xyz"), st.sampled_from(["r", "q"]),
)  # fmt: skip


@given(
    st.lists(_happened, max_size=8, unique_by=lambda h: h.id),
    st.lists(_alarms, max_size=8, unique_by=lambda a: a.id),
    st.randoms(use_true_random=False),
)
def test_the_order_of_truth_and_alarms_makes_no_difference(happened, alarms, rng):
    spans = [Span(0, 200)]
    whole = score(happened, alarms, spans)
    rng.shuffle(happened)
    rng.shuffle(alarms)
    assert score(happened, alarms, spans) == whole


@given(
    st.lists(_happened, max_size=8, unique_by=lambda h: h.id),
    st.lists(_alarms, max_size=8, unique_by=lambda a: a.id),
)
def test_more_alarms_never_find_less(happened, alarms):
    spans = [Span(0, 200)]
    few, all_ = score(happened, alarms[::2], spans), score(happened, alarms, spans)
    assert {r.happened for r in few.counted if r.alarm} <= {r.happened for r in all_.counted if r.alarm}
    finders = {r.alarm.id for r in (*all_.incidents, *all_.faults) if r.alarm}
    assert not finders & {a.id for a in all_.false}


# --- the command ----------------------------------------------------------------------------------------------------

_TRUTH = [
    {"what": "run", "seed": 1, "start": "2026-01-01T00:00:00Z", "load": 1.0},
    {"what": "incident", "id": "c1", "kind": "crash", "start": "2026-01-01T01:00:00Z", "end": "2026-01-01T02:00:00Z",
     "subjects": ["s1"], "topics": [], "rules": ["road-jammed"]},
    {"what": "incident", "id": "h1", "kind": "haze", "start": "2026-01-01T03:00:00Z", "end": "2026-01-01T09:00:00Z",
     "subjects": ["x"], "topics": [], "rules": ["air-unhealthy"]},
    {"what": "end", "at": "2026-01-01T10:00:00Z"},
]  # fmt: skip


def write(city, rows=_TRUTH):  # noqa: F811
    city.hold(
        records=[
            alarm("a1", start="2026-01-01T01:04:00Z"),
            alarm("a2", start="2026-01-01T05:00:00Z", labels={"segment_id": "s7"}),
            alarm("a3", start="2026-01-01T05:00:00Z", labels={"segment_id": "s8"}, retracted=True),
        ]
    )
    (city.folder / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_score_of_a_store_names_what_was_missed_and_what_was_false(city):  # noqa: F811
    write(city)
    said = city("score", "--json")
    assert said.code == 1
    found = said.json()
    assert found["detection_rate"] == 0.5
    assert found["missed"] == [{"id": "h1", "kind": "haze", "expected": ["air-unhealthy"]}]
    assert found["false_by_rule"] == {"road-jammed": 1}
    assert found["false_per_hour"] == 0.1
    assert found["seconds_to_detect"] == {"median": 240.0, "max": 240.0}
    assert city("score", "--min", "0.5").code == 0
    shown = city("score").out
    assert "missed: h1, no alarm of air-unhealthy on it" in shown
    assert "1 false alarms in 10.0 h" in shown


def test_a_run_that_was_killed_is_judged_up_to_what_is_known(city):  # noqa: F811
    write(city, _TRUTH[:-1])
    found = city("score", "--json").json()
    assert found["hours"] == 5.0
    assert (found["incidents"], found["found"], found["unfinished"]) == (1, 1, 1)


def test_no_truth_and_a_broken_truth_are_told_with_file_and_line(city):  # noqa: F811
    city.hold()
    missing = city("score")
    assert missing.code == 2
    assert "simulate" in missing.err
    write(city, [*_TRUTH[:2], {"what": "nonsense"}])
    broken = city("score")
    assert broken.code == 2
    assert "truth.jsonl:3" in broken.err


def test_a_rate_that_is_no_share_is_refused(city):  # noqa: F811
    assert city("score", "--min", "80").code == 2


def test_what_calls_nobody_is_neither_false_nor_a_find(city):  # noqa: F811
    city.hold(
        records=[
            alarm("a1", start="2026-01-01T01:04:00Z", priority="advisory"),
            alarm("a2", start="2026-01-01T05:00:00Z", state="DSUPR", suppressed=True),
        ]
    )
    (city.folder / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _TRUTH))
    found = city("score", "--json").json()
    assert (found["found"], found["false"]) == (0, 0)
    assert (found["advisories"], found["suppressed"]) == (1, 1)


def test_a_situation_is_on_the_subjects_of_all_that_it_is_made_of(city):  # noqa: F811
    member = {"values": {"rule": "road-detector-silent", "labels": {"segment_id": "s1"}}}
    city.hold(
        records=[
            alarm(
                "g1",
                start="2026-01-01T01:04:00Z",
                rule="gateway-silent",
                labels={"gateway": "g"},
                evidence=[member],
            )
        ]
    )
    (city.folder / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _TRUTH))
    assert city("score", "--json").json()["false"] == 0
