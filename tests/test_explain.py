"""Every alarm explains itself: derived again from its record, told in words, and whoever touched an event is found."""

from __future__ import annotations

import json
import zlib
from itertools import pairwise
from typing import get_args

import pytest
from cli_world import city  # noqa: F401
from explained import CASES, Told, alarms_of, events_of_case, points, records, through_plane
from test_core_judge import RULES, T0, L, S, flow, run

from commands.cited import compared, events_of
from models.alarm import Alarm, AlarmEvent
from models.base import moment
from models.traffic import TrafficFlow
from rules import story as stories
from rules.derive import cited, seal_of
from rules.explain import derive
from rules.judge import Judge
from rules.program import compile_program
from rules.story import story

TOLD = [(case, told) for case in CASES for told in alarms_of(case)]
each = pytest.mark.parametrize(("case", "told"), TOLD, ids=lambda x: getattr(x, "name", None))
#: Every event that any of these alarms cites, by its number among those of its proof.
CITED = [(told, n) for _, told in TOLD for n in range(len(cited(told.alarm.proof)))]


def changed(alarm: Alarm, **proof) -> Alarm:
    """The alarm with another proof, sealed anew by whoever altered it."""
    made = alarm.proof.model_copy(update=proof)
    return alarm.model_copy(update={"proof": made.model_copy(update={"seal": seal_of(made)})})


@each
def test_every_alarm_is_derived_again_and_so_is_every_entry_of_its_history(case, told):
    assert derive(told.alarm) == []
    for entry, following in pairwise((*told.history, None)):
        if (
            following is None or following.alarm.position != entry.alarm.position
        ):  # raised and cleared by one signal
            assert derive(entry.alarm) == []


@each
def test_a_story_has_the_rule_what_was_seen_what_was_told_and_on_what_it_rests(case, told):
    lines = story(told.alarm, told.history)
    parts = [line.part for line in lines]
    assert parts[0] == "rule"
    assert parts[-1] == "proof"
    assert {"seen", "time"} & set(parts)
    assert parts.count("told") == len(told.history)
    raised = [line for line in lines if line.part in ("seen", "time") and "alarm" in line.text.en]
    assert raised
    assert all(line.text.vi != line.text.en for line in lines)
    text = " ".join(line.text.en for line in lines)
    assert case.rule.id in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("start", "2026-01-05T00:00:01Z"),
        ("end", "2027-01-05T00:00:01Z"),
        ("priority", "advisory"),
        ("peak", 1e9),
        ("title", {"vi": "Khác", "en": "Other"}),
    ],
)
def test_an_alarm_that_is_not_what_its_proof_says_is_found_out(field, value):
    for _, (alarm, _history) in TOLD:
        if alarm.priority == "advisory" == value:
            continue
        body = json.loads(alarm.model_dump_json(exclude_none=True)) | {field: value}
        assert derive(Alarm.model_validate(body)), alarm.rule


@pytest.mark.parametrize(("told", "n"), CITED, ids=lambda x: x if isinstance(x, int) else x.alarm.rule)
def test_an_event_removed_from_a_proof_or_altered_in_it_is_noticed(told, n):
    alarm = told.alarm
    proof, sample = alarm.proof, list(cited(alarm.proof)[n])
    body = proof.model_dump_json()
    was = json.dumps(sample, separators=(",", ":"), ensure_ascii=False)
    if was not in body:  # one of these has floats or words that this spelling has not
        was = json.dumps(sample[:6], separators=(",", ":"), ensure_ascii=False)[:-1]
    assert was in body
    other = [*sample[:5], sample[5] ^ 1, sample[6]]
    now = json.dumps(other, separators=(",", ":"), ensure_ascii=False)[: len(was)]
    assert now != was
    altered = alarm.model_copy(update={"proof": type(proof).model_validate_json(body.replace(was, now))})
    assert [p.en for p in derive(altered)] == ["The seal does not fit: the proof was altered."]
    assert [c.digest for c in events_of(altered, [])] != [c.digest for c in events_of(alarm, [])]
    if proof.minimal:  # even sealed anew
        fewer = [s for s in proof.samples if s[1] != sample[1]]
        if len(fewer) < len(proof.samples):
            assert derive(changed(alarm, samples=tuple(fewer)))


