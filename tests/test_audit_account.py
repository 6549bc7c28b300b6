"""The account of a partition: what becomes of each record, by an oracle that remembers everything, at any cut."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.account import MINUTE, SLACK, Account, Fold
from models.base import moment
from models.camera import CameraCount, CameraEvent
from models.traffic import TrafficFlow

S = 1_000_000
T0 = 1_767_225_600 * S
FLOW = TrafficFlow.topic
L = FLOW.late_us
HEADERS = (("content-type", b"application/json"), ("ce_type", b"city.traffic.flow.v1"))


def wire(at, id_="a", *, revision=0, **more):
    said = {"event_id": id_, "observed_at": moment(at).isoformat(), "source_id": "s", **more}
    return json.dumps(said | ({"revision": revision} if revision else {})).encode()


def flow(at, id_="a", segment="s1", *, speed=50, revision=0):
    return wire(at, id_, revision=revision, segment_id=segment, speed_kmh=speed)


def told(*records, topic=FLOW, rejected=(), fold=None, **more):
    """The verdicts on (stamp, value) from offset 0 on."""
    fold = fold or Fold(topic, **more)
    return [
        fold.step(n, stamp, b"k", value, HEADERS, rejected=n in rejected)
        for n, (stamp, value) in enumerate(records)
    ]


# --- by example ----------------------------------------------------------------------------------------------------


def test_what_is_older_than_l_is_late_and_what_is_as_old_is_not():
    assert told((T0 + L, flow(T0)), (T0 + L + 1000, flow(T0, "b", "s2"))) == ["stored", "late"]


def test_the_same_bytes_again_are_a_duplicate_and_other_bytes_a_conflict():
    one, other = flow(T0, speed=50), flow(T0, speed=51)
    assert told((T0, one), (T0, one), (T0, other), (T0, other), (T0, one)) == [
        "stored", "duplicate", "conflict", "duplicate", "conflict",
    ]  # fmt: skip


def test_two_ids_of_one_series_and_moment_are_a_conflict_and_of_two_series_they_are_not():
    assert told((T0, flow(T0)), (T0, flow(T0, "b")), (T0, flow(T0, "b", "s2"))) == [
        "stored", "conflict", "stored",
    ]  # fmt: skip


def test_a_greater_revision_corrects_and_a_lower_one_repeats():
    first, second = flow(T0), flow(T0, speed=9, revision=2)
    assert told((T0, first), (T0, second), (T0, first), (T0, flow(T0, revision=1)), (T0, second)) == [
        "stored", "corrected", "duplicate", "duplicate", "duplicate",
    ]  # fmt: skip


def test_a_series_is_all_its_fields_and_an_event_its_time_and_id():
    count = [
        wire(T0, id_, camera_id="c", object_class=of)
        for id_, of in (("a", "car"), ("a", "bus"), ("b", "bus"))
    ]
    assert told(*[(T0, v) for v in count], topic=CameraCount.topic) == ["stored", "stored", "conflict"]
    event = [
        wire(T0 + n, id_, camera_id="c", kind="motion")
        for n, id_ in ((0, "a"), (0, "b"), (1000, "a"), (0, "a"))
    ]
    assert told(*[(T0 + S, v) for v in event], topic=CameraEvent.topic) == [
        "stored",
        "stored",
        "stored",
        "duplicate",
    ]


def test_a_record_that_a_reject_names_is_rejected_whatever_it_says_and_repeats_nothing():
    assert told((T0, flow(T0)), (T0, b"{"), (T0, flow(T0)), rejected={0, 1}) == [
        "rejected",
        "rejected",
        "stored",
    ]


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{", b"[1]", b"\xff", b'{"event_id": "a"}', flow(T0).replace(b"+00:00", b""), flow(T0 + L + 400 * S),
     flow(T0).replace(b'"s1"', b"[1]"), flow(T0, revision=-1), b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_event_and_no_reject_names_is_lost_and_said_to_be(value):
    fold = Fold(FLOW)
    assert told((T0, value), fold=fold) == ["unread"]
    fold.refused(0)  # the reject came late
    assert +fold.account.counts == Counter(rejected=1)


def test_records_that_only_move_clocks_are_nobodys_events():
    fold = Fold(FLOW)
    for n, kind in enumerate((b"city.clock.v1", b"city.control.v1")):
        assert fold.step(n, T0, None, b"{}", [("ce_type", kind)], rejected=False) is None
    assert fold.step(2, T0, b"k", flow(T0), [("ce_type", b"city.clock.v1")], rejected=False) == "stored"
    assert fold.step(3, T0, None, flow(T0, "b", "s2"), (), rejected=False) == "stored"
    assert fold.account.json() == {"position": 3, "clock": T0, "stored": 2}


@pytest.mark.parametrize(
    "text",
    ["2026-01-01T00:00:00Z", "2026-01-01 00:00:00z", "2026-01-01t07:00:00+07:00", "2026-01-01T07:00:00+0700",
     "2026-01-01T00:00Z", "2026-01-01T00:00:00.0000009Z", "1767225600", "1767225600000"],
)  # fmt: skip
def test_a_moment_is_one_however_it_is_written(text):
    again = wire(T0, segment_id="s1", speed_kmh=1).replace(b"2026-01-01T00:00:00+00:00", text.encode())
    assert told((T0, flow(T0)), (T0, again)) == ["stored", "conflict"]
    assert TrafficFlow.model_validate_json(again).at == T0, "the decoder reads it, so we must"


def test_what_the_log_forgot_before_it_was_read_is_counted():
    fold = Fold(FLOW, Account(next=3, clock=T0))
    fold.step(7, T0, b"k", flow(T0), HEADERS, rejected=False)
    assert fold.account.json() == {"position": 7, "clock": T0, "stored": 1, "forgotten": 4}


@pytest.mark.parametrize("said", [{}, {"position": 1, "late": -1}, {"position": 1, "stored": "2"}, {"position": 1, "clock": None}])  # fmt: skip
def test_what_is_no_account_is_not_believed(said):
    with pytest.raises(ValueError, match="no account"):
        Account.parse(said)


# --- by oracle -----------------------------------------------------------------------------------------------------


class Oracle:
    """The definitions of DESIGN §4, with a memory of everything."""

    def __init__(self, late_us):
        self.late_us, self.held = late_us, {}

    def step(self, stamp, event, *, rejected):
        at, id_, segment, revision, speed = event
        if rejected:
            return "rejected"
        if stamp - at > self.late_us:
            return "late"
        old = self.held.get((at, segment))
        if old is None:
            verdict = "stored"
        elif old == (id_, revision, speed) or (old[0] == id_ and revision < old[1]):
            return "duplicate"
        else:
            verdict = "corrected" if old[0] == id_ and revision > old[1] else "conflict"
        self.held[at, segment] = (id_, revision, speed)
        return verdict


@st.composite
def logs(draw):
    """Records as (stamp, event, rejected), crowded in time so that they meet; stamps go back a little now and then."""
    clock, records = T0, []
    for _ in range(draw(st.integers(1, 40))):
        clock += draw(st.sampled_from([0, 1000, S, 30 * S, L, 3 * L]))
        stamp = clock - draw(st.sampled_from([0, 0, 0, 1000, SLACK]))
        at = stamp - draw(st.sampled_from([0, S, L - S, L, L + 1000, -S])) // S * S
        event = (
            at,
            draw(st.sampled_from("ab")),
            draw(st.sampled_from("xy")),
            draw(st.integers(0, 2)),
            draw(st.integers(1, 2)),
        )
        records.append((stamp, event, draw(st.integers(0, 5)) == 0))
    return records


def step(fold, n, record):
    stamp, (at, id_, segment, revision, speed), rejected = record
    value = flow(at, id_, segment, speed=speed, revision=revision)
    return fold.step(n, stamp, b"k", value, HEADERS, rejected=rejected)


@given(logs())
def test_verdicts_are_those_of_one_who_forgets_nothing(records):
    fold, oracle = Fold(FLOW), Oracle(L)
    for n, record in enumerate(records):
        assert step(fold, n, record) == oracle.step(record[0], record[1], rejected=record[2])


@given(logs(), st.data())
def test_cut_anywhere_and_begun_again_from_its_window_it_gives_the_same_account(records, data):
    whole = Fold(FLOW)
    for n, record in enumerate(records):
        step(whole, n, record)
    account = Account()
    begin = 0
    for cut in [*sorted(data.draw(st.sets(st.integers(1, len(records)), max_size=4))), len(records)]:
        saved = Account.parse(json.loads(json.dumps(account.json())))
        fold = Fold(FLOW, saved)
        if saved.next:  # as a broker finds the first record that is not older
            begin = next((n for n, r in enumerate(records) if r[0] >= fold.reread_from), saved.next)
            begin = min(begin, saved.next)
        for n in range(begin, cut):
            step(fold, n, records[n])
        account = fold.account
    assert account.same(whole.account)
    assert account.clock == whole.account.clock


@given(logs(), st.booleans())
def test_what_the_store_must_hold_of_a_minute_is_what_was_stored_of_it(records, looks):
    fold, held = Fold(FLOW, expect=True), {}
    late = {}
    for n, record in enumerate(records):
        verdict = step(fold, n, record)
        at, _, segment = record[1][:3]
        if verdict == "stored":
            held.setdefault(at // MINUTE, set()).add((at, segment))
        if verdict == "late":
            late.setdefault(at // MINUTE, set()).add((at, segment))
        if looks:
            assert at // MINUTE in fold.touched or verdict != "stored"
    assert {m: fold.expected(m) for m in held if m not in fold.vague} == {
        m: len(points) for m, points in held.items() if m not in fold.vague
    }
    assert {m: len(of) for m, of in fold.late.items()} == {m: len(of) for m, of in late.items()}


def test_memory_is_bounded_by_l():
    fold = Fold(FLOW)
    for n in range(5000):
        fold.step(n, T0 + n * S, b"k", flow(T0 + n * S, str(n)), HEADERS, rejected=False)
    assert sum(map(len, fold._known.values())) <= (L + SLACK) // S + 60
    assert fold.account.counts == Counter(stored=5000)
