"""An alarm's story in the words of an operator at three in the morning: what was seen, what was waited for, what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from models.alarm import PRIORITIES
from models.base import micros
from rules import spec
from rules.calendar import INF
from rules.derive import DAMAGE, NotDerivableError, cited, given_of, rule_of
from rules.derive_wide import is_wide, members_of
from rules.derive_wide import rule_of as defined_of
from rules.describe import conditions, together
from rules.machine import ID, VALUES, Scheduled, T
from rules.trace import steps, view
from rules.words import clock, duration, glued, joined, number, say, values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from models.alarm import Alarm, AlarmEvent, Proof, Text
    from models.base import Micros
    from rules.derive import Given
    from rules.machine import Sample
    from rules.trace import Step, Turn

#: rule: what it is; seen: what was observed; time: what time did; told: what the alarm plane was told and did; proof: on
#: what all this rests.
Part = Literal["rule", "seen", "time", "told", "proof"]


class Line(NamedTuple):
    """One sentence of a story, and the moment that it is about."""

    at: Micros | None
    part: Part
    text: Text


def story(alarm: Alarm, history: Iterable[AlarmEvent] = ()) -> list[Line]:
    """The rule, what was seen and what time did, in order; then what was told of it; then on what it rests."""
    entries = list(history)
    told = list(_told(alarm, entries))
    if alarm.proof is None:
        return told
    try:
        if is_wide(alarm.proof):
            return [*_situation(alarm, alarm.proof), *told, *_proof(alarm.proof)]
        rule, seen = rule_of(alarm.proof), _seen(alarm, proofs_of(alarm, entries))
        return [*_rule(rule, alarm), *seen, *told, *_proof(alarm.proof)]
    except (NotDerivableError, *DAMAGE):
        return told  # `derive` says why


def proofs_of(alarm: Alarm, history: Iterable[AlarmEvent]) -> list[Proof]:
    """The alarm's proof, and before it those that were told of the same beginning, oldest first.

    What is told at the end of a long alarm rests on its state shortly before; how it began is in what was told then.
    """
    found: list[Proof] = []
    for proof in (*(e.alarm.proof for e in history if e.alarm.start == alarm.start), alarm.proof):
        if proof is not None and not proof.gone and proof not in found:
            found.append(proof)
    return found or ([] if alarm.proof is None else [alarm.proof])


def _rule(rule: spec.AnyRule, alarm: Alarm) -> Iterator[Line]:
    named = say(
        "Luật {id} (phiên bản {version}): {title}.",
        "Rule {id} (version {version}): {title}.",
        id=rule.id,
        version=alarm.rules_version,
        title=rule.title,
    )
    yield Line(None, "rule", named)
    for text in conditions(rule):
        yield Line(None, "rule", text)


# --- what was seen, and what time did -----------------------------------------------------------------------------------


def _seen(alarm: Alarm, proofs: Sequence[Proof]) -> list[Line]:
    """What the proofs have. Where two speak of one time, the later one knew more."""
    lines: list[Line] = []
    covered = INF
    for proof in reversed(proofs):
        given = given_of(proof, "/".join(alarm.labels.values()))
        if given.since < covered:
            tell = _Teller(rule_of(proof), given, proof, alarm)
            lines = [*_chapter(tell, covered, falling=proof is not proofs[0]), *lines]
            covered = given.since
    first = given_of(proofs[0], "/".join(alarm.labels.values()))
    return [*_before(_Teller(rule_of(proofs[0]), first, proofs[0], alarm)), *lines]


def _before(tell: _Teller) -> Iterator[Line]:
    """What the rule's state has kept of before a proof, and how things stood then."""
    for sample in cited(tell.proof):
        if sample[T] < tell.given.since:
            yield Line(sample[T], "seen", glued(tell.seen(sample), tell.met(sample)))
    standing = tell.standing()
    if standing is not None:
        yield Line(tell.given.since, "time", standing)


def _chapter(tell: _Teller, upto: Micros, *, falling: bool) -> Iterator[Line]:
    """The steps of one proof up to what a later one covers; `falling`: and whether the end was under way before."""
    if falling and view(tell.given.kind, tell.given.state).falling and (text := tell.standing()) is not None:
        yield Line(tell.given.since, "time", text)
    found = [step for step in steps(tell.given) if step.at < upto]
    for step in found:
        if step.turns or step.sample is None or step.sample[ID] in tell.named or len(found) < _ALL:
            yield from tell.step(step)


