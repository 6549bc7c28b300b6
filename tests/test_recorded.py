"""What was recorded is read again as it was: from the log, from the store as far as that keeps it, from files."""

import asyncio
import json
from contextlib import closing
from pathlib import Path

import pytest
from cli_world import FLOW, city  # noqa: F401 - a fixture

from bus import clients, headers, topics
from bus.embedded import EmbeddedBroker
from commands import recorded
from commands.output import UsageError
from commands.reach import Broker
from commands.recorded import Files, InForce, Log, Stored
from models.catalogue import event_of
from models.decode import Rejection, decode
from settings import Data, Settings
from sinks.points import pointer
from sinks.sqlite import SqliteStore
from sources import mapping as mappings
from streams.domain import domains

CASES = Path(__file__).parent / "cases"
MINUTE = 60_000_000


def events():
    """Something of every domain."""
    found = {}
    for path in sorted(CASES.glob("*/*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            said = json.loads(line)
            if "event" in said:
                raw = json.dumps(said["event"]).encode()
                found.setdefault(said["topic"], []).append(decode(event_of(said["topic"]), raw, 1 << 60))
    return found


EVENTS = events()


def hold(folder, found, late=()):
    async def write():
        store = SqliteStore(folder / "store.sqlite")
        for topic, mine in found.items():
            domain = domains()[topic]
            point = pointer(domain.event, domain.fields, domain.tags)
            await store.write([point(event, event.event_id in late) for event in mine])
        await store.close()

    asyncio.run(write())
    return Settings(data=Data(dir=folder))


def flow(n, at, speed=40.0):
    return event_of(FLOW).model_validate_json(
        json.dumps(
            {
                "event_id": f"e{n}",
                "source_id": "t",
                "observed_at": f"2026-01-01T00:{at:02}:00Z",
                "segment_id": f"s{n % 2}",
                "speed_kmh": speed,
            }
        )
    )


def _identity(event):
    """Of an event its id, of a sample its series: the store keeps no id of a sample."""
    named = "event_id" if event.topic.kind == "events" else None
    return event.at, *(getattr(event, n) for n in ([named] if named else event.topic.series))


# --- the store


@pytest.mark.parametrize("topic", sorted(EVENTS))
def test_what_the_store_keeps_of_an_event_is_there_again_and_nothing_is_added(topic, tmp_path):
    mine = EVENTS[topic]
    stored = Stored(hold(tmp_path, {topic: mine}))
    lacking = stored.lacks(topic)
    back = [r.found for r in stored.read([topic])]
    assert not [b for b in back if isinstance(b, Rejection)]
    assert len(back) == len(mine)
    assert [b.at for b in back] == sorted(e.at for e in mine)
    by_id = {_identity(e): e for e in mine}
    for again in back:
        was = by_id[_identity(again)]
        for name in again.public():
            assert getattr(again, name) == (None if name in lacking else getattr(was, name)), name
        assert again.quality == was.quality
        if "ward" not in lacking and was.place is not None:
            assert again.place.ward == was.place.ward


def test_a_patient_comes_back_as_nobody(tmp_path):
    adt = "city.hospital.adt.v1"
    back = [r.found for r in Stored(hold(tmp_path, EVENTS)).read([adt])]
    assert any(e.personal() for e in EVENTS[adt])
    for event in back:
        tokens = [getattr(event, name) for name in event.personal()]
        assert set(tokens) <= {None, "tok_" + "0" * 32}


def test_pages_of_the_store_lose_nothing_and_double_nothing_whatever_shares_a_moment(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "PAGE", 2)
    many = [
        flow(0, 1).model_copy(update={"segment_id": f"s{n}", "event_id": f"e{n}-{at}"})
        for at in (0,)
        for n in range(5)
    ]
    later = [flow(n, 2 + n) for n in range(4)]
    stored = Stored(hold(tmp_path, {FLOW: many + later}))
    got = [(r.found.at, r.found.segment_id) for r in stored.read([FLOW])]
    assert sorted(got) == sorted((e.at, e.segment_id) for e in many + later)
    assert [at for at, _ in got] == sorted(at for at, _ in got)


def test_late_points_are_left_out_unless_asked_for(tmp_path):
    settings = hold(tmp_path, {FLOW: [flow(0, 1), flow(1, 2), flow(0, 3)]}, late={"e1"})
    assert [(r.late, r.stamp == r.found.at) for r in Stored(settings).read([FLOW])] == [(False, True)] * 2
    assert [r.late for r in Stored(settings, late=True).read([FLOW])] == [False, True, False]


def test_only_what_arrived_in_the_span_is_read(tmp_path):
    mine = [flow(n, n) for n in range(10)]
    settings = hold(tmp_path, {FLOW: mine})
    from_, to = mine[3].at, mine[6].at
    assert [r.stamp for r in Stored(settings).read([FLOW], from_, to)] == [e.at for e in mine[3:6]]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(e.wire() + b"\n" for e in mine))
    files = Files((path,), only=FLOW)
    assert [r.stamp for r in files.read([FLOW], from_, to)] == [e.at for e in mine[3:6]]


# --- the log


def test_the_log_gives_events_rejects_clocks_and_rules_with_their_places_and_stamps():
    rules = b'{"rules":[]}'
    with EmbeddedBroker({**topics.partitions(), FLOW: 1}) as broker:
        version = topics.publish_rules(broker.bootstrap, "", rules, MINUTE, MINUTE)
        with closing(clients.producer(broker.bootstrap)) as producer:
            for n, (value, stamp) in enumerate(
                [
                    (flow(0, 1).wire(), flow(0, 1).at),
                    (b"{", flow(0, 2).at),
                    (flow(0, 3).wire(), flow(0, 3).at),
                ]
            ):
                said = headers.headers(str(n), FLOW, "/t", stamp)
                producer.send(FLOW, value, b"s0", said, 0, stamp // 1000).get(10)
            clock = headers.clock_record()
            producer.send(FLOW, clock.value, None, clock.headers, 0, flow(0, 5).at // 1000).get(10)
        log = Log(Broker(broker.bootstrap, "", embedded=True))
        found = list(log.read([FLOW]))
        assert [(r.topic, r.partition, r.offset) for r in found] == [(FLOW, 0, n) for n in range(5)]
        assert found[0].found == InForce(version, MINUTE)
        assert found[1].found == flow(0, 1)
        assert found[2].found.reason == "not_json"
        assert found[4].found is None
        assert [r.stamp for r in found[1:]] == [flow(0, n).at for n in (1, 2, 3, 5)]
        span = list(log.read([FLOW], flow(0, 2).at, flow(0, 5).at))
        assert [r.offset for r in span] == [2, 3]
        assert list(log.read([])) == []


# --- files


def test_lines_are_read_as_tail_prints_them_as_cases_are_written_and_bare(tmp_path):
    event = flow(0, 1)
    body = json.loads(event.wire())
    path = tmp_path / "a.jsonl"
    lines = [
        {
            "time": "2026-01-01T00:01:07Z",
            "partition": 3,
            "offset": 9,
            "type": FLOW,
            "key": "s0",
            "value": body,
        },
        {
            "time": "2026-01-01T00:02:00Z",
            "partition": 3,
            "offset": 10,
            "type": "city.clock.v1",
            "value": None,
        },
        {"topic": FLOW, "event": body},
        body,
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    found = list(Files((path,), only=FLOW).read([FLOW]))
    assert [(r.partition, r.offset, r.stamp - event.at) for r in found] == [
        (3, 9, 7_000_000), (None, None, 0), (None, None, 0),
    ]  # fmt: skip
    assert all(r.found == event for r in found)
    assert found[0].at == f"{path}:1"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1]", "1: no JSON object"),
        ("no,csv", "--mapping"),
        ('{"segment_id": "s"}', "say --topic NAME"),
        ('{"topic": ["a"]}', r'1: a topic is a name, as in city.traffic.flow.v1, and not \["a"\]'),
        ('{"type": {"a": 1}}', "1: a topic is a name"),
    ],
)
def test_a_line_that_is_none_of_ours_is_told_with_its_place(tmp_path, line, said):
    path = tmp_path / "a.jsonl"
    path.write_text(line)
    with pytest.raises(UsageError, match=said):
        list(Files((path,)).read([FLOW]))


def test_a_line_without_a_time_or_with_a_wrong_value_is_a_rejection(tmp_path):
    path = tmp_path / "a.jsonl"
    body = json.loads(flow(0, 1).wire())
    path.write_text(
        "\n".join(
            json.dumps({"topic": FLOW, "event": e}) for e in ({"speed_kmh": 3}, body | {"speed_kmh": -4})
        )
    )
    assert [r.found.reason for r in Files((path,)).read([FLOW])] == ["bad_time", "schema"]


def test_recorded_input_is_read_as_its_mapping_says(tmp_path):
    feed, data = CASES / "mapping" / "stays" / "feed.yaml", CASES / "mapping" / "stays" / "input.csv"
    found = list(Files((data,), mappings.load(str(feed)), tmp_path).read(["city.hospital.adt.v1"]))
    assert sum(not isinstance(r.found, Rejection) for r in found) == 3
    assert [r.stamp for r in found] == sorted(r.stamp for r in found)
