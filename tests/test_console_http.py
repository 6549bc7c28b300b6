"""The console over HTTP: what is answered, to whom, and in which words what was not done."""

import asyncio
import json
import re
from contextlib import asynccontextmanager
from types import SimpleNamespace

import httpx
import pytest
from aiokafka.errors import KafkaError
from cli_world import MINUTE, T0, counted, flows
from cli_world import alarm as stored
from explained import CASES, alarms_of, records
from explained import Told as Explained

from console import app as module
from console import hub, orders, past, wire
from console.app import MOST_BYTES, create
from console.desk import Desk
from console.guard import HEADERS
from console.orders import Orders
from console.past import Past
from models.alarm import Alarm, AlarmEvent, Command
from models.base import moment
from rules import load
from settings import Settings
from sinks.contract import Record
from sinks.sqlite import SqliteStore

HOST = "http://localhost"
RULES = load.default()
FLOW = "city.traffic.flow.v1"


class Producer:
    """Keeps what is sent; answers when told to, or fails."""

    def __init__(self):
        self.sent, self.error, self.waits = [], None, False

    async def send_and_wait(self, topic, value, **more):
        if self.error is not None:
            raise self.error
        if self.waits:
            await asyncio.Event().wait()
        self.sent.append((topic, Command.model_validate_json(value), more))
        return SimpleNamespace(offset=len(self.sent) - 1)

    async def stop(self):
        pass


@pytest.fixture
def city(tmp_path):
    """`async with city() as c`: a desk that has read its log, a client, and a store where `hold` puts things."""

    @asynccontextmanager
    async def open_(names=(), host="127.0.0.1", **kafka):
        settings = Settings.model_validate({"data": {"dir": tmp_path}, "kafka": kafka})
        desk, here = Desk(settings, "log"), Past(settings)
        desk.put_rules(0, RULES, T0)
        desk.alarms.begin(0)
        desk.ready()
        asked = Orders(settings, "nowhere:1", desk, here)
        producer = asked._producer = Producer()
        app = create(desk, here, asked, host, names)
        transport = httpx.ASGITransport(app)

        async def hold(points=(), records=()):
            store = SqliteStore(tmp_path / "making")
            await store.write(list(points))
            await store.keep(list(records))
            await store.close()
            (tmp_path / "making").rename(tmp_path / "store.sqlite")  # it is there with all that is in it

        def say(offset, id_, position=1, **more):
            found = Alarm.model_validate({**stored(id_, **more).body, "position": position})
            desk.put_alarm(offset, found, found.model_dump_json().encode(), T0 + offset)

        async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
            yield SimpleNamespace(
                desk=desk, past=here, orders=asked, producer=producer, client=client, hold=hold, say=say
            )
        await here.close()

    return open_


def ran(test):
    """The test as a plain function: what it awaits is run."""

    def run(city):
        asyncio.run(test(city))

    run.__name__ = test.__name__
    return run


def ask(alarm_id="a", command_id="c1", actor="x", **more):
    return {"command_id": command_id, "action": "acknowledge", "alarm_id": alarm_id, "actor": actor, **more}


def ids(answer):
    return [a["alarm_id"] for a in answer.json()["alarms"]]


# --- questions ----------------------------------------------------------------------------------------------------


@ran
async def test_the_city_is_its_rules_sensors_and_topics(city):
    async with city() as c:
        found = wire.City.model_validate_json((await c.client.get("/api/city")).content)
    assert {r.id for r in found.rules} == {r.id for r in (*RULES.rules, *RULES.wide)}
    assert len(found.sensors) == len(RULES.registry.sensors)
    sensor = next(s for s in found.sensors if s.topic == FLOW)
    assert sensor.id == f"{FLOW}|{sensor.key}"
    assert (found.log_id, found.clock, found.rules_version) == ("log", "log", 0)
    assert next(t for t in found.topics if t.name == FLOW).measurement == "traffic_flow"


