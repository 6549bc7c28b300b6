"""`citywatch ledger`: whether everything that came in is accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from commands import output, reach
from commands.output import option_json, print_json, teach, tell
from sinks.ledger import ledger

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from settings import Settings
    from sinks.ledger import Line

ABOUT = """\
Nothing is lost in silence: for each topic, accepted = stored + late + duplicate + conflict + rejected.
`stored` is counted in the store itself, `rejected` among the rejects that are kept, the others are what the judge
counted. Exit code 1 when a topic does not add up. While events flow, the parts are counted at different moments:
ask again when it is quiet."""

EXAMPLES = """\
  citywatch ledger
  citywatch ledger --json --data /tmp/la | jq '.topics[] | select(.exact | not)'"""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    option_json(parser, "for programs: one object, `topics` by name")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    lines = reach.ask(settings, ledger)
    wrong = {name: line for name, line in lines.items() if not line.exact}
    if args.json:
        print_json({"topics": {name: line.json() for name, line in lines.items()}})
    elif lines:
        print(table(lines))
    else:
        tell("nothing has come in yet")
    for name, line in wrong.items():
        tell(f"{name}: {_said(line.missing)}")
    return 1 if wrong else 0


def _said(missing: int) -> str:
    if missing > 0:
        return f"{missing:,} accepted and found nowhere; if events still flow, ask again"
    return f"{-missing:,} more found than accepted; if events still flow, ask again"


def table(lines: Mapping[str, Line]) -> str:
    """The account of every topic, a line each."""
    columns = ("accepted", "stored", "late", "duplicate", "conflict", "rejected")
    rows = [(name, *(getattr(line, c) for c in columns), line.exact) for name, line in lines.items()]
    return output.table(("topic", *columns, "exact"), rows)
