"""InfluxDB keeps the contract, and what only a real server shows."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_influx import InfluxMissingError, RealInflux
from store_contract import SECOND, T0, StoreContract, alike, answer_of, flow, incident, report

from sinks.contract import Query, Record, Rejected, StoreError, Unavailable
from sinks.corrections import spans
from sinks.influx import InfluxStore
from sinks.influx_server import Refused

pytestmark = pytest.mark.slow

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server():
    try:
        found = RealInflux()
    except InfluxMissingError as missing:
        pytest.fail(str(missing))  # a suite that skipped it would say that all is well
    yield found
    found.close()


class TestTheContract(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, server):
        self.server = server
        self.bucket = None
        yield
        if self.bucket:
            server.delete_bucket(self.bucket)

    def fresh(self):
        if self.bucket:
            self.server.delete_bucket(self.bucket)
        name = f"b{next(_numbers)}"
        self.bucket = self.server.make_bucket(name)
        return InfluxStore(self.server.address(name))


@pytest.fixture
def bucket(server):
    name = f"b{next(_numbers)}"
    id_ = server.make_bucket(name)
    yield name
    server.delete_bucket(id_)


def run(address, story, **how):
    async def told():
        store = InfluxStore(address, **how)
        try:
            return await story(store)
        finally:
            await store.close()

    return asyncio.run(told())


# ---- what is there after a while


def test_what_was_acknowledged_survives_sigkill_of_the_server(bucket):
    server = RealInflux()
    try:
        server.make_bucket(bucket)
        points = [flow(float(n), at=T0 + n * SECOND) for n in range(5000)]
        run(server.address(bucket), lambda store: store.write(points))
        server.kill()
        with pytest.raises(Unavailable, match="does not answer"):
            run(server.address(bucket), lambda store: store.write(points))
        server.start()
        run(server.address(bucket), lambda store: store.write(points))
        assert run(server.address(bucket), lambda store: store.count("traffic_flow", late=False)) == 5000
    finally:
        server.close()


def test_another_worker_knows_the_types_and_cannot_put_back_an_older_state(server, bucket):
    async def first(store):
        await store.write([flow(1.0)])
        await store.keep(
            [Record("alarm", "a", T0, {"position": 7}), Record("ledger", "l", T0, {"position": 7})]
        )

    async def second(store):
        with pytest.raises(Rejected) as refused:
            await store.write([flow("fast", at=T0 + 400 * 86_400 * SECOND), flow(2.0, at=T0 + SECOND)])
        await store.keep(
            [Record("alarm", "a", T0, {"position": 6}), Record("ledger", "l", T0 + 1, {"position": 3})]
        )
        return refused.value.points, [r.body for kind in ("alarm", "ledger") for r in await store.kept(kind)]

    address = server.address(bucket)
    run(address, first)
    ((_, why),), bodies = run(address, second)
    assert "speed_kmh of traffic_flow is number" in why
    assert bodies == [{"position": 7}, {"position": 7}]


def test_the_true_time_of_an_event_is_kept_below_the_millisecond(server, bucket):
    points = [incident(f"e{n}", at=T0 + n * 137 - 1_000_003, injured=1.0) for n in range(200)]
    span = Query("traffic_incident", from_=points[50].time, to=points[150].time)

    async def story(store):
        await store.write(points)
        return (
            await store.read(Query("traffic_incident")),
            await store.read(span),
            await store.read(Query("traffic_incident", limit=3)),
        )

    everything, some, three = run(server.address(bucket), story)
    alike(everything, answer_of(points, Query("traffic_incident")))
    alike(some, points_answer := answer_of(points, span))
    assert len(points_answer) == 100
    assert [row.time for row in three] == [p.time for p in points[:3]]


def test_ten_thousand_events_of_one_second_are_ten_thousand_points(server, bucket):
    points = [incident(f"event-{n}", injured=1.0) for n in range(10_000)]

    async def story(store):
        await store.write(points)
        return await store.count("traffic_incident", late=False)

    assert run(server.address(bucket), story) == 10_000


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_a_reject_of_a_megabyte_and_a_half_comes_back_whole(server, bucket):
    record = Record("rejected", "a", T0, {"bytes": '\\"x' * 500_000, "topic": "t", "file": None})

    async def story(store):
        await store.keep([record, record._replace(id="b", body={"topic": "t"})])
        await store.keep([record._replace(body={**record.body, "bytes": "short"}), record])
        return (
            await store.kept("rejected", id_="a"),
            await store.kept("rejected"),
            await store.tally("rejected", ("topic", "file")),
        )

    one, both, tally = run(server.address(bucket), story)
    assert one == [record]
    assert [r.id for r in both] == ["a", "b"]
    assert tally == {("t", None): 2}


# ---- what the server refuses


def test_what_is_older_than_the_bucket_keeps_is_refused_at_once_and_told(server):
    name = f"b{next(_numbers)}"
    id_ = server.make_bucket(name, retention_s=86_400)
    now = time.time_ns() // 1000
    old = [flow(float(n), at=T0 - n * SECOND) for n in range(5000)]

    async def story(store):
        began = time.monotonic()
        with pytest.raises(Rejected) as refused:
            await store.write([*old, flow(7.0, at=now)])
        await store.keep([Record("alarm", "old", T0, {}), Record("alarm", "new", now, {})])
        return (
            refused.value.points,
            await store.read(Query("traffic_flow")),
            await store.kept("alarm"),
            time.monotonic() - began,
        )

    refused, rows, alarms, took = run(server.address(name), story)
    server.delete_bucket(id_)
    assert len(refused) == 5000
    assert all("retention policy" in why for _, why in refused)
    assert [row.fields for row in rows] == [{"speed_kmh": 7.0}]
    assert [r.id for r in alarms] == ["new"]
    assert took < 10


@pytest.mark.parametrize(
    ("changed", "names"),
    [({"token": "wrong"}, "CITYWATCH_INFLUX__TOKEN"), ({"org": "elsewhere"}, "organisation elsewhere")],
)
def test_what_the_settings_have_wrong_is_named_and_nothing_is_acknowledged(server, bucket, changed, names):
    with pytest.raises(Unavailable) as outage:
        run(server.address(bucket, **changed), lambda store: store.write([flow(1.0)]))
    assert names in outage.value.reason
    assert run(server.address(bucket), lambda store: store.count("traffic_flow", late=False)) == 0


def test_a_token_that_may_only_read_reads_and_its_writes_are_unavailable(server, bucket):
    run(server.address(bucket), lambda store: store.write([flow(1.0)]))
    less = server.address(bucket, token=server.make_token(("read", "buckets"), ("read", "orgs")))
    assert len(run(less, lambda store: store.read(Query("traffic_flow")))) == 1
    with pytest.raises(Unavailable, match=f"bucket {bucket}"):
        run(less, lambda store: store.write([flow(2.0, at=T0 + SECOND)]))
    missing = server.address("no-such-bucket", token=less.token)
    with pytest.raises(Unavailable, match="no bucket no-such-bucket"):
        run(missing, lambda store: store.write([flow(2.0)]))


def test_a_missing_bucket_is_made_with_its_retention_by_who_may_write(server):
    name = f"b{next(_numbers)}"
    address = server.address(name, retention_days=365)
    with pytest.raises(StoreError, match="nothing is stored yet"):
        run(address, lambda store: store.read(Query("traffic_flow")), read_only=True)
    run(address, lambda store: store.write([flow(1.0, at=time.time_ns() // 1000)]))
    (made,) = server.call("GET", f"/api/v2/buckets?name={name}")["buckets"]
    server.delete_bucket(made["id"])
    assert made["retentionRules"][0]["everySeconds"] == 365 * 86_400


def test_a_reader_may_not_write(server, bucket):
    with pytest.raises(StoreError, match="reading only"):
        run(server.address(bucket), lambda store: store.write([flow(2.0)]), read_only=True)


# ---- what others see


def test_a_dashboard_reads_it_with_flux_and_influxql_as_it_is(server, bucket):
    """The fields of points are plain fields: no dashboard need know of ours."""
    run(server.address(bucket), lambda store: store.write([flow(1.0), flow(3.0, at=T0 + SECOND)]))
    flux = (
        f'from(bucket: "{bucket}") |> range(start: 2025-12-31T00:00:00Z, stop: 2026-01-02T00:00:00Z)'
        ' |> filter(fn: (r) => r._measurement == "traffic_flow" and r._field == "speed_kmh") |> mean()'
    )
    request = urllib.request.Request(
        f"{server.url}/api/v2/query?org=city",
        data=json.dumps({"query": flux, "type": "flux"}).encode(),
        headers={
            "Authorization": f"Token {server.address(bucket).token}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        said = answer.read().decode()
    assert said.splitlines()[1].split(",")[said.splitlines()[0].split(",").index("_value")] == "2"


# ---- corrections that change a tag


def _cut(store, name, after):
    """The server falls silent after so many calls of one kind."""
    calls, really = itertools.count(1), getattr(store._server, name)

    async def call(*what):
        if next(calls) > after:
            raise Unavailable("cut here")
        return await really(*what)

    setattr(store._server, name, call)


@pytest.mark.parametrize(("call", "after"), [("write", 0), ("delete", 0), ("delete", 1), ("write", 1)])
def test_a_batch_cut_anywhere_and_sent_again_leaves_one_point_an_event(server, bucket, call, after):
    old = [report(id_, 0, status="open") for id_ in "abc"]
    new = [report(id_, 1, status="open", ward="Hạ Long") for id_ in "abc"]  # the delete takes it, too
    address = server.address(bucket)
    run(address, lambda store: store.write(old))

    async def cut(store):
        _cut(store, call, after)
        with pytest.raises(Unavailable):
            await store.write(new)

    async def again(store):
        await store.write([*old, *new])
        return await store.read(Query("citizen_report"))

    run(address, cut)
    alike(run(address, again), answer_of(new, Query("citizen_report")))


def test_what_the_server_refuses_takes_nothing_away(server):
    name = f"b{next(_numbers)}"
    id_ = server.make_bucket(name, retention_s=86_400)
    now = time.time_ns() // 1_000_000 * 1000
    old, new = report("a", 0, at=now, status="open"), report("a", 1, at=now, status="closed")

    async def story(store):
        await store.write([old])

        async def refuse(_body):
            raise Refused(422, "no such thing")

        store._server.write = refuse
        with pytest.raises(Rejected):
            await store.write([new])
        return await store.read(Query("citizen_report"))

    rows = run(server.address(name), story)
    server.delete_bucket(id_)
    alike(rows, answer_of([old], Query("citizen_report")))


def test_a_thousand_corrections_take_some_seconds_and_leave_their_neighbours(server, bucket):
    places = [(f"e{n}", T0 + n * 1000) for n in range(5000)]
    old = [report(id_, 0, at=at, status="open") for id_, at in places]
    new = [report(id_, 1, at=at, status="closed") for id_, at in places[::5]]

    async def story(store):
        await store.write(old)
        began = time.monotonic()
        await store.write(new)
        took = time.monotonic() - began
        return took, await store.read(Query("citizen_report"))

    took, rows = run(server.address(bucket), story)
    print(f"1,000 corrections: {took:.2f} s")
    alike(rows, answer_of([*old, *new], Query("citizen_report")))
    assert took < 30


@given(st.sets(st.integers(-(10**18), 10**18), min_size=1, max_size=60), st.integers(1, 25))
def test_spans_hold_every_time_and_are_few(times, most):
    found = spans(times, most)
    assert len(found) <= most
    assert all(any(first <= at <= last for first, last in found) for at in times)
    assert {at for span in found for at in span} <= times
