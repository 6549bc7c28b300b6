"""Why a rule did not sound: thirty silences of which the cause is known, and each is named."""

from __future__ import annotations

import json
import os
import zlib
from typing import Any, NamedTuple

import pytest
from cli_world import city, reject  # noqa: F401
from explained import points, through_plane

from bus import topics
from bus.embedded import EmbeddedBroker
from models.base import Micros, moment
from models.camera import CameraEvent
from models.decode import Rejection
from models.traffic import TrafficFlow
from rules.judge import Judge
from rules.program import compile_program
from rules.spec import RuleSet
from rules.whynot import Asked, Heard, InForce, why_not

M = 60_000_000
#: 2026-01-05 08:00 of the city, a Monday.
T0 = 1_767_574_800_000_000
FLOW, CAMERA = "city.traffic.flow.v1", "city.camera.event.v1"


def rules(*found: dict[str, Any], sensors: tuple[Any, ...] = (), calendars: tuple[Any, ...] = ()) -> RuleSet:
    made = [{"on": FLOW, "by": ["segment_id"], **rule} for rule in found]
    return RuleSet.model_validate({"rules": made, "registry": {"sensors": sensors}, "calendars": calendars})


JAM = {
    "id": "jam",
    "kind": "threshold",
    "levels": [
        {
            "priority": "P3",
            "raise": "speed_kmh < 10 and occupancy_pct >= 80",
            "clear": "speed_kmh > 20",
            "for": "5m",
        }
    ],
}
AT_ONCE = {"id": "slow", "kind": "threshold", "levels": [{"priority": "P3", "raise": "speed_kmh < 10"}]}
STUCK = {"id": "stuck", "kind": "event", "priority": "P2", "raise": "occupancy_pct >= 95", "keep": "1m"}
BURST = {
    "id": "burst",
    "kind": "count",
    "window": "10m",
    "where": "speed_kmh > 80",
    "levels": [{"priority": "P4", "raise": "count >= 3"}],
}
SILENT = {"id": "silent", "kind": "absence", "after": "10m", "wait": "2m", "priority": "P4"}
RISING = {
    "id": "rising",
    "kind": "rate",
    "of": "occupancy_pct",
    "over": "20m",
    "per": "10m",
    "levels": [{"priority": "P3", "raise": "rate > 20", "for": "0s"}],
}
MOSTLY = {
    "id": "mostly",
    "kind": "ratio",
    "of": "speed_kmh < 10",
    "window": "10m",
    "pane": "5m",
    "least": 4,
    "levels": [{"priority": "P3", "raise": "ratio >= 0.5", "for": "0s"}],
}
ODD = {"id": "odd", "kind": "baseline", "of": "speed_kmh"}
ROLL = {"id": "roll", "kind": "schedule", "during": "mornings", "due": "30m", "priority": "P4"}
MORNINGS = {"id": "mornings", "weekdays": ["mon", "tue"], "times": ["08:00-09:00"]}
SENSOR = {"topic": FLOW, "key": "a", "every": "1m"}


def flow(
    minute: float, speed: float | None = 50, occupancy: float | None = 20, key: str = "a", **more: Any
) -> TrafficFlow:
    at = T0 + round(minute * M)
    name = more.pop("event_id", f"e{key}{minute:g}")
    return TrafficFlow(
        event_id=name, source_id="s", observed_at=moment(at), segment_id=key, speed_kmh=speed, occupancy_pct=occupancy, **more
    )  # fmt: skip


def heard(event: Any, delay: float = 0, offset: int = 0) -> Heard:
    return Heard(event.at + round(delay * M), event, offset, zlib.crc32(event.wire()))


def each_minute(*speeds: float | None, occupancy: float | None = 90, start: int = 0) -> list[Heard]:
    return [heard(flow(start + n, speed, occupancy)) for n, speed in enumerate(speeds)]


