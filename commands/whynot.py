"""`citywatch why-not`: why a rule did not sound of a subject at a moment."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import publish, recorded
from commands.output import UsageError, clean, did_you_mean, option_json, print_json, teach, tell
from commands.reach import ask, broker_if_any
from models.alarm import Alarm
from models.base import FIRST, LAST, Event, micros
from models.decode import Rejection
from rules import load
from rules.calendar import INF
from rules.spec import RuleSet
from rules.whynot import Asked, Heard, InForce, why_not
from rules.words import LANGS
from sinks.contract import StoreError, Unavailable
from sinks.open import may_hold
from sinks.query import format_time, parse_time

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from bus.topics import Published
    from commands.recorded import Source
    from models.base import Micros
    from rules.spec import AnyRule
    from rules.whynot import Answer
    from settings import Settings
    from sinks.contract import Record, Store

ABOUT = """\
Why there was no alarm. The recorded events of one subject are judged again up to the moment asked about, and the first
thing in the way is named: the rule was not in force, outside its calendar, the sensor out of service or BLIND, an event
late, rejected, counted once or replaced by another, a bound not met (and by how much), not for long enough, too few in
the window; or there was an alarm, and it was suppressed, taken back, or is there.

SUBJECT is the key of the rule's topic, its parts joined by a slash: bai-chay/ed."""

EXAMPLES = """\
  citywatch why-not road-jammed hl-cau-bai-chay-1 --at 2026-01-05T07:30+07:00
  citywatch why-not ed-crowded bai-chay/ed --at 2026-01-05T03:00:00Z --json
  citywatch why-not road-jammed s1 --at 2026-01-05T00:30Z --input recorded.jsonl --rules my.yaml"""

#: Who asks why nothing was heard wants to know since when.
_DAYS: Micros = 2 * 86_400_000_000


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    parser.add_argument("rule", metavar="RULE")
    parser.add_argument("subject", metavar="SUBJECT")
    parser.add_argument("--at", required=True, metavar="TIME", help="when it should have sounded")
    parser.add_argument("--lang", choices=LANGS, default="en", help="of the answer (default: en)")
    parser.add_argument(
        "--rules",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="these rules; else those in force then, or, where nothing runs, the shipped ones",
    )
    recorded.option_source(parser)
    option_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    try:
        at = parse_time(args.at)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--at: {error}") from None
    if not micros(FIRST) <= at < micros(LAST):
        raise UsageError(
            f"--at {args.at}: nothing is observed then; write a time from {FIRST.year} to {LAST.year - 1}"
        )
    line = _line(args.rules, settings)
    rule = _rule(args.rule, line)
    parts = args.subject.split("/")
    if len(parts) != len(rule.event.topic.key):
        raise UsageError(f"{args.subject!r}: a subject of {rule.on} is {'/'.join(rule.event.topic.key)}")
    source = recorded.source(args, settings)
    _tell_what_lacks(source, rule)
    from_ = at - _reach(rule)
    grace = source.grace_us
    asked = Asked(rule.id, args.subject, at, grace, from_)
    late = rule.event.topic.late_us if grace is None else grace
    events = _events(source, rule, args.subject, from_, at + late + 1)
    refused, alarms = _kept(settings, rule, args.subject, from_, at + late + 1)
    found = why_not(asked, line, sorted([*events, *refused], key=lambda h: h.stamp), alarms)
    if args.json:
        print_json(_as_json(asked, found, args.lang))
    else:
        _print(found, args.lang)
    return 0


# --- what is asked ------------------------------------------------------------------------------------------------------


def _line(files: list[Path] | None, settings: Settings) -> list[InForce]:
    """The sets of rules, in the order of the time from which they were in force."""
    if files:
        return [InForce(-INF, -1, load.load(files))]
    place = broker_if_any(settings)
    if place is not None:
        from bus.topics import history  # noqa: PLC0415 - Kafka's clients take half a second to import

        said = history(place.bootstrap, place.prefix)
        if said:
            return _readable(said)
    return [InForce(-INF, -1, load.default())]


