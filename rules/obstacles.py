"""What stands in the way of a rule before its events say anything: an alarm, a calendar, silence, or what swallowed an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.base import micros
from models.decode import Rejection
from rules import spec
from rules.calendar import INF, Hours, Service
from rules.derive import episodes
from rules.machine import ID, SUB, T
from rules.sight import allowance_us
from rules.taken import Answer, seen_of
from rules.words import clock, condition, duration, say

if TYPE_CHECKING:
    from models.alarm import Text
    from models.base import Micros
    from rules.machine import Sample
    from rules.taken import Code, Heard, Subject


def told(it: Subject) -> Answer | None:
    """There is an alarm, and something keeps it from being seen."""
    for alarm in it.alarms:
        end = INF if alarm.end is None else micros(alarm.end)
        if not micros(alarm.start) <= it.at < end:
            continue
        if alarm.retracted:
            text = say(
                "Đã có báo động {id}, rồi rút lại.",
                "There was the alarm {id}, and it was taken back: with all that is known it never was.",
                id=alarm.alarm_id,
            )
            return Answer("retracted", text, alarm_id=alarm.alarm_id)
        by = getattr(alarm, "suppressed_by", None) or {}
        if getattr(alarm, "suppressed", False):
            who = ", ".join(f"{rule} ({id_})" for rule, id_ in dict(by).items())
            text = say(
                "Báo động {id} đang được che, vì đã có {who}.",
                "The alarm {id} is suppressed: {who} speaks for it.",
                id=alarm.alarm_id,
                who=who or "–",
            )
            return Answer("suppressed", text, alarm_id=alarm.alarm_id)
        if alarm.shelved and alarm.shelved_until is not None:
            text = say(
                "Báo động {id} đang được {who} tạm gác đến {t}.",
                "The alarm {id} is shelved by {who} until {t}.",
                id=alarm.alarm_id,
                who=alarm.shelved_by or "–",
                t=clock(micros(alarm.shelved_until)),
            )
            return Answer("shelved", text, alarm_id=alarm.alarm_id)
        text = say(
            "Đã có báo động: {id}, từ {t}.",
            "It did: the alarm {id} stands since {t}.",
            id=alarm.alarm_id,
            t=clock(micros(alarm.start)),
        )
        return Answer("raised", text, alarm_id=alarm.alarm_id)
    return None


def unknown(it: Subject) -> Answer | None:
    heard = it.all or it.lost or it.rejected
    listens = isinstance(it.rule, spec.Absence | spec.Schedule)
    if listens and it.sensor is None:
        text = say(
            "{k} không có trong danh bạ: sự im lặng của nó không ai chờ.",
            "{k} is not in the registry: nobody misses it.",
            k=it.key,
        )
        return Answer("unregistered", text)
    if heard or it.sensor is not None:
        return None
    text = say(
        "Chưa từng nghe {k}, và danh bạ không có nó.",
        "{k} was never heard, and is not in the registry.",
        k=it.key,
    )
    return Answer("unknown_subject", text)


def out_of_service(it: Subject) -> Answer | None:
    if it.sensor is None or not it.sensor.maintenance:
        return None
    inside, until = Service([m.span for m in it.sensor.maintenance]).look(it.at)
    if inside:
        return None
    why = next(m.why for m in it.sensor.maintenance if m.span[0] <= it.at < m.span[1])
    text = say(
        "Thiết bị đang bảo trì đến {t}: {why}.",
        "The sensor is out of service until {t}: {why}.",
        t=clock(until),
        why=why,
    )
    return Answer("maintenance", text)


def out_of_hours(it: Subject) -> Answer | None:
    if it.rule.during is None:
        return None
    calendars = {c.id: c for c in it.rules.calendars}
    inside, until = Hours(calendars[it.rule.during], calendars).look(it.at)
    if inside:
        return None
    text = say(
        "Ngoài lịch {c}; lịch bắt đầu lúc {t}.",
        "Outside the calendar {c}; it begins at {t}.",
        c=it.rule.during,
        t=clock(until) if until < INF else "–",
    )
    return Answer("calendar", text, missing_us=until - it.at if until < INF else None)


def other_subject(it: Subject) -> Answer | None:
    if it.kind is not None:
        return None
    assert it.rule.where is not None
    text = say("Luật này chỉ xét {x}.", "The rule looks only where {x}.", x=condition(it.rule.where))
    return Answer("where", text)


def stands(it: Subject) -> Answer | None:
    """By its events it does stand: it is only held, or nobody is told of it, or was not told yet."""
    assert it.given is not None
    found = next(
        (e for e in episodes(it.given) if e.start <= it.at and (e.end is None or e.end > it.at)),
        None,
    )
    if found is None:
        return None
    if not it.rule.tell:
        text = say(
            "Luật này chỉ đếm cho các luật khác (tell: false), không tự báo.",
            "This rule only counts for others (tell: false): it tells nobody.",
        )
        return Answer("untold", text)
    if found.held:
        assert isinstance(it.rule, spec.Absence)
        left = found.start + it.rule.wait_us - it.at
        text = say(
            "Đã im lặng từ {t}, nhưng còn chờ {x} nữa mới báo.",
            "It is silent since {t}, and is told after {x} more.",
            t=clock(found.start),
            x=duration(left),
        )
        return Answer("held", text, missing_us=left)
    text = say(
        "Theo số liệu thì có báo động từ {t}.",
        "By its events there is an alarm since {t}.",
        t=clock(found.start),
    )
    return Answer("raised", text)


def swallowed(it: Subject) -> Answer | None:
    """With an event that was late, lost to another, or counted once, it would stand."""
    for code, heard, sample in reversed(it.lost):
        if sample[T] > it.at:
            continue
        more = (sample[0], f"{sample[ID]}#{heard.offset}", *sample[2:])
        others = it.samples
        if code == "conflict":  # instead of the one that took its place
            others = [s for s in others if (s[T], s[SUB]) != (sample[T], sample[SUB])]
        if it.covers(sorted([*others, more], key=lambda s: s[:2])):
            return Answer(code, _lost(it, code, heard, sample))
    return _rejected(it)


def _lost(it: Subject, code: Code, heard: Heard, sample: Sample) -> Text:
    if code == "late":
        behind = heard.stamp - sample[T]
        return say(
            "Số liệu {id} của {t} đến muộn {x}, quá giới hạn {l}: được lưu, không được xét.",
            "{id} of {t} arrived {x} after it was observed, later than {l}: it is kept, and not judged.",
            id=sample[ID], t=clock(sample[T]), x=duration(behind) if behind > it.late_us else "?", l=duration(it.late_us),
        )  # fmt: skip
    if code == "duplicate":
        return say(
            "Số liệu {id} đến hai lần và chỉ tính một lần.",
            "{id} came twice, and counts once.",
            id=sample[ID],
        )
    return say(
        "Số liệu {id} của {t} bị một số liệu khác cùng thời điểm thay thế.",
        "Another value for {t} took the place of {id}.",
        id=sample[ID],
        t=clock(sample[T]),
    )


def _rejected(it: Subject) -> Answer | None:
    """A record that was no event, and nothing of the subject after it."""
    since = it.last[T] if it.last is not None else -INF
    near = [h for h in it.rejected if since < h.stamp <= it.at + it.late_us]
    if not near:
        return None
    newest = near[-1]
    assert isinstance(newest.found, Rejection)
    text = say(
        "Một bản tin lúc {t} bị từ chối ({reason}: {detail}), từ đó không còn số liệu nào được xét.",
        "A record of {t} was rejected ({reason}: {detail}), and nothing else was judged since.",
        t=clock(newest.stamp),
        reason=newest.found.reason,
        detail=newest.found.detail,
    )
    return Answer("rejected", text)


def silence(it: Subject) -> Answer | None:
    """Of a rule that waits for silence: when it was last heard, and how much was missing."""
    if not isinstance(it.rule, spec.Absence | spec.Schedule):
        return None
    assert it.kind is not None
    assert it.given is not None
    seen = seen_of(it.given)
    last = next((s for s in reversed(it.samples) if it.chosen(s)), None)
    if seen.silent_at is not None and seen.silent_at > it.at:
        left = seen.silent_at - it.at
        heard = clock(last[T]) if last is not None else "–"
        text = say(
            "Nghe lần cuối lúc {t}; đến {u} mới báo, còn {x}.",
            "It was last heard at {t}; it is told from {u}, in {x}.",
            t=heard,
            u=clock(seen.silent_at),
            x=duration(left),
        )
        return Answer("waiting" if isinstance(it.rule, spec.Schedule) else "heard", text, missing_us=left)
    if last is not None:
        return Answer("heard", say("Đã nghe lúc {t}.", "It was heard at {t}.", t=clock(last[T])))
    return Answer("heard", say("Không im lặng đủ lâu.", "It was not silent for long enough."))


def blind(it: Subject) -> Answer | None:
    """Nothing is heard: the rule cannot say."""
    last = it.last
    if last is None:
        text = say("Chưa nghe gì của {k}: mù.", "Nothing of {k} was heard yet: it is BLIND.", k=it.key)
        return Answer("blind", text)
    allowed = _allowance(it)
    if it.event.topic.kind == "events" or allowed is None or it.at - last[T] <= allowed:
        return None
    text = say(
        "Không nghe gì từ {t} ({x}): mù, và im lặng không phải là bình thường.",
        "Nothing is heard since {t} ({x}): it is BLIND, and silence is not all-clear.",
        t=clock(last[T]),
        x=duration(it.at - last[T]),
    )
    return Answer("blind", text)


def _allowance(it: Subject) -> Micros | None:
    if it.sensor is not None:
        return allowance_us(it.sensor.every_us, it.rules.of(it.rule.on))
    gaps = sorted(b[T] - a[T] for a, b in zip(it.samples, it.samples[1:], strict=False))
    return None if not gaps else max(3 * gaps[len(gaps) // 2], it.late_us)
