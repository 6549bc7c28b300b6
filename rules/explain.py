"""An alarm derived again from its own record: what of it does not follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from models.alarm import PRIORITIES
from models.base import micros
from rules.derive import NotDerivableError, cited, fold, given_of, rule_of, same, seal_of
from rules.derive_wide import is_wide, members_of, situations
from rules.derive_wide import rule_of as defined_of
from rules.machine import ID, OFFSET, VALUES, Episode, T
from rules.words import clock, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from models.alarm import Alarm, Evidence, Proof, Text
    from rules.defined import Defined
    from rules.machine import Sample
    from rules.terms import Said


def derive(alarm: Alarm) -> list[Text]:
    """What of an alarm does not follow from its own proof; nothing where all of it does."""
    proof = alarm.proof
    if proof is None:
        return [say("Báo động này không mang theo chứng cứ.", "This alarm carries no proof.")]
    if seal_of(proof) != proof.seal:
        return [
            say("Niêm phong không khớp: chứng cứ đã bị sửa.", "The seal does not fit: the proof was altered.")
        ]
    try:
        return _of_alarms(alarm, proof) if is_wide(proof) else _of_events(alarm, proof)
    except NotDerivableError as error:
        return [say("Không suy ra lại được: {why}", "It cannot be derived again: {why}", why=str(error))]


def _of_events(alarm: Alarm, proof: Proof) -> list[Text]:
    given = given_of(proof, "/".join(alarm.labels.values()))
    found = _held(fold(given), proof)
    wrong = list(_misnamed(alarm, rule_of(proof)))
    if proof.gone:  # what it cites is what it was told by, and not what took it back
        if any(e.start == micros(alarm.start) for e in found):
            wrong.append(
                say("Đã rút lại, nhưng vẫn suy ra được.", "It is taken back, and is derived all the same.")
            )
        return wrong
    return [
        *wrong,
        *_cited_wrongly(alarm, proof),
        *_differences(_episode_of(alarm), found, ended=alarm.closed_by is not None),
    ]


def _of_alarms(alarm: Alarm, proof: Proof) -> list[Text]:
    """The same of a rule over signals: its events are other alarms."""
    rule, members = defined_of(proof), members_of(proof)
    found = [
        Episode(s.start, s.end, rank_of(rule), float(s.peak), (), s.held)
        for s in situations(rule, members, micros(proof.clock))
        if dict(s.labels) == alarm.labels
    ]
    there = {f"{m.fingerprint}/{m.start}": m for m in members_of(proof, beside=True)}
    wrong = list(_misnamed(alarm, rule.rule))
    for event in alarm.evidence:
        member = there.get(event.event_id)
        if member is None or (event.offset, event.values.get("alarm_id")) != (member.offset, member.alarm_id):
            wrong.append(_stranger(event))
    return [*wrong, *_differences(_episode_of(alarm), found, ended=alarm.closed_by is not None)]


def rank_of(rule: Defined) -> int:
    return PRIORITIES.index(rule.rule.priorities[0])


def _stranger(event: Evidence) -> Text:
    return say(
        "Sự kiện {id} không phải sự kiện đã dùng để suy ra.",
        "The event {id} is not the one that it was derived from.",
        id=event.event_id,
    )


def _held(found: list[Episode], proof: Proof) -> list[Episode]:
    quiet = not rule_of(proof).tell
    return [e._replace(held=e.held or quiet) for e in found]


def _episode_of(alarm: Alarm) -> Episode:
    end = None if alarm.end is None else micros(alarm.end)
    return Episode(micros(alarm.start), end, PRIORITIES.index(alarm.priority), alarm.peak, ())


def _differences(told: Episode, found: list[Episode], *, ended: bool) -> Iterator[Text]:
    """How what was told differs from what is derived. `ended`: with its log, which the rule knows nothing of."""
    near = next((e for e in found if e.start == told.start), None)
    if near is None:
        starts = ", ".join(clock(e.start) for e in found) or "–"
        yield say(
            "Suy ra thì không có gì bắt đầu lúc {told} (chỉ có: {found}).",
            "Derived again, nothing begins at {told} (what does: {found}).",
            told=clock(told.start),
            found=starts,
        )
        return
    if ended:
        near = near._replace(end=told.end)
    if same(near._replace(held=told.held), told):
        return
    for name, one, other in zip(_PARTS, told, near, strict=False):
        if one != other:
            yield say(
                "{what}: báo là {told}, suy ra là {found}.",
                "{what}: told was {told}, derived is {found}.",
                what=_PARTS[name],
                told=_part(name, one),
                found=_part(name, other),
            )


_PARTS: Final[Mapping[str, Text]] = {
    "start": say("bắt đầu", "start"),
    "end": say("kết thúc", "end"),
    "rank": say("mức", "priority"),
    "peak": say("giá trị lớn nhất", "peak"),
}


def _part(name: str, x: Any) -> str:
    if x is None:
        return "–"
    if name == "rank":
        return str(PRIORITIES[x])
    return clock(int(x)) if name in ("start", "end") else repr(x)


def _misnamed(alarm: Alarm, rule: Said) -> Iterator[Text]:
    for what, told, found in (
        (say("luật", "rule"), alarm.rule, rule.id),
        (say("tiêu đề", "title"), alarm.title.vi, rule.title.vi),
        (say("mức nghiêm trọng", "severity"), alarm.severity, rule.severity_at(alarm.priority)),
    ):
        if told != found:
            yield say(
                "{what}: báo là {told}, trong chứng cứ là {found}.",
                "{what}: told was {told}, in the proof it is {found}.",
                what=what,
                told=told,
                found=found,
            )


def _cited_wrongly(alarm: Alarm, proof: Proof) -> Iterator[Text]:
    """Events that the alarm names and that are not those of the proof."""
    there = {s[ID]: s for s in cited(proof)}
    topic = rule_of(proof).on
    for event in alarm.evidence:
        sample = there.get(event.event_id)
        if sample is None or event.topic != topic or not _is(event, sample, proof.names):
            yield _stranger(event)


def _is(event: Evidence, sample: Sample, names: Sequence[str]) -> bool:
    found = {n: v for n, v in zip(names, sample[VALUES], strict=True) if v is not None}
    return (micros(event.observed_at), event.offset, _plain(event.values)) == (
        sample[T],
        sample[OFFSET],
        _plain(found),
    )


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has them: a moment is a text, in one of two spellings."""
    return {n: v.replace("+00:00", "Z") if isinstance(v, str) else v for n, v in found.items()}
