"""`citywatch ledger`: whether everything that came in is accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from commands import output, reach
from commands.output import UsageError, option_json, print_json, teach, tell
from sinks.ledger import ledger

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from audit.live import Recount, World
    from settings import Settings
    from sinks.contract import Store
    from sinks.ledger import Line

ABOUT = """\
Nothing is lost in silence: for each topic, accepted = stored + late + duplicate + conflict + rejected.
`stored` is counted in the store itself, `rejected` among the rejects that are kept; the others are the account that the
ledger's worker makes from the topics, apart from judge and store. What is in the log and not yet accounted for is
`waiting`, and no part of the equation. Exit code 1 when a topic does not add up.

With --recount all that the log has is counted again, and every account of it is compared: a forged one is named."""

EXAMPLES = """\
  citywatch ledger
  citywatch ledger --recount
  citywatch ledger --json --data /tmp/la | jq '.topics[] | select(.exact | not)'"""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    parser.add_argument(
        "--recount", action="store_true", help="count the topics again, from their oldest record on"
    )
    option_json(parser, "for programs: one object, `topics` by name")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    lines, again = _ask(args, settings)
    wrong = {name: line for name, line in lines.items() if not line.exact}
    forged = [] if again is None else [str(difference) for difference in again.differences]
    if args.json:
        said = {} if again is None else {"recounted": again.records, "forged": forged}
        print_json({"topics": {name: line.json() for name, line in lines.items()}, **said})
    elif lines:
        print(table(lines))
    else:
        tell("nothing has come in yet")
    for name, line in wrong.items():
        tell(f"{name}: {_said(line)}")
    for difference in forged:
        tell(difference)
    if again is not None:
        _tell_recount(again)
    return 1 if wrong or forged else 0


def _ask(args: argparse.Namespace, settings: Settings) -> tuple[dict[str, Line], Recount | None]:
    """Without a log, or where it cannot be reached, by the accounts that are in the store."""
    if reach.broker_if_any(settings) is None:
        if args.recount:
            raise UsageError(
                "--recount reads the log, and none runs here: start `citywatch up`, or set a Kafka"
            )
        return reach.ask(settings, ledger), None
    from bus.clients import UnreachableError  # noqa: PLC0415 - Kafka's clients take half a second to import

    try:
        world = _world(settings)
        return reach.ask(settings, lambda store: _asked(store, world, recounted=args.recount))
    except UnreachableError as error:
        if args.recount:
            raise
        tell(f"{error}; by what is in the store:")
        return reach.ask(settings, ledger), None


async def _asked(store: Store, world: World, *, recounted: bool) -> tuple[dict[str, Line], Recount | None]:
    """The account of the log that runs comes first, then the store, then the end of the log: so nothing seems missing."""
    from audit import live  # noqa: PLC0415 - as above

    known = await live.accounts(world)
    lines = await ledger(store, live.live(world, known))
    if not recounted:
        return lines, None
    return lines, await live.recount(world, known, await store.kept("ledger"))


def _world(settings: Settings) -> World:
    """The log that runs. Raises UnreachableError."""
    from audit.live import World  # noqa: PLC0415 - as above
    from bus import clients  # noqa: PLC0415
    from commands.folder import running  # noqa: PLC0415

    place = reach.broker(settings)
    there = running(settings.data.dir)
    if there is not None and there.bootstrap == place.bootstrap:
        log_id = there.log_id
    else:
        log_id = settings.kafka.log_id or clients.log_id(place.bootstrap)
    return World(place.bootstrap, place.prefix, log_id, settings.grace_us)


def _said(line: Line) -> str:
    if line.missing > 0:
        return f"{line.missing:,} accepted and found nowhere"
    if line.missing < 0:
        return f"{-line.missing:,} more found than accepted"
    return f"{line.forgotten:,} were gone from the log before they could be accounted for"


def _tell_recount(again: Recount) -> None:
    tell(f"counted {again.records:,} records again")
    for (topic, partition), offset in again.forgotten.items():
        tell(
            f"{topic}/{partition}: the log begins at offset {offset:,}; what was before cannot be counted again"
        )


def table(lines: Mapping[str, Line]) -> str:
    """The account of every topic, a line each."""
    columns = ["accepted", "stored", "late", "duplicate", "conflict", "rejected"]
    columns += [
        more for more in ("waiting", "unaccounted") if any(getattr(line, more) for line in lines.values())
    ]
    rows = [(name, *(getattr(line, c) for c in columns), line.exact) for name, line in lines.items()]
    return output.table(("topic", *columns, "exact"), rows)