#: Of more steps than these only those are told in which something changed.
_ALL = 12


class _Teller:
    """Says what one rule saw."""

    def __init__(self, rule: spec.AnyRule, given: Given, proof: Proof, alarm: Alarm) -> None:
        self.rule, self.given, self.proof = rule, given, proof
        self.names = _read(rule)
        self.places = {n: i for i, n in enumerate(rule.names)}
        self.named = {e.event_id for e in alarm.evidence}
        self.day = clock(micros(alarm.start))[:10]

    def when(self, at: Micros | None) -> str:
        """A moment; the day where it is another than that of the alarm."""
        text = clock(at or 0)
        return text[11:] if text[:10] == self.day else text

    def seen(self, sample: Sample) -> Text:
        found = {n: sample[VALUES][self.places[n]] for n in self.names if n in self.places}
        if not found:
            return say("nghe được ({id})", "heard ({id})", id=sample[ID])
        return values([*found], found)

    def met(self, sample: Sample) -> Text | None:
        """Which bounds a sample of before meets, where one sample can say so."""
        if not isinstance(self.rule, spec.Threshold):
            return None
        met = [lv.priority for lv in self.rule.levels if self.rule.compile(lv.raise_)(sample[VALUES])]
        return say(": đạt ngưỡng {p}", ": meets {p}", p=", ".join(met)) if met else None

    def standing(self) -> Text | None:
        """How things stood when the proof begins."""
        seen = view(self.given.kind, self.given.state)
        if seen.falling:
            n = max(seen.falling, key=lambda level: seen.falling[level])
            return say(
                "Lúc này điều kiện hết {p} đã đạt; nếu còn như vậy đến {t} thì hết.",
                "By now what ends {p} was met; over if it stays so until {t}.",
                p=self._level(n),
                t=self.when(seen.falling[n]),
            )
        if seen.open is not None:
            return say(
                "Lúc này đã báo động từ {t}.", "By now it had stood since {t}.", t=self.when(seen.open.start)
            )
        if seen.pending:
            n = min(seen.pending, key=lambda level: seen.pending[level])
            since = seen.pending[n] - self._for(n)
            return say(
                "Lúc này ngưỡng {p} đã đạt từ {t}.",
                "By now {p} had been met since {t}.",
                p=self._level(n),
                t=self.when(since),
            )
        if seen.silent_at is not None:
            return say(
                "Nếu không nghe gì đến {t} thì báo động.",
                "If nothing is heard until {t}, it is an alarm.",
                t=self.when(seen.silent_at),
            )
        return None

    def step(self, step: Step) -> Iterator[Line]:
        said = [text for turn in step.turns if (text := self._turn(turn, step)) is not None]
        if step.sample is None:
            for text in said:
                yield Line(step.at, "time", glued(text))
            return
        turned = joined(said, "; ") if said else None
        arrow = say(" → {x}", " → {x}", x=turned) if turned is not None else None
        yield Line(step.at, "seen", glued(self.seen(step.sample), arrow))

    def _turn(self, turn: Turn, step: Step) -> Text | None:
        episode = turn.episode
        match turn.what:
            case "waits":
                return say(
                    "đạt ngưỡng {p}; nếu còn như vậy đến {t} thì báo động",
                    "meets {p}; an alarm if it stays so until {t}",
                    p=self._level(turn.level),
                    t=self.when(turn.until),
                )
            case "dropped":
                return say("không còn đạt ngưỡng {p}", "{p} is met no more", p=self._level(turn.level))
            case "raised" | "worse":
                return self._raised(turn, step)
            case "falls":
                return say(
                    "đủ điều kiện hết {p}; nếu còn như vậy đến {t} thì hết",
                    "what ends {p} is met; over if it stays so until {t}",
                    p=self._level(turn.level),
                    t=self.when(turn.until),
                )
            case "again":
                return say("{p} tiếp tục", "{p} goes on", p=self._level(turn.level))
            case "listens":
                return (
                    None
                    if step.sample is None
                    else say(
                        "nếu không nghe gì đến {t} thì báo động",
                        "an alarm if nothing is heard until {t}",
                        t=self.when(turn.until),
                    )
                )
            case "over":
                assert episode is not None
                return self._over(step, episode.start)
        return None

    def _raised(self, turn: Turn, step: Step) -> Text | None:
        assert turn.episode is not None
        p = PRIORITIES[turn.episode.rank] if turn.level is None else self._level(turn.level)
        if isinstance(self.rule, spec.Absence | spec.Schedule):
            return say("vẫn không nghe gì: báo động {p}", "still nothing is heard: {p} alarm", p=p)
        kept = self._for(turn.level)
        if step.sample is None and kept:
            return say(
                "ngưỡng {p} đã đạt suốt {x}: báo động {p}",
                "{p} was met for {x}: {p} alarm",
                p=p,
                x=duration(kept),
            )
        if turn.what == "worse":
            return say("nặng lên thành {p}", "it becomes {p}", p=p)
        return say("báo động {p}", "{p} alarm", p=p)

    def _over(self, step: Step, start: Micros) -> Text:
        lasted = duration(step.at - start)
        if step.sample is not None:
            return say("hết, sau {x}", "over, after {x}", x=lasted)
        if self.given.until <= step.at:
            return say(
                "luật không còn hiệu lực như trước: hết, sau {x}",
                "the rule is in force no more as it was: over, after {x}",
                x=lasted,
            )
        if self._turned(step.at):
            return say(
                "ngoài lịch hoặc thiết bị đang bảo trì: hết, sau {x}",
                "outside the calendar, or the sensor is out of service: over, after {x}",
                x=lasted,
            )
        return say("đã đủ lâu: hết, sau {x}", "that lasted long enough: over, after {x}", x=lasted)

    def _turned(self, at: Micros) -> bool:
        kind = self.given.kind
        while isinstance(kind, Scheduled):
            if kind.windows.look(at - 1)[0] and not kind.windows.look(at)[0]:
                return True
            kind = kind.kind
        return False

    def _level(self, n: int | None) -> str:
        return str(self.rule.priorities[n or 0])

    def _for(self, n: int | None) -> Micros:
        levels: Sequence[Any] = getattr(self.rule, "levels", ())
        return getattr(levels[n], "for_us", 0) if n is not None and n < len(levels) else 0