@ran
async def test_alarms_are_asked_for_by_what_they_say(city):
    place = {"ward": "Bãi Cháy", "site": "Cầu"}
    async with city() as c:
        c.say(0, "a", state="UNACK", priority="P1", start="2026-01-01T00:00:00Z")
        c.say(1, "b", state="ACKED", priority="P3", start="2026-01-01T01:00:00Z", place=place)
        c.say(2, "c", state="NORM", priority="P3", start="2026-01-01T02:00:00Z", rule="icu-full")

        async def get(**asked):
            return await c.client.get("/api/alarms", params=asked)

        assert ids(await get()) == ["c", "b", "a"], "the newest first"
        assert ids(await get(state=["UNACK", "ACKED"])) == ["b", "a"]
        assert ids(await get(priority="P1")) == ["a"]
        assert ids(await get(rule="icu-full")) == ["c"]
        assert ids(await get(ward="Bãi Cháy")) == ["b"]
        assert ids(await get(q="bai CHAY")) == ["b"], "without marks and case"
        assert ids(await get(q="đường un tac")) == []
        assert (await get(limit=2)).json()["more"]
        assert not (await get(limit=3)).json()["more"]


@ran
async def test_history_is_what_the_store_has_and_what_it_does_not_have_yet(city):
    async with city() as c:
        await c.hold(
            records=[
                stored("old", state="NORM", start="2025-12-01T00:00:00Z")._replace(time=T0 - 31 * 1440 * MINUTE),
                stored("both", state="UNACK", start="2026-01-01T00:00:00Z"),
                stored("open", state="NORM", start="2026-01-01T03:00:00Z", closed_by="log-ended")._replace(time=T0 + 180 * MINUTE),
            ]
        )  # fmt: skip
        c.say(0, "both", 2, state="ACKED", start="2026-01-01T00:00:00Z")
        c.say(1, "new", start="2026-01-01T05:00:00Z")

        async def get(**asked):
            return await c.client.get("/api/history", params=asked)

        everything = await get()
        assert ids(everything) == ["new", "open", "both", "old"]
        assert {a["alarm_id"]: a["state"] for a in everything.json()["alarms"]}["both"] == "ACKED"
        assert everything.json()["alarms"][1]["closed_by"] == "log-ended"
        assert ids(await get(**{"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T04:00:00Z"})) == [
            "open",
            "both",
        ]
        assert ids(await get(state="UNACK")) == ["new"], "not as the store remembers it"
        assert (await get(limit=3)).json()["more"]
        assert not (await get(limit=4)).json()["more"]


@ran
async def test_without_a_store_the_history_is_what_the_log_has(city):
    async with city() as c:
        c.say(0, "a")
        assert ids(await c.client.get("/api/history")) == ["a"]


def entry(id_, alarm_id, position, **more):
    body = {**stored(alarm_id).body, "position": position}
    event = AlarmEvent.model_validate({"id": id_, "type": "raised", "at": moment(T0), "alarm": body, **more})
    return event, Record(
        "alarm_event", id_, T0, {**event.model_dump(mode="json", exclude_none=True), "alarm_id": alarm_id}
    )


@ran
async def test_a_detail_is_the_union_of_log_and_store_each_line_once_in_order(city):
    lines = [entry(f"e{n}", "a", n) for n in range(4)]
    other = entry("x", "b", 9)[1]
    async with city() as c:
        evidence = {
            "event_id": "ev", "topic": FLOW, "partition": 0, "offset": 3,
            "observed_at": "2026-01-01T00:00:00Z", "values": {"speed_kmh": 2.5},
        }  # fmt: skip
        words = {"vi": "Làm gì", "en": "What to do"}
        c.say(0, "a", evidence=[evidence], instruction=words)
        await c.hold(records=[lines[1][1], lines[0][1], lines[2][1], other])
        for event, _ in lines[1:]:
            c.desk.put_entry(event)
        found = (await c.client.get("/api/alarms/a")).json()
    assert [line["id"] for line in found["timeline"]] == ["e0", "e1", "e2", "e3"]
    assert found["evidence"][0]["values"] == {"speed_kmh": 2.5}
    assert found["instruction"] == words
    assert found["rule"]["id"] == "road-jammed"
    assert "proof" not in json.dumps(found)


