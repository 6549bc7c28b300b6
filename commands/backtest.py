"""`citywatch rules backtest`: what other rules would have told of what was recorded. Nothing leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import publish, recorded
from commands.output import UsageError, option_json, part, print_json, table, tell
from commands.reach import broker_if_any
from commands.score import read as read_truth
from models.alarm import PRIORITIES
from models.base import Event
from models.decode import Rejection
from rules import load
from rules.changes import fields_of
from rules.score import Span
from rules.spec import Registry
from sinks.query import format_time, parse_time

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from commands.recorded import Source
    from models.base import Micros
    from rules.backtest import Backtest, Name, Report
    from rules.spec import RuleSet
    from settings import Settings

ABOUT = """\
Judge recorded events by other rules, and print what is different. Nothing is sent anywhere.
The candidate's files are the whole set, as `rules apply` would put it in force; without sensors in them, the registry is
the base's. Both sets judge the same records: alarms that are new, lost, earlier or later, how many an operator
has in ten minutes, minutes of flood (from more than 10 in ten minutes until fewer than 5), and, with --truth, which
incidents are missed. Exit code 1 where the candidate misses an incident that the base finds."""

EXAMPLES = """\
  citywatch rules backtest --rules my-rules/
  citywatch rules backtest --rules new.yaml --against old.yaml --store --from 2026-11-25T07:00:00+07:00
  citywatch rules backtest --rules new.yaml --input los_speed.csv --mapping metr-la --json"""

NAMES: tuple[Name, ...] = ("base", "candidate")

#: Rows of differences that a person is shown.
SHOWN = 60


def add(where: Any) -> None:
    parser = part(where, "backtest", ABOUT, run, EXAMPLES)
    parser.add_argument("--rules", nargs="+", type=Path, required=True, metavar="FILE", help="the candidate")
    parser.add_argument(
        "--against",
        nargs="+",
        default=["current"],
        metavar="current|FILE",
        help="the base: the set in force, or the shipped one where nothing runs (default); or files",
    )
    parser.add_argument(
        "--from", dest="from_", metavar="TIME", help="compare from then on; what was before is only known"
    )
    parser.add_argument("--to", metavar="TIME", help="up to then")
    parser.add_argument(
        "--truth", type=Path, metavar="FILE", help="what really happened, as `citywatch simulate` writes it"
    )
    parser.add_argument("--operators", type=int, default=1, metavar="N", help="who share the alarms (1)")
    recorded.option_source(parser)
    option_json(parser)


def run(args: argparse.Namespace, settings: Settings) -> int:
    from rules.backtest import Backtest, memory_us, report  # noqa: PLC0415 - `rules list` needs no judge

    if args.operators < 1:
        raise UsageError(f"--operators {args.operators}: write a whole number, 1 or more")
    from_, to = (None if text is None else parse_time(text) for text in (args.from_, args.to))
    if from_ is not None and to is not None and from_ >= to:
        raise UsageError(f"--from {args.from_} is not before --to {args.to}")
    source = recorded.source(args, settings)
    base, called = _base(args.against, settings, foreign=bool(args.mapping))
    candidate = _registered(load.load(args.rules), base)
    since = None if from_ is None else from_ - max(memory_us(base), memory_us(candidate))
    backtest = Backtest(base, candidate, since, source.grace_us)
    names = [name for name in backtest.topics if not args.topic or name in args.topic]
    _tell_what_lacks(source, base, candidate, names)
    refused = _judge(backtest, source, names, since, to)
    if backtest.first is None:
        raise UsageError(f"{source.name} has nothing of {', '.join(names) or 'any topic that has a rule'}")
    end = backtest.last + 1 if to is None else to
    backtest.end(end)
    span = Span(backtest.first if from_ is None else from_, end)
    truth = None if args.truth is None else read_truth(args.truth, end)
    found = report(backtest, span, args.operators, truth)
    counts = {**backtest.counts(), "rejected": refused}
    if args.json:
        print_json({"source": source.name, "against": called, "events": counts, **found.json()})
    else:
        tell(f"against {called}, over {source.name}")
        _print(found, counts)
    return 1 if found.newly_missed else 0


def _base(words: list[str], settings: Settings, *, foreign: bool) -> tuple[RuleSet, str]:
    """The set to compare with, and what it is called. Ours know no sensor of somebody else's recording."""
    if words != ["current"]:
        return load.load(words), ", ".join(words)
    if foreign:
        return load.default().model_copy(
            update={"registry": Registry()}
        ), "the shipped rules, without sensors"
    place = broker_if_any(settings)
    if place is not None:
        from bus.topics import latest_rules  # noqa: PLC0415 - Kafka's clients take half a second to import

        latest = latest_rules(place.bootstrap, place.prefix)
        if latest is not None:
            try:
                return publish.published(*latest), f"version {latest[0]}, which is in force"
            except load.RulesError as error:
                raise UsageError(f"{error}; name what to compare with: --against FILE") from None
    return load.default(), "the shipped rules"


