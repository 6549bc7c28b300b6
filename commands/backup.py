"""`citywatch backup`: a copy of what only this machine has, and the place in the log from which the rest comes again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.output import UsageError, option_json, print_json, teach, tell
from commands.reach import broker, broker_if_any
from sinks.query import format_time
from sources.tokens import KEY_FILE

if TYPE_CHECKING:
    import argparse

    from settings import Settings

ABOUT = """\
Copy into DIR, a new folder, what only this machine has: the SQLite store, as it is at one moment while others write to
it, and the key of persons' tokens. First it notes how far the store's group is in the log, so that after `restore` the
log fills what came since. With InfluxDB the note and the key are all there is to copy: take the server's own backup
after this one. The copy holds rejects with their bytes and the key: keep it where only those can read it who may."""

EXAMPLES = """\
  citywatch backup /srv/backup/$(date +%F)
  citywatch backup /srv/backup/today --data /srv/city"""

MANIFEST = "backup.json"
STORE = "store.sqlite"


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    option_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    folder: Path = args.folder
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: name a new folder for each backup")
    there = _log(settings)  # before the store is copied: so the log has all that the copy may lack
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = []
    if settings.influx.url is None:
        if not settings.store_path.exists():
            raise UsageError(f"{settings.store_path} is not there: name the data folder with --data")
        copy_store(settings.store_path, folder / STORE)
        files.append(STORE)
    if (settings.data.dir / KEY_FILE).exists():
        copy(settings.data.dir / KEY_FILE, folder / KEY_FILE)
        files.append(KEY_FILE)
    said = {
        "citywatch": metadata.version("citywatch"),
        "at": format_time(time.time_ns() // 1000),
        "files": {name: digest(folder / name) for name in files},
        **there,
    }
    # Last: a backup that was cut short has none, and is no backup.
    _write(folder / MANIFEST, json.dumps(said, indent=1).encode())
    if args.json:
        print_json(said)
    else:
        print(f"{folder}: {', '.join([*files, MANIFEST])}")
    if settings.influx.url is not None:
        tell(f"now take InfluxDB's own backup of {settings.influx.url} (docs/running.md)")
    if not there["positions"]:
        tell("no broker of its own log: after a restore nothing is filled in from a log")
    return 0


def copy_store(path: Path, to: Path) -> None:
    """The file as it is at one moment, whoever writes meanwhile; checked, and readable by its owner alone."""
    os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with (
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(to)) as target,
    ):
        source.backup(target)  # all pages in one step: a copy in pieces begins anew whenever somebody writes
        target.execute("PRAGMA journal_mode = DELETE")  # one file, that says everything
        (sound,) = target.execute("PRAGMA quick_check").fetchone()
        if sound != "ok":
            raise UsageError(f"{path} is damaged ({sound}): restore an earlier backup")


def _log(settings: Settings) -> dict[str, Any]:
    """Which log there is, and how far the store's group has read it; of a log that ends with its process nothing."""
    nothing: dict[str, Any] = {"log": None, "prefix": settings.kafka.prefix, "positions": {}}
    found = broker_if_any(settings)
    if found is None or found.embedded:
        return nothing
    from bus import clients  # noqa: PLC0415 - Kafka's clients take half a second to import

    place = broker(settings)
    with closing(clients.admin(place.bootstrap)) as admin:
        group = f"{place.prefix}citywatch-store"
        committed = admin.list_group_offsets({group: None})[group]
    positions = {f"{tp.topic}/{tp.partition}": at.offset for tp, at in committed.items() if at.offset >= 0}
    return {"log": clients.log_id(place.bootstrap), "prefix": place.prefix, "positions": positions}


# --- files ------------------------------------------------------------------------------------------------------------


def copy(source: Path, to: Path) -> None:
    """Whole or not at all, readable by its owner alone."""
    half = to.with_name(f"{to.name}.half")
    half.unlink(missing_ok=True)
    with (
        source.open("rb") as found,
        os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out,
    ):
        shutil.copyfileobj(found, out)
        out.flush()
        os.fsync(out.fileno())
    half.replace(to)


def _write(path: Path, text: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
