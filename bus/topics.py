"""The topics on the broker: what the catalogue wants there, what differs, and how it is put right."""

from __future__ import annotations

from bus.clients import name
from models import catalogue


def partitions(prefix: str = "") -> dict[str, int]:
    """Every topic of the catalogue with its number of partitions, as named in the world of `prefix`."""
    counts = {t.name: t.partitions for t in catalogue.topics().values()}
    counts |= {t.name: t.partitions for t in catalogue.PLATFORM}
    return {name(prefix, topic): count for topic, count in counts.items()}
