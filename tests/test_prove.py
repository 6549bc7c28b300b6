"""Same events, same alarms: any cut writes what the uncut run wrote, any order ends as the oracle says, and this test can fail."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import proving
import pytest
from episodes import KINDS, episode
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from models.base import micros
from rules.judge import Judge
from rules.machine import Absence, Levels
from rules.series import Series

if TYPE_CHECKING:
    from collections.abc import Callable

#: Within so many episodes a mechanism that is left out must be found out.
ENOUGH = 60


@pytest.mark.parametrize("kind", KINDS)
def test_any_cut_writes_the_same_and_any_order_ends_in_the_oracles_ledger(kind):
    for seed in range(10):
        proving.check(episode(kind, seed))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=200, deadline=None, database=None, phases=[Phase.generate])
@given(seed=st.integers(0, 2**48))
def test_the_same_of_two_hundred_episodes_that_nobody_has_seen(kind, seed):
    proving.check(episode(kind, seed))


@pytest.mark.parametrize("kind", KINDS)
def test_the_episodes_raise_alarms_are_late_are_corrected_and_are_repeated(kind):
    """Episodes in which nothing happens would prove nothing."""
    alarms, ended, counts = 0, 0, {"late": 0, "duplicate": 0, "conflict": 0, "stored": 0}
    for seed in range(12):
        drawn = episode(kind, seed)
        world = proving.world_of(drawn, 1, 1)
        run = proving.uncut(world, proving.logs_of(world, drawn.orders[0]))
        left = proving.standing(run.signals).values()
        alarms += len(left)
        ended += sum(s.end is not None for s in left)
        for name in counts:
            counts[name] += run.counts[0][name]
    assert alarms >= 6
    assert ended >= 3
    assert min(counts.values()) >= 5


# --- with one mechanism less, the check fails ----------------------------------------------------------------------


def no_refold(m: pytest.MonkeyPatch) -> None:
    """A sample out of order is kept, and what was folded without it stands."""
    add = Series.add

    def mine(self, sample, clock, late, *rest, **how):
        folded = self.folded
        verdict = add(self, sample, clock, late, *rest, **how)
        if self.folded < 0 <= folded:
            self.folded = min(folded + 1, len(self.samples))
        return verdict

    m.setattr(Series, "add", mine)


def timers_act_at_the_tick(m: pytest.MonkeyPatch) -> None:
    """What was due is done when a record brings the time, and as of that time."""
    levels, absence = Levels.expire, Absence.expire

    def ends(self, state, upto, closed):
        ended = []
        after = levels(self, state, upto, ended)
        closed += [e._replace(end=upto) for e in ended]
        return after

    def begins(self, state, upto, closed):
        after = absence(self, state, upto, closed)
        silent = state is not None and state[2] is None and after[2] is not None
        return (*after[:2], upto, *after[3:]) if silent else after

    m.setattr(Levels, "expire", ends)
    m.setattr(Absence, "expire", begins)


def late_by_the_partitions_watermark(m: pytest.MonkeyPatch) -> None:
    """Late is what lags behind the newest observation that the partition has seen, and not behind its own stamp."""
    event, add = Judge.event, Series.add
    newest = {}

    def seen(self, offset, stamp, what, digest):
        newest[id(self)] = max(newest.get(id(self), 0), micros(what.observed_at))
        newest["now"] = newest[id(self)]
        return event(self, offset, stamp, what, digest)

    def mine(self, sample, clock, late, *rest, **how):
        return add(self, sample, newest["now"], late, *rest, **how)

    m.setattr(Judge, "event", seen)
    m.setattr(Series, "add", mine)


def no_offset_of_its_own(m: pytest.MonkeyPatch) -> None:
    """A restored bucket takes again what it has seen before it was saved."""
    load = Judge.load

    def mine(self, number, blob):
        offset = load(self, number, blob)
        self._buckets[number].offset = -1
        return offset

    m.setattr(Judge, "load", mine)


def one_clock_for_all_buckets(m: pytest.MonkeyPatch) -> None:
    """A bucket saved late moves the time of one saved early."""
    load = Judge.load

    def mine(self, number, blob):
        offset = load(self, number, blob)
        self.clock = max(self.clock, self._buckets[number].clock)
        return offset

    m.setattr(Judge, "load", mine)


def repetitions_count(m: pytest.MonkeyPatch) -> None:
    """The same event again is one more event."""

    def mine(self, sample, **_how):
        at = bisect_left(self.samples, sample[:2])
        self.samples.insert(at, sample)
        return at, "stored"

    m.setattr(Series, "_place", mine)


def the_last_word_wins(m: pytest.MonkeyPatch) -> None:
    """Of two revisions the one that came later counts, whichever is the greater."""
    add = Series.add

    def mine(self, sample, *rest, **how):
        return add(self, (*sample[:4], 0, *sample[5:]), *rest, **how)

    m.setattr(Series, "add", mine)


def what_was_told_is_not_saved(m: pytest.MonkeyPatch) -> None:
    """After a restart nobody knows what was announced."""
    load = Series.load.__func__

    def mine(cls, *rest):
        series = load(cls, *rest)
        series.announced = ()
        return series

    m.setattr(Series, "load", classmethod(mine))


LEDGER, CUT, COUNTS = "the oracle alone has", "after a cut", "after cuts"


@pytest.mark.parametrize(
    ("without", "kind", "told"),
    [
        (no_refold, "threshold", LEDGER),
        (no_refold, "rate", LEDGER),
        (timers_act_at_the_tick, "threshold", LEDGER),
        (timers_act_at_the_tick, "absence", LEDGER),
        (late_by_the_partitions_watermark, "threshold", LEDGER),
        (late_by_the_partitions_watermark, "count", LEDGER),
        (no_offset_of_its_own, "event", COUNTS),
        (one_clock_for_all_buckets, "absence", CUT),
        (one_clock_for_all_buckets, "threshold", CUT),
        (repetitions_count, "count", LEDGER),
        (the_last_word_wins, "distinct", LEDGER),
        (what_was_told_is_not_saved, "ratio", CUT),
    ],
)
def test_a_mechanism_that_is_left_out_is_found_out(without, kind, told):
    found = (seed for seed in range(ENOUGH) if told in _fault(kind, seed, without))
    assert any(_fault(kind, seed) == "" for seed in found)


def _fault(kind: str, seed: int, without: Callable[[pytest.MonkeyPatch], None] | None = None) -> str:
    """What is wrong of an episode; nothing, if nothing is, or the core itself gives up."""
    with pytest.MonkeyPatch.context() as m:
        if without is not None:
            without(m)
        try:
            proving.check(episode(kind, seed))
        except proving.Failed as failed:
            return str(failed)
        except KeyError:
            return ""
    return ""
