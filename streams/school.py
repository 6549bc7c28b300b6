"""Schools: attendance and the air of rooms, judged by rules/school.yaml."""

from models.school import Attendance, RoomAir
from streams.domain import Domain

attendance = Domain(
    Attendance, fields=("enrolled", "present", "attendance_pct", "absence_pct"), tags=("ward",)
)
room_air = Domain(
    RoomAir,
    fields=("co2_ppm", "temperature_c", "humidity_pct", "light_lux", "occupied"),
    tags=("school_id", "ward"),
)
