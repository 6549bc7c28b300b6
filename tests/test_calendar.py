"""Calendars: the city's own days and hours, whatever the zone of the machine."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.base import micros
from rules.calendar import INF, Both, Calendar, Hours, Service, circles, union, without

HOUR = 3_600_000_000
DAY = 24 * HOUR


def local(text):
    return micros(datetime.fromisoformat(text + "+07:00"))


def calendar(**data):
    return Calendar.model_validate({"id": "c", **data})


def hours(*calendars):
    known = {c.id: c for c in calendars}
    return Hours(calendars[0], known)


def test_school_hours_are_those_of_the_city_and_not_of_greenwich():
    school = hours(calendar(weekdays=["mon"], times=["06:45-11:30", "13:00-17:00"]))
    assert school.look(local("2026-01-05T06:44:59")) == (False, local("2026-01-05T06:45"))
    assert school.look(local("2026-01-05T06:45")) == (True, local("2026-01-05T11:30"))
    assert school.look(local("2026-01-05T11:30")) == (False, local("2026-01-05T13:00"))
    assert school.look(local("2026-01-05T17:00")) == (False, local("2026-01-12T06:45"))


def test_a_night_belongs_to_the_day_on_which_it_begins():
    night = hours(calendar(weekdays=["sat"], times=["22:00-05:00"]))
    assert night.look(local("2026-01-11T04:59")) == (True, local("2026-01-11T05:00"))  # a Sunday
    assert night.look(local("2026-01-10T04:59")) == (False, local("2026-01-10T22:00"))


def test_a_holiday_is_taken_out_of_the_days_of_school():
    holidays = calendar(id="holidays", dates=["2026-02-14..2026-02-22", "2026-09-02"])
    school = hours(calendar(times=["07:00-11:00"], **{"except": ["holidays"]}), holidays)
    assert school.look(local("2026-02-13T10:00")) == (True, local("2026-02-13T11:00"))
    assert school.look(local("2026-02-13T11:00")) == (False, local("2026-02-23T07:00"))
    assert school.look(local("2026-09-02T10:00"))[0] is False


def test_what_holds_always_never_changes_and_what_is_over_never_comes():
    assert hours(calendar()).look(local("2026-03-01T00:00")) == (True, INF)
    assert hours(calendar(dates=["2020-01-01"])).look(local("2026-03-01T00:00")) == (False, INF)


def test_a_day_that_is_named_is_known_however_far_ahead_it_is_and_whatever_was_asked_before():
    far = hours(calendar(dates=["2029-04-30"]))
    for when in ("2026-03-01T00:00", "2026-04-20T00:00", "2027-12-01T00:00"):
        assert far.look(local(when)) == (False, local("2029-04-30T00:00"))


def test_a_sensor_is_out_of_service_for_its_maintenance():
    service = Service([(10, 20), (15, 30), (40, 50)])
    assert service.look(9) == (True, 10)
    assert service.look(10) == (False, 30)
    assert service.look(30) == (True, 40)
    assert service.look(50) == (True, INF)


def test_both_are_in_force_only_together():
    both = Both(Service([(10, 20)]), Service([(15, 30), (30, 31)]))
    assert both.look(9) == (True, 10)
    assert both.look(12) == (False, 31)
    assert both.look(31) == (True, INF)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"times": ["6:45-11:30"]}, "write 06:45-11:30"),
        ({"times": ["06:45-25:00"]}, "are no times of a day"),
        ({"times": ["07:00-07:00"]}, "are no times of a day"),
        ({"dates": ["2026-02-30"]}, "are no dates"),
        ({"dates": ["2026-02-22..2026-02-14"]}, "are no dates"),
        ({"weekdays": []}, "never in force"),
        ({"weekdays": ["monday"]}, "mon"),
    ],
)
def test_a_calendar_that_means_nothing_is_refused(data, why):
    with pytest.raises(ValidationError, match=why):
        calendar(**data)


def test_a_calendar_that_excepts_itself_is_found():
    one = Calendar.model_validate({"id": "one", "except": ["other"]})
    other = Calendar.model_validate({"id": "other", "except": ["one"]})
    assert circles({"one": one, "other": other}) == ["one", "other"]
    assert circles({"one": one}) == []


_TIME = st.builds(
    lambda a, b: f"{a // 60:02}:{a % 60:02}-{b // 60:02}:{b % 60:02}",
    st.integers(0, 1439),
    st.integers(1, 1440),
).filter(lambda t: t[:5] != t[6:])
_CALENDAR = st.builds(
    lambda days, times: {"weekdays": days, "times": times},
    st.lists(st.sampled_from(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]), min_size=1, unique=True),
    st.lists(_TIME, min_size=1, max_size=3),
)


@given(mine=_CALENDAR, out=_CALENDAR, minutes=st.lists(st.integers(0, 60 * 24 * 40), min_size=1, max_size=20))
def test_what_is_looked_up_is_what_the_words_say(mine, out, minutes):
    start = micros(datetime(2026, 1, 1, tzinfo=UTC))
    found = hours(calendar(**mine, **{"except": ["o"]}), calendar(**out | {"id": "o"}))
    for minute in minutes:
        t = start + minute * 60_000_000
        inside, until = found.look(t)
        assert inside == (_said(mine, t) and not _said(out, t))
        assert until > t
        if until < INF:
            assert found.look(until)[0] is not inside
            assert found.look(until - 1)[0] is inside


def _said(data, t):
    """Whether the words hold at t: by the day of t, and by the day before for a night."""
    for back in (0, 1):
        day, into = divmod(t + 7 * HOUR - back * DAY, DAY)
        minute = into // 60_000_000 + back * 1440
        if ["thu", "fri", "sat", "sun", "mon", "tue", "wed"][day % 7] in data["weekdays"]:
            for text in data["times"]:
                begin, end = (int(x[:2]) * 60 + int(x[3:]) for x in text.split("-"))
                if begin <= minute < (end if end > begin else end + 1440):
                    return True
    return False


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=8),
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=8),
)
def test_spans_are_sets_of_moments(one, other):
    def moments(spans):
        return {t for begin, end in spans for t in range(begin, end)}

    a, b = ([(x, x + n) for x, n in spans] for spans in (one, other))
    assert moments(union(a)) == moments(a)
    assert moments(without(union(a), union(b))) == moments(a) - moments(b)
