"""Roads: kept as they come, judged by rules/traffic.yaml."""

from models.traffic import TrafficFlow, TrafficIncident, TravelTime
from streams.domain import Domain

flow = Domain(TrafficFlow, fields=("speed_kmh", "intensity_vehh", "occupancy_pct"), tags=("ward",))
travel_time = Domain(TravelTime, fields=("travel_time_s",))
incident = Domain(
    TrafficIncident,
    fields=("incident_id", "injured", "killed", "cause", "lat", "lon"),
    tags=("category", "status", "ward"),
)
