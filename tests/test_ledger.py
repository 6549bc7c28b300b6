"""The ledger: an account of every topic that can be wrong, and says so."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import ALARM_INPUT
from sinks.contract import Point, Record
from sinks.ledger import UNKNOWN, Line, ledger
from sinks.sqlite import SqliteStore

FLOW, AIR = "city.traffic.flow.v1", "city.environment.air.v1"


def counted(partition=0, log="L", topic=FLOW, position=9, **counts):
    body = {"log": log, "topic": topic, "partition": partition, "position": position, **counts}
    return Record("ledger", f"{log}/{topic}/{partition}", 0, body)


def reject(n, topic=FLOW, **more):
    return Record("rejected", f"r{n}", n, {"id": f"r{n}", "topic": topic, "reason": "schema", **more})


def flows(n, *, late=False):
    return [
        Point("traffic_flow", (("segment_id", "s"),), 1000 * i, (("speed_kmh", 1.0),), late=late)
        for i in range(n)
    ]


@pytest.fixture
def account(tmp_path):
    def account(points=(), records=()):
        async def run():
            store = SqliteStore(tmp_path / "store.sqlite")
            await store.write(list(points))
            await store.keep(list(records))
            found = await ledger(store)
            await store.close()
            return found

        return asyncio.run(run())

    return account


def test_an_empty_store_has_no_account(account):
    assert account() == {}


def test_partitions_and_logs_are_summed_and_all_is_accounted_for(account):
    lines = account(
        [*flows(7), *flows(2, late=True)],
        [counted(0, stored=3, late=2, rejected=1), counted(1, stored=3, duplicate=4), counted(0, log="M", stored=1, conflict=1),
         reject(1, offset=5)],
    )  # fmt: skip
    assert lines == {FLOW: Line(15, stored=7, late=2, duplicate=4, conflict=1, rejected=1)}
    assert lines[FLOW].exact


def test_what_a_source_refused_was_accepted_too(account):
    lines = account(flows(1), [counted(stored=1), reject(1, file="a.csv", line=2), reject(2, file="b.csv")])
    assert lines[FLOW] == Line(3, stored=1, rejected=2)
    assert lines[FLOW].exact


def test_a_point_the_judge_saw_and_the_store_has_not_is_missing(account):
    lines = account(flows(4), [counted(stored=5)])
    assert lines[FLOW].missing == 1
    assert lines[FLOW].json() == {
        "accepted": 5, "stored": 4, "late": 0, "duplicate": 0, "conflict": 0, "rejected": 0, "exact": False,
    }  # fmt: skip


def test_a_reject_of_a_topic_that_is_not_kept_is_missing(account):
    assert account((), [counted(topic=AIR, rejected=2), reject(1, AIR)])[AIR].missing == 1


def test_what_the_judge_has_not_counted_is_there_twice(account):
    assert account(flows(2), [counted(stored=1)])[FLOW].missing == -1


def test_rejects_of_no_topic_and_of_the_alarm_input_stand_for_themselves(account):
    lines = account((), [reject(1, None, file="x"), reject(2, ALARM_INPUT)])
    assert list(lines) == [ALARM_INPUT, UNKNOWN]
    assert all(line == Line(1, rejected=1) and line.exact for line in lines.values())


@given(st.tuples(*[st.integers(0, 1000)] * 5), st.integers(-3, 3))
def test_a_line_is_exact_when_its_parts_add_up_and_only_then(parts, more):
    line = Line(sum(parts) + more, *parts)
    assert line.missing == more
    assert line.exact is (more == 0)