@pytest.mark.parametrize(("told", "n"), CITED, ids=lambda x: x if isinstance(x, int) else x.alarm.rule)
def test_an_event_removed_from_the_log_or_altered_there_is_noticed(told, n):
    event = events_of(told.alarm, [])[n]
    assert compared(event, None).result == "removed"
    assert compared(event, (event.offset + 1, b"{}")).result == "removed"
    mine = json.dumps({"event_id": event.event_id, "speed_kmh": 1}).encode()
    assert compared(event, (event.offset, mine)).result == "altered"
    assert (
        compared(event, (event.offset, b'{"event_id":"x"}')).detail == "another record stands at its place: x"
    )
    assert compared(event._replace(digest=zlib.crc32(mine)), (event.offset, mine)).result == "same"


def test_an_event_of_the_alarm_that_is_none_of_the_proof_is_noticed():
    for _, (alarm, _history) in TOLD:
        for n, event in enumerate(alarm.evidence):
            for lie in ({"values": {"speed_kmh": -1.0}}, {"event_id": "x"}, {"offset": 10**6}):
                evidence = [*alarm.evidence]
                evidence[n] = event.model_copy(update=lie)
                assert derive(alarm.model_copy(update={"evidence": tuple(evidence)}))


# --- what an order of arrival makes of it ---------------------------------------------------------------------------------


def texts(told, lang="en"):
    return [getattr(line.text, lang) for line in story(told.alarm, told.history)]


def test_a_correction_is_told_as_the_reason_of_a_revision():
    _, signals = run(
        (0, flow(1, "a", T0, 1)),
        (60, flow(2, "a", T0 + 60, 20)),
        (105, "tick"),
        (110, flow(2, "a", T0 + 60, 1).model_copy(update={"revision": 1})),
    )
    (told,) = through_plane(s for s in signals if s.rule == "slow")
    assert derive(told.alarm) == []
    assert texts(told)[-2].startswith(
        "Revised, because e2 corrects or contradicts what was there (end 2026-01-01 07:01:40 → –"
    )


def test_what_is_taken_back_is_told_with_its_reason_and_still_says_what_it_was():
    _, signals = run((0, flow(1, "a", T0, 1)), (1, flow(2, "a", T0, 50)), (2, "tick"))
    (told,) = through_plane(s for s in signals if s.rule == "slow")
    assert told.alarm.retracted
    assert derive(told.alarm) == []
    assert (
        "Taken back: with all that is known it never was, because e2 corrects or contradicts what was there."
        in texts(told)
    )


def test_another_version_of_a_rule_ends_an_alarm_and_the_story_says_so():

    judge = Judge(TrafficFlow, 0, "log", whole=True)
    slow = RULES.rules[0].model_dump(by_alias=True) | {
        "levels": [{"priority": "P4", "raise": "speed_kmh < 2"}]
    }
    other = type(RULES).model_validate({"rules": [slow]})
    signals = judge.control(0, T0 * S, 0, compile_program(RULES, 7, TrafficFlow))
    signals += judge.event(1, T0 * S, flow(1, "a", T0, 3), 1)
    signals += judge.control(2, (T0 + 10) * S, (T0 + 10) * S, compile_program(other, 8, TrafficFlow))
    (told,) = through_plane(s for s in signals if s.rule == "slow")
    assert derive(told.alarm) == []
    assert "the rule is in force no more as it was: over, after 10s." in texts(told)
    assert any("rules version 8 came into force" in line for line in texts(told))


def test_an_alarm_without_proof_says_so():
    _, signals = run((0, flow(1, "a", T0, 1)))
    (told,) = through_plane(s for s in signals if s.rule == "slow")
    bare = told.alarm.model_copy(update={"proof": None})
    assert [p.en for p in derive(bare)] == ["This alarm carries no proof."]
    assert [line.part for line in story(bare, told.history)] == ["told"]


@pytest.mark.parametrize(
    "damage", [{"rules": {}}, {"state": [[1]]}, {"samples": ([1, 2],)}, {"rules": {"rules": [{}]}}]
)
def test_a_damaged_proof_is_told_and_breaks_nothing(damage):
    _, signals = run((0, flow(1, "a", T0, 1)))
    (told,) = through_plane(s for s in signals if s.rule == "slow")
    broken = changed(told.alarm, **damage)
    (problem,) = derive(broken)
    assert problem.en.startswith("It cannot be derived again")
    assert story(broken, told.history)
    events_of(broken, told.history)


