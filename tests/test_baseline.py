"""The baseline as properties: what it must not depend on, what it must not say, and what it must find."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rules.baseline import ALARM, DAY, HOUR, PARTS, WEEK, Baseline, Params

MINUTE = HOUR // 60
START = 1_700_000_000_000_000
#: One run is like the next: a property that fails fails for everybody.
fixed = settings(derandomize=True, deadline=None, max_examples=8, phases=[Phase.explicit, Phase.generate])


def tuples(x):
    """MessagePack has one kind of array; states are tuples all the way down (as the judge restores them)."""
    return tuple(tuples(i) for i in x) if isinstance(x, list) else x


def scores(series, params=None):
    detector = Baseline(params)
    state, found = detector.start(), []
    for at, x in series:
        state, score, _ = detector.step(state, at, x)
        found.append(score)
    return found


def alarms(series, params=None):
    return [i for i, score in enumerate(scores(series, params)) if score is not None and score >= ALARM]


def every(minutes, values):
    return [(START + i * minutes * MINUTE, x) for i, x in enumerate(values)]


def noise(seed, n, low=8.0, high=12.0):
    drawn = random.Random(seed)
    return [drawn.uniform(low, high) for _ in range(n)]


def city_day(at, drawn, amplitude=20.0, spread=2.0):
    """A rush that is half as high on Saturdays and Sundays, and bounded noise."""
    part = (at % DAY) / DAY
    weekend = (at // DAY + 3) % 7 >= 5
    return (
        50
        + (0.5 if weekend else 1.0) * amplitude * math.sin(2 * math.pi * (part - 0.3))
        + drawn.uniform(-spread, spread)
    )


def city(seed, weeks, minutes=10):
    drawn = random.Random(seed)
    times = [START + i * minutes * MINUTE for i in range(weeks * WEEK // (minutes * MINUTE))]
    return [(at, city_day(at, drawn)) for at in times]


values = st.lists(
    st.one_of(st.none(), st.integers(-50, 50).map(float), st.floats(-1e6, 1e6), st.just(math.nan)),
    min_size=1,
    max_size=300,
)
steps = st.lists(st.integers(-2 * HOUR, 12 * HOUR), min_size=1, max_size=40)


def walk(values, steps):
    at, series = START, []
    for i, x in enumerate(values):
        at += steps[i % len(steps)]
        series.append((at, x))
    return series


# --- what it does not depend on -------------------------------------------------------------------------------------


@fixed
@given(st.integers(0, 1000), st.integers(-20, 20), st.booleans())
def test_another_unit_gives_the_same_scores(seed, power, turned):
    series = city(seed, 2) + [(START + 2 * WEEK + i * 10 * MINUTE, 200.0) for i in range(5)]
    factor = -(2.0**power) if turned else 2.0**power  # powers of two, as nothing is rounded by them
    assert scores((at, x * factor) for at, x in series) == scores(series)


@fixed
@given(st.integers(0, 1000), st.floats(-1e4, 1e4))
def test_another_zero_gives_the_same_scores(seed, zero):
    series = city(seed, 2) + [(START + 2 * WEEK + i * 10 * MINUTE, 200.0) for i in range(5)]
    moved = scores((at, x + zero) for at, x in series)
    assert moved == pytest.approx(scores(series), abs=1e-4)
    assert max(moved) >= ALARM


@fixed
@given(st.integers(0, 1000), st.integers(-12, 14))
def test_the_zone_does_not_matter(seed, hours):
    assert scores((at - hours * HOUR, x) for at, x in city(seed, 2)) == scores(city(seed, 2))


@fixed
@given(values, steps, st.integers(1, 3 * DAY))
def test_what_comes_out_of_order_is_taken_as_of_now(values, steps, back):
    detector = Baseline()
    state, last = detector.start(), -math.inf
    for at, x in walk(values, steps):
        state, _, _ = detector.step(state, at, x)
        last = max(last, at) if x is not None and not math.isnan(x) else last
    if state:
        assert detector.step(state, last - back, 7.0) == detector.step(state, last, 7.0)


@fixed
@given(values, steps, st.integers(0, 300))
def test_a_state_that_was_saved_goes_on_as_if_nothing_had_been(values, steps, cut):
    series, detector = walk(values, steps), Baseline()
    state, whole = detector.start(), []
    for at, x in series:
        state, *told = detector.step(state, at, x)
        whole.append(told)
    again, parted = detector.start(), []
    for i, (at, x) in enumerate(series):
        if i == cut:
            again = tuples(msgspec.msgpack.decode(msgspec.msgpack.encode(again)))
        again, *told = Baseline().step(again, at, x)
        parted.append(told)
    assert (again, parted) == (state, whole)


@fixed
@given(values, steps)
def test_a_step_leaves_the_old_state_as_it_was(values, steps):
    detector = Baseline()
    state, states = detector.start(), []
    for at, x in walk(values, steps):
        states.append((state, msgspec.msgpack.encode(state), at, x))
        state, _, _ = detector.step(state, at, x)
    states.append((state, None, 0, None))
    for (old, bytes_, at, x), (new, *_) in pairwise(states):
        assert msgspec.msgpack.encode(old) == bytes_
        assert detector.step(old, at, x)[0] == new


@fixed
@given(values, steps)
def test_a_score_is_a_number_from_0_to_1_or_there_was_no_value(values, steps):
    for (_, x), score in zip(walk(values, steps), scores(walk(values, steps)), strict=True):
        if x is None or math.isnan(x):
            assert score is None
        else:
            assert 0 <= score < 1


@fixed
@given(st.integers(0, 1000), st.sampled_from([None, math.nan, math.inf, -math.inf, 1e300]))
def test_absent_values_change_nothing(seed, nothing):
    drawn, series = random.Random(seed), city(seed, 1)
    with_holes = []
    for at, x in series:
        with_holes += (
            [(at, x), (at + drawn.randrange(10 * MINUTE), nothing)] if drawn.random() < 0.1 else [(at, x)]
        )
    assert [s for s in scores(with_holes) if s is not None] == scores(series)


# --- what it must not say -------------------------------------------------------------------------------------------


@fixed
@given(st.floats(-1e6, 1e6), st.lists(st.integers(1, 40 * MINUTE), min_size=5, max_size=40))
def test_a_constant_is_no_alarm(x, steps):
    assert alarms(walk([x] * 2000, steps)) == []


@fixed
@given(st.integers(0, 1000), st.sampled_from([1, 5, 15]))
def test_bounded_noise_is_no_alarm(seed, minutes):
    assert alarms(every(minutes, noise(seed, 2500))) == []


def test_normal_noise_has_an_episode_in_two_weeks_at_most():
    # Records of a normal deviate never end; how many there are is a promise that the documentation makes.
    found = 0
    for seed in range(10):
        drawn = random.Random(seed)
        found += len(alarms(every(5, [drawn.gauss(0, 1) for _ in range(2 * 2016)])))
    assert found / 20 <= 0.5


@fixed
@given(st.integers(0, 1000))
def test_days_and_weeks_are_no_alarm(seed):
    assert alarms(city(seed, 3)) == []


@fixed
@given(st.integers(0, 1000), st.floats(0.1, 0.9))
def test_irregular_intervals_are_no_alarm(seed, kept):
    drawn = random.Random(seed)
    series = [s for s in city(seed, 3) if drawn.random() < kept]
    assert alarms((at + drawn.randrange(5 * MINUTE), x) for at, x in series) == []


@fixed
@given(st.integers(0, 1000))
def test_a_pause_of_days_and_values_of_one_moment_are_no_alarm(seed):
    drawn = random.Random(seed)
    series = [(at, x) for at, x in city(seed, 3) if not 15 * DAY < at - START < 18 * DAY]
    doubled = [pair for at, x in series for pair in [(at, x)] * (1 + (drawn.random() < 0.2))]
    assert alarms(doubled) == []


@fixed
@given(st.integers(0, 1000))
def test_what_is_usual_at_an_hour_is_learned_anew(seed):
    # The rush grows by a tenth a week; nobody need be told for ten weeks.
    drawn = random.Random(seed)
    times = [START + i * 30 * MINUTE for i in range(10 * 336)]
    assert alarms((at, city_day(at, drawn, 20 * 1.1 ** ((at - START) / WEEK))) for at in times) == []


def test_a_station_that_speaks_once_an_hour_has_an_episode_in_twenty_weeks_at_most():
    # Of a week of hours too little is known for less: noise alone leaves the range of earlier distances now and then.
    found = sum(len(alarms(every(60, noise(seed, 5 * 168)))) for seed in range(20))
    assert found / 100 <= 0.05


def test_a_young_series_has_no_alarm():
    assert alarms(every(1, [*noise(1, 1000), 1e6])) == []
    assert alarms(every(60, [*noise(1, 99), 1e6])) == []


def test_a_difference_below_the_least_is_none():
    series = every(10, [20.0] * 1000 + [20.1])
    assert alarms(series) == [1000]
    assert alarms(series, Params(least=0.15)) == []


# --- what it must find ----------------------------------------------------------------------------------------------


def within(found, first, last):
    """The alarms are here, and nowhere else."""
    return bool(found) and all(first <= i <= last for i in found)


@fixed
@given(st.integers(0, 1000), st.sampled_from([-1, 1]), st.integers(10, 17))
def test_a_spike_is_found_at_once(seed, sign, day):
    series = city(seed, 3)
    i = day * 144 + seed % 144
    series[i] = (series[i][0], 50 + sign * 60)
    assert alarms(series)[:1] == [i]


@fixed
@given(st.integers(0, 1000))
def test_a_shift_inside_the_range_is_found(seed):
    # Once a day one value is 100; for the last three hours all of them are 30 instead of 10.
    base = [100.0 if i % 288 == 100 else x for i, x in enumerate(noise(seed, 2016))]
    base[-36:] = noise(seed + 1, 36, 28, 32)
    assert within(alarms(every(5, base)), 2016 - 36, 2016)


@fixed
@given(st.integers(0, 1000))
def test_a_value_that_stands_still_is_found(seed):
    series = city(seed, 3)
    stuck = series[2000][1]
    series[2000:2144] = [(at, stuck) for at, _ in series[2000:2144]]
    found = alarms(series)
    assert found
    assert min(found) <= 2000 + 60
    assert min(found) >= 2000


@fixed
@given(st.integers(0, 1000))
def test_a_rush_that_does_not_come_is_found(seed):
    # No value of it is unusual in itself: at night it is as quiet.
    series = city(seed, 5)
    drawn = random.Random(seed)
    day = next(d for d in range(4 * 7, 5 * 7) if (START // DAY + d + 3) % 7 == 2) * 144
    morning = (DAY - START % DAY) // (10 * MINUTE) + day + 60
    for i in range(morning, morning + 24):
        series[i] = (series[i][0], 35 + drawn.uniform(-2, 2))
    assert within(alarms(series), morning, morning + 36)


@fixed
@given(st.integers(0, 1000))
def test_restlessness_is_found(seed):
    # Values of +-3 about the mean were seen before, one a day; now every value is one.
    drawn = random.Random(seed)
    base = [drawn.choice((-3.0, 3.0)) if i % 288 == 7 else drawn.uniform(-0.5, 0.5) for i in range(2016)]
    base += [drawn.choice((-3.0, 3.0)) for _ in range(32)]
    found = alarms(every(5, base))
    assert any(i >= 2016 for i in found)
    assert (
        sum(i < 2016 for i in found) <= 3
    )  # the first of the other sign; and, seldom, one at an hour that had none


def test_what_was_told_is_not_told_again_unless_it_becomes_worse():
    series = every(10, [*noise(3, 1000), 20.0, 20.0, 20.5, 60.0])
    assert alarms(series) == [1000, 1003]


def test_the_parts_say_why():
    detector = Baseline()
    state = detector.start()
    for at, x in every(10, [*noise(3, 1000), 60.0]):
        state, _, parts = detector.step(state, at, x)
    assert PARTS[parts.index(max(parts))] == "value"


def test_a_state_is_less_than_two_kilobytes():
    detector = Baseline()
    state = detector.start()
    for at, x in city(1, 4):
        state, _, _ = detector.step(state, at, x)
    assert len(msgspec.msgpack.encode(state)) < 2000
