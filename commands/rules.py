"""`citywatch rules`: what is watched, whether it is well said, and whether it does what its tests say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rules
from commands import backtest, reload
from commands.output import option_json, part, parts, print_json, table, teach, tell
from rules.load import read
from rules.testing import parse_tests

if TYPE_CHECKING:
    import argparse

    from settings import Settings

ABOUT = """\
Rules say when to tell somebody. They are YAML, with their tests beside them (docs/rules.md). Without FILE: the rules
that come with citywatch. `citywatch rules apply FILE` puts rules in force (docs/rule-changes.md)."""

LIST = """\
Print every rule: its kind, its topic, its priorities, its title, and where it stands."""

LINT = """\
Say what is legal and yet hardly meant: a rule without a test, an alarm that would flap, a level nobody sees.
One finding a line, `file:line: rule: message`. Exit code 1 when there is one that is no note, 2 when a file is wrong."""

TEST = """\
Run the tests beside the rules through the judge itself.
Each test's rule alone is in force; what an operator would have been told is compared with `expect`.
Exit code 1 when a test fails, 2 when a file is wrong."""


def add(parser: argparse.ArgumentParser) -> None:
    teach(
        parser, ABOUT, "  citywatch rules lint && citywatch rules test\n  citywatch rules test my-rules.yaml"
    )
    where = parts(parser)
    for name, about, run in (("list", LIST, show), ("lint", LINT, lint), ("test", TEST, test)):
        one = part(
            where, name, about, run, f"  citywatch rules {name}\n  citywatch rules {name} my-rules.yaml"
        )
        one.add_argument(
            "files", nargs="*", type=Path, metavar="FILE", help="a file, or a folder with *.yaml"
        )
        option_json(one)
    backtest.add(where)
    reload.add(where)


def _files(args: argparse.Namespace) -> list[Path]:
    return args.files or [Path(rules.__file__).parent]


def show(args: argparse.Namespace, _: Settings) -> int:
    loaded = read(_files(args))
    found: list[dict[str, Any]] = [
        {
            "rule": rule.id,
            "kind": rule.kind,
            "on": getattr(rule, "on", None),  # None: over signals
            "priorities": list(rule.priorities),
            "title": rule.title.model_dump(),
            "file": loaded.where[rule.id].file,
            "line": loaded.where[rule.id].line,
        }
        for rule in (*loaded.rules.rules, *loaded.rules.wide)
    ]
    if args.json:
        print_json(found)
    else:
        rows = [
            (
                one["rule"],
                one["kind"],
                one["on"] or "signals",
                " ".join(one["priorities"]),
                one["title"]["en"],
            )
            for one in found
        ]
        print(table(("rule", "kind", "on", "priorities", "title"), rows))
    return 0


def lint(args: argparse.Namespace, _: Settings) -> int:
    from rules.lint import lint as findings_of  # noqa: PLC0415 - the name is ours here

    loaded = read(_files(args))
    findings = findings_of(loaded.rules, parse_tests(_files(args)), loaded.where)
    if args.json:
        print_json([finding._asdict() for finding in findings])
    for finding in [] if args.json else findings:
        print(finding)
    serious = sum(not finding.note for finding in findings)
    tell(
        f"{len(loaded.rules.rules) + len(loaded.rules.wide)} rules, {serious or 'no'} finding{'' if serious == 1 else 's'}"
    )
    return 1 if serious else 0


def test(args: argparse.Namespace, _: Settings) -> int:
    from rules.proof import interval_judge  # noqa: PLC0415 - `list` needs no judge
    from rules.testing import run  # noqa: PLC0415 - the name is another's here

    read(_files(args))  # tests of rules that could not be put in force prove nothing
    tests = parse_tests(_files(args))
    wrong = [(one, said) for one in tests if (said := run(one, interval_judge))]
    if args.json:
        failed = [
            {"file": one.file, "line": one.line, "rule": one.rule.id, "test": one.name, "differences": said}
            for one, said in wrong
        ]
        print_json({"tests": len(tests), "failed": failed})
    else:
        for one, said in wrong:
            print(f"{one.file}:{one.line}: {one.rule.id}: {one.name}")
            for difference in said:
                print(f"  {difference}")
        print(f"{len(tests)} tests, {len(wrong)} failed")
    return 1 if wrong else 0