@ran
async def test_why_there_is_an_alarm_is_told_in_both_languages_and_whether_it_derives(city):
    told = next(t for case in CASES if case.rule.id == "road-jammed" for t in alarms_of(case))
    touched = told.alarm.model_copy(update={"alarm_id": "touched", "peak": 1.0})
    async with city() as c:
        await c.hold(records=records([told, Explained(touched, [])]))
        found = (await c.client.get(f"/api/alarms/{told.alarm.alarm_id}/explain")).json()
        other = (await c.client.get("/api/alarms/touched/explain")).json()
        assert (await c.client.get("/api/alarms/nobody/explain")).status_code == 404
    assert (found["derives"], found["problems"]) == (True, [])
    assert {line["part"] for line in found["story"]} == {"rule", "seen", "time", "told", "proof"}
    assert any(line["text"]["vi"].startswith("ngưỡng P3 đã đạt suốt 5m") for line in found["story"])
    assert other["derives"] is False
    assert other["problems"][0]["en"].startswith("peak: told was 1.0, derived is ")


@ran
async def test_an_alarm_that_only_the_store_has_is_told_too(city):
    async with city() as c:
        await c.hold(records=[stored("old", state="NORM", rule="gone-since")])
        found = (await c.client.get("/api/alarms/old")).json()
        assert found["alarm"]["state"] == "NORM"
        assert found["rule"] is None
        missing = await c.client.get("/api/alarms/nobody")
        assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")


@ran
async def test_whether_an_alarm_exists_is_not_known_while_the_store_is_away(city):
    async with city() as c:
        answer = await c.client.get("/api/alarms/nobody")
        assert answer.status_code == 503
        assert "no store here" in answer.json()["detail"]


@ran
async def test_a_chart_has_the_series_of_the_alarm_and_the_bounds_of_its_rule(city):
    async with city() as c:
        points = flows(40)
        await c.hold(points=[*points, points[0]._replace(late=True, fields=(("speed_kmh", 999.0),))])
        c.say(0, "a", labels={"segment_id": "s1"}, end="2026-01-01T00:10:00Z", state="RTNUN")
        found = (await c.client.get("/api/alarms/a/chart")).json()
    assert (found["measurement"], found["tags"], found["every_s"]) == (
        "traffic_flow",
        {"segment_id": "s1"},
        None,
    )
    assert (found["from"], found["to"]) == (T0 / 1e6 - 3600, T0 / 1e6 + 40 * 60)
    assert found["times"] == [(T0 + n * MINUTE) / 1e6 for n in range(1, 40, 2)]
    assert found["lines"] == [{"field": "speed_kmh", "values": [10.0 * n for n in range(1, 40, 2)]}]
    assert {"field": "speed_kmh", "operator": "<", "value": 3.0, "priority": "P2", "when": "raise"} in found[
        "bounds"
    ]


@ran
async def test_a_chart_of_very_many_points_is_of_their_means(city):
    async with city() as c:
        seconds = [
            flows(2)[1]._replace(time=T0 + n * 500_000, fields=(("speed_kmh", float(n % 2)),))
            for n in range(3000)
        ]
        await c.hold(points=seconds)
        c.say(0, "a", labels={"segment_id": "s1"}, end="2026-01-01T00:25:00Z", state="RTNUN")
        found = (await c.client.get("/api/alarms/a/chart")).json()
    assert found["every_s"] == 30
    assert set(found["lines"][0]["values"]) == {0.5}
    assert len(found["times"]) == 50


@ran
async def test_an_alarm_of_an_event_has_no_line(city):
    async with city() as c:
        await c.hold(points=flows())
        c.say(0, "a", rule="incident-grave", labels={"incident_id": "i"})
        found = (await c.client.get("/api/alarms/a/chart")).json()
    assert (found["lines"], found["times"], found["bounds"]) == ([], [], [])