class Silence(NamedTuple):
    """A silence, and the word and the phrase that name its cause."""

    name: str
    rules: RuleSet
    ask: str
    at: float
    records: list[Heard]
    code: str
    says: str
    missing: Micros | None = None
    key: str = "a"


def rejected(minute: float) -> Heard:
    return Heard(T0 + round(minute * M), Rejection("schema", "speed_kmh: Input should be a valid number"))


late = heard(flow(3, 5, 90), delay=2.5)
CAM = {"on": CAMERA, "by": ["camera_id"]}


def camera(minute: float, kind: str, zone: str | None) -> Heard:
    event = CameraEvent.model_validate(
        {"event_id": f"c{minute}", "source_id": "s", "observed_at": moment(T0 + round(minute * M)), "camera_id": "c", "kind": kind, "zone": zone}
    )  # fmt: skip
    return heard(event)


SILENCES = [
    Silence("a value above its bound", rules(AT_ONCE), "slow", 2, each_minute(30, 20, 12.4), "clause", "speed was 12.4 km/h, 2.4 km/h above the bound 10 km/h"),
    Silence("one of two clauses", rules({**JAM, "id": "jam"}), "jam", 2, each_minute(5, 5, 12.4, occupancy=85)[2:], "clause", "speed was 12.4 km/h, 2.4 km/h above the bound 10 km/h; occupancy ≥ 80 % held"),
    Silence("the other of two clauses", rules(JAM), "jam", 2, each_minute(5, occupancy=70), "clause", "occupancy was 70 %, 10 % below the bound 80 %; speed < 10 km/h held"),
    Silence("exactly the bound", rules(AT_ONCE), "slow", 1, each_minute(10), "clause", "exactly the bound"),
    Silence("the value is absent", rules(AT_ONCE), "slow", 1, each_minute(None), "no_value", "speed had no value"),
    Silence("an event below its bound", rules(STUCK), "stuck", 1, each_minute(5, occupancy=90), "clause", "occupancy was 90 %, 5 % below the bound 95 %"),
    Silence("an event whose alarm is over", rules(STUCK), "stuck", 4, each_minute(5, occupancy=97) + each_minute(5, occupancy=60, start=3), "clause", "35 % below the bound"),
    Silence("not yet for long enough", rules(JAM), "jam", 3, each_minute(5, 5, 5, 5), "waiting", "must be for 5m: 2m is missing", 2 * M),
    Silence("broken off too early", rules(JAM), "jam", 4, each_minute(5, 5, 5, 30), "short", "2m short of 5m", 2 * M),
    Silence("too few in the window", rules(BURST), "burst", 5, each_minute(90, 90, 20), "window", "2 events within 10m, of 3: 1 missing"),
    Silence("the first has left the window", rules(BURST), "burst", 12, [*each_minute(90), *each_minute(90, 90, start=11)], "window", "2 events within 10m, of 3: 1 missing"),
    Silence("none that the rule looks at", rules(BURST), "burst", 3, each_minute(30, 40, 50), "where", "speed was 50 km/h, 30 km/h below the bound 80 km/h"),
    Silence("a rule for another subject", rules({**AT_ONCE, "where": "segment_id == 'b'"}), "slow", 1, each_minute(5), "where", "looks only where segment = “b”"),
    Silence("came too late", rules(AT_ONCE), "slow", 4, [*each_minute(50, 50), late], "late", "later than 2m: it is kept, and not judged"),
    Silence("a record that is none", rules(AT_ONCE), "slow", 2, [*each_minute(50), rejected(1)], "rejected", "was rejected (schema: speed_kmh: Input should be a valid number)"),
    Silence("counted once", rules(BURST), "burst", 3, [*each_minute(90, 90), each_minute(90, 90)[1]], "duplicate", "ea1 came twice, and counts once"),
    Silence("another value took its place", rules(AT_ONCE), "slow", 1, [heard(flow(0, 5)), heard(flow(0, 50, event_id="other"), delay=0.1)], "conflict", "took the place of ea0"),
    Silence("nothing heard any more", rules(AT_ONCE, sensors=(SENSOR,)), "slow", 30, each_minute(50, 50), "blind", "it is BLIND, and silence is not all-clear"),
    Silence("never heard, and registered", rules(AT_ONCE, sensors=(SENSOR,)), "slow", 30, [], "blind", "it is BLIND"),
    Silence("nobody knows the subject", rules(AT_ONCE), "slow", 1, [heard(flow(0, 5, key="b"))], "unknown_subject", "a was never heard, and is not in the registry"),
    Silence("out of service", rules(AT_ONCE, sensors=({**SENSOR, "maintenance": [{"from": moment(T0 - M), "to": moment(T0 + 9 * M), "why": "new head"}]},)), "slow", 1, each_minute(5), "maintenance", "out of service until 2026-01-05 08:09:00: new head"),
    Silence("outside its calendar", rules({**AT_ONCE, "during": "mornings"}, calendars=(MORNINGS,)), "slow", 61, each_minute(5, start=61), "calendar", "Outside the calendar mornings; it begins at 2026-01-06 08:00:00", 23 * 60 * M - M),
    Silence("heard shortly before", rules(SILENT, sensors=(SENSOR,)), "silent", 15, each_minute(50, start=9), "heard", "last heard at 2026-01-05 08:09:00; it is told from 2026-01-05 08:19:00, in 4m", 4 * M),
    Silence("silent, and told a little later", rules(SILENT, sensors=(SENSOR,)), "silent", 11, each_minute(50), "held", "told after 1m more", M),
    Silence("silent, and not registered", rules(SILENT), "silent", 30, each_minute(50), "unregistered", "nobody misses it"),
    Silence("the roll is not yet due", rules(ROLL, sensors=(SENSOR,), calendars=(MORNINGS,)), "roll", 20, [], "waiting", "in 10m", 10 * M),
    Silence("no rate of one value", rules(RISING), "rising", 2, each_minute(50, 50, occupancy=20), "span", "known for 1m only, of 10m at least", 9 * M),
    Silence("a rate below its bound", rules(RISING), "rising", 12, [heard(flow(0, 50, 20)), heard(flow(12, 50, 32))], "clause", "rate of change was 10, 10 below the bound 20"),
    Silence("too few for a ratio", rules(MOSTLY), "mostly", 3, each_minute(5, 5, 5), "few", "3 events in the window, of 4 at least: 1 missing"),
    Silence("a ratio below its bound", rules(MOSTLY), "mostly", 4, each_minute(5, 50, 50, 50, 50), "clause", "ratio was 0.2, 0.3 below the bound 0.5"),
    Silence("still learning", rules(ODD), "odd", 3, each_minute(50, 50, 5), "learning", "3 values in 3m, of more than 100 and 1d"),
    Silence("only counted for others", rules({**AT_ONCE, "tell": False}), "slow", 1, each_minute(5), "untold", "it tells nobody"),
    Silence("one value too few", rules({**CAM, "id": "zones", "kind": "distinct", "of": "zone", "window": "10m", "levels": [{"priority": "P4", "raise": "distinct >= 3"}]}), "zones", 3, [camera(0, "motion", "x"), camera(1, "motion", "y"), camera(2, "motion", "x")], "window", "2 different values of zone within 10m, of 3: 1 missing", None, "c"),
]  # fmt: skip


