"""Air and water outdoors, as the city's stations measure them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, computed_field

from models.base import Event, Identifier, Topic, hours
from models.vn_aqi import hourly_index


class AirQuality(Event):
    """Concentrations at a station, averaged over the hour before (Smart Data Models `AirQualityObserved`).

    `vn_aqi` is made of this one hour alone. The official hourly VN_AQI takes NowCast over 12 hours for PM2.5 and PM10
    (`models.vn_aqi.nowcast`), so it moves more slowly: this one is for watching, that one for publishing.
    """

    topic: ClassVar[Topic] = Topic("city.environment.air.v1", key=("station_id",), lateness=hours(1))

    # The bounds leave room above the last breakpoint of VN_AQI, and none for the 9,999 and 65,535 of broken meters.
    station_id: Identifier
    pm25_ugm3: float | None = Field(default=None, ge=0, le=5_000)
    pm10_ugm3: float | None = Field(default=None, ge=0, le=9_000)
    no2_ugm3: float | None = Field(default=None, ge=0, le=6_000)
    so2_ugm3: float | None = Field(default=None, ge=0, le=6_000)
    co_ugm3: float | None = Field(default=None, ge=0, le=300_000)
    o3_ugm3: float | None = Field(default=None, ge=0, le=3_000)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def vn_aqi(self) -> int | None:
        """VN_AQI of this hour alone (not NowCast); None without PM2.5 and PM10."""
        return hourly_index(
            pm25=self.pm25_ugm3,
            pm10=self.pm10_ugm3,
            no2=self.no2_ugm3,
            so2=self.so2_ugm3,
            co=self.co_ugm3,
            o3=self.o3_ugm3,
        )


class WaterLevel(Event):
    """A gauge on a river, lake, drain or shore (Smart Data Models `WaterObserved`; USGS 00065 and 00060)."""

    topic: ClassVar[Topic] = Topic("city.environment.water.v1", key=("station_id",), lateness=hours(1))

    station_id: Identifier
    level_m: float | None = Field(
        default=None, ge=-100, le=5_000, description="above the station's own datum"
    )
    discharge_m3s: float | None = Field(
        default=None, ge=-50_000, le=400_000, description="negative where the tide turns a river back"
    )
