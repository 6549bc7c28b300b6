"""What citizens report, after Open311 GeoReport v2. The citizen never appears."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from models.base import Event, Identifier, Instant, Topic, hours

#: Codes and names as the city's list of services has them; a slash is usual there ("HEAT/HOT WATER").
Name = Annotated[str, Field(min_length=1, max_length=200)]


class CitizenReport(Event):
    """One state of one report: requested, then updated until closed (Open311 `service_request`).

    Of a request we take what the city lists and what it decides: nothing that a citizen wrote, no address, no media,
    no account, for people write names and telephone numbers into these. Who handles a report opens it by `report_id`
    in the system it came from. `observed_at` is the time of this state; `requested_at` that of the first.
    """

    topic: ClassVar[Topic] = Topic(
        "city.citizen.report.v1", key=("report_id",), lateness=hours(1), kind="events"
    )

    report_id: Identifier = Field(description="Open311 service_request_id")
    # The four kinds that the citizens' app of the reference city offers.
    category: Literal["infrastructure", "traffic", "security", "environment", "other"] = "other"
    service_code: Name | None = None
    service_name: Name | None = None
    status: Literal["open", "closed"] = Field(
        default="open", description="Open311's two; assigned and in progress are open"
    )
    agency: Name | None = Field(default=None, description="agency_responsible")
    channel: Literal["app", "web", "phone", "counter", "social", "agency", "other"] | None = None
    requested_at: Instant | None = Field(default=None, description="requested_datetime")
    due_at: Instant | None = Field(default=None, description="expected_datetime")
