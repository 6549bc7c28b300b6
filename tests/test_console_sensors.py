"""What the console shows of sensors, and how far the parts are behind: without a broker, the clock is an argument."""

import asyncio

import pytest

from console.health import Progress, Rounds
from console.sensors import Said, Sensors, said
from models.base import moment
from models.hospital import PatientMovement
from models.school import RoomAir
from models.traffic import TrafficFlow
from rules.spec import RuleSet
from settings import Settings

FLOW, AIR = "city.traffic.flow.v1", "city.school.room_air.v1"
MINUTE = 60_000_000
T0 = 1_767_225_600_000_000
RULES = RuleSet.model_validate(
    {
        "registry": {
            "sensors": [
                {"topic": FLOW, "key": "s1", "every": "1m"},
                {"topic": FLOW, "key": "s2", "every": "1m"},
                {"topic": AIR, "key": "r1", "every": "2m"},
            ]
        }
    }
)


@pytest.fixture
def here():
    found = Sensors()
    found.set_up(RULES, T0)
    return found


def spoke(at, *, late=False, has_value=True, speed=30.0):
    return Said(at, at, late, has_value, {"speed_kmh": speed})


def look(here, now, alarms=(), missed=()):
    return {seen.id: seen for seen in here.look(now, set(alarms), dict.fromkeys(missed, False))}


def test_only_what_changed_is_told(here):
    assert len(look(here, T0)) == 3
    assert look(here, T0 + 1) == {}
    here.hear(FLOW, "s1", spoke(T0 + 2))
    (told,) = look(here, T0 + 3).values()
    assert (told.id, told.status, told.values) == (f"{FLOW}|s1", "ok", {"speed_kmh": 30.0})
    here.hear(FLOW, "s1", spoke(T0 + 2))
    assert look(here, T0 + 4) == {}, "said again it is nothing new"
    assert len(here.shown()) == 3


def test_the_newest_observation_is_shown_whatever_comes_after_it(here):
    here.hear(FLOW, "s1", spoke(T0 + MINUTE, speed=5.0))
    here.hear(FLOW, "s1", spoke(T0, speed=50.0))
    here.hear(FLOW, "s1", spoke(T0 + 2 * MINUTE, late=True, speed=99.0))
    told = look(here, T0 + MINUTE)[f"{FLOW}|s1"]
    assert told.values == {"speed_kmh": 5.0}
    assert told.at == moment(T0 + 2 * MINUTE), "a late one is an observation, too"


def test_a_whole_feed_is_told_apart_from_one_sensor(here):
    here.hear(AIR, "r1", spoke(T0))
    now = T0 + 60 * MINUTE
    found = look(here, now)
    assert [found[f"{FLOW}|{key}"].why for key in ("s1", "s2")] == ["feed", "feed"]
    assert found[f"{AIR}|r1"].why == "silent", "one sensor is no feed"
    here.hear(FLOW, "s1", spoke(now))
    assert {i: s.why for i, s in look(here, now).items()} == {f"{FLOW}|s1": None, f"{FLOW}|s2": "never"}


def test_feeds_say_what_flows_and_what_is_blind(here):
    here.hear(FLOW, "s1", spoke(T0))
    look(here, T0 + 10 * MINUTE)
    here.feeds(T0, {})
    here.count(FLOW, 30)
    feeds, per_second = here.feeds(T0 + MINUTE, {})
    flow = next(f for f in feeds if f.topic == FLOW)
    assert (flow.per_minute, flow.sensors, flow.blind, flow.level, flow.at) == (30, 2, 2, "bad", moment(T0))
    assert per_second == 0.5
    assert next(f for f in feeds if f.topic == "city.citizen.report.v1").level == "ok", (
        "nothing is expected there"
    )
    _, later = here.feeds(T0 + 3 * MINUTE, {})
    assert later == 0


def test_another_registry_keeps_what_is_known_of_the_sensors_that_stay(here):
    here.hear(FLOW, "s1", spoke(T0))
    look(here, T0)
    fewer = RULES.model_copy(
        update={"registry": RULES.registry.model_copy(update={"sensors": RULES.registry.sensors[:1]})}
    )
    here.set_up(fewer, T0 + MINUTE)
    look(here, T0 + MINUTE)
    assert [(s.id, s.status) for s in here.shown()] == [(f"{FLOW}|s1", "ok")]
    assert here.tally() == {"ok": 1, "alarm": 0, "blind": 0, "waiting": 0}


