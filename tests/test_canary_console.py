"""What the console makes of canaries: which feeds come through, and what the page and the platform are told of those that do not."""

import asyncio
import time

import pytest
from console_world import an_alarm
from prometheus_client import REGISTRY

from bus.canary import Canary
from bus.notice import platform_event
from console import metrics, wire
from console.canaries import FEEDS, Canaries, to_tell
from console.desk import Desk
from console.watch import RULE, SETTLE_S, Watch
from models.base import moment
from models.catalogue import topics
from models.decode import Rejection, decode
from models.platform import PlatformEvent
from settings import Settings

FLOW, AIR = "city.traffic.flow.v1", "city.environment.air.v1"
S = 1_000_000
T0 = 1_767_225_600 * S


# --- which come through -------------------------------------------------------------------------------------------


def test_a_feed_is_as_old_as_its_worst_partition():
    found = Canaries({FLOW: 3}, began=0)
    for partition, stamp in ((0, T0), (1, T0 - 20 * S), (2, T0 - 5 * S)):
        found.came(Canary(FLOW, partition, 1, stamp))
    (one,) = found.look(T0 + S, quiet=0).values()
    assert (one.at, one.age, one.lost) == (T0 - 20 * S, 21 * S, ())


def test_the_partition_that_does_not_come_through_is_named():
    found = Canaries({FLOW: 3, AIR: 1}, began=0)
    for topic, partition, age in ((FLOW, 0, 10), (FLOW, 1, 181), (FLOW, 2, 179), (AIR, 0, 1)):
        found.came(Canary(topic, partition, 1, T0 - age * S))
    assert {topic: one.lost for topic, one in found.look(T0, quiet=0).items()} == {FLOW: (1,), AIR: ()}


def test_what_is_said_again_is_no_news():
    found = Canaries({FLOW: 1}, began=0)
    for stamp in (T0, T0 - 600 * S):
        found.came(Canary(FLOW, 0, 1, stamp))
    assert found.look(T0 + S, quiet=0)[FLOW].age == S


def test_a_partition_of_which_nothing_ever_came_is_as_old_as_the_console_whatever_the_log_says_of_time():
    found = Canaries({FLOW: 1}, began=7 * S)
    assert found.look(T0, quiet=8 * S)[FLOW] == (None, S, ())
    assert found.look(0, quiet=188 * S)[FLOW].lost == (0,)


def test_a_canary_of_a_feed_or_partition_that_is_not_ours_is_passed_by():
    found = Canaries({FLOW: 1}, began=0)
    found.came(Canary(AIR, 0, 1, T0))
    found.came(Canary(FLOW, 5, 1, T0))
    assert found.look(T0, quiet=0) == {FLOW: (None, 0, ())}


# --- what is told -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "standing", "missing", "back"),
    [
        ((), (), (), ()),
        ("a", (), "a", ()),
        ("a", "a", (), ()),
        ((), "a", (), "a"),
        ("ab", "bc", "a", "c"),
        ("abcd", (), [FEEDS], ()),
        ("abcd", "a", [FEEDS], ()),
        ("abcd", [FEEDS], (), ()),
        ("ab", [FEEDS], "ab", [FEEDS]),
        ((), [FEEDS, "a"], (), ["a", FEEDS]),
    ],
)
def test_what_is_missing_is_told_once_and_many_at_once_are_one(lost, standing, missing, back):
    assert to_tell(dict.fromkeys(lost, (0,)), standing) == (list(missing), list(back))


@pytest.fixture
def desk():
    """A desk that has read its log, at T0 by the log."""
    desk = Desk(Settings(), "log")
    desk.put_part(wire.Part(id="broker", level="ok", behind_s=None, why=None))
    desk.appended(T0)
    desk.ready()
    return desk


def hear(desk, age_s=0, but=()):
    for topic in topics().values():
        for n in range(topic.partitions):
            if (topic.name, n) not in but:
                desk.put_canary(Canary(topic.name, n, 1, T0 - age_s * S))