def answer(silence: Silence, alarms=(), line=None):
    asked = Asked(silence.ask, silence.key, T0 + round(silence.at * M))
    return why_not(asked, line or [InForce(T0 - 60 * M, 7, silence.rules)], silence.records, alarms)


def test_there_are_thirty_and_more():
    assert len(SILENCES) >= 30
    assert len({s.code for s in SILENCES}) >= 18


@pytest.mark.parametrize("silence", SILENCES, ids=lambda s: s.name)
def test_the_cause_of_a_silence_is_named(silence):
    found = answer(silence)
    assert (found.code, silence.says in found.text.en) == (silence.code, True), found.text.en
    assert found.missing_us == silence.missing
    assert found.text.vi != found.text.en
    assert "{" not in found.text.vi + found.text.en


# --- what an alarm, or another version of the rules, has to do with it ----------------------------------------------------


def alarm_of(silence: Silence, **changed: Any):
    """An alarm of the rule that stands at the moment, as the plane has it."""
    judge = Judge(TrafficFlow, 0, "log", whole=True)
    loud = {
        **AT_ONCE,
        "levels": [{"priority": "P3", "raise": "speed_kmh < 1000", "for": "0s"}],
        "id": silence.ask,
    }
    signals = judge.control(0, T0 - 60 * M, 0, compile_program(rules(loud), 7, TrafficFlow))
    signals += judge.event(1, T0, flow(0), 1)
    (told,) = through_plane(signals)
    return told.alarm.model_copy(update=changed)