def test_who_is_not_of_the_registry_is_no_sensor_here(here):
    here.hear(FLOW, "stranger", spoke(T0))
    assert f"{FLOW}|stranger" not in {s.id for s in here.look(T0, set(), {})}


def test_of_an_event_only_public_values_are_shown_and_nothing_of_a_person():
    about = {"event_id": "e", "source_id": "s", "observed_at": moment(T0)}
    person = PatientMovement(facility_id="f", patient="tok_" + "0" * 32, movement="admit", triage=1, **about)
    assert said(person, T0).values == {"movement": "admit", "triage": 1.0}
    flow = TrafficFlow(segment_id="s1", speed_kmh=3.0, quality="no_value", **about)
    found = said(flow, T0 + 10 * MINUTE)
    assert (found.at, found.arrived, found.late, found.has_value) == (T0, T0 + 10 * MINUTE, True, False)
    assert found.values == {"speed_kmh": 3.0}, "nor the key, nor what is absent"
    assert said(RoomAir(room_id="r", **about), T0).values == {}


P, Q = ("t", 0), ("t", 1)


def test_how_far_behind_is_the_age_of_the_oldest_record_that_is_not_done():
    done = Progress()
    assert done.see({P: 0}, {P: 10}, {P: 10}, 0) == 0
    assert done.see({P: 0}, {P: 12}, {P: 10}, 5) == 0, "it was seen this moment"
    assert done.see({P: 0}, {P: 20}, {P: 11}, 10) == 5
    assert done.see({P: 0}, {P: 30}, {P: 12}, 15) == 5, "what was seen at 10 is the oldest now"
    assert done.see({P: 0}, {P: 30}, {P: 30}, 20) == 0


def test_the_partition_that_is_furthest_behind_counts():
    done = Progress()
    begins = {P: 0, Q: 0}
    done.see(begins, {P: 5, Q: 5}, {P: 5}, 0)
    assert done.see(begins, {P: 9, Q: 5}, {P: 5}, 30) == 30, "a group that committed nothing has done nothing"


def test_an_empty_partition_and_one_that_forgot_everything_are_no_delay():
    done = Progress()
    for now in (0, 100):
        assert done.see({P: 0, Q: 7}, {P: 0, Q: 7}, {}, now) == 0


def test_a_steady_stream_with_commits_every_fifteen_seconds_is_never_called_late():
    done, worst = Progress(), 0.0
    for now in range(0, 600, 5):
        committed = max(0, now // 15 * 15 - 1) * 100
        worst = max(worst, done.see({P: 0}, {P: now * 100}, {P: committed}, now))
    assert worst <= 20


class _Shown:
    def __init__(self):
        self.parts = {}

    def put_part(self, part):
        self.parts[part.id] = part


@pytest.mark.parametrize(
    ("after_s", "levels"),
    [(0, ("ok", "ok")), (50, ("warn", "warn")), (130, ("warn", "bad"))],
)
def test_a_ledger_that_is_behind_is_shown_and_never_as_what_makes_the_page_wrong(
    monkeypatch, after_s, levels
):
    desk, now = _Shown(), [0.0]
    rounds = Rounds(Settings(), "127.0.0.1:1", desk, None)
    flow = ("city.traffic.flow.v1", 0)
    rounds._places = {flow[0]: [flow]}

    async def offsets():
        done = {flow: 9}
        committed = {"judge": done, "alarms": {}, "store-worker": {flow: 5}, "ledger": {flow: 5}}
        return {flow: 0}, {flow: 9}, committed

    monkeypatch.setattr(rounds, "_offsets", offsets)
    monkeypatch.setattr("console.health.time.monotonic", lambda: now[0])
    asyncio.run(rounds._ask_log())
    now[0] = after_s
    asyncio.run(rounds._ask_log())
    assert (desk.parts["ledger"].level, desk.parts["store-worker"].level) == levels
    assert desk.parts["judge"].level == "ok"
    assert desk.parts["ledger"].behind_s == after_s
    assert after_s == 0 or "citywatch-ledger" in desk.parts["ledger"].why