def stands(desk, component):
    alarm = an_alarm("x", 5, rule=RULE, labels={"component": component})
    desk.put_alarm(5, alarm, alarm.model_dump_json().encode(), T0)


def settled(desk):
    watch, now = Watch(Settings(), "127.0.0.1:1", desk), time.monotonic()
    for n in range(round(SETTLE_S / 5)):
        assert watch.look(now + 5 * n) == []
    return watch, now + SETTLE_S + 1


def test_a_feed_that_does_not_come_through_is_on_the_page_and_told_by_topic_and_partition(desk):
    hear(desk, 190)
    hear(desk, but={(FLOW, 2)})
    watch, now = settled(desk)
    ((component, kind, detail),) = watch.look(now)
    assert (component, kind) == (FLOW, "canary_missing")
    assert detail.startswith(f"{FLOW}, partition 2: nothing has come through for 19")
    health = desk.health()
    assert health.level == "bad"
    part = next(p for p in health.parts if p.id == "through")
    assert (part.level, part.why[: len(FLOW)]) == ("bad", FLOW)
    bad = [feed for feed in health.feeds if feed.level == "bad"]
    assert [(feed.topic, feed.canary.lost) for feed in bad] == [(FLOW, (2,))]
    assert bad[0].canary.at == moment(T0 - 190 * S)
    assert watch.look(now + 5) == [], "it was just told"


def test_where_all_comes_through_nobody_is_told_and_an_alarm_of_before_is_ended(desk):
    hear(desk, 30)
    watch, now = settled(desk)
    assert watch.look(now) == []
    assert next(p.level for p in desk.health().parts if p.id == "through") == "ok"
    stands(desk, FLOW)
    assert watch.look(now + 1) == [(FLOW, "canary_back", "it comes through again")]


def test_what_stands_as_an_alarm_is_not_told_again(desk):
    hear(desk, 190)
    hear(desk, but={(FLOW, 2)})
    stands(desk, FLOW)
    watch, now = settled(desk)
    assert watch.look(now) == []


def test_nothing_is_told_by_a_console_that_was_cut_off_or_asleep_until_feeds_had_the_time_to_come(desk):
    hear(desk, 190)
    watch, now = settled(desk)
    desk.put_part(wire.Part(id="broker", level="bad", behind_s=None, why="gone"))
    assert watch.look(now) == []
    desk.put_part(wire.Part(id="broker", level="ok", behind_s=None, why=None))
    assert watch.look(now + 5) == []
    asleep = now + 5 + SETTLE_S + 5
    assert watch.look(asleep) == [], "it slept"
    for n in range(1, round(SETTLE_S / 5)):
        assert watch.look(asleep + 5 * n) == []
    ((component, kind, detail),) = watch.look(asleep + SETTLE_S)
    assert (component, kind) == (FEEDS, "canary_missing")
    assert all(topic in detail for topic in topics())


def test_what_is_told_is_an_event_of_the_platform(desk):
    hear(desk, 100_000)
    watch, now = settled(desk)
    ((component, kind, detail),) = watch.look(now)
    sent = platform_event("", "/citywatch/console", component, kind, detail, T0)
    found = decode(PlatformEvent, sent["value"], T0, sent["key"])
    assert not isinstance(found, Rejection)
    assert (found.component, found.kind) == (FEEDS, "canary_missing")


def test_every_feed_has_an_age_among_the_metrics_and_its_way_a_latency(desk):
    hear(desk, 12)
    metrics.show(desk)
    for topic in topics():
        age = REGISTRY.get_sample_value("citywatch_canary_age_seconds", {"topic": topic})
        assert 12 <= age < 20
    assert desk.canary_latency()["n"] == sum(t.partitions for t in topics().values())


def test_in_a_replay_nobody_waits_for_canaries():
    desk = Desk(Settings.model_validate({"kafka": {"clock": "writer"}}), "log")
    assert desk.through() == {}
    assert all(feed.canary is None for feed in desk.health().feeds)
    assert "through" not in desk.parts
    asyncio.run(asyncio.wait_for(Watch(Settings(), "127.0.0.1:1", desk).run(), 1))
