"""The city's store as the settings say: InfluxDB where it has a URL, else the SQLite file of the data folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sinks.sqlite import SqliteStore

if TYPE_CHECKING:
    from settings import Settings
    from sinks.contract import Store


def open_store(settings: Settings, *, read_only: bool = False) -> Store:
    """The store. Raises StoreError where the file is not ours; of a server nothing is asked yet."""
    influx = settings.influx
    if influx.url is None:
        # In a replay's world it is not now, and nothing grows old.
        days = settings.store.retention_days if settings.kafka.clock == "log" else 0
        return SqliteStore(settings.store_path, read_only=read_only, retention_days=days)
    from sinks.influx import InfluxStore  # noqa: PLC0415 - its client takes half a second to import
    from sinks.influx_server import Address  # noqa: PLC0415

    assert influx.token is not None  # settings say so
    address = Address(
        influx.url,
        influx.token.get_secret_value(),
        influx.org,
        influx.bucket,
        influx.retention_days,
        influx.ca_file,
    )
    return InfluxStore(address, read_only=read_only)


def store_name(settings: Settings) -> str:
    """The store as people call it."""
    influx = settings.influx
    return str(settings.store_path) if influx.url is None else f"{influx.url}, bucket {influx.bucket}"


def may_hold(settings: Settings) -> bool:
    """Whether there may be something to read: a file that is not there holds nothing, a server has to be asked."""
    return settings.influx.url is not None or settings.store_path.exists()