def _registered(candidate: RuleSet, base: RuleSet) -> RuleSet:
    """A change of rules is mostly none of the registry: a candidate that names no sensor has the base's."""
    if candidate.registry.sensors or not base.registry.sensors:
        return candidate
    tell(f"the candidate names no sensors: it is judged with the {len(base.registry.sensors)} of the base")
    return candidate.model_copy(update={"registry": base.registry})


def _tell_what_lacks(source: Source, base: RuleSet, candidate: RuleSet, names: list[str]) -> None:
    """Of rules that read what was not kept nothing can be said, and nobody may take their silence for an answer."""
    for topic in names:
        lacking = source.lacks(topic)
        rules = {rule.id: rule for found in (base, candidate) for rule in found.of(topic)}
        for rule in rules.values():
            blind = sorted(fields_of(rule) & lacking)
            if blind:
                tell(
                    f"{rule.id} reads {', '.join(blind)}, which is not kept there: of it nothing can be said"
                )


def _judge(
    backtest: Backtest, source: Source, names: list[str], since: Micros | None, to: Micros | None
) -> int:
    """Give it everything; how many records were no events."""
    refused = 0
    event, passed = backtest.event, backtest.passed
    for topic, partition, _, stamp, found, digest, _, _ in source.read(names, since, to):
        if isinstance(found, Event):
            event(topic, partition, stamp, found, digest)
        elif isinstance(found, Rejection):
            refused += 1  # moves no clock
        else:
            passed(topic, partition, stamp)
    return refused


def _print(found: Report, counts: dict[str, int]) -> None:
    span = found.span
    hours = (span.end - span.start) / 3_600_000_000
    said = ", ".join(f"{n:,} {what}" for what, n in counts.items() if n)
    print(f"{format_time(span.start)} to {format_time(span.end)} ({hours:.1f} h): {said}")
    print(table(("", "base", "candidate"), _figures(found)))
    rows = list(found.changes())
    if rows:
        print()
        print(table(("what", "rule", "whom", "when", "how"), rows[:SHOWN]))
    if len(rows) > SHOWN:
        print(f"and {len(rows) - SHOWN:,} more: --json has them all")
    difference = found.difference
    print(
        f"{len(difference.new)} new, {len(difference.lost)} lost, {len(difference.moved)} changed, "
        f"{len(difference.same)} the same"
    )
    for name in found.newly_missed:
        print(f"missed by the candidate alone: {name}")


def _figures(found: Report) -> Iterator[tuple[str, Any, Any]]:
    base, candidate = found.loads["base"], found.loads["candidate"]
    yield "alarms with a sound", base.alarms, candidate.alarms
    for priority in PRIORITIES:
        of_base, of_candidate = (sum(a.priority == priority for a in found.alarms[name]) for name in NAMES)
        if of_base or of_candidate:
            yield f"  {priority}", of_base, of_candidate
    yield "suppressed by design", found.suppressed["base"], found.suppressed["candidate"]
    yield "an operator in 10 min, mean", round(base.mean, 2), round(candidate.mean, 2)
    yield "an operator in 10 min, worst", round(base.worst, 1), round(candidate.worst, 1)
    yield "minutes of flood", round(base.flood_minutes, 1), round(candidate.flood_minutes, 1)
    if found.scores is not None:
        mine, its = found.scores["base"], found.scores["candidate"]
        yield f"incidents missed, of {len(mine.counted)}", len(mine.missed), len(its.missed)
        yield "alarms of nothing that happened", len(mine.false), len(its.false)
