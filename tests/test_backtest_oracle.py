"""The backtest of any kind of rule against another is the difference of what the oracle says of each."""

import json
from zlib import crc32

import pytest
from episodes import KINDS, TICK, episode
from oracle import Version, ledger

from models.base import Event
from rules.backtest import Backtest, report
from rules.score import Span
from rules.spec import RuleSet

SEEDS = range(12)


def set_of(drawn):
    """Of the versions that were drawn the first."""
    return drawn.versions[0].rules


def other_rules(drawn):
    """Another rule of the kind under the same name, on the same topic; None: the next ones drawn are on others."""
    for seed in range(1000 + drawn.seed * 10, 1010 + drawn.seed * 10):
        other = episode(drawn.kind, seed, orders=1)
        if other.event is drawn.event:
            mine, its = (json.loads(set_of(found).canonical()) for found in (drawn, other))
            its["rules"][0]["id"] = mine["rules"][0]["id"]
            return RuleSet.model_validate({**its, "registry": mine["registry"]})
    return None


def judged(drawn, candidate):
    """The backtest of one delivery, and the events of it that were not late."""
    topic = drawn.event.topic
    backtest, clock, in_time = Backtest(set_of(drawn), candidate, drawn.versions[0].since), 0, []
    for stamp, what in drawn.orders[0]:
        clock = max(clock, stamp)
        if isinstance(what, Event):
            backtest.event(topic.name, None, stamp, what, crc32(what.wire()))
            in_time += [what] if clock - what.at <= topic.late_us else []
        elif what == TICK:
            backtest.passed(topic.name, None, stamp)
    backtest.end(drawn.until)
    return backtest, in_time


def told(rules, events, drawn):
    """What an operator is told by the oracle: no peaks, and nothing of whom two ids contradict."""
    return {
        (i.rule, tuple(sorted(i.labels)), i.start_us, i.end_us, i.priority)
        for i, held in ledger([Version(drawn.versions[0].since, rules)], events, drawn.until, drawn.event)
        if not held and "/".join(value for _, value in i.labels) not in drawn.contradicted
    }


def plain(alarms, drawn):
    """The same of alarms of the backtest."""
    return {
        (a.rule, a.labels, a.start, a.end, a.priority)
        for a in alarms
        if "/".join(value for _, value in a.labels) not in drawn.contradicted
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_difference_is_that_of_the_oracle(kind):
    some = 0
    for seed in SEEDS:
        drawn = episode(kind, seed, orders=1)
        candidate = other_rules(drawn)
        if candidate is None:
            continue
        backtest, events = judged(drawn, candidate)
        old, new = (told(rules, events, drawn) for rules in (set_of(drawn), candidate))
        found = report(backtest, Span(drawn.versions[0].since, drawn.until + 1)).difference

        assert plain([*found.lost, *(p.base for p in found.pairs)], drawn) == old, seed
        assert plain([*found.new, *(p.candidate for p in found.pairs)], drawn) == new, seed
        unmoved = [p.base for p in found.pairs if not set(p.changed) - {"peak"}]
        assert plain(unmoved, drawn) == old & new, seed
        some += bool(old ^ new)
    assert some >= 2, "hardly any of the drawn rules made a difference"
