"""What a part of citywatch tells of its own work, as a record of the platform's topic."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from bus import clients, headers
from models.base import moment
from models.platform import PlatformEvent

if TYPE_CHECKING:
    from models.base import Micros


def platform_event(
    prefix: str, source: str, component: str, kind: str, detail: str, now: Micros
) -> dict[str, Any]:
    """Keyword arguments of a producer's `send`."""
    event = PlatformEvent.model_validate(
        {
            "event_id": str(uuid.uuid4()),
            "source_id": "citywatch",
            "observed_at": moment(now),
            "component": component,
            "kind": kind,
            "detail": detail[:2000],
        }
    )
    topic = event.topic
    return {
        "topic": clients.name(prefix, topic.name),
        "value": event.wire(),
        "key": topic.key_of(event).encode(),
        "partition": 0,
        "timestamp_ms": now // 1000,
        "headers": headers.headers(event.event_id, topic.name, source, now),
    }
