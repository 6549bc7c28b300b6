"""After a simulated day in a real InfluxDB every query of every dashboard gives the rows that follow from the events.

What must come out is computed here from the events as they were sent, by the words of each query; nothing is shared with the
code that makes points or asks the store.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import types
import typing
from collections import defaultdict
from datetime import UTC, datetime
from math import isclose
from pathlib import Path

import grafana
import pytest
from explained import through_plane
from real_influx import ORG, TOKEN, InfluxMissingError, RealInflux

from models.base import PLACE_FIELDS, Event, micros, moment
from models.catalogue import event_of, events
from models.citizen import CitizenReport
from models.decode import Rejection, decode
from rules.judge import Judge
from rules.load import default
from rules.program import compile_program
from sinks.influx import InfluxStore
from sinks.points import alarm_point, pointer
from sources.simulator.stream import Sent, simulate
from streams.domain import domains

pytestmark = pytest.mark.slow

HOUR = 3_600_000_000
#: A Wednesday in Hạ Long, from midnight to midnight; what came in from five to eight in the evening is judged, too.
START = micros(datetime(2026, 11, 24, 17, 0, tzinfo=UTC))
END = START + 24 * HOUR
JUDGED = (START + 5 * HOUR, START + 20 * HOUR)
NOON = START + 12 * HOUR
LOAD = 0.25
BUCKET, PASSWORD = "citywatch", "password-of-grafana"
#: As Grafana would choose for a day on a chart of a hundred points.
INTERVAL, WINDOW_MS = "15m", 900_000


# --- the day ------------------------------------------------------------------------------------------------------


class Day(typing.NamedTuple):
    """What was sent and is kept: (event, late) by topic, and the entries of the alarms' history."""

    sent: dict[str, list[tuple[Event, bool]]]
    alarms: list[dict]


def simulated():
    sent = defaultdict(list)
    judged = []
    for item in simulate(5, START, END, LOAD):
        if not isinstance(item, Sent):
            continue
        event = decode(event_of(item.topic), item.value, item.stamp_us, item.key)
        if JUDGED[0] <= item.stamp_us < JUDGED[1]:
            judged.append((item.topic, item.stamp_us, event))
        if not isinstance(event, Rejection):
            sent[item.topic].append((event, item.stamp_us - event.at > event.topic.late_us))
    said = [whole(kind, NOON) for kind in events()]  # so that no field is without a value
    said.append(
        whole(CitizenReport, NOON, category="security", event_id="thief")
    )  # so that each domain has an alarm
    for event in said:
        sent[event.topic.name].append((event, False))
        judged.append((event.topic.name, NOON, event))
    judged.sort(key=lambda record: record[1])
    return Day(sent, history(judged))


def history(records):
    """The alarms of the judged hours, as the alarm plane tells them."""
    rules, signals = default(), []
    judges = {kind.topic.name: Judge(kind, 0, "day", whole=True) for kind in events()}
    for name, judge in judges.items():
        signals += judge.control(0, JUDGED[0], JUDGED[0], compile_program(rules, 0, event_of(name)))
    for offset, (topic, stamp, event) in enumerate(records, 1):
        if isinstance(event, Rejection):
            signals += judges[topic].pass_by(offset, stamp, "rejected")
        else:
            signals += judges[topic].event(offset, stamp, event, offset)
    return [
        entry.model_dump(mode="json", exclude_none=True)
        for told in through_plane(signals)
        for entry in told.history
    ]


def whole(kind, at, **changed):
    """An event of this class with a value in every field."""
    made = {
        "event_id": f"whole-{kind.__name__}",
        "source_id": "test",
        "observed_at": moment(at).isoformat(),
        "place": {"lat": 20.95, "lon": 107.08, "ward": "Hồng Gai (1/2)", "site": "s"},
    }
    for name, field in kind.model_fields.items():
        if name not in made and name not in ("revision", "quality"):
            made[name] = (field.examples or [None])[0] or value_of(field.annotation, name)
    return kind.model_validate_json(json.dumps(made | changed))


def value_of(annotation, name):
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return value_of(typing.get_args(annotation)[0], name)
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)[0]
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if annotation is bool:
        return True
    if name.endswith("_at"):
        return moment(START).isoformat()
    if annotation in (int, float):
        return 500 if name.endswith("_ppm") else 1
    return "tok_" + "0" * 32 if name in ("patient", "visit") else "x1"


@pytest.fixture(scope="module")
def day():
    return simulated()


@pytest.fixture(scope="module")
def store(day, tmp_path_factory):
    """The server with the day in it, and the user that docker/influxdb/setup.py makes for Grafana."""
    try:
        server = RealInflux()
    except InfluxMissingError as missing:
        pytest.fail(str(missing))
    try:
        server.make_bucket(BUCKET)
        path = Path(__file__).parent.parent / "docker" / "influxdb" / "setup.py"
        spec = importlib.util.spec_from_file_location("setup_of_influxdb", path)
        setup = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(setup)
        token = tmp_path_factory.mktemp("token") / "citywatch"
        setup.set_up(setup.Server(server.url, TOKEN), ORG, BUCKET, PASSWORD, token)
        asyncio.run(write(server.address(BUCKET, token=token.read_text().strip()), day))
        yield server
    finally:
        server.close()


