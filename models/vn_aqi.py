"""Vietnam's air quality index: Decision 1459/QĐ-TCMT of 12 November 2019, hourly and daily. Pure arithmetic."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Pollutant = Literal["pm25", "pm10", "no2", "so2", "co", "o3", "o3_8h"]

INDEX = (0, 50, 100, 150, 200, 300, 400, 500)

#: Table 2 of the Decision: the concentration in µg/m³ at each value of INDEX. From the last one on it is the last.
BREAKPOINTS: dict[Pollutant, tuple[float, ...]] = {
    "o3": (0, 160, 200, 300, 400, 800, 1_000, 1_200),
    "o3_8h": (0, 100, 120, 170, 210, 400),  # above 400 only the 1 h value counts (2.2.2 b)
    "co": (0, 10_000, 30_000, 45_000, 60_000, 90_000, 120_000, 150_000),
    "so2": (0, 125, 350, 550, 800, 1_600, 2_100, 2_630),
    "no2": (0, 100, 200, 700, 1_200, 2_350, 3_100, 3_850),
    "pm10": (0, 50, 150, 250, 350, 420, 500, 600),
    "pm25": (0, 25, 50, 80, 150, 250, 350, 500),
}


class Band(NamedTuple):
    """A range of the index as it is told to the public (table 1): greatest index, words, colour."""

    upto: int
    vi: str
    en: str
    colour: str


BANDS = (
    Band(50, "Tốt", "Good", "#00e400"),
    Band(100, "Trung bình", "Moderate", "#ffff00"),
    Band(150, "Kém", "Poor", "#ff7e00"),
    Band(200, "Xấu", "Bad", "#ff0000"),
    Band(300, "Rất xấu", "Very bad", "#8f3f97"),
    Band(500, "Nguy hại", "Hazardous", "#7e0023"),
)

#: Hours that NowCast looks back.
NOWCAST_HOURS = 12


def index(pollutant: Pollutant, ugm3: float) -> int | None:
    """The index of one pollutant by formula 1: (I₊ − I)/(BP₊ − BP) · (C − BP) + I, rounded half up.

    None where the table says nothing: ozone over 8 h above 400 µg/m³. Raises ValueError for a negative concentration.
    """
    points = BREAKPOINTS[pollutant]
    if ugm3 < 0:
        raise ValueError(f"{pollutant}: a concentration of {ugm3} µg/m³ is below zero")
    if ugm3 > points[-1]:
        return INDEX[-1] if len(points) == len(INDEX) else None
    above = max(1, bisect_left(points, ugm3))
    low, high = points[above - 1], points[above]
    step = INDEX[above] - INDEX[above - 1]
    return int(step * (ugm3 - low) / (high - low) + INDEX[above - 1] + 0.5)


def hourly_index(
    *,
    pm25: float | None = None,
    pm10: float | None = None,
    no2: float | None = None,
    so2: float | None = None,
    co: float | None = None,
    o3: float | None = None,
) -> int | None:
    """AQI of an hour: the greatest index of its pollutants; None unless PM2.5 or PM10 is there (2.1 b).

    Officially `pm25` and `pm10` are `nowcast` of 12 hourly means, the others the mean of this hour.
    """
    return _greatest({"pm25": pm25, "pm10": pm10, "no2": no2, "so2": so2, "co": co, "o3": o3})


def daily_index(
    *,
    pm25: float | None = None,
    pm10: float | None = None,
    no2: float | None = None,
    so2: float | None = None,
    co: float | None = None,
    o3: float | None = None,
    o3_8h: float | None = None,
) -> int | None:
    """AQI of a day: PM as means of 24 h, gases as the day's greatest hourly mean, ozone also over 8 h (2.2.2)."""
    return _greatest({"pm25": pm25, "pm10": pm10, "no2": no2, "so2": so2, "co": co, "o3": o3, "o3_8h": o3_8h})


def _greatest(ugm3: dict[Pollutant, float | None]) -> int | None:
    if ugm3["pm25"] is None and ugm3["pm10"] is None:
        return None
    found = [index(pollutant, value) for pollutant, value in ugm3.items() if value is not None]
    return max(i for i in found if i is not None)


def nowcast(hours: Sequence[float | None]) -> float | None:
    """NowCast of PM2.5 or PM10 from 12 hourly means, the newest first; None where an hour has no value (2.2.1 a).

    Hour i weighs w^(i-1), w = least/greatest but at least 1/2: steady air looks far back, changing air does not.
    Needs two of the three newest hours, else None. For w = 1/2 the Decision leaves out the division by the sum of the
    weights, which is 1 to within 1/4096 if no hour is missing. We divide always: without it one missing newest hour
    would halve the value, and understate the danger.
    """
    if len(hours) != NOWCAST_HOURS:
        raise ValueError(f"NowCast takes {NOWCAST_HOURS} hourly values, the newest first; got {len(hours)}")
    known = [(age, value) for age, value in enumerate(hours) if value is not None]
    if sum(age < 3 for age, _ in known) < 2:
        return None
    greatest = max(value for _, value in known)
    if greatest == 0:
        return 0.0
    w = max(0.5, min(value for _, value in known) / greatest)
    return sum(w**age * value for age, value in known) / sum(w**age for age, _ in known)


def band(aqi: int) -> Band:
    """The band of an index; the last one has no end."""
    return next((b for b in BANDS if aqi <= b.upto), BANDS[-1])
