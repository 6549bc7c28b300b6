"""InfluxDB 2 as a process of its own on loopback, for the slow tests. `tools/build_influxd.sh` makes it, once."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from sinks.influx_server import Address

ROOT = Path(__file__).parent.parent
BUILT = ROOT / ".cache" / "influxd" / "influxd"
TOKEN, ORG = "token-of-the-tests", "city"

_START_S = 30
_STOP_S = 15


class InfluxMissingError(RuntimeError):
    """InfluxDB cannot be run here; the text says what is missing."""


def influxd() -> Path:
    """The server: the one built here, else one on PATH whose version is 2 (Debian's is 1.6 and has no v2 API)."""
    seen = []
    for path in (BUILT, shutil.which("influxd")):
        if path is None or not Path(path).is_file():
            continue
        said = subprocess.run(
            [path, "version"], capture_output=True, text=True, timeout=30, check=False
        ).stdout
        if re.search(r"InfluxDB v?2\.", said):
            return Path(path)
        seen.append(f"{path} is {said.strip() or 'none'}")
    found = f" ({'; '.join(seen)})" if seen else ""
    raise InfluxMissingError(
        f"there is no InfluxDB 2 at {BUILT.relative_to(ROOT)} or on PATH{found}: build it once with tools/build_influxd.sh"
    )


class RealInflux:
    """One server, set up with an organisation and a token that may do everything. `kill` and `start` keep its data."""

    def __init__(self) -> None:
        self._binary = influxd()
        self.folder = Path(tempfile.mkdtemp(prefix="citywatch-influx-"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
            setup = {
                "username": "city",
                "password": "city-city",
                "org": ORG,
                "bucket": "first",
                "token": TOKEN,
            }
            self.org_id = self.call("POST", "/api/v2/setup", setup)["org"]["id"]
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [
            self._binary, "--bolt-path", self.folder / "bolt", "--engine-path", self.folder / "engine",
            "--sqlite-path", self.folder / "sqlite", "--http-bind-address", f"127.0.0.1:{self.port}",
            "--reporting-disabled", "--log-level", "warn", "--store", "disk",
        ]  # fmt: skip
        with (self.folder / "influxd.log").open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise InfluxMissingError(f"InfluxDB did not start: {self.log()[-1000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return bool(self.call("GET", "/ready"))
        except OSError:
            return False

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """What the server's API answers, as JSON. Raises urllib.error.HTTPError, an OSError."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def log(self) -> str:
        path = self.folder / "influxd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def make_bucket(self, name: str, *, retention_s: int = 0) -> str:
        rules = [{"type": "expire", "everySeconds": retention_s}] if retention_s else []
        made = self.call(
            "POST", "/api/v2/buckets", {"orgID": self.org_id, "name": name, "retentionRules": rules}
        )
        return str(made["id"])

    def delete_bucket(self, id_: str) -> None:
        self.call("DELETE", f"/api/v2/buckets/{id_}")

    def make_token(self, *permissions: tuple[str, str]) -> str:
        """A token that may do (action, kind of resource) in the organisation, and nothing else."""
        wanted = [{"action": a, "resource": {"type": t, "orgID": self.org_id}} for a, t in permissions]
        body = {"orgID": self.org_id, "description": "less", "permissions": wanted}
        return str(self.call("POST", "/api/v2/authorizations", body)["token"])

    def address(self, bucket: str, **changed: Any) -> Address:
        return Address(**{"url": self.url, "token": TOKEN, "org": ORG, "bucket": bucket, **changed})

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the server, with SIGKILL as a crash does, and wait until it is gone."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def close(self) -> None:
        self.kill(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)
