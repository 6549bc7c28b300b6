"""`citywatch console`: the operations centre's page and its API, over the log and the store."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from commands.output import teach
from commands.reach import broker
from commands.worker import end_with_parent

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
    parser.add_argument(
        "--tied",
        action="store_true",
        help="end when standard input closes, that is when who started it is gone",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    place = broker(settings)
    from commands.world import running  # noqa: PLC0415 - Kafka's clients take half a second to import
    from console import serve  # noqa: PLC0415 - as above, and so does FastAPI
    from settings import Console, Kafka  # noqa: PLC0415
    from streams import logs  # noqa: PLC0415

    kafka = settings.kafka
    there = running(settings.data.dir)
    if kafka.bootstrap is None and there is not None:
        kafka = Kafka(
            bootstrap=there.bootstrap,
            prefix=there.prefix,
            clock="writer" if there.clock == "writer" else "log",
            log_id=there.log_id,
            embedded=there.embedded,
        )
    asked = {"host": args.host, "port": args.port}
    console = Console(
        **{**settings.console.model_dump(), **{k: v for k, v in asked.items() if v is not None}}
    )
    logs.set_up_logging(settings)
    if args.tied:
        threading.Thread(target=end_with_parent, daemon=True).start()
    settings = settings.model_copy(update={"kafka": kafka, "console": console})
    serve.run(settings, place.bootstrap, kafka.log_id)
    return 0
