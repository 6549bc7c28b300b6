"""The command line: which command, on which data folder, and what an error means to the shell."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING

from commands.output import UsageError, did_you_mean, option_data, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from settings import Settings

#: Each with its module, imported when the command is used and not before, and what it is for.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("commands.up", "run everything in one terminal: broker, workers, store"),
    "replay": ("commands.replay", "feed recorded input, judge and store it, print the ledger"),
    "simulate": ("commands.simulate", "a simulated Hạ Long, live or in a world of its own"),
    "score": ("commands.score", "compare the alarms with what really happened in the simulated city"),
    "mapping": ("commands.mapping", "feeds described in YAML: list them, try one on a file"),
    "alarms": ("commands.alarms", "what is raised now; acknowledge it"),
    "explain": ("commands.explain", "why there is an alarm: its story, derived again"),
    "why-not": (
        "commands.whynot",
        "why a rule did not sound: the clause that failed, or what was in the way",
    ),
    "query": ("commands.query", "ask the store for history"),
    "ledger": ("commands.ledger", "whether everything that came in is accounted for"),
    "rejected": ("commands.rejected", "what was no valid event: list, show, send again"),
    "tail": ("commands.tail", "print the records of a topic as they come"),
    "rules": (
        "commands.rules",
        "the rules: list, lint, test, try on what was recorded, put in force, take back",
    ),
    "topics": ("commands.topics", "the topics: list them, compare with the broker, put it right"),
    "schemas": ("commands.schemas", "the contracts for subscribers: write them, check them"),
    "dashboards": ("commands.dashboards", "Grafana's pages: write them, check them"),
    "console": ("commands.console", "the operations centre's page and its API"),
    "worker": ("commands.worker", "one worker, or one of each role: what a service manager runs"),
    "doctor": ("commands.doctor", "look at every part, say what is wrong and what to do"),
    "backup": ("commands.backup", "copy what only this machine has, while everything runs"),
    "restore": ("commands.restore", "bring a backup back, and have the log fill what came since"),
    "rewind": ("commands.rewind", "have a group read the log again: rebuild a store, a judge"),
    "erase": ("commands.erase", "take a person's data out of what was refused and kept"),
}

#: What an error means to the shell, by its full name: none is imported before it is raised. 2: wrong use or bad
#: configuration; 3: a part cannot be reached. An error that is not here is a fault of ours, and shows where it is.
CODES: dict[str, int] = {
    "commands.output.UsageError": 2,
    "bus.topics.EngineError": 2,
    "settings.SettingsError": 2,
    "rules.load.RulesError": 2,
    "sources.mapping_grammar.MappingError": 2,
    "sources.tokens.TokenKeyError": 2,
    "commands.world.BusyError": 2,
    "commands.world.BrokenError": 3,
    "bus.clients.UnreachableError": 3,
    "bus.clients.NotAcknowledgedError": 3,
    "bus.embedded.EmbeddedUnavailableError": 3,
    "bus.apache.KafkaMissingError": 3,
    "sinks.influxd.InfluxMissingError": 3,
    "commands.real.MissingError": 3,
    "commands.servers.ServerError": 3,
    "kafka.errors.KafkaError": 3,
    "aiokafka.errors.KafkaError": 3,
    "sinks.contract.StoreError": 3,
    "sinks.contract.Unavailable": 3,
    "builtins.FileNotFoundError": 2,
    "builtins.FileExistsError": 2,
    "builtins.NotADirectoryError": 2,
    "builtins.IsADirectoryError": 2,
    "builtins.PermissionError": 2,
    "builtins.OSError": 3,
}

#: The same for those whose descendants (KeyError, say) would be faults.
EXACT: dict[type[BaseException], int] = {ValueError: 2, LookupError: 3}

ENDED = 130

_MORE = """\
begin with:
  citywatch up                                 everything, in this terminal
  citywatch doctor                             is all well? (in another terminal)
  citywatch replay FILE --mapping NAME         recorded input instead of sensors; `citywatch mapping list`
  citywatch COMMAND --help                     what a command does, with examples

exit codes: 0 well; 1 a finding (a test failed, a ledger does not balance); 2 wrong use or bad configuration;
3 a part cannot be reached. Results are on stdout, messages on stderr. Settings are CITYWATCH_<PART>__<NAME>.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns what the shell is told."""
    words = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a terminal that knows no Vietnamese still gets the rest
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return ENDED
    except BrokenPipeError:
        _forget_stdout()
        return ENDED
    except Exception as error:
        known = _code(error)
        if known is None:
            raise
        _explain(error)
        return known
    return code


def _run(words: list[str]) -> int:
    chosen = next((word for word in words if not word.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        raise UsageError(f"there is no command {chosen}{did_you_mean(chosen, COMMANDS)}")
    parser = _parser(chosen)
    if not words:
        parser.print_help(sys.stderr)
        return 2
    try:
        args = parser.parse_args(words)
    except SystemExit as end:  # argparse has said what it had to say
        return int(end.code or 0)
    return int(args.run(args, _settings(args)))


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser of one command; of the others only what they are for."""
    parser = argparse.ArgumentParser(
        prog="citywatch",
        description="Event streaming for a city's operations centre: from a sensor to an alarm.",
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, about) in COMMANDS.items():
        said = f"{about[0].upper()}{about[1:]}."
        command = commands.add_parser(
            name, help=about, description=said, parents=[option_data()], allow_abbrev=False
        )
        if name == chosen:
            importlib.import_module(module).add(command)
    return parser


def _settings(args: argparse.Namespace) -> Settings:
    from commands.folder import with_store  # noqa: PLC0415 - as below
    from settings import Data, read  # noqa: PLC0415 - not needed for --help, and pydantic takes its time

    found = read(os.environ)
    if found.kafka.security != "PLAINTEXT":
        from bus import security  # noqa: PLC0415 - as above

        security.use(found.kafka)
    data = getattr(args, "data", None)
    if data is not None:
        found = found.model_copy(update={"data": Data(dir=data)})
    return found if getattr(args, "begins", False) else with_store(found)


def _code(error: Exception) -> int | None:
    if type(error) in EXACT:
        return EXACT[type(error)]
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)
    return next((CODES[name] for name in names if name in CODES), None)


def _explain(error: Exception) -> None:
    """Problems with their file and line stand alone, so that an editor finds them."""
    if hasattr(error, "problems"):
        print(error, file=sys.stderr)
    else:
        tell(getattr(error, "reason", None) or str(error) or type(error).__name__)


def _forget_stdout() -> None:
    """Nobody reads it any more; Python would still flush it on its way out, and complain."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
