"""One InfluxDB 2 server over HTTP: a body of lines in, answers of InfluxQL out, and what its refusals mean."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync

from sinks import line
from sinks.contract import StoreError, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

#: How long a connection and then each piece of an answer may take.
CONNECT_S, ANSWER_S = 5.0, 30.0

#: How long to wait where somebody must act first, and at most where the server names a time.
NOT_READY_S, LONGEST_WAIT_S = 10.0, 300.0

#: What the server refuses for good. Everything else that is not 204 may pass, or needs somebody.
_REFUSED = frozenset({400, 413, 422})
_NOT_READY = {
    401: "does not know the token: set CITYWATCH_INFLUX__TOKEN to one of the organisation {org}",
    403: "does not let the token use bucket {bucket}: it must be one that may read and write it",
    404: "has no organisation {org} or no bucket {bucket} in it: make them, or set CITYWATCH_INFLUX__ORG and __BUCKET",
}


class Refused(Exception):  # noqa: N818 - not ours: the server's answer
    """The server refuses the body for good. `dropped` is how many of its lines, where it says so."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_too_large = status == 413
        found = re.search(r"dropped=(\d+)", reason)
        self.dropped = int(found[1]) if found and status == 422 else None


class NoBucketError(StoreError):
    """A query found no bucket: nothing has been written yet."""


class Series(msgspec.Struct):
    """A piece of one series of an answer; `columns` begins with `time`, in nanoseconds."""

    name: str = ""
    tags: dict[str, str] = {}
    columns: list[str] = []
    values: list[list[Any]] = []
    partial: bool = False


class _Result(msgspec.Struct):
    series: list[Series] = []
    error: str = ""
    partial: bool = False