def test_values_that_a_later_version_has_more_of_are_found_by_their_names():
    _, signals = run((0, flow(1, "a", T0, 1)), (L, "tick"))
    (told,) = through_plane(s for s in signals if s.rule == "slow")
    proof = told.alarm.proof
    names = proof.names[::-1]
    samples = tuple([*s[:6], list(s[6])[::-1]] for s in proof.samples)
    old = changed(told.alarm, names=names, samples=samples)
    assert derive(old) == []


# --- the command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def after(city):  # noqa: F811
    """A city whose broker has ended: the store alone has its events and its alarms."""

    def hold(case, told):
        city.hold(points(events_of_case(case)), records(told))
        return city

    return hold


def test_every_alarm_is_explained_when_only_the_store_is_left(after):
    for case, (alarm, history) in {told.alarm.rule: (case, told) for case, told in TOLD}.values():
        city_ = after(case, [Told(alarm, history)])
        done = city_("explain", alarm.alarm_id, "--json")
        found = done.json()
        assert (done.code, found["derives"], found["problems"]) == (0, True, []), alarm.rule
        assert {e["result"] for e in found["events"]} <= {"same"}, found["events"]
        for file in city_.folder.glob("store.sqlite*"):
            file.unlink()


JAM = next((c, t) for c, t in TOLD if t.alarm.rule == "road-jammed")


def test_a_person_reads_the_story_in_either_language(after):
    case, told = JAM
    city_ = after(case, [told])
    done = city_("explain", told.alarm.alarm_id)
    assert "P3 was met for 5m: P3 alarm." in done.out
    assert done.rows[-1] == "Derived again, exactly as it was told."
    done = city_("explain", told.alarm.alarm_id, "--lang", "vi")
    assert "ngưỡng P3 đã đạt suốt 5m: báo động P3." in done.out
    assert done.rows[-1] == "Suy ra lại được, đúng như đã báo."


def test_an_event_altered_in_the_store_is_named(after):
    case, told = JAM
    event = events_of(told.alarm, told.history)[0]
    city_ = after(case, [told])
    city_.hold(
        [
            p._replace(fields=(("speed_kmh", 99.0), ("occupancy_pct", 88.0)))
            for p in points(events_of_case(case))
            if p.time == event.observed_at
        ]
    )
    done = city_("explain", told.alarm.alarm_id)
    assert done.code == 1
    assert f"! the event was altered: {event.event_id}" in done.out
    assert "speed_kmh is 99.0, and was" in done.out


def test_an_event_missing_in_the_store_is_named(city):  # noqa: F811
    case, told = JAM
    event = events_of(told.alarm, told.history)[-1]
    older = [p for p in points(events_of_case(case)) if p.time != event.observed_at]
    earlier = older[0]._replace(time=older[0].time - 1)
    city.hold([earlier, *older], records([told]))
    done = city("explain", told.alarm.alarm_id)
    assert done.code == 1
    assert f"! the event was removed: {event.event_id}" in done.out


def test_an_alarm_that_nobody_knows_is_wrong_use(city):  # noqa: F811
    city.hold(records=[])
    done = city("explain", "nobody")
    assert (done.code, done.out) == (2, "")
    assert "there is no alarm nobody" in done.err


def test_the_story_has_words_for_all_that_can_happen_to_an_alarm():
    assert set(stories._TYPES) == set(get_args(AlarmEvent.model_fields["type"].annotation))


def test_what_a_person_did_is_told_with_who_until_when_and_why():
    told = TOLD[0][1]
    on_it = {"shelved": True, "shelved_by": "Lan", "shelved_until": moment(T0 + 7200 * S)}
    entry = told.history[0].model_copy(
        update={
            "type": "shelved",
            "actor": "Lan",
            "note": "roadworks",
            "cause": "c1",
            "alarm": told.alarm.model_copy(update=on_it),
        }
    )
    lines = [line.text.en for line in story(told.alarm, [*told.history, entry]) if line.part == "told"]
    assert lines[-1].startswith("Shelved until ")
    assert "by Lan: “roadworks”" in lines[-1]
    assert "c1" not in lines[-1]
