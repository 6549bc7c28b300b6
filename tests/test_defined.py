"""Which alarms one rule suppresses: looked up, the same are found as by asking each of every other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import gather
from rules.defined import compile_wide
from rules.gather import Cover, Member, covered, near
from rules.spec import RuleSet

FLOW = "city.traffic.flow.v1"
NOW = 100
RULES = [
    {"id": "jam", "kind": "event", "on": FLOW, "by": ["segment_id"], "raise": "speed_kmh < 10", "keep": "1m", "priority": "P3"},
    {"id": "slow", "kind": "event", "on": FLOW, "by": ["segment_id"], "raise": "speed_kmh < 20", "keep": "1m", "priority": "P3"},
]  # fmt: skip
SAME = {"equal": ["segment_id"]}
WITHIN = {"within": "300m"}


def defined(how):
    wide = {"id": "enough", "kind": "inhibit", "source": ["jam"], "target": ["slow"], **how}
    return compile_wide(RuleSet.model_validate({"rules": RULES, "wide": [wide]}), 0).rules["enough"]


def member(n, rule, labels=(), lat=None, lon=None, end=None):
    return Member(n % 50, f"f{n}", f"a{n}", end, rule, FLOW, tuple(labels), lat, lon, None, None, n)


#: Some lack a label, and some lie on both sides of the distance.
LABELS = st.lists(
    st.tuples(st.sampled_from(["segment_id", "lane"]), st.sampled_from("ab")), unique_by=lambda one: one[0]
)
DEGREES = st.none() | st.integers(-3, 3).map(lambda n: 20.95 + n * 0.0013489)
MEMBERS = st.lists(
    st.tuples(st.sampled_from(["jam", "slow", "other"]), LABELS, DEGREES, DEGREES, st.none() | st.integers(60, 120)),
    max_size=12,
).map(lambda found: [member(n, *one) for n, one in enumerate(found)])  # fmt: skip


@pytest.mark.parametrize("how", [SAME, {"equal": ["segment_id", "lane"]}, WITHIN], ids=str)
@given(members=MEMBERS)
def test_the_same_are_suppressed_as_by_asking_each_of_every_other(how, members):
    rule = defined(how)

    def reaches(source, target):
        if "within" in how:
            return near(source, target, 300)
        one, other = dict(source.labels), dict(target.labels)
        return all(name in one and one[name] == other.get(name) for name in how["equal"])

    expected = {}
    for target in (m for m in members if m.rule == "slow"):
        covers = [
            Cover(m.start, m.end, m.alarm_id) for m in members if m.rule == "jam" and reaches(m, target)
        ]
        cover = covered(target, covers, rule.rule.release_us, NOW)
        if cover is not None:
            expected[target.alarm_id] = (target, cover)
    assert rule.suppressed(members, (), NOW) == expected


def test_only_those_of_about_the_same_latitude_are_measured(monkeypatch):
    asked = []
    monkeypatch.setattr(gather, "near", lambda *words: asked.append(words) or near(*words))
    members = [
        member(2 * n + k, rule, lat=n * 0.01, lon=107.0)
        for n in range(300)
        for k, rule in enumerate(("jam", "slow"))
    ]
    assert len(defined(WITHIN).suppressed(members, (), NOW)) == 300
    assert len(asked) == 300