class _Answer(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""


_decode = msgspec.json.Decoder(_Answer).decode


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is, and the bucket on it. `retention_days` is of a bucket that we make; 0: for ever.

    `ca_file` holds the certificates that the server's is checked by; None: those of this machine.
    """

    url: str
    token: str = field(repr=False)
    org: str
    bucket: str
    retention_days: int = 0
    ca_file: Path | None = None


class Server:
    """Raises `Unavailable` for what may pass, `Refused` for what a body can never do, else `StoreError`.

    The client belongs to the event loop that uses it first.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._url = address.url.rstrip("/")
        self._client: Any = None
        self._writer: Any = None
        self._has_made = False

    def _open(self) -> Any:
        if self._client is None:
            self._client = InfluxDBClientAsync(
                self._url,
                self.address.token,
                self.address.org,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S),
                ssl_ca_cert=None if self.address.ca_file is None else str(self.address.ca_file),
            )
            self._writer = self._client.write_api()
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def write(self, body: bytes) -> None:
        """Return when the server has every line of the body."""
        try:
            await self._write(body)
        except NoBucketError:
            await self._make_bucket()
            await self._write(body)

    async def _write(self, body: bytes) -> None:
        self._open()
        try:
            if await self._writer.write(self.address.bucket, self.address.org, body):
                return
        except InfluxDBError as error:
            if not self._has_made and _is_no_bucket(error.status, _text(error.body)):
                raise NoBucketError(_text(error.body)) from error
            raise self._explained(error.status, error.headers or {}, _text(error.body)) from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
            raise self._silent(error) from error
        raise StoreError(f"{self._url} answers a write with no 204: is this an InfluxDB 2?")

    async def delete(self, ns: int, predicate: str) -> None:
        """Return when nothing that the predicate means stands at the nanosecond."""
        at = line.rfc3339(ns)
        where = {"org": self.address.org, "bucket": self.address.bucket}
        what = {"start": at, "stop": at, "predicate": predicate}
        try:
            async with self._session().post(
                f"{self._url}/api/v2/delete", params=where, json=what, headers=self._headers()
            ) as answer:
                if answer.status != 204:
                    raise self._explained(answer.status, answer.headers, await answer.text())
        except (aiohttp.ClientError, OSError) as error:
            raise self._silent(error) from error

    async def ask(self, statements: str, rows: int = 10_000) -> AsyncIterator[Series]:
        """What InfluxQL answers, in pieces of at most so many rows."""
        asked = {
            "db": self.address.bucket,
            "q": statements,
            "epoch": "ns",
            "chunked": "true",
            "chunk_size": str(rows),
        }
        partial = False
        try:
            async with self._session().post(
                f"{self._url}/query", data=asked, headers=self._headers()
            ) as answer:
                if answer.status != 200:
                    raise self._explained(answer.status, answer.headers, await answer.text())
                async for said in _lines(answer.content):
                    for result in self._read(said).results:
                        partial = result.partial
                        for series in result.series:
                            partial = series.partial
                            yield series
        except (aiohttp.ClientError, OSError) as error:
            raise self._silent(error) from error
        if partial:  # the server has begun an answer, and has no way left to say that it failed
            raise Unavailable(f"{self._url}: the answer ends before its end")

    def _read(self, said: bytes) -> _Answer:
        try:
            answer = _decode(said)
        except msgspec.DecodeError as error:
            raise StoreError(f"{self._url} answers a query with no JSON: is this an InfluxDB 2?") from error
        for error_said in (answer.error, *[result.error for result in answer.results]):
            if error_said.startswith("database not found"):
                raise NoBucketError(
                    f"{self._url}: there is no bucket {self.address.bucket}: nothing is stored yet"
                )
            if error_said:
                raise Unavailable(f"{self._url}: {error_said}", 5.0)
        return answer

    # The bucket

    async def _make_bucket(self) -> None:
        """Make the bucket, where the token may; else `Unavailable` says that it is missing."""
        org, bucket, days = self.address.org, self.address.bucket, self.address.retention_days
        try:
            async with self._session().get(
                f"{self._url}/api/v2/orgs", params={"org": org}, headers=self._headers()
            ) as answer:
                if answer.status != 200:
                    raise self._explained(404, answer.headers, await answer.text())
                ids = [found["id"] for found in (await answer.json()).get("orgs", ())]
                if not ids:  # the token may not see it
                    raise self._explained(404, {}, f"bucket {bucket} not found")
            rules = [{"type": "expire", "everySeconds": days * 86_400}] if days else []
            wanted = {"orgID": ids[0], "name": bucket, "retentionRules": rules}
            async with self._session().post(
                f"{self._url}/api/v2/buckets", json=wanted, headers=self._headers()
            ) as answer:
                told = await answer.text()
                if answer.status not in (201, 422):  # 422: another process was faster
                    raise self._explained(404, answer.headers, told)
                self._has_made = True  # once: whoever deletes it later is told
        except (aiohttp.ClientError, OSError) as error:
            raise self._silent(error) from error

    # What answers mean

    def _session(self) -> aiohttp.ClientSession:
        session: aiohttp.ClientSession = self._open().api_client.rest_client.pool_manager
        return session

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Token {self.address.token}", "Accept": "application/json"}

    def _explained(self, status: int, headers: Mapping[str, str], body: str) -> Exception:
        said = _message(body)
        if status in _REFUSED:
            return Refused(status, said or f"refused with {status}")
        if status in _NOT_READY:
            means = _NOT_READY[status].format(org=self.address.org, bucket=self.address.bucket)
            return Unavailable(f"{self._url} {means} ({status} {said})", NOT_READY_S)
        if status == 429 or status >= 500:
            return Unavailable(f"{self._url}: {status} {said}", _wait(headers.get("Retry-After", "")))
        return StoreError(f"{self._url} answers {status} {said}: is this an InfluxDB 2?")

    def _silent(self, error: Exception) -> Unavailable:
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            why = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
            return Unavailable(
                f"{self._url} shows a certificate that is not trusted ({why}): renew it, or set "
                "CITYWATCH_INFLUX__CA_FILE to what it is signed by",
                NOT_READY_S,
            )
        said = str(error) or type(error).__name__
        return Unavailable(f"{self._url} does not answer: {said}")


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of an answer however long they are; readline() ends at 128 kB."""
    pieces: list[bytes] = []
    async for piece in content.iter_any():
        head, end, rest = piece.partition(b"\n")
        while end:
            pieces.append(head)
            if line := b"".join(pieces).strip():
                yield line
            pieces.clear()
            head, end, rest = rest.partition(b"\n")
        pieces.append(head)
    if line := b"".join(pieces).strip():
        yield line


def _text(body: Any) -> str:
    return body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")


def _message(body: str) -> str:
    """What the server says in its JSON, else the beginning of what it says."""
    try:
        return str(msgspec.json.decode(body)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return body[:200]


def _is_no_bucket(status: int, body: str) -> bool:
    return status == 404 and "bucket" in body and "not found" in body


def _wait(retry_after: str) -> float:
    """Seconds to wait by a Retry-After header, which is a number or a date; 1 where there is none."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return 1.0
    return min(max(seconds, 0.1), LONGEST_WAIT_S)
