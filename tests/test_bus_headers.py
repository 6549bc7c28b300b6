"""CloudEvents headers: what a record says of itself."""

from hypothesis import given
from hypothesis import strategies as st

from audit.account import Fold
from bus import headers
from models import catalogue

TOPIC = "city.traffic.flow.v1"


def test_an_event_carries_the_headers_of_cloudevents_binary_mode():
    assert dict(headers.headers("id-1", TOPIC, "/nab", 1_330_560_000_250_000)) == {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_type": b"city.traffic.flow.v1",
        "ce_source": b"/nab",
        "ce_id": b"id-1",
        "ce_time": b"2012-03-01T00:00:00.250000Z",
    }


def test_a_trace_is_handed_on_and_an_unknown_time_left_out():
    found = headers.headers("i", TOPIC, "/nab", None, b"00-1-2-01")
    assert headers.traceparent_of(found) == b"00-1-2-01"
    assert "ce_time" not in dict(found)
    assert headers.traceparent_of([]) is None


def test_headers_of_one_record_are_not_those_of_the_next():
    one = headers.headers("1", TOPIC, "/nab", 0)
    one.append(("x", b""))
    assert headers.headers("2", TOPIC, "/nab", 0) == headers.headers("2", TOPIC, "/nab", 0)
    assert ("x", b"") not in headers.headers("1", TOPIC, "/nab", 0)


def test_clock_and_control_are_no_events_and_everything_else_is():
    assert not headers.is_event(headers.clock_record().headers)
    assert not headers.is_event(headers.control_record(3, 5).headers)
    assert headers.control_record(3, 5).value == b'{"version":3,"effective_from":5}'
    assert headers.is_event(headers.headers("1", TOPIC, "/nab", 0))
    assert headers.is_event([("ce_type", b"org.somebody.else")])


def test_a_record_without_headers_is_an_event():
    assert headers.is_event(None)
    assert headers.is_event([])
    assert headers.is_event([("traceparent", b"00-1-2-01")])


@given(st.lists(st.tuples(st.text(max_size=20), st.one_of(st.none(), st.binary(max_size=40)))))
def test_no_headers_of_a_stranger_raise(found):
    assert isinstance(headers.is_event(found), bool)
    headers.type_of(found)
    headers.type_of([*found, ("ce_type", b"\xff")])


def test_judge_store_and_ledger_pass_by_the_same_records():
    for kind in (headers.CLOCK, headers.CONTROL, catalogue.CANARY, TOPIC, None):
        for key in (None, b"", b"s1"):
            for value in (None, b"", b"{}"):
                for more in ([], [("ce_type", TOPIC.encode())], [("ce_type", headers.CLOCK.encode())]):
                    found = [*([] if kind is None else [("ce_type", kind.encode())]), *more]
                    passed = headers.says_nothing(key, found)
                    said = Fold(catalogue.topics()[TOPIC]).step(0, 0, key, value, found, rejected=True)
                    assert (said is None) == passed, (kind, key, value, more)
