"""The parts that commands speak to, and how each is found: the store, the broker, a topic by its name."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from commands.folder import running, stopped_store
from commands.output import UsageError, did_you_mean
from models import catalogue
from sinks.contract import Unavailable
from sinks.open import open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from settings import Settings
    from sinks.contract import Store

T = TypeVar("T")


class Broker(NamedTuple):
    """Where a broker is, and which world on it is meant."""

    bootstrap: str
    prefix: str
    embedded: bool
    replay: bool = False  # a world whose only clock is the replayer: nobody else may write to it


def store_of(settings: Settings) -> Store:
    """The store, to be read beside whoever writes it. Raises StoreError; Unavailable where its server is one that was stopped."""
    if (stopped := stopped_store(settings)) is not None:
        raise Unavailable(stopped)
    return open_store(settings, read_only=True)


def ask(settings: Settings, question: Callable[[Store], Awaitable[T]]) -> T:
    """The store's answer. Raises StoreError, Unavailable."""

    async def asked() -> T:
        store = store_of(settings)
        try:
            return await question(store)
        finally:
            await store.close()

    return asyncio.run(asked())


def broker(settings: Settings) -> Broker:
    """The broker of the settings, else that of the `up` that runs on the data folder. Raises UnreachableError."""
    from bus.clients import UnreachableError  # noqa: PLC0415 - Kafka's clients take half a second to import

    for client in ("kafka", "aiokafka"):
        logging.getLogger(client).setLevel(logging.CRITICAL)  # what they have to say, we say
    found = broker_if_any(settings)
    if found is None:
        raise UnreachableError(
            f"nothing runs on {settings.data.dir}: start `citywatch up`, name the folder of one that runs with "
            "--data, or set CITYWATCH_KAFKA__BOOTSTRAP to a running Kafka"
        )
    return found


def broker_if_any(settings: Settings) -> Broker | None:
    """As `broker`, without asking whether it answers."""
    if settings.kafka.bootstrap is not None:
        return Broker(settings.kafka.bootstrap, settings.kafka.prefix, settings.kafka.embedded)
    there = running(settings.data.dir)
    if there is None:
        return None
    return Broker(there.bootstrap, there.prefix, there.embedded, replay=there.clock == "writer")


def topic_named(name: str) -> str:
    """The name itself, if the catalogue has it. Raises UsageError with the nearest."""
    known = [*catalogue.topics(), *(topic.name for topic in catalogue.PLATFORM)]
    if name not in known:
        raise UsageError(f"there is no topic {name}{did_you_mean(name, known)}")
    return name
