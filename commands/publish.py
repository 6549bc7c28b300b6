"""Putting rules in force on a city that runs: read, checked as a whole, published, and told on the platform's own topic."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

import rules
from commands.output import UsageError
from models.platform import PlatformEvent
from rules import load
from rules.spec import RuleSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from commands.reach import Broker
    from models.base import Micros
    from rules.lint import Finding

#: With whatever set is in force, the platform's own alarms are: who refuses a file must be able to say so.
OWN = Path(rules.__file__).parent / "platform.yaml"

#: The part of the platform that reads files of rules.
COMPONENT = "rules"

_ACK_S = 30


class Checked(NamedTuple):
    """A set that may be put in force, and what lint says of it."""

    rules: RuleSet
    findings: tuple[Finding, ...]


def read(files: Sequence[str | Path]) -> RuleSet:
    """The rules in these files as they are put in force: with our own. Raises RulesError."""
    return _with_own(load.load(files))


def checked(files: Sequence[str | Path]) -> Checked:
    """As `read`; a set of which a test fails is none. Raises RulesError with the file and line of everything wrong."""
    from rules.lint import lint  # noqa: PLC0415 - the name is ours here
    from rules.proof import interval_judge  # noqa: PLC0415 - who only reads needs no judge
    from rules.testing import parse_tests, run  # noqa: PLC0415

    found = load.read(files)
    tests = parse_tests(files)
    failed = [
        f"{test.file}:{test.line}: {test.rule.id}: test {test.name!r}: {said[0]}"
        for test in tests
        if (said := run(test, interval_judge))
    ]
    if failed:
        raise load.RulesError(failed)
    return Checked(_with_own(found.rules), tuple(lint(found.rules, tests, found.where)))


def published(version: int, canonical: bytes) -> RuleSet:
    """A set as the log has it. Raises RulesError, in one line, for one that this version of citywatch cannot read."""
    try:
        return RuleSet.parse(canonical)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        why = f"{'.'.join(map(str, first['loc']))}: {' '.join(first['msg'].split())}".removeprefix(": ")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise load.RulesError([f"version {version} cannot be read by this citywatch: {why}{more}"]) from None


def _with_own(found: RuleSet) -> RuleSet:
    """Our own rules stand in a set that says nothing of the platform itself."""
    if found.of(PlatformEvent.topic.name):
        return found
    own = load.load(OWN).rules
    return found.model_copy(update={"rules": tuple(sorted((*found.rules, *own), key=lambda rule: rule.id))})


def may_publish(place: Broker) -> None:
    """Raises UsageError where the only clock is the input: its rules are given with it."""
    if place.replay or place.prefix:
        raise UsageError(
            f"{place.prefix or place.bootstrap} is the world of a replay, whose only clock is its input: its rules are given "
            "with `citywatch replay --rules`"
        )


def say(place: Broker, kind: str, detail: str, now: Micros) -> None:
    """Tell on the platform's own topic what became of a file of rules. Raises UnreachableError."""
    from kafka.errors import KafkaError  # noqa: PLC0415 - Kafka's clients take half a second to import

    from bus import clients  # noqa: PLC0415
    from bus.notice import platform_event  # noqa: PLC0415

    said = platform_event(place.prefix, "/citywatch", COMPONENT, kind, detail, now)
    with closing(clients.producer(place.bootstrap)) as producer:
        try:
            producer.send(**said).get(_ACK_S)
        except KafkaError as error:
            raise clients.UnreachableError(f"{place.bootstrap} did not take {kind}: {error!r}") from error
