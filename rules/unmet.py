"""What a subject's events say against a rule's bounds: which clause failed and by how much, or how much is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rules import spec
from rules.baseline import Params
from rules.clauses import clauses, failing
from rules.machine import SUB, VALUES, Rate, Ratio, T
from rules.taken import Answer, inner, seen_of
from rules.trace import steps
from rules.words import clock, duration, field_name, glued, joined, number, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.base import Micros
    from rules.clauses import Clause
    from rules.machine import Sample
    from rules.taken import Code, Subject


def begun(it: Subject) -> Answer | None:
    """A bound is met, and not yet for long enough."""
    assert it.given is not None
    seen = seen_of(it.given)
    if not seen.pending:
        return None
    level = min(seen.pending, key=lambda n: seen.pending[n])
    left = seen.pending[level] - it.at
    levels: Sequence[Any] = getattr(it.rule, "levels", ())
    for_us = levels[level].for_us
    text = say(
        "Ngưỡng {p} đạt từ {t}, phải kéo dài {f}: còn thiếu {x}.",
        "{p} is met since {t} and must be for {f}: {x} is missing.",
        p=it.rule.priorities[level],
        t=clock(seen.pending[level] - for_us),
        f=duration(for_us),
        x=duration(left),
    )
    return Answer("waiting", text, missing_us=left)


def not_chosen(it: Subject) -> Answer | None:
    """None of the newest events is one that the rule looks at."""
    if it.rule.where is None or isinstance(it.rule, spec.Absence | spec.Schedule):
        return None
    recent = _recent(it)
    if not recent or any(map(it.chosen, recent)):
        return None
    missed = failing(it.rule.compile_where, it.rule.where, recent[-1][VALUES], it.rule.names)
    text = say(
        "Luật không xét sự kiện này ({t}): {x}.",
        "The rule does not look at what was heard at {t}: {x}.",
        t=clock(recent[-1][T]),
        x=joined((c.text for c in missed), "; "),
    )
    return Answer("where", text, clauses=tuple(missed))


def _recent(it: Subject) -> list[Sample]:
    """The events of the rule's window, else the newest."""
    window = getattr(it.rule, "window_us", None)
    if window is None:
        return it.samples[-1:]
    return [s for s in it.samples if s[T] > it.at - window] or it.samples[-1:]


def broken_off(it: Subject) -> Answer | None:
    """A bound was met a short while ago, and not for long enough."""
    if not isinstance(it.rule, spec.Threshold | spec.Rate | spec.Ratio):
        return None
    assert it.given is not None
    since: dict[int, Micros] = {}
    found: tuple[Micros, int, Micros] | None = None
    for step in steps(it.given):
        for turn in step.turns:
            if turn.what == "waits" and turn.level is not None:
                since[turn.level] = step.at
            elif turn.what == "dropped" and turn.level is not None and turn.level in since:
                found = (step.at, turn.level, since.pop(turn.level))
    if found is None:
        return None
    ended, level, began = found
    for_us = it.rule.levels[level].for_us
    if it.at - ended > for_us:
        return None
    short = for_us - (ended - began)
    text = say(
        "Ngưỡng {p} đạt từ {a} đến {b}, thiếu {x} so với {f}.",
        "{p} was met from {a} to {b}: {x} short of {f}.",
        p=it.rule.priorities[level],
        a=clock(began),
        b=clock(ended),
        x=duration(short),
        f=duration(for_us),
    )
    clause = said(it)
    also = () if clause is None else (clause.text,)
    return Answer("short", text, also, () if clause is None else clause.clauses, missing_us=short)


def said(it: Subject) -> Answer | None:
    """What the newest event that the rule looks at says, against its bounds."""
    match it.rule:
        case spec.Count() | spec.Distinct():
            return _counted(it, it.rule)
        case spec.Baseline():
            return _strange(it)
    sample = next((s for s in reversed(it.samples) if it.chosen(s)), None)
    if sample is None:
        return None
    values, more = _derived(it, sample)
    if more is not None:
        return more
    return _clauses(it, sample, values)


def _clauses(it: Subject, sample: Sample, values: tuple[Any, ...]) -> Answer:
    found: list[tuple[str, list[Clause]]] = []
    for _, text in _raises(it.rule):
        missed = failing(it.rule.compile, text, values, it.rule.names)
        found.append((text, missed))
    text, missed = min(found, key=lambda it: (len(it[1]), sum(abs(c.by or 0) for c in it[1])))
    every = clauses(it.rule.compile, text, values, it.rule.names)
    head = say("Lúc {t}: ", "At {t}: ", t=clock(sample[T]))
    told = joined([c.text for c in missed] + [c.text for c in every if c.holds], "; ")
    code: Code = "no_value" if missed and all(c.holds is None for c in missed) else "clause"
    return Answer(code, glued(head, told), clauses=tuple(missed))


