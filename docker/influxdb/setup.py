"""Give the workers a token for their bucket alone, and Grafana a user that may only read it. Changes nothing that is so already.

Run by compose once InfluxDB answers, before the workers. Needs Python and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

#: For so long a server may start.
WAIT_S = 120
GRAFANA = "grafana"


class Server:
    """InfluxDB 2 over HTTP, asked with one token."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url.rstrip("/"), token

    def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The answer's JSON. Raises urllib.error.HTTPError, an OSError."""
        asked = f"{self.url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        request = urllib.request.Request(  # noqa: S310 - the address is the operator's
            asked,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Token {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            return json.loads(answer.read() or b"null")

    def wait(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                self.call("GET", "/health")
            except OSError as error:
                if time.monotonic() > deadline:
                    raise SystemExit(f"InfluxDB at {self.url} does not answer: {error}") from None
                time.sleep(1)
            else:
                return


def permissions(org: str, bucket: str, *actions: str) -> list[dict[str, Any]]:
    return [{"action": a, "resource": {"type": "buckets", "id": bucket, "orgID": org}} for a in actions]


def set_up(server: Server, org_name: str, bucket_name: str, password: str, token_file: Path) -> None:
    """Raises urllib.error.HTTPError where the token may not do this."""
    org = server.call("GET", "/api/v2/orgs", org=org_name)["orgs"][0]["id"]
    bucket = server.call("GET", "/api/v2/buckets", org=org_name, name=bucket_name)["buckets"][0]["id"]
    if not _works(server.url, token_file, bucket):
        made = {
            "orgID": org,
            "description": "citywatch workers and console",
            "permissions": permissions(org, bucket, "read", "write"),
        }
        _keep(token_file, server.call("POST", "/api/v2/authorizations", made)["token"])
    # InfluxQL knows users by name and password (a "v1 authorization"); `token` is the name.
    known = server.call("GET", "/private/legacy/authorizations")["authorizations"]
    user = next((one for one in known if one["token"] == GRAFANA), None) or server.call(
        "POST",
        "/private/legacy/authorizations",
        {
            "orgID": org,
            "token": GRAFANA,
            "description": "Grafana, reads only",
            "permissions": permissions(org, bucket, "read"),
        },
    )
    server.call("POST", f"/private/legacy/authorizations/{user['id']}/password", {"password": password})


def _works(url: str, token_file: Path, bucket: str) -> bool:
    """Whether the token that was given before is still one for this bucket."""
    if not token_file.exists():
        return False
    with contextlib.suppress(urllib.error.HTTPError):
        Server(url, token_file.read_text().strip()).call("GET", f"/api/v2/buckets/{bucket}")
        return True
    return False


def _keep(file: Path, token: str) -> None:
    """Nobody sees half a token, nor may another user read it."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(token + "\n")
    new.replace(file)


def main() -> None:
    def secret(name: str) -> str:
        return Path(os.environ[name]).read_text().strip()

    server = Server(os.environ["INFLUXDB_URL"], secret("INFLUXDB_ADMIN_TOKEN_FILE"))
    server.wait()
    try:
        set_up(
            server,
            os.environ["INFLUXDB_ORG"],
            os.environ["INFLUXDB_BUCKET"],
            secret("GRAFANA_PASSWORD_FILE"),
            Path(os.environ["WORKERS_TOKEN_FILE"]),
        )
    except urllib.error.HTTPError as error:
        raise SystemExit(
            f"InfluxDB answers {error.code} to {error.url}: {error.read().decode()[:300]}"
        ) from None
    print("InfluxDB knows the workers and Grafana", file=sys.stderr)


if __name__ == "__main__":
    main()
