"""Minute by minute: a look at the store finds what is lost and what is there twice, and nothing while points are on their way."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from test_audit_account import FLOW, HEADERS, T0, L, S, flow

from audit.account import MINUTE, Fold
from audit.minutes import DAY, Finding, Minutes, spans
from models.traffic import TrafficIncident

M0 = T0 // MINUTE


class City:
    """Two partitions of a topic, and a store: a plain list of (minute, late), which `faults` alter."""

    def __init__(self, topic=FLOW):
        self.folds = {p: Fold(topic, expect=True) for p in (0, 1)}
        self.minutes = Minutes(self.folds)
        self.log = {0: [], 1: []}
        self.store = Counter()
        self.seen = set()

    def send(self, at, *, stamp=None, partition=0, store=True):
        n = len(self.log[partition])
        stamp = at if stamp is None else stamp
        self.log[partition].append((stamp, flow(at, f"{partition}-{n}", f"s{partition}-{n}")))
        if store:
            self.store[at // MINUTE, stamp - at > L] += 1

    def count(self, upto=None):
        """Fold what is in the log."""
        for p, fold in self.folds.items():
            for n in range(fold.account.next, min(len(self.log[p]), upto or 1000)):
                fold.step(n, self.log[p][n][0], b"k", self.log[p][n][1], HEADERS, rejected=False)

    def ask(self):
        look = self.minutes.look()
        if look is not None:
            look.held.update({m: n for (m, late), n in self.store.items() if not late})
            look.held_late.update({m: n for (m, late), n in self.store.items() if late})
            look.upto = {p: len(of) for p, of in self.log.items()}
        return look

    def look(self):
        self.count()
        look = self.ask()
        return [] if look is None else self.minutes.judge(look)


def city(n=6, topic=FLOW):
    found = City(topic)
    for minute in range(n):
        found.send(T0 + minute * MINUTE, partition=minute % 2)
    return found


def test_a_store_that_has_everything_gives_no_finding_and_is_not_asked_again():
    c = city()
    assert c.look() == []
    assert c.minutes.look() is None


def test_a_write_that_was_dropped_is_found_with_its_minute_until_it_is_there():
    c = city()
    c.store[M0 + 3, False] -= 1
    assert c.look() == [Finding(M0 + 3, False, 1)]
    assert c.look() == [Finding(M0 + 3, False, 1)]
    c.store[M0 + 3, False] += 1
    assert c.look() == []
    assert c.minutes.look() is None


def test_a_point_under_a_second_identity_is_found():
    c = city()
    c.store[M0 + 3, False] += 1
    assert c.look() == [Finding(M0 + 3, False, -1)]


def test_an_event_that_is_there_twice_while_its_tags_are_corrected_is_told_only_if_it_stays():
    c = city(topic=TrafficIncident.topic)
    c.store[M0 + 3, False] += 1
    assert c.look() == []
    c.store[M0 + 3, False] -= 1  # the old tags are taken away
    assert c.look() == []
    assert c.minutes.look() is None
    c.send(T0 + 3 * MINUTE + 1, partition=1)
    c.store[M0 + 3, False] += 1
    assert c.look() == []
    assert c.look() == [Finding(M0 + 3, False, -1)]
    assert c.look() == [Finding(M0 + 3, False, -1)]
    c.store[M0 + 3, False] -= 2
    assert c.look() == [Finding(M0 + 3, False, 1)], "what is lost is told at once"


def test_what_is_stored_and_not_yet_counted_is_neither():
    #  log:   0 1 2 3 | 4 5        counted: 0 1 2 3
    #  store: 0 1 2 3   4
    c = city(2)
    for n in range(6):
        c.send(T0 + 3 * MINUTE + n * 1000, store=n < 5)
    c.count(upto=5)
    look = c.ask()
    assert look.lower[M0 + 3] == 4
    assert look.held[M0 + 3] == 5
    c.store[M0 + 3, False] += 1  # the last one comes while we look
    c.count()
    assert c.minutes.judge(look) == []
    assert c.look() == []


def test_a_late_point_that_is_not_there_is_found_and_one_more_is_nobodys_business():
    c = city()
    c.send(T0, stamp=T0 + 20 * MINUTE)
    c.send(T0 + 1000, stamp=T0 + 20 * MINUTE, store=False)
    assert c.look() == [Finding(M0, True, 1)]
    c.store[M0, True] += 7  # of a log before this one
    assert c.look() == []


def test_what_other_logs_stored_before_this_one_began_is_no_doubling():
    c = city()
    c.store[M0, False] += 50
    c.store[M0 - 1, False] += 50
    assert c.look() == []


def test_a_log_that_no_longer_begins_at_its_beginning_says_nothing_of_what_was_ahead_of_it():
    c = City()
    for p, fold in c.folds.items():
        for n in range(20):
            c.log[p].append((T0 + n * MINUTE, flow(T0 + n * MINUTE, str(n), f"s{p}")))
            if n >= 5:
                fold.step(n, *c.log[p][n][:1], b"k", c.log[p][n][1], HEADERS, rejected=False)
    for minute in range(25):
        c.store[M0 + minute, False] = 3
    look = c.ask()
    whole = M0 + 5 + FLOW.ahead_us // MINUTE + 1
    assert c.minutes.judge(look) == [Finding(m, False, -1) for m in range(whole, M0 + 20)]


def test_minutes_are_looked_at_once_more_when_they_are_over_and_then_let_go():
    c = city()
    assert c.look() == []
    c.store[M0 + 3, False] += 1  # written again by who slept
    c.send(T0 + 60 * MINUTE, partition=0)
    c.send(T0 + 60 * MINUTE, partition=1)
    assert c.look() == [Finding(M0 + 3, False, -1)]
    c.store[M0 + 3, False] -= 1
    assert c.look() == []
    c.look()
    assert not c.folds[0].closed
    assert not c.folds[1].closed


def test_what_the_store_may_have_let_go_is_not_asked_for():
    c = city()
    c.store.clear()
    c.count()
    assert c.minutes.look(oldest=M0 + 5).lower.keys() == {M0 + 5}
    assert c.minutes.look(oldest=M0 + 6) is None


def test_questions_are_few_and_none_is_longer_than_a_day():
    assert spans([]) == []
    assert spans([5, 3, 4]) == [(3, 6)]
    assert spans([0, DAY - 1, DAY, 5 * DAY]) == [(0, DAY), (DAY, DAY + 1), (5 * DAY, 5 * DAY + 1)]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1), st.integers(0, 200)), max_size=60), st.data()
)
def test_whatever_arrives_when_the_faults_are_found_and_only_they(sent, data):
    c = City()
    for p in (0, 1):
        c.send(T0 - MINUTE, partition=p)
    clock = T0
    for n, (minutes, p, back) in enumerate(sent):
        clock += minutes * MINUTE // 10
        c.send(max(T0, clock - back * S), stamp=clock, partition=p)
        if n % 7 == 0:
            assert c.look() == []
    assert c.look() == []
    places = sorted(place for place, n in c.store.items() if n and place[0] >= M0)
    if places and c.minutes.look() is None:
        c.send(clock, partition=0)
        broken = (clock // MINUTE, False)
        c.store[broken] -= data.draw(st.sampled_from([1, -1]))
        assert [f[:2] for f in c.look()] == [broken]