@ran
async def test_what_was_asked_wrongly_is_told_as_a_problem_with_its_place(city):
    async with city() as c:
        for path, where in (
            ("/api/history?from=yesterday", "query.from"),
            ("/api/alarms?priority=P9", "query.priority.0"),
            ("/api/alarms?limit=0", "query.limit"),
        ):
            answer = await c.client.get(path)
            assert answer.status_code == 422
            assert answer.headers["content-type"] == "application/problem+json"
            assert wire.Problem.model_validate_json(answer.content).errors[0]["where"] == where


# --- commands -----------------------------------------------------------------------------------------------------


@ran
async def test_a_command_is_done_when_the_broker_has_it(city):
    async with city() as c:
        c.say(0, "a")
        answer = await c.client.post("/api/commands", json=ask(note="seen"))
        assert (answer.status_code, answer.json()) == (200, {"command_id": "c1", "offset": 0})
        topic, command, more = c.producer.sent[0]
        assert (topic, command.note, more["key"]) == ("city.alarm.input.v1", "seen", b"f-a")
        again = await c.client.post("/api/commands", json=ask())
        assert again.json() == answer.json()
        assert len(c.producer.sent) == 1, "the same command is the same command"
        other = await c.client.post("/api/commands", json=ask(command_id="c2", actor="y"))
        assert other.status_code == 409
        assert "x is acknowledging it" in other.json()["detail"]


@ran
async def test_an_alarm_that_got_worse_after_an_acknowledgement_can_be_acknowledged_again(city):
    async with city() as c:
        c.say(0, "a", 1)
        await c.client.post("/api/commands", json=ask())
        c.say(1, "a", 7, priority="P1")
        assert (await c.client.post("/api/commands", json=ask(command_id="c2"))).status_code == 200


@ran
async def test_nothing_is_left_to_do_where_it_is_done_taken_back_or_ended_with_its_log(city):
    async with city() as c:
        acked = {"acked_by": "z", "acked_at": "2026-01-01T00:00:05Z"}
        c.say(0, "acked", state="ACKED", **acked)
        c.say(1, "back", state="NORM", retracted=True)
        await c.hold(records=[stored("ended", state="NORM", acked=False, closed_by="log-ended")])
        for alarm_id, why in (
            ("acked", "by z at 2026-01-01T00:00:05Z"),
            ("back", "taken back"),
            ("ended", "log"),
        ):
            answer = await c.client.post("/api/commands", json=ask(alarm_id))
            assert answer.status_code == 409
            assert why in answer.json()["detail"]
            assert answer.json()["alarm"]["alarm_id"] == alarm_id
        assert (await c.client.post("/api/commands", json=ask("nobody"))).status_code == 404
        assert c.producer.sent == []


@ran
async def test_what_is_over_but_not_seen_can_still_be_acknowledged(city):
    async with city() as c:
        c.say(0, "a", state="RTNUN")
        assert (await c.client.post("/api/commands", json=ask())).status_code == 200


@ran
async def test_nobody_acts_in_a_replays_world(city):
    async with city(clock="writer") as c:
        c.say(0, "a")
        answer = await c.client.post("/api/commands", json=ask())
        assert (answer.status_code, answer.json()["title"]) == (409, "Not in a replay")


def test_a_broker_that_does_not_answer_is_told_and_the_command_may_be_sent_again(city, monkeypatch):
    monkeypatch.setattr(orders, "ACK_S", 0.05)

    async def go():
        async with city() as c:
            c.say(0, "a")
            c.producer.waits = True
            answer = await c.client.post("/api/commands", json=ask())
            assert answer.status_code == 503
            assert "same command_id" in answer.json()["detail"]
            c.orders._producer = other = Producer()
            assert (await c.client.post("/api/commands", json=ask())).status_code == 200
            assert other.sent
            c.say(1, "b")
            c.orders._producer = Producer()
            c.orders._producer.error = KafkaError("gone")
            assert (await c.client.post("/api/commands", json=ask("b", "c3"))).status_code == 503

    asyncio.run(go())