QUIET = SILENCES[0]


@pytest.mark.parametrize(
    ("changed", "code", "says"),
    [
        ({}, "raised", "It did: the alarm"),
        ({"retracted": True}, "retracted", "it was taken back"),
        (
            {"suppressed": True, "suppressed_by": {"gateway-dead": "r00t"}},
            "suppressed",
            "gateway-dead (r00t) speaks for it",
        ),
        (
            {"shelved": True, "shelved_by": "Lan", "shelved_until": moment(T0 + 60 * M)},
            "shelved",
            "shelved by Lan until",
        ),
    ],
    ids=["already raised", "taken back", "inhibited", "shelved"],
)
def test_an_alarm_that_is_there_and_not_seen_is_named(changed, code, says):
    alarm = alarm_of(QUIET, **changed)
    found = answer(QUIET, [alarm])
    assert (found.code, found.alarm_id) == (code, alarm.alarm_id)
    assert says in found.text.en


def test_an_alarm_of_another_time_or_subject_is_no_reason():
    over = alarm_of(QUIET, end=moment(T0 + M))
    other = alarm_of(QUIET, labels={"segment_id": "b"})
    assert answer(QUIET, [over, other]).code == "clause"


@pytest.mark.parametrize(
    ("since", "says"),
    [(10, "not in force yet: it is since 2026-01-05 08:10:00 (version 7)"), (-10, "in force no more")],
)
def test_a_rule_that_was_not_in_force_then_says_since_or_until_when(since, says):
    none = InForce(T0 - 90 * M if since > 0 else T0 - M, 6, rules())
    some = InForce(T0 + since * M, 7, QUIET.rules)
    found = answer(QUIET, line=sorted([none, some]))
    assert found.code == "version"
    assert says in found.text.en


def test_a_rule_that_nobody_has_is_no_answer():
    with pytest.raises(KeyError):
        answer(QUIET._replace(ask="nothing"))


def test_a_rule_that_sounded_though_nobody_kept_it_says_so():
    found = answer(Silence("", rules(AT_ONCE), "slow", 1, each_minute(5), "", ""))
    assert (found.code, found.text.en) == (
        "raised",
        "By its events there is an alarm since 2026-01-05 08:00:00.",
    )


def test_what_did_not_last_says_also_which_clause_broke_it_off():
    found = answer(next(s for s in SILENCES if s.name == "broken off too early"))
    assert any("speed was 30 km/h, 20 km/h above the bound 10 km/h" in text.en for text in found.also)
    assert [c.by for c in found.clauses] == [20]


