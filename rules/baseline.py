"""What a series usually does, and how strange a value is to it: a fold over one series, without units and without a model.

Four things are watched, each against the series' own past, and the score is that of the strangest:

- `value`: the value itself, against the range of all values so far;
- `season`: how far the last hour is from the same hour of earlier weeks, against the range of such distances;
- `burst`: how restless the series is now, against how restless it usually is: the anomaly likelihood of Ahmad, Lavin,
  Purdy and Agha, Unsupervised real-time anomaly detection for streaming data (Neurocomputing 262, 2017, section 3);
- `flat`: how long the value has not changed at all, against the longest time that this happened before.

A range [low, high] fades: both ends move towards the level by a twentieth of the way a week, or one great day would hide
all that comes after it. What leaves its range by `excess` has the ratio

    r = excess / max(bound * (high - low), noise * scale, least)

with one bound a part, the same for all series. `scale` is the mean distance of a value from the level (the mean of
the last two hours): in plain noise most records are smaller, and without it such a series has twice as many alarms. The score is
m / (1 + m) of the greatest ratio m, so that 0.5 is the alarm. What has been told is not told again for `rest`, unless it
becomes worse.

Every r is a quotient of two differences: another unit or another zero of the same series gives the same scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from models.base import Micros

    State = tuple[Any, ...]
    Parts = tuple[float, float, float, float]
    Week = tuple[tuple[float | None, ...], ...]  # 7 days of 24 means
    Calm = tuple[float, float, float, float]
    Flat = tuple[float, int, int]

HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY

#: A score of so much is an alarm, whatever the series.
ALARM: Final = 0.5
PARTS: Final = ("value", "season", "burst", "flat")

_HOURS: Final = 168
#: Beyond this a number is no measurement, and its square would be no number.
_ABSURD: Final = 1e150
#: Nothing is told of a series of fewer values; of its hours, its restlessness and its pauses, of fewer than twice as many.
_FEW: Final = 100
#: A smaller part of a value is no difference but rounding: the mean of twelve times 0.1 is not 0.1.
_ROUNDING: Final = 1e-9
#: No ratio is greater: what leaves a range of no width would be infinitely strange.
_MOST: Final = 1e6
#: Weights of the newest value in the scale, in restlessness now, and in the long run; while there are few, 1 / n.
_WEIGHTS: Final = (0.005, 0.1, 0.001)
_MANY: Final = 1000
#: One value counts as at most so many scales in the scale itself, and in restlessness.
_OUTLIER, _RESTLESS = 4.0, 20.0
#: A run of equal values shorter than this is never a long one.
_RUN: Final = 12

_NOTHING: Final = (0.0, 0.0, 0.0, 0.0)


class Params(NamedTuple):
    """One set for every series. Durations in microseconds; `least` alone has the unit of the series."""

    learn: Micros = DAY  # a younger series has no alarm
    rest: Micros = HOUR
    fade: float = 0.05  # of the way to the level, a week
    noise: float = 0.8  # in scales; half of it for a mean of an hour, which is quieter
    least: float = 0.0  # a smaller difference is nothing
    value: float = 0.05  # this and the next in widths of the range
    season: float = 0.12
    burst: float = 9.0  # in standard deviations of restlessness
    flat: float = 4.0  # in longest runs
    level_over: Micros = 2 * HOUR
    season_over: Micros = HOUR
    season_learn: Micros = 2 * DAY  # of distances, the first of which comes after a week
    season_weight: float = 0.3  # of the newest week, from the third on


class Baseline:
    """The fold: `state = start()`, then `state, score, parts = step(state, at, value)` value by value.

    A state is a tuple of numbers, None and tuples; a step makes a new one and leaves the old as it was. `parts` are the
    ratios in the order of PARTS. An absent value (None, NaN, infinite) changes nothing and has no score.
    """

    __slots__ = ("_params",)

    def __init__(self, params: Params | None = None) -> None:
        self._params = params or Params()

    def start(self) -> State:
        return ()

    def step(self, state: State, at: Micros, x: float | None) -> tuple[State, float | None, Parts]:
        if x is None or not -_ABSURD < x < _ABSURD:
            return state, None, _NOTHING
        # A tuple is unpacked in the time of two of its attributes.
        (
            learn, rest, fade, noise, least, by_value, by_season, by_burst, by_flat,
            level_over, season_over, season_learn, season_weight,
        ) = self._params  # fmt: skip
        if not state:
            hour = (*_hour(at, _UNKNOWN), x, 1, _UNKNOWN)
            return (1, at, at, 0, 0.0, x, x, x, _CALM, (x, 0, _RUN), hour, _UNSEEN), 0.0, _NOTHING
        n, first, last, told_until, told, low, high, level, calm, flat, hour, distances = state
        turn, slot, before, here, after, total, count, week = hour
        off, off_low, off_high, known_at, known_n = distances
        n += 1
        dt = at - last
        if dt < 0:  # what comes out of order is taken as of now
            dt, at = 0, last
        hours = at - turn
        if hours >= HOUR:
            part = min(1.0, fade * hours / WEEK)
            low, high = _faded(low, high, level, part)
            if off is not None:
                off_low, off_high = _faded(off_low, off_high, off, part)
            week = _learned(week, slot, total / count, max(season_weight, WEEK / (turn - first + WEEK)))
            turn, slot, before, here, after = _hour(at, week)
            total, count, hours = 0.0, 0, at - turn
        total += x
        count += 1

        floor = noise * calm[0]
        value = strange = 0.0
        if x > high:
            value, high = _ratio(x - high, by_value * (high - low), floor, least, x), x
        elif x < low:
            value, low = _ratio(low - x, by_value * (high - low), floor, least, x), x
        distance = x - level
        calm, burst = _burst(calm, distance, n, by_burst)
        flat, pause = _flat(flat, x, n, by_flat)
        level += distance * dt / (dt + level_over)
        if here is not None:
            part = hours / HOUR - 0.5
            distance = x - here - (here - before if part < 0.0 else after - here) * part
            if off is None:
                off = off_low = off_high = distance
                known_at, known_n = at, n
            off += (distance - off) * dt / (dt + season_over)
            if off > off_high:
                strange = _ratio(off - off_high, by_season * (off_high - off_low), 0.5 * floor, least, x)
                off_high = off
            elif off < off_low:
                strange = _ratio(off_low - off, by_season * (off_high - off_low), 0.5 * floor, least, x)
                off_low = off
            if at - known_at < season_learn or n - known_n < 2 * _FEW:
                strange = 0.0

        score, parts = 0.0, _NOTHING
        if n > _FEW and at - first >= learn:
            parts = (value, strange, burst, pause)
            most = max(parts)
            score = most / (1.0 + most)
            if most >= 1.0:
                if at < told_until and most <= told:
                    score = 0.0
                else:
                    told_until, told = at + rest, most
        hour = (turn, slot, before, here, after, total, count, week)
        distances = (off, off_low, off_high, known_at, known_n)
        return (
            (n, first, at, told_until, told, low, high, level, calm, flat, hour, distances),
            score,
            parts,
        )


#: (scale, restlessness now, its mean, its variance), the distances from the usual hour (the last, the range, since when), and
#: the hours of a week, before there is anything to know.
_CALM: Final = (0.0, 0.0, 0.0, 0.0)
_UNSEEN: Final = (None, 0.0, 0.0, 0, 0)
_UNKNOWN: Final = ((None,) * 24,) * 7


def _faded(low: float, high: float, to: float, part: float) -> tuple[float, float]:
    return low + (to - low) * part, high - (high - to) * part


def _ratio(excess: float, usual: float, floor: float, least: float, x: float) -> float:
    """How strange it is to leave a range by `excess`, while the value is x."""
    need = max(usual, floor, least, abs(x) * _ROUNDING)
    return excess / need if excess < need * _MOST else _MOST


def _burst(calm: Calm, distance: float, n: int, bound: float) -> tuple[Calm, float]:
    """Restlessness is the distance from the level in scales; its short mean is compared with all such means before.

    z = (short - mean) / sqrt(variance), and the likelihood Q(z), of which the logarithm goes with z, is not computed.
    """
    scale, short, mean, variance = calm
    of_scale, of_short, of_long = _WEIGHTS if n >= _MANY else [max(w, 1.0 / n) for w in _WEIGHTS]
    if distance < 0.0:
        distance = -distance
    restless = distance / scale if distance < _RESTLESS * scale else _RESTLESS if distance else 0.0
    if distance > _OUTLIER * scale and n > _FEW:
        distance = _OUTLIER * scale
    scale += (distance - scale) * of_scale
    short += (restless - short) * of_short
    more = short - mean
    ratio = more / (bound * variance**0.5) if more > 0.0 < variance and n > 2 * _FEW else 0.0
    mean += more * of_long
    variance = (1.0 - of_long) * (variance + of_long * more * more)
    return (scale, short, mean, variance), ratio


def _flat(flat: Flat, x: float, n: int, bound: float) -> tuple[Flat, float]:
    """A run of equal values against the longest before; a series that has hardly ever changed cannot stand still."""
    previous, run, longest = flat
    if x != previous:
        return (x, 0, max(run, longest) if run else longest), 0.0
    run += 1
    return (x, run, longest), run / (bound * longest) if n - run > 2 * _FEW else 0.0


def _hour(at: Micros, week: Week) -> tuple[Micros, int, float | None, float | None, float | None]:
    """The hour of `at`: its beginning, its place in the week, what is usual before, in and after it.

    Hours are those of UTC: another zone only turns the week.
    """
    number, into = divmod(at, HOUR)
    slot = number % _HOURS
    day, hour = divmod(slot, 24)
    hours = week[day]
    here = hours[hour]
    before = hours[hour - 1] if hour else week[day - 1][-1]
    after = hours[hour + 1] if hour < 23 else week[day - 6][0]
    return at - into, slot, here if before is None else before, here, here if after is None else after


def _learned(week: Week, slot: int, mean: float, weight: float) -> Week:
    """The week with one more mean of an hour in it."""
    day, hour = divmod(slot, 24)
    hours = week[day]
    usual = hours[hour]
    if usual is not None:
        mean = usual + (mean - usual) * weight
    # Slices copy in a third of the time of unpacking.
    hours = hours[:hour] + (mean,) + hours[hour + 1 :]  # noqa: RUF005
    return week[:day] + (hours,) + week[day + 1 :]  # noqa: RUF005
