"""What time of day and week it is in Hạ Long, how busy that makes a place, and the weather and the tide."""

from __future__ import annotations

import math
from bisect import bisect_right
from datetime import date, timedelta
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from models.base import Micros

HOUR: Micros = 3_600_000_000
DAY: Micros = 24 * HOUR

#: Asia/Ho_Chi_Minh: UTC+7, without summer time since 1975.
OFFSET: Micros = 7 * HOUR

_EPOCH = date(1970, 1, 1)
_THURSDAY = 3  # the weekday of the epoch

#: Weeks without school; the long summer and the new year, roughly. (month, day) inclusive.
HOLIDAYS = (((6, 1), (9, 4)), ((9, 2), (9, 3)), ((4, 30), (5, 1)), ((1, 1), (1, 1)))

#: How busy, 0 to 1, by local hour; straight lines between. Weekdays, then weekends.
Table = tuple[tuple[float, float], ...]
# fmt: off
RHYTHMS: dict[str, tuple[Table, Table]] = {
    "city": (
        ((0, .06), (4.5, .06), (6, .5), (7.1, .95), (8.5, .6), (11, .7), (12.5, .45), (14, .55), (16.3, .8), (17.4, 1), (19, .6), (22, .2), (24, .06)),
        ((0, .07), (5, .08), (7, .35), (9, .55), (11, .6), (13, .45), (16, .6), (18.5, .75), (21, .45), (24, .07)),
    ),
    "through": (
        ((0, .15), (4, .15), (6, .4), (8, .7), (11, .65), (13, .55), (16, .75), (18, .7), (21, .35), (24, .15)),
        ((0, .15), (5, .2), (7.5, .75), (10, .8), (13, .6), (16, .85), (18.5, .8), (21, .4), (24, .15)),
    ),
    "visitors": (
        ((0, .03), (5, .05), (7, .3), (9, .5), (11, .5), (14, .4), (17, .6), (19.5, .6), (22, .25), (24, .03)),
        ((0, .05), (5, .1), (7, .5), (9, .95), (11, .9), (14, .7), (16.5, 1), (19.5, .95), (22, .4), (24, .05)),
    ),
    "evening": (
        ((0, .03), (5, .2), (6, .35), (8, .15), (16, .2), (18.5, .6), (20, .75), (21.5, .5), (23, .1), (24, .03)),
        ((0, .04), (5, .25), (6.5, .4), (9, .3), (16, .4), (19, .95), (20.5, 1), (22, .5), (24, .04)),
    ),
    "market": (
        ((0, .02), (4, .1), (6, .8), (8, .85), (10, .7), (12, .4), (15, .4), (17, .75), (19, .3), (21, .05), (24, .02)),
        ((0, .02), (4, .1), (6.5, .9), (9, 1), (11, .7), (13, .4), (16.5, .75), (19, .3), (21, .05), (24, .02)),
    ),
    "illness": (
        ((0, .35), (4, .25), (7, .7), (9, 1), (12, .8), (15, .85), (19, .95), (22, .6), (24, .35)),
        ((0, .4), (4, .3), (8, .8), (10, .95), (15, .8), (20, 1), (23, .6), (24, .4)),
    ),
    "lessons": (
        ((0, 0), (6.8, 0), (7.3, .8), (9, 1), (9.2, .7), (11.2, 1), (11.5, .2), (13.2, .15), (13.8, .8), (15, 1), (16.6, .9), (17, .1), (18, 0), (24, 0)),
        ((0, 0), (24, 0)),
    ),
}
# fmt: on


class Moment(NamedTuple):
    """A local moment: day since the epoch, hour of the day, whether it is a weekend."""

    day: int
    hour: float
    weekend: bool


def local(at: Micros) -> Moment:
    """The moment in Hạ Long."""
    day, rest = divmod(at + OFFSET, DAY)
    return Moment(day, rest / HOUR, (day + _THURSDAY) % 7 >= 5)


def midnight(day: int) -> Micros:
    """When a local day begins."""
    return day * DAY - OFFSET


@lru_cache(maxsize=64)
def school_day(day: int) -> bool:
    """Monday to Friday, no holiday."""
    if (day + _THURSDAY) % 7 >= 5:
        return False
    on = _EPOCH + timedelta(days=day)
    return not any(first <= (on.month, on.day) <= last for first, last in HOLIDAYS)


def busy(rhythm: str, now: Moment) -> float:
    """How busy it is, 0 to 1, by one of RHYTHMS."""
    table = RHYTHMS[rhythm][now.weekend]
    i = bisect_right(table, (now.hour, 2.0))
    (h0, v0), (h1, v1) = table[i - 1], table[i]
    return v0 + (v1 - v0) * (now.hour - h0) / (h1 - h0)


class Weather(NamedTuple):
    """Rain and haze: what couples the domains."""

    rain_mmh: float
    haze_ugm3: float


@lru_cache(maxsize=8)
def _spells(seed: int, day: int) -> tuple[float, tuple[tuple[float, float, float], ...]]:
    """The haze of a day, and its rain: (hour, hours, mm/h at the worst). It rains more from May to September."""
    rng = Random(f"weather/{seed}/{day}")  # noqa: S311 - a simulation, the same for the same seed
    month = (_EPOCH + timedelta(days=day)).month
    wet = 5 <= month <= 9
    spells = tuple(
        (rng.uniform(0, 23), rng.uniform(0.5, 4), rng.uniform(1, 30 if wet else 6))
        for _ in range(rng.choices((0, 1, 2), (4, 4, 2) if wet else (7, 2, 1))[0])
    )
    return rng.uniform(0, 10 if wet else 22), spells


@lru_cache(maxsize=64)
def weather(seed: int, at: Micros) -> Weather:
    """The weather of the five minutes that `at` is in, before any incident makes it worse."""
    now = local(at)
    haze, spells = _spells(seed, now.day)
    rain = 0.0
    for begin, length, worst in spells:
        if 0 < now.hour - begin < length:
            rain = max(rain, worst * math.sin(math.pi * (now.hour - begin) / length))
    return Weather(rain, haze * (1 if rain < 2 else 0.4))


#: The tide at Hòn Gai is diurnal: one high water a lunar day. The range swings from under 1 to over 3 m in 13.66 days.
_MEAN_M, _LEAST_M, _SWING_M = 2.1, 0.45, 1.2
_TIDE: Micros = 89_428_000_000
_FORTNIGHT = 13.66 * DAY


def tide_m(at: Micros) -> float:
    """Water level at Cửa Lục without rain or wind, above chart datum."""
    height = _LEAST_M + _SWING_M * (0.5 + 0.5 * math.sin(2 * math.pi * at / _FORTNIGHT))
    return _MEAN_M + height * math.sin(2 * math.pi * at / _TIDE)


def high_water(day: int) -> Micros:
    """The highest water of a local day, to ten minutes."""
    begin = midnight(day)
    return max(range(begin, begin + DAY, HOUR // 6), key=tide_m)
