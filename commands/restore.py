"""`citywatch restore`: a backup back in its place, and the log made to fill what came since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.backup import MANIFEST, STORE, copy, digest
from commands.folder import running
from commands.output import UsageError, option_json, print_json, teach, tell
from commands.reach import broker, broker_if_any
from sources.tokens import KEY_FILE

if TYPE_CHECKING:
    import argparse

    from settings import Settings

ABOUT = """\
Bring a backup into the data folder, and put the store's group back to where the log was when the backup began: what is
read again is the same points, and what came since is filled in as far as the log keeps it. Nothing is written over: a
store that is there, and a key that is another, have to be moved away first. Refused while store workers run. Where no
broker answers, or another log is there, the files are brought back and the log is left alone; that is said."""

EXAMPLES = """\
  citywatch restore /srv/backup/2026-05-01 --data /srv/city"""


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    parser.add_argument("folder", type=Path, metavar="DIR", help="of the backup")
    option_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    said = _manifest(args.folder)
    data, store = settings.data.dir, settings.store_path
    if running(data) is not None:
        raise UsageError(f"{data} is used by a citywatch that runs: stop it first")
    wanted = {KEY_FILE: data / KEY_FILE, STORE: store}
    for name in said["files"]:
        if digest(args.folder / name) != said["files"][name]:
            raise UsageError(f"{args.folder / name} is not what was backed up: use another backup")
    if settings.influx.url is None and STORE not in said["files"]:
        raise UsageError(f"{args.folder} is of a city with InfluxDB: set CITYWATCH_INFLUX__URL")
    brought = [name for name in said["files"] if _is_to_come(args.folder / name, wanted[name])]
    moved = _rewound(said, settings)  # it refuses while somebody writes to the store
    data.mkdir(parents=True, exist_ok=True)
    for name in brought:
        copy(args.folder / name, wanted[name])
    again = None if moved is None else sum(before - after for before, after in moved.values())
    if args.json:
        print_json({"brought": brought, "again": again})
    else:
        print(f"{data}: {', '.join(brought) or 'nothing was missing'}; of {said['at']}")
    if again is not None:
        tell(f"the store's worker will read {again:,} records again: start it")
    return 0


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {MANIFEST}: it is no backup, or one that was cut short") from None
    except ValueError as error:
        raise UsageError(f"{folder / MANIFEST} cannot be read ({error}): use another backup") from None
    if unknown := set(found["files"]) - {STORE, KEY_FILE}:
        raise UsageError(
            f"{folder / MANIFEST} names {', '.join(sorted(unknown))}: it is of another citywatch"
        )
    return found


def _is_to_come(source: Path, to: Path) -> bool:
    """Whether the file is missing here. Raises UsageError where another is in its place."""
    if not to.exists():
        journal = to.with_name(f"{to.name}-wal")
        if journal.exists():  # it would be taken for that of the file that comes
            raise UsageError(f"{journal} is left of another store: move it away first")
        return True
    if to.name == KEY_FILE and to.read_bytes() == source.read_bytes():
        return False
    raise UsageError(f"{to} is there: move it away first; nothing is written over")


def _rewound(said: dict[str, Any], settings: Settings) -> dict[tuple[str, int], tuple[int, int]] | None:
    """Where the store's group was and is now; None where the log of the backup is not there."""
    if not said["positions"]:
        return None
    from bus import clients  # noqa: PLC0415 - as above
    from commands.rewind import rewind  # noqa: PLC0415

    found = broker_if_any(settings)
    if found is None:
        tell("no broker is set: what came after the backup is not filled in (CITYWATCH_KAFKA__BOOTSTRAP)")
        return None
    place = broker(settings)
    if place.embedded or clients.log_id(place.bootstrap) != said["log"] or place.prefix != said["prefix"]:
        tell(f"the log at {place.bootstrap} is not the one of the backup: nothing is filled in from it")
        return None
    positions = {
        (name.rpartition("/")[0], int(name.rpartition("/")[2])): at for name, at in said["positions"].items()
    }
    begins = clients.begin_offsets(place.bootstrap, positions)
    gone = {p: begins[p] - at for p, at in positions.items() if begins[p] > at and not _is_compacted(p[0])}
    for (topic, number), count in gone.items():
        tell(f"{topic}/{number}: {count:,} records after the backup are no longer in the log")
    return rewind(place.bootstrap, f"{place.prefix}citywatch-store", positions)


def _is_compacted(topic: str) -> bool:
    from models import catalogue  # noqa: PLC0415 - models take their time

    return any(topic.endswith(t.name) and t.cleanup == "compact" for t in catalogue.PLATFORM)