def _read(rule: spec.AnyRule) -> list[str]:
    """The event's own fields that a rule reads, in the event's order; those of its key are in every alarm's labels."""
    texts = [(rule.compile, t) for _, t in rule.conditions()] + [
        (rule.compile_where, t) for _, t in rule.choices()
    ]
    read = {name for compiled, text in texts for name in compiled(text).names}
    of = getattr(rule, "of", None)
    read |= {of} if of in rule.names else set()
    return [n for n in rule.names if n in read and n not in rule.derived and n not in rule.by]


# --- what several alarms mean together ----------------------------------------------------------------------------------


def _situation(alarm: Alarm, proof: Proof) -> Iterator[Line]:
    """The rule over signals, and the alarms that it looked at: when each began and ended, and when it was a situation."""
    rule = defined_of(proof).rule
    named = say(
        "Luật {id} (phiên bản {version}): {title}.",
        "Rule {id} (version {version}): {title}.",
        id=rule.id,
        version=proof.version,
        title=rule.title,
    )
    yield Line(None, "rule", named)
    yield Line(None, "rule", together(rule))
    lines: list[Line] = []
    for member in members_of(proof):
        name = say(
            "{rule} ({labels})",
            "{rule} ({labels})",
            rule=member.rule,
            labels=", ".join(v for _, v in member.labels),
        )
        lines.append(Line(member.start, "seen", glued(say("báo động {x}", "alarm {x}", x=name))))
        if member.end is not None:
            lines.append(Line(member.end, "seen", glued(say("hết {x}", "over: {x}", x=name))))
    lines.append(
        Line(
            micros(alarm.start),
            "time",
            glued(say("đủ điều kiện: báo động {p}", "that is enough: {p} alarm", p=alarm.priority)),
        )
    )
    if alarm.end is not None:
        lines.append(Line(micros(alarm.end), "time", glued(say("hết", "over"))))
    yield from sorted(lines, key=lambda line: line.at or 0)


# --- what was told ------------------------------------------------------------------------------------------------------

_TYPES: Mapping[str, Text] = {
    "raised": say("Báo động {priority}", "Raised as {priority}"),
    "revised": say("Xét lại", "Revised"),
    "retracted": say(
        "Rút lại: có đủ số liệu thì việc này không xảy ra", "Taken back: with all that is known it never was"
    ),
    "cleared": say("Hết báo động", "Cleared"),
    "acknowledged": say("Đã tiếp nhận", "Acknowledged"),
    "suppressed": say(
        "Được che, vì đã có báo động {by} nói thay", "Suppressed: the alarm {by} speaks for it"
    ),
    "released": say("Không che nữa", "Suppressed no more"),
    "shelved": say("Tạm gác đến {until}", "Shelved until {until}"),
    "unshelved": say("Thôi tạm gác", "Off the shelf"),
}

