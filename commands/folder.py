"""What a data folder tells commands: what runs on it now, and the servers of `up --real` that are kept in it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from settings import Settings


@dataclass(frozen=True)
class Running:
    """What a running `up` tells other commands through its data folder."""

    bootstrap: str
    log_id: str
    pid: int
    embedded: bool
    prefix: str = ""
    clock: str = "log"  # writer: a replay's world, whose only clock is the replayer


def running(data: Path) -> Running | None:
    """What runs on this data folder now, or None."""
    try:
        found = Running(**json.loads((data / "up.json").read_text()))
        os.kill(found.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return found


@dataclass(frozen=True)
class Servers:
    """The servers of a folder: their ports, from the first start on, and what their InfluxDB was set up with."""

    kafka: int
    controller: int
    influx: int
    prometheus: int
    metrics: int  # of the first worker; the others' are the next ones
    org: str
    bucket: str
    last: bool = False  # what ran last on the folder used them: its store is the one that is asked

    def environ(self, data: Path) -> dict[str, str]:
        """The settings of a process that uses their InfluxDB; the token itself is in nobody's environment."""
        return {
            "CITYWATCH_INFLUX__URL": f"http://127.0.0.1:{self.influx}",
            "CITYWATCH_INFLUX__TOKEN_FILE": str((data / "influx" / "token").absolute()),
            "CITYWATCH_INFLUX__ORG": self.org,
            "CITYWATCH_INFLUX__BUCKET": self.bucket,
        }


def servers(data: Path) -> Servers | None:
    """Those that are kept in the folder, running or not, or None."""
    try:
        return Servers(**json.loads(_file(data).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{_file(data)} cannot be read ({error}): bring it back from a backup, or name another folder with --data"
        ) from None


def keep(data: Path, found: Servers) -> None:
    half = _file(data).with_suffix(".half")
    half.write_text(json.dumps(asdict(found), indent=1))
    half.replace(_file(data))


def say_last(data: Path, *, real: bool) -> None:
    """Whose store is asked from now on: that of the kept servers, or the file."""
    found = servers(data)
    if found is not None and found.last != real:
        keep(data, replace(found, last=real))


def _file(data: Path) -> Path:
    return data / "real.json"


def with_store(settings: Settings) -> Settings:
    """The settings, with the InfluxDB of the folder as the store where they name none and what ran last used it."""
    if settings.kafka.bootstrap or settings.influx.url or settings.store.path:
        return settings
    found = servers(settings.data.dir)
    if found is None or not found.last:
        return settings
    from settings import read  # noqa: PLC0415 - pydantic takes its time, and mostly there is nothing to read

    influx = read(found.environ(settings.data.dir)).influx
    return settings.model_copy(update={"influx": influx})


def stopped_store(settings: Settings) -> str | None:
    """What is wrong where the store is an InfluxDB of the folder that does not run, else None."""
    data = settings.data.dir
    found = servers(data) if settings.influx.url else None
    if found is None or found.environ(data)["CITYWATCH_INFLUX__URL"] != settings.influx.url or running(data):
        return None
    return (
        f"the store of {data} is the InfluxDB of its `citywatch up --real`, which does not run: "
        f"start it with `citywatch up --real --data {data}`"
    )
