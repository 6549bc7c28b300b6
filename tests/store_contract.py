"""What every store must do, as tests: a store's own test class inherits them and says how to make a fresh one.

Times of events are whole milliseconds here, because a store may keep the event's id in the digits below.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from math import fsum, inf, nan

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.base import micros, moment
from sinks.contract import Point, Query, Record, Rejected, Row

T0 = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
SECOND = 1_000_000
MINUTE, HOUR = 60 * SECOND, 3600 * SECOND

HALONG = (("segment_id", "hl-1"), ("ward", "Phường Hồng Gai, Hạ Long"))


def flow(speed, *, at=T0, tags=HALONG, late=False, event_id=""):
    return Point("traffic_flow", tags, at, (("speed_kmh", speed),), event_id, late)


def incident(id_, *, at=T0, **fields):
    return Point("traffic_incident", (("category", "collision"),), at, tuple(fields.items()), id_)


def report(id_, revision, *, at=T0, late=False, **tags):
    """An event whose tags may change; its field says which revision it is."""
    return Point("citizen_report", tuple(tags.items()), at, (("n", float(revision)),), id_, late, revision)


def told(rows):
    """By id and tags, which revision the rows are of; a row more fails."""
    found = {(r.fields["event_id"], *r.tags.items()): r.fields["n"] for r in rows}
    assert len(found) == len(rows)
    return found


# ---- the oracle: a store in a dictionary


def identity_of(p):
    """What a point replaces: an event has one point, a sample one in its series."""
    series = None if p.event_id else tuple(sorted(p.tags))
    return p.measurement, series, p.late, p.time, p.event_id


def model_of(points):
    """What a store holds after these points: by identity, the last write wins, unless it is an older revision of an event."""
    held = {}
    for p in points:
        old = held.get(identity_of(p))
        if not (p.event_id and old and old.revision > p.revision):
            held[identity_of(p)] = p
    return held.values()


def answer_of(points, q):
    """What a store must answer: a second, slow and plain reading of `Query`."""
    rows = []
    for measurement, tags, time, fields, event_id, late, _ in model_of(points):
        tags, fields = dict(tags), dict(fields)
        if measurement != q.measurement or (q.late is not None and late != q.late):
            continue
        if (q.from_ is not None and time < q.from_) or (q.to is not None and time >= q.to):
            continue
        if any(tags.get(name, "") != value for name, value in q.where):
            continue
        if late:
            tags["late"] = "1"
        if event_id:
            fields = {**fields, "event_id": event_id}
        fields = {n: v for n, v in fields.items() if not q.fields or n in q.fields}
        if q.agg not in (None, "count"):
            fields = {n: float(v) for n, v in fields.items() if type(v) is not str}
        if fields:
            rows.append(Row(time, measurement, tags, fields))
    return sorted(rows if q.agg is None else _aggregated(rows, q), key=_order)[: q.limit]


def _aggregated(rows, q):
    parts = defaultdict(list)
    for row in rows:
        tags = tuple((n, row.tags[n]) for n in sorted(q.by) if n in row.tags)
        parts[row.time - row.time % q.every if q.every else q.from_, tags].append(row)
    for (time, tags), held in parts.items():
        values = defaultdict(list)
        for row in held:
            for name, value in row.fields.items():
                values[name].append(value)
        fields = {name: _ORACLES[q.agg](v) for name, v in values.items()}
        yield Row(min(r.time for r in held) if time is None else time, q.measurement, dict(tags), fields)


_ORACLES = {"mean": lambda v: fsum(v) / len(v), "sum": fsum, "count": len, "min": min, "max": max}


def _order(row):
    """Total for raw rows, whose values are exact; an aggregate has one row for a time and its tags."""
    return row.time, sorted(row.tags.items()), repr(sorted(row.fields.items()))


def alike(got, want):
    """The rows are the same: names and types exactly, numbers within a part in 10^9, in the order of time."""
    assert [row.time for row in got] == sorted(row.time for row in got)
    got, want = sorted(got, key=_order), sorted(want, key=_order)
    assert [row[:3] for row in got] == [row[:3] for row in want]
    for one, other in zip(got, want, strict=True):
        assert {n: type(v) for n, v in one.fields.items()} == {n: type(v) for n, v in other.fields.items()}
        assert one.fields == {
            n: pytest.approx(v, rel=1e-9, abs=1e-300) if type(v) is float else v
            for n, v in other.fields.items()
        }


# ---- what is stored, and asked

_times = st.sampled_from(
    [T0 - 1000, T0, T0 + 1000, T0 + MINUTE, T0 + HOUR - 1000, T0 + HOUR, T0 + 25 * HOUR, 0]
)
_tags = st.dictionaries(
    st.sampled_from(["ward", "kind"]), st.sampled_from(["Hạ Long", "Cẩm Phả", "a=b, c\\ \"d'"]), max_size=2
).map(lambda tags: tuple(tags.items()))  # fmt: skip
_fields = st.fixed_dictionaries(
    {},
    optional={
        "speed_kmh": st.floats(-1e100, 1e100).map(lambda v: v + 0.0),  # no store need tell -0.0 from 0.0
        "waiting": st.integers(-5, 5).map(float),
        "status": st.sampled_from(["mở", "", 'đóng "hẳn"\n']),
        "diverting": st.booleans(),
    },
).filter(bool)
_points = st.builds(
    Point,
    st.sampled_from(["traffic_flow", "hospital_queue"]),
    _tags,
    _times,
    _fields.map(lambda fields: tuple(fields.items())),
    st.sampled_from(["", "", "e1", "e2"]),
    st.booleans(),
    st.sampled_from([0, 0, 1, 2]),
)
_batches = st.lists(_points, max_size=25)
_spans = {"from_": st.none() | _times, "to": st.none() | _times, "late": st.none() | st.booleans()}
_where = st.lists(
    st.tuples(st.sampled_from(["ward", "kind"]), st.sampled_from(["Hạ Long", "Cẩm Phả", ""])), max_size=1
).map(tuple)  # fmt: skip
_some_fields = st.sets(
    st.sampled_from(["speed_kmh", "waiting", "status", "diverting", "event_id", "unknown"]), max_size=2
).map(tuple)
_queries = st.builds(
    Query,
    st.just("traffic_flow"),
    where=_where,
    fields=_some_fields,
    limit=st.none() | st.integers(0, 4),
    **_spans,
) | st.builds(
    Query,
    st.just("traffic_flow"),
    where=_where,
    fields=_some_fields,
    agg=st.sampled_from(["mean", "sum", "count", "min", "max"]),
    every=st.none() | st.sampled_from([MINUTE, HOUR, 7 * HOUR, 24 * HOUR]),
    by=st.sets(st.sampled_from(["ward", "kind", "late", "unknown"])).map(tuple),
    **_spans,
)

few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class StoreContract(ABC):
    """Inherit, and give `fresh`."""

    @abstractmethod
    def fresh(self):
        """An open store with nothing in it."""

    def tell(self, story):
        """Run a story about a fresh store."""

        async def told():
            store = self.fresh()
            try:
                return await story(store)
            finally:
                await store.close()

        return asyncio.run(told())

    # Points in

    def test_a_point_is_read_as_it_was_written(self):
        fields = (
            ("speed_kmh", 31.25),
            ("status", "mở"),
            ("diverting", True),
            ("waiting", 0.0),
            ("open", False),
        )
        point = Point("traffic_flow", HALONG, T0 + 1, fields)

        async def story(store):
            await store.write([point])
            return await store.read(Query("traffic_flow"))

        (row,) = self.tell(story)
        assert row == Row(T0 + 1, "traffic_flow", dict(HALONG), dict(fields))
        assert {n: type(v) for n, v in row.fields.items()} == {n: type(v) for n, v in fields}

    @few
    @given(_batches, st.randoms(use_true_random=False), st.integers(0, 25))
    def test_the_same_points_again_in_any_order_and_split_anywhere_change_nothing(self, points, random, cut):
        points = list({identity_of(p): p for p in points}.values())
        again = random.sample(points, len(points))

        async def story(store):
            await store.write(points)
            await store.write(again[:cut])
            await store.write(again[cut:])
            return await store.read(Query("traffic_flow")), await store.read(Query("hospital_queue"))

        for got, name in zip(self.tell(story), ["traffic_flow", "hospital_queue"], strict=True):
            alike(got, answer_of(points, Query(name)))

    @few
    @given(_batches, st.integers(0, 25))
    def test_of_two_points_with_one_identity_the_last_write_wins_whole(self, points, cut):
        async def story(store):
            await store.write(points[:cut])
            await store.write(points[cut:])
            return await store.read(Query("traffic_flow"))

        alike(self.tell(story), answer_of(points, Query("traffic_flow")))

    def test_a_rewritten_point_keeps_no_field_of_the_old_one(self):
        async def story(store):
            old = Point("traffic_flow", HALONG, T0, (("speed_kmh", 9.0), ("occupancy_pct", 80.0)))
            await store.write([old, flow(31.0), old, flow(32.0)])
            return await store.read(Query("traffic_flow"))

        assert [row.fields for row in self.tell(story)] == [{"speed_kmh": 32.0}]

    def test_an_older_revision_does_not_replace_a_newer_one_of_its_batch(self):
        newest = incident("a", injured=3.0)._replace(revision=2)
        others = [incident("a", injured=float(n))._replace(revision=n) for n in (0, 1)]

        async def story(store):
            await store.write([newest, *others])
            await store.write([incident("b", injured=1.0), incident("b", injured=4.0)])
            rows = await store.read(Query("traffic_incident"))
            return {row.fields["event_id"]: row.fields["injured"] for row in rows}

        assert self.tell(story) == {"a": 3.0, "b": 4.0}

    def test_a_correction_that_changes_a_tag_leaves_one_point_with_the_new_ones(self):
        before = [report("a", 0, status="open"), report("b", 0, status="open")]

        async def story(store):
            await store.write(before)
            await store.write([report("a", 1, status="closed")])
            minute = {"from_": T0, "to": T0 + MINUTE}
            return (
                await store.read(Query("citizen_report")),
                await store.count("citizen_report", late=False),
                await store.minutes("citizen_report", late=False, **minute),
            )

        rows, count, minutes = self.tell(story)
        assert told(rows) == {("a", ("status", "closed")): 1.0, ("b", ("status", "open")): 0.0}
        assert (count, minutes) == (2, {T0 // MINUTE: 2})

    @pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 2, 1, 0), (2, 2, 0, 1), (0, 1, 0, 1)])
    @pytest.mark.parametrize("apart", [False, True], ids=["one batch", "batch by batch"])
    def test_the_greatest_revision_stays_in_whatever_order_they_come(self, order, apart):
        points = [report("a", n, status=f"s{n}") for n in order]

        async def story(store):
            for batch in [[p] for p in points] if apart else [points]:
                await store.write(batch)
            await store.write(points)  # as after a crash, when nobody knows what has been written
            return await store.read(Query("citizen_report"))

        newest = max(order)
        assert told(self.tell(story)) == {("a", ("status", f"s{newest}")): float(newest)}

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ({}, {"status": "open"}),
            ({"status": "open"}, {}),
            ({"status": "open"}, {"status": "open", "ward": "Hạ Long"}),
            ({"status": "open", "ward": "Hạ Long"}, {"status": "open"}),
            ({"status": "a \\\"b\\\", 'c'=d\\ e"}, {"status": "Đã đóng, xong"}),
        ],
    )
    @pytest.mark.parametrize("at", [T0, T0 + 1000, -1000, 0])
    def test_a_correction_may_take_a_tag_away_or_bring_one(self, old, new, at):
        others = [report("b", 0, at=at, **old), report("b", 0, at=at, late=True, **old), flow(1.0, at=at)]

        async def story(store):
            await store.write([report("a", 0, at=at, **old), *others])
            await store.write([report("a", 1, at=at, **new)])
            return await store.read(Query("citizen_report")), await store.read(Query("traffic_flow"))

        rows, samples = self.tell(story)
        alike(rows, answer_of([report("a", 1, at=at, **new), *others], Query("citizen_report")))
        assert len(samples) == 1

    def test_an_event_that_comes_again_with_other_tags_and_no_revision_is_the_later_one(self):
        async def story(store):
            await store.write([report("a", 0, status="open")])
            await store.write([report("a", 0, status="closed")])
            return await store.read(Query("citizen_report"))

        assert told(self.tell(story)) == {("a", ("status", "closed")): 0.0}

    def test_a_correction_that_comes_late_stands_beside_what_was_judged(self):
        in_time, late = report("a", 0, status="open"), report("a", 1, status="closed", late=True)
        after = [report("a", 2, status="void"), report("a", 2, status="lost", late=True)]

        async def story(store):
            await store.write([in_time, late])
            one = await store.read(Query("citizen_report"))
            await store.write([after[0]])
            two = await store.read(Query("citizen_report"))
            await store.write([after[1]])
            return one, two, await store.read(Query("citizen_report"))

        one, two, three = self.tell(story)
        alike(one, answer_of([in_time, late], Query("citizen_report")))
        alike(two, answer_of([after[0], late], Query("citizen_report")))
        alike(three, answer_of(after, Query("citizen_report")))

    def test_a_late_point_whose_tags_hold_those_of_a_corrected_one_stays(self):
        late = report("a", 1, status="open", ward="Hạ Long", late=True)

        async def story(store):
            await store.write([report("a", 0, status="open"), late])
            await store.write([report("a", 2, status="closed")])
            return await store.read(Query("citizen_report"))

        alike(self.tell(story), answer_of([report("a", 2, status="closed"), late], Query("citizen_report")))

    def test_of_two_samples_of_one_moment_the_last_one_counts_whatever_its_revision(self):
        async def story(store):
            await store.write([flow(1.0)._replace(revision=5), flow(2.0)])
            return await store.read(Query("traffic_flow"))

        assert [row.fields for row in self.tell(story)] == [{"speed_kmh": 2.0}]

    def test_the_order_of_tags_is_no_difference(self):
        async def story(store):
            await store.write([flow(1.0), flow(2.0, tags=HALONG[::-1])])
            return await store.read(Query("traffic_flow"))

        assert [row.fields for row in self.tell(story)] == [{"speed_kmh": 2.0}]

    def test_a_late_point_stands_beside_the_one_in_time(self):
        async def story(store):
            await store.write([flow(1.0), flow(2.0, late=True)])
            rows = [await store.read(Query("traffic_flow", late=late)) for late in (None, False, True)]
            return rows, [await store.count("traffic_flow", late=late) for late in (False, True)]

        (both, in_time, late), counts = self.tell(story)
        assert len(both) == 2
        assert [(r.fields["speed_kmh"], "late" in r.tags) for r in in_time] == [(1.0, False)]
        assert [(r.fields["speed_kmh"], r.tags["late"]) for r in late] == [(2.0, "1")]
        assert counts == [1, 1]

    def test_two_events_of_one_moment_are_two_points(self):
        async def story(store):
            await store.write(
                [incident("a", injured=1.0), incident("b", injured=1.0), incident("a", injured=2.0)]
            )
            return await store.read(Query("traffic_incident")), await store.count(
                "traffic_incident", late=False
            )

        rows, count = self.tell(story)
        assert sorted((r.time, r.fields["event_id"], r.fields["injured"]) for r in rows) == [
            (T0, "a", 2.0),
            (T0, "b", 1.0),
        ]
        assert count == 2

    @pytest.mark.parametrize(
        "bad",
        [
            flow(nan),
            flow(inf),
            flow(-inf),
            flow(None),
            flow([1.0]),
            flow(10**400),
            flow("fast"),  # speed_kmh is a number
            flow(True),
            flow(1.0, tags=(("ward", ""),)),
            flow(1.0, tags=(("ward", "a\nb"),)),
            flow(1.0, tags=(("ward", "a"), ("ward", "b"))),
            flow(1.0, tags=(("late", "1"),)),
            flow(1.0, tags=(('x"; --', "1"),)),
            flow(1.0, at=10**18),
            flow(1.0, event_id="\ud800"),
            Point("traffic_flow", HALONG, T0, ()),
            Point("traffic_flow", HALONG, T0, (("time", 1.0),)),
            Point("traffic_flow", HALONG, T0, (("Speed", 1.0),)),
            Point("traffic_flow", HALONG, T0, (("speed_kmh", 1.0), ("speed_kmh", 2.0))),
            Point("traffic_flow", HALONG, T0, (("status", "\ud800"),)),
            Point('traffic"flow', HALONG, T0, (("speed_kmh", 1.0),)),
            Point("", HALONG, T0, (("speed_kmh", 1.0),)),
        ],
        ids=repr,
    )
    def test_a_point_no_store_can_keep_is_refused_with_its_reason_and_the_others_are_stored(self, bad):
        good = [flow(float(n), at=T0 + n * SECOND) for n in range(3)]

        async def story(store):
            with pytest.raises(Rejected) as refused:
                await store.write([good[0], bad, good[1], bad, good[2]])
            return refused.value.points, await store.read(Query("traffic_flow")), await store.measurements()

        refused, rows, measurements = self.tell(story)
        assert [point for point, _ in refused] == [bad, bad]
        assert all(reason for _, reason in refused)
        alike(rows, answer_of(good, Query("traffic_flow")))
        assert measurements == ["traffic_flow"]

    def test_a_whole_number_is_stored_as_a_number_however_great(self):
        async def story(store):
            await store.write([flow(10**30), flow(3, at=T0 + SECOND)])
            return await store.read(Query("traffic_flow"))

        values = [row.fields["speed_kmh"] for row in self.tell(story)]
        assert values == [1e30, 3.0]
        assert {type(v) for v in values} == {float}

    def test_a_new_field_in_the_middle_of_a_batch_finds_its_place(self):
        points = [
            flow(1.0),
            Point("traffic_flow", HALONG, T0 + SECOND, (("occupancy_pct", 5.0), ("speed_kmh", 2.0))),
            Point("traffic_flow", HALONG, T0 + 2 * SECOND, (("quality", "suspect"),)),
            flow(3.0, at=T0 + 3 * SECOND),
        ]

        async def story(store):
            await store.write(points)
            return await store.read(Query("traffic_flow"))

        alike(self.tell(story), answer_of(points, Query("traffic_flow")))

    @pytest.mark.parametrize(
        "text", ["x" * 60_000, "Cháy ở phường Bãi Cháy 🔥 " * 2000, "a\x00b", "'\";\n\\", ""]
    )
    def test_text_is_kept_whole(self, text):
        async def story(store):
            await store.write([Point("citizen_report", (), T0, (("description", text),))])
            return await store.read(Query("citizen_report"))

        (row,) = self.tell(story)
        assert row.fields["description"] == text

    def test_text_too_long_for_the_store_is_refused_and_never_cut(self):
        points = [Point("citizen_report", (), T0 + n, (("description", "x" * 10**n),)) for n in range(4, 7)]

        async def story(store):
            with pytest.raises(Rejected) as refused:
                await store.write(points)
            rows = await store.read(Query("citizen_report"))
            return [p for p, _ in refused.value.points], [row.fields["description"] for row in rows]

        refused, texts = self.tell(story)
        assert points[-1] in refused
        assert texts == [dict(p.fields)["description"] for p in points if p not in refused]

    def test_nothing_may_be_written(self):
        async def story(store):
            await store.write([])
            await store.keep([])
            return await store.measurements()

        assert self.tell(story) == []

    # Points out

    @few
    @given(_batches, st.lists(_queries, min_size=1, max_size=6))
    def test_an_answer_is_what_a_plain_reading_of_the_points_gives(self, points, queries):
        async def story(store):
            await store.write(points)
            return [await store.read(q) for q in queries]

        for got, q in zip(self.tell(story), queries, strict=True):
            want = answer_of(points, q)
            if q.agg is None and q.limit is not None:  # events of one moment have no order of their own
                assert [row.time for row in got] == [row.time for row in want]
            else:
                alike(got, want)

    def test_windows_begin_where_their_hour_does_and_not_with_the_first_point(self):
        #  07:00      08:00      09:00
        # [    1  2  )[3        )
        points = [
            flow(v, at=micros(moment(T0)) + 7 * HOUR + m * MINUTE)
            for v, m in [(1.0, 50), (2.0, 59), (3.0, 60)]
        ]

        async def story(store):
            await store.write(points)
            return await store.read(Query("traffic_flow", every=HOUR, agg="mean"))

        assert [(r.time, r.tags, r.fields) for r in self.tell(story)] == [
            (T0 + 7 * HOUR, {}, {"speed_kmh": 1.5}),
            (T0 + 8 * HOUR, {}, {"speed_kmh": 3.0}),
        ]

    def test_windows_before_1970_are_as_long_as_those_after(self):
        async def story(store):
            await store.write([flow(1.0, at=-HOUR), flow(2.0, at=-1000), flow(4.0, at=0)])
            return await store.read(Query("traffic_flow", every=HOUR, agg="sum"))

        assert [(r.time, r.fields["speed_kmh"]) for r in self.tell(story)] == [(-HOUR, 3.0), (0, 4.0)]

    def test_a_sum_keeps_what_naive_adding_loses(self):
        values = [1e16, 1.0, -1e16, 1.0] * 50

        async def story(store):
            await store.write([flow(v, at=T0 + n * SECOND) for n, v in enumerate(values)])
            return [await store.read(Query("traffic_flow", agg=agg)) for agg in ("sum", "mean")]

        ((total,), (mean,)) = self.tell(story)
        assert total.fields == {"speed_kmh": pytest.approx(100.0, rel=1e-9)}
        assert mean.fields == {"speed_kmh": pytest.approx(0.5, rel=1e-9)}

    def test_a_mean_of_the_greatest_numbers_is_a_number(self):
        async def story(store):
            await store.write([flow(1.6e308, at=T0 + n * SECOND) for n in range(4)])
            return [await store.read(Query("traffic_flow", agg=agg)) for agg in ("mean", "sum", "max")]

        mean, total, greatest = self.tell(story)
        assert mean[0].fields["speed_kmh"] == pytest.approx(1.6e308)
        assert total == []  # there is no such float
        assert greatest[0].fields["speed_kmh"] == 1.6e308

    def test_what_was_never_written_is_an_empty_answer(self):
        async def story(store):
            await store.write([flow(1.0)])
            nothing = [
                await store.read(Query("no_such")),
                await store.read(Query('no"such', agg="count")),
                await store.read(Query("traffic_flow", fields=("no_such",))),
                await store.read(Query("traffic_flow", where=(('no"such', "x"),))),
                await store.read(Query("traffic_flow", from_=T0 + 1, agg="sum")),
                await store.kept("alarm"),
            ]
            return nothing, await store.count("no_such", late=False), await store.measurements()

        assert self.tell(story) == ([[]] * 6, 0, ["traffic_flow"])

    def test_points_are_counted_by_the_minute_of_their_time_and_late_ones_apart(self):
        #  0:00      0:01      0:02     0:03
        # [ 1 2 (2) )[        )[ 3 b a )[ not asked for
        other = (("segment_id", "hl-2"),)
        points = [
            flow(1.0),
            flow(2.0, at=T0 + 59 * SECOND, tags=other),
            flow(2.5, at=T0 + 59 * SECOND, tags=other),
            flow(3.0, at=T0 + 2 * MINUTE),
            flow(4.0, at=T0 + 3 * MINUTE),
            flow(5.0, at=T0 - 1),
            flow(6.0, at=T0 + MINUTE, late=True),
            incident("a", at=T0 + 2 * MINUTE + 999_000, injured=0.0),
            incident("b", at=T0 + 2 * MINUTE + 999_000, injured=1.0),
            incident("b", at=T0 + 2 * MINUTE, injured=1.0),
        ]

        async def story(store):
            await store.write(points)
            return [
                await store.minutes(name, late=late, from_=T0, to=T0 + 3 * MINUTE)
                for name, late in [
                    ("traffic_flow", False),
                    ("traffic_flow", True),
                    ("traffic_incident", False),
                ]
            ] + [
                await store.minutes(name, late=False, from_=T0, to=T0 + 1) for name in ("no_such", 'no"such')
            ]

        first = T0 // MINUTE
        assert self.tell(story) == [{first: 2, first + 2: 1}, {first + 1: 1}, {first + 2: 3}, {}, {}]

    def test_records_that_are_not_kept_are_named_among_those_that_are(self):
        ids = [f"r{n}" for n in range(1200)]

        async def story(store):
            await store.keep([Record("rejected", id_, T0, {"reason": "schema"}) for id_ in ids])
            asked = await store.lacking("rejected", [*ids, "x", "y'z"])
            return asked, await store.lacking("alarm", ids[:2]), await store.lacking("rejected", [])

        assert self.tell(story) == ({"x", "y'z"}, {"r0", "r1"}, set())

    def test_measurements_are_told_in_order(self):
        async def story(store):
            await store.write([incident("a", injured=0.0), flow(1.0)])
            return await store.measurements()

        assert self.tell(story) == ["traffic_flow", "traffic_incident"]

    # Whole records

    def test_records_come_newest_last_and_the_limit_keeps_the_newest(self):
        records = [Record("rejected", id_, time, {"reason": "lỗi", "n": [1, None]}) for id_, time in
                   [("b", T0 + 1), ("a", T0 + 1), ("z", T0), ("c", T0 + 2)]]  # fmt: skip

        async def story(store):
            await store.keep(records)
            await store.keep([Record("alarm_event", "b", T0, {})])
            return (
                await store.kept("rejected"),
                await store.kept("rejected", limit=2),
                await store.kept("rejected", from_=T0 + 1),
                await store.kept("rejected", id_="z"),
            )

        everything, newest, since, one = self.tell(story)
        assert [r.id for r in everything] == ["z", "a", "b", "c"]
        assert [r.id for r in newest] == ["b", "c"]
        assert [r.id for r in since] == ["a", "b", "c"]
        assert one == [records[2]]

    def test_records_are_chosen_and_counted_by_what_their_bodies_say(self):
        bodies = [{"topic": "t", "file": "a.csv"}, {"topic": "t", "n": 1}, {"topic": None}, {"n": 1}]
        records = [Record("rejected", str(n), T0 + n, body) for n, body in enumerate(bodies)]

        async def story(store):
            await store.keep([*records, Record("alarm_event", "0", T0, {"topic": "t"})])
            return (
                await store.kept("rejected", where=[("topic", "t")]),
                await store.kept("rejected", where=[("topic", "t"), ("n", "1")]),
                await store.kept("rejected", where=[("topic", "t")], limit=1),
                await store.kept("rejected", where=[("topic", "")]),
                await store.tally("rejected", ("topic", "file")),
                await store.tally("ledger", ("topic",)),
            )

        both, one, newest, none, counted, nothing = self.tell(story)
        assert both == records[:2]
        assert one == newest == records[1:2]
        assert none == []
        assert counted == {("t", "a.csv"): 1, ("t", None): 1, (None, None): 2}
        assert nothing == {}

    def test_a_record_kept_again_is_replaced(self):
        async def story(store):
            await store.keep(
                [Record("rejected", "a", T0, {"n": 1, "position": 9}), Record("rejected", "a", T0, {"n": 2})]
            )
            await store.keep([Record("rejected", "a", T0 + 5, {"n": 3, "position": 1})])
            return await store.kept("rejected")

        assert self.tell(story) == [Record("rejected", "a", T0 + 5, {"n": 3, "position": 1})]

    @pytest.mark.parametrize("kind", ["alarm", "ledger"])
    @few
    @given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 8))
    def test_a_worker_that_slept_cannot_put_back_an_older_state(self, kind, positions, cut):
        records = [Record(kind, "x", T0 + n, {"position": p, "n": n}) for n, p in enumerate(positions)]

        async def story(store):
            await store.keep(records[:cut])
            await store.keep(records[cut:])
            return await store.kept(kind)

        newest = max(positions)
        last = max(n for n, p in enumerate(positions) if p == newest)
        assert self.tell(story) == [records[last]]

    def test_a_body_that_is_no_json_is_a_mistake_and_nothing_is_kept(self):
        async def story(store):
            with pytest.raises((ValueError, TypeError)):
                await store.keep([Record("ledger", "a", T0, {}), Record("ledger", "b", T0, {"x": nan})])
            return await store.kept("ledger")

        assert self.tell(story) == []
