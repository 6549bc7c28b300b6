"""Whether a sensor is seen: silence is never all-clear, whatever else is known."""

from hypothesis import given
from hypothesis import strategies as st

from rules import load
from rules.sight import LEAST_US, MISSES, NOTHING, Heard, Sight, allowance_us, sight, whole_feed

SECOND = 1_000_000
MINUTE = 60 * SECOND
NOW = 1_000 * MINUTE


def look(heard=NOTHING, *, known=0, alarm=False, missed=False, allowance=3 * MINUTE, now=NOW):
    return sight(heard, allowance=allowance, known=known, now=now, alarm=alarm, missed=missed)


def test_who_is_silent_with_all_behind_its_gateway_is_blind_for_that():
    for what in (heard(60), NOTHING):
        seen = sight(what, allowance=3 * MINUTE, known=0, now=NOW, alarm=False, missed=True, behind=True)
        assert (seen.status, seen.why) == ("blind", "gateway")
    back = sight(heard(1), allowance=3 * MINUTE, known=0, now=NOW, alarm=False, missed=True, behind=True)
    assert back == Sight("ok"), "who speaks again is believed"
    assert whole_feed([Sight("blind", "gateway", 0), Sight("blind", "silent", 0)])


def heard(minutes, **others):
    """All of it so many minutes ago."""
    at = NOW - minutes * MINUTE
    return Heard(at, at, at, at)._replace(**{k: v and NOW - v * MINUTE for k, v in others.items()})


moments = st.none() | st.integers(0, NOW)
anything = st.builds(Heard, moments, moments, moments, moments)
truth = st.booleans()


@given(anything, st.integers(0, NOW), truth, truth)
def test_ok_is_only_what_was_measured_within_the_time_a_sensor_may_be_silent(what, known, alarm, missed):
    found = look(what, known=known, alarm=alarm, missed=missed)
    if found.status == "ok":
        assert what.measured is not None
        assert NOW - what.measured <= 3 * MINUTE
        assert not alarm


@given(anything, st.integers(0, NOW), truth)
def test_an_alarm_is_shown_whether_or_not_its_sensor_is_seen(what, known, missed):
    found = look(what, known=known, alarm=True, missed=missed)
    assert found.status == "alarm"
    without = look(what, known=known, missed=missed)
    assert (found.why, found.since) == (without.why, without.since), "and what is not known of it stays said"


@given(anything, st.integers(0, NOW), truth, truth)
def test_who_is_blind_is_told_why_and_since_when(what, known, alarm, missed):
    found = look(what, known=known, alarm=alarm, missed=missed)
    assert (found.why is None) == (found.since is None)
    assert (found.status == "blind") <= (found.why is not None)
    assert found.since is None or found.since <= NOW


@given(anything, st.integers(0, NOW), truth, truth, st.integers(0, 10_000 * MINUTE))
def test_time_that_passes_without_a_word_never_makes_a_sensor_seen_again(what, known, alarm, missed, more):
    before = look(what, known=known, alarm=alarm, missed=missed)
    after = look(what, known=known, alarm=alarm, missed=missed, now=NOW + more)
    if before.why is not None:
        assert after.why is not None
        assert after.status == before.status


@given(anything, st.integers(0, NOW), truth)
def test_missed_by_a_rule_is_blind_where_nothing_came_since(what, known, alarm):
    found = look(what, known=known, alarm=alarm, missed=True)
    if what.judged is None or NOW - what.judged > 3 * MINUTE:
        assert found.why is not None


def test_a_sensor_that_speaks_is_ok_even_before_the_judge_takes_its_absence_back():
    assert look(heard(1), missed=True) == Sight("ok")


def test_reasons_are_told_apart():
    long_ago = NOW - 60 * MINUTE
    assert look() == Sight("blind", "never", 0)
    assert look(heard(60)) == Sight("blind", "silent", long_ago)
    assert look(heard(60, at=59, arrived=1)) == Sight("blind", "late", long_ago)
    assert look(heard(1, measured=60)) == Sight("blind", "no_value", long_ago)
    assert look(heard(1, measured=None)) == Sight("blind", "no_value", 0)


def test_a_sensor_that_has_not_had_the_time_to_be_missed_is_waited_for():
    assert look(known=NOW - MINUTE) == Sight("waiting")
    assert look(heard(1_000), known=NOW - MINUTE) == Sight("waiting"), "the city was just started again"
    assert look(heard(1), known=NOW - MINUTE) == Sight("ok")
    assert look(known=NOW - MINUTE, missed=True) == Sight("blind", "never", NOW - MINUTE)


def test_the_allowance_is_that_of_the_strictest_absence_rule_of_the_topic():
    rules = load.default()
    minute = 60 * SECOND
    assert allowance_us(minute, rules.of("city.traffic.flow.v1")) == 10 * minute
    assert allowance_us(minute, rules.of("city.environment.water.v1")) == 120 * minute, "after, not misses"
    assert allowance_us(minute, rules.of("city.traffic.travel_time.v1")) == MISSES * minute, "no rule says"
    assert allowance_us(SECOND, ()) == LEAST_US


def test_a_feed_is_silent_when_all_of_two_or_more_sensors_are():
    silent, never, late, ok = (
        Sight("blind", "silent", 1),
        Sight("alarm", "never", 1),
        Sight("blind", "late", 1),
        Sight("ok"),
    )
    assert whole_feed([silent, never])
    assert not whole_feed([silent])
    assert not whole_feed([silent, late]), "something comes over that line"
    assert not whole_feed([silent, ok])
    assert not whole_feed([silent, Sight("waiting")])
    assert not whole_feed([])
