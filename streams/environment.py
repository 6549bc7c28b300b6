"""Air and water: concentrations with the index made of them, levels; judged by rules/environment.yaml."""

from models.environment import AirQuality, WaterLevel
from streams.domain import Domain

air = Domain(
    AirQuality,
    fields=("vn_aqi", "pm25_ugm3", "pm10_ugm3", "no2_ugm3", "so2_ugm3", "co_ugm3", "o3_ugm3"),
    tags=("ward",),
)
water = Domain(WaterLevel, fields=("level_m", "discharge_m3s"), tags=("ward",))