@ran
async def test_a_command_that_says_nonsense_is_refused_field_by_field(city):
    async with city() as c:
        c.say(0, "a")
        for wrong, where in (
            ({"actor": ""}, "body.actor"),
            ({"action": "shelve"}, "body.action"),
            ({"note": "x" * 2001}, "body.note"),
            ({"more": 1}, "body.more"),
        ):
            answer = await c.client.post("/api/commands", json={**ask(), **wrong})
            assert answer.status_code == 422
            assert [e["where"] for e in answer.json()["errors"]] == [where]
        broken = await c.client.post(
            "/api/commands", content="{", headers={"content-type": "application/json"}
        )
        assert broken.status_code == 422
        assert c.producer.sent == []


# --- who may ask --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True), ("localhost:8080", True), ("127.0.0.1:8080", True), ("[::1]:8080", True), ("127.9.9.9", True),
        ("console.city", True), ("CONSOLE.city:80", True), ("evil.example", False), ("localhost.evil.example", False),
        ("10.1.2.3", False), ("", False), ("localhost:x", False), ("evil.example/localhost", False), ("a@localhost", False),
        ("localhost@evil.example", False),
    ],
)  # fmt: skip
def test_only_names_that_are_ours_are_answered(city, host, known):
    async def go():
        async with city(names=["console.city"]) as c:
            answer = await c.client.get("/api/city", headers={"Host": host})
            assert (answer.status_code == 200) == known
            assert known or answer.json()["title"] == "Unknown host"

    asyncio.run(go())


@ran
async def test_where_we_listen_on_every_address_any_address_is_ours_and_no_other_name(city):
    async with city(host="0.0.0.0") as c:
        assert (await c.client.get("/api/city", headers={"Host": "10.1.2.3:8080"})).status_code == 200
        assert (await c.client.get("/api/city", headers={"Host": "evil.example"})).status_code == 400


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Length": str(MOST_BYTES + 1)}, 413),
        ({"Content-Length": "9" * 400}, 413),
    ],
)
def test_commands_are_taken_from_our_own_page_only(city, said, status):
    async def go():
        async with city() as c:
            c.say(0, "a")
            headers = {"Content-Type": "application/json", **said}
            answer = await c.client.post("/api/commands", content=json.dumps(ask()), headers=headers)
            assert answer.status_code == status
            assert bool(c.producer.sent) == (status == 200)

    asyncio.run(go())


@ran
async def test_a_body_that_does_not_say_how_long_it_is_is_cut_off(city):
    async def endless():
        for _ in range(100):
            yield b" " * 1024

    async with city() as c:
        headers = {"Content-Type": "application/json"}
        answer = await c.client.post("/api/commands", content=endless(), headers=headers)
        assert answer.status_code == 413


