"""An alarm of a rule over signals explains itself by the alarms that it looked at, and by no more than it needs."""

from __future__ import annotations

import pytest
from explained import through_plane
from test_wide import ROOT, Said, World, rules

from commands.cited import compared, events_of
from models.alarm import Signal
from models.base import micros
from rules.derive import seal_of
from rules.derive_wide import members_of
from rules.explain import derive
from rules.story import story

NEAR = {"id": "near", "kind": "correlate", "of": ["jam", "crash", "lost"], "classes": 2, "priority": "P2"}
MANY = {"id": "many", "kind": "area", "of": ["jam"], "by": "ward", "least": 2, "priority": "P2", "keep": "2m"}
BOTH = {**ROOT, "id": "both", "by": ["feed", "gateway"], "wait": "1m"}


def here(rule: str, key: str, start: float, end: float | None = None) -> Said:
    return Said(rule, key, start, end, 20.95, 107.0, "w")


def crash_and_jam(world: World) -> None:
    world.say(here("crash", "c1", 0), here("jam", "a", 2), here("jam", "b", 3))
    world.say(here("jam", "a", 2, 20), here("jam", "b", 3, 22), here("crash", "c1", 0, 30))


def jams(world: World) -> None:
    world.say(*(here("jam", key, n) for n, key in enumerate("abcd")))
    world.say(here("jam", "a", 0, 10), here("jam", "b", 1, 11), here("jam", "c", 2, 12))
    world.tell(20, None)


def dead_gateway(world: World) -> None:
    world.say(*(here("silent", key, n / 10) for n, key in enumerate("abcd")))
    world.tell(5, None)
    world.say(*(here("silent", key, n / 10, 9 + n) for n, key in enumerate("abcd")))
    world.tell(30, None)


WORLDS = [(NEAR, crash_and_jam), (MANY, jams), (ROOT, dead_gateway), (BOTH, dead_gateway)]


def told_by(rule, happens):
    world = World(rules(rule))
    happens(world)
    return world, through_plane(s for s in world.out if isinstance(s, Signal))


each = pytest.mark.parametrize(
    ("rule", "happens"), WORLDS, ids=lambda x: getattr(x, "__name__", None) or x["id"]
)


@each
def test_what_was_told_of_a_situation_is_derived_again_at_every_step(rule, happens):
    world, told = told_by(rule, happens)
    assert told
    for alarm, history in told:
        assert derive(alarm) == []
        assert alarm.proof.minimal
        assert derive(history[0].alarm) == [] or history[0].alarm.position == history[1].alarm.position
    assert all(s.proof.seal == seal_of(s.proof) for s in world.out if isinstance(s, Signal) and s.op == "put")


@each
def test_none_of_the_alarms_that_it_carries_can_be_left_out(rule, happens):
    for alarm, _ in told_by(rule, happens)[1]:
        for n in range(len(alarm.proof.samples)):
            samples = (*alarm.proof.samples[:n], *alarm.proof.samples[n + 1 :])
            proof = alarm.proof.model_copy(update={"samples": samples})
            proof = proof.model_copy(update={"seal": seal_of(proof)})
            assert derive(alarm.model_copy(update={"proof": proof}))


@each
def test_its_story_names_the_alarms_and_when_it_was_enough(rule, happens):
    for alarm, history in told_by(rule, happens)[1]:
        lines = story(alarm, history)
        assert lines[0].part == "rule"
        text = [line.text.en for line in lines]
        assert any(t.startswith(f"that is enough: {rule['priority']} alarm") for t in text)
        assert sum(t.startswith("alarm ") for t in text) == len(members_of(alarm.proof))
        assert all(line.text.vi != line.text.en for line in lines)


@each
def test_an_alarm_that_it_rests_on_and_that_is_another_now_is_noticed(rule, happens):
    for alarm, history in told_by(rule, happens)[1]:
        for event in events_of(alarm, history):
            assert compared(event, None).result == "removed"
            assert compared(event, (event.offset, b'{"alarm_id": "x"}')).result == "altered"
            wrong = f'{{"alarm_id": "{event.event_id}", "start": "2020-01-01T00:00:00Z"}}'.encode()
            assert compared(event, (event.offset, wrong)).detail == "its start is another"


def test_a_seal_that_was_broken_and_a_start_that_is_another_are_found():
    alarm = told_by(*WORLDS[0])[1][0].alarm
    other = alarm.model_copy(update={"proof": alarm.proof.model_copy(update={"used": 99})})
    assert [p.en for p in derive(other)] == ["The seal does not fit: the proof was altered."]
    moved = alarm.model_copy(update={"start": alarm.raised_at})
    assert micros(moved.start) == micros(alarm.start) or derive(moved)
    evidence = tuple(e.model_copy(update={"offset": 999}) for e in alarm.evidence)
    assert len(derive(alarm.model_copy(update={"evidence": evidence}))) == len(evidence)
