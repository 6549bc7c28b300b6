"""`citywatch console`: the operations centre's page and its API, over the log and the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from commands.output import UsageError, teach
from commands.reach import broker
from commands.tied import option_tied, tie
from settings import Console, Kafka

if TYPE_CHECKING:
    import argparse

    from settings import Settings

_ABOUT = """\
Serve the operations centre's page and its HTTP API.

It reads the alarms from the log, without a group, and the past from the store; any number may run. Without
CITYWATCH_KAFKA__BOOTSTRAP it finds the `citywatch up` that runs on the data folder."""

_EXAMPLES = """\
  citywatch console
  citywatch console --port 8090 --data /tmp/city
  CITYWATCH_KAFKA__BOOTSTRAP=kafka:9092 citywatch console --host 0.0.0.0"""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, _ABOUT, _EXAMPLES)
    parser.add_argument("--port", type=int, metavar="N", help="instead of CITYWATCH_CONSOLE__PORT")
    parser.add_argument("--host", metavar="ADDRESS", help="instead of CITYWATCH_CONSOLE__HOST")
    option_tied(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    settings = settings.model_copy(update={"kafka": _kafka(settings), "console": _console(args, settings)})
    from console import serve  # noqa: PLC0415 - FastAPI and Kafka's clients take a second to import
    from streams import logs  # noqa: PLC0415 - as above

    logs.set_up_logging(settings)
    tie(args)
    assert settings.kafka.bootstrap is not None
    serve.run(settings, settings.kafka.bootstrap, settings.kafka.log_id)
    return 0


def _kafka(settings: Settings) -> Kafka:
    """The broker of the settings, else that of the `up` that runs on the data folder. Raises UnreachableError."""
    place = broker(settings)
    if settings.kafka.bootstrap is not None:
        return settings.kafka
    from commands.folder import running  # noqa: PLC0415 - as above

    there = running(settings.data.dir)
    return Kafka(
        bootstrap=place.bootstrap,
        prefix=place.prefix,
        clock="writer" if place.replay else "log",
        log_id=None if there is None else there.log_id,
        embedded=place.embedded,
    )


def _console(args: argparse.Namespace, settings: Settings) -> Console:
    asked = {"host": args.host, "port": args.port}
    said = settings.console.model_dump() | {name: value for name, value in asked.items() if value is not None}
    try:
        return Console(**said)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise UsageError(f"--{wrong['loc'][0]} {wrong['input']}: {wrong['msg']}") from None