async def write(address, day):
    """As the store's app would: points of events, points of alarms."""
    store = InfluxStore(address)
    points = [alarm_point(entry) for entry in day.alarms]
    for topic, sent in day.sent.items():
        domain = domains()[topic]
        make = pointer(domain.event, domain.fields, domain.tags)
        points += [make(event, late) for event, late in sent]
    for n in range(0, len(points), 5000):
        await store.write(points[n : n + 5000])
    await store.close()


@pytest.fixture(scope="module")
def ask(store):
    def rows(query, choices=None):
        asked = grafana.filled(query, START // 1000, END // 1000, INTERVAL, choices)
        return grafana.ask(store.url, BUCKET, "grafana", PASSWORD, asked)

    return rows


# --- what must come out -------------------------------------------------------------------------------------------


class Kept(typing.NamedTuple):
    """What a store has of one event or entry: its time, its tags, its values. Absent is absent."""

    ms: int
    tags: dict[str, str]
    values: dict[str, object]
    late: bool


def kept_of(event, late, domain):
    """By the contract: numbers as floats, tags as text, what is absent is not there."""
    place = event.place
    wanted = {*domain.fields, *domain.tags, *series_of(domain)} - {*PLACE_FIELDS}
    own = {n: getattr(event, n) for n in wanted}
    if place is not None:
        own |= {n: getattr(place, n) for n in PLACE_FIELDS}
    tags = {n: str(own[n]) for n in {*domain.tags, *series_of(domain)} if own.get(n) not in (None, "")}
    values = {n: own[n] for n in domain.fields if own.get(n) is not None}
    return Kept(event.at // 1000, tags, values, late)


def series_of(domain):
    return () if domain.topic.kind == "events" else domain.topic.series


@pytest.fixture(scope="module")
def held(day):
    """Everything by measurement. One value a series and moment (the last), one record an event."""
    found = {}
    for topic, sent in day.sent.items():
        domain = domains()[topic]
        places = {}
        for event, late in sent:
            row = kept_of(event, late, domain)
            id_ = event.event_id if domain.topic.kind == "events" else ""
            places[event.at, late, id_, tuple(sorted(row.tags.items()))] = row
        found["_".join(topic.split(".")[1:-1])] = list(places.values())
    on = {rule.id: rule.on for rule in default().rules}
    found["alarm_event"] = [
        Kept(
            micros(datetime.fromisoformat(entry["at"])) // 1000,
            {
                "type": entry["type"],
                "rule": entry["alarm"]["rule"],
                "priority": entry["alarm"]["priority"],
                "category": entry["alarm"]["category"],
                "domain": on[entry["alarm"]["rule"]].split(".")[1],
            },
            {"alarm_id": entry["alarm"]["alarm_id"], "title": entry["alarm"]["title"]["en"]},
            False,
        )
        for entry in day.alarms
    ]
    return found


FORM = re.compile(
    r'^SELECT (?P<what>.+?) FROM "(?P<of>\w+)" WHERE (?P<where>.*?)\$timeFilter(?: GROUP BY (?P<group>.*?))?(?: fill\((?P<fill>\w+)\))?'
    r"(?: ORDER BY time DESC LIMIT (?P<limit>\d+))?$"
)
EQUAL = re.compile(r"\"(\w+)\" = '([^']*)'")
CHOSEN = re.compile(r'"(\w+)" =~ /\^\$\w+\$/')


def meant(query, held, choices=None):
    """What a query must give: {(tags, window or None): [values by name]} for aggregates, else the rows themselves."""
    said = FORM.match(query)
    assert said, f"this test does not know the form of {query}"
    either = re.search(r"\(([^)]* OR [^)]*)\)", said["where"])
    alone = said["where"].replace(either[0], "") if either else said["where"]
    rows = [
        row
        for row in held[said["of"]]
        if START // 1000 <= row.ms <= END // 1000
        and all(("1" if row.late else "") == value if name == "late" else row.tags.get(name, "") == value
                for name, value in EQUAL.findall(alone))
        and all(row.tags.get(name, "") in choices[name] for name in CHOSEN.findall(alone) if choices and name in choices)
        and (either is None or any(row.tags.get(name) == value for name, value in EQUAL.findall(either[1])))
    ]  # fmt: skip
    if said["limit"]:
        return sorted((row.ms for row in rows), reverse=True)[: int(said["limit"])]
    group = re.findall(r'"(\w+)"', said["group"] or "")
    windows = "time(" in (said["group"] or "")
    found = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.ms):
        window = row.ms // WINDOW_MS * WINDOW_MS if windows else None
        found[tuple(row.tags.get(name, "") for name in group), window].append(row)
    functions = re.findall(r'(\w+)\("([\w.]+)"\)', said["what"])
    made = {
        place: tuple(value for f, name in functions if (value := AGGREGATE[f](rows, name)) is not None)
        for place, rows in found.items()
    }
    return {place: values for place, values in made.items() if values}


def _values(rows, name):
    return [row.values[name] for row in rows if name in row.values]


def _count(rows, name):
    whole = name in ("citywatch.fields", "event_id")  # every record has them (an event its id)
    return (len(rows) if whole else len(_values(rows, name))) or None


def _mean(rows, name):
    values = _values(rows, name)
    return sum(values) / len(values) if values else None


AGGREGATE = {"count": _count, "mean": _mean, "last": lambda rows, name: (_values(rows, name) or [None])[-1]}


def given(query, series):
    """The same from InfluxDB's answer: what it fills in, nothing or 0, is left out."""
    group = re.findall(r'"(\w+)"', (FORM.match(query)["group"] or ""))
    windows = "time(" in (FORM.match(query)["group"] or "")
    found = {}
    for _, tags, rows in series:
        for ms, *values in rows:
            told = tuple(value for value in values if value is not None)
            if told and not (FORM.match(query)["fill"] == "0" and told == (0,)):
                found[tuple(tags.get(name, "") for name in group), ms if windows else None] = told
    return found


def same(got, want):
    assert got.keys() == want.keys()
    for place, values in want.items():
        assert all(map(alike, got[place], values)), (place, got[place], values)


def alike(x, y):
    """A server's sums differ in their last digits."""
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (x, y))
    return isclose(x, y, rel_tol=1e-9) if numbers else x == y


