"""Grafana's pages are as the models say, ask for what there is, and every alarm has a point that they can show."""

import json
import re
from pathlib import Path

import grafana
import pytest
from explained import CASES, alarms_of

import cli
from commands import boards, dashboards
from commands.grafana import UNITS
from models.alarm import PRIORITIES
from models.catalogue import topics
from rules import words
from sinks import line
from sinks.contract import refusal
from sinks.points import alarm_point
from streams.domain import domains

ROOT = Path(__file__).parent.parent
BOARDS = grafana.boards()


def test_the_committed_dashboards_are_as_the_models_say():
    assert dashboards.drift(ROOT / "docker" / "grafana" / "dashboards") == []


def test_what_differs_is_named_with_what_puts_it_right(tmp_path, capsys):
    assert cli.main(["dashboards", "write", "--folder", str(tmp_path)]) == 0
    assert cli.main(["dashboards", "check", "--folder", str(tmp_path)]) == 0
    (tmp_path / "citywatch-traffic.json").write_text("{}")
    (tmp_path / "citywatch-noise.json").write_text("{}")
    (tmp_path / "citywatch-school.json").unlink()
    capsys.readouterr()
    assert cli.main(["dashboards", "check", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "citywatch-traffic.json: differs from the models; run `citywatch dashboards write`" in said
    assert "citywatch-school.json: is missing" in said
    assert "citywatch-noise.json: there is no such dashboard" in said
    assert cli.main(["dashboards", "write", "--folder", str(tmp_path)]) == 0
    assert cli.main(["dashboards", "check", "--folder", str(tmp_path)]) == 0


def test_each_domain_of_the_city_has_a_page_and_the_alarms_and_the_platform_have_one():
    of = {name.split(".")[1] for name in topics()} - {"platform"}
    assert BOARDS.keys() == {f"citywatch-{name}" for name in of | {"alarms", "health"}}


def test_what_every_number_measures_is_said_with_its_unit():
    for topic, domain in domains().items():
        uid = f"citywatch-{topic.split('.')[1]}"
        if domain.topic.kind == "events" or uid not in BOARDS:
            continue
        asked = json.dumps(BOARDS[uid])
        for name in domain.fields:
            assert name in asked, (topic, name)
    assert {ending for ending, _, _ in words.UNITS} == UNITS.keys()
    speed = next(p for p in BOARDS["citywatch-traffic"]["panels"] if p["title"] == "Tốc độ · Speed")
    assert speed["fieldConfig"]["defaults"]["unit"] == "velocitykmh"
    assert "mean of the vehicles counted" in speed["description"]


def test_a_line_is_not_drawn_over_a_long_silence():
    flow = next(p for p in BOARDS["citywatch-traffic"]["panels"] if p["title"] == "Tốc độ · Speed")
    assert flow["fieldConfig"]["defaults"]["custom"]["spanNulls"] == 3 * 2 * 60_000


@pytest.mark.parametrize("uid", BOARDS)
def test_a_page_is_laid_out_without_gaps_or_panels_on_top_of_each_other(uid):
    taken = set()
    ids = [panel["id"] for panel in BOARDS[uid]["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in BOARDS[uid]["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("uid", BOARDS)
def test_queries_of_the_store_name_only_what_is_written_there(uid):
    known = {d.topic.measurement: {*d.fields, *d.tags, *d.topic.series} for d in domains().values()}
    entry = {name for alarm in some_alarms() for name in columns_of(alarm)}
    known["alarm_event"] = {name for name in entry if name != "late"}
    for _, target in grafana.targets(BOARDS[uid], "influxdb"):
        query = target["query"]
        (measurement,) = re.findall(r'FROM "(\w+)"', query)
        named = set(re.findall(r'"([\w.]+)"', query)) - {
            measurement,
            "late",
            line.FIELDS,
            line.EVENT_ID,
            "raised",
        }
        assert named <= known[measurement], query


# --- alarms as points ---------------------------------------------------------------------------------------------


def some_alarms():
    return [entry for case in CASES[:12] for told in alarms_of(case) for entry in told.history]


def columns_of(entry):
    point = alarm_point(entry.model_dump(mode="json", exclude_none=True))
    return dict(point.tags) | dict(point.fields)


def test_every_entry_of_an_alarm_s_history_is_a_point_that_a_store_takes():
    for entry in some_alarms():
        point = alarm_point(json.loads(entry.model_dump_json(exclude_none=True)))
        assert refusal(point) is None
        assert (point.measurement, point.event_id) == ("alarm_event", entry.id)
        told = columns_of(entry)
        assert told["type"] == entry.type
        assert told["priority"] in PRIORITIES
        assert told["domain"] in {name.split(".")[1] for name in topics()}
        assert told["title"] == f"{entry.alarm.title.vi} · {entry.alarm.title.en}"


def test_an_alarm_that_rests_on_several_domains_is_the_city_s_and_one_without_evidence_its_rule_s():
    entry = json.loads(some_alarms()[0].model_dump_json(exclude_none=True))
    evidence = entry["alarm"]["evidence"][0]
    entry["alarm"]["evidence"] = [
        evidence | {"topic": "city.traffic.flow.v1"},
        evidence | {"topic": "city.camera.event.v1"},
    ]
    assert dict(alarm_point(entry).tags)["domain"] == "city"
    entry["alarm"]["evidence"] = []
    entry["alarm"]["proof"]["rules"] = {"rules": [{"on": "city.school.room_air.v1"}]}
    assert dict(alarm_point(entry).tags)["domain"] == "school"
    del entry["alarm"]["proof"]
    assert dict(alarm_point(entry).tags)["domain"] == "city"


def test_a_point_of_an_alarm_does_not_tell_who_acted():
    entry = json.loads(some_alarms()[0].model_dump_json(exclude_none=True)) | {
        "actor": "Nguyễn Văn An",
        "note": "called",
    }
    said = str(alarm_point(entry))
    assert "Nguyễn" not in said
    assert "called" not in said


def test_a_new_field_of_a_domain_appears_on_its_page(monkeypatch):
    before = {board.uid: board for board in boards.all_boards()}
    flow = domains()["city.traffic.flow.v1"]
    changed = dict(domains()) | {flow.topic.name: type(flow)(flow.event, flow.fields[:1], flow.tags)}
    monkeypatch.setattr(boards, "domains", lambda: changed)
    after = {board.uid: board for board in boards.all_boards()}
    assert {uid for uid in before if before[uid] != after[uid]} == {"citywatch-traffic"}
