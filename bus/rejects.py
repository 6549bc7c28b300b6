"""How a refused record is written to `city.rejected.v1`: reason, place and the original bytes, under an id of its place."""

from __future__ import annotations

import base64
import json
import uuid
from typing import TYPE_CHECKING, Any

from bus import headers
from models.catalogue import REJECTED

if TYPE_CHECKING:
    from models.decode import Reason

_NAMESPACE = uuid.UUID("8e1c5c0a-7b0b-5d3c-9a55-1f0f6f2f6a11")

#: A record on a topic is at most 2 MiB; base64 of more than this would not fit beside its own frame.
KEEP_BYTES = 1024 * 1024
#: Of a key; none of ours has a thousand.
KEEP_KEY = 16 * 1024


def reject(log_id: str, topic: str, record: Any, reason: Reason, detail: str) -> dict[str, Any]:
    """Keyword arguments of a producer's `send` for a refused record of a topic."""
    place = f"{log_id}/{topic}/{record.partition}/{record.offset}"
    raw: bytes = record.value or b""
    body = {
        "id": str(uuid.uuid5(_NAMESPACE, place)),
        "reason": reason,
        "detail": detail,
        "topic": topic,
        "partition": record.partition,
        "offset": record.offset,
        "log": log_id,
        "key": None if record.key is None else base64.b64encode(record.key[:KEEP_KEY]).decode(),
        "stamp_ms": record.timestamp,
        "bytes": base64.b64encode(raw[:KEEP_BYTES]).decode(),
        "length": len(raw),
    }
    return _sending(body, record.timestamp)


def reject_line(
    topic: str | None, file: str, line: int, raw: bytes, reason: Reason, detail: str
) -> dict[str, Any]:
    """The same for a line of a file that a source could not make an event of. `topic` is where it would have gone."""
    place = f"{topic}/{file}/{line}/{uuid.uuid5(_NAMESPACE, raw[:KEEP_BYTES].hex())}"
    body = {
        "id": str(uuid.uuid5(_NAMESPACE, place)),
        "reason": reason,
        "detail": detail,
        "topic": topic,
        "file": file,
        "line": line,
        "bytes": base64.b64encode(raw[:KEEP_BYTES]).decode(),
        "length": len(raw),
    }
    return _sending(body, None)


def _sending(body: dict[str, Any], stamp_ms: int | None) -> dict[str, Any]:
    return {
        "value": json.dumps(body, ensure_ascii=False, sort_keys=True).encode(),
        "key": body["id"].encode(),
        "timestamp_ms": stamp_ms,
        "headers": headers.headers(body["id"], REJECTED, "/citywatch/rejects", (stamp_ms or 0) * 1000),
    }