def _readable(said: Sequence[Published]) -> list[InForce]:
    """The sets that this citywatch can read; of the others it is told. Raises RulesError if there are no more than those."""
    found: list[InForce] = []
    refused: list[str] = []
    for one in said:
        # The last one said replaces what was to come later than it.
        found = [entry for entry in found if entry.since < one.since]
        try:
            found.append(InForce(one.since, one.version, publish.published(one.version, one.canonical)))
        except load.RulesError as error:
            refused += error.problems
    if not found:
        raise load.RulesError([*refused, "no set of rules is left to ask: name one with --rules FILE"])
    for problem in refused:
        tell(f"{problem}; the answer is as if it had not been published")
    return found


def _rule(name: str, line: Sequence[InForce]) -> AnyRule:
    wide = {rule.id for entry in line for rule in entry.rules.wide}
    if name in wide:
        raise UsageError(f"{name} is a rule over signals: ask of one of the alarms that it looks at")
    known = {rule.id: rule for entry in line for rule in entry.rules.rules}
    if name not in known:
        raise UsageError(f"there is no rule {name}{did_you_mean(name, known)}")
    return known[name]


def _reach(rule: AnyRule) -> Micros:
    """How far back events may matter, and some more."""
    from rules.backtest import memory_us  # noqa: PLC0415 - it brings the judge

    if rule.kind == "schedule":
        return _DAYS
    return memory_us(RuleSet(rules=(rule.model_copy(update={"during": None}),))) + _DAYS


def _tell_what_lacks(source: Source, rule: AnyRule) -> None:
    lacking = sorted(source.lacks(rule.on) & set(rule.names))
    read = {name for _, text in rule.conditions() for name in rule.compile(text).names}
    read |= {name for _, text in rule.choices() for name in rule.compile_where(text).names}
    missing = [name for name in lacking if name in read]
    if missing:
        tell(
            f"{rule.id} reads {', '.join(missing)}, which is not kept there: say --log while the broker runs"
        )


def _events(source: Source, rule: AnyRule, subject: str, from_: Micros, to: Micros) -> Iterator[Heard]:
    key_of = rule.event.topic.key_of
    for one in source.read([rule.on], from_, to):
        if isinstance(one.found, Event) and key_of(one.found) == subject:
            yield Heard(one.stamp, one.found, -1 if one.offset is None else one.offset, one.digest, one.late)


def _kept(
    settings: Settings, rule: AnyRule, subject: str, from_: Micros, to: Micros
) -> tuple[list[Heard], list[Alarm]]:
    """What the store has of it: records of this subject that were rejected, and alarms of the rule."""
    if not may_hold(settings):
        return [], []

    async def answer(store: Store) -> tuple[list[Record], list[Record]]:
        rejects = await store.kept("rejected", where=[("topic", rule.on)], from_=from_)
        return rejects, await store.kept("alarm", where=[("rule", rule.id)])

    try:
        rejects, alarms = ask(settings, answer)
    except (StoreError, Unavailable) as error:
        tell(f"the store cannot be asked for rejects and alarms: {error}")
        return [], []
    refused = [
        Heard(r.time, Rejection(r.body["reason"], r.body["detail"]))
        for r in rejects
        if r.time < to and _is_of(r.body, subject)
    ]
    return refused, [Alarm.model_validate(r.body) for r in alarms]


def _is_of(reject: dict[str, Any], subject: str) -> bool:
    """Whether a record that was no event came of this subject: by its key, else by what stands in its bytes."""
    if reject.get("key"):
        return base64.b64decode(reject["key"]) == subject.encode()
    raw = base64.b64decode(reject["bytes"])
    return all(part.encode() in raw for part in subject.split("/"))


# --- telling ------------------------------------------------------------------------------------------------------------


def _as_json(asked: Asked, found: Answer, lang: str) -> dict[str, Any]:
    return {
        "rule": asked.rule,
        "subject": asked.subject,
        "at": format_time(asked.at),
        "cause": found.code,
        "text": getattr(found.text, lang),
        "also": [getattr(text, lang) for text in found.also],
        "alarm_id": found.alarm_id,
        "missing_s": None if found.missing_us is None else found.missing_us / 1e6,
        "clauses": [
            {
                "clause": clause.code,
                "value": clause.value,
                "bound": clause.bound,
                "by": clause.by,
                "text": getattr(clause.text, lang),
            }
            for clause in found.clauses
        ],
    }


def _print(found: Answer, lang: str) -> None:
    print(f"{found.code}: {clean(getattr(found.text, lang))}")
    for text in found.also:
        print(f"  {clean(getattr(text, lang))}")