def _derived(it: Subject, sample: Sample) -> tuple[tuple[Any, ...], Answer | None]:
    """The values of an event with what its rule derives of them; or why it cannot yet."""
    values = sample[VALUES]
    assert it.given is not None
    upto = [s for s in it.samples if s[:2] <= sample[:2]]
    kind, state = inner(it.given._replace(samples=upto, clock=sample[T]))
    ring = () if state is None else state[0]
    if isinstance(kind, Rate):
        first = next((s for s in ring if s[SUB] == sample[SUB]), sample)
        since = sample[T] - first[T]
        if values[kind.of] is None or 2 * since < kind.over:
            left = kind.over // 2 - since
            name = field_name(it.rule.of) if isinstance(it.rule, spec.Rate) else None
            text = say(
                "{n}: mới có số liệu trong {x}, cần ít nhất {y}.",
                "{n}: known for {x} only, of {y} at least.",
                n=name or "–",
                x=duration(since),
                y=duration(kind.over // 2),
            )
            return values, Answer("span", text, missing_us=left)
        return (*values, (values[kind.of] - first[VALUES][kind.of]) * kind.per / since), None
    if isinstance(kind, Ratio):
        total = sum(p[2] for p in ring)
        if total < kind.least:
            text = say(
                "Mới có {n} sự kiện trong cửa sổ, cần ít nhất {m}: thiếu {d}.",
                "{n} events in the window, of {m} at least: {d} missing.",
                n=total,
                m=kind.least,
                d=kind.least - total,
            )
            return values, Answer("few", text)
        return (*values, sum(p[1] for p in ring) / total, total), None
    return values, None


def _counted(it: Subject, rule: spec.Count | spec.Distinct) -> Answer:
    inside = [s for s in it.samples if it.at - rule.window_us < s[T] and it.chosen(s)]
    n = len(inside)
    what = say("sự kiện", "events")
    if isinstance(rule, spec.Distinct):
        at = rule.index_of(rule.of)
        n = len({s[VALUES][at] for s in inside} - {None})
        what = say("giá trị khác nhau của {x}", "different values of {x}", x=field_name(rule.of))
    need = min(level.raise_at for level in rule.levels)
    text = say(
        "Có {n} {what} trong {w}, cần {m}: thiếu {d}.",
        "{n} {what} within {w}, of {m}: {d} missing.",
        n=n,
        what=what,
        w=rule.window,
        m=need,
        d=need - n,
    )
    return Answer("window", text)


def _strange(it: Subject) -> Answer | None:
    assert isinstance(it.rule, spec.Baseline)
    assert it.given is not None
    kind, state = inner(it.given)
    known = () if state is None else state[0]
    n, first = (known[0], known[1]) if known else (0, it.at)
    learn = Params().learn
    if n <= 100 or it.at - first < learn:
        text = say(
            "Còn đang học: mới {n} số liệu trong {x}, cần hơn 100 và {y}.",
            "It is still learning: {n} values in {x}, of more than 100 and {y}.",
            n=n,
            x=duration(max(0, it.at - first)),
            y=duration(learn),
        )
        return Answer("learning", text)
    last = next(
        (s for s in reversed(it.samples) if s[VALUES][it.rule.index_of(it.rule.of)] is not None),
        None,
    )
    if last is None:
        return None
    before = it.given._replace(samples=[s for s in it.samples if s[:2] < last[:2]], clock=last[T] - 1)
    kind, state = inner(before)
    _, score, _ = kind.detector.step(
        state[0] if state else (), last[T], float(last[VALUES][it.rule.index_of(it.rule.of)])
    )
    by = it.rule.raise_ - (score or 0.0)
    text = say(
        "Lúc {t} điểm là {s}, thấp hơn ngưỡng {b} là {d}.",
        "At {t} the score was {s}, {d} below the bound {b}.",
        t=clock(last[T]),
        s=number(score or 0.0),
        b=number(it.rule.raise_),
        d=number(by),
    )
    return Answer("clause", text)


def _raises(rule: spec.AnyRule) -> Iterator[tuple[Any, str]]:
    for loc, text in rule.conditions():
        if loc[-1] == "raise":
            yield loc, text
