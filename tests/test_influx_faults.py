"""An InfluxDB that refuses, is late or falls silent in the middle: nothing is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from store_contract import SECOND, T0, flow

from sinks import influx, influx_server
from sinks.contract import Query, Record, Rejected, StoreError, Unavailable
from sinks.influx import InfluxStore
from sinks.influx_server import Address

OK = (204, {}, b"")
POINTS = [flow(float(n), at=T0 + n * SECOND) for n in range(100)]


def said(status, message="", **headers):
    return status, headers, json.dumps({"code": "x", "message": message}).encode()


_CUTS = {"cut": b"", "half": b"HTTP/1.1 204 X\r\nContent-"}


class Fake:
    """A server on loopback. It keeps lines by their place; `faults` are asked before it answers a write.

    A fault takes the body's lines and gives an answer, or None for going on; what it answers is not stored.
    "cut" closes the line before an answer, "stored, cut" after storing, "half" in the middle of one.
    """

    def __init__(self):
        self.faults, self.queries, self.calls = [], [], []
        self.lines = {}
        self.requests = self.most_at_once = self._now = 0
        self.asleep = 0.0

    async def serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *fields = head.decode().split("\r\n")
                size = next(
                    (int(f.split(":")[1]) for f in fields if f.lower().startswith("content-length")), 0
                )
                body = await reader.readexactly(size)
                self._now += 1
                self.most_at_once = max(self.most_at_once, self._now)
                if self.asleep:
                    await asyncio.sleep(self.asleep)
                answer = self.answer(first.split()[1], body)
                self._now -= 1
                if isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                    break
                status, headers, content = answer
                told = "".join(f"{n.replace('_', '-')}: {v}\r\n" for n, v in headers.items())
                length = f"Content-Length: {len(content)}\r\n" if status != 204 else ""
                writer.write(f"HTTP/1.1 {status} X\r\n{told}{length}\r\n".encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    def answer(self, path, body):
        self.calls.append((path, body))
        if path.startswith("/api/v2/write"):
            return self.write(body.decode().split("\n"))
        if path.startswith("/query"):
            return self.queries.pop(0) if self.queries else (200, {}, b'{"results":[{"statement_id":0}]}')
        if path.startswith("/api/v2/orgs"):
            return 200, {"Content_Type": "application/json"}, b'{"orgs":[{"id":"01"}]}'
        return said(201)

    def write(self, lines):
        self.requests += 1
        fault = self.faults.pop(0)(lines) if self.faults else None
        if fault not in (None, "stored, cut"):
            return _CUTS[fault] if isinstance(fault, str) else fault
        for text in lines:
            series, time = text.split(" ")[0], text.rsplit(" ", 1)[1]
            self.lines[series, time] = text
        return b"" if fault == "stored, cut" else OK

    def values(self):
        return sorted(float(text.split("speed_kmh=")[1].split(",")[0]) for text in self.lines.values())


@asynccontextmanager
async def city(**changed):
    fake = Fake()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    store = InfluxStore(Address(**{"url": url, "token": "s3cret", "org": "city", "bucket": "b", **changed}))
    try:
        yield fake, store
    finally:
        await store.close()
        server.close()


async def insist(store, points):
    """Send as the store's app does; the waits it was asked for, and what was refused for good."""
    waits = []
    while len(waits) < 20:
        try:
            await store.write(points)
        except Unavailable as outage:
            waits.append(outage.wait)
        except Rejected as refusal:
            return waits, refusal.points
        else:
            return waits, []
    raise AssertionError(f"the store never takes them: {waits}")


def always(answer):
    return lambda _lines: answer


