"""Rejects without what was refused: place, reason and size stay, so that the ledger counts them; their bytes are overwritten."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from sinks import line
from sinks.contract import Record, Unavailable
from sinks.open import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from settings import Settings

#: What says of a reject where it came from and why it was one, and nothing of what it said.
_STAYS = ("id", "reason", "topic", "partition", "offset", "log", "stamp_ms", "file", "line", "length")

#: How long to wait for whoever writes.
_BUSY_S = 60.0


def emptied(record: Record) -> Record:
    """The reject as it is kept from now on."""
    stays: dict[str, Any] = {name: record.body[name] for name in _STAYS if name in record.body}
    hides = {"key": None, "bytes": "", "detail": "erased on request"}
    return record._replace(body=stays | hides)


async def erase(settings: Settings, records: Sequence[Record]) -> None:
    """Overwrite these rejects in the store. Raises Unavailable, and may then be asked again."""
    if settings.influx.url is None:
        _overwrite(settings.store_path, [emptied(record) for record in records])
    else:
        await _delete(settings, records)
        store = open_store(settings)
        try:
            await store.keep([emptied(record) for record in records])
        finally:
            await store.close()


def _overwrite(path: Path, records: Sequence[Record]) -> None:
    """Also in pages that become free, and in the journal, where SQLite would leave them."""
    try:
        with closing(
            sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S, isolation_level=None
            )
        ) as db:
            db.execute("PRAGMA secure_delete = ON")
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "UPDATE _record SET body = ? WHERE kind = 'rejected' AND id = ?",
                [(json.dumps(record.body), record.id) for record in records],
            )
            db.execute("COMMIT")
            busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        raise Unavailable(f"{path}: {error}; ask again when whoever holds it is done") from error
    if busy:
        raise Unavailable(f"{path}: its journal is being read and still has the bytes; ask again in a moment")


async def _delete(settings: Settings, records: Sequence[Record]) -> None:
    """A point that is written again keeps the fields that it had; so each is deleted first, at its own nanosecond."""
    from influxdb_client.client.exceptions import InfluxDBError  # noqa: PLC0415 - takes half a second to import
    from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync  # noqa: PLC0415

    influx = settings.influx
    assert influx.url is not None
    assert influx.token is not None
    ca = None if influx.ca_file is None else str(influx.ca_file)
    async with InfluxDBClientAsync(
        influx.url, influx.token.get_secret_value(), influx.org, ssl_ca_cert=ca
    ) as client:
        for record in records:
            _, ns = line.record_place("rejected", record.id, record.time, "")
            asked = f'_measurement="{line.RECORDS}rejected" AND slot="{line.record_slot(record.id)}"'
            try:
                await client.delete_api().delete(
                    line.rfc3339(ns), line.rfc3339(ns + 1), asked, influx.bucket, influx.org
                )
            except (InfluxDBError, OSError) as error:
                raise Unavailable(f"{influx.url} does not delete: {error}") from error
