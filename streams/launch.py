"""One worker process: which app, which store, how it logs; what `citywatch worker` runs."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

import faust

from bus import clients
from sinks.contract import Unavailable
from sinks.open import open_store
from streams import alarms, gate, health, judge, store
from streams.metrics import STARTED, Places, log

if TYPE_CHECKING:
    import asyncio

    from settings import Settings
    from sinks.contract import Store
    from streams.consumer import ChunkApp

Role = Literal["judge", "store", "alarms"]
ROLES: tuple[Role, ...] = ("judge", "store", "alarms")


#: A worker that was told to stop is gone within this time, also while the broker or the store answers nobody.
LEAVE_S = 4.0


class _Worker(faust.Worker):
    """Stops as Faust's does, and if that takes too long, at once: nothing is lost by it, some is done again."""

    def end(self) -> None:
        """Stop as a signal would have it."""
        self._schedule_shutdown(signal.SIGTERM)

    async def stop(self) -> None:
        leaving = threading.Timer(LEAVE_S, self._leave)
        leaving.daemon = True
        leaving.start()
        await super().stop()

    def _leave(self) -> None:
        log.warning(
            "broker or store keep this worker from stopping: it leaves, and what is not saved is done again"
        )
        logging.shutdown()
        app: Any = self.app
        if app.hopeless is not None:
            print(f"citywatch: {app.hopeless}", file=sys.stderr, flush=True)
            os._exit(2)
        os._exit(0 if self._signal_stop_time else 1)


def create(role: Role, settings: Settings) -> ChunkApp:
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
    return store.create(settings, bootstrap, log_id, _opened(settings))


def _opened(settings: Settings) -> Store:
    """The store, when it can be opened: a full disk or a lock is waited out."""
    while True:
        try:
            return open_store(settings)
        except Unavailable as outage:
            log.warning("waiting: the store does not answer: %s", outage.reason)
            time.sleep(outage.wait)


def run(role: Role, settings: Settings) -> None:
    """Run one worker until it is told to stop; does not return. A crash exits with 1.

    Raises SettingsError where its port is taken or topics are not as they must be, EngineError for rules of a greater engine.
    """
    gate.open_for(role, settings)
    app = create(role, settings)
    worker = _Worker(
        app, loglevel=settings.log.level.upper(), override_logging=False, redirect_stdouts=False, quiet=True
    )
    worker.spinner = None  # it writes escape sequences wherever stdout goes
    app.end = worker.end
    if settings.metrics.port:
        watch(role, app, settings, worker.loop)
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)
    try:
        worker.execute_from_commandline()
    finally:
        if app.hopeless is not None:
            raise app.hopeless


def watch(role: Role, app: ChunkApp, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
    """Serve what the worker says of itself, each role at a port of its own: one setting does for all of them."""
    assert settings.kafka.bootstrap is not None
    STARTED.labels(role).set_to_current_time()
    host, port = settings.metrics.host, settings.metrics.port + ROLES.index(role)
    health.serve(host, port, health.Watch(loop, app.unready))
    places, bootstrap = Places(role, settings.kafka.prefix, app), settings.kafka.bootstrap

    async def show() -> None:
        await places.run(bootstrap)

    app.task(show)