# --- and whether it does ------------------------------------------------------------------------------------------


def test_the_day_has_something_of_everything(day, held):
    for topic, domain in domains().items():
        rows = held[domain.topic.measurement]
        assert rows, topic
        for name in (*domain.fields, *domain.tags):
            assert any(name in row.values or name in row.tags for row in rows), (topic, name)
    assert {"raised", "cleared"} <= {entry["type"] for entry in day.alarms}
    assert any(late for sent in day.sent.values() for _, late in sent)


@pytest.mark.parametrize("uid", grafana.boards())
def test_every_query_gives_what_follows_from_the_events(uid, held, ask):
    rowless = []
    for panel, target in grafana.targets(grafana.boards()[uid], "influxdb"):
        query = target["query"]
        series, want = ask(query), meant(query, held)
        if isinstance(want, list):
            assert [row[0] // 1000 for _, _, rows in series for row in rows] == [ms // 1000 for ms in want], (
                query
            )
        else:
            same(given(query, series), want)
        if not want:
            rowless.append(f"{panel['title']}: {query}")
    # Nobody acted in this day, nothing was taken back, and not every feed was late.
    quiet = re.compile(r"acknowledged|suppressed|shelved|retracted|\"late\" = '1'")
    assert not [said for said in rowless if not quiet.search(said)]


@pytest.mark.parametrize(
    "uid", [uid for uid, board in grafana.boards().items() if board["annotations"]["list"]]
)
def test_the_alarms_of_a_domain_are_laid_over_its_charts(uid, held, ask):
    (note,) = grafana.boards()[uid]["annotations"]["list"]
    target = note["target"]
    series = ask(target["query"])
    want = meant(target["query"], held)
    assert [row[0] // 1000 for _, _, rows in series for row in rows] == [ms // 1000 for ms in want]
    for columns, _, rows in series:
        assert {target["textColumn"], *target["tagsColumn"].split(",")} <= set(columns)
        assert all(row[columns.index("title")] and row[columns.index("rule")] for row in rows)


def test_every_alarm_is_laid_over_some_chart(day, ask):
    notes = [note for board in grafana.boards().values() for note in board["annotations"]["list"]]
    laid = sum(len(rows) for note in notes for _, _, rows in ask(note["target"]["query"]))
    assert laid == sum(entry["type"] == "raised" for entry in day.alarms) > 0


@pytest.mark.parametrize(
    "uid", [uid for uid, board in grafana.boards().items() if board["templating"]["list"]]
)
def test_what_can_be_chosen_is_there_and_choosing_it_shows_that_alone(uid, held, ask):
    board = grafana.boards()[uid]
    for variable in board["templating"]["list"]:
        name = variable["name"]
        values = {row[1] for _, _, rows in ask(variable["query"]) for row in rows}
        there = {row.tags[name] for rows in held.values() for row in rows if name in row.tags}
        assert values
        assert values <= there
        choices = {name: sorted(values)[:2]}
        for some in (choices, {name: choices[name][:1]}):
            for _, target in grafana.targets(board, "influxdb"):
                query = target["query"]
                if f'"{name}" =~' in query and "LIMIT" not in query:
                    same(given(query, ask(query, some)), meant(query, held, some))


def test_a_forged_count_is_noticed(held, ask):
    """The comparison itself: one event less in what must come out, and it no longer agrees."""
    query = grafana.targets(grafana.boards()["citywatch-traffic"], "influxdb")[0][1]["query"]
    less = held | {"traffic_flow": held["traffic_flow"][1:]}
    with pytest.raises(AssertionError):
        same(given(query, ask(query)), meant(query, less))