#: What a person did is for the reason that the person gave.
_BY_HAND = frozenset({"acknowledged", "shelved", "unshelved"})

_CHANGES = (
    ("priority", say("mức {a} → {b}", "priority {a} → {b}"), str),
    ("start", say("bắt đầu {a} → {b}", "start {a} → {b}"), lambda t: clock(micros(t))),
    ("end", say("kết thúc {a} → {b}", "end {a} → {b}"), lambda t: "–" if t is None else clock(micros(t))),
    (
        "peak",
        say("giá trị lớn nhất {a} → {b}", "peak {a} → {b}"),
        lambda x: "–" if x is None else number(x).en,
    ),
)


def _told(alarm: Alarm, history: Sequence[AlarmEvent]) -> Iterator[Line]:
    before: Alarm | None = None
    for entry in history:
        yield Line(micros(entry.at), "told", _entry(entry, before))
        before = entry.alarm
    if alarm.closed_by == "log-ended":
        yield Line(
            None,
            "told",
            say(
                "Đóng lại khi nhật ký kết thúc, lúc đó vẫn chưa hết.",
                "Closed because its log ended; it was not over by then.",
            ),
        )


def _entry(entry: AlarmEvent, before: Alarm | None) -> Text:
    pattern = _TYPES[entry.type]
    told = {
        "priority": entry.alarm.priority,
        "by": ", ".join(getattr(entry.alarm, "suppressed_by", ()) or ()) or "–",
        "until": "–" if entry.alarm.shelved_until is None else clock(micros(entry.alarm.shelved_until)),
    }
    parts: list[Text | None] = [say(pattern.vi, pattern.en, **told)]
    if entry.actor is not None:
        parts.append(say(" bởi {x}", " by {x}", x=entry.actor))
    if entry.note:
        parts.append(say(": “{x}”", ": “{x}”", x=entry.note))
    why = None if entry.type in _BY_HAND else cause(entry.cause)
    if why is not None:
        parts.append(say(", vì {x}", ", because {x}", x=why))
    changed = [
        say(pattern.vi, pattern.en, a=shown(getattr(before, name)), b=shown(getattr(entry.alarm, name)))
        for name, pattern, shown in _CHANGES
        if before is not None and getattr(before, name) != getattr(entry.alarm, name)
    ]
    if changed:
        parts.append(say(" ({x})", " ({x})", x=joined(changed)))
    return glued(*parts)


def cause(text: str | None) -> Text | None:
    """What made the detector say something else, in words; None where it was only time, or the sample itself."""
    if text is None:
        return None
    word, _, rest = text.partition(" ")
    if word == "stored":
        return say("đã nhận số liệu {x}", "{x} came", x=rest)
    if word == "conflict":
        return say(
            "số liệu {x} sửa hoặc trái với số liệu trước",
            "{x} corrects or contradicts what was there",
            x=rest,
        )
    if text.startswith("rules version "):
        return say(
            "luật phiên bản {x} có hiệu lực", "rules version {x} came into force", x=text.rpartition(" ")[2]
        )
    if text.startswith("merged:"):
        return say("gộp với báo động {x}", "it is one with the alarm {x}", x=text.partition(":")[2])
    return say("{x}", "{x}", x=text)


# --- on what it rests ---------------------------------------------------------------------------------------------------


def _proof(proof: Proof) -> Iterator[Line]:
    carried = len(proof.samples) if is_wide(proof) else len(cited(proof))
    if proof.minimal:
        rests = say(
            "Suy ra từ {n} (thiếu một sự kiện là khác) trong {used} sự kiện đã xét kể từ {t}",
            "It follows from {n}, none of which can be left out, of {used} looked at since {t}",
            n=_events(carried),
            used=proof.used,
            t=clock(micros(proof.since)),
        )
    else:
        rests = say(
            "Suy ra từ mọi số liệu: {used} sự kiện đã xét, mang theo {n}, kể từ {t}",
            "Every event counts: {used} looked at since {t}, {n} carried here",
            n=_events(carried),
            used=proof.used,
            t=clock(micros(proof.since)),
        )
    yield Line(None, "proof", glued(rests, say("; niêm phong {s}", "; sealed as {s}", s=proof.seal)))


def _events(n: int) -> Text:
    return say("{n} sự kiện", "1 event" if n == 1 else "{n} events", n=n)
