"""Which alarms were asked for: filters of the list and of the history."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from console import wire


@dataclass(frozen=True)
class Find:
    """Empty is no condition. `q` is found in words, places, labels and the rule, whatever its case and accents."""

    state: tuple[str, ...] = ()
    priority: tuple[str, ...] = ()
    rule: tuple[str, ...] = ()
    ward: tuple[str, ...] = ()
    q: str = ""
    from_: datetime | None = None
    to: datetime | None = None

    def __call__(self, alarm: wire.Alarm) -> bool:
        ward = alarm.place.ward if alarm.place is not None else None
        return (
            (not self.state or alarm.state in self.state)
            and (not self.priority or alarm.priority in self.priority)
            and (not self.rule or alarm.rule in self.rule)
            and (not self.ward or ward in self.ward)
            and (self.from_ is None or alarm.start >= self.from_)
            and (self.to is None or alarm.start < self.to)
            and (not self.q or self._says(alarm))
        )

    def _says(self, alarm: wire.Alarm) -> bool:
        place = alarm.place
        said = " ".join(
            (
                alarm.title.vi,
                alarm.title.en,
                alarm.rule,
                *alarm.labels.values(),
                *((place.ward or "", place.site or "") if place is not None else ()),
            )
        )
        return all(word in plain(said) for word in plain(self.q).split())


def plain(text: str) -> str:
    """Small letters without their marks: "Bãi Cháy" is found by "bai chay"."""
    parts = unicodedata.normalize("NFD", text.casefold().replace("đ", "d"))
    return "".join(c for c in parts if not unicodedata.combining(c))


def newest(found: Iterable[wire.Alarm]) -> list[wire.Alarm]:
    """Those that began last come first."""
    return sorted(found, key=lambda alarm: (alarm.start, alarm.alarm_id), reverse=True)