@ran
async def test_every_answer_says_what_a_browser_may_do_with_it(city):
    async with city() as c:
        for path in ("/", "/api/city", "/api/alarms/nobody", "/nothing.js", "/metrics"):
            answer = await c.client.get(path)
            assert HEADERS.items() <= {k: answer.headers.get(k) for k in HEADERS}.items(), path
        policy = HEADERS["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "http" not in policy
        assert (await c.client.get("/api/city")).headers["cache-control"] == "no-store"


# --- the page and about ourselves ---------------------------------------------------------------------------------


@pytest.fixture
def dist(tmp_path, monkeypatch):
    folder = tmp_path / "web" / "dist"
    monkeypatch.setattr(module, "DIST", folder)
    return folder


def test_a_page_that_is_not_built_says_which_command_builds_it(city, dist):
    async def go():
        async with city() as c:
            assert "make web" in (await c.client.get("/")).text
            assert (await c.client.get("/api/city")).status_code == 200
            dist.mkdir(parents=True)
            (dist / "index.html").write_text("the page")
            (dist / "app.js").write_text("1")
            page = await c.client.get("/")
            assert page.text == "the page", "and is there as soon as it is"
            assert page.headers["cache-control"] == "no-cache"
            same = await c.client.get(
                "/app.js", headers={"If-None-Match": (await c.client.get("/app.js")).headers["etag"]}
            )
            assert same.status_code == 304

    asyncio.run(go())


def test_nothing_outside_the_built_page_is_served(city, dist):
    async def go():
        dist.mkdir(parents=True)
        (dist.parent / "secret").write_text("secret")
        async with city() as c:
            for path in ("/../secret", "/%2e%2e/secret", "/..%2fsecret", "/.%2e/secret"):
                answer = await c.client.get(path)
                assert answer.status_code == 404, path
                assert "secret" not in answer.text

    asyncio.run(go())


@ran
async def test_there_is_a_contract_and_no_page_of_it_that_loads_from_elsewhere(city):
    async with city() as c:
        paths = (await c.client.get("/api/openapi.json")).json()["paths"]
        assert {"/api/city", "/api/stream", "/api/alarms/{alarm_id}/chart", "/api/commands"} <= paths.keys()
        for path in ("/docs", "/redoc"):
            assert (await c.client.get(path)).status_code == 404


@ran
async def test_health_ready_and_metrics_are_answered_as_workers_do(city):
    async with city() as c:
        assert (await c.client.get("/health")).text == "ok\n"
        assert (await c.client.get("/ready")).status_code == 503
        c.desk.put_part(wire.Part(id="broker", level="ok", behind_s=None, why=None))
        assert (await c.client.get("/ready")).text == "ok\n"
        c.say(0, "a")
        told = (await c.client.get("/metrics")).text
        assert "citywatch_console_alarms 1.0" in told
        assert 'citywatch_latency_seconds_count{hop="console"}' in told
        latency = (await c.client.get("/api/latency")).json()["alarm"]
        assert latency["n"] == 1
        assert latency["max"] > 0


@ran
async def test_in_a_replay_there_is_no_latency(city):
    async with city(clock="writer") as c:
        c.say(0, "a")
        none = {"n": 0, "p50": None, "p99": None, "max": None}
        assert (await c.client.get("/api/latency")).json() == {"alarm": none, "canary": none}


# --- at start, from the store -------------------------------------------------------------------------------------


@ran
async def test_what_the_log_no_longer_has_comes_from_the_store(city):
    key = next(s.key for s in RULES.registry.of(FLOW))
    async with city() as c:
        now = c.desk.now()
        seen = flows()[1]._replace(time=now - MINUTE, tags=(("segment_id", key),))
        late = seen._replace(time=now, late=True, fields=(("speed_kmh", 999.0),))
        await c.hold(points=[seen, late], records=[stored("open"), stored("over", state="NORM")])
        listening = await c.desk.join(None)
        await anext(listening.frames())
        await c.past.tell(c.desk)
        assert [a.alarm_id for a in c.desk.alarms.all()] == ["open"]
        assert b"event: snapshot" in await anext(listening.frames()), "who listens already is told"
        c.desk.look()
        shown = {s.id: s for s in c.desk.sensors.shown()}[f"{FLOW}|{key}"]
        assert (shown.status, shown.values) == ("ok", {"speed_kmh": 10.0})


@ran
async def test_what_the_store_knows_is_there_before_anybody_is_told(city):
    key = next(s.key for s in RULES.registry.of(FLOW))
    async with city() as c:
        now = c.desk.now()
        await c.past.recall(c.desk)
        assert list(c.desk.alarms.all()) == [], "there is no store yet, and that takes no time"
        days_ago = flows()[1]._replace(time=now - 3 * 1440 * MINUTE, tags=(("segment_id", key),))
        await c.hold(points=[days_ago], records=[stored("open")])
        await c.past.recall(c.desk)
        c.desk.look()
        shown = {s.id: s for s in c.desk.sensors.shown()}[f"{FLOW}|{key}"]
        assert (shown.status, shown.at) == ("blind", moment(days_ago.time)), (
            "since when it is silent is known"
        )
        assert [a.alarm_id for a in c.desk.alarms.all()] == ["open"]
        await asyncio.wait_for(c.past.tell(c.desk), 1)


@ran
async def test_alarms_left_open_are_those_of_the_log_before_this_one(city):
    def ledger(log, minutes):
        line = counted()
        return line._replace(id=f"{log}/x/0", time=T0 + minutes * MINUTE, body={**line.body, "log": log})

    def left(id_, minutes):
        return stored(id_, state="NORM", closed_by="log-ended")._replace(time=T0 + minutes * MINUTE)

    async with city() as c:
        await c.hold(
            records=[ledger("first", 10), ledger("second", 30), ledger("log", 50), left("a", 5), left("b", 15), left("c", 20)]
        )  # fmt: skip
        await c.past.tell(c.desk)
        assert (await c.client.get("/api/health")).json()["left_open"] == 2


def test_a_store_that_comes_later_is_waited_for(city, monkeypatch):
    monkeypatch.setattr(past, "AGAIN_S", 0.05)

    async def go():
        async with city() as c:
            c.say(0, "a", labels={"segment_id": "s1"})
            assert (await c.client.get("/api/alarms/a/chart")).json()["lines"] == [], (
                "there is none of it yet"
            )
            telling = asyncio.create_task(c.past.tell(c.desk))
            await asyncio.sleep(0)
            await c.hold(records=[stored("open")])
            await asyncio.wait_for(telling, 10)
            assert {a.alarm_id for a in c.desk.alarms.all()} == {"a", "open"}

    asyncio.run(go())


# --- the stream ---------------------------------------------------------------------------------------------------


def events(frames):
    return re.findall(rb"^event: (\w+)$", frames, re.MULTILINE)


@ran
async def test_who_comes_is_told_everything_and_who_comes_back_what_it_missed(city):
    async with city() as c:
        c.say(0, "a")
        first = await anext((await c.desk.join(None)).frames())
        assert events(first) == [b"snapshot"]
        assert b"id: log/0\n" in first
        c.say(1, "b")
        back = await anext((await c.desk.join("log/0")).frames())
        assert events(back) == [b"alarm", b"seen", b"health"]
        stranger = await anext((await c.desk.join("other/7")).frames())
        assert events(stranger) == [b"city", b"snapshot"]


@ran
async def test_a_snapshot_leaves_out_what_is_long_over(city):
    async with city() as c:
        c.say(0, "open")
        c.say(1, "over", state="NORM")
        now = c.desk.now()
        fresh = Alarm.model_validate({**stored("fresh", state="NORM").body, "position": 9})
        c.desk.put_alarm(2, fresh, b"", now - MINUTE)
        told = json.loads(re.search(rb"data: (.*)", c.desk.snapshot())[1])
        assert {a["alarm_id"] for a in told["alarms"]} == {"open", "fresh"}


@ran
async def test_other_rules_are_told_and_then_everything_anew(city):
    async with city() as c:
        c.say(0, "a", labels={"segment_id": RULES.registry.of(FLOW)[0].key})
        assert c.desk.alarms.get("a").alarm.sensor is not None
        frames = (await c.desk.join("log/0")).frames()
        await anext(frames)
        c.desk.put_rules(5, RULES.model_copy(update={"registry": type(RULES.registry)()}), T0)
        assert events(await anext(frames)) == [b"city", b"snapshot"]
        assert c.desk.alarms.get("a").alarm.sensor is None


@ran
async def test_each_event_is_written_once_for_all_who_listen(city):
    async with city() as c:
        one, two = await c.desk.join("log/-1"), await c.desk.join("log/-1")
        for listening in (one, two):
            await anext(listening.frames())
        c.say(0, "a")
        assert one._frames[0] is two._frames[0]


def test_what_overflows_is_cut_off_and_a_large_first_word_is_not():
    async def go():
        here, slow = hub.Hub(), hub.Subscriber(most_frames=3, most_bytes=100)
        here.add(slow)
        here.send(b"x" * 1000)
        assert not slow.ended
        here.send(b"y")
        assert slow.ended
        assert (here.overflows, here.subscribers) == (1, set())
        assert [frame async for frame in slow.frames()] == [], "what comes later by id is not told half"
        quick = hub.Subscriber(most_frames=3, most_bytes=100)
        here.add(quick)
        here.close()
        late = hub.Subscriber()
        here.add(late)
        assert quick.ended
        assert late.ended

    asyncio.run(go())
