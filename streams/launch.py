"""One worker process: which app, which store, how it logs; what `citywatch worker` runs."""

from __future__ import annotations

import gc
import json
import logging
import sys
from typing import TYPE_CHECKING, Any, Literal

import faust

from bus import clients
from sinks.open import open_store
from streams import alarms, judge, store

if TYPE_CHECKING:
    from settings import Settings

Role = Literal["judge", "store", "alarms"]
ROLES: tuple[Role, ...] = ("judge", "store", "alarms")

#: What Faust says at every start and rebalance is of interest to Faust's own developers.
_QUIET = ("faust", "mode", "aiokafka", "kafka", "asyncio", "streams.consumer")


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def set_up_logging(settings: Settings) -> None:
    """Logs go to stderr; stdout is for what programs read."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log.format == "json":
        handler.setFormatter(_Json())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.log.level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


def create(role: Role, settings: Settings) -> faust.App:
    """The Faust app of a role. Raises UnreachableError, LookupError (no log id), StoreError."""
    bootstrap = settings.kafka.bootstrap
    if bootstrap is None:
        raise LookupError("a worker needs a broker: set CITYWATCH_KAFKA__BOOTSTRAP, or run `citywatch up`")
    log_id = settings.kafka.log_id or clients.log_id(bootstrap)
    settings.data.dir.mkdir(parents=True, exist_ok=True)
    if role == "judge":
        return judge.create(settings, bootstrap, log_id)
    if role == "alarms":
        return alarms.create(settings, bootstrap, log_id)
    return store.create(settings, bootstrap, log_id, open_store(settings))


def run(role: Role, settings: Settings) -> None:
    """Run one worker until it is told to stop; does not return. A crash exits with 1."""
    app = create(role, settings)
    worker = faust.Worker(
        app, loglevel=settings.log.level.upper(), override_logging=False, redirect_stdouts=False, quiet=True
    )
    worker.spinner = None  # it writes escape sequences wherever stdout goes
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)
    worker.execute_from_commandline()
