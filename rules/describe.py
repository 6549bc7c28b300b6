"""A rule in words: what it looks at, what raises it and what ends it, a sentence a level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rules import spec
from rules.situations import Area, Correlate, Inhibit, Root
from rules.words import condition, field_name, glued, joined, number, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.alarm import Text
    from rules.situations import AnyWide


def conditions(rule: spec.AnyRule) -> Iterator[Text]:
    """What a rule waits for, in the order in which it is asked."""
    if rule.where is not None:
        yield say("Chỉ xét khi {x}.", "Looks only where {x}.", x=condition(rule.where))
    if rule.during is not None:
        yield say("Chỉ trong lịch {x}.", "Only within the calendar {x}.", x=rule.during)
    match rule:
        case spec.Threshold():
            yield from map(_level, rule.levels)
        case spec.Rate():
            yield say(
                "Xét {of} thay đổi bao nhiêu mỗi {per}, tính trên {over}.",
                "How much {of} changes per {per} is taken over {over}.",
                of=field_name(rule.of),
                per=rule.per,
                over=rule.over,
            )
            yield from map(_level, rule.levels)
        case spec.Ratio():
            yield say(
                "Xét phần có {of} trong {window}, khi có ít nhất {least} sự kiện.",
                "What is looked at is the part where {of} within {window}, of at least {least} events.",
                of=condition(rule.of),
                window=rule.window,
                least=rule.least,
            )
            yield from map(_level, rule.levels)
        case spec.Count():
            yield from _counted(rule, say("sự kiện", "events"))
        case spec.Distinct():
            yield from _counted(
                rule, say("giá trị khác nhau của {of}", "different values of {of}", of=field_name(rule.of))
            )
        case spec.Absence():
            yield _absence(rule)
        case spec.Schedule():
            yield say(
                "{priority}: trong lịch, sau {due} vẫn chưa nghe gì.",
                "{priority}: nothing is heard within {due} of the calendar's beginning.",
                priority=rule.priority,
                due=rule.due,
            )
        case spec.Baseline():
            yield say(
                "{priority}: {of} khác hẳn thói quen của chính nó (điểm từ {bound}); hết sau {keep}.",
                "{priority}: {of} is strange to its own past (a score of {bound} or more); over after {keep}.",
                priority=rule.priority,
                of=field_name(rule.of),
                bound=number(rule.raise_),
                keep=rule.keep,
            )
        case spec.Happening():
            yield _happening(rule)


def _level(level: spec.Level) -> Text:
    raised = say("{p}: {x}", "{p}: {x}", p=level.priority, x=condition(level.raise_))
    lasting = say(" suốt {x}", " for {x}", x=level.for_) if level.for_us else None
    if level.clear is None:
        cleared = say("; hết khi không còn như vậy", "; over when that is so no more")
    else:
        cleared = say("; hết khi {x}", "; over when {x}", x=condition(level.clear))
    return glued(raised, lasting, cleared, _kept(level.keep, level.keep_us))


def _counted(rule: spec.Count | spec.Distinct, what: Text) -> Iterator[Text]:
    for level in rule.levels:
        yield glued(
            say(
                "{p}: từ {n} {what} trở lên trong {window}; hết khi còn dưới {m}",
                "{p}: {n} {what} or more within {window}; over below {m}",
                p=level.priority,
                n=level.raise_at,
                what=what,
                window=rule.window,
                m=level.clear_below,
            ),
            _kept(level.keep, level.keep_us),
        )


def _absence(rule: spec.Absence) -> Text:
    if rule.after is not None:
        silent = say(
            "{p}: không nghe gì trong {x}", "{p}: nothing is heard for {x}", p=rule.priority, x=rule.after
        )
    else:
        silent = say(
            "{p}: không nghe gì trong {n} lần định kỳ của thiết bị",
            "{p}: nothing is heard for {n} of the sensor's own intervals",
            p=rule.priority,
            n=rule.misses,
        )
    wait = say(", rồi thêm {x} nữa", ", and for {x} more", x=rule.wait) if rule.wait_us else None
    return glued(silent, wait, say("; hết khi nghe lại", "; over when it is heard again"))


def _happening(rule: spec.Happening) -> Text:
    raised = say("{p}: khi {x}", "{p}: when {x}", p=rule.priority, x=condition(rule.raise_))
    if rule.clear is not None:
        cleared = say("; hết khi {x}", "; over when {x}", x=condition(rule.clear))
        return glued(raised, cleared, _kept(rule.keep, rule.keep_us))
    return glued(
        raised, say("; hết {x} sau lần cuối", "; over {x} after the last of them", x=rule.keep or "0s")
    )


def _kept(text: str | None, us: int) -> Text | None:
    return say(" suốt {x}", " for {x}", x=text) if us else None


# --- over signals -------------------------------------------------------------------------------------------------------

_GROUPS = {
    "ward": say("phường", "ward"),
    "site": say("địa điểm", "site"),
    "gateway": say("bộ tập trung", "gateway"),
    "feed": say("luồng dữ liệu", "feed"),
}


def together(rule: AnyWide) -> Text:
    """What a rule over signals waits for."""
    match rule:
        case Correlate():
            what = (
                say("{n} loại báo động khác nhau", "{n} different kinds of alarms", n=rule.classes)
                if rule.classes
                else say("báo động ở {n} nơi", "alarms of {n} subjects", n=rule.count)
            )
            return say(
                "{p}: {what} trong vòng {within} và {window}; hết khi tất cả đã hết.",
                "{p}: {what} within {within} and {window} of the first; over when all of them are.",
                p=rule.priority,
                what=what,
                within=rule.within,
                window=rule.window,
            )
        case Area() | Root():
            by = (rule.by,) if isinstance(rule.by, str) else rule.by
            shares = [rule.share_of(one) for one in by]
            share = (
                say(
                    " và {x} % số thiết bị đã đăng ký",
                    " and {x} % of those registered",
                    x="/".join(f"{100 * share:g}" for share in shares if share),
                )
                if any(shares)
                else None
            )
            return glued(
                say(
                    "{p}: từ {n} báo động cùng lúc trong một {by}",
                    "{p}: alarms of {n} or more at once in one {by}",
                    p=rule.priority,
                    n=rule.least,
                    by=joined([_GROUPS[g] for g in by], "/"),
                ),
                share,
                say("; hết khi còn ít hơn", "; over when there are fewer"),
                _kept(rule.keep, rule.keep_us),
            )
        case Inhibit():
            return say(
                "Khi có {source} thì che {target}.",
                "While {source} stands, {target} is suppressed.",
                source=", ".join(rule.source),
                target=", ".join(rule.target),
            )
