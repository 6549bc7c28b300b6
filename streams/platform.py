"""The platform's own events: kept as they come, judged by rules/platform.yaml."""

from models.platform import PlatformEvent
from streams.domain import Domain

event = Domain(PlatformEvent, fields=("detail",), tags=("component", "kind"))