@pytest.mark.parametrize(
    "fault",
    [said(429, "slow", Retry_After="7"), said(503, "busy"), said(500, "oh"), said(502), said(401, "no"),
     said(403, "no"), said(404, "organization name not found"), "cut", "stored, cut", "half"],
    ids=lambda f: str(f if isinstance(f, str) else f[0]),
)  # fmt: skip
def test_after_an_outage_every_point_is_there_once(fault):
    async def story():
        async with city() as (fake, store):
            fake.faults = [always(fault)] * 3
            waits, refused = await insist(store, POINTS)
            return waits, refused, fake.values()

    waits, refused, values = asyncio.run(story())
    assert len(waits) == 3
    assert refused == []
    assert values == [float(n) for n in range(100)]


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 7), ("0.5", 0.5, 0.5), ("100000", 300, 300), ("-3", 0.1, 0.1), ("soon", 1, 1), ("", 1, 1),
     ("date", 15, 20)],
)  # fmt: skip
def test_the_server_says_how_long_to_wait(header, least, most):
    if header == "date":
        header = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)

    async def story():
        async with city() as (fake, store):
            fake.faults = [always(said(429, Retry_After=header))]
            return await insist(store, POINTS)

    ((wait,), _) = asyncio.run(story())
    assert least <= wait <= most


@pytest.mark.parametrize(
    ("answer", "names"),
    [(said(401, "unauthorized access"), "CITYWATCH_INFLUX__TOKEN"), (said(403, "insufficient"), "bucket b"),
     (said(404, "organization name not found"), "organisation city")],
)  # fmt: skip
def test_what_somebody_must_put_right_is_named_and_the_token_is_not(answer, names):
    async def story():
        async with city() as (fake, store):
            fake.faults = [always(answer)]
            with pytest.raises(Unavailable) as outage:
                await store.write(POINTS)
            return outage.value, fake.values()

    outage, stored = asyncio.run(story())
    assert names in outage.reason
    assert "s3cret" not in outage.reason
    assert outage.wait == influx_server.NOT_READY_S
    assert stored == []


@pytest.mark.parametrize("status", [400, 422])
def test_bad_points_are_found_among_the_good_and_told_with_the_servers_reason(status):
    bad = {13.0, 14.0, 99.0}

    def mind(lines):
        if any(f"speed_kmh={v} " in f"{text.replace(',', ' ')} " for v in bad for text in lines):
            return said(status, "unable to parse")
        return None

    async def story():
        async with city() as (fake, store):
            fake.faults = [mind] * 100
            waits, refused = await insist(store, POINTS)
            return waits, refused, fake.values(), fake.requests

    waits, refused, values, requests = asyncio.run(story())
    assert waits == []
    assert {p.fields[0][1] for p, _ in refused} == bad
    assert {why for _, why in refused} == {"unable to parse"}
    assert values == [float(n) for n in range(100) if n not in bad]
    assert requests < 45


def test_where_the_server_says_that_it_dropped_all_nothing_is_halved():
    async def story():
        async with city() as (fake, store):
            fake.faults = [always(said(422, "partial write: points beyond retention policy dropped=100"))]
            _, refused = await insist(store, POINTS)
            return refused, fake.requests

    refused, requests = asyncio.run(story())
    assert [p for p, _ in refused] == POINTS
    assert requests == 1


def test_a_body_too_large_is_halved_until_it_passes():
    async def story():
        async with city() as (fake, store):
            fake.faults = [lambda lines: said(413, "too large") if len(lines) > 10 else None] * 100
            _, refused = await insist(store, POINTS)
            return refused, fake.values()

    refused, values = asyncio.run(story())
    assert refused == []
    assert values == [float(n) for n in range(100)]


def test_an_outage_in_the_middle_of_halving_is_an_outage_and_no_refusal():
    async def story():
        async with city() as (fake, store):
            fake.faults = [always(said(400, "bad")), always(None), always(said(503))]
            waits, refused = await insist(store, POINTS)
            return waits, refused, fake.values()

    waits, refused, values = asyncio.run(story())
    assert (len(waits), refused) == (1, [])
    assert values == [float(n) for n in range(100)]


def test_a_server_that_sleeps_is_unavailable(monkeypatch):
    monkeypatch.setattr(influx_server, "ANSWER_S", 0.2)

    async def story():
        async with city() as (fake, store):
            await store.write(POINTS[:1])
            fake.asleep = 2.0
            with pytest.raises(Unavailable, match="does not answer"):
                await store.write(POINTS)
            with pytest.raises(Unavailable, match="does not answer"):
                await store.read(Query("traffic_flow"))
            fake.asleep = 0.0
            await insist(store, POINTS)
            return fake.values()

    assert asyncio.run(story()) == [float(n) for n in range(100)]


