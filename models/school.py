"""Schools: how many pupils came, and the air in their rooms. No pupil is ever named."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, computed_field

from models.base import Event, Identifier, Topic, hours, minutes


class Attendance(Event):
    """A school's roll of one day: head counts, or the share alone where that is all a school reports.

    A closed school sends quality `no_value`, never 0 %.
    """

    topic: ClassVar[Topic] = Topic("city.school.attendance.v1", key=("school_id",), lateness=hours(12))

    school_id: Identifier
    enrolled: int | None = Field(default=None, ge=0, le=20_000)
    present: int | None = Field(default=None, ge=0, le=20_000)
    attendance_pct: float | None = Field(default=None, ge=0, le=100, description="as reported")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def absence_pct(self) -> float | None:
        """Pupils missing per hundred enrolled, from the counts if there are any, else from the reported share."""
        if self.present is not None and self.enrolled:
            return max(0.0, 100 - 100 * self.present / self.enrolled)
        return None if self.attendance_pct is None else 100 - self.attendance_pct


class RoomAir(Event):
    """The air of one room (Smart Data Models `IndoorEnvironmentObserved`)."""

    topic: ClassVar[Topic] = Topic("city.school.room_air.v1", key=("room_id",), lateness=minutes(5))

    room_id: Identifier
    school_id: Identifier | None = None
    co2_ppm: float | None = Field(default=None, ge=200, le=10_000, description="the open air has about 420")
    temperature_c: float | None = Field(
        default=None, ge=-30, le=60, description="a DS18B20 that lost power says 85"
    )
    humidity_pct: float | None = Field(default=None, ge=0, le=100)
    light_lux: float | None = Field(
        default=None, ge=0, le=150_000, description="the sun at noon gives 120,000"
    )
    occupied: bool | None = None