# --- the command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(city):  # noqa: F811
    """A store with a road that crawls for three minutes, a reject of it, and one of another."""
    events = [h.found for h in each_minute(50, 5, 5, 5, occupancy=85)]
    refused = [
        reject("mine", b"{}", time=T0 + 9 * M, key=b"a", reason="schema"),
        reject("other", b"{}", time=T0 + 9 * M, key=b"b", reason="schema"),
    ]
    city.hold(points(events), refused)
    file = city.folder / "my.yaml"
    file.write_text(
        "rules:\n- {id: jam, kind: threshold, on: city.traffic.flow.v1, by: [segment_id], levels: "
        '[{priority: P3, raise: "speed_kmh < 10", clear: "speed_kmh > 20", for: 5m}]}\n'
    )
    return lambda *words: city("why-not", *words, "--rules", str(file))


def test_the_command_answers_from_the_store(kept):
    done = kept("jam", "a", "--at", "2026-01-05T08:03:00+07:00")
    assert (done.code, done.rows) == (
        0,
        ["waiting: P3 is met since 2026-01-05 08:01:00 and must be for 5m: 3m is missing."],
    )
    done = kept("jam", "a", "--at", "2026-01-05T08:00:00+07:00", "--lang", "vi", "--json")
    found = done.json()
    assert (found["cause"], found["clauses"][0]["by"], found["missing_s"]) == ("clause", 40.0, None)
    assert "cao hơn ngưỡng 10 km/h là 40 km/h" in found["text"]


def test_the_command_blames_only_rejects_of_its_own_subject(kept):
    assert kept("jam", "b", "--at", "2026-01-05T08:09:30+07:00").out.startswith("rejected: ")
    assert kept("jam", "c", "--at", "2026-01-05T08:09:30+07:00").out.startswith("unknown_subject: ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["jm", "a", "--at", "2026-01-05"], "there is no rule jm; did you mean jam?"),
        (["jam", "a/b", "--at", "2026-01-05"], "a subject of city.traffic.flow.v1 is segment_id"),
        (["jam", "a", "--at", "noon"], "--at: "),
        (["jam", "a", "--at", "0001-01-01T00:00:00+14:00"], "is in UTC no time of the years 1 to 9999"),
        (["jam", "a", "--at", "0001-01-01"], "write a time from 1970 to 2299"),
        (["jam", "a", "--at", "9999-12-31T23:59:59Z"], "write a time from 1970 to 2299"),
        (
            ["jam", "a", "--at", "2026-01-05", "--store", "--grace", "nan"],
            "--grace nan: write a number of seconds",
        ),
    ],
)
def test_a_question_that_makes_no_sense_is_wrong_use(kept, words, says):
    done = kept(*words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err


def test_versions_that_this_citywatch_cannot_read_are_passed_over_and_told(kept, city):  # noqa: F811
    foreign = b'{"rules": [{"id": "x", "kind": "oracle"}]}'
    rule = {"id": "jam", "kind": "event", "on": FLOW, "by": ["segment_id"], "raise": "speed_kmh < 10"}
    readable = RuleSet.model_validate({"rules": [{**rule, "keep": "1m", "priority": "P3"}]})
    with EmbeddedBroker() as broker:
        here = {"bootstrap": broker.bootstrap, "log_id": "L", "pid": os.getpid(), "embedded": True}
        (city.folder / "up.json").write_text(json.dumps(here))
        words = ("why-not", "jam", "a", "--at", "2026-01-05T08:00:00+07:00", "--store")
        version = topics.publish_rules(broker.bootstrap, "", foreign, 0, 0)
        done = city(*words)
        assert (done.code, done.out) == (2, "")
        assert f"version {version} cannot be read by this citywatch: rules.0" in done.err
        assert "--rules FILE" in done.err
        topics.publish_rules(broker.bootstrap, "", readable.canonical(), 0, 0)
        version = topics.publish_rules(broker.bootstrap, "", foreign, T0 + 60 * M, T0 + 60 * M)
        done = city(*words)
        assert (done.code, done.out[:8]) == (0, "clause: ")
        assert f"version {version} cannot be read by this citywatch: rules.0" in done.err
