"""What `citywatch doctor --bundle` packs for whoever helps from afar: how things stand, without a secret and without a person."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections import deque
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from commands.folder import servers
from commands.output import UsageError
from commands.reach import ask, broker
from sources.tokens import KEY_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from settings import Settings

#: Of each log so many of its last lines, and no longer ones.
LINES, LINE = 1000, 2000
#: How long somebody may take to answer over HTTP.
ANSWER_S = 3.0

ROLES = ("judge", "store", "alarms", "ledger")

_ABOUT = """\
What `citywatch doctor --bundle` found. A part that could not be asked says why, under "error".
There are no secrets in here (settings say only whether one is set), no event, no reject's bytes and no key of theirs,
no text of an alarm and no name of an operator: counts, offsets, settings, versions, metrics and the ends of logs.
Look through it before you send it: what your own programs wrote into a log that you named, nobody could know.
"""

#: How a person is named, where one is.
_PERSON = re.compile(r"tok_[0-9a-f]{32}")


def check(file: Path | None, logs: Path | None) -> None:
    """Raises UsageError for what cannot be packed."""
    if file is None:
        if logs is not None:
            raise UsageError("--logs belongs to --bundle FILE.tar.gz")
        return
    if file.exists():
        raise UsageError(f"{file} is there already: name another file")
    if logs is not None and not logs.is_dir():
        raise UsageError(f"{logs} is no folder of logs")


def pack(file: Path, settings: Settings, checks: list[dict[str, Any]], logs: Path | None) -> list[str]:
    """Write the bundle; the names of what could not be asked."""
    hidden = _secrets(settings)
    missing = []
    half = file.with_name(f"{file.name}.half")
    half.unlink(missing_ok=True)
    made = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(made, "wb") as out, tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in _everything(settings, checks, logs):
            if text.startswith(_FAILED):
                missing.append(name)
            _add(tar, f"{file.name.partition('.')[0]}/{name}", masked(text, hidden))
    half.replace(file)
    return missing


def masked(text: str, hidden: Iterable[str]) -> str:
    """The text without what must not leave, wherever it came from."""
    for secret in hidden:
        text = text.replace(secret, "(secret)")
    return _PERSON.sub("(person)", text)


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    raw = text.encode(errors="backslashreplace")
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(raw), int(time.time()), 0o600
    tar.addfile(info, io.BytesIO(raw))


def _secrets(settings: Settings) -> list[str]:
    """Every text that must not be in the bundle, also as it is written in JSON."""
    values = [value for part in settings for value in dict(part[1]).values()]
    found = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    key = settings.data.dir / KEY_FILE
    if key.exists():
        found.append(key.read_text(errors="replace").strip())
    return sorted(
        {form for value in found if value for form in (value, json.dumps(value)[1:-1])}, key=len, reverse=True
    )


# --- its parts --------------------------------------------------------------------------------------------------------

_FAILED = '{\n "error"'


def _everything(
    settings: Settings, checks: list[dict[str, Any]], logs: Path | None
) -> Iterator[tuple[str, str]]:
    """Names and texts, one after the other: what is slow to answer keeps only itself."""
    yield "README.txt", _ABOUT
    yield "doctor.json", _json(checks)
    out = {check["part"] for check in checks if check["state"] == "out of reach"}
    for name, (needs, question) in _PARTS.items():
        if needs in out:
            yield name, _json({"error": f"not asked: the {needs} is out of reach, see doctor.json"})
        else:
            yield name, _tried(question, settings)
    for name, url in _pages(settings):
        yield name, _tried(_page, url)
    for log in _files(logs) if logs is not None else ():
        yield f"logs/{log.name}", _tried(_end_of, log)


def _tried(question: Callable[[Any], Any], about: Any) -> str:
    try:
        found = question(about)
    except Exception as error:  # noqa: BLE001 - a bundle is wanted just when something is broken, whatever it is
        said = getattr(error, "reason", None) or str(error)
        found = {"error": f"{type(error).__name__}: {said}"}
    return found if isinstance(found, str) else _json(found)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"


def _versions(_: Settings) -> Any:
    packages = {dist.name: dist.version for dist in metadata.distributions()}
    return {
        "citywatch": metadata.version("citywatch"),
        "python": sys.version,
        "machine": platform.platform(),
        "packages": dict(sorted(packages.items())),
    }


def _settings(settings: Settings) -> Any:
    """As they are in force; of a secret only whether there is one."""
    return {
        name: {
            field: ("(set)" if isinstance(value, SecretStr) else value if value is None else str(value))
            for field, value in part
        }
        for name, part in settings
    }


def _machine(settings: Settings) -> Any:
    there = next(p for p in (settings.data.dir, *settings.data.dir.absolute().parents) if p.exists())
    disk = shutil.disk_usage(there)
    with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 - no path of anybody's
        memory = [line.split() for line in file if line.startswith(("MemTotal", "MemAvailable", "Swap"))]
    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "memory_kb": {name.rstrip(":"): int(kb) for name, kb, *_ in memory},
        "disk_bytes": {"folder": there, "total": disk.total, "free": disk.free},
        "data_bytes": {p.name: p.stat().st_size for p in _files(settings.data.dir)},
    }


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []


def _topics(settings: Settings) -> Any:
    from bus import topics  # noqa: PLC0415 - Kafka's clients take half a second to import

    place = broker(settings)
    found = topics.plan(place.bootstrap, place.prefix, settings.kafka.replication)
    return [{"topic": c.topic, "action": c.action, "detail": c.detail} for c in found]


def _ledger(settings: Settings) -> Any:
    from commands import ledger  # noqa: PLC0415 - as above

    with contextlib.redirect_stdout(io.StringIO()) as said:
        ledger.run(argparse.Namespace(json=True, recount=False), settings)
    return json.loads(said.getvalue())


def _groups(settings: Settings) -> Any:
    """Where each group is, how far it lags, and whether anybody is in it."""
    from bus import clients  # noqa: PLC0415 - as above

    place, found = broker(settings), {}
    for role in ROLES:
        group = f"{place.prefix}citywatch-{role}"
        with contextlib.closing(clients.admin(place.bootstrap)) as admin:
            had = admin.list_group_offsets({group: None})[group]
            told = admin.describe_groups([group])[group]
        at = {(tp.topic, tp.partition): offset.offset for tp, offset in had.items() if offset.offset >= 0}
        ends = clients.end_offsets(place.bootstrap, at) if at else {}
        found[group] = {
            "state": told.get("group_state", told.get("state")),
            "members": len(told["members"]),
            "lag": sum(ends[p] - n for p, n in at.items()),
            "partitions": {f"{t}/{n}": {"at": at[t, n], "end": ends[t, n]} for t, n in sorted(at)},
        }
    return found


def _alarms(settings: Settings) -> Any:
    names = ("rule", "priority", "state")
    return _counts(names, ask(settings, lambda store: store.tally("alarm", names)))


def _rejects(settings: Settings) -> Any:
    names = ("topic", "reason")
    return _counts(names, ask(settings, lambda store: store.tally("rejected", names)))


def _counts(names: tuple[str, ...], found: dict[tuple[str | None, ...], int]) -> Any:
    return [{**dict(zip(names, key, strict=True)), "count": n} for key, n in sorted(found.items(), key=str)]


#: Each with the part that has to be within reach.
_PARTS: dict[str, tuple[str, Callable[[Settings], Any]]] = {
    "versions.json": ("", _versions),
    "settings.json": ("", _settings),
    "machine.json": ("", _machine),
    "alarms.json": ("store", _alarms),
    "rejects.json": ("store", _rejects),
    "ledger.json": ("store", _ledger),
    "topics.json": ("broker", _topics),
    "groups.json": ("broker", _groups),
}


def _pages(settings: Settings) -> Iterator[tuple[str, str]]:
    """What each process says of itself, where it would say it."""
    kept = servers(settings.data.dir)
    base = settings.metrics.port or (kept.metrics if kept is not None else 0)
    hosts = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - where to ask those who listen everywhere
    host = hosts.get(settings.metrics.host, settings.metrics.host)
    for number, role in enumerate(ROLES if base else ()):
        for page in ("metrics", "ready"):
            yield f"{page}/{role}.txt", f"http://{host}:{base + number}/{page}"
    console = hosts.get(settings.console.host, settings.console.host)
    for page in ("metrics", "ready"):
        yield f"{page}/console.txt", f"http://{console}:{settings.console.port}/{page}"


def _page(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:  # noqa: S310 - our own address
            return str(answer.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:  # 503 says why not, and that is what is asked
        return f"{error.code} {error.read().decode(errors='replace')}"


def _end_of(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as file:
        return "".join(line[:LINE].rstrip("\n") + "\n" for line in deque(file, LINES))
