"""InfluxDB 2 on this machine: where the server is found, how it is set up once, what starts it and when it answers."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent

_ANSWER_S = 10


class InfluxMissingError(RuntimeError):
    """InfluxDB cannot be run here; the text says what is missing and what brings it."""


def influxd() -> Path:
    """The server: on PATH if its version is 2 (Debian's is 1.6 and has no v2 API), of this checkout, of this user.

    Raises InfluxMissingError.
    """
    seen = []
    for path in _places():
        if not path.is_file():
            continue
        if re.search(r"InfluxDB v?2\.", said := _version(path)):
            return path
        seen.append(f"{path} is {said or 'none that tells its version'}")
    found = f" ({'; '.join(seen)})" if seen else ""
    raise InfluxMissingError(
        f"there is no InfluxDB 2 on PATH or in .cache/influxd{found}; tools/build_influxd.sh builds it"
    )


@cache
def _version(path: Path) -> str:
    ran = subprocess.run([path, "version"], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    return ran.stdout.strip()


def _places() -> Iterator[Path]:
    on_path = shutil.which("influxd")
    if on_path is not None:
        yield Path(on_path)
    yield ROOT / ".cache" / "influxd" / "influxd"
    yield (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "citywatch" / "influxd" / "influxd"
    )


@dataclass(frozen=True)
class Influxd:
    """One server on loopback. What it keeps is in its folder, also the token that may do everything in it."""

    folder: Path
    port: int

    name = "InfluxDB"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """What starts it. Raises InfluxMissingError."""
        folder = self.folder.absolute()
        return [
            str(influxd().absolute()), "--bolt-path", f"{folder}/bolt", "--engine-path", f"{folder}/engine",
            "--sqlite-path", f"{folder}/sqlite", "--http-bind-address", f"127.0.0.1:{self.port}",
            "--reporting-disabled", "--log-level", "warn", "--store", "disk",
        ]  # fmt: skip

    def answers(self) -> bool:
        try:
            return bool(call(f"{self.url}/ready"))
        except (OSError, ValueError):
            return False

    # --- its token, and its setting up ----------------------------------------------------------------------------

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    def token(self) -> str:
        """The token of this server. Raises InfluxMissingError."""
        try:
            return self.token_file.read_text().strip()
        except FileNotFoundError:
            raise InfluxMissingError(
                f"{self.token_file} is not there, and without it nobody may ask this InfluxDB: bring it back from a backup, "
                f"or begin anew with another folder"
            ) from None

    def set_up(self, org: str, bucket: str, token: str | None = None) -> None:
        """The first time: an organisation, a bucket, and a token, made here if none is given, that may do everything."""
        if not call(f"{self.url}/api/v2/setup")["allowed"]:
            return
        if not self.token_file.exists():  # else an earlier setting up was cut short
            made = os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(made, "w") as out:
                out.write(token or secrets.token_urlsafe(48))
        asked = {
            "username": "citywatch",
            "password": secrets.token_urlsafe(24),  # nobody signs in by it: the token is what opens
            "org": org,
            "bucket": bucket,
            "token": self.token(),
        }
        call(f"{self.url}/api/v2/setup", "POST", asked)


def call(url: str, method: str = "GET", body: Any = None, token: str | None = None) -> Any:
    """What the server's API answers, as JSON. Raises urllib.error.HTTPError, an OSError."""
    headers = {"Content-Type": "application/json"} | (
        {} if token is None else {"Authorization": f"Token {token}"}
    )
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, method=method, data=data, headers=headers)  # noqa: S310 - our own address
    with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310
        return json.loads(answer.read() or b"null")
