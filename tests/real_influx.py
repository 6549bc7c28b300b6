"""InfluxDB 2 as a process of its own on loopback, for the slow tests. `tools/build_influxd.sh` makes it, once."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

from commands.servers import Server, free_ports
from sinks import influxd
from sinks.influx_server import Address
from sinks.influxd import Influxd, InfluxMissingError

TOKEN, ORG = "token-of-the-tests", "city"

__all__ = ["ORG", "TOKEN", "InfluxMissingError", "RealInflux"]


class RealInflux:
    """One server, set up with an organisation and a token that may do everything. `kill` and `start` keep its data."""

    def __init__(self) -> None:
        influxd.influxd()
        self.folder = Path(tempfile.mkdtemp(prefix="citywatch-influx-"))
        (self.port,) = free_ports(1)
        self._server = Server(Influxd(self.folder, self.port))
        self.url = self._server.what.url
        try:
            self.start()
            self._server.what.set_up(ORG, "first", TOKEN)
            (org,) = self.call("GET", f"/api/v2/orgs?org={ORG}")["orgs"]
            self.org_id = org["id"]
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._server.start()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """What the server's API answers, as JSON. Raises urllib.error.HTTPError, an OSError."""
        return influxd.call(f"{self.url}{path}", method, body, TOKEN)

    def log(self) -> str:
        return self._server.log()

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
        self._server.kill(how)

    def close(self) -> None:
        self.kill(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)
