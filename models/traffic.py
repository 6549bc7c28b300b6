"""Roads: flow past a detector, time over a route, incidents."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from models.base import Event, Identifier, Topic, hours, minutes


class TrafficFlow(Event):
    """What a detector on one road segment measured over its last interval.

    DATEX II `TrafficSpeed`, `TrafficFlow`, `TrafficConcentration`; Smart Data Models `TrafficFlowObserved`.
    """

    topic: ClassVar[Topic] = Topic(
        "city.traffic.flow.v1", key=("segment_id",), lateness=minutes(2), partitions=4, buckets=64
    )

    segment_id: Identifier
    speed_kmh: float | None = Field(default=None, ge=0, le=300, description="mean of the vehicles counted")
    intensity_vehh: float | None = Field(default=None, ge=0, le=20_000, description="vehicles per hour")
    occupancy_pct: float | None = Field(
        default=None, ge=0, le=100, description="share of time a vehicle was on the loop"
    )


class TravelTime(Event):
    """How long vehicles lately took over a route (DATEX II `TravelTimeData`)."""

    topic: ClassVar[Topic] = Topic("city.traffic.travel_time.v1", key=("route_id",), lateness=minutes(10))

    route_id: Identifier
    travel_time_s: float = Field(ge=0, le=86_400)


class TrafficIncident(Event):
    """Something happened on a road. Subject: the incident, from its first report to its end.

    DATEX II `Situation`, one event for each of its records and versions; Smart Data Models `RoadAccident`.
    """

    topic: ClassVar[Topic] = Topic(
        "city.traffic.incident.v1", key=("incident_id",), lateness=hours(1), kind="events"
    )

    incident_id: Identifier
    category: Literal[
        "collision",
        "breakdown",
        "obstruction",
        "congestion",
        "roadworks",
        "closure",
        "weather",
        "public_event",
        "other",
    ]
    status: Literal["open", "closed"] = "open"
    injured: int | None = Field(default=None, ge=0, le=1000)
    killed: int | None = Field(default=None, ge=0, le=1000)
    cause: str | None = Field(
        default=None, max_length=200, description="contributing factor, in the source's words"
    )
    description: str | None = Field(
        default=None, max_length=2000, description="what the road authority publishes; names nobody"
    )