def test_no_server_at_all_is_unavailable():
    async def story():
        async with city() as (_, store):
            pass
        store = InfluxStore(Address("http://127.0.0.1:1", "t", "o", "b"))
        try:
            with pytest.raises(Unavailable, match="does not answer"):
                await store.write(POINTS)
        finally:
            await store.close()

    asyncio.run(story())


def test_what_is_no_influxdb_stops_loudly():
    async def story():
        async with city() as (fake, store):
            fake.faults = [always((200, {}, b"<html>"))]
            with pytest.raises(StoreError, match="is this an InfluxDB 2"):
                await store.write(POINTS)
            fake.queries = [(200, {}, b"<html>welcome</html>")]
            with pytest.raises(StoreError, match="is this an InfluxDB 2"):
                await store.read(Query("traffic_flow"))

    asyncio.run(story())


def test_many_points_go_in_several_requests_at_once_and_the_later_of_two_wins(monkeypatch):
    monkeypatch.setattr(influx, "LINES", 10)

    async def story():
        async with city() as (fake, store):
            fake.asleep = 0.01
            await store.write([flow(-1.0, at=p.time) for p in POINTS] + POINTS)
            return fake.values(), fake.requests, fake.most_at_once

    values, requests, most = asyncio.run(story())
    assert values == [float(n) for n in range(100)]
    assert requests == 10
    assert 2 <= most <= influx.IN_FLIGHT


def test_a_missing_bucket_is_made_once_with_its_retention():
    missing = always(said(404, 'bucket "b" not found'))

    async def story():
        async with city(retention_days=30) as (fake, store):
            fake.queries = [(200, {}, b'{"results":[{"statement_id":0,"error":"database not found: b"}]}')]
            fake.faults = [missing, always(None), missing]
            await store.write(POINTS)
            with pytest.raises(Unavailable, match="no bucket b"):
                await store.write(POINTS)
            return [json.loads(body) for path, body in fake.calls if path == "/api/v2/buckets"]

    (made,) = asyncio.run(story())
    assert made == {
        "orgID": "01",
        "name": "b",
        "retentionRules": [{"type": "expire", "everySeconds": 30 * 86_400}],
    }


_PIECE = b'{"results":[{"statement_id":0,"series":[{"name":"m","columns":["time","citywatch.fields","v"],"values":[[0,"v",1]]%s}]%s}]}\n'


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}, _PIECE % (b',"partial":true', b',"partial":true')),  # a well-formed end of half an answer
        (200, {}, b'{"results":[{"statement_id":0,"error":"timeout"}]}\n'),
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n" + _PIECE % (b"", b""),
        b"HTTP/1.1 200 X\r\nContent-Length: 5000\r\n\r\n" + _PIECE % (b"", b""),
        b"",
        said(503, "busy"),
    ],
)
def test_half_an_answer_is_no_answer(answer):
    async def story():
        async with city() as (fake, store):
            fake.queries = [answer, (200, {}, _PIECE % (b"", b""))]
            with pytest.raises(Unavailable):
                await store.read(Query("m"))
            return await store.read(Query("m"))

    assert [row.fields for row in asyncio.run(story())] == [{"v": 1.0}]


def test_records_are_kept_through_an_outage_and_a_refusal_stops_loudly(caplog):
    async def story():
        async with city() as (fake, store):
            record = Record("ledger", "x", T0, {"position": 1})
            fake.faults = [
                always(said(503)),
                always(None),
                always(said(422, "beyond retention policy dropped=1")),
            ]
            with pytest.raises(Unavailable):
                await store.keep([record])
            await store.keep([record])
            await store.keep([record])
            fake.faults = [always(said(400, "no line"))]
            with pytest.raises(StoreError, match="record x: no line"):
                await store.keep([record])
            return len(fake.lines)

    assert asyncio.run(story()) == 1
    assert "older than what" in caplog.text
