"""The ledger: an account of every topic that can be wrong, and says so."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import ALARM_INPUT
from sinks.contract import Point, Record
from sinks.ledger import UNKNOWN, Line, Live, close_accounts, ledger
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
    def account(points=(), records=(), live=None, *, close=False):
        async def run():
            store = SqliteStore(tmp_path / "store.sqlite")
            await store.write(list(points))
            await store.keep(list(records))
            closed = await close_accounts(store) if close else None
            found = await ledger(store, live)
            await store.close()
            return (closed, found) if close else found

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


def test_a_correction_is_a_conflict_that_is_explained_and_what_nobody_read_is_missing(account):
    line = account(flows(2), [counted(stored=2, conflict=1, corrected=3, unread=1)])[FLOW]
    assert line == Line(7, stored=2, conflict=4, corrected=3)
    assert line.missing == 1
    assert line.json()["corrected"] == 3


def test_what_the_log_forgot_unaccounted_is_no_exact_account(account):
    line = account(flows(2), [counted(stored=2, forgotten=5)])[FLOW]
    assert (line.missing, line.exact, line.json()["forgotten"]) == (0, False, 5)


def running(before, after, waiting=0):
    """A log that runs: its account when asked first, and when all is counted that was in it then."""

    async def later():
        return None if after is None else {(FLOW, 0): after}

    async def waits():
        return {FLOW: waiting}

    return Live("L", {(FLOW, 0): before}, waits, later)


def test_the_account_of_a_log_that_runs_is_its_own_and_not_the_one_in_the_store(account):
    old = [counted(stored=1), counted(1, stored=2), counted(0, log="M", stored=1)]
    assert account(flows(7), old, running({"stored": 4}, {"stored": 4}))[FLOW] == Line(7, stored=7)


def test_points_that_came_while_we_asked_are_waiting_and_not_there_twice(account):
    line = account(flows(7), (), running({"stored": 4}, {"stored": 8}))[FLOW]
    assert line == Line(4, stored=4, waiting=4)
    assert line.exact
    assert line.json()["waiting"] == 4


def test_more_than_can_have_come_meanwhile_is_there_twice_even_while_events_flow(account):
    assert account(flows(7), (), running({"stored": 4}, {"stored": 6}))[FLOW].missing == -3


def test_less_than_was_accounted_for_is_missing_even_while_events_flow(account):
    assert account(flows(7), (), running({"stored": 8}, {"stored": 100}))[FLOW].missing == 1


def test_while_the_ledger_is_away_all_that_the_log_has_may_be_on_its_way(account):
    assert account(flows(7), [reject(1, offset=3)], running({"stored": 4}, None, 4))[FLOW] == Line(
        4, stored=4, waiting=4
    )
    assert account(flows(9), (), running({"stored": 4}, None, 4))[FLOW].missing == -6


def test_what_a_killed_city_stored_beyond_its_account_is_accounted_for_once_and_stays_visible(account):
    closed, lines = account(
        [*flows(9), *flows(1, late=True)], [counted(stored=5), reject(1, offset=3)], close=True
    )
    assert closed == {FLOW: 5}
    assert lines[FLOW] == Line(10, stored=9, rejected=1, unaccounted=5)
    assert account(flows(9), close=True)[0] == {}
    again, lines = account(flows(12), close=True)
    assert again == {FLOW: 3}
    assert lines[FLOW] == Line(13, stored=12, rejected=1, unaccounted=8)


def test_what_a_killed_city_lost_is_not_accounted_away(account):
    closed, lines = account(flows(4), [counted(stored=5)], close=True)
    assert closed == {}
    assert lines[FLOW].missing == 1


def test_rejects_of_no_topic_and_of_the_alarm_input_stand_for_themselves(account):
    lines = account((), [reject(1, None, file="x"), reject(2, ALARM_INPUT)])
    assert list(lines) == [ALARM_INPUT, UNKNOWN]
    assert all(line == Line(1, rejected=1) and line.exact for line in lines.values())


@given(st.tuples(*[st.integers(0, 1000)] * 5), st.integers(-3, 3))
def test_a_line_is_exact_when_its_parts_add_up_and_only_then(parts, more):
    line = Line(sum(parts) + more, *parts)
    assert line.missing == more
    assert line.exact is (more == 0)
