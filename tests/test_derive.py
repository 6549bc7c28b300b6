"""Every signal carries what it was derived from, no more than needed, and is derived again from that alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from explained import CASES
from hypothesis import given, settings
from test_core_judge import events, log_of, ticks

from models.alarm import PRIORITIES, Signal
from models.base import micros
from models.catalogue import event_of
from rules.derive import NO_MINIMUM, Given, fold, given_of, same, samples_in, seal_of
from rules.machine import Episode
from rules.proof import signals_of
from rules.spec import RuleSet

if TYPE_CHECKING:
    from collections.abc import Iterable


def read_back(signal: Signal) -> Signal:
    """Through a topic and a store that parses and writes JSON."""
    return Signal.model_validate_json(json.dumps(json.loads(signal.model_dump_json(exclude_none=True))))


def episode_of(signal: Signal) -> Episode:
    return Episode(
        micros(signal.start),
        None if signal.end is None else micros(signal.end),
        PRIORITIES.index(signal.priority),
        signal.peak,
        (),
        signal.held,
    )


def folded(signal: Signal) -> tuple[Given, list[Episode]]:
    assert signal.proof is not None
    found = given_of(signal.proof, "/".join(signal.labels.values()))
    quiet = not RuleSet.model_validate(signal.proof.rules).rules[0].tell
    return found, [e._replace(held=e.held or quiet) for e in fold(found)]


def check(signals: Iterable[Signal]) -> None:
    for told in signals:
        signal = read_back(told)
        proof = signal.proof
        assert proof is not None
        assert seal_of(proof) == proof.seal
        given_, found = folded(signal)
        if signal.op == "retract":
            assert proof.gone
            assert all(e.start != micros(signal.start) for e in found)
            continue
        wanted = episode_of(signal)
        assert sum(same(e, wanted) for e in found) == 1
        carried = {s[1] for s in (*samples_in(given_.state), *given_.samples, *proof.beside)}
        assert {e.event_id for e in signal.evidence} <= carried
        if proof.minimal:
            for n in range(len(given_.samples)):
                fewer = [*given_.samples[:n], *given_.samples[n + 1 :]]
                again = fold(given_._replace(samples=fewer))
                assert not any(same(e._replace(held=wanted.held), wanted) for e in again)


@given(events, ticks)
@settings(max_examples=80, deadline=None)
def test_every_signal_is_derived_again_from_its_own_words(made, beats):
    log = log_of(made, beats, 0)
    check(log.feed(log.fresh()))


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.rule.id}: {c.name}")
def test_whatever_a_rule_s_own_test_raises_is_derived_again(case):
    topic = case.rule.on
    mine = [event for event in case.events() if event.topic.name == topic]
    told = list(signals_of(case.rules(), event_of(topic), mine, case.until()))
    check(told)
    if case.rule.kind not in NO_MINIMUM:
        assert all(s.proof.minimal for s in told if s.op == "put")
